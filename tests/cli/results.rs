//! What goes right.

use super::world::{World, colour, grey, grey16, text};
use image::{ColorType, ImageReader};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

const TINY: &str = "--model tiny.safetensors";

fn open(path: &Path) -> image::DynamicImage {
    ImageReader::open(path).unwrap().decode().unwrap()
}

fn size(path: &Path) -> (u32, u32) {
    let image = open(path);
    (image.width(), image.height())
}

#[test]
fn grey_and_colour_give_a_coloured_picture_of_the_same_size() {
    let world = World::new();
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");
    let (a, b) = (
        format!("{samples}/street_1_ir.png"),
        format!("{samples}/street_1_vi.png"),
    );
    world.good(&format!("fuse {a} {b} -o made/here/f.png {TINY}"));
    let fused = open(&world.at("made/here/f.png"));
    assert_eq!((fused.width(), fused.height()), size(Path::new(&a)));
    assert_eq!(fused.color(), ColorType::Rgb8);
    // The colours are those of B: where it is strongly red, so is the result.
    let source = open(Path::new(&b)).into_rgb8();
    let fused = fused.into_rgb8();
    let (mut same, mut all) = (0, 0);
    for (s, f) in source.pixels().zip(fused.pixels()) {
        if i32::from(s[0]) - i32::from(s[2]) > 60 && (40..220).contains(&f[1]) {
            all += 1;
            same += usize::from(f[0] > f[2]);
        }
    }
    assert!(all > 100 && same == all, "{same} of {all}");
}

#[test]
fn every_size_works() {
    let world = World::new();
    for (w, h) in [(1, 1), (1, 7), (7, 1), (2, 3), (33, 17)] {
        grey(&world.at("s.png"), w, h);
        colour(&world.at("t.png"), w, h);
        world.good(&format!("fuse s.png t.png -o u.png {TINY}"));
        assert_eq!(size(&world.at("u.png")), (w, h));
        std::fs::remove_file(world.at("u.png")).unwrap();
    }
}

#[test]
fn the_deeper_source_says_the_depth() {
    let world = World::new();
    grey16(&world.at("deep.png"), 48, 32);
    let kind = |args: &str, out: &str| {
        world.good(&format!("fuse {args} -o {out} {TINY}"));
        open(&world.at(out)).color()
    };
    assert_eq!(kind("deep.png b.png", "1.png"), ColorType::Rgb16);
    assert_eq!(kind("a.png deep.png", "2.tif"), ColorType::L16);
    assert_eq!(kind("deep.png b.png --bits 8", "3.tiff"), ColorType::Rgb8);
    assert_eq!(kind("a.png b.png --bits 16", "4.png"), ColorType::Rgb16);
    assert_eq!(
        kind("deep.png b.png --quality 50", "5.jpg"),
        ColorType::Rgb8
    );
    assert_eq!(kind("b.png a.png", "6.png"), ColorType::Rgb8);
}

#[test]
fn both_coloured_is_said() {
    let world = World::new();
    let output = world.run(&format!("fuse out/old.png b.png -o f.png {TINY}"));
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).starts_with("note: both sources are coloured"));
    assert_eq!(text(&output.stderr).lines().count(), 1);
}

#[test]
fn one_bad_pair_does_not_stop_a_folder() {
    let world = World::new();
    std::fs::copy(world.at("cut.png"), world.at("vi/2.png")).unwrap();
    grey(&world.at("ir/lonely.png"), 5, 5);
    let output = world.run(&format!("fuse ir vi -o fused --format jpg --json {TINY}"));
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 3, "{err}");
    assert!(
        lines[0].starts_with("warning: ") && lines[0].contains("lonely.png"),
        "{err}"
    );
    assert!(
        lines[1].starts_with("failed: pair 2: ") && lines[1].contains("vi/2.png"),
        "{err}"
    );
    assert_eq!(
        lines[2],
        "error: 1 of 4 pairs failed; see the messages above"
    );
    let mut names: Vec<_> = std::fs::read_dir(world.at("fused"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["1.jpg", "3.jpg", "4.jpg"]);
    assert_eq!(size(&world.at("fused/3.jpg")), (48, 33));

    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["pairs"], 4);
    assert_eq!(summary["model"], "tiny");
    assert_eq!(summary["outputs"][2], "fused/4.jpg");
    assert_eq!(summary["failures"][0]["pair"], "2");
    assert_eq!(summary["unmatched_a"][0], "lonely.png");
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn results_do_not_depend_on_threads_or_company() {
    let world = World::new();
    world.good(&format!("fuse ir vi -o all {TINY}"));
    world.good(&format!(
        "fuse ir/3.png vi/3.png -o 3.png --threads 1 {TINY}"
    ));
    let read = |name: &str| std::fs::read(world.at(name)).unwrap();
    assert_eq!(read("all/3.png"), read("3.png"));
}

/// Runs the binary with `HAFUSE_SIMD`.
fn run_as(world: &World, simd: &str, args: &str) -> Output {
    let mut command = world.command(args);
    command.env("HAFUSE_SIMD", simd).output().unwrap()
}

/// The default model has convolutions of every kind.
#[test]
fn narrower_versions_of_the_kernels_give_the_same_picture() {
    let world = World::new();
    let try_as = |simd: &str| {
        let args = "fuse a.png b.png -o out.tif --bits 16 --device cpu";
        let output = run_as(&world, simd, args);
        let picture = || open(&world.at("out.tif")).to_luma16().into_raw();
        match output.status.code() {
            Some(0) => Ok(picture()),
            _ => Err(text(&output.stderr)),
        }
    };
    let wanted = try_as("").unwrap();
    match try_as("avx2") {
        Ok(found) => assert_eq!(found, wanted),
        Err(said) => {
            assert!(said.contains("this CPU has"), "{said}");
            println!("skipped: no AVX2 here");
        }
    }
    // Other roundings, 2^-16 of the range apart at most.
    let off = |(a, b): (&u16, &u16)| a.abs_diff(*b) > 1;
    assert!(!try_as("portable").unwrap().iter().zip(&wanted).any(off));
}

