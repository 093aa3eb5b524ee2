//! Alpha and beta over a search: inner epochs to the right, candidates downwards.

use super::chart::ticks;
use super::heatmap::{chosen, heading};
use super::ramp::{LEVELS, Scale};
use super::svg::{Anchor, Figure, WIDTH, text_width};
use crate::net::{CellKind, Genotype, OpKind};
use crate::search::{EpochReport, LayerWeights, Phase};
use std::collections::BTreeMap;
use std::fmt::Write;

const LEFT: f64 = 76.0;
const RIGHT: f64 = 20.0;
const BETA_ROW: f64 = 15.0;
const ALPHA_ROW: f64 = 12.0;
/// More columns than this would be thinner than two pixels.
const COLUMNS: usize = 500;

/// The columns of a heatmap: inner epochs, or runs of them.
struct Columns<'a> {
    epochs: &'a [EpochReport],
    /// Inner epochs in a column; the last one is drawn.
    each: usize,
}

impl Columns<'_> {
    /// Left edge of inner epoch `i`, counted from 0 over all stages.
    fn x(&self, i: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * i as f64 / self.epochs.len().max(1) as f64
    }

    /// First inner epoch of each column, the one behind it, and what is drawn.
    fn each(&self) -> impl Iterator<Item = (usize, usize, &EpochReport)> {
        let chunks = self.epochs.chunks(self.each).enumerate();
        chunks.filter_map(|(i, chunk)| {
            let first = i * self.each;
            Some((first, first + chunk.len(), chunk.last()?))
        })
    }
}

/// Stages with their first inner epoch, counted from 0 over all stages.
pub fn stages(epochs: &[EpochReport]) -> Vec<(u8, usize)> {
    let mut found: Vec<(u8, usize)> = Vec::new();
    for (i, epoch) in epochs.iter().enumerate() {
        if found.last().is_none_or(|&(stage, _)| stage != epoch.stage) {
            found.push((epoch.stage, i));
        }
    }
    found
}

/// What a stage searches, in words.
pub fn stage_title(epochs: &[EpochReport], stage: u8) -> String {
    let mut phases = epochs.iter().filter(|e| e.stage == stage).map(|e| e.phase);
    let what = match (stage, phases.any(|p| p == Phase::Both)) {
        (_, true) => "both modules at once",
        (1, _) => "feature-level module",
        _ => "object-level module",
    };
    format!("stage {stage}: {what}")
}

/// Heatmaps over time of beta of every layer, and of alpha of the blocks of its chosen cell.
pub fn time_svg(epochs: &[EpochReport], genotype: Option<&Genotype>) -> String {
    let mut fig = Figure::new();
    let columns = Columns {
        epochs,
        each: epochs.len().div_ceil(COLUMNS).max(1),
    };
    let layers = epochs.last().map_or(&[][..], |e| &e.layers);
    let all = || epochs.iter().flat_map(|e| &e.layers);
    let beta = Scale::of(all().flat_map(|l| &l.beta).copied());
    let genes: Vec<_> = layers.iter().map(|l| chosen(l, genotype)).collect();
    let shown = all().flat_map(|l| {
        let gene = layers
            .iter()
            .position(|m| m.layer == l.layer)
            .map(|i| &genes[i]);
        let alpha = gene.and_then(|g| l.alpha.get(g.cell as usize));
        alpha.into_iter().flatten().flatten().copied()
    });
    let alpha = Scale::of(shown);
    legend(&mut fig, epochs, genotype.is_some());
    beta.draw(&mut fig, "beta", 880.0, 8.0);
    alpha.draw(&mut fig, "alpha", 1130.0, 8.0);

    let mut y = 56.0;
    for ((i, layer), gene) in layers.iter().enumerate().zip(&genes) {
        heading(&mut fig, &layer.layer, (LEFT, WIDTH - RIGHT), y);
        y += 20.0;
        y = phases(&mut fig, &columns, y);
        let panel = Panel {
            scale: beta,
            row: BETA_ROW,
            picked: gene.cell as usize,
            names: CellKind::ALL.map(CellKind::name).to_vec(),
            label: "beta",
        };
        let of = |epoch: &EpochReport| find(epoch, i, layer).map(|l| l.beta.clone());
        y = panel.draw(&mut fig, &columns, genotype.is_some(), y, of) + 8.0;
        for (b, op) in gene.blocks.iter().enumerate() {
            let label = format!("alpha of {}, block{b}", gene.cell.name());
            let panel = Panel {
                scale: alpha,
                row: ALPHA_ROW,
                picked: *op as usize,
                names: OpKind::ALL.map(OpKind::name).to_vec(),
                label: &label,
            };
            let of = |epoch: &EpochReport| {
                find(epoch, i, layer)?
                    .alpha
                    .get(gene.cell as usize)?
                    .get(b)
                    .cloned()
            };
            y = panel.draw(&mut fig, &columns, genotype.is_some(), y + 14.0, of) + 6.0;
        }
        y = axis(&mut fig, &columns, y) + 26.0;
    }
    if layers.is_empty() {
        fig.text(
            "dim",
            LEFT,
            y + 12.0,
            Anchor::Start,
            "no inner epoch is done yet",
        );
        y += 30.0;
    }
    fig.finish(
        y,
        "Heatmaps of alpha and beta over the inner epochs of the search",
    )
}

