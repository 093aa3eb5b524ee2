//! Threads that stay together for a whole run.
//!
//! A run is hundreds of loops of some 10 to 100 microseconds. Between two of them a pool puts its idle threads to sleep,
//! and waking one takes as long as such a loop. Members of a [`together`] watch for the next loop instead.

use rayon::iter::ParallelIterator;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::from_ref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A loop: called with parts of its range, by several threads at a time.
type Body<'a> = dyn Fn(Range<usize>) + Sync + 'a;

/// Looks at the next loop before others get the core: some 20 microseconds.
const SPINS: u32 = 1000;
/// Parts that a loop is divided into at most before threads help each other.
const SHARES: usize = 64;
/// [`Team::open`] between loops, and after the last one.
const NONE: usize = 0;
const CLOSED: usize = usize::MAX;

#[derive(Clone, Copy)]
enum Place {
    /// Loops go to the pool.
    Alone,
    /// Loops go to this team.
    Lead(*const Team),
    /// In a loop of a team: loops inside are not divided further.
    Inside,
}

thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place::Alone) };
}

/// Sets the place of this thread until it is dropped.
struct At(Place);

impl At {
    fn new(place: Place) -> Self {
        Self(PLACE.replace(place))
    }
}

impl Drop for At {
    fn drop(&mut self) {
        PLACE.set(self.0);
    }
}

/// The next item of one thread's share, on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Share(AtomicUsize);

struct Team {
    threads: usize,
    /// The number of the loop that is to be run, [`NONE`] or [`CLOSED`].
    open: AtomicUsize,
    /// Members that may be looking at `work`.
    active: AtomicUsize,
    /// Members so far.
    joined: AtomicUsize,
    loops: Cell<usize>,
    /// Written by the leader while `open` is [`NONE`] and nobody is active.
    work: UnsafeCell<Option<(&'static Body<'static>, usize)>>,
    shares: [Share; SHARES],
    panic: Mutex<Panic>,
}

/// The first panic of a member in the present loop.
type Panic = Option<Box<dyn Any + Send>>;

// SAFETY: `loops` is the leader's alone; `work` is read by members only while `open` names a loop and they are counted in
// `active`, and then the leader does not write.
unsafe impl Sync for Team {}

impl Team {
    fn new(threads: usize) -> Self {
        Self {
            threads: threads.min(SHARES),
            open: AtomicUsize::new(NONE),
            active: AtomicUsize::new(0),
            joined: AtomicUsize::new(1),
            loops: Cell::new(0),
            work: UnsafeCell::new(None),
            shares: std::array::from_fn(|_| Share::default()),
            panic: Mutex::new(None),
        }
    }

    /// Leader: runs a loop with whoever comes.
    fn run(&self, count: usize, body: &Body<'_>) {
        for share in 0..self.threads {
            self.shares[share]
                .0
                .store(self.bound(share, count), Ordering::Relaxed);
        }
        // Left by a loop whose leader panicked too.
        *self.panic() = None;
        // SAFETY: only the lifetime changes: `End` keeps this call from returning or unwinding while a member may use it.
        let body = unsafe { std::mem::transmute::<&Body<'_>, &'static Body<'static>>(body) };
        // SAFETY: no loop is open and nobody is active since the last `End`.
        unsafe { *self.work.get() = Some((body, count)) };
        self.loops.set(self.loops.get() + 1);
        {
            let _end = End(self);
            self.open.store(self.loops.get(), Ordering::SeqCst);
            let _at = At::new(Place::Inside);
            self.take(body, count, 0);
        }
        let panic = self.panic().take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn panic(&self) -> MutexGuard<'_, Panic> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first item of a share of `count`.
    fn bound(&self, share: usize, count: usize) -> usize {
        share * count / self.threads
    }

    /// Items of one's own share, then of the others'.
    fn take(&self, body: &Body<'_>, count: usize, slot: usize) {
        for share in 0..self.threads {
            let share = (slot + share) % self.threads;
            let end = self.bound(share + 1, count);
            loop {
                let i = self.shares[share].0.fetch_add(1, Ordering::Relaxed);
                if i >= end {
                    break;
                }
                body(i..i + 1);
            }
        }
    }

    /// Member: takes part in all loops until the team is closed.
    fn help(&self) {
        // A leader, or one inside a loop, that waits in rayon and finds this invitation would wait for itself.
        if !matches!(PLACE.get(), Place::Alone) {
            return;
        }
        let slot = self.joined.fetch_add(1, Ordering::Relaxed);
        let _at = At::new(Place::Inside);
        let mut last = NONE;
        loop {
            let mut open = NONE;
            wait_until(|| {
                open = self.open.load(Ordering::Acquire);
                open != NONE && open != last
            });
            if open == CLOSED {
                return;
            }
            last = open;
            self.active.fetch_add(1, Ordering::SeqCst);
            // Either this sees that the loop has ended, or its end sees that somebody is active.
            if self.open.load(Ordering::SeqCst) == open {
                // SAFETY: the loop is open and this thread is active, so the leader leaves `work` alone.
                if let Some((body, count)) = unsafe { *self.work.get() } {
                    let taken = catch_unwind(AssertUnwindSafe(|| self.take(body, count, slot)));
                    if let Err(panic) = taken {
                        self.panic().get_or_insert(panic);
                    }
                }
            }
            self.active.fetch_sub(1, Ordering::Release);
        }
    }

    /// `count` more members, if the pool has threads that have nothing to do.
    fn invite(&self, count: usize) {
        match count {
            0 => {}
            1 => self.help(),
            _ => _ = rayon::join(|| self.help(), || self.invite(count - 1)),
        }
    }
}

/// Ends a loop.
struct End<'a>(&'a Team);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.open.store(NONE, Ordering::SeqCst);
        wait_until(|| self.0.active.load(Ordering::SeqCst) == 0);
    }
}

