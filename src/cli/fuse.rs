//! `hafuse fuse`: one pair of pictures, or two folders of them.

use super::batch::{self, Crew, Finish, Job, Outcome};
use super::device::{DeviceArg, PrecisionArg};
use super::fuser::Fuser;
use super::memory::{self, Limit};
use super::{output, terminal};
use crate::baseline::Baseline;
use crate::data::{Picture, WriteOptions, check_output_path, list_pairs};
use crate::infer::DEFAULT_MODEL;
use crate::tensor::io::PART;
use crate::tone::Tone;
use crate::{Error, Result};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

const AFTER_HELP: &str = "\
Examples:
  hafuse fuse ir.png vi.png -o fused.png
  hafuse fuse ir.png vi.png -o fused.png --model ivif      a larger network: slightly better, slower
  hafuse fuse mri.png pet.png -o fused.png --model mif
  hafuse fuse data/ir data/vi -o data/fused --format jpg --quality 90
  hafuse fuse ir.png vi.png -o fused.tif --bits 16 --model runs/mine/model.safetensors
  hafuse fuse data/ir data/vi -o data/fused --json | jq .failures
  hafuse fuse data/ir data/vi -o data/fused --resume       after a stop: only what is not there
  hafuse fuse huge_ir.tif huge_vi.tif -o fused.tif --max-memory 4GiB
  hafuse fuse ir.png vi.png -o plain.png --method gff      without a network, to compare with
  hafuse fuse ir.png vi.png -o fused.png --tone auto       more contrast; nothing is clipped

Sizes that differ are an error: hafuse neither resizes nor registers. Do both before.
Exit codes: 0 all fused, 1 some pairs of a folder failed, 2 usage, 3 input or weights, 4 output,
5 device, which ends a folder: --resume goes on.";

/// Fuse an infrared and a visible picture, or an MRI and a PET slice
///
/// A and B are two files or two folders, registered pixel for pixel and of equal size. PNG, JPEG,
/// BMP and TIFF are read, 8 or 16 bits, grey or colour; what counts is the content of a file, not
/// its name. Pictures of two folders are matched by name: 01.png and 01.jpg, 01_ir.png and
/// 01_vi.png.
///
/// The network fuses brightness. Colour is put back afterwards: that of B or, if B is grey, of A.
/// A file is written whole or not at all, so an existing result survives any failure.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct FuseArgs {
    /// Infrared or MRI: a picture or a folder
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Visible light or PET: a picture or a folder
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Where to write: a file (.png, .jpg, .tif), or a folder if A and B are folders
    #[arg(short, long, value_name = "OUT")]
    pub out: PathBuf,
    /// A built-in model by name (see `hafuse info`) or a file that `hafuse train` wrote
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Fuse by a rule instead of a network: mean, maximum, Laplacian pyramids, guided-filter fusion
    #[arg(long, value_name = "RULE", conflicts_with = "model", value_parser = rules())]
    pub method: Option<Baseline>,
    /// Contrast: none, auto (at most 1.5 times, clips nothing) or LOW,HIGH, percentiles as in 0.5,99.5
    #[arg(long, value_name = "none|auto|LOW,HIGH", default_value_t = Tone::DEFAULT)]
    pub tone: Tone,
    /// JPEG quality, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Bits per channel of the result [default: as the deeper source; JPEG has 8]
    #[arg(long, value_parser = PossibleValuesParser::new(["8", "16"]).map(|s| if s == "16" { 16u8 } else { 8 }))]
    pub bits: Option<u8>,
    /// Format of the results of two folders [default: png]
    #[arg(long, value_enum)]
    pub format: Option<FormatArg>,
    /// Pairs of two folders at a time [default: one for each thread; fewer where memory is short]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Leave pairs of two folders alone whose result is there and whole, whatever made it
    #[arg(long)]
    pub resume: bool,
    /// Most memory to take, as in 4GiB or 500MB [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = memory::parse_bytes)]
    pub max_memory: Option<usize>,
    /// Print a summary as JSON on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

/// The names of [`Baseline`]s.
fn rules() -> impl TypedValueParser<Value = Baseline> {
    PossibleValuesParser::new(Baseline::ALL.map(Baseline::name))
        .try_map(|name| name.parse::<Baseline>())
}

/// File formats of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    Png,
    Jpg,
    Tif,
}

impl FormatArg {
    fn extension(self) -> &'static str {
        match self {
            FormatArg::Png => "png",
            FormatArg::Jpg => "jpg",
            FormatArg::Tif => "tif",
        }
    }
}

