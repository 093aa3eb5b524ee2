//! The derived network as a block diagram (Fig. 1a of the paper).

use super::svg::{COLOURS, Point, Svg};
use crate::Result;
use crate::net::{CellGene, CellKind, Genotype};
use crate::search::LatencyTable;

/// Cells with their blocks in each row, the parts around them, and what each takes by the table.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the table has a hole.
pub fn svg(g: &Genotype, table: Option<&LatencyTable>) -> Result<String> {
    let widths: Vec<f64> = g.cells().map(|(_, c)| cell_width(c)).collect();
    let (ffm, rows) = widths.split_at(g.ffm.len());
    let row_width = rows.iter().fold(0.0f64, |m, &w| m.max(w));
    let gap = 26.0;
    let width = 60.0 + 2.0 * (60.0 + gap) + ffm.iter().map(|w| w + gap).sum::<f64>();
    let width = width + 60.0 + row_width + 2.0 * (60.0 + gap) + 160.0;
    let mut svg = Svg::new(width, 330.0);
    let part = |name: &str| -> Result<Option<f64>> { table.map(|t| t.ms(name)).transpose() };
    let gene = |c: &CellGene| -> Result<Option<f64>> { table.map(|t| t.gene_ms(c)).transpose() };
    let (stem, head) = (part("stem")?, part("head")?);

    let middle = 160.0;
    svg.text((10.0, middle - 4.0), "b", "A, B");
    let mut x = 50.0;
    svg.line("flow", (x - 4.0, middle), (x + 12.0, middle));
    x += 14.0;
    x = small(&mut svg, (x, middle), "stem", stem) + gap;
    svg.line("flow", (x - gap, middle), (x, middle));
    for (i, c) in g.ffm.iter().enumerate() {
        let title = format!("ffm.cell{i}");
        x = cell(&mut svg, (x, middle), &title, c, gene(c)?) + gap;
        svg.line("flow", (x - gap, middle), (x, middle));
    }
    x = small(&mut svg, (x, middle), "head", head);
    svg.text((x + 12.0, middle - 8.0), "s", "I_f");
    let rows = [
        (&g.target, "ofm.target", "I_f, A", "I_t", 80.0),
        (&g.detail, "ofm.detail", "I_f, B", "I_d", 245.0),
    ];
    let from = x;
    let mut end: f64 = 0.0;
    for (c, title, input, output, y) in rows {
        let mut x = from + 44.0;
        svg.line("flow", (from, middle), (x, y));
        svg.text(
            (x - 34.0, if y < middle { y - 14.0 } else { y + 24.0 }),
            "s",
            input,
        );
        x = small(&mut svg, (x, y), "stem", stem) + gap;
        svg.line("flow", (x - gap, y), (x, y));
        x = cell(&mut svg, (x, y), title, c, gene(c)?) + gap;
        svg.line("flow", (x - gap, y), (x, y));
        x = small(&mut svg, (x, y), "head", head);
        svg.text(
            (x + 6.0, if y < middle { y - 8.0 } else { y + 18.0 }),
            "s",
            output,
        );
        end = end.max(x);
    }
    let x = end + 44.0;
    for y in [80.0, 245.0] {
        svg.line("flow", (end, y), (x, middle));
    }
    let x = small(&mut svg, (x, middle), "aggregate", part("aggregation")?);
    svg.line("flow", (x, middle), (x + 22.0, middle));
    svg.text((x + 26.0, middle + 4.0), "b", "F");
    let words = match table {
        Some(t) => format!(
            "ms of each part, measured at {} x {} with {} channels in {} on {}; whole network {:.1} ms",
            t.key.width,
            t.key.height,
            t.key.channels,
            t.key.dtype,
            t.key.device,
            t.predict(g)?
        ),
        None => "no latency table".into(),
    };
    svg.text((10.0, 322.0), "s", &words);
    Ok(svg.finish())
}

const CHIP: (f64, f64) = (48.0, 22.0);

/// The rows of a cell by their names.
fn rows(c: &CellGene) -> &'static [&'static str] {
    match c.cell {
        CellKind::Successive => &[""],
        CellKind::Decomposition => &["low", "high"],
        CellKind::MultiScale => &["1", "1/2", "1/4"],
    }
}

fn cell_width(c: &CellGene) -> f64 {
    44.0 + (CHIP.0 + 6.0) * c.blocks.len() as f64
}

/// Draws a cell with its left side at `x` and returns its right side.
fn cell(svg: &mut Svg, (x, y): Point, title: &str, c: &CellGene, ms: Option<f64>) -> f64 {
    let rows = rows(c);
    let size = (cell_width(c), 30.0 * rows.len() as f64 + 10.0);
    let top = (x, y - size.1 / 2.0);
    svg.rect(top, size, "#eef3fa");
    svg.frame(top, size, COLOURS[0], 1.5);
    svg.text((x, top.1 - 20.0), "s b", title);
    let ms = ms.map_or(String::new(), |ms| format!(", {ms:.1} ms"));
    svg.text((x, top.1 - 6.0), "s", &format!("{}{ms}", c.cell.name()));
    for (r, name) in rows.iter().enumerate() {
        let y = top.1 + 8.0 + 30.0 * r as f64;
        svg.text((x + 6.0, y + 15.0), "s", name);
        for (b, kind) in c.blocks.iter().enumerate() {
            let at = (x + 36.0 + (CHIP.0 + 6.0) * b as f64, y);
            svg.rect(at, CHIP, COLOURS[0]);
            svg.text((at.0 + CHIP.0 / 2.0, at.1 + 15.0), "s m w", kind.name());
        }
    }
    x + size.0
}

/// Draws a part that cannot be chosen and returns its right side.
fn small(svg: &mut Svg, (x, y): Point, name: &str, ms: Option<f64>) -> f64 {
    let width = if name.len() > 5 { 70.0 } else { 48.0 };
    svg.rect((x, y - 13.0), (width, 26.0), "#ddd");
    svg.text((x + width / 2.0, y + 4.0), "s m", name);
    if let Some(ms) = ms {
        svg.text((x + width / 2.0, y + 28.0), "s m", &format!("{ms:.1} ms"));
    }
    x + width
}