/// The weights of layer `i` in an epoch, if it was searched by then.
fn find<'a>(epoch: &'a EpochReport, i: usize, layer: &LayerWeights) -> Option<&'a LayerWeights> {
    epoch.layers.get(i).filter(|l| l.layer == layer.layer)
}

/// A heatmap over time: one row for each candidate.
struct Panel<'a> {
    scale: Scale,
    row: f64,
    picked: usize,
    names: Vec<&'static str>,
    label: &'a str,
}

impl Panel<'_> {
    /// Draws from `y` down; returns its lower end.
    fn draw(
        &self,
        fig: &mut Figure,
        columns: &Columns<'_>,
        done: bool,
        y: f64,
        of: impl Fn(&EpochReport) -> Option<Vec<f64>>,
    ) -> f64 {
        let (rows, h) = (self.names.len(), self.row);
        let height = rows as f64 * h;
        let (left, right) = (columns.x(0), columns.x(columns.epochs.len()));
        fig.rect("none", left, y, right - left, height);
        // One path for each colour, and neighbours of one colour as one piece: a tenth of the text.
        let mut paths: BTreeMap<usize, String> = BTreeMap::new();
        for row in 0..rows {
            let mut piece: Option<(usize, usize, usize)> = None;
            for (first, end, epoch) in columns.each() {
                let value = of(epoch).and_then(|v| v.get(row).copied());
                let level = value.and_then(|v| self.scale.level(v));
                piece = match (piece, level) {
                    (Some((l, from, _)), Some(now)) if l == now => Some((l, from, end)),
                    (old, now) => {
                        self.piece(&mut paths, columns, old, y + row as f64 * h);
                        now.map(|l| (l, first, end))
                    }
                };
            }
            self.piece(&mut paths, columns, piece, y + row as f64 * h);
        }
        for (level, d) in &paths {
            debug_assert!(*level < LEVELS);
            fig.path(&format!("r{level}"), d);
        }
        if h < BETA_ROW {
            fig.text("small dim", left, y - 4.0, Anchor::Start, self.label);
        }
        for (row, name) in self.names.iter().enumerate() {
            let at = y + (row as f64 + 0.5) * h + 3.5;
            let class = if row == self.picked {
                "small red bold"
            } else {
                "small"
            };
            fig.text(class, left - 6.0, at, Anchor::End, name);
        }
        let class = if done { "pick thin" } else { "pick thin later" };
        let top = y + self.picked as f64 * h;
        fig.rect(class, left - 1.0, top - 0.5, right - left + 2.0, h);
        if h >= BETA_ROW {
            fig.turned_text(
                "small dim",
                20.0,
                y + 0.5 * height,
                Anchor::Middle,
                -90.0,
                self.label,
            );
        }
        for (_, first) in stages(columns.epochs).into_iter().skip(1) {
            let x = columns.x(first);
            fig.line("mark", &[(x, y), (x, y + height)]);
        }
        y + height
    }

    /// Adds inner epochs `from` to `end` of a row at `y` to the path of their colour.
    fn piece(
        &self,
        paths: &mut BTreeMap<usize, String>,
        columns: &Columns<'_>,
        piece: Option<(usize, usize, usize)>,
        y: f64,
    ) {
        let Some((level, from, end)) = piece else {
            return;
        };
        let (x, right) = (columns.x(from), columns.x(end));
        // Writing to a String cannot fail.
        let _ = write!(
            paths.entry(level).or_default(),
            "M{x:.2} {y:.1}H{right:.2}v{h}H{x:.2}z",
            h = self.row - 0.5
        );
    }
}

/// A strip that says which phase each inner epoch belongs to; returns its lower end.
fn phases(fig: &mut Figure, columns: &Columns<'_>, y: f64) -> f64 {
    let (epochs, h) = (columns.epochs, 9.0);
    let titles = stages(epochs);
    for (k, &(stage, first)) in titles.iter().enumerate() {
        let end = titles.get(k + 1).map_or(epochs.len(), |next| next.1);
        let (x, right) = (columns.x(first), columns.x(end));
        let title = stage_title(epochs, stage);
        if text_width(&title, 10.0) < right - x {
            fig.text("small dim", x + 3.0, y + 9.0, Anchor::Start, &title);
        }
        if k > 0 {
            fig.line("mark", &[(x, y), (x, y + 14.0 + h)]);
        }
    }
    let y = y + 14.0;
    let same = |a: &EpochReport, b: &EpochReport| a.phase == b.phase && a.stage == b.stage;
    let mut first = 0;
    for run in epochs.chunk_by(same) {
        let (x, right) = (columns.x(first), columns.x(first + run.len()));
        fig.rect(phase_class(run[0].phase), x, y, right - x - 0.6, h);
        first += run.len();
    }
    y + h + 3.0
}

