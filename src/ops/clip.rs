//! A bound on the length of a gradient.

use super::mixed::Dots;
use super::{maximum, mul, recip, scale, sqrt};
use crate::tape::{Accumulate, Tape, Var};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Scales gradients together so that their Euclidean length is at most `max`:
/// `g_i min(1, max / sqrt(sum_i |g_i|^2))` (Pascanu et al. 2013).
///
/// The squares of each gradient are added in f64 on the CPU. A gradient that is not finite makes all of
/// them NaN.
///
/// # Errors
/// [`Error::Config`] unless `max` is positive and finite.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F64);
/// let (a, b) = (t.input("a", [1])?, t.input("b", [2])?);
/// let clipped = ops::clip_norm(&mut t, &[a, b], 1.5)?;
/// t.output("a'", clipped[0])?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("a", &Tensor::from_vec([1], vec![2.0])?)?;
/// s.set("b", &Tensor::from_vec([2], vec![1.0, 2.0])?)?; // the length of both is 3
/// s.run()?;
/// assert_eq!(s.output::<f64>("a'")?, [1.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn clip_norm(t: &mut Tape, gradients: &[Var], max: f64) -> Result<Vec<Var>> {
    if !(max > 0.0 && max.is_finite()) {
        let detail = format!("must be above 0, found {max}");
        return Err(Error::config("largest length of a gradient", detail));
    }
    let squares = gradients.iter().map(|&g| t.record(Dots, &[g, g]));
    let squares = squares.collect::<Result<Vec<_>>>()?;
    if squares.is_empty() {
        return Ok(Vec::new());
    }
    let length = t.record(Accumulate, &squares)?;
    let length = sqrt(t, length)?;
    let times = scale(t, length, 1.0 / max)?;
    let one = t.constant(&Tensor::full([1], t.dtype(), 1.0))?;
    let divisor = maximum(t, one, times)?;
    let factor = recip(t, divisor)?;
    gradients.iter().map(|&g| mul(t, g, factor)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, ParamStore, Session};

    #[test]
    fn short_gradients_stay_and_long_ones_keep_their_direction() {
        let run = |max: f64| {
            let mut t = Tape::new(DType::F64);
            let g = [3.0, 4.0].map(|v| Tensor::full([1], DType::F64, v));
            let g = g.map(|g| t.constant(&g).unwrap());
            let clipped = clip_norm(&mut t, &g, max).unwrap();
            t.output("a", clipped[0]).unwrap();
            t.output("b", clipped[1]).unwrap();
            let mut s = Session::new(&t, &ParamStore::default()).unwrap();
            s.run().unwrap();
            ["a", "b"].map(|n| s.output::<f64>(n).unwrap()[0])
        };
        assert_eq!(run(5.5), [3.0, 4.0]);
        let [a, b] = run(1.0);
        assert!((a - 0.6).abs() < 1e-12 && (b - 0.8).abs() < 1e-12);
        let mut t = Tape::new(DType::F64);
        assert!(clip_norm(&mut t, &[], 0.0).is_err());
    }
}
