//! A tiny architecture search on two pairs: few channels, few epochs, patches of 16 x 16 pixels.
//! It shows the steps and prints the cells that it found; so short a search decides nothing.
//!
//!     cargo run --example 06_search    (in the root of the repository)

use hafuse::data::Pair;
use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::search::{
    Effort, LatencyKey, LatencyTable, SearchConfig, SearchEvent, Searcher, brief,
};
use hafuse::{DType, Device, Result};

fn scene(name: &str) -> Result<Scene> {
    let path = |kind| format!("samples/{name}_{kind}.png").into();
    Scene::read(Pair {
        stem: name.to_string(),
        a: path("ir"),
        b: path("vi"),
    })
}

fn main() -> Result<()> {
    let data = PairDataset::from_scenes(vec![scene("street_1")?, scene("street_2")?])?;
    let keys = [
        "perceptual=none",
        "batch=2",
        "patch=16",
        "data.patches_per_pair=8",
        "data.scene_gap=0", // else street_1 and street_2 would be one scene, which is not split
        "space.channels=4",
        "space.cells=1",
        "space.blocks=1",
        "epochs.n=4", // rounds, of which the first 2 are for the feature-level module
        "epochs.m=2",
        "epochs.t=1",
        "epochs.s=1",
        "epochs.warmup=2",
    ];
    let config = SearchConfig::load(None, &keys.map(String::from))?;

    // What each candidate costs: measured here, for pictures of 64 x 48.
    let key = LatencyKey::here(&Device::Cpu, DType::F32, (64, 48), config.space.channels);
    let effort = Effort {
        runs: 3,
        cold: false,
    };
    let table = LatencyTable::measure(&Device::Cpu, key, effort, |_| {})?;

    let mut searcher = Searcher::new(config, table, None, &data, None, &Device::Cpu)?;
    searcher.run(|event| {
        if let SearchEvent::Epoch(e) = event {
            let val = e.val.map_or("-".into(), |v| format!("{v:.3}"));
            let (stage, phase, train) = (e.stage, format!("{:?}", e.phase), e.train);
            println!("stage {stage} {phase:<9}: training {train:.3}, validation {val}");
        }
        Ok(())
    })?;
    let genotype = searcher.genotype()?;
    for (place, cell) in genotype.cells() {
        println!("{place:<15} {}", brief(cell));
    }
    println!(
        "{:.2} ms by the table",
        searcher.table().predict(&genotype)?
    );
    // `genotype.to_json()` is what `hafuse train` takes; 05_train trains a genotype in memory.
    Ok(())
}
