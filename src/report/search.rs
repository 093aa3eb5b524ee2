//! The report of a search: one page, and its figures as files.

use super::curves::curves_svg;
use super::heatmap::{chosen, final_svg, layer_title};
use super::html::{self, Cell, escape, facts, figure, note, paragraph, section, table};
use super::network::network_svg;
use super::pictures::{self, Triple, reduced};
use super::run::SearchRun;
use super::svg::{digits, number};
use super::timeline::time_svg;
use crate::Result;
use crate::net::{CellKind, Genotype, OpKind, count_parts};
use crate::search::{LatencyTable, LatencyUnit, LayerWeights, Strategy, Verdict, brief};
use crate::train::{Perceptual, Task};
use std::path::Path;

/// Names of pairs beyond these are only counted.
const NAMES: usize = 12;

/// What was fused to show what a network does.
#[derive(Clone, Debug)]
pub struct Fused {
    /// Whose weights these are, in a sentence.
    pub model: String,
    pub triples: Vec<Triple>,
}

/// A page and the files that go beside it.
#[derive(Clone, Debug)]
pub struct Report {
    pub html: String,
    /// Name and content of each.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Report {
    fn svg(&mut self, name: &str, svg: String, caption: &str) -> String {
        let html = figure(&svg, caption);
        self.files.push((name.into(), svg.into_bytes()));
        html
    }
}

/// Makes the report of a search, ended or not; `fused` holds pictures, or the reason why there are none.
///
/// # Errors
/// Those of counting the network's parts and of encoding pictures.
pub fn build(run: &SearchRun, fused: Result<&Fused, &str>) -> Result<Report> {
    let mut report = Report {
        html: String::new(),
        files: Vec::new(),
    };
    let mut body = overview(run);
    let candidate = run.candidate();
    body += &section("Network", &network(&mut report, run, candidate.as_ref())?);
    body += &section("Decisions", &decisions(run));
    body += &section("Fused pictures", &fused_pictures(&mut report, fused)?);
    body += &section("Heatmaps", &heatmaps(&mut report, run));
    body += &section("Heatmaps over time", &over_time(&mut report, run));
    body += &section("Losses, LAT, entropies", &curves(&mut report, run));
    body += &section("Softmax tables", &softmax_tables(run));
    let version = env!("CARGO_PKG_VERSION");
    body += &paragraph(&format!("Made by hafuse {version}, `hafuse report`."));
    report.html = html::page(&format!("Architecture search {}", name_of(&run.dir)), &body);
    Ok(report)
}

/// The last part of a path, whatever way it was written.
fn name_of(dir: &Path) -> String {
    let real = dir.canonicalize();
    let real = real.as_deref().unwrap_or(dir);
    real.file_name().map_or_else(
        || dir.display().to_string(),
        |n| n.to_string_lossy().into_owned(),
    )
}

/// What was searched with what, and what came out.
fn overview(run: &SearchRun) -> String {
    let mut body = String::new();
    for text in run.unfinished().iter().chain(&run.notes) {
        let mut text = text.clone();
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        body += &note(&text);
    }
    if let Some(record) = &run.record {
        let cells: Vec<String> = record
            .genotype
            .cells()
            .map(|(_, gene)| brief(gene))
            .collect();
        body += &paragraph(&format!(
            "Found {}: predicted {} ms for the whole network. LAT of the searched layers was {} ms with the softmax \
             weights and is {} ms for the chosen cells.",
            cells.join(", "),
            digits(record.lat_ms.whole_network),
            digits(record.lat_ms.relaxed),
            digits(record.lat_ms.chosen)
        ));
    }
    body + &facts(&setting(run))
}

