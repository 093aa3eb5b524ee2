//! Steps of the search on CUDA against the CPU.

use crate::card::{card, fault};
use crate::common::relative_error;
use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::search::latency::Effort;
use hafuse::search::{LatencyKey, LatencyTable, Phase, SearchConfig, Searcher, Update};
use hafuse::{Session, Tensor};
use std::collections::BTreeMap;

fn config(strategy: &str) -> SearchConfig {
    let keys = [
        "perceptual=none",
        "patch=16",
        "batch=1",
        "space.channels=3",
        "space.cells=1",
        "space.blocks=1",
        "architecture.beta_std=0.1",
        strategy,
    ];
    SearchConfig::load(None, &keys.map(String::from)).expect("is valid")
}

fn table() -> LatencyTable {
    let key = LatencyKey {
        device: "cpu".into(),
        dtype: "f32".into(),
        width: 16,
        height: 16,
        channels: 3,
        version: "0".into(),
    };
    let effort = Effort {
        runs: 1,
        flush: false,
    };
    let mut table = LatencyTable::measure(&Device::Cpu, key, effort, |_| {}).expect("measures");
    for (i, entry) in table.entries.iter_mut().enumerate() {
        entry.timing.median_ms = 1.0 + i as f64 / 8.0;
    }
    table
}

/// Outputs and parameters after one step of each kind, in a stage of a search.
fn steps(device: &Device, strategy: &str, stage: u8) -> (Vec<f64>, BTreeMap<String, Tensor>) {
    let wave = |k: usize| (0..20 * 20).map(|i| (i * k % 97) as f32 / 97.0).collect();
    let scene = |i: usize| Scene {
        name: i.to_string(),
        width: 20,
        height: 20,
        a: wave(5 + i),
        b: wave(11 + i),
    };
    let data = PairDataset::from_scenes(vec![scene(0), scene(1)]).expect("are scenes");
    let s = Searcher::new(config(strategy), table(), None, &data, None, device).expect("starts");
    let phases: &[Phase] = match strategy {
        "strategy=naive" => &[Phase::Both],
        _ => &[Phase::Cells, Phase::Operators],
    };
    let updates = phases.iter().map(|&p| Update::Architecture(p));
    let mut values = Vec::new();
    for update in std::iter::once(Update::Weights).chain(updates) {
        let tape = s.record_step(stage, update).expect("records");
        let mut session = Session::new(&tape, s.store()).expect("binds");
        for (name, k) in [("a", 31), ("b", 57)] {
            let values = session.input_mut::<f32>(name).expect("is an input");
            for (i, v) in values.iter_mut().enumerate() {
                *v = (i * k % 101) as f32 / 101.0;
            }
        }
        session.set_scalar("lr", 1e-3).expect("is an input");
        if update != Update::Weights {
            session.set_scalar("step", 1.0).expect("is an input");
        }
        let run = session.run();
        run.unwrap_or_else(|e| panic!("{update:?}: {e} {}", fault()));
        for name in tape.output_vars().keys() {
            values.push(session.scalar(name).expect("is a scalar"));
        }
    }
    let moments = |name: &str| name.starts_with("optimizer.m.");
    let state = s.store().export(moments).expect("exports");
    (values, state)
}

#[test]
fn search_steps_are_those_of_the_cpu() {
    let Some(device) = card() else { return };
    for (strategy, stage) in [
        ("strategy=collaborative", 1),
        ("strategy=collaborative", 2),
        ("strategy=naive", 1),
    ] {
        let (cpu, cuda) = (
            steps(&Device::Cpu, strategy, stage),
            steps(&device, strategy, stage),
        );
        let error = relative_error(&cpu.0, &cuda.0);
        println!("{strategy} stage {stage}: losses and LAT differ by {error:.1e}");
        assert!(error <= 1e-5, "{strategy} stage {stage}: {error:e}");
        // The first moments are the gradients, up to a factor.
        let largest = |m: &BTreeMap<String, Tensor>| {
            let values = m.values().flat_map(Tensor::to_f64);
            values.fold(0.0f64, |m, v| m.max(v.abs()))
        };
        let scale = largest(&cpu.1);
        assert!(scale > 0.0);
        for (name, a) in &cpu.1 {
            let (a, b) = (a.to_f64(), cuda.1[name].to_f64());
            let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            let off = off.fold(0.0f64, f64::max);
            assert!(off <= 1e-5 * scale, "{strategy} {stage} {name}: {off:e}");
        }
    }
}