fn phase_class(phase: Phase) -> &'static str {
    match phase {
        Phase::Weights => "weights",
        Phase::Cells => "cells",
        Phase::Operators => "operators",
        Phase::Both => "both",
    }
}

/// What the strips and frames mean.
fn legend(fig: &mut Figure, epochs: &[EpochReport], done: bool) {
    let entries = [
        (Phase::Weights, "weights alone learn"),
        (Phase::Cells, "cells: beta learns"),
        (Phase::Operators, "operators: alpha learns"),
        (Phase::Both, "both learn"),
    ];
    let mut x = LEFT;
    for (phase, text) in entries {
        if epochs.iter().any(|e| e.phase == phase) {
            fig.rect(phase_class(phase), x, 11.0, 16.0, 10.0);
            fig.text("", x + 22.0, 20.0, Anchor::Start, text);
            x += 22.0 + text_width(text, 12.0) + 18.0;
        }
    }
    let text = if done { "chosen" } else { "largest so far" };
    fig.rect(
        if done { "pick thin" } else { "pick thin later" },
        x,
        11.0,
        16.0,
        10.0,
    );
    fig.text("", x + 22.0, 20.0, Anchor::Start, text);
    x += 22.0 + text_width(text, 12.0) + 18.0;
    if stages(epochs).len() > 1 {
        fig.rect("none", x, 11.0, 16.0, 10.0);
        fig.text("", x + 22.0, 20.0, Anchor::Start, "not searched yet");
    }
}

/// Ticks of inner epochs below a layer; returns the lower end.
fn axis(fig: &mut Figure, columns: &Columns<'_>, y: f64) -> f64 {
    let n = columns.epochs.len();
    let mut marks = ticks(0.0, n as f64, 12);
    marks.retain(|v| v.fract() == 0.0 && *v >= 1.0);
    if n > 0 && marks.first() != Some(&1.0) {
        marks.insert(0, 1.0);
    }
    for v in marks {
        // An epoch's number stands below the middle of its column.
        let i = v as usize;
        let x = 0.5 * (columns.x(i - 1) + columns.x(i));
        fig.line("axis", &[(x, y - 3.0), (x, y + 1.0)]);
        fig.text("small dim", x, y + 12.0, Anchor::Middle, &format!("{v}"));
    }
    let mut label = "inner epoch, all stages counted on".to_string();
    if columns.each > 1 {
        label += &format!("; a column is {} of them, the last is drawn", columns.each);
    }
    let middle = 0.5 * (columns.x(0) + columns.x(n));
    fig.text("small dim", middle, y + 26.0, Anchor::Middle, &label);
    y + 28.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::heatmap::tests::{genotype, layer};
    use super::*;

    /// `n` inner epochs in each of two stages.
    pub fn epochs(n: u64) -> Vec<EpochReport> {
        let names = [
            "ffm.cell0",
            "ffm.cell1",
            "ofm.target.cell",
            "ofm.detail.cell",
        ];
        let one = |stage: u8, epoch: u64| EpochReport {
            stage,
            epoch,
            epochs: n,
            round: 1,
            rounds: 1,
            phase: if epoch <= n / 2 {
                Phase::Cells
            } else {
                Phase::Operators
            },
            steps: 2,
            lr: 1e-3,
            train: 3.0 / epoch as f64,
            val: Some(2.0 / epoch as f64),
            lat: 5.5,
            lambda: 0.02,
            alpha_entropy: 0.9,
            beta_entropy: 0.8,
            gradients: Vec::new(),
            layers: names[..2 * stage as usize]
                .iter()
                .map(|n| layer(n))
                .collect(),
        };
        let stage = |s| (1..=n).map(move |e| (s, e));
        stage(1).chain(stage(2)).map(|(s, e)| one(s, e)).collect()
    }

    #[test]
    fn stages_phases_and_chosen_rows_are_marked() {
        let epochs = epochs(6);
        assert_eq!(stages(&epochs), [(1, 0), (2, 6)]);
        let svg = time_svg(&epochs, Some(&genotype()));
        for part in [
            "stage 1: feature-level module",
            "stage 2: object-level module",
            "class=\"cells\"",
            "class=\"operators\"",
            "alpha of DC, block1",
            "<text class=\"small red bold\" x=\"70\" y=\"",
            "inner epoch",
        ] {
            assert!(svg.contains(part), "no {part}");
        }
        // Beta and two blocks of four layers, and the legend.
        assert_eq!(svg.matches("class=\"pick thin\"").count(), 13);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn a_long_search_stays_small_and_an_empty_one_is_said() {
        let long = epochs(1500);
        let svg = time_svg(&long, None);
        assert!(svg.contains("a column is 6 of them"));
        assert!(svg.len() < 120_000, "{} bytes", svg.len());
        assert!(time_svg(&[], None).contains("no inner epoch is done yet"));
    }
}