fn setting(run: &SearchRun) -> Vec<(&'static str, String)> {
    let (c, schedule, record) = (&run.config, run.schedule(), run.record.as_ref());
    let e = c.epochs;
    let epochs: Vec<String> = (1..=schedule.stages())
        .map(|s| schedule.inner_epochs(s).to_string())
        .collect();
    let steps = record
        .map(|r| r.steps_per_epoch)
        .or(run.epochs.last().map(|e| e.steps));
    let later = || "not on record before the search ends".to_string();
    let names = |half: &[String]| {
        let shown = half[..half.len().min(NAMES)].join(", ");
        match half.len().saturating_sub(NAMES) {
            0 => format!("{}: {shown}", half.len()),
            more => format!("{}: {shown} and {more} more", half.len()),
        }
    };
    let mut rows = vec![
        (
            "task",
            match c.task {
                Task::Ivif => "infrared (A) and visible (B)".to_string(),
                Task::Mif => "MRI (A) and PET (B)".to_string(),
            },
        ),
        (
            "strategy",
            match c.strategy {
                Strategy::Collaborative => "collaborative: Algorithm 1 of the paper".to_string(),
                Strategy::Naive => {
                    "naive: both modules at once, alpha and beta together".to_string()
                }
            },
        ),
        (
            "lambda",
            match c.latency.unit {
                LatencyUnit::Ms => format!("{} for each ms of LAT", c.latency.lambda),
                LatencyUnit::Uniform => format!(
                    "{} for the LAT of the supernet with equal weights",
                    c.latency.lambda
                ),
            },
        ),
        (
            "schedule",
            format!(
                "n {}, m {}, t {}, s {}, warm-up {}: {} inner epochs{}",
                e.n,
                e.m,
                e.t,
                e.s,
                e.warmup,
                epochs.join(" + "),
                steps.map_or(String::new(), |n| format!(" of {n} steps"))
            ),
        ),
        (
            "space",
            format!(
                "{} channels, {} cells in the feature-level module, {} blocks in a cell",
                c.space.channels, c.space.cells, c.space.blocks
            ),
        ),
        (
            "batch",
            format!("{} patches of {} x {} pixels", c.batch, c.patch, c.patch),
        ),
        ("A", c.data.a.to_string()),
        ("B", c.data.b.to_string()),
    ];
    match record {
        Some(r) => {
            rows.push(("pairs for the weights", names(&r.data.train)));
            rows.push(("pairs for alpha and beta", names(&r.data.val)));
        }
        None => rows.push(("pairs", later())),
    }
    let features = match c.perceptual {
        Perceptual::Vgg => c.features.display().to_string(),
        Perceptual::None => "none: no perceptual term".into(),
    };
    rows.push(("feature network", features));
    rows.push(("seed", c.seed.to_string()));
    rows.push((
        "version",
        record.map_or_else(later, |r| format!("hafuse {}", r.version)),
    ));
    rows.push((
        "searched on",
        record.map_or_else(later, |r| r.device.clone()),
    ));
    let key = record
        .map(|r| &r.latency_table)
        .or(run.table.as_ref().map(|t| &t.key));
    rows.push((
        "latency table",
        key.map_or("none".into(), |k| {
            format!(
                "{} in {}, {} x {} pixels, {} channels, hafuse {}",
                k.device, k.dtype, k.width, k.height, k.channels, k.version
            )
        }),
    ));
    rows
}

fn network(report: &mut Report, run: &SearchRun, genotype: Option<&Genotype>) -> Result<String> {
    let Some(g) = genotype else {
        return Ok(paragraph(
            "Not all layers are searched yet, so there is no network to draw.",
        ));
    };
    let mut body = String::new();
    if run.record.is_none() {
        body += &paragraph("What would be derived now, from the largest weights so far.");
    }
    let svg = network_svg(g, run.table.as_ref());
    body += &report.svg(
        "network.svg",
        svg,
        "Times are medians of the latency table for one operator at the size where it stands. All rows of a cell have the same \
         operators, with weights of their own.",
    );
    let (w, h) = match &run.table {
        Some(t) => (t.key.width, t.key.height),
        None => (run.config.latency.width, run.config.latency.height),
    };
    let parts = count_parts(g, h, w)?;
    let giga = |n: u64| digits(n as f64 / 1e9);
    let rows: Vec<Vec<Cell>> = parts
        .iter()
        .map(|p| {
            let ms = run.table.as_ref().and_then(|t| part_ms(t, g, &p.part));
            let texts = [
                p.part.clone(),
                p.params.to_string(),
                giga(p.macs),
                giga(p.flops),
                ms.map_or("–".into(), digits),
            ];
            texts.map(Cell::from).into()
        })
        .collect();
    body += &format!("<h3>{}</h3>\n", escape(&format!("Counts at {w} x {h}")));
    let head = [
        "part",
        "parameters",
        "G multiply-adds",
        "GFLOP",
        "predicted ms",
    ];
    body += &table(&head, 1, &rows);
    Ok(body)
}

