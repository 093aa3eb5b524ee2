//! The derived network as a block diagram, with the milliseconds of each part.

use super::svg::{Anchor, Figure, WIDTH, digits, number, text_width};
use crate::net::{CellGene, CellKind, Genotype};
use crate::search::LatencyTable;
use crate::search::latency::operator_at;

const BOX: (f64, f64) = (66.0, 34.0);
const NODE: (f64, f64) = (44.0, 26.0);
const GAP: f64 = 18.0;
const ROW: f64 = 46.0;
/// Of a cell's frame: above its rows, below them, left and right of them.
const TITLE: f64 = 24.0;
const FOOT: f64 = 16.0;
const PAD: f64 = 15.0;
const LEFT: f64 = 8.0;
/// More than a gap, for the names of the rows of a decomposition cell.
const SPLIT: f64 = 16.0;
/// Radius of a sum.
const SUM: f64 = 8.0;

/// Draws the network of `g`; `table` gives the milliseconds.
pub fn network_svg(g: &Genotype, table: Option<&LatencyTable>) -> String {
    let mut draw = Draw {
        fig: Figure::new(),
        table,
        right: WIDTH,
    };
    let total = table.and_then(|t| Some((t.predict(g).ok()?, &t.key)));
    let text = match total {
        Some((ms, key)) => format!(
            "{} ms in all, predicted for {} x {} on {} in {}; {} channels",
            digits(ms),
            key.width,
            key.height,
            key.device,
            key.dtype,
            g.channels
        ),
        None => format!("no latency table; {} channels", g.channels),
    };
    draw.fig.text("", LEFT, 20.0, Anchor::Start, &text);
    let y = draw.feature_module(g, 36.0);
    let y = draw.object_module(g, y + 22.0);
    let width = draw.right;
    draw.fig.finish_wide(
        width,
        y,
        "The derived network and the milliseconds of its parts",
    )
}

/// Rows of a cell.
fn rows(cell: CellKind) -> usize {
    match cell {
        CellKind::Successive => 1,
        CellKind::Decomposition => 2,
        CellKind::MultiScale => 3,
    }
}

/// What a cell takes above and below its middle.
fn cell_reach(gene: &CellGene) -> (f64, f64) {
    let half = 0.5 * ROW * rows(gene.cell) as f64;
    (half + TITLE, half + FOOT)
}

fn cell_width(gene: &CellGene) -> f64 {
    let blocks = gene.blocks.len().max(1) as f64 * (BOX.0 + GAP) - GAP;
    let extra = match gene.cell {
        CellKind::Successive => 0.0,
        CellKind::Decomposition => SPLIT + 2.0 * (BOX.0 + GAP) + GAP + 2.0 * SUM,
        CellKind::MultiScale => 2.0 * (BOX.0 + GAP) + GAP + 2.0 * SUM,
    };
    2.0 * PAD + blocks + extra
}

struct Draw<'a> {
    fig: Figure,
    table: Option<&'a LatencyTable>,
    /// Right end of all that is drawn.
    right: f64,
}

