//! The training losses of both tasks, recorded on a tape.

use super::config::{LossConfig, Task};
use crate::loss::{self, ExposureTarget, FeatureNet};
use crate::net::{
    self, Builder, Feature, Fused, NetworkPlan, ParamSpec, Part, record_ffm, record_fusion,
};
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Taps of the feature network: relu1_1, relu1_2, relu2_1, relu2_2.
const TAPS: usize = 4;

/// Weighted terms of a loss and their sum, all scalars.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Name and weighted value of each term.
    pub terms: Vec<(&'static str, Var)>,
    /// Sum of the terms.
    pub total: Var,
}

/// Records a network, or a part of it, and what it is trained by; also the parameters, in order.
pub(crate) fn record_loss(
    mut builder: Builder<'_>,
    plan: NetworkPlan,
    part: Part,
    sources: net::Sources,
    (net, task, loss): (Option<&FeatureNet>, Task, &LossConfig),
) -> Result<(Terms, Vec<ParamSpec>)> {
    match part {
        Part::Feature => {
            let feature = record_ffm(&mut builder, plan, sources)?;
            let (t, specs) = builder.into_parts();
            Ok((record_feature_loss(t, net, loss, feature, sources)?, specs))
        }
        Part::Whole => {
            let fused = record_fusion(&mut builder, plan, sources)?;
            let (t, specs) = builder.into_parts();
            let terms = record_object_loss(t, net, task, loss, &fused, sources)?;
            Ok((terms, specs))
        }
    }
}

/// What the losses need of the two sources.
pub(super) struct Sources {
    a: Var,
    b: Var,
    features: Option<[Vec<Var>; 2]>,
    /// sigma_1, sigma_2: `[N, 1, 1, 1]` each.
    weights: [Var; 2],
    target: ExposureTarget,
}

impl Sources {
    /// Records features, adaptive weights and the exposure-aware target; without a feature network both weights are 1/2.
    /// What no term reads is dropped before execution.
    fn record(
        t: &mut Tape,
        net: Option<&FeatureNet>,
        loss: &LossConfig,
        sources: net::Sources,
    ) -> Result<Self> {
        let net::Sources { a, b, levels } = sources;
        t.scope("sources", |t| {
            let levels = match levels {
                Some(levels) => levels,
                None => [ops::picture_levels(t, a)?, ops::picture_levels(t, b)?],
            };
            let target = loss::exposure_target(t, (a, b), levels, &loss.exposure)?;
            let (features, weights) = match net {
                None => {
                    let [n, ..] = t.shape(a).padded4();
                    let half = t.constant(&Tensor::full([n, 1, 1, 1], t.dtype(), 0.5))?;
                    (None, [half, half])
                }
                Some(net) => {
                    let fa = net.record(t, a, TAPS)?;
                    let fb = net.record(t, b, TAPS)?;
                    let (sa, sb) = (loss::structure(t, &fa)?, loss::structure(t, &fb)?);
                    let weights = loss::adaptive_weights(t, sa, sb, loss.adaptive_scale)?;
                    (Some([fa, fb]), weights)
                }
            };
            Ok(Self {
                a,
                b,
                features,
                weights,
                target,
            })
        })
    }
}

/// A picture as the losses see it: clamped if the configuration says so.
fn shown(t: &mut Tape, loss: &LossConfig, x: Var) -> Result<Var> {
    match loss.clamp {
        true => ops::clamp(t, x, 0.0, 1.0),
        false => Ok(x),
    }
}

/// Collects weighted terms; a weight of zero leaves a term out.
struct Sum {
    terms: Vec<(&'static str, Var)>,
}

impl Sum {
    fn add(
        &mut self,
        t: &mut Tape,
        name: &'static str,
        weight: f64,
        term: impl FnOnce(&mut Tape) -> Result<Var>,
    ) -> Result<()> {
        if weight > 0.0 {
            let value = term(t)?;
            self.terms.push((name, ops::scale(t, value, weight)?));
        }
        Ok(())
    }

