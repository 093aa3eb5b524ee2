//! The rooms of the library: a file uses its own room and those below it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the lowest to the highest.
const ROOMS: [&str; 27] = [
    "error", "hash", "stats", "units", "tensor", "output", "device", "onnx", "tape", "ops", "net",
    "loss", "data", "train", "infer", "search", "baseline", "tone", "metrics", "fuser", "batch",
    "export", "synth", "report", "cli", "lib", "main",
];

/// Where the names live that `lib.rs` hands on.
const AT_THE_ROOT: [(&str, &str); 14] = [
    ("Error", "error"),
    ("Result", "error"),
    ("DType", "tensor"),
    ("Real", "tensor"),
    ("Shape", "tensor"),
    ("Tensor", "tensor"),
    ("Device", "device"),
    ("dispatch_real", "device"),
    ("ParamStore", "tape"),
    ("Session", "tape"),
    ("SessionOptions", "tape"),
    ("Tape", "tape"),
    ("Var", "tape"),
    ("Picture", "data"),
];

fn sources(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, all),
            false if path.extension().is_some_and(|e| e == "rs") => all.push(path),
            false => {}
        }
    }
}

/// The code of a file without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = text
        .lines()
        .map(|l| l.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// First names of the paths that follow `crate::`, with those of a list in braces.
fn first_names(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start();
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            names.insert(name(after));
            continue;
        };
        let mut depth = 0;
        let mut from = 0;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    names.insert(name(&list[from..i]));
                    from = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    names.remove("");
    names
}

/// Of each room the rooms that its files name, with the first of these files.
fn arrows() -> BTreeMap<(String, String), PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    files.sort();
    let mut arrows = BTreeMap::new();
    for file in files {
        if file.file_name().is_some_and(|n| n == "tests.rs") {
            continue;
        }
        let inside = file.strip_prefix(&src).unwrap();
        let first = inside.components().next().unwrap().as_os_str();
        let room = first.to_string_lossy().trim_end_matches(".rs").to_string();
        for name in first_names(&code(&file)) {
            let known = AT_THE_ROOT.iter().find(|(root, _)| *root == name);
            let to = known.map_or(name, |(_, room)| room.to_string());
            if to != room {
                arrows.entry((room.clone(), to)).or_insert(inside.into());
            }
        }
    }
    arrows
}

#[test]
fn no_room_uses_one_above_it() {
    let level = |room: &str| {
        let at = ROOMS.iter().position(|r| *r == room);
        at.unwrap_or_else(|| panic!("`{room}` has no place in ROOMS of tests/rooms.rs"))
    };
    let arrows = arrows();
    assert!(arrows.len() > 80, "only {} arrows were found", arrows.len());
    // Names of items at the root that only the highest room takes.
    let highest = |from: &str| matches!(from, "cli" | "lib" | "main");
    let upwards = arrows
        .iter()
        .filter(|((from, to), _)| !highest(from) && level(from) < level(to));
    let upwards: Vec<String> = upwards
        .map(|((from, to), file)| format!("{from} -> {to} in {}", file.display()))
        .collect();
    assert!(
        upwards.is_empty(),
        "arrows upwards:\n{}",
        upwards.join("\n")
    );
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let code = "use crate::{Error, tensor::{DType, Shape}, ops};\nlet x = crate::stats::mean(v);";
    let names: Vec<_> = first_names(code).into_iter().collect();
    assert_eq!(names, ["Error", "ops", "stats", "tensor"]);
}
