//! Losses by correlation, beyond the paper: what its metrics CC and SCD reward.

use super::{mean_square, same_shape, weighted_mean};
use crate::Result;
use crate::ops;
use crate::tape::{Tape, Var};

/// Added to each variance (of values in \[0, 1\]), so that noise of a flat patch counts little.
const FLAT: f64 = 1e-5;

/// Correlation loss: `1/N sum over n of w_n (1 - r(a_n, b_n))` with
/// `r(x, y) = cov(x, y) / sqrt((var x + 1e-5) (var y + 1e-5))`, Pearson's correlation over a sample's pixels and channels.
///
/// # Shapes
/// `a` and `b`: `[N, H, W, C]`, `weights`: `[N, 1, 1, 1]`; the loss is `[]`.
///
/// # Gradient
/// With respect to `a`, `b` and `weights`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit.
///
/// ```
/// use hafuse::{loss, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let (a, b) = (t.input("a", [1, 1, 3, 1])?, t.input("b", [1, 1, 3, 1])?);
/// let l = loss::correlation(&mut t, a, b, None)?;
/// t.output("loss", l)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("a", &Tensor::from_vec([1, 1, 3, 1], vec![0.1f32, 0.2, 0.6])?)?;
/// s.set("b", &Tensor::from_vec([1, 1, 3, 1], vec![0.9f32, 0.8, 0.4])?)?;   // 1 - a
/// s.run()?;
/// assert!((s.scalar("loss")? - 2.0).abs() < 1e-3);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn correlation(t: &mut Tape, a: Var, b: Var, weights: Option<Var>) -> Result<Var> {
    same_shape("correlation", t, a, b)?;
    let mut centred = |x| -> Result<(Var, Var)> {
        let mean = ops::mean_samples(t, x)?;
        let d = ops::sub(t, x, mean)?;
        let variance = mean_square(t, d)?;
        Ok((d, ops::offset(t, variance, FLAT)?))
    };
    let ((da, va), (db, vb)) = (centred(a)?, centred(b)?);
    let products = ops::mul(t, da, db)?;
    let covariance = ops::mean_samples(t, products)?;
    let variances = ops::mul(t, va, vb)?;
    let deviations = ops::sqrt(t, variances)?;
    let r = ops::div(t, covariance, deviations)?;
    let minus = ops::neg(t, r)?;
    let each = ops::offset(t, minus, 1.0)?;
    weighted_mean("correlation", t, each, weights)
}

/// Loss of the correlations of differences (SCD, Aslantas and Bendes 2015): the mean of the
/// [correlation losses](correlation) of `f - b` with `a` and of `f - a` with `b`. 0 where `f` is `a + b` up to a constant.
///
/// # Shapes
/// `f`, `a`, `b`: `[N, H, W, C]`; the loss is `[]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ.
pub fn differences(t: &mut Tape, f: Var, a: Var, b: Var) -> Result<Var> {
    same_shape("differences", t, f, a)?;
    same_shape("differences", t, f, b)?;
    let mut one = |from, other| {
        let rest = ops::sub(t, f, from)?;
        correlation(t, rest, other, None)
    };
    let (x, y) = (one(b, a)?, one(a, b)?);
    let sum = ops::add(t, x, y)?;
    ops::scale(t, sum, 0.5)
}
