//! `--tone`: contrast, a step of its own after fusion.

use super::world::{World, text};
use hafuse::data::Picture;
use hafuse::tone::Tone;
use image::{ImageBuffer, Luma, Rgb};
use serde_json::Value;

const TINY: &str = "--model tiny.safetensors";

/// Three pairs without black and white, grey and colour, in `low_a` and `low_b`.
fn world() -> World {
    let world = World::new();
    for dir in ["low_a", "low_b"] {
        std::fs::create_dir(world.at(dir)).unwrap();
    }
    for i in 1..=3 {
        let level = |x: u32, y: u32| (80 + (x * x / 7 + 3 * y * i + x * y / 5) % 70) as u8;
        ImageBuffer::from_fn(60, 40 + i, |x, y| Luma([level(x, y)]))
            .save(world.at(&format!("low_a/{i}.png")))
            .unwrap();
        ImageBuffer::from_fn(60, 40 + i, |x, y| Rgb([130, level(y, x), 120]))
            .save(world.at(&format!("low_b/{i}.png")))
            .unwrap();
    }
    world
}

fn read(world: &World, name: &str) -> Picture {
    Picture::read(world.at(name)).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Greatest difference of two planes.
fn far(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn fuse_tones_brightness_and_leaves_colour() {
    let world = world();
    for (means, bits) in [
        (TINY, 8),
        (TINY, 16),
        ("--method gff", 8),
        ("--method average", 16),
    ] {
        let fuse = format!("fuse low_a/2.png low_b/2.png {means} --bits {bits}");
        world.good(&format!("{fuse} --tone none -o plain.png"));
        let plain = read(&world, "plain.png");
        for tone in ["auto", "0.5,99.5"] {
            let said = world.good(&format!("{fuse} --tone {tone} -o toned.png"));
            assert!(said.contains(&format!("tone {tone}")), "{said}");
            let toned = read(&world, "toned.png");
            let mut expected = plain.luma.clone();
            tone.parse::<Tone>().unwrap().apply(&mut expected).unwrap();
            // The plain file was rounded before its range was taken, each rounding then stretched.
            let limit = if bits == 8 { 6.0 / 255.0 } else { 2e-3 };
            let off = far(&toned.luma, &expected);
            assert!(off < limit, "{means}, {bits} bits, {tone}: {off}");
            assert!(far(&toned.luma, &plain.luma) > 0.05, "{means}, {tone}");
            let [a, b] = [&plain, &toned].map(|p| p.chroma.as_ref().unwrap());
            let kept = { toned.luma.iter().zip(a.cb.iter().zip(&b.cb)) }
                .filter(|(y, _)| (0.3..0.7).contains(*y))
                .all(|(_, (a, b))| (a - b).abs() < 0.01);
            assert!(kept, "{means}, {tone}: other colours");
        }
    }
}

#[test]
fn folders_are_toned_by_any_number_of_workers_in_any_memory() {
    let world = world();
    let fuse = format!("fuse low_a low_b {TINY} --json --tone auto");
    let said = json(&world.good(&format!("{fuse} -o one --jobs 1")));
    assert_eq!(said["tone"], "auto");
    world.good(&format!("{fuse} -o two --jobs 2 --max-memory 2GiB"));
    world.good(&format!(
        "fuse low_a/3.png low_b/3.png {TINY} --tone auto -o 3.png"
    ));
    let read = |name: &str| std::fs::read(world.at(name)).unwrap();
    for i in 1..=3 {
        assert_eq!(
            read(&format!("one/{i}.png")),
            read(&format!("two/{i}.png")),
            "{i}"
        );
    }
    assert_eq!(read("one/3.png"), read("3.png"));
    // In bands.
    let image = |w, h| ImageBuffer::from_fn(w, h, |x, y| Luma([(90 + (x ^ y) % 64) as u8]));
    image(900, 700).save(world.at("wide.png")).unwrap();
    let fuse = format!("fuse wide.png wide.png {TINY} --tone 1,99");
    world.good(&format!("{fuse} -o free.png"));
    world.good(&format!("{fuse} -o tight.png --max-memory 95MiB"));
    let [free, tight] = ["free.png", "tight.png"].map(|name| self::read(&world, name).luma);
    assert!(far(&free, &tight) < 4.5 / 255.0);
    assert!(free.contains(&0.0) && free.contains(&1.0));
}

#[test]
fn the_default_is_said_too() {
    let world = world();
    let said = json(&world.good(&format!("fuse low_a low_b {TINY} -o out --json")));
    assert_eq!(said["tone"], Tone::DEFAULT.to_string());
    world.good(&format!(
        "fuse low_a low_b {TINY} -o same --tone {}",
        Tone::DEFAULT
    ));
    let read = |name: &str| std::fs::read(world.at(name)).unwrap();
    assert_eq!(read("out/1.png"), read("same/1.png"));
    let said =
        json(&world.good("eval low_a low_b --method gff --method f=out --metrics sd --json"));
    assert_eq!(said["methods"][0]["tone"], Tone::DEFAULT.to_string());
    // Files have had their tone.
    assert_eq!(said["methods"][1]["tone"], "none");
}

#[test]
fn folders_rules_and_models_are_judged_with_one_tone() {
    let world = world();
    world.good("fuse low_a low_b --method average --bits 16 --tone none -o fused");
    let before = world.files();
    let eval =
        format!("eval low_a low_b --method files=fused --method average {TINY} --metrics sd,en,cc");
    let scores = |args: &str| json(&world.good(&format!("{eval} --json {args}")));
    let plain = scores("");
    let auto = scores("--tone auto");
    let mean = |v: &Value, i: usize, metric: &str| {
        v["methods"][i]["metrics"][metric]["mean"].as_f64().unwrap()
    };
    for i in 0..3 {
        let method = &auto["methods"][i];
        assert_eq!(method["tone"], "auto");
        let origin = method["origin"].as_str().unwrap();
        assert!(origin.ends_with(", tone auto"), "{origin}");
        assert!(mean(&auto, i, "sd") > 1.2 * mean(&plain, i, "sd"), "{i}");
    }
    // A file is toned as what is fused on the fly.
    for metric in ["sd", "en", "cc"] {
        let [file, fly] = [0, 1].map(|i| mean(&auto, i, metric));
        assert!((file - fly).abs() < 0.01 * file, "{metric}: {file} {fly}");
    }
    assert!(before == world.files(), "toning is done in memory");

    world.good(&format!("{eval} --tone 0.5,99.5 --out r"));
    for file in ["eval.md", "eval.tex", "eval.csv", "eval.json"] {
        let report = std::fs::read_to_string(world.at("r").join(file)).unwrap();
        let count = report.matches("0.5,99.5").count();
        let expected = match file {
            "eval.csv" => 9,
            "eval.json" => 6,
            _ => 3,
        };
        assert_eq!(count, expected, "{file}: {report}");
    }
}

#[test]
fn gates_judge_toned_pictures() {
    let world = world();
    world.good("fuse low_a low_b --method average --tone none -o fused");
    let eval = "eval low_a low_b --method files=fused --method maximum --metrics sd --gates --json";
    let gates = |tone: &str| {
        let run = world.run(&format!("{eval} --tone {tone}"));
        let v = json(&text(&run.stdout));
        [0, 1].map(|i| v["gates"][i].clone())
    };
    let value = |judged: &Value, gate: &str| {
        let verdicts = judged["verdicts"].as_array().unwrap();
        let found = verdicts.iter().find(|v| v["gate"] == gate);
        found.unwrap()["value"].as_f64().unwrap()
    };
    let [plain, auto, hard] = ["none", "auto", "10,90"].map(gates);
    for i in [0, 1] {
        assert_eq!([&plain[i]["tone"], &auto[i]["tone"]], ["none", "auto"]);
        // Only a stretch that clips makes black and white.
        for gate in ["new_black", "new_white"] {
            assert_eq!(value(&plain[i], gate), 0.0);
            assert_eq!(value(&auto[i], gate), 0.0);
            assert!(value(&hard[i], gate) > 5.0, "{gate}: {}", hard[i]);
        }
    }
    // This rule looks at no neighbour, and the margin has no part in the tone.
    for judged in [&plain, &auto, &hard] {
        assert_eq!(value(&judged[1], "border_error"), 0.0);
    }
}

#[test]
fn pages_show_toned_pictures_and_name_the_tone() {
    let world = world();
    world.good("fuse low_a low_b --method average --tone none -o fused");
    let compare = "compare low_a low_b --method files=fused --method average --metrics sd";
    world.good(&format!("{compare} --tone none --out n"));
    world.good(&format!("{compare} --tone 0.5,99.5 --out t"));
    let page = |dir: &str| std::fs::read_to_string(world.at(dir).join("compare.html")).unwrap();
    assert_eq!(page("n").matches(", tone none,").count(), 2);
    assert_eq!(page("t").matches(", tone 0.5,99.5,").count(), 2);
    // Both sources and both methods: the methods have black and white.
    let extremes = |dir: &str| {
        let sheet = read(&world, &format!("{dir}/1-sheet.png"));
        sheet
            .luma
            .iter()
            .filter(|v| (0.001..0.1).contains(*v))
            .count()
    };
    assert!(
        extremes("t") > extremes("n") + 20,
        "{} {}",
        extremes("t"),
        extremes("n")
    );
}

#[test]
fn tones_that_are_none_are_refused_before_anything_is_done() {
    let world = world();
    for command in [
        "fuse low_a low_b --method gff -o new",
        "eval low_a low_b --method gff --out new",
        "compare low_a low_b --method gff --out new",
    ] {
        for (tone, what) in [
            (
                "loud",
                "`loud` is not known; give none, auto or two percentages",
            ),
            ("=-1,99", "percentiles -1 and 99 are no range"),
            ("60,40", "0 <= LOW < HIGH <= 100"),
        ] {
            let tone = tone
                .strip_prefix('=')
                .map_or(format!(" {tone}"), |t| format!("={t}"));
            let run = world.run(&format!("{command} --tone{tone}"));
            let err = text(&run.stderr);
            assert_eq!(run.status.code(), Some(2), "{command}{tone}: {err}");
            assert!(err.contains(what) && err.contains("--tone"), "{err}");
            assert!(!world.at("new").exists());
        }
    }
}
