//! Runs in a folder: stopped, killed and resumed.

use super::world::{World, text};
use hafuse::tensor::io::{self, TensorMap};
use hafuse::train::{Checkpoint, Progress};
use serde_json::Value;
use std::path::Path;

/// 4 pairs in batches of 2 are 2 steps an epoch: 60 + 200 steps.
const RUN: &str = "--set genotype=tiny.json --a ir --b vi --perceptual none --set patch=16 \
                   --set batch=2 --set stage1.epochs=30 --set stage2.epochs=100 \
                   --set checkpoint_every=7 --set preview_every=50 --set log_every=5";

/// What two equal runs share: trained weights, state, and the metrics without speeds.
fn outcome(dir: &Path) -> (TensorMap, TensorMap, Vec<Value>) {
    let model = io::load(&dir.join("model.safetensors")).unwrap().0;
    let state = Checkpoint::<Progress>::load(&dir.join("checkpoint.safetensors"))
        .unwrap()
        .tensors;
    let metrics = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|l| {
        let mut line: Value = serde_json::from_str(l).unwrap();
        assert!(line["images_per_s"].as_f64() > Some(0.0));
        line["images_per_s"] = Value::Null;
        line
    });
    (model, state, lines.collect())
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let world = World::new();
    let said = world.good(&format!("train {RUN} --out whole"));
    assert_eq!(
        said.trim(),
        "trained: hafuse fuse A B -o OUT --model whole/model.safetensors"
    );

    let at = |stage| {
        move |p: &Path| Checkpoint::<Progress>::load(p).is_ok_and(|c| c.progress.stage >= stage)
    };
    world.kill(&format!("train {RUN} --out killed"), "killed", at(1));
    let resume = "train killed/config.toml --resume";
    world.kill(resume, "killed", at(2));
    world.good(resume);

    let (whole, killed) = (outcome(&world.at("whole")), outcome(&world.at("killed")));
    assert!(whole.0 == killed.0, "trained weights differ");
    assert!(whole.1 == killed.1, "optimiser state differs");
    assert_eq!(whole.2, killed.2);
    assert_eq!(whole.2.len(), 60 / 5 + 200 / 5);
    assert!(
        whole.1.len() == 3 * whole.0.len(),
        "weights and two moments"
    );

    // The model is fit for use, and the previews show three pairs in seven columns.
    world.good("fuse ir/1.png vi/1.png -o f.png --model killed/model.safetensors");
    let sheet = image::open(world.at("killed/preview/stage2_step000200.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (7 * 52 - 4, 3 * 35 - 4));
    // Resuming what is finished changes nothing.
    world.good(resume);
    assert!(outcome(&world.at("killed")) == whole);
}

#[test]
fn a_stopped_run_is_not_overwritten_or_resumed_differently() {
    let world = World::new();
    let args = format!("train {RUN} --out run --set stage1.epochs=6 --set stage2.epochs=6");
    let fails = |args: &str, code: i32, fragments: &[&str]| {
        let output = world.run(args);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args}\n{err}");
        let errors: Vec<&str> = err.lines().filter(|l| l.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "{err}");
        for f in fragments {
            assert!(errors[0].contains(f), "no `{f}` in {err}");
        }
    };
    let config = "hafuse train run/config.toml --resume";
    fails(
        &format!("{args} --stop-after 15"),
        6,
        &["stage 2, step 3 of 12", config],
    );
    let before = world.files();
    fails(&args, 2, &["run already holds a run", "--resume", "--out"]);
    fails(
        &format!("{args} --resume --seed 2"),
        2,
        &["`seed = 2` here but `seed = 1`", "run/config.toml"],
    );
    fails(&format!("{args} --resume --set batch=1"), 2, &["batch = 1"]);
    assert_eq!(world.files(), before);
    world.good(&format!("{args} --resume"));

    world.good(&args.replace("--out run", "--out whole"));
    assert!(outcome(&world.at("run")) == outcome(&world.at("whole")));

    // Weights of a checkpoint or a model are a start for another run.
    for init in ["run/checkpoint.safetensors", "run/model.safetensors"] {
        let again = args.replace("--out run", &format!("--out again --set init={init}"));
        fails(
            &format!("{again} --stop-after 1"),
            6,
            &["stage 1, step 1 of 12"],
        );
        std::fs::remove_dir_all(world.at("again")).unwrap();
    }
}

#[test]
fn the_configuration_is_printed() {
    let world = World::new();
    let defaults = world.good("train --print-config");
    assert!(defaults.contains("# Where checkpoints"));
    std::fs::write(world.at("all.toml"), &defaults).unwrap();
    let set = world.good("train all.toml --set stage1.lr=1e-3 --a here --seed 9 --print-config");
    for part in ["a = \"here\"", "seed = 9", "lr = 0.001"] {
        assert!(set.contains(part), "{set}");
    }
    std::fs::write(world.at("set.toml"), &set).unwrap();
    assert_eq!(world.good("train set.toml --print-config"), set);
}

#[test]
fn weights_of_a_checkpoint_come_without_its_optimiser() {
    let world = World::new();
    let stopped = world.run(&format!("train {RUN} --out part --stop-after 9"));
    assert_eq!(stopped.status.code(), Some(6), "{}", text(&stopped.stderr));
    let whole = io::load(&world.at("part/checkpoint.safetensors"))
        .unwrap()
        .0;
    let mut weights = whole.clone();
    weights.retain(|name, _| !name.starts_with("optimizer."));
    assert!(weights.len() < whole.len());
    io::save(
        &world.at("weights.safetensors"),
        &weights,
        &Default::default(),
    )
    .unwrap();
    let mut ends = Vec::new();
    for init in ["part/checkpoint.safetensors", "weights.safetensors"] {
        let line = format!("train {RUN} --set init={init} --out after --set stage2.epochs=1");
        world.good(&line);
        ends.push(io::load(&world.at("after/model.safetensors")).unwrap().0);
        std::fs::remove_dir_all(world.at("after")).unwrap();
    }
    assert!(ends[0] == ends[1], "the optimiser's state came along");
}
