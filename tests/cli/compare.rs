//! Rules without a network, and `hafuse compare`.

use super::world::{World, colour, text};
use serde_json::Value;
use std::path::PathBuf;

#[test]
fn rules_fuse_files_and_folders() {
    let world = World::new();
    for rule in ["average", "maximum", "laplacian", "gff"] {
        let said = world.good(&format!("fuse a.png b.png -o {rule}.png --method {rule}"));
        assert!(
            said.contains(&format!("fused with {rule} on cpu in f32")),
            "{said}"
        );
        world.good(&format!("fuse ir vi -o {rule} --method {rule}"));
        // What was fused on the way is what the file holds.
        let json = world.run(&format!(
            "eval ir vi --method files={rule} --method {rule} --metrics en,cc --json"
        ));
        let v: Value = serde_json::from_str(&text(&json.stdout)).unwrap();
        for metric in ["en", "cc"] {
            let mean = |i: usize| v["methods"][i]["metrics"][metric]["mean"].as_f64().unwrap();
            assert!((mean(0) - mean(1)).abs() < 0.02, "{rule} {metric}: {v}");
        }
    }
    let average = image::open(world.at("average.png")).unwrap().into_luma8();
    let [a, b] = ["a.png", "b.png"].map(|p| image::open(world.at(p)).unwrap().into_luma8());
    for ((f, a), b) in average.pixels().zip(a.pixels()).zip(b.pixels()) {
        let mean = (f32::from(a[0]) + f32::from(b[0])) / 2.0;
        // The image crate weighs RGB by BT.709, so colours are a little off.
        assert!((f32::from(f[0]) - mean).abs() < 12.0, "{f:?} {a:?} {b:?}");
    }
    for (line, what) in [
        ("fuse a.png b.png -o x.png --method mean", "possible values"),
        (
            "fuse a.png b.png -o x.png --method gff --model ivif",
            "cannot be used with",
        ),
        (
            "fuse a.png b.png -o x.png --method gff --device cuda",
            "gff runs on the CPU only",
        ),
        (
            "fuse a.png b.png -o x.png --method gff --precision f16",
            "f16 needs a CUDA card",
        ),
    ] {
        let run = world.run(line);
        let err = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{line}: {err}");
        assert!(err.contains(what), "{line}: {err}");
    }
}

#[test]
fn methods_are_compared_on_a_page_and_on_sheets() {
    let world = World::new();
    world.good("fuse ir vi -o fused --model tiny.safetensors");
    let line = "compare ir vi --method files=fused --method gff --model tiny.safetensors \
                --metrics en,cc,scd --scenes 2 --out c";
    let said = world.good(line);
    assert!(said.contains("compare.html"), "{said}");
    let page = std::fs::read_to_string(world.at("c/compare.html")).unwrap();
    for part in [
        "files",
        "gff",
        "hash",
        "data:image/png",
        "guided-filter fusion",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for (name, there) in [(1, true), (2, true), (3, false)] {
        assert_eq!(sheet(&world, "c", name).exists(), there, "{name}");
    }
    // Twice the same bytes.
    let first = std::fs::read(sheet(&world, "c", 1)).unwrap();
    world.good(line);
    assert_eq!(std::fs::read(sheet(&world, "c", 1)).unwrap(), first);
    assert_eq!(
        std::fs::read_to_string(world.at("c/compare.html")).unwrap(),
        page
    );

    world.good("compare ir vi --method gff --picture 3 --crop 4,5,10,8 --out d");
    assert!(sheet(&world, "d", 3).exists() && !sheet(&world, "d", 1).exists());
    for (line, what) in [
        ("--method gff --picture 9", "no pair is called `9`"),
        ("--method gff --crop 1,2,3", "X,Y,WIDTH,HEIGHT"),
        ("--method gff --crop 40,5,10,8", "48x31"),
        // The first scene shown has the crop, the second has not.
        (
            "--method gff --picture 4 --picture 1 --crop 0,20,10,14",
            "48x31",
        ),
        ("--metrics en", "nothing to judge"),
    ] {
        let run = world.run(&format!("compare ir vi {line} --out e"));
        let err = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{line}: {err}");
        assert!(err.contains(what), "{line}: {err}");
        assert!(!world.at("e").exists(), "{line}");
    }
}

fn sheet(world: &World, folder: &str, scene: u32) -> PathBuf {
    world.at(&format!("{folder}/{scene}-sheet.png"))
}

#[test]
fn fused_pictures_stay_and_sheets_of_an_earlier_page_go() {
    let world = World::new();
    world.good("fuse ir vi -o out --method gff");
    let fused = |i: u32| std::fs::read(world.at(&format!("out/{i}.png"))).unwrap();
    let before = [1, 2].map(fused);
    std::fs::write(world.at("out/mine-sheet.png"), "of no page").unwrap();
    world.good("compare ir vi --method average --metrics en --picture 1 --out out");
    world.good("compare ir vi --method average --metrics en --picture 2 --out out");
    assert_eq!([1, 2].map(fused), before);
    assert!(sheet(&world, "out", 2).exists() && !sheet(&world, "out", 1).exists());
    assert!(world.at("out/mine-sheet.png").exists());
}

#[test]
fn a_missing_picture_leaves_a_gap_and_exit_code_1() {
    let world = World::new();
    world.good("fuse ir vi -o fused --model tiny.safetensors");
    std::fs::remove_file(world.at("fused/2.png")).unwrap();
    colour(&world.at("fused/3.png"), 10, 10);
    let run = world.run("compare ir vi --method files=fused --method gff --metrics mse --out c");
    let err = text(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{err}");
    assert!(err.contains("files has no picture of 2 in fused"), "{err}");
    assert_eq!(err.matches("10x10").count(), 1, "{err}");
    assert!(
        err.contains("2 of 8 pictures failed; see the messages above"),
        "{err}"
    );
    // The other method's pictures are shown.
    for scene in 1..=4 {
        assert!(sheet(&world, "c", scene).exists(), "{scene}");
    }
    let page = std::fs::read_to_string(world.at("c/compare.html")).unwrap();
    assert_eq!(page.matches("no picture</div>").count(), 2);
    assert!(page.contains("(n = 2)") && page.contains("2 problems"));
}
