//! Runs on a card without copies and without the host in between, timed by two events.

use super::Session;
use crate::device::Device;
use crate::device::cuda::{Cuda, Event, Graph, Queue};
use crate::{Error, Result};
use std::sync::Arc;

/// Runs of sessions on a card, one after the other, captured as one graph.
///
/// What a replay takes is the card's time alone: nothing is copied, converted or launched by the host meanwhile. With several
/// sessions of one tape, runs take turns on copies of all values, so that none finds its own in a cache that is smaller.
pub struct Replay<'a> {
    // Goes before the sessions' memory may.
    graph: Graph,
    begun: Event,
    ended: Event,
    cuda: Arc<Cuda>,
    turns: usize,
    sessions: &'a mut [Session],
}

impl<'a> Replay<'a> {
    /// Runs each session once, which loads kernels and inputs, then captures `turns` runs of the sessions in turn.
    ///
    /// # Errors
    /// [`Error::Tape`] unless all are of one card, change no parameters and are not profiled; [`Error::Config`] with `HAFUSE_SYNC=1`.
    pub fn new(sessions: &'a mut [Session], turns: usize) -> Result<Self> {
        let cuda = match sessions.first().map(Session::device) {
            Some(Device::Cuda(cuda)) => cuda.clone(),
            _ => return Err(Error::Tape("only a card replays; use `run`".into())),
        };
        if cuda.checks_launches() {
            return Err(Error::config(
                "HAFUSE_SYNC",
                "is 1, so the host waits after every kernel and nothing can be replayed; unset it",
            ));
        }
        for session in &*sessions {
            session.on_card()?;
            if !matches!(session.device(), Device::Cuda(c) if Arc::ptr_eq(c, &cuda)) {
                return Err(Error::Tape("a replay is of one card".into()));
            }
        }
        sessions.iter_mut().try_for_each(Session::run)?;
        let turns = turns.max(1);
        let runs = sessions.iter().cycle().take(turns);
        let runs = runs.map(Session::on_card).collect::<Result<Vec<_>>>()?;
        let graph = cuda.capture(|| runs.iter().try_for_each(|run| run.capture()))?;
        Ok(Self {
            graph,
            begun: cuda.timed_event()?,
            ended: cuda.timed_event()?,
            cuda,
            turns,
            sessions,
        })
    }

    /// Replays the graph `count` times, after once that does not count; the card's seconds for one run.
    pub fn seconds(&mut self, count: usize) -> Result<f64> {
        let count = count.max(1);
        self.cuda.bind()?;
        // While this one runs, the host puts the others on the stream: the card waits for none of them.
        self.graph.launch()?;
        self.begun.record(Queue::Compute)?;
        for _ in 0..count {
            self.graph.launch()?;
        }
        self.ended.record(Queue::Compute)?;
        self.ended.wait()?;
        let all = self.begun.until(&self.ended)?;
        Ok(all.as_secs_f64() / (count * self.turns) as f64)
    }

    /// Sessions that take turns.
    pub fn copies(&self) -> usize {
        self.sessions.len()
    }

    /// Runs in the graph.
    pub fn turns(&self) -> usize {
        self.turns
    }
}
