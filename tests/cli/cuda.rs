//! Whole commands on a card, which is emulated: the binary finds `libcuda.so` where it is told to look.

use super::world::{World, text};
use hafuse::Tensor;
use hafuse::tensor::io::{self, TensorMap};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

pub const TINY: &str = "--model tiny.safetensors";

/// The folder of the emulated driver; `None`, with a printed reason, without one.
pub fn driver() -> Option<&'static Path> {
    let folder = cuda_emulator::LIBRARY.and_then(|l| Path::new(l).parent());
    // The binary is not built for the sanitizer's run time.
    let folder = folder.filter(|_| !cuda_emulator::SANITIZED);
    if folder.is_none() {
        println!("skipped: no emulated driver for the binary");
    }
    folder
}

/// Runs with the emulated driver; `kernels` says whether its kernels may be loaded.
fn run(world: &World, driver: &Path, args: &str, kernels: bool) -> Output {
    let mut command = world.command(args);
    command.env("LD_LIBRARY_PATH", driver);
    if kernels {
        command.env("HAFUSE_KERNELS", driver.join("images"));
    }
    command.output().unwrap()
}

/// What has to succeed: standard output and standard error.
fn good(world: &World, driver: &Path, args: &str) -> (String, String) {
    let output = run(world, driver, args, true);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{args}\n{out}{err}");
    (out, err)
}

fn grey(path: &Path) -> Vec<u8> {
    image::open(path).unwrap().into_luma8().into_raw()
}

#[test]
fn a_pair_is_fused_in_both_precisions_as_on_the_cpu() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    world.good(&format!("fuse a.png b.png -o cpu.png {TINY} --device cpu"));
    for precision in ["f32", "f16"] {
        let args =
            format!("fuse a.png b.png -o gpu.png {TINY} --device cuda --precision {precision}");
        let (_, err) = good(&world, driver, &args);
        assert!(
            err.is_empty(),
            "a device that was asked for is no news: {err}"
        );
        let (cpu, gpu) = (grey(&world.at("cpu.png")), grey(&world.at("gpu.png")));
        let worst = cpu.iter().zip(&gpu).map(|(a, b)| a.abs_diff(*b)).max();
        // Rounding to 8 bits may tip over; nothing else may differ.
        assert!(worst <= Some(1), "{precision}: {worst:?}");
        std::fs::remove_file(world.at("gpu.png")).unwrap();
    }
}

#[test]
fn auto_says_which_device_it_took() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let (out, _) = good(&world, driver, &format!("fuse a.png b.png -o f.png {TINY}"));
    assert!(out.contains("on cuda:0 (emulated GPU) in f16"), "{out}");
    // A card that is there but lacks kernels is told of, and the CPU does the work.
    let output = run(
        &world,
        driver,
        &format!("fuse a.png b.png -o f.png {TINY}"),
        false,
    );
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let words = ["on cpu in f32", "(device cuda:0: "];
    assert!(words.iter().all(|w| out.contains(w)), "{out}");
    assert!(
        err.starts_with("note: computing on the CPU: device cuda:0: "),
        "{err}"
    );
}

#[test]
fn a_folder_is_fused_and_a_network_is_trained() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let args = format!("fuse ir vi -o fused {TINY} --device cuda:0 --json");
    let (out, _) = good(&world, driver, &args);
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["failures"], Value::Array(Vec::new()), "{summary}");
    let args = "train --a ir --b vi --perceptual none --out run --device cuda --set genotype=tiny.json \
                --set patch=16 --set batch=2 --set stage1.epochs=1 --set stage2.epochs=1";
    good(&world, driver, args);
    let model = "--model run/model.safetensors";
    good(
        &world,
        driver,
        &format!("fuse a.png b.png -o g.png {model} --device cuda"),
    );
}

/// JSON of what has to succeed.
fn json(world: &World, driver: &Path, args: &str) -> Value {
    let (out, _) = good(world, driver, args);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args}: {e}\n{out}"))
}

