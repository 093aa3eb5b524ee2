//! Many pairs at once: each worker reads a pair, fuses it and writes the result, while others do the same with theirs.

use super::fuser::Fuser;
use super::memory::{Limit, available_bytes};
use super::{output, terminal};
use crate::data::{Picture, WriteOptions, read_pair};
use crate::tone::Tone;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Instant;

/// One pair to fuse.
pub struct Job {
    pub name: String,
    pub a: PathBuf,
    pub b: PathBuf,
    pub out: PathBuf,
}

/// Steps after fusion: from a luma plane to a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finish {
    pub tone: Tone,
    pub write: WriteOptions,
}

/// What was noticed on the way; said once at the end.
#[derive(Default)]
pub struct Notes {
    oriented: Vec<String>,
    both_coloured: Vec<String>,
}

impl Notes {
    pub fn say(&mut self) {
        self.oriented.sort();
        self.both_coloured.sort();
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

    fn add(&mut self, other: Notes) {
        self.oriented.extend(other.oriented);
        self.both_coloured.extend(other.both_coloured);
    }
}

/// Seconds that workers spent, added up.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Stages {
    pub decode: f64,
    /// With preparing it, as far as that took longer than decoding; on a card with waiting for it.
    pub network: f64,
    /// With the tone.
    pub encode: f64,
}

