//! The losses of the paper, recorded from [`crate::ops`].
//!
//! Each compares a fused image with a source image; `weights`, one for each sample of the batch,
//! say how much that source counts. Without weights every sample counts 1.

mod correlation;
mod exposure;
mod features;
mod perceptual;
mod ssim;

pub use correlation::{correlation, differences};
pub use exposure::{ExposureOptions, ExposureTarget, exposure_target};
pub use features::{FeatureNet, is_feature_param};
pub use perceptual::{adaptive_weights, perceptual, structure};
pub use ssim::{ssim, ssim_loss};

use crate::ops;
use crate::tape::{Tape, Var};
use crate::{Error, Result};

/// Intensity loss (Eq. 4): `1/N sum over n of w_n 1/(HW) ||a_n - b_n||^2`.
///
/// With several channels, their mean.
///
/// # Shapes
/// `a` and `b`: `[N, H, W, C]`, `weights`: `[N, 1, 1, 1]`; the loss is `[]`.
///
/// # Gradient
/// With respect to `a`, `b` and `weights`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit.
///
/// ```
/// use hafuse::{loss, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let (a, b) = (t.input("a", [2, 3, 5, 1])?, t.input("b", [2, 3, 5, 1])?);
/// let l = loss::intensity(&mut t, a, b, None)?;
/// t.output("loss", l)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("a", &Tensor::full([2, 3, 5, 1], DType::F32, 1.0))?;
/// s.set("b", &Tensor::full([2, 3, 5, 1], DType::F32, 0.5))?;
/// s.run()?;
/// assert_eq!(s.scalar("loss")?, 0.25);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn intensity(t: &mut Tape, a: Var, b: Var, weights: Option<Var>) -> Result<Var> {
    same_shape("intensity", t, a, b)?;
    let d = ops::sub(t, a, b)?;
    let each = mean_square(t, d)?;
    weighted_mean("intensity", t, each, weights)
}

/// Gradient loss (Eq. 6): `1/N sum over n of w_n 1/(H'W') ||grad a_n - grad b_n||^2`, where `grad`
/// is [`ops::image_gradient`] (its two components summed) and `H' = H - 2`, `W' = W - 2`.
///
/// With several channels, their mean.
///
/// # Shapes
/// `a` and `b`: `[N, H, W, C]` with sides of at least 3, `weights`: `[N, 1, 1, 1]`; the loss is `[]`.
///
/// # Gradient
/// With respect to `a`, `b` and `weights`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit.
pub fn gradient(t: &mut Tape, a: Var, b: Var, weights: Option<Var>) -> Result<Var> {
    same_shape("gradient", t, a, b)?;
    // The operator is linear: one pass over the difference does for both images.
    let d = ops::sub(t, a, b)?;
    let (gx, gy) = ops::image_gradient(t, d)?;
    let (ex, ey) = (mean_square(t, gx)?, mean_square(t, gy)?);
    let each = ops::add(t, ex, ey)?;
    weighted_mean("gradient", t, each, weights)
}

/// Absolute loss, beyond the paper: `mean |a - b|`.
///
/// # Shapes
/// `a` and `b`: one shape; the loss is `[]`.
///
/// # Gradient
/// With respect to both; 0 where they are equal.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn absolute(t: &mut Tape, a: Var, b: Var) -> Result<Var> {
    same_shape("absolute", t, a, b)?;
    let d = ops::sub(t, a, b)?;
    let d = ops::abs(t, d)?;
    ops::mean_all(t, d)
}

/// Absolute loss of derivatives, beyond the paper: `mean |da - db|`, the mean over both directions of
/// [`ops::image_gradient`].
///
/// # Shapes
/// `a` and `b`: `[N, H, W, C]`, H and W at least 3; the loss is `[]`.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn absolute_gradient(t: &mut Tape, a: Var, b: Var) -> Result<Var> {
    same_shape("absolute_gradient", t, a, b)?;
    let d = ops::sub(t, a, b)?;
    let (gx, gy) = ops::image_gradient(t, d)?;
    let (gx, gy) = (ops::abs(t, gx)?, ops::abs(t, gy)?);
    let sum = ops::add(t, gx, gy)?;
    let mean = ops::mean_all(t, sum)?;
    ops::scale(t, mean, 0.5)
}

