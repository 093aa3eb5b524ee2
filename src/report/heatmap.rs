//! Alpha and beta at one moment as heatmaps, what is chosen framed in red: Fig. 3 of the paper.

use super::ramp::Scale;
use super::svg::{Anchor, Figure, number};
use crate::net::{CellGene, CellKind, Genotype, OpKind};
use crate::search::LayerWeights;

const ROW: f64 = 24.0;
const BETA: f64 = 38.0;
const ALPHA: f64 = 29.0;
/// Before the first panel, and between panels, where the names of blocks stand.
const GAP: f64 = 48.0;
const LEFT: f64 = 8.0;
/// Class of the frame of what is chosen for good.
const FRAME: &str = "pick";

/// What a layer has chosen: by the genotype, or the largest weights so far.
pub fn chosen(layer: &LayerWeights, genotype: Option<&Genotype>) -> CellGene {
    let named = genotype.and_then(|g| g.cells().find(|(name, _)| *name == layer.layer));
    named.map_or_else(|| layer.chosen(), |(_, gene)| gene.clone())
}

/// What a layer is called in a heading.
pub fn layer_title(layer: &str) -> String {
    match layer {
        "ofm.target.cell" => "target row of the object-level module".into(),
        "ofm.detail.cell" => "detail row of the object-level module".into(),
        _ => match layer.strip_prefix("ffm.cell").map(str::parse::<usize>) {
            Some(Ok(i)) => format!("feature-level module, cell{i}"),
            _ => layer.to_string(),
        },
    }
}

/// What stands above a layer: its title at the left end, its name at the right.
pub(super) fn heading(fig: &mut Figure, layer: &str, (left, right): (f64, f64), y: f64) {
    fig.text("bold", left, y + 12.0, Anchor::Start, &layer_title(layer));
    fig.text("dim small", right, y + 12.0, Anchor::End, layer);
}

/// Heatmaps of all layers: beta (one row of three cells) and, for each cell, alpha (blocks by operators).
/// Without a genotype the largest weights so far are framed, with dashes.
pub fn final_svg(layers: &[LayerWeights], genotype: Option<&Genotype>) -> String {
    let mut fig = Figure::new();
    let beta = Scale::of(layers.iter().flat_map(|l| &l.beta).copied());
    let alpha = Scale::of(
        layers
            .iter()
            .flat_map(|l| l.alpha.iter().flatten().flatten())
            .copied(),
    );
    let frame = if genotype.is_some() {
        FRAME
    } else {
        "pick later"
    };
    fig.rect(frame, LEFT + 1.0, 9.0, 18.0, 14.0);
    let says = match genotype {
        Some(_) => "chosen: the largest beta of the layer, the largest alpha of each block",
        None => "largest so far",
    };
    fig.text("", LEFT + 28.0, 21.0, Anchor::Start, says);
    beta.draw(&mut fig, "beta", 880.0, 8.0);
    alpha.draw(&mut fig, "alpha", 1130.0, 8.0);

    let mut y = 52.0;
    for layer in layers {
        let gene = chosen(layer, genotype);
        heading(&mut fig, &layer.layer, (LEFT, 1138.0), y);
        y += 24.0;
        beta_panel(&mut fig, layer, &gene, beta, frame, y);
        let mut x = LEFT + 3.0 * BETA + GAP;
        for (k, cell) in CellKind::ALL.into_iter().enumerate() {
            alpha_panel(
                &mut fig,
                layer,
                k,
                (cell == gene.cell).then_some(&gene),
                (alpha, frame),
                (x, y),
            );
            x += OpKind::ALL.len() as f64 * ALPHA + GAP;
        }
        let blocks = layer.alpha.iter().map(Vec::len).max().unwrap_or(0);
        y += 34.0 + blocks as f64 * ROW + 18.0;
    }
    fig.finish(
        y,
        "Heatmaps of alpha and beta; chosen ones are framed in red",
    )
}

