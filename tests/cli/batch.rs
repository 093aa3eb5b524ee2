//! Folders of pairs: several at a time, stopped and resumed, and in little memory.

use super::world::{World, colour, grey, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const FUSE: &str = "fuse in_a in_b --model tiny.safetensors --json -o";

/// `count` pairs of this size in `in_a` and `in_b`.
fn pairs(world: &World, count: u32, (w, h): (u32, u32)) {
    for dir in ["in_a", "in_b"] {
        std::fs::create_dir(world.at(dir)).unwrap();
    }
    for i in 0..count {
        grey(&world.at(&format!("in_a/{i:02}.png")), w, h + i);
        colour(&world.at(&format!("in_b/{i:02}.png")), w, h + i);
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Files of a folder with their content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap();
    let path = entries.map(|e| e.unwrap().path());
    path.map(|p| (p.file_name().unwrap().into(), std::fs::read(&p).unwrap()))
        .collect()
}

#[test]
fn any_number_of_workers_writes_the_same_files() {
    let world = World::new();
    pairs(&world, 7, (40, 30));
    let mut expected = None;
    for jobs in [1, 2, 3, 20] {
        let said = json(&world.good(&format!("{FUSE} w{jobs} --jobs {jobs}")));
        assert_eq!(said["outputs"].as_array().unwrap().len(), 7);
        assert_eq!(said["workers"], jobs.min(7));
        assert!(said["worker_seconds"]["network"].as_f64() > Some(0.0));
        let files = content(&world.at(&format!("w{jobs}")));
        assert_eq!(files.len(), 7);
        assert!(
            *expected.get_or_insert_with(|| files.clone()) == files,
            "{jobs} workers"
        );
    }
}

#[test]
fn resume_does_the_rest_only() {
    let world = World::new();
    pairs(&world, 4, (40, 30));
    world.good(&format!("{FUSE} r"));
    let whole = content(&world.at("r"));
    let at = |name: &str| world.at("r").join(name);
    // One is missing, one is cut, one is of another size, one is as it was but for a pixel.
    std::fs::remove_file(at("00.png")).unwrap();
    let bytes = std::fs::read(at("01.png")).unwrap();
    std::fs::write(at("01.png"), &bytes[..bytes.len() * 2 / 3]).unwrap();
    grey(&at("02.png"), 40, 31);
    grey(&at("03.png"), 40, 33);
    let kept = std::fs::read(at("03.png")).unwrap();
    std::fs::write(at(".hafuse-x1y2z3.part"), "half").unwrap();
    // Another run that goes on: this process.
    let alive = format!(".hafuse-{}-x1.part", std::process::id());
    std::fs::write(at(&alive), "half").unwrap();
    let said = json(&world.good(&format!("{FUSE} r --resume")));
    assert_eq!(said["skipped"], 1, "{said}");
    assert_eq!(said["pairs"], 4);
    let now = content(&world.at("r"));
    assert!(!at(".hafuse-x1y2z3.part").exists());
    assert_eq!(std::fs::read(at(&alive)).unwrap(), b"half");
    std::fs::remove_file(at(&alive)).unwrap();
    let now: BTreeMap<_, _> = now
        .into_iter()
        .filter(|(k, _)| *k != Path::new(&alive))
        .collect();
    assert_eq!(now.len(), 4);
    assert!(now.iter().all(|(name, bytes)| match name.to_str() {
        Some("03.png") => *bytes == kept,
        _ => *bytes == whole[name],
    }));
    let said = json(&world.good(&format!("{FUSE} r --resume")));
    assert_eq!(said["skipped"], 4);
    // Nothing was fused, so there is no speed to speak of.
    let said = world.good(&format!("{FUSE} r --resume").replace("--json ", ""));
    assert!(
        said.contains("4 were there already") && !said.contains("pairs/s"),
        "{said}"
    );
}

#[test]
fn a_killed_batch_leaves_whole_files_and_is_resumed() {
    let world = World::new();
    pairs(&world, 24, (300, 200));
    world.good(&format!("{FUSE} all"));
    let expected = content(&world.at("all"));
    let out = world.at("k");
    for round in 1..=3 {
        let mut child = world
            .command(&format!("{FUSE} k --resume"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        // Names only: a part may be renamed before it can be read.
        let named = || match std::fs::read_dir(&out) {
            Ok(entries) => entries
                .filter(|e| {
                    Path::new(&e.as_ref().unwrap().file_name()).extension() == Some("png".as_ref())
                })
                .count(),
            Err(_) => 0,
        };
        while named() < 2 * round && child.try_wait().unwrap().is_none() {
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "nothing is written"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for (name, bytes) in content(&out) {
            if name.extension().is_some_and(|e| e == "png") {
                assert!(bytes == expected[&name], "{} is not whole", name.display());
            }
        }
    }
    let said = json(&world.good(&format!("{FUSE} k --resume")));
    assert!(said["skipped"].as_u64() >= Some(6), "{said}");
    assert!(content(&out) == expected, "not as in one run");
}

#[test]
fn little_memory_is_enough_or_is_an_error_in_one_line() {
    let world = World::new();
    // An attention over channels, so a limit costs another pass over the picture.
    grey(&world.at("wide.png"), 900, 700);
    colour(&world.at("tall.png"), 900, 700);
    let fuse = "fuse wide.png tall.png --model tiny.safetensors";
    world.good(&format!("{fuse} -o free.png"));
    world.good(&format!("{fuse} -o tight.png --max-memory 95MiB"));
    let [free, tight] =
        ["free.png", "tight.png"].map(|f| image::open(world.at(f)).unwrap().into_rgb8());
    let far = free
        .iter()
        .zip(tight.iter())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(far <= Some(1), "{far:?}");
    let refused = world.run(&format!("{fuse} -o no.png --max-memory 66MiB"));
    assert_eq!(refused.status.code(), Some(3));
    let line = text(&refused.stderr);
    assert!(
        [
            "wide.png",
            "900x700",
            "the limit is 69.21 MB",
            "allow that much"
        ]
        .iter()
        .all(|word| line.contains(word)),
        "{line}"
    );
    assert_eq!(line.trim().lines().count(), 1, "{line}");
    let refused = world.run("fuse wide.png tall.png -o no.png --method gff --max-memory 66MiB");
    assert_eq!(refused.status.code(), Some(3));
    assert!(!world.at("no.png").exists());
    for (args, word) in [
        ("--max-memory lots", "lots"),
        ("--jobs 0", "0"),
        ("--jobs 2", "--jobs"),
        ("--resume", "--resume"),
    ] {
        let refused = world.run(&format!("{fuse} -o no.png {args}"));
        assert_eq!(refused.status.code(), Some(2), "{args}");
        assert!(
            text(&refused.stderr).contains(word),
            "{args}: {}",
            text(&refused.stderr)
        );
    }
}

#[test]
fn a_batch_is_timed_beside_its_parts() {
    let world = World::new();
    pairs(&world, 3, (40, 30));
    std::fs::create_dir(world.at("tmp")).unwrap();
    let bench = "bench batch in_a in_b --model tiny.safetensors --device cpu --pairs 5 --rounds 2 --scratch tmp";
    let said = json(&world.good(&format!("{bench} --json")));
    assert_eq!((&said["pairs"], &said["rounds"]), (&5.into(), &2.into()));
    let part = |key: &str| said[key].as_f64().unwrap();
    assert!(part("network_s") > 0.0 && part("files_s") > 0.0 && part("whole_s") > 0.0);
    assert!(part("ratio") > 0.1, "{said}");
    assert_eq!(said["sm_clock_mhz"], serde_json::Value::Null);
    let table = world.good(bench);
    assert!(
        table.contains("5 pairs, tiny.safetensors on cpu"),
        "{table}"
    );
    assert!(content(&world.at("tmp")).is_empty());

    std::fs::write(world.at("in_b/01.png"), "not a picture").unwrap();
    let output = world.run(bench);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("01.png"), "{said}");
    assert!(content(&world.at("tmp")).is_empty());
}
