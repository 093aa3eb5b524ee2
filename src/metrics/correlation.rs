//! CC and SCD: linear correlation of the fused picture with its sources.
//!
//! ```text
//! CC  = (r(A, F) + r(B, F)) / 2
//! SCD = r(F - B, A) + r(F - A, B)
//! ```
//!
//! r is Pearson's coefficient over all pixels; a constant picture correlates with nothing, r = 0 (so SCD of a copy of one
//! source counts the other alone). `cc` is -1 to 1, `scd` -2 to 2. SCD: Aslantas and Bendes 2015. All toolboxes, and the fusion
//! paper's tables, use these two as they stand. The plain average of the sources has a high CC, whatever it loses.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let a = Grey::new(4, 1, vec![0, 0, 100, 100])?;
//! let b = Grey::new(4, 1, vec![0, 100, 0, 100])?;
//! let sum = Grey::new(4, 1, vec![0, 100, 100, 200])?;
//! // F - B is A and F - A is B.
//! assert_eq!(measure(&a, &b, &sum, &[Metric::Scd])?, [Ok(2.0)]);
//! # Ok::<(), hafuse::Error>(())
//! ```

use super::counts::{Sums, scaled_covariance};

pub(super) fn cc(s: &Sums) -> f64 {
    let [n, a, b, f] = [s.n, s.a, s.b, s.f];
    let r = |x, xx, xf| pearson(n, [x, f].map(i128::from), [xx, s.ff, xf].map(i128::from));
    0.5 * (r(a, s.aa, s.af) + r(b, s.bb, s.bf))
}

pub(super) fn scd(s: &Sums) -> f64 {
    let [a, b, f] = [s.a, s.b, s.f].map(i128::from);
    let [aa, bb, ff] = [s.aa, s.bb, s.ff].map(i128::from);
    let [af, bf, ab] = [s.af, s.bf, s.ab].map(i128::from);
    pearson(s.n, [f - b, a], [ff - 2 * bf + bb, aa, af - ab])
        + pearson(s.n, [f - a, b], [ff - 2 * af + aa, bb, bf - ab])
}

/// Pearson's r from the sums of x, y and of xx, yy, xy; 0 if one of them is constant.
fn pearson(n: u64, [x, y]: [i128; 2], [xx, yy, xy]: [i128; 3]) -> f64 {
    let cov = |x, y, xy| scaled_covariance(n, x, y, xy);
    let scale = cov(x, x, xx).sqrt() * cov(y, y, yy).sqrt();
    if scale > 0.0 {
        (cov(x, y, xy) / scale).clamp(-1.0, 1.0)
    } else {
        0.0
    }
}