impl Stages {
    fn add(&mut self, other: Stages) {
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

/// What became of a batch.
#[derive(Default)]
pub struct Outcome {
    pub outputs: Vec<PathBuf>,
    /// Name and reason.
    pub failures: Vec<(String, String)>,
    /// The first failure of the device, which ended the batch.
    pub broken: Option<Error>,
    pub notes: Notes,
    pub stages: Stages,
    pub workers: usize,
}

/// Fuses one pair.
pub fn one(job: &Job, finish: Finish, fuser: &Mutex<Fuser>) -> (Notes, Stages, Result<()>) {
    let (mut notes, mut stages) = (Notes::default(), Stages::default());
    let result = steps(job, finish, fuser, &mut notes, &mut stages);
    (notes, stages, result)
}

fn steps(
    job: &Job,
    finish: Finish,
    fuser: &Mutex<Fuser>,
    notes: &mut Notes,
    stages: &mut Stages,
) -> Result<()> {
    let begun = Instant::now();
    output::check_file(&job.out, &[&job.a, &job.b])?;
    let size = Picture::size(&job.a).ok();
    // A fuser that another worker has is that of a card.
    let with_size =
        |f: fn(&mut Fuser, &Path, (usize, usize)) -> Result<()>| match (size, fuser.try_lock()) {
            (Some(size), Ok(mut fuser)) => f(&mut fuser, &job.a, size),
            _ => Ok(()),
        };
    // Too large a picture is better refused before it is in memory.
    with_size(Fuser::check)?;
    let ((pair, decode), prepared) = rayon::join(
        || (read_pair(&job.a, &job.b), begun.elapsed().as_secs_f64()),
        || with_size(|fuser, _, size| fuser.prepare(size)),
    );
    let (a, b) = pair?;
    prepared?;
    stages.decode = decode;
    let waited = begun.elapsed().as_secs_f64() - decode;
    for (picture, path) in [(&a, &job.a), (&b, &job.b)] {
        if picture.oriented {
            notes.oriented.push(path.display().to_string());
        }
    }
    if a.chroma.is_some() && b.chroma.is_some() {
        notes.both_coloured.push(job.name.clone());
    }
    let begun = Instant::now();
    let mut luma = {
        let mut fuser = fuser.lock().unwrap_or_else(|e| e.into_inner());
        fuser.fuse(&job.a, &a, &b)?
    };
    stages.network = waited + begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    finish.tone.apply(&mut luma)?;
    let bit_depth = a.bit_depth.max(b.bit_depth);
    // What is not needed any more may be large.
    let colour = match Picture::colour_is_of_first(&a, &b) {
        true => (a, drop(b)).0,
        false => (b, drop(a)).0,
    };
    let mut fused = colour.with_luma(luma)?;
    fused.bit_depth = bit_depth;
    output::make_parent(&job.out)?;
    fused.write(&job.out, finish.write)?;
    stages.encode = begun.elapsed().as_secs_f64();
    Ok(())
}

/// How many workers fit into `most` bytes, and the bytes of each.
fn workers(jobs: &[Job], wanted: usize, fuser: &Fuser, most: usize) -> (usize, usize) {
    let sizes = jobs.iter().filter_map(|job| Picture::size(&job.a).ok());
    let sizes: BTreeSet<_> = sizes.collect();
    let each = sizes.into_iter().map(|(w, h)| fuser.bytes(w, h)).max();
    let each = each.unwrap_or(0);
    let workers = (most / each.max(1)).clamp(1, wanted.max(1));
    (workers, most / workers)
}

/// Those who work on a batch. On the CPU each worker has a fuser and its share of the threads; on a card two fusers take
/// turns, so that one copies while the other computes.
pub struct Crew {
    fusers: Vec<Mutex<Fuser>>,
    workers: usize,
}

impl Crew {
    /// Workers that there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Up to `wanted` workers on `jobs` in at most `max_memory` bytes. `make` gives another fuser like the first one.
    pub fn new(
        jobs: &[Job],
        first: Fuser,
        make: impl Fn() -> Result<Fuser>,
        (wanted, max_memory): (usize, Option<usize>),
    ) -> Result<Self> {
        let on_card = first.on_card();
        let free = || available_bytes().map_or(usize::MAX, |free| free as usize / 4 * 3);
        let limit = max_memory.map(Limit::new);
        let most = limit.map_or_else(free, |limit| limit.bytes);
        let (workers, share) = workers(jobs, wanted, &first, most);
        let workers = workers.min(jobs.len().max(1));
        let count = if on_card { workers.min(2) } else { workers };
        let mut fusers = vec![first];
        while fusers.len() < count {
            fusers.push(make()?);
        }
        if let Some(Limit { asked, .. }) = limit {
            let limit = Limit {
                asked,
                bytes: share,
            };
            fusers.iter_mut().for_each(|f| f.limit_memory(limit));
        }
        let fusers = fusers.into_iter().map(Mutex::new).collect();
        Ok(Self { fusers, workers })
    }

    /// `work(i, fuser)` for each `i` below `count`, `done(i, result)` as they end.
    pub fn each<R: Send>(
        &self,
        count: usize,
        work: impl Fn(usize, &Mutex<Fuser>) -> R + Sync,
        mut done: impl FnMut(usize, R),
    ) -> Result<()> {
        let threads = (rayon::current_num_threads() / self.workers).max(1);
        let next = AtomicUsize::new(0);
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            for worker in 0..self.workers {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = pool.map_err(|e| Error::Internal(format!("worker threads: {e}")))?;
                let fuser = &self.fusers[worker % self.fusers.len()];
                let (send, next, work) = (send.clone(), &next, &work);
                scope.spawn(move || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= count {
                            break;
                        }
                        let result = pool.install(|| work(i, fuser));
                        if send.send((i, result)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            receive.into_iter().for_each(|(i, result)| done(i, result));
            Ok(())
        })
    }
}

/// Fuses all pairs, or those before the device broke: it answers every call after a fault with the same error.
pub fn run(jobs: &[Job], finish: Finish, crew: &Crew) -> Result<Outcome> {
    let bar = terminal::bar(
        jobs.len() as u64,
        "{wide_bar} {pos}/{len} pairs  {per_sec}  {msg}  {eta} left",
    );
    let mut outcome = Outcome {
        workers: crew.workers,
        ..Outcome::default()
    };
    let mut done: Vec<Option<Result<()>>> = jobs.iter().map(|_| None).collect();
    let broken = AtomicBool::new(false);
    crew.each(
        jobs.len(),
        |i, fuser| {
            if broken.load(Ordering::Relaxed) {
                return None;
            }
            // A fault in one pair is not the end of the others.
            let fused = catch_unwind(AssertUnwindSafe(|| one(&jobs[i], finish, fuser)));
            let fused = fused.unwrap_or_else(|_| {
                let fault = Error::Internal("its worker panicked; please report it".into());
                (Notes::default(), Stages::default(), Err(fault))
            });
            if matches!(fused.2, Err(Error::Device { .. })) {
                broken.store(true, Ordering::Relaxed);
            }
            Some(fused)
        },
        |i, fused| {
            let Some((notes, stages, result)) = fused else {
                return;
            };
            outcome.notes.add(notes);
            outcome.stages.add(stages);
            match &result {
                Ok(()) => {}
                // Told at the end, once.
                Err(Error::Device { .. }) => {}
                Err(e) => bar.suspend(|| {
                    terminal::say(&format!("failed: pair {}: {e}", jobs[i].name));
                }),
            }
            done[i] = Some(result);
            let [decode, network, encode] = outcome.stages.shares();
            bar.set_message(format!(
                "read {decode:.0} %, network {network:.0} %, write {encode:.0} %"
            ));
            bar.inc(1);
        },
    )?;
    bar.finish_and_clear();
    for (job, result) in jobs.iter().zip(done) {
        match result {
            Some(Ok(())) => outcome.outputs.push(job.out.clone()),
            Some(Err(e)) => {
                outcome.failures.push((job.name.clone(), e.to_string()));
                if matches!(e, Error::Device { .. }) {
                    outcome.broken.get_or_insert(e);
                }
            }
            None if broken.load(Ordering::Relaxed) => {}
            None => return Err(Error::Internal(format!("pair {} was left out", job.name))),
        }
    }
    Ok(outcome)
}