fn beta_panel(
    fig: &mut Figure,
    layer: &LayerWeights,
    gene: &CellGene,
    scale: Scale,
    frame: &str,
    y: f64,
) {
    fig.text("", LEFT, y + 11.0, Anchor::Start, "beta");
    for (k, (cell, &v)) in CellKind::ALL.into_iter().zip(&layer.beta).enumerate() {
        let x = LEFT + k as f64 * BETA;
        let class = if cell == gene.cell {
            "small red bold"
        } else {
            "small dim"
        };
        fig.text(class, x + 0.5 * BETA, y + 28.0, Anchor::Middle, cell.name());
        let title = format!("{}, beta of {}: {}", layer.layer, cell.name(), number(v, 4));
        square(fig, scale, v, (x, y + 34.0, BETA), &title);
    }
    let k = gene.cell as usize;
    pick(fig, frame, (LEFT + k as f64 * BETA, y + 34.0, BETA));
}

/// Alpha of cell `k`; `gene` if it is the chosen one.
fn alpha_panel(
    fig: &mut Figure,
    layer: &LayerWeights,
    k: usize,
    gene: Option<&CellGene>,
    (scale, frame): (Scale, &str),
    (x, y): (f64, f64),
) {
    let name = CellKind::ALL[k].name();
    let (class, text) = match gene {
        Some(_) if frame == FRAME => ("red bold", format!("alpha of {name}, chosen")),
        Some(_) => ("red bold", format!("alpha of {name}, largest so far")),
        None => ("dim", format!("alpha of {name}")),
    };
    fig.text(class, x, y + 11.0, Anchor::Start, &text);
    for (i, op) in OpKind::ALL.into_iter().enumerate() {
        let x = x + (i as f64 + 0.5) * ALPHA;
        fig.text("small dim", x, y + 28.0, Anchor::Middle, op.name());
    }
    let blocks = layer.alpha.get(k).map_or(&[][..], Vec::as_slice);
    for (row, weights) in blocks.iter().enumerate() {
        let y = y + 34.0 + row as f64 * ROW;
        let label = format!("block{row}");
        fig.text("small dim", x - 5.0, y + 16.0, Anchor::End, &label);
        for (i, (op, &v)) in OpKind::ALL.into_iter().zip(weights).enumerate() {
            let title = format!(
                "{}, {name}, {label}, alpha of {}: {}",
                layer.layer,
                op.name(),
                number(v, 4)
            );
            square(fig, scale, v, (x + i as f64 * ALPHA, y, ALPHA), &title);
        }
    }
    // Frames last: no neighbour covers them.
    for (row, op) in gene
        .iter()
        .flat_map(|g| &g.blocks)
        .enumerate()
        .take(blocks.len())
    {
        let at = (
            x + *op as usize as f64 * ALPHA,
            y + 34.0 + row as f64 * ROW,
            ALPHA,
        );
        pick(fig, frame, at);
    }
}

/// A value in its colour.
fn square(fig: &mut Figure, scale: Scale, v: f64, (x, y, w): (f64, f64, f64), title: &str) {
    let text = number(v, 3);
    let text = text.strip_prefix('0').unwrap_or(&text);
    fig.titled(title, |fig| {
        fig.rect(&scale.class(v), x, y, w - 1.0, ROW - 1.0);
        let class = format!("small {}", scale.text_class(v));
        fig.text(
            class.trim_end(),
            x + 0.5 * (w - 1.0),
            y + 15.5,
            Anchor::Middle,
            text,
        );
    });
}