/// What was decided, how surely, and what is to be said against it.
fn decisions(run: &SearchRun) -> String {
    let verdict = Verdict::of(&run.config, &run.epochs, run.genotype());
    if verdict.decisions.is_empty() {
        return paragraph("No inner epoch is on record yet.");
    }
    let mut body = String::new();
    for warning in &verdict.warnings {
        body += &note(warning);
    }
    if let Some(d) = run.record.as_ref().and_then(|r| r.discretisation) {
        body += &paragraph(&format!(
            "L_val of the supernet is {}, that of the chosen network with the supernet's weights {}: what the choice costs before \
             training.",
            digits(d.supernet),
            digits(d.derived)
        ));
    }
    body += &paragraph(
        "t: mean over the inner epochs, by its standard error, of how much more the loss wants the best than the second; below 2 \
         chance may have decided. Gain: how much less the loss is with the best than with the second; below 2 % other initial \
         weights may decide otherwise. Decided: inner epochs of the stage after which the best stayed the best.",
    );
    let rows: Vec<Vec<Cell>> = verdict
        .decisions
        .iter()
        .map(|d| {
            let texts = [
                d.place.clone(),
                d.best.clone(),
                number(d.weights[0], 3),
                d.second.clone(),
                number(d.weights[1], 3),
                number(d.entropy, 3),
                d.t.map_or("–".into(), |t| number(t, 1)),
                d.gain.map_or("–".into(), |[gain, error]| {
                    format!(
                        "{} ± {} %",
                        number(100.0 * gain, 2),
                        number(100.0 * error, 2)
                    )
                }),
                format!("{} of {}", d.decided, d.epochs),
            ];
            texts.map(Cell::from).into()
        })
        .collect();
    let head = [
        "place", "best", "", "second", "", "entropy", "t", "gain", "decided",
    ];
    body + &table(&head, 1, &rows)
}

/// Milliseconds of a part of [`count_parts`].
fn part_ms(table: &LatencyTable, g: &Genotype, part: &str) -> Option<f64> {
    let ends = || Some(table.ms("stem").ok()? + table.ms("head").ok()?);
    let gene = |gene| table.gene_ms(gene).ok();
    match part {
        "total" => table.predict(g).ok(),
        "aggregation" => table.ms("aggregation").ok(),
        "ffm.stem+head" => ends(),
        "ofm.target" => Some(ends()? + gene(&g.target)?),
        "ofm.detail" => Some(ends()? + gene(&g.detail)?),
        _ => {
            let i: usize = part.strip_prefix("ffm.cell")?.parse().ok()?;
            gene(g.ffm.get(i)?)
        }
    }
}

fn fused_pictures(report: &mut Report, fused: Result<&Fused, &str>) -> Result<String> {
    let fused = match fused {
        Ok(fused) => fused,
        Err(reason) => return Ok(paragraph(&format!("There are none: {reason}."))),
    };
    let mut body = paragraph(&fused.model);
    for t in &fused.triples {
        let size = format!("{} x {}", t.fused.width, t.fused.height);
        body += &format!("<h3>{}</h3>\n<div class=\"triple\">\n", escape(&t.name));
        for (picture, what) in [(&t.a, "A"), (&t.b, "B"), (&t.fused, "fused")] {
            let png = reduced(picture).to_png()?;
            let alt = format!("{what} of {}", t.name);
            body += &figure(&html::png(&png, &alt), &format!("{what}, {size}"));
        }
        body += "</div>\n";
    }
    let sheet = pictures::sheet(&fused.triples).to_png()?;
    report.files.push(("fused.png".into(), sheet));
    Ok(body)
}

fn heatmaps(report: &mut Report, run: &SearchRun) -> String {
    if run.layers().is_empty() {
        return paragraph("No inner epoch is on record yet.");
    }
    let svg = final_svg(run.layers(), run.genotype());
    report.svg(
        "heatmap-final.svg",
        svg,
        "Softmax of beta (cells of a layer) and alpha (operators of a block). The paper's Fig. 3 shows the same. Alpha of a cell that \
         was not chosen has no effect on the result.",
    )
}

fn over_time(report: &mut Report, run: &SearchRun) -> String {
    if run.epochs.is_empty() {
        return paragraph("No inner epoch is on record yet.");
    }
    let svg = time_svg(&run.epochs, run.genotype());
    report.svg(
        "heatmap-time.svg",
        svg,
        "Softmax after each inner epoch: beta of every layer, alpha of the blocks of its chosen cell.",
    )
}

