//! The training loop through the library.

use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::net::Genotype;
use hafuse::train::{TrainConfig, TrainEvent, Trainer};

fn trainer(overrides: &[&str]) -> Trainer {
    let genotype = Genotype::from_json(
        r#"{"version": 1, "channels": 4, "ffm": [{"cell": "SC", "blocks": ["3-RB"]}],
            "target": {"cell": "SC", "blocks": ["3-DC"]}, "detail": {"cell": "SC", "blocks": ["3-SC"]}}"#,
    )
    .unwrap();
    let mut keys = vec![
        "perceptual=none",
        "patch=16",
        "batch=2",
        "stage1.lr=0.01",
        "stage2.lr=0.01",
    ];
    keys.extend(overrides);
    let keys: Vec<String> = keys.into_iter().map(String::from).collect();
    let config = TrainConfig::load(None, &keys).unwrap();
    let wave = |k: usize| (0..24 * 24).map(|i| (i * k % 97) as f32 / 97.0).collect();
    let scene = Scene {
        name: "waves".into(),
        width: 24,
        height: 24,
        a: wave(5),
        b: wave(11),
    };
    let data = PairDataset::from_scenes(vec![scene]).unwrap();
    Trainer::new(config, genotype, None, data, None, &Device::Cpu).unwrap()
}

#[test]
fn both_optimisers_lower_the_loss() {
    for (optimizer, lr) in [
        ("optimizer=adam", "stage1.lr=0.01"),
        ("optimizer=sgd", "stage1.lr=0.0003"),
    ] {
        let mut losses = Vec::new();
        trainer(&[optimizer, lr, "stage1.epochs=40", "stage2.epochs=0"])
            .run(|event| {
                if let TrainEvent::Step(report) = event {
                    losses.push(report.total);
                }
                Ok(())
            })
            .unwrap();
        let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
        let (first, last) = (mean(&losses[..5]), mean(&losses[35..]));
        assert!(last < 0.9 * first, "{optimizer}: {first} -> {last}");
    }
}

/// Each stage counts its steps from 1, so its moments must begin at zero: the first Adam step of
/// stage 2 then moves every weight by about the learning rate, whatever stage 1 did.
#[test]
fn moments_begin_at_zero_in_each_stage() {
    let mut before = None;
    let mut moved = 0.0f64;
    trainer(&["stage1.epochs=30", "stage2.epochs=1", "checkpoint_every=1"])
        .run(|event| {
            if let TrainEvent::Checkpoint(t) = event {
                let now = t.weights()?["ffm.stem.weight"].to_f64();
                if t.progress().stage == 2
                    && moved == 0.0
                    && let Some(before) = &before
                {
                    let before: &Vec<f64> = before;
                    let far = now.iter().zip(before).map(|(a, b)| (a - b).abs());
                    moved = far.fold(0.0, f64::max);
                }
                before = Some(now);
            }
            Ok(())
        })
        .unwrap();
    assert!((0.0099..=0.0101).contains(&moved), "moved by {moved}");
}
