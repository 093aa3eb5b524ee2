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
    /// I_f, I_t, I_d and the output before [`FrameGene::ends`](super::FrameGene) bend them.
    pub unbounded: [Var; 4],
}

/// The two pictures that are fused, as the network takes them.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// Infrared, MRI: `[N, H, W, 1]`, grey values in [0, 1].
    pub a: Var,
    /// Visible, PET: as `a`.
    pub b: Var,
    /// [`ops::picture_levels`] of each whole picture, `[N, 1, 1, 2]`, where `a` and `b` are parts of it. `None`: they are whole.
    pub levels: Option<[Var; 2]>,
}

impl From<(Var, Var)> for Sources {
    fn from((a, b): (Var, Var)) -> Self {
        Self { a, b, levels: None }
    }
}

/// Output of the feature-level module, `[N, H, W, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// I_f.
    pub picture: Var,
    /// I_f before [`FrameGene::ends`](super::FrameGene) bend it.
    pub unbounded: Var,
}

/// How much of a network fuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The feature-level module alone, `Ours_F` of the paper: I_f.
    Feature,
    /// The whole network, `Ours_F+O`.
    Whole,
}

/// FFM: concat(A, B) -> conv 3x3 -> C -> cells -> conv 3x3 -> 1 = I_f.
///
/// `plan`: a [`Genotype`] or a [`NetworkPlan`]. With [`FrameGene::levels`](super::FrameGene) the stem takes
/// [`ops::balance`]`(A, B)` instead.
pub fn record_ffm(
    b: &mut Builder<'_>,
    plan: impl Into<NetworkPlan>,
    sources: impl Into<Sources>,
) -> Result<Feature> {
    let plan = &plan.into();
    let framed = frame(b, plan, sources.into())?;
    let feature = ffm(b, plan, framed)?;
    let unbounded = unframe(b.tape, plan, feature)?;
    Ok(Feature {
        picture: bounded(b.tape, plan, unbounded)?,
        unbounded,
    })
}

fn ffm(b: &mut Builder<'_>, plan: &NetworkPlan, sources: Sources) -> Result<Var> {
    b.part("ffm", |b| {
        let pair = match sources.levels {
            Some(levels) => ops::balance(b.tape, sources.a, sources.b, levels)?,
            None => ops::concat(b.tape, &[sources.a, sources.b])?,
        };
        let x = b.conv("stem", pair, Layer::new(3, plan.channels))?;
        let x = plan.ffm.iter().enumerate().try_fold(x, |x, (i, layer)| {
            b.part(&format!("cell{i}"), |b| record_layer(b, layer, plan, x))
        })?;
        b.conv("head", x, Layer::new(3, 1))
    })
}

/// The sources with their border, and their levels if the network takes them.
fn frame(b: &mut Builder<'_>, plan: &NetworkPlan, s: Sources) -> Result<Sources> {
    b.tape.scope("frame", |t| {
        let levels = match (plan.frame.levels, s.levels) {
            (false, _) => None,
            (true, None) => Some([ops::picture_levels(t, s.a)?, ops::picture_levels(t, s.b)?]),
            (true, given) => given,
        };
        let border = plan.frame.border;
        let [a, b] = match border {
            0 => [s.a, s.b],
            _ => [
                ops::reflect_pad(t, s.a, border)?,
                ops::reflect_pad(t, s.b, border)?,
            ],
        };
        Ok(Sources { a, b, levels })
    })
}

/// A picture without the border of [`frame`].
fn unframe(t: &mut Tape, plan: &NetworkPlan, x: Var) -> Result<Var> {
    match plan.frame.border {
        0 => Ok(x),
        border => t.scope("frame", |t| ops::crop(t, x, border)),
    }
}