#[test]
fn doctor_tells_of_the_card_and_is_strict_on_request() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let found = json(&world, driver, "doctor --json --strict");
    let card = &found["cards"][0];
    assert_eq!(card["name"], "emulated GPU");
    assert_eq!(card["problem"], Value::Null);
    assert_eq!(card["passes"], true);
    assert!(card["f32_error"].as_f64() < Some(1e-4), "{card}");
    assert!(card["f16_error"].as_f64() < Some(2e-2), "{card}");
    assert_eq!(found["auto"], "cuda:0 (emulated GPU)");
    // A card without kernels is a finding, and a failure where one is asked for.
    for (args, code) in [
        ("doctor", 0),
        ("doctor --strict", 5),
        ("doctor --strict --json", 5),
    ] {
        let output = run(&world, driver, args, false);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args}\n{out}{err}");
        assert!(out.contains("emulated GPU"), "{args}\n{out}");
        assert_eq!(
            err.contains("no card passed its trial (tried: 1)"),
            code == 5,
            "{err}"
        );
        if args.contains("--json") {
            let found: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(found["cards"][0]["passes"], false);
        }
    }
}

/// An emulated card has no clock, and none is made up.
fn assert_no_clock(found: &Value) {
    let unknown = serde_json::json!({"before": null, "after": null});
    assert_eq!(found["sm_clock_mhz"], unknown, "{found}");
}

#[test]
fn operators_are_timed_as_turns_of_a_graph() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let bench = "bench ops --size 24x17 --channels 8 --runs 1 --effort 1 --device cuda --only 3-SC";
    let table = json(&world, driver, &format!("{bench} --json -"));
    assert_eq!(
        (&table["dtype"], &table["method"]),
        (&"f16".into(), &"graph".into())
    );
    assert_no_clock(&table);
    let row = &table["entries"][0];
    assert_eq!(row["name"], "3-SC@1");
    let (turns, copies) = (row["turns"].as_u64(), row["copies"].as_u64());
    assert!(copies > Some(1) && turns >= Some(50), "{row}");
    assert_eq!((&row["cold"], &row["runs"]), (&true.into(), &1.into()));
    assert!(row["median_ms"].as_f64() > Some(0.0), "{row}");
    assert!(row["percent"].as_f64() > Some(0.0), "{row}");
    assert!(
        row["kernels"][0].as_str().unwrap().ends_with("_f16"),
        "{row}"
    );
    let (warm, _) = good(&world, driver, &format!("{bench}@1 --warm"));
    assert!(
        warm.contains("8 channels, means in graphs, cache warm"),
        "{warm}"
    );
    assert!(
        warm.ends_with("SM clock not known before, not known after\n"),
        "{warm}"
    );
    let mut command = world.command(bench);
    command.env("LD_LIBRARY_PATH", driver);
    command.env("HAFUSE_KERNELS", driver.join("images"));
    let output = command.env("HAFUSE_SYNC", "1").output().unwrap();
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("HAFUSE_SYNC: is 1"), "{err}");
}

#[test]
fn fusions_are_timed_with_copies_and_without() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let bench = format!("bench net {TINY} --size 20x16 --runs 2 --device cuda");
    let found = json(&world, driver, &format!("{bench} --json"));
    assert_eq!(found["resident"], Value::Null);
    assert_no_clock(&found);
    let found = json(&world, driver, &format!("{bench} --resident --json"));
    let resident = &found["resident"];
    assert!(
        resident["timing"]["median_ms"].as_f64() > Some(0.0),
        "{found}"
    );
    assert_eq!(
        (&resident["timing"]["runs"], &resident["replays"]),
        (&2.into(), &20.into())
    );
    assert!(resident["pairs_per_second"].as_f64() > Some(0.0), "{found}");
    let (out, _) = good(&world, driver, &format!("{bench} --resident"));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("pairs/s"), "{out}");
    assert!(
        lines[1].starts_with("on the card alone, means of 20 replays: "),
        "{out}"
    );
    assert_eq!(lines[2..], ["SM clock not known before, not known after"]);
    let args = format!("info {TINY} --size 20x16 --run --tape --json --device cuda");
    let found = json(&world, driver, &args);
    assert_eq!(found["run"]["runs"], 50);
    let nodes = found["tape"].as_array().unwrap();
    assert!(
        nodes.iter().any(|n| n["operator"] == "guided_filter"),
        "{found}"
    );
    assert!(
        nodes.iter().all(|n| n["ms"].as_f64() > Some(0.0)),
        "{found}"
    );
}

