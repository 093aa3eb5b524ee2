//! Structural similarity.

use super::{affine, same_shape, weighted_mean};
use crate::Result;
use crate::ops;
use crate::tape::{Tape, Var};

/// Side of the window.
const SIZE: usize = 11;
const SIGMA: f64 = 1.5;
/// `(0.01 L)^2` and `(0.03 L)^2` for the range `L = 1`.
const C1: f64 = 1e-4;
const C2: f64 = 9e-4;

/// Structural similarity of images in `[0, 1]` (Wang et al. 2004), the mean over each sample of
///
/// `(2 ma mb + C1) (2 sab + C2) / ((ma^2 + mb^2 + C1) (saa + sbb + C2))`
///
/// with means `m` and (co)variances `s` under an 11 x 11 Gaussian window of sigma 1.5,
/// `C1 = 0.01^2`, `C2 = 0.03^2`. Only whole windows count. Channels are averaged.
///
/// # Shapes
/// `a` and `b`: `[N, H, W, C]` with sides of at least 11; the result is `[N, 1, 1, 1]`.
///
/// # Gradient
/// With respect to `a` and `b`.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes differ or a side is shorter than 11.
///
/// ```
/// use hafuse::{loss, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.constant(&Tensor::full([1, 12, 13, 1], DType::F32, 0.5))?;
/// let y = loss::ssim(&mut t, x, x)?;
/// t.output("ssim", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.run()?;
/// assert!((s.scalar("ssim")? - 1.0).abs() < 1e-5);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn ssim(t: &mut Tape, a: Var, b: Var) -> Result<Var> {
    same_shape("ssim", t, a, b)?;
    let [.., c] = t.shape(a).dims4("ssim")?;
    // All five windowed means in one pair of passes.
    let (aa, bb, ab) = (ops::square(t, a)?, ops::square(t, b)?, ops::mul(t, a, b)?);
    let all = ops::concat(t, &[a, b, aa, bb, ab])?;
    let means = ops::gaussian_window(t, all, SIZE, SIGMA)?;
    let mean = |t: &mut Tape, i: usize| ops::slice_channels(t, means, i * c, c);
    let (ma, mb) = (mean(t, 0)?, mean(t, 1)?);
    let (maa, mbb, mab) = (mean(t, 2)?, mean(t, 3)?, mean(t, 4)?);

    let product = ops::mul(t, ma, mb)?;
    let (ma2, mb2) = (ops::square(t, ma)?, ops::square(t, mb)?);
    let squares = ops::add(t, ma2, mb2)?;
    let covariance = ops::sub(t, mab, product)?;
    let moments = ops::add(t, maa, mbb)?;
    let variances = ops::sub(t, moments, squares)?;

    let luminance = affine(t, product, 2.0, C1)?;
    let structure = affine(t, covariance, 2.0, C2)?;
    let above = ops::mul(t, luminance, structure)?;
    let squares = ops::offset(t, squares, C1)?;
    let variances = ops::offset(t, variances, C2)?;
    let below = ops::mul(t, squares, variances)?;
    let map = ops::div(t, above, below)?;
    ops::mean_samples(t, map)
}

/// SSIM loss: `1/N sum over n of w_n (1 - SSIM(a_n, b_n))`; see [`ssim`].
///
/// # Shapes
/// `a` and `b`: `[N, H, W, C]` with sides of at least 11, `weights`: `[N, 1, 1, 1]`; the loss is `[]`.
///
/// # Gradient
/// With respect to `a`, `b` and `weights`.
///
/// # Errors
/// As for [`ssim`], and if `weights` does not fit.
pub fn ssim_loss(t: &mut Tape, a: Var, b: Var, weights: Option<Var>) -> Result<Var> {
    let similarity = ssim(t, a, b)?;
    let each = affine(t, similarity, -1.0, 1.0)?;
    weighted_mean("ssim_loss", t, each, weights)
}
