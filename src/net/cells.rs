//! The three cells of section 2.2.1.

use super::builder::{Builder, Layer};
use super::genotype::{CellGene, CellKind, GuidedFilterGene, OpKind};
use super::operators::record_operator;
use crate::Result;
use crate::ops;
use crate::tape::Var;

/// Records a cell on `x`; shape and channels stay.
pub fn record_cell(
    b: &mut Builder<'_>,
    gene: &CellGene,
    filter: GuidedFilterGene,
    x: Var,
) -> Result<Var> {
    match gene.cell {
        CellKind::Successive => row(b, &gene.blocks, x),
        CellKind::Decomposition => decomposition(b, &gene.blocks, filter, x),
        CellKind::MultiScale => multi_scale(b, &gene.blocks, x),
    }
}

/// Blocks in series, named `block0`, `block1`, ...
fn row(b: &mut Builder<'_>, blocks: &[OpKind], x: Var) -> Result<Var> {
    blocks.iter().enumerate().try_fold(x, |x, (i, &kind)| {
        b.part(&format!("block{i}"), |b| record_operator(b, kind, x))
    })
}

/// low = guided filter (guide: max_c x - min_c x), high = x - low; a row on each; concat, 1 x 1, + x.
///
/// The 1 x 1 of a concatenation is the sum of a 1 x 1 on each part, so nothing is concatenated.
fn decomposition(
    b: &mut Builder<'_>,
    blocks: &[OpKind],
    filter: GuidedFilterGene,
    x: Var,
) -> Result<Var> {
    let c = b.channels(x);
    let guide = ops::channel_range(b.tape, x)?;
    let low = ops::guided_filter(b.tape, guide, x, filter.radius, filter.eps)?;
    let high = ops::sub(b.tape, x, low)?;
    let low = b.part("low", |b| row(b, blocks, low))?;
    let high = b.part("high", |b| row(b, blocks, high))?;
    let y = b.conv("fuse_low", low, Layer::new(1, c).onto(x))?;
    b.conv("fuse_high", high, Layer::new(1, c).no_bias().onto(y))
}

/// A row at full (C), half (2 C) and quarter (4 C) resolution; up, concat, 1 x 1, + x.
///
/// The 1 x 1 is applied before the upsampling, with which it commutes: C channels are resized
/// instead of 2 C and 4 C.
fn multi_scale(b: &mut Builder<'_>, blocks: &[OpKind], x: Var) -> Result<Var> {
    let c = b.channels(x);
    let [_, h, w, _] = b.tape.shape(x).padded4();
    let half = b.conv("down2", x, Layer::new(3, 2 * c).stride(2))?;
    let quarter = b.conv("down4", half, Layer::new(3, 4 * c).stride(2))?;
    let full = b.part("scale1", |b| row(b, blocks, x))?;
    let half = b.part("scale2", |b| row(b, blocks, half))?;
    let quarter = b.part("scale4", |b| row(b, blocks, quarter))?;
    let y = b.conv("fuse1", full, Layer::new(1, c).onto(x))?;
    let y = b.upsample("fuse2", half, (h, w), Layer::new(1, c).onto(y))?;
    b.upsample("fuse4", quarter, (h, w), Layer::new(1, c).onto(y))
}
