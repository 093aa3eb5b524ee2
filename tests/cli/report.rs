//! `hafuse report`: a page of a search that has ended, was stopped, or is none.

use super::world::{World, text};
use std::path::Path;

/// 4 pairs in two halves, one step an epoch: 2 stages of 1 round of 2 epochs.
const RUN: &str = "search --a ir --b vi --perceptual none --set patch=16 --set batch=2 --set space.channels=4 \
                   --set space.cells=1 --set space.blocks=1 --set epochs.n=2 --set epochs.m=1 --set epochs.t=1 \
                   --set epochs.s=1 --set epochs.warmup=0 --set latency.width=24 --set latency.height=16 --set latency.runs=1 --lambda 0.5";

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One page, whole, that asks for nothing.
fn check_page(html: &str) {
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
    // Base64 may spell anything.
    let words: String = html
        .split("base64,")
        .map(|part| &part[part.find('"').unwrap_or(0)..])
        .collect();
    assert!(!words.contains("NaN"));
    for word in ["<script", "href=", "src=\"http", "url(", "<link"] {
        assert!(!html.contains(word), "{word}");
    }
    for tag in ["svg", "table", "section", "figure", "g", "text"] {
        let opened =
            html.matches(&format!("<{tag} ")).count() + html.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_search_that_ended_is_reported_with_pictures() {
    let world = World::new();
    world.good(&format!("{RUN} --out s"));
    let said = world.good("report s --pairs 2");
    assert_eq!(said, "s/report.html\n");
    let html = read(&world.at("s/report.html"));
    check_page(&html);
    let record: serde_json::Value =
        serde_json::from_str(&read(&world.at("s/search.json"))).unwrap();
    let total = record["counts"]["parts"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()["params"]
        .to_string();
    let beta = record["layers"][0]["beta"][0].as_f64().unwrap();
    for part in [
        "Architecture search s",
        "0.5 for the LAT of the supernet with equal weights",
        "n 2, m 1, t 1, s 1, warm-up 0: 2 + 2 inner epochs of 1 steps",
        "infrared (A) and visible (B)",
        ") in f32, 24 x 16 pixels, 4 channels",
        "pairs for alpha and beta",
        "supernet&#39;s weights",
        "stage 2: object-level module",
        &total,
        &format!("{beta:.4}"),
    ] {
        assert!(html.contains(part), "no {part}");
    }
    assert!(!html.contains("not on record"));
    assert_eq!(html.matches("<img ").count(), 6);
    for name in ["network", "heatmap-final", "heatmap-time", "curves"] {
        let svg = read(&world.at(&format!("s/report/{name}.svg")));
        assert!(
            svg.starts_with("<svg xmlns=") && html.contains(svg.trim_end()),
            "{name}"
        );
    }
    // Pairs 1 and 2, of 48 x 31 and 48 x 32.
    let sheet = image::open(world.at("s/report/fused.png")).unwrap();
    assert_eq!(
        (sheet.width(), sheet.height()),
        (3 * 48 + 2 * 6, 31 + 6 + 32)
    );

    // Another model, other pictures, another folder; the same folder gives the same page.
    let args = "--a a.png --b b.png --model tiny.safetensors --out elsewhere";
    assert_eq!(
        world.good(&format!("report s {args}")),
        "elsewhere/report.html\n"
    );
    let other = read(&world.at("elsewhere/report.html"));
    check_page(&other);
    assert!(other.contains("Fused by the model tiny.safetensors"));
    assert!(other.contains("not that of this search"));
    assert_eq!(other.matches("<img ").count(), 3);
    world.good("report s --pairs 2");
    assert_eq!(read(&world.at("s/report.html")), html);

    // A page without pictures leaves none of another page beside it, and what else is there alone.
    std::fs::write(world.at("s/report/mine.png"), "mine").unwrap();
    world.good("report s --pairs 0");
    assert!(!world.at("s/report/fused.png").exists());
    for name in ["mine.png", "network.svg", "curves.svg"] {
        assert!(world.at("s/report").join(name).exists(), "{name}");
    }
}

#[test]
fn a_search_that_was_stopped_is_reported_as_far_as_it_came() {
    let world = World::new();
    let stopped = world.run(&format!("{RUN} --out s --stop-after 1"));
    assert_eq!(stopped.status.code(), Some(6), "{}", text(&stopped.stderr));
    let metrics = world.at("s/metrics.jsonl");
    let line = read(&metrics);
    std::fs::write(&metrics, format!("{line}{}", &line[..40])).unwrap();
    let output = world.run("report s");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(
        err.contains("note: line 2 of metrics.jsonl") && err.contains("no fused pictures"),
        "{err}"
    );
    let html = read(&world.at("s/report.html"));
    check_page(&html);
    for part in [
        "has not ended",
        "stage 1 of 2, inner epoch 1 of 2",
        "cut short",
        "no network to draw",
        "largest so far",
        "s/model.safetensors",
    ] {
        assert!(html.contains(part), "no {part}");
    }
    assert!(!world.at("s/report/network.svg").exists());

    std::fs::write(&metrics, format!("{}\n{line}", &line[..40])).unwrap();
    refused(&world, "report s", 3, &["s/metrics.jsonl", "line 1"]);
    std::fs::write(&metrics, line).unwrap();
    // What was named must be there.
    refused(
        &world,
        "report s --a a.png --b b.png",
        3,
        &["s/model.safetensors", "--model FILE"],
    );
    let tiny = "report s --model tiny.safetensors";
    refused(
        &world,
        &format!("{tiny} --a a.png --b big.png"),
        3,
        &["a.png", "48x32", "40x41"],
    );
    refused(
        &world,
        &format!("{tiny} --a ir --b b.png"),
        2,
        &["--a and --b", "ir", "b.png"],
    );
    refused(
        &world,
        &format!("{tiny} --a left --b right"),
        3,
        &["left", "alike"],
    );
    refused(
        &world,
        "report s --model no.safetensors",
        3,
        &["no.safetensors", "no such file"],
    );
    refused(&world, "report s --out a.png", 4, &["a.png", "is a file"]);
    refused(&world, "report s --a a.png", 2, &["--b"]);
    world.good(&format!("{tiny} --a a.png --b b.png"));
}

#[test]
fn what_is_no_search_is_refused_in_one_line() {
    let world = World::new();
    std::fs::create_dir(world.at("t")).unwrap();
    let config = world.good("train --print-config");
    std::fs::write(world.at("t/config.toml"), config).unwrap();
    let before = world.files();
    refused(
        &world,
        "report nowhere",
        3,
        &["nowhere", "no such folder", "--out"],
    );
    refused(&world, "report a.png", 3, &["a.png", "is a file"]);
    refused(
        &world,
        "report void",
        3,
        &["void", "config.toml", "hafuse search"],
    );
    refused(&world, "report t", 3, &["t/config.toml", "hafuse search"]);
    assert!(before == world.files());
}

fn refused(world: &World, args: &str, code: i32, parts: &[&str]) {
    let output = world.run(args);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args}\n{err}");
    let errors: Vec<&str> = err.lines().filter(|l| l.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "{args}\n{err}");
    for part in parts {
        assert!(err.contains(part), "{args}: no `{part}` in {err}");
    }
}
