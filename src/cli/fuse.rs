//! `hafuse fuse`: one pair of pictures, or two folders of them.

use super::device::{DeviceArg, PrecisionArg};
use super::fuser::Fuser;
use super::{output, terminal};
use crate::baseline::Baseline;
use crate::data::{Picture, WriteOptions, check_output_path, list_pairs, read_pair};
use crate::{Error, Result};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};
use std::time::Instant;

const AFTER_HELP: &str = "\
Examples:
  hafuse fuse ir.png vi.png -o fused.png
  hafuse fuse mri.png pet.png -o fused.png --model mif
  hafuse fuse data/ir data/vi -o data/fused --format jpg --quality 90
  hafuse fuse ir.png vi.png -o fused.tif --bits 16 --model runs/mine/model.safetensors
  hafuse fuse data/ir data/vi -o data/fused --json | jq .failures
  hafuse fuse ir.png vi.png -o plain.png --method gff      without a network, to compare with

Sizes that differ are an error: hafuse neither resizes nor registers. Do both before.
Exit codes: 0 all fused, 1 some pairs of a folder failed, 2 usage, 3 input or weights, 4 output,
5 device.";

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
    #[arg(long, value_name = "NAME|FILE", default_value = "ivif")]
    pub model: String,
    /// Fuse by a rule instead of a network: mean, maximum, Laplacian pyramids, guided-filter fusion
    #[arg(long, value_name = "RULE", conflicts_with = "model", value_parser = rules())]
    pub method: Option<Baseline>,
    /// JPEG quality, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Bits per channel of the result [default: as the deeper source; JPEG has 8]
    #[arg(long, value_parser = PossibleValuesParser::new(["8", "16"]).map(|s| if s == "16" { 16u8 } else { 8 }))]
    pub bits: Option<u8>,
    /// Format of the results of two folders [default: png]
    #[arg(long, value_enum)]
    pub format: Option<FormatArg>,
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

/// One pair to fuse.
struct Job {
    name: String,
    a: PathBuf,
    b: PathBuf,
    out: PathBuf,
}

/// A fusion under way: where its colour comes from and how deep the result is.
struct Begun {
    colour: Picture,
    bit_depth: u8,
}

/// What was noticed on the way; said once at the end.
#[derive(Default)]
struct Notes {
    oriented: Vec<String>,
    both_coloured: Vec<String>,
}

/// What fuses, and the settings of a run.
struct Run {
    fuser: Fuser,
    options: WriteOptions,
    notes: Notes,
}

