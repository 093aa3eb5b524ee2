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

/// Folders of sources and of fusions: `good` by choice, the others with a fault each. Names of two sets.
fn planted() -> World {
    let world = World::new();
    let level = |k: u32, x: u32, y: u32| match k {
        0 => 90 + ((x * 7) ^ (y * 3)) % 80 + (x / 16 + y / 16) % 2 * 20,
        _ => 90 + (x * 5 + y * y / 7) % 90,
    };
    /// The fused level of a place and both sources' levels there.
    type Rule = fn(u32, u32, u32, u32) -> u32;
    let rules: [(&str, Rule); 6] = [
        ("from_a", |_, _, a, _| a),
        ("from_b", |_, _, _, b| b),
        ("good", |x, _, a, b| if x < 36 { a } else { b }),
        ("plane", |_, _, a, b| (a + b) / 2),
        ("black", |_, _, a, b| ((a + b) / 2).saturating_sub(120)),
        ("white", |_, _, a, b| (a + b).min(255)),
    ];
    for (folder, rule) in rules {
        std::fs::create_dir(world.at(folder)).unwrap();
        for (i, name) in ["one_1", "one_2", "two_1"].into_iter().enumerate() {
            let picture = image::GrayImage::from_fn(72, 64, |x, y| {
                let at = x + 9 * i as u32;
                image::Luma([rule(x, y, level(0, at, y), level(1, at, y)) as u8])
            });
            let path = world.at(&format!("{folder}/{name}.png"));
            picture.save(path).unwrap();
        }
    }
    world
}

/// Gates of a method that are not passed, and those that are nowhere to be judged.
fn failed(judged: &Value) -> [Vec<&str>; 2] {
    let verdicts = judged["verdicts"].as_array().unwrap();
    [Value::Bool(false), Value::Null].map(|passes| {
        let of = verdicts.iter().filter(|v| v["passes"] == passes);
        of.map(|v| v["gate"].as_str().unwrap()).collect()
    })
}

#[test]
fn planted_faults_fail_their_gates() {
    let world = planted();
    let out = world.good("eval from_a from_b --method good=good --gates");
    assert!(out.contains("## gates of good: passes"), "{out}");
    assert!(
        out.contains("| border error, levels | <= 1.5 | - | - |"),
        "{out}"
    );

    let run = world.run(
        "eval from_a from_b --method plane=plane --method black=black --method white=white \
         --method good=good --method maximum --model tiny.safetensors --metrics mse --gates --out r",
    );
    assert_eq!(run.status.code(), Some(1));
    let err = text(&run.stderr);
    assert!(
        err.contains("gates failed; see the messages above"),
        "{err}"
    );
    let read = |name: &str| std::fs::read_to_string(world.at("r").join(name)).unwrap();
    let v: Value = serde_json::from_str(&read("eval.json")).unwrap();
    // The table has only what was asked for.
    assert_eq!(v["metrics"].as_array().unwrap().len(), 1);
    let by_name = |name: &str| {
        let gates = v["gates"].as_array().unwrap();
        gates.iter().find(|g| g["method"] == name).unwrap()
    };
    assert_eq!(failed(by_name("good")), [vec![], vec!["border_error"]]);
    assert_eq!(failed(by_name("plane"))[0], ["plane_r2", "tone_detail"]);
    for (method, gate) in [("black", "new_black"), ("white", "new_white_worst")] {
        let found = &failed(by_name(method))[0];
        assert!(found.contains(&gate), "no {gate} in {found:?} of {method}");
    }
    // What is fused here has a border; that of this rule depends on no neighbour.
    let border = |name: &str| &by_name(name)["verdicts"][10];
    assert_eq!(border("maximum")["value"], 0.0);
    assert_eq!(border("maximum")["passes"], true);
    assert!(border("tiny")["value"].as_f64().unwrap() > 0.0);
    assert!(border("tiny")["worst"]["value"].as_f64().unwrap() >= 1.0);
    assert!(read("gates.csv").contains("\n,black,none,new_black,0.5,"));
    assert!(read("eval.md").contains("## gates of plane: fails 2 of 10"));
    assert!(read("eval.tex").contains("plane R2"));
}

#[test]
fn gates_are_judged_for_each_set() {
    let world = planted();
    std::fs::create_dir(world.at("mixed")).unwrap();
    for (from, name) in [("good", "one_1"), ("good", "one_2"), ("plane", "two_1")] {
        let [from, to] = [from, "mixed"].map(|f| world.at(&format!("{f}/{name}.png")));
        std::fs::copy(from, to).unwrap();
    }
    let run = world.run("eval from_a from_b --method mixed=mixed --gates --sets --json");
    assert_eq!(run.status.code(), Some(1));
    let v: Value = serde_json::from_str(&text(&run.stdout)).unwrap();
    let gates = v["gates"].as_array().unwrap();
    let sets: Vec<_> = gates
        .iter()
        .map(|g| (&g["set"], &g["pictures"], &g["passes"]))
        .collect();
    assert_eq!(
        sets,
        [
            (&"one".into(), &2.into(), &true.into()),
            (&"two".into(), &1.into(), &false.into())
        ]
    );
    let run = world.run("eval from_a from_b --method mixed=mixed --gates --sets");
    let out = text(&run.stdout);
    assert!(out.contains("| one | mixed | 2 | 0.0000 |"), "{out}");
    assert!(out.contains("| fails 2 of 10 |"), "{out}");

    let run = world.run("eval from_a from_b --method mixed=mixed --sets");
    assert_eq!(run.status.code(), Some(2), "{}", text(&run.stderr));

    // Both are said: what could not be judged, and the gates.
    std::fs::remove_file(world.at("mixed/one_2.png")).unwrap();
    let run = world.run("eval from_a from_b --method mixed=mixed --gates --sets");
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{err}");
    assert!(
        err.contains("gates failed") && err.contains("1 of 3 pictures failed"),
        "{err}"
    );
}