impl Draw<'_> {
    /// Time of an entry in the table, as it stands in a box.
    fn ms(&self, entry: &str) -> String {
        self.time(entry).map_or(String::new(), |ms| match ms {
            0.0..1.0 => format!("{} ms", number(ms, 3)),
            1.0..100.0 => format!("{} ms", number(ms, 2)),
            _ => format!("{} ms", digits(ms)),
        })
    }

    fn time(&self, entry: &str) -> Option<f64> {
        self.table.and_then(|t| t.ms(entry).ok())
    }

    /// A box whose left side has its middle at (x, y): name, and time of the table's `entry`.
    fn part(&mut self, x: f64, y: f64, name: &str, entry: &str) {
        let ms = self.ms(entry);
        let (w, h) = BOX;
        let title = match self.time(entry) {
            Some(ms) => format!("{entry} {} ms", digits(ms)),
            None => entry.to_string(),
        };
        self.fig.titled(&title, |fig| {
            fig.round("box", x, y - 0.5 * h, w, h);
            let middle = x + 0.5 * w;
            match ms.is_empty() {
                true => fig.text("", middle, y + 4.0, Anchor::Middle, name),
                false => {
                    fig.text("", middle, y - 2.0, Anchor::Middle, name);
                    fig.text("small dim", middle, y + 11.0, Anchor::Middle, &ms);
                }
            }
        });
    }

    /// A picture that goes in or out.
    fn node(&mut self, x: f64, y: f64, name: &str) {
        let (w, h) = NODE;
        self.fig.round("end", x, y - 0.5 * h, w, h);
        self.fig
            .text("", x + 0.5 * w, y + 4.0, Anchor::Middle, name);
    }

    fn arrow(&mut self, points: &[(f64, f64)]) {
        self.fig.arrow("flow", points);
    }

    fn heading(&mut self, y: f64, text: &str) {
        self.fig.text("bold", LEFT, y + 12.0, Anchor::Start, text);
    }

    /// A cell whose left side has its middle at (x, y); its right end.
    fn cell(&mut self, x: f64, y: f64, name: &str, gene: &CellGene) -> f64 {
        let (w, (up, down)) = (cell_width(gene), cell_reach(gene));
        self.fig.round("frame", x, y - up, w, up + down);
        let ms = self.table.and_then(|t| t.gene_ms(gene).ok());
        let full =
            ["successive cell", "decomposition cell", "multi-scale cell"][gene.cell as usize];
        let ms = ms.map_or(String::new(), |ms| format!(", {} ms", digits(ms)));
        let short = gene.cell.name();
        let titles = [
            format!("{name}: {full}{ms}"),
            format!("{name}: {short}{ms}"),
            format!("{short}{ms}"),
        ];
        let fits = |t: &&String| text_width(t, 12.5) < w - 16.0;
        let title = titles.iter().find(fits).unwrap_or(&titles[2]);
        self.fig
            .text("bold", x + 9.0, y - up + 16.0, Anchor::Start, title);
        let at = |row: usize| y + (row as f64 - 0.5 * (rows(gene.cell) - 1) as f64) * ROW;
        let inner = match gene.cell {
            CellKind::Successive => x + PAD,
            CellKind::Decomposition => x + PAD + BOX.0 + GAP + SPLIT,
            CellKind::MultiScale => x + PAD + BOX.0 + GAP,
        };
        for row in 0..rows(gene.cell) {
            let scale = match gene.cell {
                CellKind::MultiScale => 1 << row,
                _ => 1,
            };
            for (i, op) in gene.blocks.iter().enumerate() {
                let left = inner + i as f64 * (BOX.0 + GAP);
                if i > 0 {
                    self.arrow(&[(left - GAP, at(row)), (left, at(row))]);
                }
                self.part(left, at(row), op.name(), &operator_at(*op, scale));
            }
        }
        let behind = inner + gene.blocks.len().max(1) as f64 * (BOX.0 + GAP);
        match gene.cell {
            CellKind::Successive => {
                self.arrow(&[(x, y), (inner, y)]);
                self.fig.line("flow", &[(behind - GAP, y), (x + w, y)]);
            }
            CellKind::Decomposition => {
                self.split(x + PAD, y);
                self.arrow(&[(x, y), (x + PAD, y)]);
                for (row, name) in ["low", "high"].into_iter().enumerate() {
                    let from = inner - GAP - SPLIT;
                    self.arrow(&[(from, at(row)), (inner, at(row))]);
                    let middle = 0.5 * (from + inner) - 2.0;
                    self.fig
                        .text("small dim", middle, at(row) - 5.0, Anchor::Middle, name);
                    self.part(behind, at(row), "1 x 1", "DC.fuse");
                }
                self.join(x, behind, y, 2, down);
            }
            CellKind::MultiScale => {
                self.arrow(&[(x, y), (x + PAD, y)]);
                self.arrow(&[(x + 0.5 * PAD, y), (x + 0.5 * PAD, at(0)), (inner, at(0))]);
                self.fig.text(
                    "small dim",
                    x + PAD,
                    at(0) - 5.0,
                    Anchor::Start,
                    "full size",
                );
                self.part(x + PAD, at(1), "to half", "MS.down2");
                self.part(x + PAD, at(2), "to quarter", "MS.down4");
                let middle = x + PAD + 0.5 * BOX.0;
                self.arrow(&[(middle, at(1) + 0.5 * BOX.1), (middle, at(2) - 0.5 * BOX.1)]);
                for row in [1, 2] {
                    self.arrow(&[(inner - GAP, at(row)), (inner, at(row))]);
                }
                let ends = [
                    ("1 x 1", "MS.fuse1"),
                    ("1 x 1, up", "MS.fuse2"),
                    ("1 x 1, up", "MS.fuse4"),
                ];
                for (row, (name, entry)) in ends.into_iter().enumerate() {
                    self.part(behind, at(row), name, entry);
                }
                self.join(x, behind, y, 3, down);
            }
        }
        self.right = self.right.max(x + w + LEFT);
        x + w
    }

    /// The guided filter of a decomposition cell, over both of its rows.
    fn split(&mut self, x: f64, y: f64) {
        let ms = self.ms("DC.split");
        let h = ROW + BOX.1;
        self.fig.round("box", x, y - 0.5 * h, BOX.0, h);
        let lines = [("", "guided"), ("", "filter"), ("small dim", ms.as_str())];
        for (i, (class, text)) in lines.into_iter().enumerate() {
            let at = y - 8.0 + 14.0 * i as f64;
            self.fig
                .text(class, x + 0.5 * BOX.0, at, Anchor::Middle, text);
        }
    }

    /// Arrows of `n` rows into and out of the last boxes at `left`, their sum, and the skip connection
    /// from the cell's left side `x`.
    fn join(&mut self, x: f64, left: f64, y: f64, n: usize, down: f64) {
        let right = left + BOX.0;
        let middle = right + GAP + SUM;
        for row in 0..n {
            let at = y + (row as f64 - 0.5 * (n - 1) as f64) * ROW;
            self.arrow(&[(left - GAP, at), (left, at)]);
            match at - y {
                0.0 => self.arrow(&[(right, y), (middle - SUM, y)]),
                d => self.arrow(&[(right, at), (middle, at), (middle, y + SUM * d.signum())]),
            }
        }
        let (turn, foot) = (x + 0.5 * PAD, y + down - 7.0);
        let end = y + 0.5 * ROW * (n - 1) as f64;
        self.fig.line(
            "flow",
            &[(turn, y), (turn, foot), (middle, foot), (middle, end)],
        );
        self.fig.circle("box", middle, y, SUM);
        self.fig.text("", middle, y + 4.0, Anchor::Middle, "+");
        self.fig
            .line("flow", &[(middle + SUM, y), (middle + SUM + PAD, y)]);
    }

    /// A and B to I_f; long rows of cells take several lines. Returns the lower end.
    fn feature_module(&mut self, g: &Genotype, y: f64) -> f64 {
        self.heading(y, "Feature-level module");
        let reach = |f: fn((f64, f64)) -> f64| {
            g.ffm
                .iter()
                .map(|gene| f(cell_reach(gene)))
                .fold(0.5 * BOX.1, f64::max)
        };
        let (up, down) = (reach(|r| r.0), reach(|r| r.1));
        let mut y = y + 22.0 + up.max(34.0);
        let mut x = LEFT + NODE.0 + 2.0 * GAP;
        let first = x;
        for (name, at) in [("A", y - 17.0), ("B", y + 17.0)] {
            self.node(LEFT, at, name);
            let to = y + 0.4 * (at - y);
            self.arrow(&[(LEFT + NODE.0, at), (x - GAP, at), (x - GAP, to), (x, to)]);
        }
        self.part(x, y, "stem", "stem");
        let mut end = x + BOX.0;
        for (i, gene) in g.ffm.iter().enumerate() {
            x = end + GAP;
            if x + cell_width(gene) > WIDTH - LEFT && i > 0 {
                let (turn, below) = (end + 0.5 * GAP, y + down + 10.0);
                x = first;
                let next = below + 10.0 + up;
                let points = [
                    (end, y),
                    (turn, y),
                    (turn, below),
                    (x - GAP, below),
                    (x - GAP, next),
                    (x, next),
                ];
                self.arrow(&points);
                y = next;
            } else {
                self.arrow(&[(end, y), (x, y)]);
            }
            end = self.cell(x, y, &format!("cell{i}"), gene);
        }
        x = end + GAP;
        self.arrow(&[(end, y), (x, y)]);
        self.part(x, y, "head", "head");
        x += BOX.0;
        self.arrow(&[(x, y), (x + GAP, y)]);
        self.node(x + GAP, y, "I_f");
        self.right = self.right.max(x + GAP + NODE.0 + LEFT);
        y + down.max(34.0)
    }

    /// I_f, A and B to the fused picture. Returns the lower end.
    fn object_module(&mut self, g: &Genotype, y: f64) -> f64 {
        self.heading(y, "Object-level module and aggregation");
        let genes = [&g.target, &g.detail];
        let [(up, down), (up2, down2)] = genes.map(cell_reach);
        let top = y + 22.0 + up;
        let low = top + (down + up2 + 34.0).max(124.0);
        let middle = 0.5 * (top + low);
        let stem = LEFT + NODE.0 + 2.0 * GAP;
        let cells = stem + BOX.0 + GAP;
        let head = cells + genes.map(cell_width).into_iter().fold(0.0, f64::max) + 2.0 * GAP;
        let picture = head + BOX.0 + GAP;
        let gather = picture + NODE.0 + GAP;
        self.node(LEFT, middle, "I_f");
        let sides = [
            (top, 8.0, "A", "target", "I_t"),
            (low, -8.0, "B", "detail", "I_d"),
        ];
        let turn = LEFT + NODE.0 + GAP;
        for ((at, inwards, source, name, out), gene) in sides.into_iter().zip(genes) {
            self.node(LEFT, at, source);
            self.arrow(&[(LEFT + NODE.0, at), (stem, at)]);
            self.arrow(&[
                (LEFT + NODE.0, middle),
                (turn, middle),
                (turn, at + inwards),
                (stem, at + inwards),
            ]);
            self.part(stem, at, "stem", "stem");
            self.arrow(&[(cells - GAP, at), (cells, at)]);
            let end = self.cell(cells, at, name, gene);
            self.arrow(&[(end, at), (head, at)]);
            // The row's features, before its head.
            let (branch, to) = (head - GAP, middle - inwards);
            self.arrow(&[(branch, at), (branch, to), (gather, to)]);
            self.part(head, at, "head", "head");
            self.arrow(&[(head + BOX.0, at), (picture, at)]);
            self.node(picture, at, out);
        }
        let ms = self.ms("aggregation");
        let wide = 92.0;
        self.fig.round("box", gather, middle - 22.0, wide, 44.0);
        self.fig.text(
            "",
            gather + 0.5 * wide,
            middle - 2.0,
            Anchor::Middle,
            "aggregation",
        );
        self.fig.text(
            "small dim",
            gather + 0.5 * wide,
            middle + 12.0,
            Anchor::Middle,
            &ms,
        );
        let blend = gather + wide + 2.0 * GAP;
        self.arrow(&[(gather + wide, middle), (blend, middle)]);
        self.fig.text(
            "small",
            gather + wide + GAP - 3.0,
            middle - 5.0,
            Anchor::Middle,
            "M",
        );
        self.fig.round("box", blend, middle - 17.0, 124.0, 34.0);
        self.fig.text(
            "",
            blend + 62.0,
            middle + 4.0,
            Anchor::Middle,
            "M I_t + (1 - M) I_d",
        );
        for (at, side) in [(top, -17.0), (low, 17.0)] {
            self.arrow(&[
                (picture + NODE.0, at),
                (blend + 62.0, at),
                (blend + 62.0, middle + side),
            ]);
        }
        let end = blend + 124.0 + GAP;
        self.arrow(&[(blend + 124.0, middle), (end, middle)]);
        self.node(end, middle, "fused");
        self.right = self.right.max(end + NODE.0 + LEFT);
        low + down2 + 14.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::heatmap::tests::genotype;
    use super::*;
    use crate::search::LatencyKey;
    use crate::search::Method;
    use crate::search::Timing;
    use crate::search::latency::{LatencyEntry, entries};

    fn table() -> LatencyTable {
        let row = |(i, e): (usize, crate::search::latency::Entry)| LatencyEntry {
            name: e.name,
            shape: vec![1, 4, 4, 4],
            timing: Timing {
                median_ms: 1.0 + i as f64,
                low_ms: 1.0,
                high_ms: 1.0,
                runs: 1,
            },
            turns: 1,
            copies: 1,
            cold: false,
            flops: 0,
            bytes: 0,
            percent: None,
            kernels: Vec::new(),
        };
        LatencyTable {
            format: 1,
            key: LatencyKey {
                device: "cuda:0 <Orin>".into(),
                dtype: "f16".into(),
                width: 8,
                height: 8,
                channels: 4,
                version: "0".into(),
            },
            method: Method::Nodes,
            entries: entries(8, 8, 4).into_iter().enumerate().map(row).collect(),
        }
    }

    #[test]
    fn every_part_is_drawn_with_its_time() {
        let (g, table) = (genotype(), table());
        let svg = network_svg(&g, Some(&table));
        // In each of two multi-scale cells: three rows of two blocks, two ways down, three ends.
        for (entry, count) in [
            ("5-DC@2", 2),
            ("CA@4", 2),
            ("3-DB@1", 2),
            ("MS.down4", 2),
            ("stem", 3),
            ("DC.fuse", 2),
        ] {
            let ms = digits(table.ms(entry).unwrap());
            let title = format!("<title>{entry} {ms} ms</title>");
            assert_eq!(svg.matches(&title).count(), count, "{title}");
        }
        let all = format!("{} ms in all", digits(table.predict(&g).unwrap()));
        assert!(svg.contains(&all) && svg.contains("cuda:0 &lt;Orin&gt;"));
        assert!(svg.contains("width=\"1160\""), "the paper's space fits");
    }

    #[test]
    fn without_a_table_and_with_many_cells_it_is_drawn_too() {
        let mut g = genotype();
        g.ffm = vec![g.ffm[0].clone(); 7];
        let svg = network_svg(&g, None);
        assert!(svg.contains("no latency table") && svg.contains(">cell6: multi-scale cell<"));
        assert!(!svg.contains("NaN") && svg.contains("width=\"1160\""));
        g.detail.blocks = vec![g.detail.blocks[0]; 30];
        assert!(
            !network_svg(&g, None).contains("width=\"1160\""),
            "wider, not cut"
        );
    }
}
