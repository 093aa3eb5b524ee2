//! What a real driver can do wrong, planted in the emulated one (`tests/cuda-emulator/runtime/plant.h`).

use super::cuda::{TINY, driver};
use super::world::{World, text};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How a command ended: exit code, standard output, standard error.
type Ended = (Option<i32>, String, String);

struct Planted {
    world: World,
    driver: &'static Path,
}

impl Planted {
    fn new() -> Option<Self> {
        let driver = driver()?;
        let world = World::new();
        Some(Self { world, driver })
    }

    /// Runs with the emulated driver, its kernels, and these variables besides.
    fn run(&self, args: &str, variables: &[(&str, &str)]) -> Ended {
        let mut command = self.world.command(args);
        command.env("LD_LIBRARY_PATH", self.driver);
        command.env("HAFUSE_KERNELS", self.driver.join("images"));
        command.env("HAFUSE_EMULATED_COUNTS", self.world.at("counts.json"));
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        (output.status.code(), out, err)
    }

    /// What the driver counted until the last run ended.
    fn counts(&self) -> Value {
        json(&std::fs::read_to_string(self.world.at("counts.json")).unwrap())
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn fuse(device: &str) -> String {
    format!("fuse a.png b.png -o f.png {TINY} --device {device}")
}

/// Refused as a device, in one line with all these words.
#[track_caller]
fn refused((code, out, err): Ended, words: &[&str]) {
    assert_eq!(code, Some(5), "{out}{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    for word in words {
        assert!(err.contains(word), "`{word}` is not in: {err}");
    }
}

#[test]
fn every_problem_of_a_driver_has_a_line_with_a_way_out() {
    let Some(planted) = Planted::new() else {
        return;
    };
    for (fail, words) in [
        ("cuInit:34", ["does not start", "stubs"]),
        ("cuInit:100", ["no card", "nvidia-smi"]),
        ("cuInit:802", ["802", "nvidia-fabricmanager"]),
        ("cuInit:803", ["803", "reboot"]),
        ("cuInit:999", ["CUDA_ERROR_UNKNOWN (999)", "nvidia_uvm"]),
        // No code of any driver yet, and one that the oldest supported one lacks.
        ("cuInit:54321", ["54321", "--device cpu"]),
        (
            "cuDevicePrimaryCtxRetain:46",
            ["cuda:0: opening the card", "46"],
        ),
        ("cuLaunchKernel:715", ["715", "HAFUSE_SYNC=1"]),
        ("cuLaunchKernel:716", ["716", "HAFUSE_SYNC=1"]),
        ("cuEventSynchronize:718", ["718", "HAFUSE_SYNC=1"]),
        ("cuModuleLoadData:218", ["218", "HAFUSE_KERNELS"]),
        (
            "cuMemAlloc:2",
            ["CUDA_ERROR_OUT_OF_MEMORY (2)", "smaller picture"],
        ),
    ] {
        let ended = planted.run(&fuse("cuda"), &[("HAFUSE_EMULATED_FAIL", fail)]);
        refused(ended, &words);
    }
    let ended = planted.run(&fuse("cuda"), &[("HAFUSE_EMULATED_VERSION", "10.2")]);
    refused(ended, &["CUDA 10.2", "11.4 or newer", "update it"]);
    assert!(!planted.world.at("f.png").exists());
}

#[test]
fn auto_says_in_its_line_why_it_is_on_the_cpu() {
    let Some(planted) = Planted::new() else {
        return;
    };
    let said = |variables: &[(&str, &str)], why: &str| {
        let (code, out, err) = planted.run(&fuse("auto"), variables);
        assert_eq!(code, Some(0), "{out}{err}");
        assert_eq!(out.lines().count(), 1, "{out}");
        let words = ["on cpu in f32", why];
        assert!(words.iter().all(|w| out.contains(w)), "`{why}`: {out}");
    };
    let failing = |fail, why| said(&[("HAFUSE_EMULATED_FAIL", fail)], why);
    let no_card = "(device cuda: the driver is there, but no card)";
    failing("cuInit:100", no_card);
    said(&[("HAFUSE_EMULATED_CARDS", "0")], no_card);
    failing("cuInit:34", "(device cuda: the driver does not start: ");
    failing("cuStreamCreate@2:201", "(device cuda:0: opening the card: ");
    let old = [("HAFUSE_EMULATED_VERSION", "10.2")];
    said(&old, "(device cuda: the driver is for CUDA 10.2, ");
    let nowhere = planted.world.at("void");
    let no_kernels = [("HAFUSE_KERNELS", nowhere.to_str().unwrap())];
    said(&no_kernels, "(cannot read ");
    let mut bare = planted.world.command(&format!("{} --json", fuse("auto")));
    bare.env("LD_LIBRARY_PATH", &nowhere);
    let output = bare.output().unwrap();
    let summary = json(&text(&output.stdout));
    match summary["no_card"].as_str() {
        Some(why) => {
            assert!(why.contains("no NVIDIA driver") || !text(&output.stderr).is_empty());
            assert_eq!(summary["device"], "cpu in f32");
        }
        None => println!("skipped in part: this machine has a driver and a card"),
    }
    // What was asked for needs no reason.
    let (_, out, _) = planted.run(&fuse("cpu"), &[]);
    assert!(!out.contains("device"), "{out}");
}

/// A copy of the emulated driver whose function of this name has another.
fn without(planted: &Planted, function: &str) -> PathBuf {
    let folder = planted.world.at(function);
    std::fs::create_dir(&folder).unwrap();
    let mut library = std::fs::read(planted.driver.join("libcuda.so")).unwrap();
    let name = format!("\0{function}\0").into_bytes();
    let mut from = 0;
    let mut found = 0;
    while let Some(at) = library[from..].windows(name.len()).position(|w| w == name) {
        library[from + at + 1] = b'X';
        from += at + 1;
        found += 1;
    }
    assert!(found > 0, "no function {function}");
    std::fs::write(folder.join("libcuda.so"), library).unwrap();
    folder
}

#[test]
fn a_function_that_the_driver_lacks_is_named() {
    let Some(planted) = Planted::new() else {
        return;
    };
    for function in [
        "cuInit",
        "cuDriverGetVersion",
        "cuDeviceGetCount",
        "cuDeviceGetAttribute",
        "cuDevicePrimaryCtxRetain",
        "cuStreamCreate",
        "cuMemHostAlloc",
        "cuModuleGetGlobal_v2",
        "cuGraphInstantiateWithFlags",
        "cuEventSynchronize",
    ] {
        let folder = without(&planted, function);
        let variables = [("LD_LIBRARY_PATH", folder.to_str().unwrap())];
        let ended = planted.run(&fuse("cuda"), &variables);
        refused(ended, &["no function", function, "11.4 or newer"]);
        // Known before anything runs, so another device can be taken.
        let (code, out, err) = planted.run(&fuse("auto"), &variables);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains(&format!("no function {function})")), "{out}");
    }
    // That errors have names is no condition.
    let folder = without(&planted, "cuGetErrorName");
    let variables = [
        ("LD_LIBRARY_PATH", folder.to_str().unwrap()),
        ("HAFUSE_EMULATED_FAIL", "cuInit:999"),
    ];
    let ended = planted.run(&fuse("cuda"), &variables);
    refused(ended, &["CUDA_ERROR_UNKNOWN (999)", "nvidia_uvm"]);
}

#[test]
fn a_fault_ends_a_folder_and_resume_goes_on() {
    let Some(planted) = Planted::new() else {
        return;
    };
    let written = || {
        std::fs::read_dir(planted.world.at("fused"))
            .unwrap()
            .count()
    };
    let args = format!("fuse ir vi -o fused {TINY} --device cuda --jobs 1 --json");
    // One graph for each pair; after a kernel's fault every call fails.
    let fault = [("HAFUSE_EMULATED_FAIL", "cuGraphInstantiateWithFlags@3:700")];
    let ended = planted.run(&args, &fault);
    let summary = json(&ended.1);
    let words = [
        "cuda:0: making a graph",
        "(700)",
        "2 of 4 pairs are written",
        "--resume",
    ];
    refused(ended, &words);
    assert_eq!(written(), 2);
    let of = |key: &str| summary[key].as_array().unwrap().len();
    assert_eq!((of("outputs"), of("failures")), (2, 1), "{summary}");
    assert!(
        summary["broken"].as_str().unwrap().contains("700"),
        "{summary}"
    );
    // The same again counts what was there before.
    let args = args.replace("--json", "--resume");
    let fault = [("HAFUSE_EMULATED_FAIL", "cuGraphInstantiateWithFlags@2:700")];
    refused(planted.run(&args, &fault), &["3 of 4 pairs are written"]);
    let (code, out, err) = planted.run(&args, &[]);
    assert_eq!((code, written()), (Some(0), 4), "{out}{err}");
}

#[test]
fn a_picture_too_large_for_the_card_does_not_end_a_folder() {
    let Some(planted) = Planted::new() else {
        return;
    };
    let args = format!("fuse ir vi -o fused {TINY} --device cuda --jobs 1");
    // One allocation of pinned memory for each pair.
    let full = [("HAFUSE_EMULATED_FAIL", "cuMemHostAlloc@2:2")];
    let (code, out, err) = planted.run(&args, &full);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(
        err.contains("failed: pair ") && err.contains("smaller picture"),
        "{err}"
    );
    assert_eq!(
        std::fs::read_dir(planted.world.at("fused"))
            .unwrap()
            .count(),
        3
    );
}

#[test]
fn what_a_failed_start_has_taken_is_given_back() {
    let Some(planted) = Planted::new() else {
        return;
    };
    let (code, out, err) = planted.run(&fuse("cuda"), &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let held = |counts: &Value| [&counts["contexts"], &counts["streams"]].map(Value::as_i64);
    assert_eq!(held(&planted.counts()), [Some(0); 2]);
    for fail in [
        "cuDevicePrimaryCtxRetain@1:2",
        "cuCtxSetCurrent@1:201",
        "cuStreamCreate@1:201",
        "cuStreamCreate@3:201",
        "cuModuleLoadData@1:209",
    ] {
        let (code, out, err) = planted.run(&fuse("cuda"), &[("HAFUSE_EMULATED_FAIL", fail)]);
        assert_eq!(code, Some(5), "{fail}: {out}{err}");
        assert_eq!(held(&planted.counts()), [Some(0); 2], "{fail}");
    }
}

#[test]
fn a_card_that_answers_nothing_does_not_hide_the_others() {
    let Some(planted) = Planted::new() else {
        return;
    };
    let lost = [
        ("HAFUSE_EMULATED_CARDS", "3"),
        ("HAFUSE_EMULATED_LOST", "0"),
    ];
    let (code, out, err) = planted.run(&fuse("auto"), &lost);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("on cuda:1 "), "{out}");
    let note =
        "note: computing on cuda:1 (emulated GPU): device cuda:0: reading the card's properties";
    assert!(err.starts_with(note) && err.lines().count() == 1, "{err}");
    let (code, out, _) = planted.run(&fuse("cuda:2"), &lost);
    assert!(code == Some(0) && out.contains("on cuda:2 "), "{out}");
    refused(planted.run(&fuse("cuda"), &lost), &["cuda:0", "999"]);
    let (_, out, _) = planted.run("doctor --json", &lost);
    let found = json(&out);
    let problems = [0, 1, 2].map(|i| found["cards"][i]["problem"].as_str());
    assert!(problems[0].is_some_and(|p| p.contains("999")), "{found}");
    assert_eq!(problems[1..], [None; 2], "{found}");
    assert_eq!(found["auto"], "cuda:1 (emulated GPU)");
    let (_, out, _) = planted.run("doctor", &lost);
    assert!(out.contains("cuda:0   cannot be read: "), "{out}");
    assert!(out.contains("cuda:2   emulated GPU"), "{out}");
}

#[test]
fn f32_is_the_default_without_tensor_cores() {
    let Some(planted) = Planted::new() else {
        return;
    };
    for (capability, place) in [
        ("6.1", "in f32 (no tensor cores)"),
        // A Xavier has some, of an older kind than the kernels use.
        ("7.2", "in f32 (no tensor cores)"),
        ("7.5", "in f16"),
    ] {
        let card = [("HAFUSE_EMULATED_CC", capability)];
        let place = format!("cuda:0 (emulated GPU) {place}");
        let (_, out, err) = planted.run(&fuse("cuda"), &card);
        let said = format!("on {place} in ");
        assert!(out.contains(&said), "sm {capability}: {out}{err}");
        let (_, out, err) = planted.run("doctor", &card);
        let said = format!("auto     takes {place}\n");
        assert!(out.contains(&said), "sm {capability}: {out}{err}");
    }
    let args = format!("{} --precision f16", fuse("cuda"));
    let (_, out, err) = planted.run(&args, &[("HAFUSE_EMULATED_CC", "7.2")]);
    assert!(out.contains("in f16 (no tensor cores)"), "{out}{err}");
}

#[test]
fn kernels_for_another_card_are_named() {
    let Some(planted) = Planted::new() else {
        return;
    };
    let folder = planted.world.at("kernels");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(planted.driver.join("images")).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
    }
    // The headers of a fatbin with machine code for sm_90 alone.
    let mut fatbin = vec![0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0, 64, 0, 0, 0, 0, 0, 0, 0];
    fatbin.extend([2, 0, 1, 1, 56, 0, 0, 0, 8]);
    fatbin.resize(16 + 28, 0);
    fatbin.extend([90, 0, 0, 0]);
    fatbin.resize(16 + 64, 0);
    std::fs::write(folder.join("unary.fatbin"), fatbin).unwrap();
    let other = [("HAFUSE_KERNELS", folder.to_str().unwrap())];
    let words = [
        "unary.fatbin has kernels for sm_90, not for",
        "(sm_80)",
        "HAFUSE_KERNELS",
    ];
    refused(planted.run(&fuse("cuda"), &other), &words);
}

