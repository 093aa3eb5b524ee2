//! The three cells of section 2.2.1.

use super::builder::{Builder, Layer};
use super::genotype::{CellGene, CellKind, GuidedFilterGene, OpKind};
use super::operators::record_operator;
use super::plan::{CellPlan, LayerPlan, NetworkPlan, Pick};
use crate::Result;
use crate::ops;
use crate::tape::Var;

/// Records the cell or the mixed cell of a layer on `x`; shape and channels stay.
pub(super) fn record_layer(
    b: &mut Builder<'_>,
    plan: &LayerPlan,
    network: &NetworkPlan,
    x: Var,
) -> Result<Var> {
    let named = network.candidate_names;
    let record = |b: &mut Builder<'_>, c: &CellPlan| match named {
        true => b.part(c.cell.name(), |b| {
            record_planned(b, c, network.guided_filter, named, x)
        }),
        false => record_planned(b, c, network.guided_filter, named, x),
    };
    match plan {
        LayerPlan::One(c) => record(b, c),
        LayerPlan::Mix { beta, cells } => {
            let mut ys = Vec::with_capacity(cells.len());
            for c in cells {
                let first = b.tape.nodes().len();
                let y = record(b, c)?;
                if network.recompute {
                    b.tape.recompute(first, y)?;
                }
                ys.push(y);
            }
            ops::weighted_sum(b.tape, *beta, &ys)
        }
    }
}

/// Records a chosen cell on `x`; shape and channels stay.
pub fn record_cell(
    b: &mut Builder<'_>,
    gene: &CellGene,
    filter: GuidedFilterGene,
    x: Var,
) -> Result<Var> {
    let blocks = gene.blocks.iter().copied().map(Pick::One).collect();
    let cell = CellPlan {
        cell: gene.cell,
        blocks,
    };
    record_planned(b, &cell, filter, false, x)
}

fn record_planned(
    b: &mut Builder<'_>,
    plan: &CellPlan,
    filter: GuidedFilterGene,
    named: bool,
    x: Var,
) -> Result<Var> {
    let row = |b: &mut Builder<'_>, x: Var| row(b, &plan.blocks, named, x);
    match plan.cell {
        CellKind::Successive => row(b, x),
        CellKind::Decomposition => decomposition(b, row, filter, x),
        CellKind::MultiScale => multi_scale(b, row, x),
    }
}

/// Blocks in series, named `block0`, `block1`, ...
fn row(b: &mut Builder<'_>, blocks: &[Pick], named: bool, x: Var) -> Result<Var> {
    blocks.iter().enumerate().try_fold(x, |x, (i, pick)| {
        b.part(&format!("block{i}"), |b| block(b, *pick, named, x))
    })
}

fn block(b: &mut Builder<'_>, pick: Pick, named: bool, x: Var) -> Result<Var> {
    let mut operator = |kind: OpKind| match named {
        true => b.part(kind.name(), |b| record_operator(b, kind, x)),
        false => record_operator(b, kind, x),
    };
    match pick {
        Pick::One(kind) => operator(kind),
        Pick::Mix(alpha, operators) => {
            let there = OpKind::ALL.into_iter().zip(operators);
            let ys = there
                .filter(|(_, there)| *there)
                .map(|(kind, _)| operator(kind));
            let ys = ys.collect::<Result<Vec<_>>>()?;
            ops::weighted_sum(b.tape, alpha, &ys)
        }
    }
}

/// low = guided filter (guide: max_c x - min_c x), high = x - low; a row on each; concat, 1 x 1, + x.
///
/// The 1 x 1 of a concatenation is the sum of a 1 x 1 on each part, so nothing is concatenated.
fn decomposition(
    b: &mut Builder<'_>,
    row: impl Fn(&mut Builder<'_>, Var) -> Result<Var>,
    filter: GuidedFilterGene,
    x: Var,
) -> Result<Var> {
    let c = b.channels(x);
    let guide = ops::channel_range(b.tape, x)?;
    let low = ops::guided_filter(b.tape, guide, x, filter.radius, filter.eps)?;
    let high = ops::sub(b.tape, x, low)?;
    let low = b.part("low", |b| row(b, low))?;
    let high = b.part("high", |b| row(b, high))?;
    let y = b.conv("fuse_low", low, Layer::new(1, c).onto(x))?;
    b.conv("fuse_high", high, Layer::new(1, c).no_bias().onto(y))
}

/// A row at full (C), half (2 C) and quarter (4 C) resolution; up, concat, 1 x 1, + x.
///
/// The 1 x 1 is applied before the upsampling, with which it commutes: C channels are resized
/// instead of 2 C and 4 C.
fn multi_scale(
    b: &mut Builder<'_>,
    row: impl Fn(&mut Builder<'_>, Var) -> Result<Var>,
    x: Var,
) -> Result<Var> {
    let c = b.channels(x);
    let [_, h, w, _] = b.tape.shape(x).padded4();
    let half = b.conv("down2", x, Layer::new(3, 2 * c).stride(2))?;
    let quarter = b.conv("down4", half, Layer::new(3, 4 * c).stride(2))?;
    let full = b.part("scale1", |b| row(b, x))?;
    let half = b.part("scale2", |b| row(b, half))?;
    let quarter = b.part("scale4", |b| row(b, quarter))?;
    let y = b.conv("fuse1", full, Layer::new(1, c).onto(x))?;
    let y = b.upsample("fuse2", half, (h, w), Layer::new(1, c).onto(y))?;
    b.upsample("fuse4", quarter, (h, w), Layer::new(1, c).onto(y))
}
