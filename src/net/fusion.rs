//! The whole network (section 2.1, Fig. 1a).

use super::builder::{Builder, Layer, ParamSpec};
use super::cells::record_layer;
use super::genotype::Genotype;
use super::operators::SLOPE;
use super::plan::{LayerPlan, NetworkPlan};
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
/// `plan`: a [`Genotype`] or a [`NetworkPlan`]. `a`, `b`: `[N, H, W, 1]`, grey values in [0, 1].
pub fn record_ffm(
    b: &mut Builder<'_>,
    plan: impl Into<NetworkPlan>,
    a: Var,
    other: Var,
) -> Result<Var> {
    ffm(b, &plan.into(), a, other)
}

fn ffm(b: &mut Builder<'_>, plan: &NetworkPlan, a: Var, other: Var) -> Result<Var> {
    b.part("ffm", |b| {
        let pair = ops::concat(b.tape, &[a, other])?;
        let x = b.conv("stem", pair, Layer::new(3, plan.channels))?;
        let x = plan.ffm.iter().enumerate().try_fold(x, |x, (i, layer)| {
            b.part(&format!("cell{i}"), |b| record_layer(b, layer, plan, x))
        })?;
        b.conv("head", x, Layer::new(3, 1))
    })
}

/// The whole network: FFM, OFM (target row on (I_f, A), detail row on (I_f, B)) and aggregation.
pub fn record_fusion(
    b: &mut Builder<'_>,
    plan: impl Into<NetworkPlan>,
    a: Var,
    other: Var,
) -> Result<Fused> {
    let plan = &plan.into();
    let feature = ffm(b, plan, a, other)?;
    let (target_features, target) =
        b.part("ofm.target", |b| row(b, plan, &plan.target, feature, a))?;
    let (detail_features, detail) =
        b.part("ofm.detail", |b| row(b, plan, &plan.detail, feature, other))?;
    let mask = b.part("aggregation", |b| {
        record_aggregation(b, plan.channels, target_features, detail_features)
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

/// The mask M from the features of both rows: conv 3x3 -> C / 2, sigma, conv 3x3 -> 1, sigmoid.
pub(crate) fn record_aggregation(
    b: &mut Builder<'_>,
    channels: usize,
    target: Var,
    detail: Var,
) -> Result<Var> {
    let both = ops::concat(b.tape, &[target, detail])?;
    let hidden = Layer::new(3, (channels / 2).max(1)).activation(Activation::LeakyRelu(SLOPE));
    let x = b.conv("conv1", both, hidden)?;
    b.conv("conv2", x, Layer::new(3, 1).activation(Activation::Sigmoid))
}

/// A tape of the whole network with inputs `a` and `b` `[n, height, width, 1]` and the output `fused`.
///
/// ```
/// use hafuse::{DType, infer::Model, net::fusion_tape};
/// let model = Model::builtin("ivif-fast")?;
/// let t = fusion_tape(&model.genotype, [1, 48, 64], DType::F32)?;
/// assert_eq!(t.shape(t.output_vars()["fused"]).dims(), [1, 48, 64, 1]);
/// # Ok::<(), hafuse::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if a value would be larger than any memory.
pub fn fusion_tape(
    genotype: &Genotype,
    [n, height, width]: [usize; 3],
    dtype: DType,
) -> Result<Tape> {
    let mut t = Tape::new(dtype);
    let a = t.input("a", [n, height, width, 1])?;
    let b = t.input("b", [n, height, width, 1])?;
    let fused = record_fusion(&mut Builder::new(&mut t), genotype, a, b)?;
    t.output("fused", fused.output)?;
    Ok(t)
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
    plan: &NetworkPlan,
    layer: &LayerPlan,
    feature: Var,
    source: Var,
) -> Result<(Var, Var)> {
    let pair = ops::concat(b.tape, &[feature, source])?;
    let x = b.conv("stem", pair, Layer::new(3, plan.channels))?;
    let x = b.part("cell", |b| record_layer(b, layer, plan, x))?;
    let y = b.conv("head", x, Layer::new(3, 1))?;
    Ok((x, y))
}