#[test]
fn the_host_waits_as_it_is_told_and_clocks_only_what_is_timed() {
    let Some(planted) = Planted::new() else {
        return;
    };
    let counts = |wait: &str| {
        let (code, out, err) = planted.run(&fuse("cuda"), &[("HAFUSE_CUDA_WAIT", wait)]);
        assert_eq!(code, Some(0), "{out}{err}");
        let counts = planted.counts();
        let of = |key: &str| counts[key].as_i64().unwrap();
        assert_eq!(of("timed_events"), 0, "{counts}");
        (of("context_flags"), of("blocking_events") > 0)
    };
    // CU_CTX_SCHED_AUTO, _SPIN, _BLOCKING_SYNC; an event blocks by a flag of its own.
    assert_eq!(counts(""), (-1, false));
    assert_eq!(counts("auto"), (0, false));
    assert_eq!(counts("spin"), (1, false));
    assert_eq!(counts("block"), (4, true));
    let args = format!("info {TINY} --size 20x16 --run --tape --device cuda");
    planted.run(&args, &[]);
    assert!(planted.counts()["timed_events"].as_i64() > Some(0));
    for device in ["auto", "cuda", "cpu"] {
        let (code, out, err) = planted.run(&fuse(device), &[("HAFUSE_CUDA_WAIT", "sleep")]);
        assert_eq!(code, Some(2), "{out}{err}");
        let words = ["HAFUSE_CUDA_WAIT", "is sleep", "spin, block or auto"];
        assert!(words.iter().all(|w| err.contains(w)), "{err}");
    }
}
