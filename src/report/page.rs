//! One self-contained HTML page about a search.

use super::run::Run;
use super::svg::escape;
use super::{curves_svg, heatmap, network_svg};
use crate::net::{CellKind, OpKind};
use crate::search::brief;
use crate::{Error, Result};
use base64::Engine as _;
use std::fmt::Write;

/// A pair and what the network made of it, as PNG files in memory.
pub struct Shown {
    pub name: String,
    pub a: Vec<u8>,
    pub b: Vec<u8>,
    pub fused: Vec<u8>,
}

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--line:#d0d7de;--soft:#57606a}
@media(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--line:#30363d;--soft:#9198a1}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1280px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em}h2{font-size:1.2em;border-bottom:1px solid var(--line);margin-top:2em}
table{border-collapse:collapse;margin:1em 0;font-size:14px}td,th{border:1px solid var(--line);padding:.25em .6em;text-align:right}
td:first-child,th:first-child{text-align:left}.note{color:var(--soft)}.wide{overflow-x:auto}
svg{max-width:100%;height:auto;border-radius:4px}figure{margin:1em 0}figcaption{color:var(--soft);font-size:13px}
.pair{display:grid;grid-template-columns:repeat(3,1fr);gap:8px}.pair img{width:100%}.chosen{outline:3px solid #d81e2c;outline-offset:-3px}
pre{overflow:auto;border:1px solid var(--line);padding:1em;font-size:12px}";

/// The whole page. `pictures` are of the network `of`; without any, `of` says why.
///
/// # Errors
/// [`Error::Config`] if the latency table has a hole.
pub fn page(run: &Run, pictures: &[Shown], of: &str) -> Result<String> {
    let mut body = String::new();
    let genotype = run.genotype.as_ref();
    let title = format!(
        "{} search, {}, lambda {}",
        run.key("strategy"),
        run.key("task"),
        run.key("latency.lambda")
    );
    put(&mut body, format_args!("<h1>{}</h1>", escape(&title)));
    for note in &run.notes {
        put(
            &mut body,
            format_args!("<p class=\"note\">{}</p>", escape(note)),
        );
    }
    facts(&mut body, run);

    section(&mut body, "Network");
    match genotype {
        Some(g) => {
            let cells: Vec<String> = g
                .cells()
                .map(|(name, c)| format!("{name} {}", brief(c)))
                .collect();
            put(
                &mut body,
                format_args!("<p>{}</p>", escape(&cells.join(", "))),
            );
            figure(
                &mut body,
                &network_svg(g, run.table.as_ref())?,
                "What was found.",
            );
            counts(&mut body, run);
        }
        None => put(
            &mut body,
            format_args!("<p class=\"note\">Chosen when the search ends.</p>"),
        ),
    }
    section(&mut body, "Alpha and beta at the end");
    figure(
        &mut body,
        &heatmap::final_svg(run.layers(), genotype),
        "The paper's Fig. 3 for this search. Rows: cells and their blocks; columns: operators.",
    );
    section(&mut body, "Alpha and beta over time");
    figure(
        &mut body,
        &heatmap::time_svg(&run.epochs, genotype),
        "Each column is an inner epoch; shades from 0 to the largest of the group.",
    );
    section(&mut body, "Curves");
    figure(
        &mut body,
        &curves_svg(&run.epochs),
        "Means over the inner epochs; LAT and entropies at their ends.",
    );

    section(&mut body, "Pictures");
    put(
        &mut body,
        format_args!("<p class=\"note\">{}</p>", escape(of)),
    );
    for p in pictures {
        put(&mut body, format_args!("<figure><div class=\"pair\">"));
        for (png, what) in [(&p.a, "source A"), (&p.b, "source B"), (&p.fused, "fused")] {
            put(
                &mut body,
                format_args!(
                    "<img alt=\"{} {}\" src=\"{}\">",
                    escape(&p.name),
                    what,
                    data_uri(png)
                ),
            );
        }
        let name = escape(&p.name);
        put(
            &mut body,
            format_args!(
                "</div><figcaption>{name}: source A, source B, fused</figcaption></figure>"
            ),
        );
    }
    section(&mut body, "Numbers");
    softmax_tables(&mut body, run);
    section(&mut body, "Configuration");
    put(
        &mut body,
        format_args!("<pre>{}</pre>", escape(&run.config_text)),
    );
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{}</title>\n<style>{STYLE}</style>\
         </head>\n<body>\n{body}</body></html>\n",
        escape(&title)
    ))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn section(out: &mut String, title: &str) {
    put(out, format_args!("<h2>{title}</h2>"));
}

fn figure(out: &mut String, svg: &str, caption: &str) {
    put(
        out,
        format_args!(
            "<figure class=\"wide\">{svg}<figcaption>{}</figcaption></figure>",
            escape(caption)
        ),
    );
}

fn data_uri(png: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(png);
    format!("data:image/png;base64,{text}")
}

/// What was searched with what.
fn facts(out: &mut String, run: &Run) {
    let last = run.epochs.last();
    let mut rows = vec![
        (
            "data",
            format!("{} and {}", run.key("data.a"), run.key("data.b")),
        ),
        (
            "search space",
            format!(
                "C = {}, {} cells in the feature-level module, {} blocks in a row",
                run.key("space.channels"),
                run.key("space.cells"),
                run.key("space.blocks")
            ),
        ),
        (
            "schedule",
            format!(
                "n = {}, m = {}, t = {}, s = {}; batches of {} patches of {} x {}",
                run.key("epochs.n"),
                run.key("epochs.m"),
                run.key("epochs.t"),
                run.key("epochs.s"),
                run.key("batch"),
                run.key("patch"),
                run.key("patch")
            ),
        ),
        (
            "rates",
            format!(
                "weights {} (SGD), alpha and beta {} (Adam)",
                run.key("weights.lr"),
                run.key("architecture.lr")
            ),
        ),
        ("perceptual", run.key("perceptual")),
        ("seed", run.key("seed")),
    ];
    if let Some(e) = last {
        rows.push((
            "inner epochs done",
            format!("{} (stage {}, {})", run.epochs.len(), e.stage, e.epoch),
        ));
    }
    if let Some(t) = &run.table {
        let k = &t.key;
        let text = format!(
            "{}, {}, {} x {}, {} channels, hafuse {}",
            k.device, k.dtype, k.width, k.height, k.channels, k.version
        );
        rows.push(("latency table", text));
    }
    if let Some(record) = &run.record {
        let count = |half: &str| record["data"][half].as_array().map_or(0, Vec::len);
        rows.push((
            "pairs",
            format!(
                "{} for the weights, {} for alpha and beta",
                count("train"),
                count("val")
            ),
        ));
        let word = |key: &str| record[key].as_str().unwrap_or("-").to_string();
        rows.push(("searched on", word("device")));
        rows.push(("hafuse", word("version")));
    }
    put(out, format_args!("<table>"));
    for (name, value) in rows {
        put(
            out,
            format_args!(
                "<tr><th>{name}</th><td style=\"text-align:left\">{}</td></tr>",
                escape(&value)
            ),
        );
    }
    put(out, format_args!("</table>"));
}

/// Parameters and work of each part, from search.json.
fn counts(out: &mut String, run: &Run) {
    let Some(record) = &run.record else { return };
    let Some(parts) = record["counts"]["parts"].as_array() else {
        return;
    };
    put(
        out,
        format_args!(
            "<table><tr><th>part</th><th>parameters</th><th>G multiply-adds</th><th>GFLOP</th></tr>"
        ),
    );
    for p in parts {
        let number = |key: &str| p[key].as_f64().unwrap_or(0.0);
        put(
            out,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{:.3}</td><td>{:.3}</td></tr>",
                escape(p["part"].as_str().unwrap_or("-")),
                number("params"),
                number("macs") / 1e9,
                number("flops") / 1e9
            ),
        );
    }
    put(out, format_args!("</table>"));
    let ms = |key: &str| record["lat_ms"][key].as_f64().unwrap_or(0.0);
    let at = |key: &str| record["counts"][key].as_u64().unwrap_or(0);
    put(
        out,
        format_args!(
            "<p class=\"note\">At {} x {}. LAT of the chosen cells {:.3} ms, of the mixture {:.3} ms; whole network {:.3} ms, \
             all by the table.</p>",
            at("width"),
            at("height"),
            ms("chosen"),
            ms("relaxed"),
            ms("whole_network")
        ),
    );
}

