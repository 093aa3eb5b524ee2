//! What the tests of the search share: a small space, a made-up table, waves as pictures.

use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::net::{CellKind, FrameGene, Genotype, SearchSpace, alpha_name, beta_name};
use hafuse::search::latency::{LatencyEntry, entries};
use hafuse::search::{LatencyKey, LatencyTable, Method, SearchConfig, Searcher, Timing};
use hafuse::{DType, ParamStore, Result, Tensor};

pub const C: usize = 4;

pub const SPACE: SearchSpace = SearchSpace {
    channels: C,
    cells: 2,
    blocks: 2,
    kinds: [true; 3],
    operators: [true; 10],
    alpha_std: 0.3,
    beta_std: 0.3,
    recompute: false,
    frame: FrameGene {
        levels: false,
        border: 0,
        ends: 0.0,
    },
};

/// Every cell, and every operator but two.
pub const GENOTYPE: &str = r#"{"version": 1, "channels": 4,
  "ffm": [{"cell": "SC", "blocks": ["5-SC", "SA"]}, {"cell": "MS", "blocks": ["3-DC", "3-RB"]}],
  "target": {"cell": "DC", "blocks": ["CA", "3-DB"]}, "detail": {"cell": "MS", "blocks": ["5-DC", "3-SC"]}}"#;

/// The other two operators, in every cell.
const REST: &str = r#"{"version": 1, "channels": 4,
  "ffm": [{"cell": "DC", "blocks": ["5-RB", "5-DB"]}, {"cell": "SC", "blocks": ["5-DB", "5-RB"]}],
  "target": {"cell": "MS", "blocks": ["5-RB", "5-DB"]}, "detail": {"cell": "DC", "blocks": ["5-DB", "CA"]}}"#;

pub fn rest_genotype() -> Genotype {
    Genotype::from_json(REST).unwrap()
}

pub fn genotype() -> Genotype {
    Genotype::from_json(GENOTYPE).unwrap()
}

/// A table whose entry `i` takes `1 + i / 8` ms.
pub fn table() -> LatencyTable {
    let (width, height) = (24, 16);
    let entry = |(i, name): (usize, String)| {
        let ms = 1.0 + i as f64 / 8.0;
        let timing = Timing {
            median_ms: ms,
            low_ms: ms,
            high_ms: ms,
            runs: 1,
        };
        LatencyEntry {
            name,
            shape: Vec::new(),
            timing,
            turns: 1,
            copies: 1,
            cold: false,
            flops: 0,
            bytes: 0,
            percent: None,
            kernels: Vec::new(),
        }
    };
    let names = entries(width, height, C).into_iter().map(|e| e.name);
    LatencyTable {
        format: 1,
        key: LatencyKey {
            device: "cpu".into(),
            dtype: "f32".into(),
            width,
            height,
            channels: C,
            version: "0".into(),
        },
        method: Method::Nodes,
        entries: names.enumerate().map(entry).collect(),
    }
}

pub fn scenes(count: usize) -> PairDataset {
    let scene = |i: usize| {
        let wave = |k: usize| (0..24 * 24).map(|j| (j * k % 97) as f32 / 97.0).collect();
        Scene {
            name: format!("waves{i}"),
            width: 24,
            height: 24,
            a: wave(5 + i),
            b: wave(11 + i),
        }
    };
    PairDataset::from_scenes((0..count).map(scene).collect()).unwrap()
}

pub fn config(keys: &[&str]) -> Result<SearchConfig> {
    let base = [
        "perceptual=none",
        "patch=16",
        "batch=2",
        "space.channels=4",
        "space.blocks=1",
        "epochs.n=4",
        "epochs.m=2",
        "epochs.t=1",
        "epochs.s=2",
        "architecture.lr=0.05",
        // Algorithm 1 to the letter; what goes beyond it is asked for where it is tested.
        "epochs.warmup=0",
        "architecture.travel=0",
        "architecture.average=1",
        "architecture.fixed_patches=false",
        "architecture.estimator=relaxed",
        "weights.optimizer=sgd",
        "space.frame.border=0",
        "latency.unit=ms",
    ];
    let keys: Vec<String> = base.iter().chain(keys).map(|k| k.to_string()).collect();
    SearchConfig::load(None, &keys)
}

pub fn searcher(keys: &[&str]) -> Searcher {
    Searcher::new(
        config(keys).unwrap(),
        table(),
        None,
        &scenes(4),
        None,
        &Device::Cpu,
    )
    .unwrap()
}

/// A vector with one large entry: its softmax is 1 there and 0 elsewhere.
pub fn one_hot(n: usize, at: usize, dtype: DType) -> Tensor {
    let values = (0..n).map(|i| if i == at { 1e4 } else { 0.0 }).collect();
    Tensor::from_vec([n], values)
        .map(|t: Tensor| t.to_dtype(dtype))
        .unwrap()
}

/// Drives alpha and beta to `g`.
pub fn choose(store: &ParamStore, g: &Genotype, dtype: DType) {
    for (layer, gene) in g.cells() {
        store
            .set(&beta_name(&layer), &one_hot(3, gene.cell as usize, dtype))
            .unwrap();
        for cell in CellKind::ALL {
            for (i, &kind) in gene.blocks.iter().enumerate() {
                let name = alpha_name(&layer, cell, i);
                store
                    .set(&name, &one_hot(10, kind as usize, dtype))
                    .unwrap();
            }
        }
    }
}