/// Closes a team.
struct Close<'a>(&'a Team);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.open.store(CLOSED, Ordering::SeqCst);
    }
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let mut looks = 0;
    while !done() {
        if looks < SPINS {
            looks += 1;
            spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// Runs `f` on a thread of the pool, the other threads standing by for its loops ([`for_ranges`]). Allocates nothing if this
/// is such a thread already.
pub(crate) fn together<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    super::cpu::install(|| {
        if !matches!(PLACE.get(), Place::Alone) {
            return f();
        }
        let threads = rayon::current_num_threads();
        if threads == 1 {
            let _at = At::new(Place::Inside);
            return f();
        }
        let team = Team::new(threads);
        let lead = || {
            let _close = Close(&team);
            let _at = At::new(Place::Lead(from_ref(&team)));
            f()
        };
        rayon::join(lead, || team.invite(threads - 1)).0
    })
}

/// Calls `f` with parts of `0..count` in parallel. Not generic: rayon is compiled once for all loops.
pub(crate) fn for_ranges(count: usize, f: &Body<'_>) {
    match PLACE.get() {
        _ if count < 2 => f(0..count),
        Place::Inside => f(0..count),
        // SAFETY: `together` keeps the team while this thread leads it, and no loop of it is open: inside one the place of
        // its threads is `Inside`.
        Place::Lead(team) => unsafe { (*team).run(count, f) },
        Place::Alone => rayon::iter::split(0..count, |r| match r.len() {
            0 | 1 => (r, None),
            len => (r.start..r.start + len / 2, Some(r.start + len / 2..r.end)),
        })
        .for_each(f),
    }
}

/// How many of `count` items a thread best takes at a time, at most `most`, so that all threads end together.
pub(crate) fn fair_share(count: usize, most: usize) -> usize {
    let threads = rayon::current_num_threads();
    let rounds = |share: usize| count.div_ceil(share).div_ceil(threads);
    let shares = (1..=most.min(count)).rev();
    shares
        .min_by_key(|&share| share * rounds(share))
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().expect("threads")
    }

    /// Runs `f` as the leader of a team.
    fn led<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
        pool(threads).install(|| together(f))
    }

    #[test]
    fn every_item_is_done_once() {
        for threads in 1..=4 {
            led(threads, || {
                for count in [0, 1, 2, 3, 7, 64, 1000] {
                    let done: Vec<AtomicUsize> = (0..count).map(|_| 0.into()).collect();
                    for_ranges(count, &|range| {
                        for i in range {
                            // Loops inside do not wait for threads that are busy with this one.
                            for_ranges(2, &|range| {
                                done[i].fetch_add(range.len(), Ordering::Relaxed);
                            });
                        }
                    });
                    assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 2));
                }
            });
        }
    }

    #[test]
    fn shares_end_together() {
        let shares = [(36, 8), (9, 8), (18, 18), (5, 8), (1, 8), (0, 8)];
        let of = |threads: usize| {
            pool(threads).install(|| shares.map(|(count, most)| fair_share(count, most)))
        };
        assert_eq!(of(1), [6, 3, 18, 5, 1, 1]);
        assert_eq!(of(2), [6, 5, 9, 3, 1, 1]);
    }

    #[test]
    fn threads_share_a_loop() {
        // Two items that wait for each other.
        led(2, || {
            for _ in 0..100 {
                let barrier = std::sync::Barrier::new(2);
                for_ranges(2, &|range| range.for_each(|_| _ = barrier.wait()));
            }
        });
    }

    #[test]
    fn a_leader_may_wait_in_rayon() {
        // Waiting, it takes whatever the pool has, and finds the invitation to its own team.
        pool(3).install(|| {
            for _ in 0..100 {
                let sum = AtomicUsize::new(0);
                together(|| {
                    rayon::scope(|s| {
                        for _ in 0..8 {
                            s.spawn(|_| {
                                std::thread::sleep(std::time::Duration::from_micros(200));
                                sum.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    });
                    for_ranges(8, &|range| {
                        _ = sum.fetch_add(range.len(), Ordering::Relaxed)
                    });
                });
                assert_eq!(sum.into_inner(), 16);
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_next_loop_runs() {
        led(2, || {
            for bad in 0..2 {
                // Each thread has one of the two items.
                let barrier = std::sync::Barrier::new(2);
                let run = || {
                    for_ranges(2, &|range| {
                        barrier.wait();
                        assert!(range.start != bad, "item {bad}");
                    });
                };
                let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a panic");
                let text = panic.downcast_ref::<String>().map(String::as_str);
                assert_eq!(text, Some(format!("item {bad}").as_str()));
            }
            let sum = AtomicUsize::new(0);
            for_ranges(10, &|range| {
                sum.fetch_add(range.sum::<usize>(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        });
        let run = || led(2, || panic!("the leader"));
        assert!(catch_unwind(run).is_err());
    }
}
