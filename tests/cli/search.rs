//! `hafuse search`: from two folders to a genotype that trains and fuses.

use super::world::{World, text};
use hafuse::net::Genotype;
use hafuse::search::SearchProgress;
use hafuse::train::Checkpoint;
use serde_json::Value;
use std::path::Path;

/// 4 pairs in two halves, one step an epoch: 2 stages of 1 round of 2 epochs.
const RUN: &str = "--a ir --b vi --perceptual none --set patch=16 --set batch=2 --set space.channels=4 \
                   --set space.cells=1 --set space.blocks=1 --set epochs.n=2 --set epochs.m=1 --set epochs.t=1 \
                   --set epochs.s=1 --set epochs.warmup=0 --set latency.width=24 --set latency.height=16 --set latency.runs=1";

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[test]
fn a_search_ends_in_a_network_that_trains_and_fuses() {
    let world = World::new();
    let said = world.good(&format!("search {RUN} --out s --lambda 0.5"));
    assert!(
        said.contains("train it: hafuse train --genotype s/genotype.json"),
        "{said}"
    );
    let record = json(&world.at("s/search.json"));
    let genotype = Genotype::load(&world.at("s/genotype.json")).unwrap();
    assert_eq!(record["genotype"], serde_json::to_value(&genotype).unwrap());
    assert_eq!(record["lambda"], 0.5);
    assert_eq!(record["layers"].as_array().unwrap().len(), 3);
    assert_eq!(record["inner_epochs"], serde_json::json!([2, 2]));
    let names = |half: &str| record["data"][half].as_array().unwrap().len();
    assert_eq!((names("train"), names("val")), (2, 2));
    // Of each of three layers its cell and its one block.
    assert_eq!(record["decisions"].as_array().unwrap().len(), 3 * 2);
    let gap = |kind: &str| record["discretisation"][kind].as_f64().unwrap();
    assert!(gap("supernet") > 0.0 && gap("derived") > 0.0 && gap("supernet") != gap("derived"));
    let lat = |kind: &str| record["lat_ms"][kind].as_f64().unwrap();
    assert!(0.0 < lat("chosen") && lat("chosen") < lat("whole_network"));
    let metrics = lines(&world.at("s/metrics.jsonl"));
    let phases: Vec<&str> = metrics
        .iter()
        .map(|l| l["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["cells", "operators", "cells", "operators"]);

    // What was measured once is not measured again, and a table can be named.
    let again = world.run(&format!("search {RUN} --out again --stop-after 1"));
    let err = text(&again.stderr);
    assert_eq!(again.status.code(), Some(6), "{err}");
    assert!(
        err.contains("latency table: ") && !err.contains("measuring"),
        "{err}"
    );
    let table = |out: &str| std::fs::read(world.at(out).join("latency.json")).unwrap();
    assert!(err.contains("(1 timed runs"), "{err}");
    assert!(table("s") == table("again"));

    // Stopped and resumed, it ends with the same bits.
    let stopped = world.run(&format!("search {RUN} --out r --lambda 0.5 --stop-after 3"));
    let err = text(&stopped.stderr);
    assert!(
        err.contains("stage 2, inner epoch 1 of 2")
            && err.contains("hafuse search r/config.toml --resume"),
        "{err}"
    );
    world.good("search r/config.toml --resume");
    let model = |out: &str| std::fs::read(world.at(out).join("model.safetensors")).unwrap();
    assert!(model("s") == model("r"));
    assert_eq!(lines(&world.at("r/metrics.jsonl")), metrics);

    world.good("fuse ir/1.png vi/1.png -o f.png --model s/model.safetensors");
    world.good(
        "train --genotype s/genotype.json --a ir --b vi --perceptual none --set patch=16 --set batch=2 \
         --set stage1.epochs=1 --set stage2.epochs=1 --set init=s/model.safetensors --out trained",
    );
    world.good("fuse ir/1.png vi/1.png -o g.png --model trained/model.safetensors");

    // With more runs than the cached table has it is measured again, and by other threads.
    let again = world.run(&format!(
        "search {RUN} --set latency.runs=2 --out runs --stop-after 1"
    ));
    let err = text(&again.stderr);
    assert!(err.contains("measuring"), "{err}");
    assert_eq!(
        json(&world.at("runs/latency.json"))["entries"][0]["runs"],
        2
    );
    let threads = json(&world.at("s/latency.json"))["device"].to_string();
    let threads = if threads.contains(", 3 threads") {
        2
    } else {
        3
    };
    let again = world.run(&format!(
        "--threads {threads} search {RUN} --out threads --stop-after 1"
    ));
    let err = text(&again.stderr);
    assert!(err.contains("measuring"), "{err}");
}

#[test]
fn seeds_are_searched_one_by_one_and_compared() {
    let world = World::new();
    let said = world.good(&format!("search {RUN} --out s --seeds 2"));
    assert!(said.contains("| ffm.cell0 block 0 | "), "{said}");
    let agreement = json(&world.at("s/agreement.json"));
    assert_eq!(agreement["seeds"], serde_json::json!([1, 2]));
    assert_eq!(agreement["places"].as_array().unwrap().len(), 6);
    let genotype = |seed: u64| std::fs::read(world.at(&format!("s/seed{seed}/genotype.json")));
    assert!(genotype(1).is_ok() && genotype(2).is_ok());

    // What has ended is not searched again, and what is there is not taken for another search.
    let log = |seed: u64| std::fs::metadata(world.at(&format!("s/seed{seed}/metrics.jsonl")));
    let before = log(1).unwrap().modified().unwrap();
    std::fs::remove_file(world.at("s/seed2/genotype.json")).unwrap();
    let again = world.run(&format!("search {RUN} --out s --seeds 2"));
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(log(1).unwrap().modified().unwrap(), before);
    assert!(genotype(2).is_ok());
    let other = world.run(&format!("search {RUN} --out s --seeds 2 --lambda 0.5"));
    let err = text(&other.stderr);
    assert!(
        other.status.code() == Some(2) && err.contains("s/seed1 was searched with"),
        "{err}"
    );
}

#[test]
fn a_killed_search_resumes_to_the_same_bits() {
    let world = World::new();
    let run = format!(
        "search {RUN} --set epochs.n=20 --set epochs.m=10 --set epochs.s=2 --set checkpoint_every=2"
    );
    let outcome = |out: &str| {
        let at = |name: &str| world.at(out).join(name);
        let checkpoint = Checkpoint::<SearchProgress>::load(&at("checkpoint.safetensors")).unwrap();
        let model = std::fs::read(at("model.safetensors")).unwrap();
        (model, checkpoint.tensors, lines(&at("metrics.jsonl")))
    };
    world.good(&format!("{run} --out whole"));
    let whole = outcome("whole");
    assert_eq!(whole.2.len(), 2 * 10 * 3);

    let at = |stage| {
        move |p: &Path| {
            Checkpoint::<SearchProgress>::load(p).is_ok_and(|c| c.progress.stage >= stage)
        }
    };
    world.kill(&format!("{run} --out killed"), "killed", at(1));
    let resume = "search killed/config.toml --resume";
    world.kill(resume, "killed", at(2));
    world.good(resume);
    assert!(outcome("killed") == whole);

    // Stopped where stage 1 ends: stage 2 begins as if it had not been.
    let stopped = world.run(&format!("{run} --out edge --stop-after 30"));
    let err = text(&stopped.stderr);
    assert!(err.contains("stage 1, inner epoch 30 of 30"), "{err}");
    world.good("search edge/config.toml --resume");
    assert!(outcome("edge") == whole);
}

#[test]
fn what_cannot_be_searched_is_refused_in_one_line() {
    let world = World::new();
    world.good("bench ops --device cpu --size 24x16 --channels 4 --runs 1 --json t.json");
    world.good(
        "bench ops --device cpu --size 24x16 --channels 4 --runs 1 --only 3-SC --json holes.json",
    );
    world.good("bench ops --device cpu --size 24x16 --channels 64 --runs 1 --json many.json");
    world.good(&format!("search {RUN} --latency t.json --out taken"));
    let foreign = |name: &str, device: &str| {
        let mut table = json(&world.at("t.json"));
        table["device"] = device.into();
        std::fs::write(world.at(name), table.to_string()).unwrap();
    };
    foreign("orin.json", "cuda:0 (Orin)");
    // Tables of this CPU by other threads, and of another CPU by as many.
    let here = json(&world.at("t.json"))["device"].to_string();
    let (cpu, rest) = here.trim_matches('"').rsplit_once(" thread").unwrap();
    let (model, count) = cpu.rsplit_once(", ").unwrap();
    foreign("threads.json", &format!("{model}, 99{count} thread{rest}"));
    foreign("model.json", &format!("cpu (Z80, {count} thread{rest}"));
    // A table of another device that was meant is taken, and said.
    let run = world.run(&format!(
        "search {RUN} --latency orin.json --set latency.width=25 --out orin --stop-after 1"
    ));
    let err = text(&run.stderr);
    let note =
        "note: searching for the latency of orin.json: its device is cuda:0 (Orin), not cpu (";
    assert!(err.contains(note), "{err}");
    let before = world.files();
    let cases: &[(&str, i32, &[&str])] = &[
        ("--lambda -1", 2, &["latency.lambda", "-1"]),
        ("--set space.operators=3", 2, &["operators"]),
        ("--set batch=3", 2, &["4 pairs", "batch of 3"]),
        ("--set patch=40", 3, &["ir/1.png", "smaller than the patch"]),
        ("--a void", 3, &["void", "empty"]),
        ("--perceptual vgg", 2, &["--features"]),
        ("--latency no.json", 3, &["no.json"]),
        ("--latency tiny.json", 3, &["tiny.json", "no latency table"]),
        ("--latency holes.json", 2, &["holes.json", "hole", "5-SC@1"]),
        (
            "--latency t.json --set space.channels=6",
            2,
            &["t.json", "4 channels", "has 6"],
        ),
        (
            "--set latency.table=orin.json",
            2,
            &["orin.json", "cuda:0 (Orin)", "not cpu (", "--latency FILE"],
        ),
        (
            "--set latency.table=threads.json",
            2,
            &[
                "threads.json",
                &format!(", 99{count} thread"),
                here.trim_matches('"'),
            ],
        ),
        (
            "--set latency.table=model.json",
            2,
            &[
                "model.json",
                "its device is cpu (Z80, ",
                &format!("not {model}, {count} thread"),
            ],
        ),
        (
            "--set latency.table=t.json --set latency.width=25",
            2,
            &["24x16", "25x16"],
        ),
        (
            "--set latency.precision=f16",
            2,
            &["latency.precision", "CUDA"],
        ),
        (
            "--set batch=65536 --set data.patches_per_pair=65536 --set patch=30 --set latency.table=many.json \
             --set space.channels=64",
            2,
            &[
                "batch: 65536 patches",
                "are free",
                "space.channels",
                "space.recompute",
            ],
        ),
        (
            "--set latency.foreign=true",
            2,
            &["latency.foreign", "--latency FILE"],
        ),
        ("--resume", 2, &["no checkpoint"]),
        ("--out taken", 2, &["taken already holds a run", "--resume"]),
    ];
    for (args, code, parts) in cases {
        // An option may be given once; a case gives its own.
        let mut all = format!("search {RUN} --out new --device cpu");
        for option in ["--a ir", "--perceptual none", "--out new"] {
            let name = option.split(' ').next().unwrap_or(option);
            if args.split(' ').any(|word| word == name) {
                all = all.replace(option, "");
            }
        }
        let output = world.run(&format!("{all} {args}"));
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{args}\n{err}");
        let errors: Vec<&str> = err.lines().filter(|l| l.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "{args}\n{err}");
        for part in *parts {
            assert!(errors[0].contains(part), "{args}: no `{part}` in {err}");
        }
    }
    let after = world.files();
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
}
