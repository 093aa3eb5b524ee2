//! What the search decides, where it is known.

use crate::fixtures::{config, scenes, table};
use hafuse::device::Device;
use hafuse::search::{EpochReport, SearchEvent, Searcher, Verdict};

/// A supernet of one cell of one block, with two operators: the verdict, and the operator that was chosen.
fn search(seed: u64, keys: &[&str]) -> (Verdict, String) {
    let seed = format!("seed={seed}");
    let base = [
        seed.as_str(),
        "space.kinds=[\"SC\"]",
        "space.cells=1",
        "space.blocks=1",
        "epochs.n=4",
        "epochs.m=4",
        "epochs.t=0",
        "epochs.s=4",
        "epochs.warmup=6",
        "architecture.travel=8",
        "architecture.average=0",
        "architecture.fixed_patches=true",
        "weights.optimizer=adam",
        "weights.lr=0.01",
        "weights.average=2",
        "data.patches_per_pair=4",
        "latency.lambda=0",
    ];
    let keys: Vec<&str> = base.iter().chain(keys).copied().collect();
    let config = config(&keys).unwrap();
    let mut s = Searcher::new(config, table(), None, &scenes(4), None, &Device::Cpu).unwrap();
    let mut epochs: Vec<EpochReport> = Vec::new();
    s.run(|event| {
        if let SearchEvent::Epoch(epoch) = event {
            epochs.push(epoch.clone());
        }
        Ok(())
    })
    .unwrap();
    let verdict = Verdict::of(s.config(), &epochs);
    let chosen = s.genotype().unwrap().ffm[0].blocks[0].name().to_string();
    (verdict, chosen)
}

#[test]
fn try_it() {
    for ops in ["[\"5-RB\", \"CA\"]", "[\"3-RB\", \"SA\"]", "[\"3-SC\", \"5-SC\"]", "[\"5-DC\", \"CA\"]"] {
        println!("{ops}");
        for seed in 1..=6 {
            let (v, c) = search(seed, &[&format!("space.operators={ops}")]);
            let d: Vec<_> = v.decisions.iter().filter(|d| d.place.starts_with("ffm")).map(|d| (d.weights, d.t)).collect();
            println!("{seed} {c} {d:?} {:?}", v.warnings);
        }
    }
}