/// Beta and alpha as numbers.
fn softmax_tables(out: &mut String, run: &Run) {
    for layer in run.layers() {
        let gene = run.genotype.as_ref().and_then(|g| {
            let found = g.cells().find(|(name, _)| *name == layer.layer);
            found.map(|(_, gene)| gene.clone())
        });
        let chosen = gene.unwrap_or_else(|| layer.chosen());
        put(
            out,
            format_args!(
                "<div class=\"wide\"><table><tr><th>{}</th><th>beta</th>",
                escape(&layer.layer)
            ),
        );
        for kind in OpKind::ALL {
            put(out, format_args!("<th>{}</th>", kind.name()));
        }
        put(out, format_args!("</tr>"));
        for (c, cell) in CellKind::ALL.iter().enumerate() {
            for (b, alpha) in layer.alpha[c].iter().enumerate() {
                put(out, format_args!("<tr><td>{} block {b}</td>", cell.name()));
                let class = |framed: bool| if framed { " class=\"chosen\"" } else { "" };
                let here = *cell == chosen.cell;
                put(
                    out,
                    format_args!("<td{}>{:.4}</td>", class(here), layer.beta[c]),
                );
                for (k, a) in alpha.iter().enumerate() {
                    let framed = here && chosen.blocks.get(b) == Some(&OpKind::ALL[k]);
                    put(out, format_args!("<td{}>{a:.4}</td>", class(framed)));
                }
                put(out, format_args!("</tr>"));
            }
        }
        put(out, format_args!("</table></div>"));
    }
}

impl Shown {
    /// Encodes grey values in \[0, 1\] as an 8-bit PNG.
    ///
    /// # Errors
    /// [`Error::Internal`] if `luma` does not hold `width * height` values.
    pub fn png(width: usize, height: usize, luma: &[f32]) -> Result<Vec<u8>> {
        let bytes: Vec<u8> = luma
            .iter()
            .map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8)
            .collect();
        let (w, h) = (width as u32, height as u32);
        let picture = image::GrayImage::from_raw(w, h, bytes).ok_or_else(|| {
            Error::Internal(format!(
                "a picture of {width} x {height} with {} values",
                luma.len()
            ))
        })?;
        let mut out = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut out, image::ImageFormat::Png)
            .map_err(|e| Error::Internal(format!("PNG: {e}")))?;
        Ok(out.into_inner())
    }
}
