//! How long an entry of a latency table takes.
//!
//! On a card one kernel takes less than the host needs to launch it and little more than an event, and finds in the cache what
//! the run before has left there. So a graph holds many runs, on copies of all values in turn, and two events time it.

use super::latency::{Entry, LatencyEntry};
use super::timing::{Timing, warm_up};
use crate::Result;
use crate::device::Device;
use crate::net::{Builder, initial_params};
use crate::tape::{Cost, ParamStore, Replay, Session, SessionOptions, Source, Tape};
use crate::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// How the times of a table were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Each run is the sum of what its nodes took by themselves.
    #[default]
    Nodes,
    /// On a card: several runs captured as one graph, between two events.
    Graph,
}

impl Method {
    /// What a device is measured by.
    pub fn on(device: &Device) -> Self {
        match device {
            Device::Cpu => Method::Nodes,
            Device::Cuda(_) => Method::Graph,
        }
    }
}

/// How carefully to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Runs that count, after three that do not, and half a second of the first entry on a card.
    pub runs: usize,
    /// On a card, let runs take turns on copies that together are twice its cache, which may not drop strictly what was used
    /// longest ago.
    pub cold: bool,
}

/// The fewest runs in a graph: the time of the events themselves is shared out among them.
const TURNS: usize = 50;

/// The most copies of an entry's values. Only pictures of a few thousand pixels would need more, and then the table says `cold: false`.
const MAX_COPIES: usize = 256;

/// A session of an entry with parameters of its own, and the bytes that it has to itself.
fn session(
    entry: &Entry,
    device: &Device,
    dtype: DType,
    options: SessionOptions,
) -> Result<(Session, usize)> {
    let mut t = Tape::new(dtype);
    let x = t.input("x", entry.shape)?;
    let mut builder = Builder::new(&mut t);
    let y = (entry.record)(&mut builder, x)?;
    let specs = builder.into_specs();
    t.output("y", y)?;
    let store = ParamStore::on(device);
    initial_params(&specs, 1, dtype, &store)?;
    let mut session = Session::with_options(&t, &store, options)?;
    // Half grey: no branch of an operator depends on more.
    session.set("x", &Tensor::full(entry.shape, dtype, 0.5))?;
    let bytes = session.arena_bytes() + store.bytes();
    Ok((session, bytes))
}

/// Measures an entry; `first` on a card that nothing has warmed up yet.
pub(super) fn measure(
    entry: &Entry,
    device: &Device,
    dtype: DType,
    effort: Effort,
    first: bool,
) -> Result<LatencyEntry> {
    match device {
        Device::Cpu => measure_nodes(entry, dtype, effort),
        Device::Cuda(cuda) => {
            let cache = match effort.cold {
                true => 2 * cuda.card().l2,
                false => 0,
            };
            measure_graph(entry, device, dtype, (effort.runs, cache), first)
        }
    }
}

fn measure_nodes(entry: &Entry, dtype: DType, effort: Effort) -> Result<LatencyEntry> {
    let options = SessionOptions {
        profile: true,
        ..SessionOptions::default()
    };
    let (mut session, _) = session(entry, &Device::Cpu, dtype, options)?;
    let timing = Timing::of(3, effort.runs, || {
        session.run()?;
        Ok(session.times().map(|(_, t)| t.as_secs_f64()).sum())
    })?;
    Ok(row(entry, &session, timing))
}

/// `runs` means of many runs each, on copies that together have `cache` bytes if they may.
fn measure_graph(
    entry: &Entry,
    device: &Device,
    dtype: DType,
    (runs, cache): (usize, usize),
    first: bool,
) -> Result<LatencyEntry> {
    // The replay captures for all of them.
    let options = SessionOptions {
        eager: true,
        ..SessionOptions::default()
    };
    let make = || session(entry, device, dtype, options);
    let (session, bytes) = make()?;
    let mut sessions = vec![session];
    for _ in 1..copies(bytes, cache) {
        sessions.push(make()?.0);
    }
    let copies = sessions.len();
    let mut replay = Replay::new(&mut sessions, TURNS.next_multiple_of(copies))?;
    let turns = replay.turns();
    if first {
        warm_up(device, 0, || replay.seconds(1).map(|_| ()))?;
    }
    let timing = Timing::of(3, runs, || replay.seconds(1))?;
    drop(replay);
    Ok(LatencyEntry {
        turns,
        copies,
        cold: cache > 0 && copies * bytes >= cache,
        ..row(entry, &sessions[0], timing)
    })
}

fn copies(bytes: usize, cache: usize) -> usize {
    cache.div_ceil(bytes.max(1)).clamp(1, MAX_COPIES)
}

/// What was measured, with what it costs.
fn row(entry: &Entry, session: &Session, timing: Timing) -> LatencyEntry {
    let t = session.tape();
    let mut cost = Cost::default();
    let mut kernels = Vec::new();
    for (var, _) in session.times() {
        if let Source::Op(op) = &t.nodes()[var.index()].source {
            let c = op.cost(&t.input_metas(var), t.meta(var));
            cost.flops += c.flops;
            cost.read += c.read;
            cost.written += c.written;
        }
        kernels.extend(session.kernels(var).into_iter().map(String::from));
    }
    LatencyEntry {
        name: entry.name.clone(),
        shape: entry.shape.to_vec(),
        timing,
        turns: 1,
        copies: 1,
        cold: false,
        flops: cost.flops,
        bytes: cost.read + cost.written,
        percent: None,
        kernels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_exceed_the_cache_or_are_as_many_as_may_be() {
        assert_eq!(copies(10, 0), 1);
        assert_eq!(copies(100, 100), 1);
        assert_eq!(copies(99, 100), 2);
        assert_eq!(copies(10, 1000), 100);
        assert_eq!(copies(0, 1 << 40), MAX_COPIES);
    }
}
