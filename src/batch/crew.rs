//! The workers of a batch and their memory.

use super::Job;
use crate::data::Picture;
use crate::device::memory::available_bytes;
use crate::fuser::Fuser;
use crate::fuser::memory::Limit;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

/// Number of workers that fit into `most` bytes, and the bytes of each.
fn workers(jobs: &[Job], wanted: usize, fuser: &Fuser, most: usize) -> (usize, usize) {
    let sizes = jobs.iter().filter_map(|job| Picture::size(&job.a).ok());
    let sizes: BTreeSet<_> = sizes.collect();
    let each = sizes.into_iter().map(|(w, h)| fuser.bytes(w, h)).max();
    let each = each.unwrap_or(0);
    let workers = (most / each.max(1)).clamp(1, wanted.max(1));
    (workers, most / workers)
}

/// Workers of a batch. On the CPU each has a fuser and its share of the threads; on a card two fusers take turns, so that one
/// copies while the other computes.
pub(crate) struct Crew {
    fusers: Vec<Mutex<Fuser>>,
    workers: usize,
}

impl Crew {
    /// Their number.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Up to `wanted` workers on `jobs`, together within the memory limit of the first. `make` gives another fuser like it.
    pub fn new(
        jobs: &[Job],
        first: Fuser,
        make: impl Fn() -> Result<Fuser>,
        wanted: usize,
    ) -> Result<Self> {
        let on_card = first.on_card();
        let free = || available_bytes().map_or(usize::MAX, |free| free as usize / 4 * 3);
        let limit = first.limit();
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

    /// `work(i, fuser)` for each `i` below `count`, `done(i, result)` as they end, by this thread.
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