/// Fuses and writes.
///
/// # Errors
/// [`Error::Partial`] if some pairs of two folders failed; [`Error::Device`] if the device broke; else what went wrong
/// with the only pair.
pub fn run(args: &FuseArgs) -> Result<()> {
    let options = WriteOptions {
        quality: args.quality,
        bits: args.bits,
    };
    let finish = Finish {
        tone: args.tone,
        write: options,
    };
    let folders = match (is_folder(&args.a)?, is_folder(&args.b)?) {
        (false, false) => false,
        (true, true) => true,
        (true, false) => return Err(mixed(&args.a, &args.b)),
        (false, true) => return Err(mixed(&args.b, &args.a)),
    };
    let (jobs, unmatched) = if folders {
        folder_jobs(args, options)?
    } else {
        (vec![file_job(args, options)?], [Vec::new(), Vec::new()])
    };
    for (dir, names) in [&args.a, &args.b].into_iter().zip(&unmatched) {
        if !names.is_empty() {
            terminal::say(&format!(
                "warning: no partner for {} of the pictures in {}: {}",
                names.len(),
                dir.display(),
                terminal::few(names)
            ));
        }
    }
    let (jobs, whole) = if args.resume {
        clear_parts(&args.out);
        jobs.into_iter().partition(|job| !is_whole(job))
    } else {
        (jobs, Vec::new())
    };
    let device = match args.method {
        Some(_) => None,
        None => Some(args.device.open_or_why()?),
    };
    let make = || match (args.method, &device) {
        (Some(rule), _) => Fuser::rule(rule, &args.device, args.precision),
        (None, Some((device, _))) => Fuser::network(&args.model, device, args.precision),
        (None, None) => Err(Error::Internal("a network without a device".into())),
    };
    let mut fuser = make()?;
    let (name, place) = (fuser.name().to_string(), fuser.place());
    let start = Instant::now();
    let mut outcome = if folders {
        let threads = rayon::current_num_threads();
        let wanted = args.jobs.map_or(threads, usize::from);
        let crew = Crew::new(&jobs, fuser, make, (wanted, args.max_memory))?;
        batch::run(&jobs, finish, &crew)?
    } else {
        if let Some(asked) = args.max_memory {
            fuser.limit_memory(Limit::new(asked));
        }
        let fuser = Mutex::new(fuser);
        let mut outcome = Outcome::default();
        for job in &jobs {
            let (notes, stages, result) = batch::one(job, finish, &fuser);
            (outcome.notes, outcome.stages, outcome.workers) = (notes, stages, 1);
            result?;
            outcome.outputs.push(job.out.clone());
        }
        outcome
    };
    let seconds = start.elapsed().as_secs_f64();
    outcome.notes.say();
    let total = jobs.len() + whole.len();
    let said = Summary {
        model: &name,
        device: &place,
        no_card: device.as_ref().and_then(|(_, why)| why.as_deref()),
        tone: args.tone,
        total,
        whole: &whole,
        outcome: &outcome,
        unmatched: &unmatched,
        seconds,
    };
    if args.json {
        terminal::print(&said.json())?;
    } else if folders {
        terminal::print(&said.text(&args.out))?;
    } else {
        terminal::print(&format!(
            "{}: fused with {} in {seconds:.2} s{}",
            args.out.display(),
            said.means(),
            said.no_card()
        ))?;
    }
    if let Some(e) = outcome.broken {
        return Err(goes_on(e, outcome.outputs.len() + whole.len(), total));
    }
    if outcome.failures.is_empty() {
        return Ok(());
    }
    Err(Error::Partial {
        failed: outcome.failures.len(),
        total,
        what: "pairs",
    })
}

/// The end of a batch that broke, with what is left to do.
fn goes_on(error: Error, written: usize, total: usize) -> Error {
    match error {
        Error::Device {
            device,
            detail,
            way_out,
        } => Error::Device {
            device,
            detail,
            way_out: format!(
                "{way_out}; {written} of {total} pairs are written, --resume fuses the rest"
            ),
        },
        e => e,
    }
}

/// Whether the result of a pair is there, from its header to its end.
fn is_whole(job: &Job) -> bool {
    let sizes = [&job.out, &job.a].map(|path| Picture::size(path).ok());
    sizes[0].is_some() && sizes[0] == sizes[1] && has_end(&job.out)
}

/// Whether a picture that we wrote is complete: by the mark at its end; a TIFF has none and is read.
fn has_end(path: &Path) -> bool {
    const PNG: &[u8] = b"IEND\xae\x42\x60\x82";
    const JPEG: &[u8] = b"\xff\xd9";
    let mut tail = [0; PNG.len()];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::End(-(PNG.len() as i64)))?;
        file.read_exact(&mut tail)
    });
    let marked = read.is_ok() && (tail == PNG || tail.ends_with(JPEG));
    marked
        || (path
            .extension()
            .is_some_and(|e| e == FormatArg::Tif.extension())
            && Picture::read(path).is_ok())
}

