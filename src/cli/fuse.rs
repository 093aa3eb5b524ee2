//! `hafuse fuse`: one pair of pictures, or two folders of them.

use super::device::{DeviceArg, PrecisionArg};
use super::terminal;
use crate::baseline::Baseline;
use crate::batch::{self, Job};
use crate::data::{Format, WriteOptions};
use crate::infer::DEFAULT_MODEL;
use crate::tone::Tone;
use crate::{
    Error, FolderEvent, FolderOptions, FolderReport, Fuser, FuserBuilder, Result, fuse_folder,
    output, units,
};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::ops::ControlFlow;
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
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
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

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Png => Format::Png,
            FormatArg::Jpg => Format::Jpeg,
            FormatArg::Tif => Format::Tiff,
        }
    }
}

/// Fuses and writes.
///
/// # Errors
/// [`Error::Partial`] if some pairs of two folders failed; [`Error::Device`] if the device broke; else what went wrong
/// with the only pair.
pub fn run(args: &FuseArgs) -> Result<()> {
    let write = WriteOptions {
        quality: args.quality,
        bits: args.bits,
    };
    let folders = match (is_folder(&args.a)?, is_folder(&args.b)?) {
        (false, false) => false,
        (true, true) => true,
        (true, false) => return Err(mixed(&args.a, &args.b)),
        (false, true) => return Err(mixed(&args.b, &args.a)),
    };
    let job = match folders {
        false => Some(file_job(args, write)?),
        true => None,
    };
    let (builder, no_card) = match args.method {
        Some(rule) => (args.precision.of_rule(rule, &args.device)?, None),
        None => {
            let (device, why) = args.device.open_or_why()?;
            let builder = Fuser::builder().model(&args.model).device(device);
            (args.precision.of(builder), why)
        }
    };
    let mut builder = builder.tone(args.tone);
    if let Some(bytes) = args.max_memory {
        builder = builder.max_memory(bytes);
    }
    let start = Instant::now();
    let report = match &job {
        Some(job) => one(job, write, builder)?,
        None => {
            let mut options = FolderOptions::default()
                .fuser(builder)
                .format(args.format.unwrap_or(FormatArg::Png).into())
                .write(write)
                .resume(args.resume);
            if let Some(jobs) = args.jobs {
                options = options.jobs(jobs.into());
            }
            folder(args, &options)?
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    say_notes(&report);
    let said = Summary {
        no_card: no_card.as_deref(),
        tone: args.tone,
        report: &report,
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
    let total = report.total;
    let written = report.outputs.len() + report.skipped;
    if let Some(e) = report.broken {
        return Err(goes_on(e, written, total));
    }
    if report.failures.is_empty() {
        return Ok(());
    }
    Err(Error::Partial {
        failed: report.failures.len(),
        total,
        what: "pairs",
    })
}

/// Fuses the only pair.
fn one(job: &Job, write: WriteOptions, builder: FuserBuilder) -> Result<FolderReport> {
    let fuser = builder.build()?;
    let mut report = FolderReport {
        model: fuser.name().to_string(),
        place: fuser.place(),
        total: 1,
        workers: 1,
        ..FolderReport::default()
    };
    let (notes, result) = batch::one(job, write, &Mutex::new(fuser));
    result?;
    report.seconds = notes.seconds;
    report.oriented = notes.oriented;
    if notes.both_coloured {
        report.both_coloured.push(job.name.clone());
    }
    report.outputs.push(job.out.clone());
    Ok(report)
}

/// Fuses two folders, with a bar.
fn folder(args: &FuseArgs, options: &FolderOptions) -> Result<FolderReport> {
    let bar = terminal::bar(
        0,
        "{wide_bar} {pos}/{len} pairs  {per_sec}  {msg}  {eta} left",
    );
    let report = fuse_folder(&args.a, &args.b, &args.out, options, |event| {
        match event {
            FolderEvent::Begun {
                pairs, unmatched, ..
            } => {
                bar.set_length(pairs as u64);
                for (dir, names) in [&args.a, &args.b].into_iter().zip(unmatched) {
                    if !names.is_empty() {
                        terminal::say(&format!(
                            "warning: no partner for {} of the pictures in {}: {}",
                            names.len(),
                            dir.display(),
                            terminal::few(names)
                        ));
                    }
                }
            }
            FolderEvent::Pair {
                name,
                failure,
                seconds,
            } => {
                // A broken device is told at the end, once.
                if let Some(e) = failure.filter(|e| !matches!(e, Error::Device { .. })) {
                    bar.suspend(|| terminal::say(&format!("failed: pair {name}: {e}")));
                }
                let [decode, network, encode] = seconds.shares();
                bar.set_message(format!(
                    "read {decode:.0} %, network {network:.0} %, write {encode:.0} %"
                ));
                bar.inc(1);
            }
        }
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    report
}

/// Says once what was noticed on the way.
fn say_notes(report: &FolderReport) {
    let note = |what: &str, names: &[String]| {
        if !names.is_empty() {
            terminal::say(&format!("note: {what}: {}", terminal::few(names)));
        }
    };
    note(
        "turned upright, as the file asks by its orientation tag",
        &report.oriented,
    );
    note(
        "both sources are coloured, the colours of B are kept",
        &report.both_coloured,
    );
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

/// What is said at the end.
struct Summary<'a> {
    /// Why `--device auto` took none.
    no_card: Option<&'a str>,
    tone: Tone,
    report: &'a FolderReport,
    seconds: f64,
}

impl Summary<'_> {
    /// Model, device and, if there is one, tone.
    fn means(&self) -> String {
        let means = format!("{} on {}", self.report.model, self.report.place);
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
        let fused = self.report.outputs.len();
        let before = match self.report.skipped {
            0 => String::new(),
            n => format!(", {n} were there already"),
        };
        let said = format!(
            "{fused} of {} pairs fused with {} in {:.1} s{before}, written to {}{}",
            self.report.total,
            self.means(),
            self.seconds,
            out.display(),
            self.no_card(),
        );
        if fused == 0 {
            return said;
        }
        let [decode, network, encode] = self.report.seconds.shares();
        format!(
            "{said}\n{:.2} pairs/s with {} at a time; reading {decode:.0} %, network {network:.0} %, writing {encode:.0} % of their time",
            self.pairs_per_second(),
            self.report.workers,
        )
    }

    fn pairs_per_second(&self) -> f64 {
        self.report.outputs.len() as f64 / self.seconds.max(1e-9)
    }

    fn json(&self) -> String {
        let report = self.report;
        let outputs: Vec<_> = { report.outputs.iter() }
            .map(|p| p.to_string_lossy())
            .collect();
        let failures: Vec<_> = { report.failures.iter() }
            .map(|(pair, error)| serde_json::json!({"pair": pair, "error": error}))
            .collect();
        serde_json::json!({
            "model": report.model,
            "device": report.place,
            "no_card": self.no_card,
            "tone": self.tone.to_string(),
            "pairs": self.report.total,
            "skipped": report.skipped,
            "outputs": outputs,
            "failures": failures,
            "broken": report.broken.as_ref().map(ToString::to_string),
            "unmatched_a": report.unmatched[0],
            "unmatched_b": report.unmatched[1],
            "seconds": self.seconds,
            "pairs_per_second": self.pairs_per_second(),
            "workers": report.workers,
            "worker_seconds": report.seconds,
        })
        .to_string()
    }
}