/// Joint gradient loss, beyond the paper: `mean | |dF| - max(|dA|, |dB|) |`, the mean over both directions, with the
/// derivatives of [`ops::image_gradient`] (Sobel / 8: a unit ramp has 1).
///
/// As in SeAFusion (Tang et al. 2022), which leaves the 1 / 8 out and adds both directions: its weight of 10 is 160 here.
///
/// # Shapes
/// `f`, `a`, `b`: `[N, H, W, C]`, H and W at least 3; the loss is `[]`.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn joint_gradient(t: &mut Tape, f: Var, a: Var, b: Var) -> Result<Var> {
    same_shape("joint_gradient", t, f, a)?;
    same_shape("joint_gradient", t, f, b)?;
    let mut magnitudes = |x| -> Result<[Var; 2]> {
        let (gx, gy) = ops::image_gradient(t, x)?;
        Ok([ops::abs(t, gx)?, ops::abs(t, gy)?])
    };
    let (f, a, b) = (magnitudes(f)?, magnitudes(a)?, magnitudes(b)?);
    let mut each = Vec::with_capacity(2);
    for i in 0..2 {
        let target = ops::maximum(t, a[i], b[i])?;
        each.push(absolute(t, f[i], target)?);
    }
    let sum = ops::add(t, each[0], each[1])?;
    ops::scale(t, sum, 0.5)
}

/// Cross-entropy of a mask and the share that it should be, beyond the paper: `-mean (w ln m + (1 - w) ln (1 - m))`, with `m` at
/// least 1e-4 and at most 1 - 1e-4.
///
/// # Shapes
/// `mask` and `share`: one shape, values in [0, 1]; the loss is `[]`.
///
/// # Gradient
/// With respect to both; none for a mask beyond the bounds.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn cross_entropy(t: &mut Tape, mask: Var, share: Var) -> Result<Var> {
    same_shape("cross_entropy", t, mask, share)?;
    let m = ops::clamp(t, mask, 1e-4, 1.0 - 1e-4)?;
    let other = affine(t, m, -1.0, 1.0)?;
    let (yes, no) = (ops::log(t, m)?, ops::log(t, other)?);
    let each = ops::lerp(t, yes, no, share)?;
    let mean = ops::mean_all(t, each)?;
    ops::neg(t, mean)
}

/// What leaves [0, 1], beyond the paper: `mean (max(-x, 0) + max(x - 1, 0))`.
pub fn out_of_range(t: &mut Tape, x: Var) -> Result<Var> {
    let inside = ops::clamp(t, x, 0.0, 1.0)?;
    absolute(t, x, inside)
}

/// `s x + o`.
fn affine(t: &mut Tape, x: Var, s: f64, o: f64) -> Result<Var> {
    let scaled = ops::scale(t, x, s)?;
    ops::offset(t, scaled, o)
}

/// Mean of squares of each sample, `[N, 1, 1, 1]`.
fn mean_square(t: &mut Tape, x: Var) -> Result<Var> {
    let squares = ops::square(t, x)?;
    ops::mean_samples(t, squares)
}

/// Mean over the batch of `w_n each_n`.
fn weighted_mean(op: &'static str, t: &mut Tape, each: Var, weights: Option<Var>) -> Result<Var> {
    let Some(w) = weights else {
        return ops::mean_all(t, each);
    };
    same_shape(op, t, w, each)?; // anything else would broadcast to a wrong mean
    let weighted = ops::mul(t, w, each)?;
    ops::mean_all(t, weighted)
}

fn same_shape(op: &'static str, t: &Tape, a: Var, b: Var) -> Result<()> {
    let (a, b) = (t.shape(a), t.shape(b));
    if a != b {
        return Err(Error::shape(op, format!("shapes {a} and {b} differ")));
    }
    Ok(())
}
