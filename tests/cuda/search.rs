//! Steps of the search on CUDA against the CPU.

use crate::card::{card, fault};
use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::search::{
    Effort, LatencyKey, LatencyTable, SearchConfig, SearchEvent, Searcher, Update,
};
use hafuse::{Session, Tensor};
use std::collections::BTreeMap;

fn config(more: &[&str]) -> SearchConfig {
    let keys = [
        "perceptual=none",
        "patch=16",
        "batch=1",
        "space.channels=3",
        "space.cells=1",
        "space.blocks=1",
        "architecture.beta_std=0.1",
        // Adam makes a step of any gradient, also of what rounding left.
        "weights.optimizer=sgd",
    ];
    let keys: Vec<String> = keys.iter().chain(more).map(|k| k.to_string()).collect();
    SearchConfig::load(None, &keys).expect("is valid")
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
        cold: false,
    };
    let mut table = LatencyTable::measure(&Device::Cpu, key, effort, |_| {}).expect("measures");
    for (i, entry) in table.entries.iter_mut().enumerate() {
        entry.timing.median_ms = 1.0 + i as f64 / 8.0;
    }
    table
}

/// Outputs by their step and name.
type Outputs = BTreeMap<String, f64>;

fn pictures() -> PairDataset {
    let wave = |k: usize| (0..20 * 20).map(|i| (i * k % 97) as f32 / 97.0).collect();
    let scene = |i: usize| Scene {
        name: i.to_string(),
        width: 20,
        height: 20,
        a: wave(5 + i),
        b: wave(11 + i),
    };
    PairDataset::from_scenes(vec![scene(0), scene(1)]).expect("are scenes")
}

/// Outputs, parameters and first moments after one step of each kind, in a stage of a search.
fn steps(device: &Device, keys: &[&str], stage: u8) -> (Outputs, BTreeMap<String, Tensor>) {
    let data = pictures();
    let s = Searcher::new(config(keys), table(), None, &data, None, device).expect("starts");
    let schedule = s.schedule();
    let phases = schedule.phases().iter();
    let updates = phases.map(|&p| Update::Architecture(p));
    let mut values = Outputs::new();
    for update in std::iter::once(Update::Weights).chain(updates) {
        let tape = s.record_step(stage, update).expect("records");
        let mut session = Session::new(&tape, s.store()).expect("binds");
        // Absolute losses bend where pictures meet: with these no pixel lies so close to it that rounding decides.
        for (name, k) in [("a", 37), ("b", 53)] {
            let values = session.input_mut::<f32>(name).expect("is an input");
            for (i, v) in values.iter_mut().enumerate() {
                *v = (i * k % 101) as f32 / 101.0;
            }
        }
        for (name, level) in [("level_a", [0.35, 0.3]), ("level_b", [0.3, 0.2])] {
            let values = session.input_mut::<f32>(name).expect("is an input");
            values.copy_from_slice(&level);
        }
        let run = |session: &mut Session| {
            let run = session.run();
            run.unwrap_or_else(|e| panic!("{update:?}: {e} {}", fault()));
        };
        let (gradients, scalars): (Vec<_>, Vec<_>) =
            { tape.output_vars().keys() }.partition(|name| name.starts_with("gradient."));
        match update {
            Update::Weights => {
                session.set_scalar("lr", 1e-3).expect("is an input");
                run(&mut session);
            }
            Update::Architecture(phase) => {
                let charge = s.charge().expect("has a unit");
                session.set_scalar("charge", charge).expect("is an input");
                run(&mut session);
                let descent = s.record_descent(stage, phase).expect("records");
                let mut descent = Session::new(&descent, s.store()).expect("binds");
                for name in gradients {
                    let gradient = session.get(name).expect("is an output");
                    descent.set(name, &gradient).expect("is an input");
                }
                for (name, value) in [("lr", 1e-3), ("step", 1.0)] {
                    descent.set_scalar(name, value).expect("is an input");
                }
                run(&mut descent);
            }
        }
        for name in scalars {
            let value = session.scalar(name).expect("is a scalar");
            values.insert(format!("{name} of {update:?}"), value);
        }
    }
    // The second moments are squares of the first.
    let state = s.store().export(|name| !name.starts_with("optimizer.v."));
    (values, state.expect("exports"))
}

