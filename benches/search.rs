//! Steps of the supernet: time, planned memory and the share of each operator.
//!
//! `cargo bench --bench search`, or with other channels, batch and patch `-- 32 8 64`; `-- recompute` computes cells
//! again instead of keeping their values.

use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::search::latency::Effort;
use hafuse::search::{LatencyKey, LatencyTable, Phase, SearchConfig, Searcher, Update};
use hafuse::tape::Source;
use hafuse::{Result, Session, SessionOptions};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn searcher(channels: usize, batch: usize, patch: usize) -> Result<Searcher> {
    let keys = [
        "perceptual=none".to_string(),
        format!("space.channels={channels}"),
        format!("batch={batch}"),
        format!("patch={patch}"),
        format!(
            "space.recompute={}",
            std::env::args().any(|a| a == "recompute")
        ),
    ];
    let config = SearchConfig::load(None, &keys)?;
    let key = LatencyKey {
        device: "cpu".into(),
        dtype: "f32".into(),
        width: 16,
        height: 16,
        channels,
        version: "0".into(),
    };
    let effort = Effort {
        runs: 1,
        flush: false,
    };
    let table = LatencyTable::measure(&Device::Cpu, key, effort, |_| {})?;
    let scene = |i: usize| Scene {
        name: i.to_string(),
        width: patch,
        height: patch,
        a: vec![0.4; patch * patch],
        b: vec![0.6; patch * patch],
    };
    let data = PairDataset::from_scenes((0..2 * batch).map(scene).collect())?;
    Searcher::new(config, table, None, &data, None, &Device::Cpu)
}

fn measure(s: &Searcher, stage: u8, update: Update, last: bool) -> Result<()> {
    const RUNS: usize = 3;
    let start = Instant::now();
    let tape = s.record_step(stage, update)?;
    let options = SessionOptions {
        profile: true,
        ..SessionOptions::default()
    };
    let mut session = Session::with_options(&tape, s.store(), options)?;
    let planned = start.elapsed();
    for (name, k) in [("a", 31), ("b", 57)] {
        let values = session.input_mut::<f32>(name)?;
        for (i, v) in values.iter_mut().enumerate() {
            *v = (i * k % 101) as f32 / 101.0;
        }
    }
    session.set_scalar("lr", 1e-6)?;
    if update != Update::Weights {
        session.set_scalar("step", 1.0)?;
    }
    let mut times = Vec::new();
    for _ in 0..=RUNS {
        let start = Instant::now();
        session.run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.remove(0);
    times.sort_unstable_by(f64::total_cmp);
    let median = times[RUNS / 2];
    println!(
        "stage {stage} {:<24} {:7.1} ms  {:6.1} patches/s  arena {:5.0} MB  {} nodes, planned in {:.2} s",
        format!("{update:?}"),
        median * 1e3,
        s.config().batch as f64 / median,
        session.arena_bytes() as f64 / 1e6,
        session.times().count(),
        planned.as_secs_f64(),
    );
    if last {
        let mut share: BTreeMap<&str, Duration> = BTreeMap::new();
        for (var, time) in session.times() {
            if let Source::Op(op) = &tape.nodes()[var.index()].source {
                *share.entry(op.name()).or_default() += time;
            }
        }
        let total: Duration = share.values().sum();
        let mut share: Vec<_> = share.into_iter().collect();
        share.sort_by_key(|&(_, t)| std::cmp::Reverse(t));
        for (name, time) in share.into_iter().take(15) {
            let percent = 100.0 * time.as_secs_f64() / total.as_secs_f64();
            println!("  {name:<28} {percent:5.1} %");
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let given: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let sizes = match given[..] {
        [channels, batch, patch] => vec![[channels, batch, patch]],
        _ => vec![[8, 8, 64], [32, 8, 64]],
    };
    for [channels, batch, patch] in sizes {
        println!("C = {channels}, {batch} patches of {patch} x {patch}");
        let s = searcher(channels, batch, patch)?;
        println!(
            "parameters and optimiser state: {:.0} MB",
            s.store().bytes() as f64 / 1e6
        );
        for stage in [1, 2] {
            measure(&s, stage, Update::Weights, stage == 1)?;
            for phase in [Phase::Cells, Phase::Operators] {
                measure(&s, stage, Update::Architecture(phase), false)?;
            }
        }
    }
    Ok(())
}
