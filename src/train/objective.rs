//! The training losses of both tasks, recorded on a tape.

use super::config::{LossConfig, ObjectLoss, Task};
use crate::loss::{self, FeatureNet};
use crate::net::Fused;
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Taps of the feature network: relu1_1, relu1_2, relu2_1, relu2_2.
const TAPS: usize = 4;

/// Weighted terms of a loss and their sum, all scalars.
#[derive(Clone, Debug)]
pub struct Terms {
    pub terms: Vec<(&'static str, Var)>,
    pub total: Var,
}

/// What the losses need of the two sources.
pub(super) struct Sources {
    a: Var,
    b: Var,
    features: Option<[Vec<Var>; 2]>,
    /// sigma_1, sigma_2: `[N, 1, 1, 1]` each.
    weights: [Var; 2],
}

impl Sources {
    /// Records features and adaptive weights; without a feature network both weights are 1/2.
    pub fn record(
        t: &mut Tape,
        net: Option<&FeatureNet>,
        loss: &LossConfig,
        a: Var,
        b: Var,
    ) -> Result<Self> {
        t.scope("sources", |t| {
            let Some(net) = net else {
                let [n, ..] = t.shape(a).padded4();
                let half = t.constant(&Tensor::full([n, 1, 1, 1], t.dtype(), 0.5))?;
                return Ok(Self {
                    a,
                    b,
                    features: None,
                    weights: [half, half],
                });
            };
            let fa = net.record(t, a, TAPS)?;
            let fb = net.record(t, b, TAPS)?;
            let (sa, sb) = (loss::structure(t, &fa)?, loss::structure(t, &fb)?);
            let weights = loss::adaptive_weights(t, sa, sb, loss.adaptive_scale)?;
            Ok(Self {
                a,
                b,
                features: Some([fa, fb]),
                weights,
            })
        })
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

/// L^F on a picture: `sum_k w_k (ssim (1 - SSIM(I, k)) + intensity ||I - k||^2 / HW)`.
fn feature_terms(
    t: &mut Tape,
    sum: &mut Sum,
    s: &Sources,
    loss: &LossConfig,
    image: Var,
    factor: f64,
) -> Result<()> {
    sum.add(t, "feature_ssim", factor * loss.feature.ssim, |t| {
        let a = loss::ssim_loss(t, image, s.a, Some(s.weights[0]))?;
        let b = loss::ssim_loss(t, image, s.b, Some(s.weights[1]))?;
        ops::add(t, a, b)
    })?;
    sum.add(
        t,
        "feature_intensity",
        factor * loss.feature.intensity,
        |t| {
            let a = loss::intensity(t, image, s.a, Some(s.weights[0]))?;
            let b = loss::intensity(t, image, s.b, Some(s.weights[1]))?;
            ops::add(t, a, b)
        },
    )
}

/// Stage 1: L^F of section 2.3.4 on the output of the feature-level module.
pub fn record_feature_loss(
    t: &mut Tape,
    net: Option<&FeatureNet>,
    loss: &LossConfig,
    feature: Var,
    (a, b): (Var, Var),
) -> Result<Terms> {
    let s = Sources::record(t, net, loss, a, b)?;
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
    (a, b): (Var, Var),
) -> Result<Terms> {
    let s = Sources::record(t, net, loss, a, b)?;
    let o = loss.object;
    let mif = task == Task::Mif;
    t.scope("loss", |t| {
        let mut sum = Sum { terms: Vec::new() };
        if let (Some(net), Some([fa, fb])) = (net, &s.features) {
            sum.add(t, "perceptual", o.perceptual, |t| {
                let ft = net.record(t, fused.target, TAPS)?;
                let to_a = loss::perceptual(t, &ft, fa)?;
                if !mif {
                    return Ok(to_a);
                }
                let to_b = loss::perceptual(t, &ft, fb)?;
                ops::add(t, to_a, to_b)
            })?;
        }
        sum.add(t, "gradient", o.gradient, |t| {
            loss::gradient(t, fused.detail, if mif { a } else { b }, None)
        })?;
        // sigma_1 goes with the first intensity term of each section: infrared, PET.
        let (first, second) = if mif { (b, a) } else { (a, b) };
        let (w1, w2) = if mif {
            (s.weights[1], s.weights[0])
        } else {
            (s.weights[0], s.weights[1])
        };
        sum.add(t, "intensity", o.intensity, |t| {
            let x = loss::intensity(t, fused.output, first, Some(w1))?;
            if !mif {
                return Ok(x);
            }
            let y = loss::intensity(t, fused.output, second, Some(w2))?;
            ops::add(t, x, y)
        })?;
        if !mif {
            sum.add(t, "ssim", o.ssim, |t| {
                loss::ssim_loss(t, fused.output, b, Some(w2))
            })?;
        }
        feature_terms(t, &mut sum, &s, loss, fused.feature, o.feature)?;
        sum.add(t, "maximum", o.maximum, |t| {
            let target = ops::maximum(t, a, b)?;
            loss::intensity(t, fused.output, target, None)
        })?;
        sum.add(t, "additive", o.additive, |t| {
            let target = additive_target(t, a, b, &o)?;
            loss::intensity(t, fused.output, target, None)
        })?;
        sum.add(t, "joint_gradient", o.joint_gradient, |t| {
            loss::joint_gradient(t, fused.output, a, b)
        })?;
        sum.add(t, "correlation", o.correlation, |t| {
            let to_a = loss::correlation(t, fused.output, a, None)?;
            let to_b = loss::correlation(t, fused.output, b, None)?;
            let both = ops::add(t, to_a, to_b)?;
            ops::scale(t, both, 0.5)
        })?;
        sum.add(t, "differences", o.differences, |t| {
            loss::differences(t, fused.output, a, b)
        })?;
        sum.finish(t)
    })
}

/// `max((A + B) / 2, (1 + tanh(k (A + B - c)) / tanh k) / 2)`: without the floor, what is dark in both turns black.
/// For c < 1 it exceeds 1 by a little where both are white.
fn additive_target(t: &mut Tape, a: Var, b: Var, o: &ObjectLoss) -> Result<Var> {
    let k = o.additive_steepness;
    let sum = ops::add(t, a, b)?;
    let centred = ops::offset(t, sum, -o.additive_centre)?;
    let steep = ops::scale(t, centred, k)?;
    let soft = ops::tanh(t, steep)?;
    let half = ops::scale(t, soft, 0.5 / k.tanh())?;
    let compressed = ops::offset(t, half, 0.5)?;
    let mean = ops::scale(t, sum, 0.5)?;
    ops::maximum(t, compressed, mean)
}