fn largest(values: &Tensor) -> f64 {
    values.to_f64().iter().fold(0.0f64, |m, v| m.max(v.abs()))
}

// A test each: they run side by side.

#[test]
fn steps_of_stage_1_are_those_of_the_cpu() {
    compare(&[], 1);
}

#[test]
fn steps_of_stage_2_are_those_of_the_cpu() {
    compare(&[], 2);
}

#[test]
fn steps_of_a_naive_search_are_those_of_the_cpu() {
    compare(&["strategy=naive"], 1);
}

#[test]
fn steps_that_recompute_are_those_of_the_cpu() {
    compare(&["space.recompute=true"], 1);
}

/// A search from beginning to end: drawn networks have other sessions in every step.
#[test]
fn a_search_of_drawn_networks_decides_as_on_the_cpu() {
    let Some(device) = card() else { return };
    let found = [&Device::Cpu, &device].map(|device| {
        let keys = [
            "epochs.n=2",
            "epochs.m=2",
            "epochs.t=1",
            "epochs.s=1",
            "epochs.warmup=1",
            "space.operators=[\"3-SC\", \"3-RB\", \"CA\"]",
            "weights.optimizer=adam",
        ];
        let mut s =
            Searcher::new(config(&keys), table(), None, &pictures(), None, device).expect("starts");
        let mut losses = Vec::new();
        let ran = s.run(|event| {
            if let SearchEvent::Step(step) = event {
                losses.extend([Some(step.train), step.val].into_iter().flatten());
            }
            Ok(())
        });
        ran.unwrap_or_else(|e| panic!("{e} {}", fault()));
        (losses, s.layers().expect("are finite"))
    });
    let [(on_cpu, layers), (on_card, others)] = found;
    assert!(on_cpu.len() > 5);
    for (a, b) in on_cpu.iter().zip(&on_card) {
        assert!((a / b - 1.0).abs() < 1e-3, "{on_cpu:?} {on_card:?}");
    }
    for (a, b) in layers.iter().zip(&others) {
        for (a, b) in a.beta.iter().zip(&b.beta) {
            assert!((a - b).abs() < 1e-3, "{layers:?} {others:?}");
        }
    }
}

fn compare(keys: &[&str], stage: u8) {
    let Some(device) = card() else { return };
    let (cpu, cuda) = (
        steps(&Device::Cpu, keys, stage),
        steps(&device, keys, stage),
    );
    let name = format!("{keys:?} stage {stage}");
    let mut worst = 0.0f64;
    for (output, a) in &cpu.0 {
        let error = (a - cuda.0[output]).abs() / a.abs();
        assert!(error <= 1e-5, "{name} {output}: {error:e}");
        worst = worst.max(error);
    }
    println!("{name}: losses and LAT differ by {worst:.1e}");
    // The first moments are the gradients, up to a factor. Below the floor they are what is left of
    // larger terms that cancel.
    let moments = cpu.1.iter().filter(|(n, _)| n.starts_with("optimizer."));
    let floor = 1e-3 * moments.map(|(_, v)| largest(v)).fold(0.0, f64::max);
    assert!(floor > 0.0);
    let mut worst = (0.0f64, "");
    for (tensor, a) in &cpu.1 {
        let scale = match tensor.starts_with("optimizer.") {
            true => largest(a).max(floor),
            false => largest(a).max(1e-3),
        };
        let (a, b) = (a.to_f64(), cuda.1[tensor].to_f64());
        let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        let error = off.fold(0.0f64, f64::max) / scale;
        assert!(error <= 1e-5, "{name} {tensor}: {error:e}");
        if error > worst.0 {
            worst = (error, tensor);
        }
    }
    println!(
        "{name}: parameters and gradients by {:.1e}, {}",
        worst.0, worst.1
    );
}
