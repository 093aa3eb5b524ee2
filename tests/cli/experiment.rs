//! `hafuse experiment`: tables from searches, trainings and measurements, each done once.

use super::world::{World, colour, grey, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

/// A laboratory so small that a search takes a second. The test pairs are the training pairs.
const LAB: &str = r#"
out = "lab"
seeds = [1]
perceptual = "none"
[ivif]
train_a = "ir"
train_b = "vi"
test_a = "ir"
test_b = "vi"
[mif]
train_a = "ir"
train_b = "vi"
test_a = "ir"
test_b = "vi"
[search]
patch = 16
batch = 2
space = {channels = 4, cells = 1, blocks = 1}
epochs = {n = 2, m = 1, t = 1, s = 1}
latency = {width = 24, height = 16, runs = 1}
[train]
patch = 16
batch = 2
stage1.epochs = 1
stage2.epochs = 1
[measure]
width = 24
height = 16
runs = 1
[table3]
lambdas = [0.0, 0.2]
[table2]
models = ["tiny.safetensors"]
[latency]
networks = 3
[target]
ms = [100.0]
"#;

fn lab() -> World {
    let world = World::new();
    std::fs::write(world.at("lab.toml"), LAB).unwrap();
    world
}

fn result(world: &World, name: &str) -> Value {
    let text = std::fs::read_to_string(world.at(&format!("lab/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_tables_share_what_was_searched_and_trained() {
    let world = lab();
    let said = world.good("experiment table3 --config lab.toml");
    assert!(
        said.contains("| lambda 0.2 |") && said.contains("C = 4"),
        "{said}"
    );
    let table = result(&world, "table3");
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let run = &row["runs"][0];
        assert!(run["time"]["median_ms"].as_f64().unwrap() > 0.0);
        assert!(run["metrics"]["sd_u8sat"]["mean"].as_f64().unwrap() > 0.0);
        assert!(run["predicted_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(run["scores"]["pairs"].as_array().unwrap().len(), 4);
    }
    assert!(
        table["scale"]
            .as_str()
            .unwrap()
            .contains("the paper: C = 32")
    );

    // A second call measures times again and does nothing else again.
    let again = world.run("experiment table3 --config lab.toml");
    let err = text(&again.stderr);
    assert_eq!(err.matches("done before").count(), 4, "{err}");
    let scores = |t: &Value| t["rows"][1]["runs"][0]["scores"].clone();
    assert_eq!(scores(&result(&world, "table3")), scores(&table));

    // The search and the training of the configured lambda serve the others.
    let set = "--set search.latency.lambda=0.2";
    let run = world.run(&format!("experiment table2 --config lab.toml {set}"));
    let err = text(&run.stderr);
    assert_eq!(err.matches("done before").count(), 2, "{err}");
    let names = |t: &Value| -> Vec<String> {
        let rows = t["rows"].as_array().unwrap().iter();
        rows.map(|r| r["name"].as_str().unwrap().to_string())
            .collect()
    };
    let t = result(&world, "table2");
    assert_eq!(
        names(&t),
        ["searched F", "searched F+O", "tiny F", "tiny F+O"]
    );
    world.good("experiment table1 --config lab.toml");
    let table1 = result(&world, "table1");
    assert_eq!(names(&table1), ["tiny F", "tiny F+O"]);
    let en = |i: usize| table1["rows"][i]["runs"][0]["metrics"]["en"]["mean"].clone();
    assert_ne!(
        en(0),
        en(1),
        "the parts of a network give pictures of their own"
    );
    let params = |i: usize| t["rows"][i]["runs"][0]["size"]["params"].as_u64().unwrap();
    assert!(params(0) < params(1));

    world.good(&format!("experiment table4 --config lab.toml {set}"));
    assert_eq!(
        result(&world, "table4")["rows"].as_array().unwrap().len(),
        3
    );
    world.good(&format!(
        "experiment fig4 --config lab.toml {set} --set fig4.operators=['3-RB']"
    ));
    let fig4 = result(&world, "fig4");
    assert_eq!(names(&fig4), ["as it is", "3-RB"]);
    assert_eq!(
        fig4["rows"][1]["runs"][0]["genotype"]["target"]["blocks"],
        serde_json::json!(["3-RB"])
    );
    let svg = std::fs::read_to_string(world.at("lab/fig4.svg")).unwrap();
    assert!(svg.contains("3-RB") && !svg.contains("NaN"));

    // Other pictures under the same names are judged anew.
    grey(&world.at("ir/1.png"), 40, 31);
    colour(&world.at("vi/1.png"), 40, 31);
    world.good("experiment table3 --config lab.toml");
    let (before, after) = (scores(&table), scores(&result(&world, "table3")));
    assert_ne!(before["hash"], after["hash"]);
    assert_ne!(
        before["values"]["sd_u8sat"][0],
        after["values"]["sd_u8sat"][0]
    );
    assert_eq!(
        before["values"]["sd_u8sat"][1],
        after["values"]["sd_u8sat"][1]
    );

    // A finished search for another device is not taken for one of this.
    let path = world.at("lab/searches/ivif-collaborative-lambda0.2-seed1/latency.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    let mut orin: Value = serde_json::from_str(&whole).unwrap();
    orin["device"] = "cuda:0 (Orin)".into();
    std::fs::write(&path, orin.to_string()).unwrap();
    let run = world.run("experiment table3 --config lab.toml");
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{err}");
    for part in [
        "lambda0.2-seed1 holds",
        "cuda:0 (Orin) in f32",
        "runs on cpu (",
    ] {
        assert!(err.contains(part), "{err}");
    }
    std::fs::write(&path, whole).unwrap();

    // A finished search under another configuration is not taken for this one.
    let other = "experiment table3 --config lab.toml --set search.epochs.n=4";
    let run = world.run(other);
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{err}");
    assert!(err.contains("name another folder with --out"), "{err}");
}

#[test]
fn both_strategies_and_both_tasks_are_searched() {
    let world = lab();
    // Two seeds, wider networks than were searched, and another loss for one task.
    let set = "--set seeds=[1,2] --set channels=6 --set mif.train.loss.object.edges=60.0";
    let said = world.good(&format!("experiment fig3 --config lab.toml {set}"));
    assert!(said.contains(" ± ") && said.contains("C = 6"), "{said}");
    let t = result(&world, "fig3");
    assert_eq!(t["rows"].as_array().unwrap().len(), 4);
    for row in t["rows"].as_array().unwrap() {
        let heatmaps = row["heatmaps"].as_str().unwrap().split(' ');
        let there = heatmaps.filter(|name| world.at("lab").join(name).exists());
        assert_eq!(there.count(), 2);
        let seeds: Vec<_> = row["runs"].as_array().unwrap().iter().collect();
        assert_eq!(seeds.len(), 2);
        for (run, seed) in seeds.into_iter().zip(1..) {
            assert_eq!(run["seed"], seed);
            assert_eq!(run["genotype"]["channels"], 6);
        }
    }
    let agreement = world.at("lab/agreement-mif-naive-lambda0.02.md");
    let agreement = std::fs::read_to_string(agreement).unwrap();
    assert!(agreement.contains("| ffm.cell0 |") && agreement.contains("seed 2: best / second, t"));
    let edges = |task: &str| {
        let config = format!("lab/models/{task}-naive-lambda0.02-seed2-c6/config.toml");
        let config = std::fs::read_to_string(world.at(&config)).unwrap();
        config.matches("\nedges = 60.0").count()
    };
    assert_eq!((edges("ivif"), edges("mif")), (0, 1));
    // The medical search was done by fig3.
    let run = world.run(&format!("experiment fig5 --config lab.toml {set}"));
    let err = text(&run.stderr);
    assert_eq!(err.matches("done before").count(), 4, "{err}");
    let t = result(&world, "fig5");
    assert!(
        t["rows"][0]["runs"][0]["metrics"]["en"]["variance"]
            .as_f64()
            .unwrap()
            >= 0.0
    );
}

/// Models and genotypes of all trainings and searches, by folder.
fn outcomes(world: &World, out: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for (kind, file) in [
        ("models", "model.safetensors"),
        ("searches", "genotype.json"),
    ] {
        for folder in std::fs::read_dir(world.at(&format!("{out}/{kind}"))).unwrap() {
            let path = folder.unwrap().path();
            let bytes = std::fs::read(path.join(file)).unwrap();
            found.insert(
                format!("{kind}/{}", path.file_name().unwrap().display()),
                bytes,
            );
        }
    }
    found
}

#[test]
fn all_experiments_killed_and_stopped_again_and_again_end_with_the_same_bits() {
    let world = lab();
    let run = "experiment all --config lab.toml \
               --set fig4.operators=['3-RB'] --set table3.lambdas=[0.2] --set search.latency.lambda=0.2";
    // A table that is measured anew would charge otherwise.
    world.good("bench ops --device cpu --size 24x16 --channels 4 --runs 1 --json t.json");
    let again = format!("{run} --set search.latency.table=t.json");
    let said = world.good(&format!("{again} --out once"));
    assert!(said.contains("written: once/terms.md"), "{said}");
    let mut stops = 0;
    loop {
        let ran = world.run(&format!("{again} --out often --budget 1s"));
        let err = text(&ran.stderr);
        match ran.status.code() {
            Some(0) => break,
            code => assert_eq!(code, Some(6), "{err}"),
        }
        assert!(err.contains("as --budget asks"), "{err}");
        stops += 1;
        assert!(stops < 100, "it goes on");
        // Then killed five times, at times that fall anywhere.
        for k in 0..if stops == 1 { 5 } else { 0 } {
            let mut child = world
                .command(&format!("{again} --out often"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(150 + 397 * k));
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    assert!(stops > 0, "so fast that nothing was stopped");
    let (once, often) = (outcomes(&world, "once"), outcomes(&world, "often"));
    assert!(
        once.len() > 15 && once == often,
        "{:?} {:?}",
        once.keys(),
        often.keys()
    );
}

#[test]
fn predictions_are_compared_with_times_without_any_picture() {
    let world = lab();
    let said = world.good("experiment latency --config lab.toml --set ivif.train_a=''");
    assert!(said.contains("Spearman"), "{said}");
    assert_eq!(
        result(&world, "latency")["rows"].as_array().unwrap().len(),
        3
    );
    assert!(world.at("lab/latency.svg").exists());
    // The numbers of all rows follow from the rows.
    let t = result(&world, "latency");
    let rows = t["rows"].as_array().unwrap();
    let pairs: Vec<(f64, f64)> = rows
        .iter()
        .map(|r| {
            let predicted = r["runs"][0]["predicted_ms"].as_f64().unwrap();
            (
                predicted,
                r["runs"][0]["time"]["median_ms"].as_f64().unwrap(),
            )
        })
        .collect();
    // Of three without ties: 1 - (sum of squared differences of ranks) / 4.
    let rank = |of: fn(&(f64, f64)) -> f64, i: usize| {
        pairs.iter().filter(|p| of(p) < of(&pairs[i])).count() as f64
    };
    let squares = (0..3).map(|i| (rank(|p| p.0, i) - rank(|p| p.1, i)).powi(2));
    let rho = 1.0 - squares.sum::<f64>() / 4.0;
    assert!((t["spearman"].as_f64().unwrap() - rho).abs() < 1e-9, "{t}");
    let errors = pairs.iter().map(|(p, m)| 100.0 * (p / m - 1.0));
    let errors: Vec<f64> = errors.collect();
    let absolute: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
    // Errors are rounded to a tenth.
    let fastest = pairs.iter().fold(f64::INFINITY, |least, p| least.min(p.1));
    let slack = 0.06 + 100.0 * 0.0006 / fastest;
    for (name, values) in [
        ("mean_error_percent", &errors),
        ("mean_absolute_error_percent", &absolute),
    ] {
        let mean = values.iter().sum::<f64>() / 3.0;
        let off = (t[name].as_f64().unwrap() - mean).abs();
        assert!(off < slack, "{name}: {t}");
    }
    for (row, error) in rows.iter().zip(&errors) {
        let off = (row["error (%)"].as_f64().unwrap() - error).abs();
        assert!(off < slack, "{row}");
    }

    // A table of another size predicts an order, not times.
    let set = "--set measure.width=32";
    let said = world.good(&format!("experiment latency --config lab.toml {set}"));
    assert!(
        said.contains("no errors, as the table's size is 24x16 and that of the times 32x16"),
        "{said}"
    );
    let t = result(&world, "latency");
    assert!(t["spearman"].is_number() && t.get("mean_error_percent").is_none());
    assert!(!said.contains("error (%)") && t["rows"][0].get("error (%)").is_none());

    // Networks that are all predicted alike have no order.
    world.good("bench ops --device cpu --size 24x16 --channels 4 --runs 1 --json t.json");
    let table = std::fs::read_to_string(world.at("t.json")).unwrap();
    let mut table: Value = serde_json::from_str(&table).unwrap();
    for entry in table["entries"].as_array_mut().unwrap() {
        entry["median_ms"] = 0.0.into();
    }
    std::fs::write(world.at("t.json"), table.to_string()).unwrap();
    let set = "--set search.latency.table=t.json";
    let said = world.good(&format!("experiment latency --config lab.toml {set}"));
    assert!(said.contains("measured time undefined"), "{said}");
    assert!(said.contains("mean error -100.0 %"), "{said}");
    assert!(result(&world, "latency")["spearman"].is_null());

    let large = "--set measure.width=65536 --set measure.height=65536 --set latency.networks=40";
    let run = world.run(&format!("experiment latency --config lab.toml {large}"));
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{err}");
    for part in [
        "measure: 40 networks",
        "are free",
        "measure.width",
        "latency.networks",
    ] {
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn what_lacks_is_named_before_anything_runs() {
    let world = lab();
    for (line, code, what) in [
        (
            "table3 --set ivif.test_a=''",
            2,
            "ivif.test_a: names no folder",
        ),
        ("table3 --set search.seed=2", 2, "search.seed"),
        ("table3 --set search.space.chanels=2", 2, "chanels"),
        ("table3 --perceptual vgg", 2, "--features FILE"),
        ("fig4 --set genotype=nothing", 2, "neither a genotype file"),
        ("table4 --set genotype=no.json", 3, "no.json"),
        (
            "table3 --set ivif.test_a=no",
            3,
            "cannot read no: no such folder",
        ),
        (
            "table3 --set ivif.test_a=left --set ivif.test_b=right",
            3,
            "no name here (x1.png)",
        ),
        (
            "fig3 --set mif.train_b=void",
            3,
            "cannot read void: no pictures",
        ),
        (
            "table2 --set table2.models=['no.safetensors']",
            3,
            "cannot read no.safetensors: no such file",
        ),
    ] {
        let run = world.run(&format!("experiment {line} --config lab.toml"));
        let err = text(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{line}: {err}");
        assert!(err.contains(what), "{line}: {err}");
        assert!(!world.at("lab").exists(), "{line}");
    }
}