/// Removes what a killed run left of files that it was about to write.
fn clear_parts(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_part_of_the_dead(&name) {
            // If it cannot be removed, it does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether a file is the beginning of one by a process that is no more: its number is in the name.
fn is_part_of_the_dead(name: &str) -> bool {
    let name = name.strip_prefix(PART.0);
    let Some(name) = name.and_then(|name| name.strip_suffix(PART.1)) else {
        return false;
    };
    // This process has begun none.
    let process = name.split('-').next().and_then(|id| id.parse().ok());
    let others = process.filter(|&id: &u32| id != std::process::id());
    // Without /proc nobody can say; then it stays.
    let lives = |id: u32| Path::new(&format!("/proc/{id}")).exists();
    others.is_none_or(|id| lives(std::process::id()) && !lives(id))
}

fn is_folder(path: &Path) -> Result<bool> {
    match path.metadata() {
        Ok(meta) => Ok(meta.is_dir()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::input(path, "no such file or folder; check the path"))
        }
        Err(e) => Err(Error::input(path, e)),
    }
}

fn mixed(folder: &Path, file: &Path) -> Error {
    Error::config(
        "A and B",
        format!(
            "{} is a folder but {} is a file; give two files or two folders",
            folder.display(),
            file.display()
        ),
    )
}

fn file_job(args: &FuseArgs, options: WriteOptions) -> Result<Job> {
    for (option, given) in [("--jobs", args.jobs.is_some()), ("--resume", args.resume)] {
        if given {
            return Err(Error::config(
                option,
                "is for two folders; A and B are files",
            ));
        }
    }
    if args.format.is_some() {
        return Err(Error::config(
            "--format",
            "is for two folders; with two files the extension of --out says the format",
        ));
    }
    let existing_folder = args.out.is_dir();
    if !existing_folder {
        options.check(&args.out)?;
    }
    output::check_file(&args.out, &[&args.a, &args.b])?;
    Ok(Job {
        name: args.out.display().to_string(),
        a: args.a.clone(),
        b: args.b.clone(),
        out: args.out.clone(),
    })
}

/// The pairs of two folders, and the names on both sides that have no partner.
fn folder_jobs(args: &FuseArgs, options: WriteOptions) -> Result<(Vec<Job>, [Vec<String>; 2])> {
    if !args.out.exists() && check_output_path(&args.out).is_ok() {
        return Err(Error::config(
            "--out",
            format!(
                "{} is the name of a picture, but A and B are folders; name a folder",
                args.out.display()
            ),
        ));
    }
    output::check_folder(&args.out, &[&args.a, &args.b])?;
    let list = list_pairs(&args.a, &args.b)?;
    let extension = args.format.unwrap_or(FormatArg::Png).extension();
    let mut jobs = Vec::with_capacity(list.pairs.len());
    for pair in list.pairs {
        let out = args.out.join(format!("{}.{extension}", pair.stem));
        options.check(&out)?;
        jobs.push(Job {
            name: pair.stem,
            a: pair.a,
            b: pair.b,
            out,
        });
    }
    let names = |paths: &[PathBuf]| {
        paths
            .iter()
            .filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
            .collect()
    };
    Ok((jobs, [names(&list.only_a), names(&list.only_b)]))
}

/// What is said at the end.
struct Summary<'a> {
    model: &'a str,
    device: &'a str,
    /// Why `--device auto` took none.
    no_card: Option<&'a str>,
    tone: Tone,
    total: usize,
    /// Pairs that were fused before.
    whole: &'a [Job],
    outcome: &'a Outcome,
    unmatched: &'a [Vec<String>; 2],
    seconds: f64,
}

impl Summary<'_> {
    /// Model, device and, if there is one, tone.
    fn means(&self) -> String {
        let means = format!("{} on {}", self.model, self.device);
        match self.tone {
            Tone::None => means,
            tone => format!("{means}, tone {tone},"),
        }
    }

    fn no_card(&self) -> String {
        self.no_card
            .map_or(String::new(), |why| format!(" ({why})"))
    }

    fn text(&self, out: &Path) -> String {
        let fused = self.outcome.outputs.len();
        let before = match self.whole.len() {
            0 => String::new(),
            n => format!(", {n} were there already"),
        };
        let said = format!(
            "{fused} of {} pairs fused with {} in {:.1} s{before}, written to {}{}",
            self.total,
            self.means(),
            self.seconds,
            out.display(),
            self.no_card(),
        );
        if fused == 0 {
            return said;
        }
        let [decode, network, encode] = self.outcome.stages.shares();
        format!(
            "{said}\n{:.2} pairs/s with {} at a time; reading {decode:.0} %, network {network:.0} %, writing {encode:.0} % of their time",
            self.pairs_per_second(),
            self.outcome.workers,
        )
    }

    fn pairs_per_second(&self) -> f64 {
        self.outcome.outputs.len() as f64 / self.seconds.max(1e-9)
    }

    fn json(&self) -> String {
        let outcome = self.outcome;
        let outputs: Vec<_> = outcome
            .outputs
            .iter()
            .map(|p| p.to_string_lossy())
            .collect();
        let failures: Vec<_> = outcome
            .failures
            .iter()
            .map(|(pair, error)| serde_json::json!({"pair": pair, "error": error}))
            .collect();
        serde_json::json!({
            "model": self.model,
            "device": self.device,
            "no_card": self.no_card,
            "tone": self.tone.to_string(),
            "pairs": self.total,
            "skipped": self.whole.len(),
            "outputs": outputs,
            "failures": failures,
            "broken": outcome.broken.as_ref().map(ToString::to_string),
            "unmatched_a": self.unmatched[0],
            "unmatched_b": self.unmatched[1],
            "seconds": self.seconds,
            "pairs_per_second": self.pairs_per_second(),
            "workers": outcome.workers,
            "worker_seconds": outcome.stages,
        })
        .to_string()
    }
}
