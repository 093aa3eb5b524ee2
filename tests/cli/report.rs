//! `hafuse report`: a page about a search, ended or not.

use super::search::RUN;
use super::world::{World, text};

fn page(world: &World) -> String {
    std::fs::read_to_string(world.at("s/report.html")).unwrap()
}

#[test]
fn the_page_needs_nothing_else_and_shows_what_was_found() {
    let world = World::new();
    let stopped = world.run(&format!("search {RUN} --out s --stop-after 1"));
    assert_eq!(stopped.status.code(), Some(6), "{}", text(&stopped.stderr));
    // Of a search that was stopped, even in the middle of a line.
    let metrics = world.at("s/metrics.jsonl");
    let whole = std::fs::read_to_string(&metrics).unwrap();
    std::fs::write(&metrics, format!("{whole}{{\"stage\": 1, \"ep")).unwrap();
    let said = world.run("report s");
    let err = text(&said.stderr);
    assert!(
        said.status.success() && err.contains("has not ended"),
        "{err}"
    );
    assert!(err.contains("not whole"), "{err}");
    assert!(page(&world).contains("Chosen when the search ends"));
    std::fs::write(&metrics, whole).unwrap();

    world.good("search s/config.toml --resume");
    world.good("report s --pairs 2");
    let html = page(&world);
    for outside in ["http:", "https:", "src=\"/", "<script", "<link", "NaN"] {
        let own = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("data:image/png;base64,").count(), 6);
    assert_eq!(html.matches("<svg").count(), 4);
    let genotype = std::fs::read_to_string(world.at("s/genotype.json")).unwrap();
    let g = hafuse::net::Genotype::from_json(&genotype).unwrap();
    assert!(html.contains(&format!(
        "ofm.target.cell {}",
        hafuse::search::brief(&g.target)
    )));
    for name in ["heatmap-final", "heatmap-time", "curves", "network"] {
        let svg = std::fs::read_to_string(world.at(&format!("s/report/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }
    let svg = std::fs::read_to_string(world.at("s/report/heatmap-final.svg")).unwrap();
    // One beta and one alpha in each of the three layers.
    assert_eq!(svg.matches("stroke=\"#d81e2c\"").count(), 6);
    assert!(world.at("s/report/fused-1.png").exists());

    // By a trained model; without pictures where the data is gone.
    world.good("report s --model tiny.safetensors --a ir --b vi --pairs 1");
    assert!(page(&world).contains("By tiny.safetensors: for tests."));
    std::fs::rename(world.at("ir"), world.at("moved")).unwrap();
    world.good("report s");
    assert!(page(&world).contains("No picture: ir or vi is not there"));
}

#[test]
fn other_folders_are_refused() {
    let world = World::new();
    for (dir, what) in [("void", "no config.toml"), ("nowhere", "no config.toml")] {
        let run = world.run(&format!("report {dir}"));
        let err = text(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{err}");
        assert!(err.contains(what), "{err}");
    }
    assert!(!world.at("nowhere").exists());
}
