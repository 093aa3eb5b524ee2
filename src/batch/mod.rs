//! Folders of pairs: each worker reads a pair, fuses it and writes the result, while others do the same with theirs.

mod crew;
mod resume;

pub(crate) use crew::Crew;

use crate::data::{Format, Pair, Picture, WriteOptions, check_output_path, list_pairs, read_pair};
use crate::fuser::{Fuser, FuserBuilder};
use crate::{Error, Result, output};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// How [`fuse_folder`] works.
///
/// ```
/// use hafuse::{FolderOptions, Fuser};
///
/// let options = FolderOptions::default().fuser(Fuser::builder().model("ivif")).jobs(2);
/// ```
#[derive(Clone, Debug)]
pub struct FolderOptions {
    fuser: FuserBuilder,
    format: Format,
    write: WriteOptions,
    jobs: Option<usize>,
    resume: bool,
}

impl FolderOptions {
    /// Model, device, precision and tone; its memory limit holds for all workers together. Default: those of [`Fuser::builder`].
    #[must_use]
    pub fn fuser(mut self, fuser: FuserBuilder) -> Self {
        self.fuser = fuser;
        self
    }

    /// Format of the results. Default: PNG.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Quality and bits of the results.
    #[must_use]
    pub fn write(mut self, write: WriteOptions) -> Self {
        self.write = write;
        self
    }

    /// Pairs at a time, fewer where memory is short. Default: one for each thread.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Leaves pairs alone whose result is there and whole, whatever made it. Default: false.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }
}

impl Default for FolderOptions {
    /// The default model, PNG, one pair for each thread.
    fn default() -> Self {
        Self {
            fuser: Fuser::builder(),
            format: Format::Png,
            write: WriteOptions::default(),
            jobs: None,
            resume: false,
        }
    }
}

/// Progress of [`fuse_folder`].
#[derive(Debug)]
#[non_exhaustive]
pub enum FolderEvent<'a> {
    /// Before the first pair.
    Begun {
        /// Pairs to fuse.
        pairs: usize,
        /// Results that were there already.
        skipped: usize,
        /// Names in either folder without a partner.
        unmatched: &'a [Vec<String>; 2],
    },
    /// A pair was written, or failed.
    Pair {
        /// Common name of both files, without extension.
        name: &'a str,
        /// Why nothing was written; `None` after a success.
        failure: Option<&'a Error>,
        /// Seconds spent on all pairs so far.
        seconds: StageSeconds,
    },
}

/// Seconds that workers spent, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct StageSeconds {
    /// Reading and decoding.
    pub decode: f64,
    /// Fusing, with preparing it as far as that took longer than decoding; on a card with waiting for it.
    pub network: f64,
    /// Tone, encoding and writing.
    pub encode: f64,
}

impl StageSeconds {
    fn add(&mut self, other: Self) {
        self.decode += other.decode;
        self.network += other.network;
        self.encode += other.encode;
    }

    /// Shares in percent, in order.
    pub fn shares(&self) -> [f64; 3] {
        let parts = [self.decode, self.network, self.encode];
        let sum = parts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        parts.map(|p| 100.0 * p / sum)
    }
}

/// Result of [`fuse_folder`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct FolderReport {
    /// Name of the model or rule.
    pub model: String,
    /// Device and precision, as in `cpu in f32`.
    pub place: String,
    /// Pairs that matched, with those that were there already.
    pub total: usize,
    /// Files that were written.
    pub outputs: Vec<PathBuf>,
    /// Results that were there already.
    pub skipped: usize,
    /// Name and reason.
    pub failures: Vec<(String, String)>,
    /// The first failure of the device, which ended the work.
    pub broken: Option<Error>,
    /// The progress callback ended the work.
    pub cancelled: bool,
    /// Names in either folder without a partner.
    pub unmatched: [Vec<String>; 2],
    /// Files that were turned upright, as their orientation tag asks.
    pub oriented: Vec<String>,
    /// Pairs of which both sources are coloured; the colours of B were kept.
    pub both_coloured: Vec<String>,
    /// Seconds of all workers, added up by stage.
    pub seconds: StageSeconds,
    /// Pairs at a time.
    pub workers: usize,
}

