//! Runs in a folder: stopped, killed and resumed.

use super::world::{World, colour, grey, text};
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

/// Two folders of each source; one scene held out by name, two by chance, one pair excluded.
#[test]
fn what_is_held_out_is_named_measured_and_resumed() {
    let world = World::new();
    for dir in ["ir2", "vi2"] {
        std::fs::create_dir(world.at(dir)).unwrap();
    }
    for name in ["x_1", "x_2", "x_200", "y_1", "y_60", "z"] {
        grey(&world.at(&format!("ir2/{name}.png")), 40, 31);
        colour(&world.at(&format!("vi2/{name}.png")), 40, 31);
    }
    let args = format!(
        "train {RUN} --a ir2 --b vi2 --set stage1.epochs=3 --set stage2.epochs=4 --set validate_every=4 \
         --set data.hold_out=[\"x_1\"] --set data.validation=0.3 --set data.exclude=[\"y_6*\"]"
    );
    world.good(&format!("{args} --out whole"));
    let listed = std::fs::read_to_string(world.at("whole/validation.txt")).unwrap();
    let names: Vec<&str> = listed.lines().filter(|l| !l.starts_with('#')).collect();
    assert!(listed.contains("# ir2 vi2\n"), "{listed}");
    assert!(names.contains(&"x_1") && names.contains(&"x_2"), "{listed}");
    assert!(names.len() == 4 && !names.contains(&"y_60"), "{listed}");
    // Five pairs are left: 3 steps an epoch.
    let (_, _, lines) = outcome_with_validation(&world.at("whole"));
    let held: Vec<&Value> = lines.iter().filter(|l| l["validation"] == true).collect();
    let at: Vec<(u64, u64)> = held
        .iter()
        .map(|l| (l["stage"].as_u64().unwrap(), l["step"].as_u64().unwrap()))
        .collect();
    assert_eq!(at, [(1, 4), (1, 8), (1, 9), (2, 4), (2, 8), (2, 12)]);
    for line in held {
        assert!(line["total"].as_f64() > Some(0.0), "{line}");
        assert!(line["terms"]["feature_ssim"].as_f64() > Some(0.0), "{line}");
    }

    let stopped = world.run(&format!("{args} --out part --stop-after 13"));
    assert_eq!(stopped.status.code(), Some(6), "{}", text(&stopped.stderr));
    world.good("train part/config.toml --resume");
    let whole = outcome_with_validation(&world.at("whole"));
    assert!(outcome_with_validation(&world.at("part")) == whole);

    // Nothing held out: no file, no lines, and pairs by name alone are scenes of their own.
    let none = "--set data.validation=0 --set stage1.epochs=1 --set stage2.epochs=0";
    world.good(&format!("train {RUN} {none} --out none"));
    assert!(!world.at("none/validation.txt").exists());

    let fails = |more: &str, fragments: &[&str]| {
        let output = world.run(&format!("{args} --out no {more}"));
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more}\n{err}");
        for f in fragments {
            assert!(err.contains(f), "no `{f}` in {err}");
        }
        assert!(!world.at("no").exists());
    };
    fails("--a left", &["data.a: 3 folders", "data.b has 2 (vi, vi2)"]);
    fails("--a ir --b vi", &["ir is named twice"]);
    let pattern = |key: &str| format!("--set data.{key}=[\"w*\"]");
    fails(
        &pattern("exclude"),
        &["data.exclude", "`w*` matches no pair"],
    );
    fails(
        &pattern("hold_out"),
        &["data.hold_out", "`w*` matches no pair"],
    );
    fails("--set data.exclude=[\"*\"]", &["leaves none of 10 pairs"]);
    fails("--set data.hold_out=[\"*\"]", &["all 9 pairs are held out"]);
    fails("--set data.balance=2", &["data.balance: must be in [0, 1]"]);
    fails("--set data.a=3", &["a folder, or a list of folders"]);
}

/// [`outcome`], with lines that have no speed.
fn outcome_with_validation(dir: &Path) -> (TensorMap, TensorMap, Vec<Value>) {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|l| {
        let mut line: Value = serde_json::from_str(l).unwrap();
        line["images_per_s"] = Value::Null;
        line
    });
    let tensors = |name: &str| io::load(&dir.join(name)).unwrap().0;
    (
        tensors("model.safetensors"),
        tensors("checkpoint.safetensors"),
        lines.collect(),
    )
}
