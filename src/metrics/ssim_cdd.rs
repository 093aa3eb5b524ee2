//! SSIM as MMIF-CDDFuse prints it.
//!
//! ```text
//! S(X)     = (2 mX mF + c1)(2 cov(X, F) + c2) / ((mX^2 + mF^2 + c1)(var X + var F + c2)),   c1 = 0.02^2,  c2 = 0.06^2
//! SSIM_cdd = mean S(A) + mean S(B)
//! ```
//!
//! A sum, -2 to 2, without unit. scikit-image's defaults: 7 x 7 pixels that weigh the same, variances of a sample (49 / 48), only
//! windows that fit. Its range L is taken as 2, that of floating point from -1 to 1, while levels go to 255: flat windows count
//! as hardly similar. Undefined below 7 x 7 pixels.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let a = Grey::from_fn(9, 9, |x, y| (20 * x + y) as u8)?;
//! assert!((measure(&a, &a, &a, &[Metric::SsimCdd])?[0]? - 2.0).abs() < 1e-12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::Grey;
use super::ssim::constants;
use super::window::sum_in_lanes;
use crate::device::simd::simd_fn;

/// Pixels along a side of the window.
pub(super) const SIDE: usize = 7;
const PIXELS: f64 = (SIDE * SIDE) as f64;
const RANGE: f64 = 2.0;

/// Sums of A, B, F, AA, BB, FF, AF and BF.
type Sums = [Vec<u32>; 8];

pub(super) fn ssim_cdd(a: &Grey, b: &Grey, f: &Grey) -> f64 {
    let (w, h) = (f.width(), f.height());
    let (columns, rows) = (w + 1 - SIDE, h + 1 - SIDE);
    let mut of_columns: Sums = std::array::from_fn(|_| vec![0; w]);
    let mut of_windows: Sums = std::array::from_fn(|_| vec![0; columns]);
    let mut room = vec![0.0; columns];
    let mut total = 0.0;
    for y in 0..h {
        let row = |y: usize| [a, b, f].map(|x| x.row(y));
        add_row(row(y), &mut of_columns, 1);
        if y + 1 < SIDE {
            continue;
        }
        add_windows(&of_columns, &mut of_windows, &mut room, &mut total);
        // Wraps around to a subtraction.
        add_row(row(y + 1 - SIDE), &mut of_columns, u32::MAX);
    }
    total / (columns * rows) as f64
}

simd_fn! {
    fn add_row(rows: [&[u8]; 3], sums: &mut Sums, factor: u32) {
        let [a, b, f] = rows;
        let pairs = [(a, None), (b, None), (f, None), (a, Some(a)), (b, Some(b)), (f, Some(f)), (a, Some(f)), (b, Some(f))];
        for (sums, (x, y)) in sums.iter_mut().zip(pairs) {
            match y {
                None => {
                    for (sum, &x) in sums.iter_mut().zip(x) {
                        *sum = sum.wrapping_add(factor.wrapping_mul(x.into()));
                    }
                }
                Some(y) => {
                    for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
                        let product = u32::from(x) * u32::from(y);
                        *sum = sum.wrapping_add(factor.wrapping_mul(product));
                    }
                }
            }
        }
    }
}

simd_fn! {
    /// Adds S(A) + S(B) of one row of windows; `room` is overwritten.
    fn add_windows(columns: &Sums, windows: &mut Sums, room: &mut [f64], total: &mut f64) {
        let n = room.len();
        for (window, column) in windows.iter_mut().zip(columns) {
            for (x, sum) in window.iter_mut().enumerate() {
                *sum = column[x..x + SIDE].iter().sum();
            }
        }
        let sample = PIXELS / (PIXELS - 1.0);
        let [c1, c2] = constants(RANGE);
        let (f, ff) = (&windows[2][..n], &windows[5][..n]);
        for (mean, square, product) in [(0, 3, 6), (1, 4, 7)] {
            let (m, xx) = (&windows[mean][..n], &windows[square][..n]);
            let xf = &windows[product][..n];
            for x in 0..n {
                let (m, f) = (f64::from(m[x]) / PIXELS, f64::from(f[x]) / PIXELS);
                let (xx, ff) = (f64::from(xx[x]) / PIXELS, f64::from(ff[x]) / PIXELS);
                let cov = sample * (f64::from(xf[x]) / PIXELS - m * f);
                let variances = sample * ((xx - m * m) + (ff - f * f));
                let top = (2.0 * m * f + c1) * (2.0 * cov + c2);
                room[x] = top / ((m * m + f * f + c1) * (variances + c2));
            }
            *total += sum_in_lanes(room);
        }
    }
}