/// The whole network: FFM, OFM (target row on (I_f, A), detail row on (I_f, B)) and aggregation.
pub fn record_fusion(
    b: &mut Builder<'_>,
    plan: impl Into<NetworkPlan>,
    sources: impl Into<Sources>,
) -> Result<Fused> {
    let plan = &plan.into();
    let f = framed(b, plan, sources.into())?;
    let mut unframe = |x| unframe(b.tape, plan, x);
    let [feature, target, detail, mask, output] =
        [f.feature, f.target, f.detail, f.mask, f.output].map(&mut unframe);
    let unbounded = [feature?, target?, detail?, output?];
    let mut bounded = |x| bounded(b.tape, plan, x);
    Ok(Fused {
        feature: bounded(unbounded[0])?,
        target: bounded(unbounded[1])?,
        detail: bounded(unbounded[2])?,
        mask: mask?,
        output: bounded(unbounded[3])?,
        unbounded,
    })
}

/// A picture that bends at the ends of the scale.
fn bounded(t: &mut Tape, plan: &NetworkPlan, x: Var) -> Result<Var> {
    match plan.frame.ends {
        0.0 => Ok(x),
        ends => t.scope("frame", |t| ops::soft_clamp(t, x, ends)),
    }
}

/// Pictures of the network with its border, before the ends of the scale.
struct Framed {
    feature: Var,
    target: Var,
    detail: Var,
    mask: Var,
    output: Var,
}

fn framed(b: &mut Builder<'_>, plan: &NetworkPlan, sources: Sources) -> Result<Framed> {
    let s = frame(b, plan, sources)?;
    let feature = ffm(b, plan, s)?;
    let (target_features, target) =
        b.part("ofm.target", |b| row(b, plan, &plan.target, feature, s.a))?;
    let (detail_features, detail) =
        b.part("ofm.detail", |b| row(b, plan, &plan.detail, feature, s.b))?;
    let mask = b.part("aggregation", |b| {
        record_aggregation(b, plan.channels, target_features, detail_features)
    })?;
    let output = b.tape.scope("aggregation", |t| {
        let difference = ops::sub(t, target, detail)?;
        ops::gate(t, difference, mask, Some(detail))
    })?;
    Ok(Framed {
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

/// Inputs `a` and `b`, whole pictures.
fn pair(t: &mut Tape, [n, height, width]: [usize; 3]) -> Result<Sources> {
    let mut picture = |name| t.input(name, [n, height, width, 1]);
    Ok((picture("a")?, picture("b")?).into())
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
pub fn fusion_tape(genotype: &Genotype, size: [usize; 3], dtype: DType) -> Result<Tape> {
    tape_of_part(genotype, Part::Whole, size, dtype)
}

/// [`fusion_tape`] of a part of the network.
pub(crate) fn tape_of_part(
    genotype: &Genotype,
    part: Part,
    size: [usize; 3],
    dtype: DType,
) -> Result<Tape> {
    let mut t = Tape::new(dtype);
    let sources = pair(&mut t, size)?;
    let plan = &NetworkPlan::from(genotype);
    let b = &mut Builder::new(&mut t);
    let fused = match part {
        Part::Feature => {
            let sources = frame(b, plan, sources)?;
            ffm(b, plan, sources)?
        }
        Part::Whole => framed(b, plan, sources)?.output,
    };
    let output = unframe(&mut t, plan, fused)?;
    let output = bounded(&mut t, plan, output)?;
    t.output("fused", output)?;
    Ok(t)
}

/// The names of [`parts_tape`]'s outputs: all pictures of [`Fused`].
pub(crate) const PARTS: [&str; 5] = ["feature", "target", "detail", "mask", "output"];

/// [`fusion_tape`] with the outputs [`PARTS`].
pub(crate) fn parts_tape(genotype: &Genotype, size: [usize; 3], dtype: DType) -> Result<Tape> {
    let mut t = Tape::new(dtype);
    let sources = pair(&mut t, size)?;
    let f = record_fusion(&mut Builder::new(&mut t), genotype, sources)?;
    let vars = [f.feature, f.target, f.detail, f.mask, f.output];
    for (name, var) in PARTS.into_iter().zip(vars) {
        t.output(name, var)?;
    }
    Ok(t)
}

/// The parameters of the whole network, in order. Their shapes do not depend on the picture.
pub fn param_specs(g: &Genotype) -> Result<Vec<ParamSpec>> {
    let mut t = Tape::new(DType::F32);
    let sources = pair(&mut t, [1, 16, 16])?;
    let mut builder = Builder::new(&mut t);
    record_fusion(&mut builder, g, sources)?;
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