fn curves(report: &mut Report, run: &SearchRun) -> String {
    if run.epochs.is_empty() {
        return paragraph("No inner epoch is on record yet.");
    }
    let svg = curves_svg(&run.epochs);
    report.svg(
        "curves.svg",
        svg,
        "L_val is shown without lambda LAT. Each stage has a loss of its own. LAT of stage 1 is that of the feature-level module; \
         in stage 2 its chosen cells are added to the object-level layers.",
    )
}

fn softmax_tables(run: &SearchRun) -> String {
    if run.layers().is_empty() {
        return paragraph("No inner epoch is on record yet.");
    }
    let says = match run.genotype() {
        Some(_) => "Chosen cells and operators are red.",
        None => "The largest so far are red.",
    };
    run.layers().iter().fold(paragraph(says), |body, layer| {
        let title = format!("{} ({})", layer_title(&layer.layer), layer.layer);
        body + &format!("<h3>{}</h3>\n", escape(&title)) + &softmax_table(layer, run.genotype())
    })
}

fn softmax_table(layer: &LayerWeights, genotype: Option<&Genotype>) -> String {
    let gene = chosen(layer, genotype);
    let mut head = vec!["cell", "block", "beta"];
    head.extend(OpKind::ALL.map(OpKind::name));
    let mut rows = Vec::new();
    for (k, cell) in CellKind::ALL.into_iter().enumerate() {
        let here = cell == gene.cell;
        for (b, alpha) in layer.alpha[k].iter().enumerate() {
            let beta = match b {
                0 => number(layer.beta[k], 4),
                _ => String::new(),
            };
            let mut row = vec![
                Cell::picked(cell.name(), here && b == 0),
                Cell::from(b.to_string()),
                Cell::picked(beta, here && b == 0),
            ];
            for (op, &v) in OpKind::ALL.into_iter().zip(alpha) {
                let picked = here && gene.blocks.get(b) == Some(&op);
                row.push(Cell::picked(number(v, 4), picked));
            }
            rows.push(row);
        }
    }
    table(&head, 2, &rows)
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::folder;
    use super::*;
    use crate::data::Picture;

    #[test]
    fn a_run_that_goes_on_makes_a_whole_page() {
        let dir = folder(4);
        let run = SearchRun::load(dir.path()).unwrap();
        let report = build(&run, Err("they <are> missing")).unwrap();
        let names: Vec<&str> = report.files.iter().map(|f| f.0.as_str()).collect();
        assert_eq!(
            names,
            [
                "network.svg",
                "heatmap-final.svg",
                "heatmap-time.svg",
                "curves.svg"
            ]
        );
        for part in [
            "This search has not ended",
            "There is no latency.json",
            "they &lt;are&gt; missing",
            "no&lt;where",
            "What would be derived now",
            "0.4567",
            "n 24, m 12, t 5, s 5, warm-up 10: 130 + 130 inner epochs of 2 steps",
            "<h2>Decisions</h2>",
            "all cells alike: every layer chose MS",
            "not on record before the search ends",
        ] {
            assert!(report.html.contains(part), "no {part}");
        }
        assert!(!report.html.contains("NaN") && !report.html.contains("src=\"http"));
        assert_eq!(
            report.html.matches("<svg").count(),
            report.html.matches("</svg>").count()
        );
    }

    #[test]
    fn a_run_that_has_just_begun_says_so() {
        let dir = folder(0);
        let run = SearchRun::load(dir.path()).unwrap();
        let report = build(&run, Err("none")).unwrap();
        assert!(report.files.is_empty());
        assert!(
            report.html.contains("no inner epoch is done")
                && report.html.contains("no network to draw")
        );
    }

    #[test]
    fn pictures_stand_in_the_page() {
        let dir = folder(1);
        let run = SearchRun::load(dir.path()).unwrap();
        let grey = |v| Picture::from_luma(8, 8, vec![v; 64]).unwrap();
        let fused = Fused {
            model: "by <this>".into(),
            triples: vec![Triple {
                name: "x & y".into(),
                a: grey(0.1),
                b: grey(0.2),
                fused: grey(0.3),
            }],
        };
        let report = build(&run, Ok(&fused)).unwrap();
        assert_eq!(
            report
                .html
                .matches("src=\"data:image/png;base64,iVBOR")
                .count(),
            3
        );
        assert!(report.html.contains("x &amp; y") && report.html.contains("by &lt;this&gt;"));
        assert!(
            report
                .files
                .iter()
                .any(|(name, bytes)| name == "fused.png" && bytes.starts_with(b"\x89PNG"))
        );
    }
}
