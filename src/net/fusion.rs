//! The whole network (section 2.1, Fig. 1a).

use super::builder::{Builder, Layer, ParamSpec};
use super::cells::record_cell;
use super::genotype::{CellGene, Genotype};
use super::operators::SLOPE;
use crate::Result;
use crate::ops::{self, Activation};
use crate::tape::{Tape, Var};
use crate::tensor::DType;

/// Outputs of the network, each `[N, H, W, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Fused {
    /// Output of the feature-level module, I_f.
    pub feature: Var,
    /// Output of the target row, I_t.
    pub target: Var,
    /// Output of the detail row, I_d.
    pub detail: Var,
    /// The aggregation mask M in (0, 1).
    pub mask: Var,
    /// `M * I_t + (1 - M) * I_d`.
    pub output: Var,
}

/// FFM: concat(A, B) -> conv 3x3 -> C -> cells -> conv 3x3 -> 1 = I_f.
///
/// `a`, `b`: `[N, H, W, 1]`, grey values in [0, 1].
pub fn record_ffm(b: &mut Builder<'_>, g: &Genotype, a: Var, other: Var) -> Result<Var> {
    b.part("ffm", |b| {
        let pair = ops::concat(b.tape, &[a, other])?;
        let x = b.conv("stem", pair, Layer::new(3, g.channels))?;
        let x = g.ffm.iter().enumerate().try_fold(x, |x, (i, gene)| {
            b.part(&format!("cell{i}"), |b| {
                record_cell(b, gene, g.guided_filter, x)
            })
        })?;
        b.conv("head", x, Layer::new(3, 1))
    })
}

/// The whole network: FFM, OFM (target row on (I_f, A), detail row on (I_f, B)) and aggregation.
pub fn record_fusion(b: &mut Builder<'_>, g: &Genotype, a: Var, other: Var) -> Result<Fused> {
    let feature = record_ffm(b, g, a, other)?;
    let (target_features, target) = b.part("ofm.target", |b| row(b, g, &g.target, feature, a))?;
    let (detail_features, detail) =
        b.part("ofm.detail", |b| row(b, g, &g.detail, feature, other))?;
    let mask = b.part("aggregation", |b| {
        let both = ops::concat(b.tape, &[target_features, detail_features])?;
        let hidden =
            Layer::new(3, (g.channels / 2).max(1)).activation(Activation::LeakyRelu(SLOPE));
        let x = b.conv("conv1", both, hidden)?;
        b.conv("conv2", x, Layer::new(3, 1).activation(Activation::Sigmoid))
    })?;
    let output = b.tape.scope("aggregation", |t| {
        let difference = ops::sub(t, target, detail)?;
        ops::gate(t, difference, mask, Some(detail))
    })?;
    Ok(Fused {
        feature,
        target,
        detail,
        mask,
        output,
    })
}

/// The parameters of the whole network, in order. Their shapes do not depend on the picture.
pub fn param_specs(g: &Genotype) -> Result<Vec<ParamSpec>> {
    let mut t = Tape::new(DType::F32);
    let a = t.input("a", [1, 16, 16, 1])?;
    let b = t.input("b", [1, 16, 16, 1])?;
    let mut builder = Builder::new(&mut t);
    record_fusion(&mut builder, g, a, b)?;
    Ok(builder.into_specs())
}

/// One row of the OFM: its features and its picture.
fn row(
    b: &mut Builder<'_>,
    g: &Genotype,
    gene: &CellGene,
    feature: Var,
    source: Var,
) -> Result<(Var, Var)> {
    let pair = ops::concat(b.tape, &[feature, source])?;
    let x = b.conv("stem", pair, Layer::new(3, g.channels))?;
    let x = b.part("cell", |b| record_cell(b, gene, g.guided_filter, x))?;
    let y = b.conv("head", x, Layer::new(3, 1))?;
    Ok((x, y))
}