/// Fuses and writes.
///
/// # Errors
/// [`Error::Partial`] if some pairs of two folders failed; else what went wrong with the only pair.
pub fn run(args: &FuseArgs) -> Result<()> {
    let options = WriteOptions {
        quality: args.quality,
        bits: args.bits,
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
    let mut run = Run {
        fuser: match args.method {
            Some(rule) => Fuser::rule(rule, &args.device, args.precision)?,
            None => Fuser::network(&args.model, &args.device.open()?, args.precision)?,
        },
        options,
        notes: Notes::default(),
    };
    let start = Instant::now();
    let (outputs, failures) = if folders {
        run.run_all(&jobs)
    } else {
        for job in &jobs {
            run.run_one(job)?;
        }
        (jobs.iter().map(|j| j.out.clone()).collect(), Vec::new())
    };
    let seconds = start.elapsed().as_secs_f64();
    run.notes.say();
    let (name, device) = (run.fuser.name(), run.fuser.place());
    if args.json {
        terminal::print(&summary(
            name, &device, &jobs, &outputs, &failures, &unmatched, seconds,
        ))?;
    } else if folders {
        terminal::print(&format!(
            "{} of {} pairs fused with {name} on {device} in {seconds:.1} s, written to {}",
            outputs.len(),
            jobs.len(),
            args.out.display()
        ))?;
    } else {
        terminal::print(&format!(
            "{}: fused with {name} on {device} in {seconds:.2} s",
            args.out.display()
        ))?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Error::Partial {
        failed: failures.len(),
        total: jobs.len(),
        what: "pairs",
    })
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

impl Run {
    /// All pairs of two folders: written files, and name and reason of each pair that failed.
    fn run_all(&mut self, jobs: &[Job]) -> (Vec<PathBuf>, Vec<(String, String)>) {
        let bar = terminal::bar(
            jobs.len() as u64,
            "{wide_bar} {pos}/{len} pairs  {per_sec}  {eta} left",
        );
        let (mut outputs, mut failures) = (Vec::new(), Vec::new());
        let mut done = |job: &Job, result: Result<()>| {
            match result {
                Ok(()) => outputs.push(job.out.clone()),
                Err(e) => {
                    bar.suspend(|| terminal::say(&format!("failed: pair {}: {e}", job.name)));
                    failures.push((job.name.clone(), e.to_string()));
                }
            }
            bar.inc(1);
        };
        // A card computes one pair while the next is decoded.
        let mut begun: Option<(&Job, Begun)> = None;
        for job in jobs {
            let next = self.decode(job);
            if let Some((job, fusion)) = begun.take() {
                done(job, self.finish(job, fusion));
            }
            match next.and_then(|pair| self.start(job, pair)) {
                Ok(fusion) => begun = Some((job, fusion)),
                Err(e) => done(job, Err(e)),
            }
        }
        if let Some((job, fusion)) = begun {
            done(job, self.finish(job, fusion));
        }
        bar.finish_and_clear();
        (outputs, failures)
    }

    fn run_one(&mut self, job: &Job) -> Result<()> {
        let pair = self.decode(job)?;
        let fusion = self.start(job, pair)?;
        self.finish(job, fusion)
    }

    /// Reads both pictures, which must be of one size.
    fn decode(&self, job: &Job) -> Result<(Picture, Picture)> {
        output::check_file(&job.out, &[&job.a, &job.b])?;
        read_pair(&job.a, &job.b)
    }

    fn start(&mut self, job: &Job, (a, b): (Picture, Picture)) -> Result<Begun> {
        for (picture, path) in [(&a, &job.a), (&b, &job.b)] {
            if picture.oriented {
                self.notes.oriented.push(path.display().to_string());
            }
        }
        if a.chroma.is_some() && b.chroma.is_some() {
            self.notes.both_coloured.push(job.name.clone());
        }
        self.fuser.start(&job.a, &a, &b)?;
        let bit_depth = a.bit_depth.max(b.bit_depth);
        let colour = if Picture::colour_is_of_first(&a, &b) {
            a
        } else {
            b
        };
        Ok(Begun { colour, bit_depth })
    }

    fn finish(&mut self, job: &Job, begun: Begun) -> Result<()> {
        let Begun { colour, bit_depth } = begun;
        let luma = self.fuser.finish(colour.luma.len())?;
        let mut fused = Picture::with_chroma_of(luma, &colour)?;
        fused.bit_depth = bit_depth;
        output::make_parent(&job.out)?;
        fused.write(&job.out, self.options)
    }
}

impl Notes {
    fn say(&self) {
        if !self.oriented.is_empty() {
            terminal::say(&format!(
                "note: turned upright, as the file asks by its orientation tag: {}",
                terminal::few(&self.oriented)
            ));
        }
        if !self.both_coloured.is_empty() {
            terminal::say(&format!(
                "note: both sources are coloured, the colours of B are kept: {}",
                terminal::few(&self.both_coloured)
            ));
        }
    }
}

fn summary(
    model: &str,
    device: &str,
    jobs: &[Job],
    outputs: &[PathBuf],
    failures: &[(String, String)],
    unmatched: &[Vec<String>; 2],
    seconds: f64,
) -> String {
    let outputs: Vec<_> = outputs.iter().map(|p| p.to_string_lossy()).collect();
    let failures: Vec<_> = failures
        .iter()
        .map(|(pair, error)| serde_json::json!({"pair": pair, "error": error}))
        .collect();
    serde_json::json!({
        "model": model,
        "device": device,
        "pairs": jobs.len(),
        "outputs": outputs,
        "failures": failures,
        "unmatched_a": unmatched[0],
        "unmatched_b": unmatched[1],
        "seconds": seconds,
    })
    .to_string()
}