#[test]
fn a_version_that_is_not_there_is_refused_and_doctor_names_the_one_that_runs() {
    let world = World::new();
    let refused = run_as(&world, "sse", "fuse a.png b.png -o none.tif");
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(
        said.contains("HAFUSE_SIMD") && said.contains("portable"),
        "{said}"
    );
    assert!(!world.at("none.tif").exists());
    let doctor = run_as(&world, "portable", "doctor --json");
    let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!(doctor["simd"], "portable");
}

#[test]
fn info_tells_cost_and_memory() {
    let world = World::new();
    let args = "info --genotype tiny.json --size 64x48";
    let json: Value =
        serde_json::from_str(&world.good(&format!("{args} --run --tape --json"))).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["size"]["width"], 64);
    let total = json["parts"].as_array().unwrap().last().unwrap();
    assert_eq!(total["part"], "total");
    assert!(json["arena_bytes"].as_u64() > Some(64 * 48 * 4));
    assert_eq!(
        json["weight_bytes"].as_u64(),
        Some(4 * total["params"].as_u64().unwrap())
    );
    assert!(json["run"]["seconds"].as_f64() > Some(0.0));
    assert_eq!(json["run"]["runs"], 5);
    let twice: Value =
        serde_json::from_str(&world.good(&format!("{args} --run --runs 2 --json"))).unwrap();
    assert_eq!(twice["run"]["runs"], 2);
    assert!(
        json["tape"]
            .as_array()
            .unwrap()
            .iter()
            .any(|n| n["ms"].as_f64() > Some(0.0))
    );
    let plain = world.good(&format!("{args} --tape"));
    assert!(
        plain.contains("aggregation") && plain.contains("arena"),
        "{plain}"
    );
    let model = world.good("info --model tiny.safetensors --size 64x48");
    assert!(model.contains("for tests"), "{model}");
}

#[test]
fn version_and_help_teach() {
    let world = World::new();
    assert_eq!(
        world.good("-V").trim(),
        concat!("hafuse ", env!("CARGO_PKG_VERSION"))
    );
    assert!(world.good("--version").contains(std::env::consts::ARCH));
    for args in [
        "--help",
        "fuse --help",
        "train --help",
        "info --help",
        "search --help",
        "help synth",
    ] {
        let help = world.good(args);
        assert!(
            help.lines().all(|l| l.trim_end().chars().count() <= 110),
            "{help}"
        );
    }
    assert!(world.good("--help").contains("Exit codes:"));
}

#[test]
fn the_mask_is_described_on_a_pair_and_on_a_drawn_street() {
    let world = World::new();
    let text = world.good("info --model tiny.safetensors --mask a.png b.png");
    assert!(
        text.contains("aggregation of tiny on a.png and b.png, 48x32, cpu in f32"),
        "{text}"
    );
    let json = world.good("info --model tiny.safetensors --json --device cpu --mask a.png b.png");
    let v: Value = serde_json::from_str(&json).unwrap();
    let mask = &v["mask"];
    let number = |name: &str| mask[name].as_f64().unwrap();
    assert!(number("p5") <= number("p50") && number("p50") <= number("p95"));
    assert!((0.0..=1.0).contains(&number("mean")), "{mask}");
    assert!(text.contains(&format!("mean {:.3}, standard", number("mean"))));
    // The output is a mixture of the rows, before it is clamped.
    let level = |name: &str| mask["levels"][name].as_f64().unwrap();
    assert!((0.0..=255.0).contains(&level("output")), "{mask}");
    let rows = (level("target") - level("detail")).abs();
    assert!(number("row_difference") >= rows - 1e-9, "{mask}");
    let constant = number("std") < 0.02;
    assert_eq!(
        constant,
        text.contains("the mask decides nothing"),
        "{text}"
    );
    assert_eq!(constant, !mask["verdict"].is_null());

    // Sources of known levels.
    let json = world.good("info --model tiny.safetensors --json --mask");
    let v: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&v["mask"]["width"], &v["mask"]["height"]),
        (&320.into(), &240.into())
    );
    world.good("synth drawn --scene street-night --seed 9 --size 320x240 --count 1");
    let files = "drawn/ir/street-night_0001.png drawn/vi/street-night_0001.png";
    let json = world.good(&format!(
        "info --model tiny.safetensors --json --mask {files}"
    ));
    let of_files: Value = serde_json::from_str(&json).unwrap();
    for name in ["a", "b", "target", "detail", "output"] {
        let [drawn, read] = [&v, &of_files].map(|v| v["mask"]["levels"][name].as_f64().unwrap());
        assert!((drawn - read).abs() < 0.02, "{name}: {drawn}, {read}");
    }

    for (line, code, what) in [
        ("--mask a.png", 2, "takes two pictures, infrared first"),
        ("--mask a.png none.png", 3, "none.png"),
        ("--mask a.png big.png", 3, "is 48x32 but big.png is 40x41"),
        (
            "--mask a.png b.png --precision f16 --device cpu",
            2,
            "needs a CUDA card",
        ),
    ] {
        let run = world.run(&format!("info --model tiny.safetensors {line}"));
        let err = super::world::text(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{line}: {err}");
        assert!(err.contains(what), "{line}: {err}");
    }
}