#[test]
fn another_engine_asks_for_times_with_copies_or_without() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let picture = |k: usize| {
        let values = (0..12 * 9).map(|i| (i * k % 97) as f32 / 96.0).collect();
        Tensor::from_vec([1, 1, 9, 12], values).unwrap()
    };
    let pair = TensorMap::from([("a".into(), picture(5)), ("b".into(), picture(11))]);
    std::fs::write(world.at("asked"), "\n\n").unwrap();
    let mut fused = Vec::new();
    for option in ["", "--resident"] {
        io::save(&world.at("pair.safetensors"), &pair, &Default::default()).unwrap();
        let args = format!("bench net {TINY} --exchange pair.safetensors --device cuda {option}");
        let mut command = world.command(&args);
        command.env("LD_LIBRARY_PATH", driver);
        command.env("HAFUSE_KERNELS", driver.join("images"));
        command.stdin(std::fs::File::open(world.at("asked")).unwrap());
        let output = command.output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{out}{err}");
        let (ready, times) = out.split_once('\n').unwrap();
        assert_eq!((ready, times.lines().count()), ("ready", 2), "{out}");
        for line in times.lines() {
            let time: Value = serde_json::from_str(line).unwrap();
            assert!(time["seconds"].as_f64() > Some(0.0), "{out}");
        }
        let bytes = std::fs::read(world.at("pair.safetensors")).unwrap();
        fused.push(io::parse(&bytes).unwrap().0["fused"].to_f64());
    }
    assert_eq!(fused[0], fused[1]);
}

#[test]
fn a_batch_on_a_card_is_timed() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let bench = format!("bench batch ir vi {TINY} --pairs 2 --rounds 1 --device cuda");
    let found = json(&world, driver, &format!("{bench} --json"));
    assert!(found["network_s"].as_f64() > Some(0.0), "{found}");
    assert_no_clock(&found);
    let (out, _) = good(&world, driver, &bench);
    assert!(
        out.ends_with("\nSM clock not known before, not known after\n"),
        "{out}"
    );
}

#[test]
fn a_driver_that_hides_sizes_of_parameters_runs_kernels_all_the_same() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let mut command = world.command(&format!("fuse a.png b.png -o f.png {TINY} --device cuda"));
    command.env("LD_LIBRARY_PATH", driver);
    command.env("HAFUSE_KERNELS", driver.join("images"));
    command.env("HAFUSE_EMULATED_GLOBALS", "0");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    good(
        &world,
        driver,
        &format!("fuse a.png b.png -o g.png {TINY} --device cuda"),
    );
    assert_eq!(grey(&world.at("f.png")), grey(&world.at("g.png")));
}

#[test]
fn what_is_missing_is_named() {
    let Some(driver) = driver() else { return };
    let world = World::new();
    let refused = |output: Output, words: &str| {
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{err}");
        assert!(err.contains(words) && err.lines().count() == 1, "{err}");
        assert!(!world.at("f.png").exists());
    };
    let fuse = |device: &str| format!("fuse a.png b.png -o f.png {TINY} --device {device}");
    refused(
        run(&world, driver, &fuse("cuda:7"), true),
        "there are 1 cards",
    );
    // Without kernels for it: none at all, or none that the emulated card takes.
    refused(run(&world, driver, &fuse("cuda"), false), "cuda:0");
    let mut bare = world.command(&fuse("cuda"));
    bare.env("LD_LIBRARY_PATH", world.at("void"));
    let output = bare.output().unwrap();
    if output.status.success() {
        println!("skipped in part: this machine has a driver and a card");
        return;
    }
    refused(output, "device cuda");
}

#[test]
fn an_unknown_device_is_a_usage_error() {
    let world = World::new();
    let output = world.run(&format!("fuse a.png b.png -o f.png {TINY} --device tpu"));
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.contains("`tpu` is none of auto, cpu, cuda, cuda:N"),
        "{err}"
    );
}