fn pick(fig: &mut Figure, class: &str, (x, y, w): (f64, f64, f64)) {
    fig.rect(class, x - 0.5, y - 0.5, w, ROW);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::net::{FrameGene, GuidedFilterGene};

    /// A layer of two blocks that prefers MS with 5-DC and CA.
    pub fn layer(name: &str) -> LayerWeights {
        let mut alpha = vec![vec![vec![0.1; 10]; 2]; 3];
        alpha[2][0] = vec![
            0.05, 0.05, 0.05, 0.4567, 0.05, 0.05, 0.05, 0.05, 0.05, 0.1433,
        ];
        alpha[2][1] = vec![0.01, 0.09, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2];
        LayerWeights {
            layer: name.into(),
            beta: vec![0.2, 0.3, 0.5],
            alpha,
        }
    }

    pub fn genotype() -> Genotype {
        let gene = |cell, a, b| CellGene {
            cell,
            blocks: vec![a, b],
        };
        Genotype {
            version: Genotype::VERSION,
            channels: 4,
            ffm: vec![
                gene(
                    CellKind::MultiScale,
                    OpKind::Dilated5,
                    OpKind::ChannelAttention,
                ),
                gene(
                    CellKind::Decomposition,
                    OpKind::Dense3,
                    OpKind::SpatialAttention,
                ),
            ],
            target: gene(CellKind::Successive, OpKind::Separable3, OpKind::Residual5),
            detail: gene(
                CellKind::MultiScale,
                OpKind::Dilated5,
                OpKind::ChannelAttention,
            ),
            guided_filter: GuidedFilterGene::default(),
            frame: FrameGene::default(),
        }
    }

    fn attribute(tag: &str, name: &str) -> f64 {
        let rest = tag.split(&format!("{name}=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    }

    /// Corners of the frames, without the one of the legend.
    fn frames(svg: &str) -> Vec<(f64, f64)> {
        let tags = svg.split("<rect class=\"pick").skip(2);
        tags.map(|t| (attribute(t, "x"), attribute(t, "y")))
            .collect()
    }

    /// Corner of the square with this title.
    fn square_of(svg: &str, title: &str) -> (f64, f64) {
        let tag = svg.split(&format!("<title>{title}")).nth(1).expect(title);
        (attribute(tag, "x") - 0.5, attribute(tag, "y") - 0.5)
    }

    #[test]
    fn the_largest_weights_are_framed_and_all_are_written() {
        let svg = final_svg(&[layer("ffm.cell0")], None);
        let expected = [
            square_of(&svg, "ffm.cell0, beta of MS: 0.5000"),
            square_of(&svg, "ffm.cell0, MS, block0, alpha of 5-DC: 0.4567"),
            square_of(&svg, "ffm.cell0, MS, block1, alpha of CA: 0.2000"),
        ];
        assert_eq!(frames(&svg), expected);
        assert!(svg.contains(">.457</text>") && svg.contains("largest so far"));
        assert_eq!(svg.matches("<title>").count(), 3 + 3 * 2 * 10);
        assert!(svg.contains("feature-level module, cell0"));
    }

    #[test]
    fn a_genotype_decides_what_is_framed() {
        let layers = [layer("ffm.cell1"), layer("ofm.detail.cell")];
        let svg = final_svg(&layers, Some(&genotype()));
        let expected = [
            square_of(&svg, "ffm.cell1, beta of DC"),
            square_of(&svg, "ffm.cell1, DC, block0, alpha of 3-DB"),
            square_of(&svg, "ffm.cell1, DC, block1, alpha of SA"),
            square_of(&svg, "ofm.detail.cell, beta of MS"),
            square_of(&svg, "ofm.detail.cell, MS, block0, alpha of 5-DC"),
            square_of(&svg, "ofm.detail.cell, MS, block1, alpha of CA"),
        ];
        assert_eq!(frames(&svg), expected);
    }

    #[test]
    fn odd_weights_are_drawn_without_nan() {
        let mut odd = layer("<odd>");
        odd.beta[1] = f64::NAN;
        odd.alpha[0].clear();
        let svg = final_svg(&[odd], None);
        assert!(svg.contains("&lt;odd&gt;") && !svg.contains("<odd>"));
        assert!(!svg.contains("NaN"));
        assert!(final_svg(&[], None).ends_with("</svg>\n"));
    }
}
