//! `hafuse eval`: folders and models judged side by side.

use super::world::{World, text};
use serde_json::Value;

#[test]
fn folders_and_models_are_judged_side_by_side() {
    let world = World::new();
    world.good("fuse ir vi -o fused --model tiny.safetensors");
    let said = world.good(
        "eval ir vi --method files=fused --method visible=vi --model tiny.safetensors --metrics paper --out r",
    );
    assert!(
        said.contains("| files |")
            && said.contains("convention: Evaluation-for-Image-Fusion before March 2023"),
        "{said}"
    );
    let v: Value =
        serde_json::from_str(&std::fs::read_to_string(world.at("r/eval.json")).unwrap()).unwrap();
    let mean = |i: usize, m: &str| v["methods"][i]["metrics"][m]["mean"].as_f64();
    // A picture fused on the fly is judged as the file would be; colour costs a level at most.
    for m in ["sd_u8sat", "cc"] {
        let (file, fly) = (mean(0, m).unwrap(), mean(2, m).unwrap());
        assert!((file - fly).abs() < 0.02 * file.abs(), "{m}: {file} {fly}");
    }
    // The model has one name everywhere.
    let info: Value =
        serde_json::from_str(&world.good("info --model tiny.safetensors --json")).unwrap();
    let origin = v["methods"][2]["origin"].as_str().unwrap();
    assert!(
        origin.contains(info["model"]["hash"].as_str().unwrap()),
        "{origin}"
    );
    // Too small for VIF: no value, said below the table.
    assert_eq!(v["methods"][0]["metrics"]["vif_u8sat"], Value::Null);
    assert!(said.contains("pixels are too few"), "{said}");
    let csv = std::fs::read_to_string(world.at("r/eval.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 3 * 4);
    for file in ["eval.md", "eval.tex"] {
        assert!(world.at("r").join(file).exists());
    }
    let list = world.good("eval --list");
    assert!(
        list.contains("vif_u8sat") && list.contains("qabf"),
        "{list}"
    );
}

#[test]
fn what_is_missing_is_named_and_the_rest_judged() {
    let world = World::new();
    world.good("fuse ir vi -o fused --model tiny.safetensors");
    std::fs::remove_file(world.at("fused/2.png")).unwrap();
    std::fs::copy(world.at("cut.png"), world.at("fused/3.png")).unwrap();
    let run = world.run("eval ir vi --method files=fused --json");
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{err}");
    assert!(err.contains("files has no picture of 2 in fused"), "{err}");
    assert!(err.contains("files, 3: "), "{err}");
    let v: Value = serde_json::from_str(&text(&run.stdout)).unwrap();
    assert_eq!(v["methods"][0]["pictures"].as_array().unwrap().len(), 2);

    for (line, what) in [
        ("eval ir vi", "nothing to judge"),
        ("eval ir vi --method fused", "is neither NAME=DIR"),
        ("eval ir vi --method a=fused --method a=vi", "two methods"),
        (
            "eval ir vi --model a=tiny.safetensors --model a=ivif",
            "--model NAME=FILE",
        ),
        (
            "eval ir vi --method gff --device cuda:9",
            "gff runs on the CPU only",
        ),
        (
            "eval ir vi --model ivif --metrics en,sharpness",
            "sharpness",
        ),
    ] {
        let run = world.run(line);
        let err = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{line}: {err}");
        assert!(err.contains(what), "{line}: {err}");
    }
}

#[test]
fn sources_without_a_partner_are_counted_as_scenes() {
    let world = World::new();
    for i in 2..=4 {
        std::fs::remove_file(world.at(&format!("vi/{i}.png"))).unwrap();
    }
    let run = world.run("eval ir vi --method gff --method average --metrics en --out r");
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{err}");
    let alone = "no partner for 3 of the pictures in ir: 2.png, 3.png, 4.png";
    assert!(err.contains(alone), "{err}");
    assert!(err.contains("6 of 8 pictures failed"), "{err}");
    // What is missing is said in every file for people.
    for file in ["eval.md", "eval.tex"] {
        let report = std::fs::read_to_string(world.at("r").join(file)).unwrap();
        assert!(report.contains(alone), "{report}");
    }
}

#[test]
fn models_get_names_and_sources_can_be_methods() {
    let world = World::new();
    std::fs::create_dir(world.at("lr=1")).unwrap();
    std::fs::copy(world.at("tiny.safetensors"), world.at("lr=1/m.safetensors")).unwrap();
    let json = world.good(
        "eval ir vi --model old=tiny.safetensors --model lr=1/m.safetensors --method infrared=ir \
         --method visible=vi --metrics mse --json",
    );
    let v: Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&str> = { v["methods"].as_array().unwrap().iter() }
        .map(|m| m["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["infrared", "visible", "old", "tiny"]);
    assert!(
        v["methods"][2]["origin"]
            .as_str()
            .unwrap()
            .contains("model tiny")
    );
    let run = world.run("eval ir vi --method other=right --metrics mse");
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{err}");
    assert!(
        err.contains("name each fused picture as its source"),
        "{err}"
    );
}

#[test]
fn a_rule_stands_beside_a_model_on_a_card() {
    let world = World::new();
    // No machine has so many cards: that is the model's matter.
    let run = world.run("eval ir vi --method gff --model tiny.safetensors --device cuda:99");
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(5), "{err}");
    assert!(!err.contains("gff"), "{err}");
}
