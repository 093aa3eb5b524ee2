//! What the search decides, where it is known.

use crate::fixtures::{config, table};
use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::search::{EpochReport, SearchEvent, Searcher, Verdict};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Rectangles of other levels in either picture.
fn drawn(count: usize) -> PairDataset {
    const SIDE: usize = 48;
    let scene = |i: usize| {
        let mut rng = Pcg64Mcg::seed_from_u64(i as u64);
        let (mut a, mut b) = (vec![0.3f32; SIDE * SIDE], vec![0.4f32; SIDE * SIDE]);
        for _ in 0..24 {
            let [x, y] = [0; 2].map(|_| rng.random_range(0..SIDE));
            let [w, h] = [0; 2].map(|_| rng.random_range(3..16));
            let (in_a, in_b) = (rng.random_range(0.1..0.9), rng.random_range(0.1..0.9));
            for row in y..(y + h).min(SIDE) {
                for at in row * SIDE + x..row * SIDE + (x + w).min(SIDE) {
                    (a[at], b[at]) = (in_a, in_b);
                }
            }
        }
        Scene {
            name: format!("drawn{i}"),
            width: SIDE,
            height: SIDE,
            a,
            b,
        }
    };
    PairDataset::from_scenes((0..count).map(scene).collect()).unwrap()
}

/// A supernet of one cell of one block, with two operators: the verdict, and the operator that was chosen.
fn search(seed: u64, keys: &[&str]) -> (Verdict, String) {
    let seed = format!("seed={seed}");
    let base = [
        seed.as_str(),
        "space.kinds=[\"SC\"]",
        "space.cells=1",
        "space.blocks=1",
        "patch=32",
        "epochs.n=12",
        "epochs.m=12",
        "epochs.t=0",
        "epochs.s=1",
        "epochs.warmup=6",
        "architecture.travel=8",
        "architecture.average=0",
        "architecture.fixed_patches=true",
        "architecture.estimator=sampled",
        "weights.optimizer=adam",
        "weights.lr=0.005",
        "data.patches_per_pair=4",
        "latency.lambda=0",
    ];
    let keys: Vec<&str> = base.iter().chain(keys).copied().collect();
    let config = config(&keys).unwrap();
    let mut s = Searcher::new(config, table(), None, &drawn(8), None, &Device::Cpu).unwrap();
    let mut epochs: Vec<EpochReport> = Vec::new();
    s.run(|event| {
        if let SearchEvent::Epoch(epoch) = event {
            epochs.push(epoch.clone());
        }
        Ok(())
    })
    .unwrap();
    if std::env::var("VERBOSE").is_ok() {
        for e in &epochs {
            println!(
                "{} {:.3} {:?} {:.3} {:?}",
                e.epoch,
                e.train,
                e.val,
                e.layers[0].alpha[0][0].iter().copied().fold(0.0, f64::max),
                e.gradients
                    .iter()
                    .map(|g| (
                        g.mean
                            .iter()
                            .copied()
                            .filter(|v| *v != 0.0)
                            .collect::<Vec<_>>(),
                        g.std
                            .iter()
                            .copied()
                            .filter(|v| *v != 0.0)
                            .collect::<Vec<_>>()
                    ))
                    .collect::<Vec<_>>()
            );
        }
    }
    let verdict = Verdict::of(s.config(), &epochs);
    let chosen = s.genotype().unwrap().ffm[0].blocks[0].name().to_string();
    (verdict, chosen)
}

#[test]
fn try_it() {
    for ops in [
        "[\"3-RB\", \"5-DC\"]",
        "[\"3-RB\", \"CA\"]",
        "[\"5-DB\", \"SA\"]",
    ] {
        println!("{ops}");
        for seed in 1..=6 {
            let (v, c) = search(seed, &[&format!("space.operators={ops}")]);
            let d: Vec<_> = v
                .decisions
                .iter()
                .filter(|d| d.place.starts_with("ffm"))
                .map(|d| (d.weights, d.t))
                .collect();
            println!("{seed} {c} {d:?} {:?}", v.warnings);
        }
    }
}
