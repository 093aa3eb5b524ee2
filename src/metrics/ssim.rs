//! SSIM: structural similarity of the fused picture with its sources.
//!
//! ```text
//! S(X)    = (2 mX mF + c1)(2 cov(X, F) + c2) / ((mX^2 + mF^2 + c1)(var X + var F + c2))   in each window
//! SSIM    = (mean S(A) + mean S(B)) / 2,   c1 = (0.01 L)^2,  c2 = (0.03 L)^2
//! ```
//!
//! -1 to 1, without unit. Wang, Bovik, Sheikh and Simoncelli 2004: means under an 11 x 11 Gaussian of sigma 1.5, levels 0..255, border
//! pixels repeated outward (MATLAB's `ssim`), so pictures of any size have a value. `ssim` has L = 255.
//! `ssim_lt` has L = 1, as Evaluation-for-Image-Fusion since March 2023: there MATLAB's default range for floating point meets
//! levels up to 255, and flat windows count as hardly similar.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let a = Grey::from_fn(9, 9, |x, y| (30 * x ^ 20 * y) as u8)?;
//! let inverted = Grey::from_fn(9, 9, |x, y| 255 - a.values()[9 * y + x])?;
//! let of = |f| measure(&a, &a, f, &[Metric::Ssim]).map(|scores| scores[0]);
//! assert!((of(&a)?? - 1.0).abs() < 1e-12 && of(&inverted)?? < 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::window::sum_in_lanes;
use crate::device::simd::simd_fn;

/// Window of all structural measures.
pub(super) const TAPS: usize = 11;
pub(super) const SIGMA: f64 = 1.5;

/// c1 and c2 for a dynamic range.
#[inline(always)]
pub(super) fn constants(range: f64) -> [f64; 2] {
    [0.01, 0.03].map(|k: f64| k * range * k * range)
}

/// Sums over windows for (A, F) and for (B, F).
pub(super) type PairSums = [f64; 2];

simd_fn! {
    /// Adds S of the windows `from..to` of a row of moments; `room` is overwritten.
    pub(super) fn add_similarity(row: &[Vec<f64>], from: usize, to: usize, constants: [f64; 2], room: &mut [f64], sums: &mut PairSums) {
        add::<true>(row, from, to, constants, room, sums);
    }
}

simd_fn! {
    /// Adds S without its first factor: how similar the contrast is.
    pub(super) fn add_contrast(row: &[Vec<f64>], from: usize, to: usize, constants: [f64; 2], room: &mut [f64], sums: &mut PairSums) {
        add::<false>(row, from, to, constants, room, sums);
    }
}

#[inline(always)]
fn add<const LEVEL: bool>(
    row: &[Vec<f64>],
    from: usize,
    to: usize,
    [c1, c2]: [f64; 2],
    room: &mut [f64],
    sums: &mut PairSums,
) {
    let n = to - from;
    let (f, ff) = (&row[2][from..to], &row[5][from..to]);
    let room = &mut room[..n];
    for (sum, (mean, square, product)) in sums.iter_mut().zip([(0, 3, 6), (1, 4, 7)]) {
        let (m, xx) = (&row[mean][from..to], &row[square][from..to]);
        let xf = &row[product][from..to];
        for x in 0..n {
            let variances = (xx[x] - m[x] * m[x]) + (ff[x] - f[x] * f[x]);
            let mut top = 2.0 * (xf[x] - m[x] * f[x]) + c2;
            let mut bottom = variances + c2;
            if LEVEL {
                top *= 2.0 * m[x] * f[x] + c1;
                bottom *= m[x] * m[x] + f[x] * f[x] + c1;
            }
            room[x] = top / bottom;
        }
        *sum += sum_in_lanes(room);
    }
}
