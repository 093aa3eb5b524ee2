//! One fuse of 620 x 448 with each built-in model, and one training step.
//!
//! `cargo bench --bench network --features criterion`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::infer::{BUILTIN, Engine, Model};
use hafuse::train::{TrainConfig, TrainEvent, Trainer};
use hafuse::{Error, Result};

fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        })
        .collect()
}

fn fuse(c: &mut Criterion) {
    let (h, w) = (448, 620);
    let (a, b) = (noise(h * w, 1), noise(h * w, 2));
    let mut group = c.benchmark_group("fuse 620x448");
    group.sample_size(10);
    for (name, _) in BUILTIN {
        let model = Model::builtin(name).expect("built-in models load");
        let mut engine = Engine::new(&model).expect("the model fits");
        group.bench_function(*name, |bench| {
            bench.iter(|| engine.fuse(h, w, &a, &b).expect("fuses"));
        });
    }
    group.finish();
}

/// Steps of stage 2 without a feature network, timed by the trainer's own loop.
fn train(c: &mut Criterion) {
    let mut group = c.benchmark_group("train, batch of 8 patches 64x64, no feature network");
    group.sample_size(10);
    group.throughput(Throughput::Elements(8));
    group.bench_function("ivif, stage 2", |bench| {
        bench.iter_custom(|steps| run_steps(steps).expect("trains"));
    });
    group.finish();
}

fn run_steps(steps: u64) -> Result<std::time::Duration> {
    let keys = [
        "perceptual=none",
        "stage1.epochs=0",
        "stage2.epochs=1000000",
        "seed=3",
    ];
    let config = TrainConfig::load(None, &keys.map(String::from))?;
    let scene = Scene {
        name: "noise".into(),
        width: 96,
        height: 96,
        a: noise(96 * 96, 3),
        b: noise(96 * 96, 4),
    };
    let data = PairDataset::from_scenes(vec![scene])?;
    let genotype = Model::builtin("ivif")?.genotype;
    let mut trainer = Trainer::new(config, genotype, None, data, None, &Device::Cpu)?;
    // The first step plans memory and is not counted.
    let mut start = None;
    let mut elapsed = std::time::Duration::ZERO;
    let result = trainer.run(|event| {
        if let TrainEvent::Step(report) = event {
            let begin = *start.get_or_insert_with(std::time::Instant::now);
            if report.step == steps + 1 {
                elapsed = begin.elapsed();
                return Err(Error::Stopped("measured".into()));
            }
        }
        Ok(())
    });
    match result {
        Err(Error::Stopped(_)) => Ok(elapsed),
        other => other.map(|()| elapsed),
    }
}

criterion_group!(benches, fuse, train);
criterion_main!(benches);
