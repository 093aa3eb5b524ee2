//! A batch from disk to disk beside its parts: the networks alone, reading and writing alone.

use super::clock::{SmClock, Watch};
use crate::FolderEvent;
use crate::baseline::Baseline;
use crate::batch::{self, Crew, Job};
use crate::cli::device::{DeviceArg, PrecisionArg};
use crate::cli::terminal;
use crate::data::{Pair, Picture, WriteOptions, list_pairs, read_pair};
use crate::infer::DEFAULT_MODEL;
use crate::search::{Timing, warm_up};
use crate::tone::Tone;
use crate::{Error, Fuser, FuserBuilder, Result};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Pairs that are held in memory for the networks alone.
const HELD: usize = 16;

/// Time a batch from disk to disk, its networks alone, and its reading and writing alone
///
/// The three run in turn, `--rounds` times. Reading and writing is done with the rule `average`,
/// which hardly computes; the networks fuse pairs that are in memory. `whole / longer part` near 1
/// says that a batch waits for nothing else.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct BatchArgs {
    /// Folder of the first source
    pub a: PathBuf,
    /// Folder of the second source, files of the same names
    pub b: PathBuf,
    /// A built-in model by name or a model file
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Pairs to fuse; those of the folders again and again
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    /// Pairs in the works at a time [default: one for each thread]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Times that all three are measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Folder for the fused pictures, which are removed at the end [default: that for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

/// The pairs of the folders until there are `count`, to be written into `out`.
fn jobs(args: &BatchArgs, out: &Path) -> Result<Vec<Job>> {
    let pairs = list_pairs(&args.a, &args.b)?.pairs;
    let all = pairs.iter().cycle().take(args.pairs as usize).enumerate();
    let job = |(i, pair): (usize, &Pair)| Job {
        name: pair.stem.clone(),
        a: pair.a.clone(),
        b: pair.b.clone(),
        out: out.join(format!("{i:06}.png")),
    };
    Ok(all.map(job).collect())
}

/// Seconds of a batch from disk to disk.
fn from_disk(jobs: &[Job], crew: &Crew) -> Result<f64> {
    let begun = Instant::now();
    let go_on = |_: FolderEvent<'_>| ControlFlow::Continue(());
    let outcome = batch::run(jobs, WriteOptions::default(), crew, go_on)?;
    let seconds = begun.elapsed().as_secs_f64();
    let Some((name, reason)) = outcome.failures.into_iter().next() else {
        return Ok(seconds);
    };
    let job = jobs.iter().find(|job| job.name == name);
    let path = job.map_or(Path::new(&name), |job| &job.a);
    Err(Error::input(path, reason))
}

/// Seconds of the networks of all pairs, with those of the first few.
fn in_memory(jobs: &[Job], held: &[(Picture, Picture)], crew: &Crew) -> Result<f64> {
    let begun = Instant::now();
    let mut failed = None;
    crew.each(
        jobs.len(),
        |i, fuser| {
            let (a, b) = &held[i % held.len()];
            let mut fuser = fuser.lock().unwrap_or_else(|e| e.into_inner());
            fuser.luma(a, b).map_err(|e| e.of_file(&jobs[i].a))
        },
        |_, result| failed = failed.take().or(result.err()),
    )?;
    let seconds = begun.elapsed().as_secs_f64();
    failed.map_or(Ok(seconds), Err)
}

/// Measures and prints.
pub fn run(args: &BatchArgs) -> Result<()> {
    let device = args.device.open()?;
    let folder = match &args.scratch {
        Some(dir) => tempfile::tempdir_in(dir).map_err(|e| Error::output(dir, e))?,
        None => tempfile::tempdir().map_err(|e| Error::output(std::env::temp_dir(), e))?,
    };
    let jobs = jobs(args, folder.path())?;
    let wanted = args.jobs.map_or(rayon::current_num_threads(), usize::from);
    let crew = |fuser: FuserBuilder| {
        let fuser = fuser.tone(Tone::None);
        Crew::new(&jobs, fuser.build()?, || fuser.build(), wanted)
    };
    let network = Fuser::builder().model(&args.model).device(device.clone());
    let network = crew(args.precision.of(network))?;
    let files = crew(Fuser::builder().rule(Baseline::Average))?;
    let workers = network.workers();
    let mut seconds = [const { Vec::new() }; 3];
    let mut ratios = Vec::new();
    let first = &jobs[..jobs.len().min(HELD)];
    let held = first.iter().map(|job| read_pair(&job.a, &job.b));
    let held: Vec<_> = held.collect::<Result<_>>()?;
    // Engines plan and allocate when they meet a size.
    warm_up(&device, 1, || in_memory(first, &held, &network).map(|_| ()))?;
    let watch = Watch::start(&device)?;
    for _ in 0..args.rounds {
        let round = [
            from_disk(&jobs, &network)?,
            in_memory(&jobs, &held, &network)?,
            from_disk(&jobs, &files)?,
        ];
        ratios.push(round[0] / round[1].max(round[2]));
        for (all, one) in seconds.iter_mut().zip(round) {
            all.push(one);
        }
    }
    let clock = watch.stop()?;
    let median = |values| Timing::from_seconds(values).map(|t| t.median_ms / 1e3);
    let [whole, network, files] = seconds;
    let [whole, network, files] = [median(whole)?, median(network)?, median(files)?];
    let (ratio, count) = (median(ratios)?, jobs.len());
    if args.json {
        return terminal::print(
            &json!({
                "version": env!("CARGO_PKG_VERSION"), "device": device.to_string(), "model": args.model,
                "pairs": count, "rounds": args.rounds, "workers": workers, "whole_s": whole,
                "network_s": network, "files_s": files, "ratio": ratio,
                "sm_clock_mhz": clock,
            })
            .to_string(),
        );
    }
    let line = |what: &str, seconds: f64| {
        let rate = count as f64 / seconds;
        format!("{what:<24} {seconds:9.2} s {rate:9.2} pairs/s")
    };
    terminal::print(&format!(
        "{count} pairs, {} on {device}, {workers} at a time; medians of {} rounds\n\n{}\n{}\n{}\n\nwhole / longer part {ratio:.3}{}",
        args.model,
        args.rounds,
        line("disk to disk", whole),
        line("networks alone", network),
        line("reading, writing alone", files),
        SmClock::foot(clock),
    ))
}