/// Fuses the pairs of two folders, matched by name, into a third one.
///
/// A pair that fails is reported and the others go on; a device that fails ends the work. `progress` is called by the thread
/// that called this; if it gives [`ControlFlow::Break`], pairs that were begun are finished and no other is begun.
///
/// # Errors
/// [`Error::Input`] if a folder cannot be read or nothing matches; [`Error::Output`] if `out` cannot take files; those of
/// [`FuserBuilder::build`]. Failures of single pairs are in the report.
///
/// ```no_run
/// use hafuse::{FolderEvent, FolderOptions, fuse_folder};
/// use std::ops::ControlFlow;
///
/// let report = fuse_folder("data/ir", "data/vi", "data/fused", &FolderOptions::default(), |event| {
///     if let FolderEvent::Pair { name, failure, .. } = event {
///         println!("{name}: {}", failure.map_or("fused".into(), ToString::to_string));
///     }
///     ControlFlow::Continue(())
/// })?;
/// println!("{} fused, {} failed", report.outputs.len(), report.failures.len());
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn fuse_folder(
    a: impl AsRef<Path>,
    b: impl AsRef<Path>,
    out: impl AsRef<Path>,
    options: &FolderOptions,
    mut progress: impl FnMut(FolderEvent<'_>) -> ControlFlow<()>,
) -> Result<FolderReport> {
    let (jobs, unmatched) = jobs_of(a.as_ref(), b.as_ref(), out.as_ref(), options)?;
    let (jobs, skipped) = match options.resume {
        false => (jobs, 0),
        true => {
            resume::clear_parts(out.as_ref());
            let (left, whole): (Vec<_>, Vec<_>) =
                jobs.into_iter().partition(|job| !resume::is_whole(job));
            (left, whole.len())
        }
    };
    let begun = FolderEvent::Begun {
        pairs: jobs.len(),
        skipped,
        unmatched: &unmatched,
    };
    let cancelled = progress(begun).is_break();
    let first = options.fuser.build()?;
    let (model, place) = (first.name().to_string(), first.place());
    let mut report = FolderReport {
        cancelled,
        ..FolderReport::default()
    };
    if !cancelled {
        let wanted = options.jobs.unwrap_or_else(rayon::current_num_threads);
        let crew = Crew::new(&jobs, first, || options.fuser.build(), wanted)?;
        report = run(&jobs, options.write, &crew, progress)?;
    }
    Ok(FolderReport {
        model,
        place,
        total: jobs.len() + skipped,
        skipped,
        unmatched,
        ..report
    })
}

/// One pair to fuse.
pub(crate) struct Job {
    pub name: String,
    pub a: PathBuf,
    pub b: PathBuf,
    pub out: PathBuf,
}

/// The pairs of two folders, and the names on both sides that have no partner.
fn jobs_of(
    a: &Path,
    b: &Path,
    out: &Path,
    options: &FolderOptions,
) -> Result<(Vec<Job>, [Vec<String>; 2])> {
    if !out.exists() && check_output_path(out).is_ok() {
        let detail = format!(
            "{} is the name of a picture, but A and B are folders; name a folder",
            out.display()
        );
        return Err(Error::config("output folder", detail));
    }
    output::check_folder(out, &[a, b])?;
    let list = list_pairs(a, b)?;
    let extension = options.format.extension();
    let job = |pair: Pair| {
        let out = out.join(format!("{}.{extension}", pair.stem));
        options.write.check(&out)?;
        Ok(Job {
            name: pair.stem,
            a: pair.a,
            b: pair.b,
            out,
        })
    };
    let jobs = list.pairs.into_iter().map(job).collect::<Result<_>>()?;
    let names = |paths: &[PathBuf]| {
        let names = paths.iter().filter_map(|p| p.file_name());
        names.map(|n| n.to_string_lossy().into_owned()).collect()
    };
    Ok((jobs, [names(&list.only_a), names(&list.only_b)]))
}

/// Observations on one pair.
#[derive(Default)]
pub(crate) struct Notes {
    /// See [`FolderReport`].
    pub oriented: Vec<String>,
    pub both_coloured: bool,
    pub seconds: StageSeconds,
}

/// Fuses one pair.
pub(crate) fn one(job: &Job, write: WriteOptions, fuser: &Mutex<Fuser>) -> (Notes, Result<()>) {
    let mut notes = Notes::default();
    let result = steps(job, write, fuser, &mut notes).map_err(|e| e.of_file(&job.a));
    (notes, result)
}

fn steps(job: &Job, write: WriteOptions, fuser: &Mutex<Fuser>, notes: &mut Notes) -> Result<()> {
    let begun = Instant::now();
    output::check_file(&job.out, &[&job.a, &job.b])?;
    let size = Picture::size(&job.a).ok();
    // A fuser that another worker has is that of a card.
    let with_size = |f: fn(&mut Fuser, (usize, usize)) -> Result<()>| match (size, fuser.try_lock())
    {
        (Some(size), Ok(mut fuser)) => f(&mut fuser, size),
        _ => Ok(()),
    };
    // Too large a picture is better refused before it is in memory.
    with_size(Fuser::check)?;
    let ((pair, decode), prepared) = rayon::join(
        || (read_pair(&job.a, &job.b), begun.elapsed().as_secs_f64()),
        || with_size(Fuser::prepare),
    );
    let (a, b) = pair?;
    prepared?;
    notes.seconds.decode = decode;
    let waited = begun.elapsed().as_secs_f64() - decode;
    for (picture, path) in [(&a, &job.a), (&b, &job.b)] {
        if picture.oriented {
            notes.oriented.push(path.display().to_string());
        }
    }
    notes.both_coloured = a.chroma.is_some() && b.chroma.is_some();
    let begun = Instant::now();
    let (mut luma, tone) = {
        let mut fuser = fuser.lock().unwrap_or_else(|e| e.into_inner());
        (fuser.luma(&a, &b)?, fuser.tone())
    };
    notes.seconds.network = waited + begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    tone.apply(&mut luma)?;
    let bit_depth = a.bit_depth.max(b.bit_depth);
    // The other one may be large.
    let colour = match Picture::colour_is_of_first(&a, &b) {
        true => (a, drop(b)).0,
        false => (b, drop(a)).0,
    };
    let mut fused = colour.with_luma(luma)?;
    fused.bit_depth = bit_depth;
    output::make_parent(&job.out)?;
    fused.write(&job.out, write)?;
    notes.seconds.encode = begun.elapsed().as_secs_f64();
    Ok(())
}

/// Fuses all pairs, or those before the device broke or the callback ended it. A device answers every call after a fault with
/// the same error.
pub(crate) fn run(
    jobs: &[Job],
    write: WriteOptions,
    crew: &Crew,
    mut progress: impl FnMut(FolderEvent<'_>) -> ControlFlow<()>,
) -> Result<FolderReport> {
    let mut report = FolderReport {
        workers: crew.workers(),
        ..FolderReport::default()
    };
    let mut done: Vec<Option<Result<()>>> = jobs.iter().map(|_| None).collect();
    let (broken, cancelled) = (AtomicBool::new(false), AtomicBool::new(false));
    let over = || broken.load(Ordering::Relaxed) || cancelled.load(Ordering::Relaxed);
    crew.each(
        jobs.len(),
        |i, fuser| {
            if over() {
                return None;
            }
            // A fault in one pair is not the end of the others.
            let fused = catch_unwind(AssertUnwindSafe(|| one(&jobs[i], write, fuser)));
            let fused = fused.unwrap_or_else(|_| {
                let fault = Error::Internal("its worker panicked; please report it".into());
                (Notes::default(), Err(fault))
            });
            if matches!(fused.1, Err(Error::Device { .. })) {
                broken.store(true, Ordering::Relaxed);
            }
            Some(fused)
        },
        |i, fused| {
            let Some((notes, result)) = fused else {
                return;
            };
            let name = &jobs[i].name;
            report.oriented.extend(notes.oriented);
            if notes.both_coloured {
                report.both_coloured.push(name.clone());
            }
            report.seconds.add(notes.seconds);
            let event = FolderEvent::Pair {
                name,
                failure: result.as_ref().err(),
                seconds: report.seconds,
            };
            if progress(event).is_break() {
                cancelled.store(true, Ordering::Relaxed);
            }
            done[i] = Some(result);
        },
    )?;
    report.cancelled = cancelled.load(Ordering::Relaxed);
    report.oriented.sort();
    report.both_coloured.sort();
    for (job, result) in jobs.iter().zip(done) {
        match result {
            Some(Ok(())) => report.outputs.push(job.out.clone()),
            Some(Err(e)) => {
                report.failures.push((job.name.clone(), e.to_string()));
                if matches!(e, Error::Device { .. }) {
                    report.broken.get_or_insert(e);
                }
            }
            None if over() => {}
            None => return Err(Error::Internal(format!("pair {} was left out", job.name))),
        }
    }
    Ok(report)
}
