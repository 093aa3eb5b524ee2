//! Heatmaps of alpha and beta (Fig. 3 of the paper): at the end, and over time.

use super::run::Epoch;
use super::svg::{COLOURS, RED, Svg};
use crate::net::{CellKind, Genotype, OpKind};
use crate::search::{LayerWeights, Phase};

/// The gene of a layer in a genotype.
fn gene<'a>(genotype: &'a Genotype, layer: &str) -> Option<&'a crate::net::CellGene> {
    genotype
        .cells()
        .find(|(name, _)| name == layer)
        .map(|(_, gene)| gene)
}

fn place<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().position(|x| x == one).unwrap_or_default()
}

fn largest<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    values.fold(1e-9, |m, &v| m.max(v))
}

fn percent(v: f64) -> String {
    format!("{:.0}", 100.0 * v)
}

/// The softmax of alpha and beta of every layer in percent; what `genotype` chose is framed in red (without
/// one: the largest).
pub fn final_svg(layers: &[LayerWeights], genotype: Option<&Genotype>) -> String {
    const CELL: (f64, f64) = (42.0, 26.0);
    const WIDE: f64 = 630.0;
    let blocks = layers.first().map_or(0, |l| l.alpha[0].len());
    let rows = CellKind::ALL.len() * blocks;
    let tall = 78.0 + CELL.1 * rows as f64;
    let lines = layers.len().div_ceil(2);
    let mut svg = Svg::new(2.0 * WIDE, tall * lines as f64 + 24.0);
    for (i, layer) in layers.iter().enumerate() {
        let (x0, y0) = (WIDE * (i % 2) as f64 + 10.0, tall * (i / 2) as f64 + 10.0);
        let left = (x0 + 90.0, y0 + 50.0); // of beta; alpha follows
        let alpha_x = left.0 + CELL.0 + 22.0;
        svg.text((x0, y0 + 14.0), "b", &layer.layer);
        svg.text((left.0 + CELL.0 / 2.0, left.1 - 8.0), "s m b", "beta");
        for (k, kind) in OpKind::ALL.iter().enumerate() {
            let x = alpha_x + CELL.0 * (k as f64 + 0.5);
            svg.text((x, left.1 - 8.0), "s m", kind.name());
        }
        let chosen = genotype
            .and_then(|g| gene(g, &layer.layer).cloned())
            .unwrap_or_else(|| layer.chosen());
        let high = largest(layer.alpha.iter().flatten().flatten());
        let high_beta = largest(layer.beta.iter());
        let mut frames = Vec::new();
        for (c, cell) in CellKind::ALL.iter().enumerate() {
            let y = left.1 + CELL.1 * (c * blocks) as f64;
            let size = (CELL.0, CELL.1 * blocks as f64);
            svg.heat(
                (left.0, y),
                size,
                layer.beta[c] / high_beta,
                &percent(layer.beta[c]),
            );
            if *cell == chosen.cell {
                frames.push(((left.0, y), size));
            }
            for (b, alpha) in layer.alpha[c].iter().enumerate() {
                let y = y + CELL.1 * b as f64;
                let name = format!("{} block {b}", cell.name());
                svg.text((left.0 - 8.0, y + 17.0), "s e", &name);
                for (k, &a) in alpha.iter().enumerate() {
                    let at = (alpha_x + CELL.0 * k as f64, y);
                    svg.heat(at, CELL, a / high, &percent(a));
                    if *cell == chosen.cell && chosen.blocks.get(b) == Some(&OpKind::ALL[k]) {
                        frames.push((at, CELL));
                    }
                }
            }
        }
        // Frames last: they overlap their neighbours.
        for (at, size) in frames {
            svg.frame(at, size, RED, 3.0);
        }
    }
    let words = "Softmax in percent. Shades of alpha and of beta from 0 to the largest of the layer. Red: chosen.";
    svg.text((10.0, tall * lines as f64 + 14.0), "s", words);
    svg.finish()
}

