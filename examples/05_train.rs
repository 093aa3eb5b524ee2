//! Trains a tiny network for a few seconds on two pairs held in memory, and prints the loss.
//! It is then saved as a model file in the temporary folder of the system, and fuses a pair.
//!
//!     cargo run --example 05_train    (in the root of the repository)

use hafuse::data::Pair;
use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::infer::DEFAULT_MODEL;
use hafuse::train::{TrainConfig, TrainEvent, Trainer};
use hafuse::{Device, Fuser, Model, Result};

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
    // The cells of the default model with 4 channels in place of 16.
    let mut genotype = Model::builtin(DEFAULT_MODEL)?.genotype;
    genotype.channels = 4;
    // All else is as `hafuse train` has it; `perceptual=vgg` would need a feature network.
    let keys = [
        "perceptual=none",
        "patch=24",
        "data.patches_per_pair=8",
        "data.validation=0",
        "stage1.epochs=20",
        "stage1.lr=0.005",
        "stage2.epochs=60",
        "stage2.lr=0.005",
    ];
    let config = TrainConfig::load(None, &keys.map(String::from))?;
    let mut trainer = Trainer::new(config, genotype.clone(), None, data, None, &Device::Cpu)?;
    let mut sum = 0.0;
    trainer.run(|event| {
        if let TrainEvent::Step(r) = event {
            sum += r.total;
            if r.step.is_multiple_of(20) {
                let mean = std::mem::take(&mut sum) / 20.0;
                println!("stage {}, step {:>3}: loss {mean:.4}", r.stage, r.step);
            }
        }
        Ok(())
    })?;

    let model = Model {
        name: "tiny".into(),
        genotype,
        about: "an example".into(),
        weights: trainer.weights()?,
    };
    let path = std::env::temp_dir().join("hafuse_tiny.safetensors");
    model.save(&path, false)?; // f32; `true` would store f16
    let mut fuser = Fuser::builder().model(path.to_string_lossy()).build()?;
    let [a, b] = ["samples/street_1_ir.png", "samples/street_1_vi.png"];
    let fused = fuser.fuse_files(a, b)?;
    fused.save(path.with_extension("png"))?;
    println!("{}, and a picture beside it", path.display());
    Ok(())
}