    fn finish(self, t: &mut Tape) -> Result<Terms> {
        let mut vars = self.terms.iter().map(|(_, v)| *v);
        let first = vars
            .next()
            .ok_or_else(|| Error::config("loss", "all weights are 0; give at least one above 0"))?;
        let total = vars.try_fold(first, |sum, v| ops::add(t, sum, v))?;
        Ok(Terms {
            terms: self.terms,
            total,
        })
    }
}

/// L^F on a picture: `sum_k w_k (ssim (1 - SSIM(I, k)) + intensity ||I - k||^2 / HW)`, and two terms of ours.
fn feature_terms(
    t: &mut Tape,
    sum: &mut Sum,
    s: &Sources,
    loss: &LossConfig,
    feature: Feature,
    factor: f64,
) -> Result<()> {
    let f = loss.feature;
    let seen = shown(t, loss, feature.picture)?;
    sum.add(t, "feature_ssim", factor * f.ssim, |t| {
        let a = loss::ssim_loss(t, seen, s.a, Some(s.weights[0]))?;
        let b = loss::ssim_loss(t, seen, s.b, Some(s.weights[1]))?;
        ops::add(t, a, b)
    })?;
    sum.add(t, "feature_intensity", factor * f.intensity, |t| {
        let a = loss::intensity(t, seen, s.a, Some(s.weights[0]))?;
        let b = loss::intensity(t, seen, s.b, Some(s.weights[1]))?;
        ops::add(t, a, b)
    })?;
    sum.add(t, "feature_target", factor * f.target, |t| {
        loss::absolute(t, seen, s.target.fused)
    })?;
    sum.add(t, "feature_edges", factor * f.edges, |t| {
        loss::absolute_gradient(t, seen, s.target.fused)
    })?;
    sum.add(t, "feature_range", factor * loss.range, |t| {
        loss::out_of_range(t, feature.unbounded)
    })
}

/// Stage 1: L^F of section 2.3.4 on the output of the feature-level module.
pub fn record_feature_loss(
    t: &mut Tape,
    net: Option<&FeatureNet>,
    loss: &LossConfig,
    feature: Feature,
    sources: impl Into<net::Sources>,
) -> Result<Terms> {
    let s = Sources::record(t, net, loss, sources.into())?;
    t.scope("loss", |t| {
        let mut sum = Sum { terms: Vec::new() };
        feature_terms(t, &mut sum, &s, loss, feature, 1.0)?;
        sum.finish(t)
    })
}

/// Stage 2: L^O of section 2.3.4 (infrared and visible) or 3.3.1 (MRI and PET).
///
/// The paper writes I_f in the last terms, which is the output of the FFM by its own definition;
/// then nothing would train the aggregation. They are applied to the network's output here.
pub fn record_object_loss(
    t: &mut Tape,
    net: Option<&FeatureNet>,
    task: Task,
    loss: &LossConfig,
    fused: &Fused,
    sources: impl Into<net::Sources>,
) -> Result<Terms> {
    let s = Sources::record(t, net, loss, sources.into())?;
    t.scope("loss", |t| {
        let mut sum = Sum { terms: Vec::new() };
        // Pictures within the range that is written.
        let mut seen = *fused;
        for x in [&mut seen.target, &mut seen.detail, &mut seen.output] {
            *x = shown(t, loss, *x)?;
        }
        paper_terms(t, &mut sum, net, task, &s, loss, &seen)?;
        let feature = Feature {
            picture: fused.feature,
            unbounded: fused.unbounded[0],
        };
        feature_terms(t, &mut sum, &s, loss, feature, loss.object.feature)?;
        fusion_terms(t, &mut sum, net, &s, loss, &seen)?;
        sum.finish(t)
    })
}

/// Those of the paper but for L^F.
fn paper_terms(
    t: &mut Tape,
    sum: &mut Sum,
    net: Option<&FeatureNet>,
    task: Task,
    s: &Sources,
    loss: &LossConfig,
    seen: &Fused,
) -> Result<()> {
    let o = loss.object;
    let mif = task == Task::Mif;
    let Fused {
        target,
        detail,
        output,
        ..
    } = *seen;
    if let (Some(net), Some([fa, fb])) = (net, &s.features) {
        sum.add(t, "perceptual", o.perceptual, |t| {
            let ft = net.record(t, target, TAPS)?;
            let to_a = loss::perceptual(t, &ft, fa)?;
            if !mif {
                return Ok(to_a);
            }
            let to_b = loss::perceptual(t, &ft, fb)?;
            ops::add(t, to_a, to_b)
        })?;
    }
    sum.add(t, "gradient", o.gradient, |t| {
        loss::gradient(t, detail, if mif { s.a } else { s.b }, None)
    })?;
    // sigma_1 goes with the first intensity term of each section: infrared, PET.
    let ([first, w1], [second, w2]) = if mif {
        ([s.b, s.weights[1]], [s.a, s.weights[0]])
    } else {
        ([s.a, s.weights[0]], [s.b, s.weights[1]])
    };
    sum.add(t, "intensity", o.intensity, |t| {
        let x = loss::intensity(t, output, first, Some(w1))?;
        if !mif {
            return Ok(x);
        }
        let y = loss::intensity(t, output, second, Some(w2))?;
        ops::add(t, x, y)
    })?;
    if !mif {
        sum.add(t, "ssim", o.ssim, |t| {
            loss::ssim_loss(t, output, s.b, Some(w2))
        })?;
    }
    Ok(())
}

/// Those beyond the paper.
fn fusion_terms(
    t: &mut Tape,
    sum: &mut Sum,
    net: Option<&FeatureNet>,
    s: &Sources,
    loss: &LossConfig,
    seen: &Fused,
) -> Result<()> {
    let o = loss.object;
    let output = seen.output;
    sum.add(t, "target", o.target, |t| {
        loss::absolute(t, output, s.target.fused)
    })?;
    sum.add(t, "edges", o.edges, |t| {
        loss::absolute_gradient(t, output, s.target.fused)
    })?;
    sum.add(t, "rows", o.rows, |t| {
        let of_a = loss::absolute(t, seen.target, s.target.of_a)?;
        let of_b = loss::absolute(t, seen.detail, s.target.of_b)?;
        ops::add(t, of_a, of_b)
    })?;
    sum.add(t, "mask", o.mask, |t| {
        loss::cross_entropy(t, seen.mask, s.target.share)
    })?;
    sum.add(t, "structure", o.structure, |t| {
        let to_a = loss::ssim_loss(t, output, s.a, None)?;
        let to_b = loss::ssim_loss(t, output, s.b, None)?;
        let both = ops::add(t, to_a, to_b)?;
        ops::scale(t, both, 0.5)
    })?;
    sum.add(t, "joint_gradient", o.joint_gradient, |t| {
        loss::joint_gradient(t, output, s.a, s.b)
    })?;
    sum.add(t, "maximum", o.maximum, |t| {
        let target = ops::maximum(t, s.a, s.b)?;
        loss::absolute(t, output, target)
    })?;
    if let (Some(net), Some([fa, fb])) = (net, &s.features) {
        sum.add(t, "features", o.features, |t| {
            let of = net.record(t, output, TAPS)?;
            let larger = fa.iter().zip(fb).map(|(&a, &b)| ops::maximum(t, a, b));
            let larger = larger.collect::<Result<Vec<_>>>()?;
            loss::perceptual(t, &of, &larger)
        })?;
    }
    sum.add(t, "correlation", o.correlation, |t| {
        let to_a = loss::correlation(t, output, s.a, None)?;
        let to_b = loss::correlation(t, output, s.b, None)?;
        let both = ops::add(t, to_a, to_b)?;
        ops::scale(t, both, 0.5)
    })?;
    sum.add(t, "differences", o.differences, |t| {
        loss::differences(t, output, s.a, s.b)
    })?;
    sum.add(t, "range", loss.range, |t| {
        let [_, target, detail, output] = seen.unbounded;
        let of_output = loss::out_of_range(t, output)?;
        let of_target = loss::out_of_range(t, target)?;
        let of_detail = loss::out_of_range(t, detail)?;
        let rows = ops::add(t, of_target, of_detail)?;
        ops::add(t, of_output, rows)
    })
}