/// Beta of every layer and alpha of its last favourite cell over the inner epochs.
pub fn time_svg(epochs: &[Epoch], genotype: Option<&Genotype>) -> String {
    const ROW: f64 = 13.0;
    const LEFT: f64 = 150.0;
    let last = epochs.last().map_or(&[][..], |e| &e.layers);
    let step = (1050.0 / epochs.len().max(1) as f64).clamp(1.0, 48.0);
    let width = LEFT + step * epochs.len() as f64;
    let rows = |l: &LayerWeights| 3 + l.alpha[0].len() * OpKind::ALL.len();
    let gaps = |l: &LayerWeights| 34.0 + 8.0 * l.alpha[0].len() as f64;
    let height: f64 = last.iter().map(|l| ROW * rows(l) as f64 + gaps(l)).sum();
    let mut svg = Svg::new(width.max(620.0) + 20.0, height + 70.0);
    let x = |i: usize| LEFT + step * i as f64;
    // Which parameters move, above everything.
    svg.text((LEFT - 8.0, 18.0), "s e", "updated");
    for (i, e) in epochs.iter().enumerate() {
        svg.rect((x(i), 8.0), (step, 12.0), phase_colour(e.phase));
    }
    let mut y = 30.0;
    for layer in last {
        let chosen = genotype
            .and_then(|g| gene(g, &layer.layer).cloned())
            .unwrap_or_else(|| layer.chosen());
        let cell = place(&CellKind::ALL, &chosen.cell);
        y += 18.0;
        svg.text((10.0, y), "b", &layer.layer);
        y += 6.0;
        type Of = Box<dyn Fn(&LayerWeights) -> Vec<f64>>;
        let mut groups: Vec<(String, Vec<&str>, usize, Of)> = vec![(
            "beta".into(),
            CellKind::ALL.map(CellKind::name).to_vec(),
            cell,
            Box::new(|l| l.beta.clone()),
        )];
        for (b, kind) in chosen.blocks.iter().enumerate() {
            groups.push((
                format!("{} block {b}", chosen.cell.name()),
                OpKind::ALL.map(OpKind::name).to_vec(),
                place(&OpKind::ALL, kind),
                Box::new(move |l| l.alpha[cell][b].clone()),
            ));
        }
        for (title, names, chosen, of) in groups {
            let columns: Vec<Option<Vec<f64>>> = epochs
                .iter()
                .map(|e| e.layers.iter().find(|l| l.layer == layer.layer).map(&of))
                .collect();
            let high = largest(columns.iter().flatten().flatten());
            svg.text((10.0, y + 10.0), "s", &title);
            for (k, name) in names.iter().enumerate() {
                let class = if k == chosen { "s e b" } else { "s e" };
                svg.text((LEFT - 8.0, y + 10.0 + ROW * k as f64), class, name);
                for (i, column) in columns.iter().enumerate() {
                    if let Some(values) = column {
                        let at = (x(i), y + ROW * k as f64);
                        svg.heat(at, (step, ROW), values[k] / high, "");
                    }
                }
            }
            let at = (LEFT, y + ROW * chosen as f64);
            svg.frame(at, (step * epochs.len() as f64, ROW), RED, 1.5);
            y += ROW * names.len() as f64 + 8.0;
        }
    }
    for (i, pair) in epochs.windows(2).enumerate() {
        if pair[0].stage != pair[1].stage {
            svg.line("cut", (x(i + 1), 6.0), (x(i + 1), y));
        }
    }
    y += 16.0;
    let mut at = LEFT;
    for (phase, words) in [
        (Phase::Cells, "beta"),
        (Phase::Operators, "alpha"),
        (Phase::Both, "beta and alpha"),
    ] {
        if epochs.iter().any(|e| e.phase == phase) {
            svg.rect((at, y - 10.0), (12.0, 12.0), phase_colour(phase));
            svg.text((at + 18.0, y), "s", words);
            at += 40.0 + 7.0 * words.len() as f64;
        }
    }
    svg.text(
        (at, y),
        "s",
        "inner epochs from left to right; dashed: stage 2 begins; red: chosen",
    );
    svg.finish()
}

fn phase_colour(phase: Phase) -> &'static str {
    match phase {
        Phase::Cells => COLOURS[1],
        Phase::Operators => COLOURS[2],
        Phase::Both => COLOURS[3],
    }
}
