//! SF and AG: how much the fused picture changes from pixel to pixel.
//!
//! ```text
//! SF      = sqrt(RF^2 + CF^2),   RF^2, CF^2 = means of the squared first differences along each axis
//! AG      = sum sqrt((Gx^2 + Gy^2) / 2) / ((H - 1)(W - 1))
//! AG_mean = sum sqrt((Gx^2 + Gy^2) / 2) / (H W)
//! ```
//!
//! Gx and Gy are central differences, half of F(x + 1) - F(x - 1), and one-sided at the borders (MATLAB's `gradient`).
//! In grey levels, 0 upward; undefined below 2 x 2 pixels. `sf`: Eskicioglu and Fisher 1995, as in all toolboxes (the older
//! Evaluation-for-Image-Fusion printed it divided by 255). `ag` is Evaluation-for-Image-Fusion, `ag_mean` MMIF-CDDFuse.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let stripes = Grey::new(2, 2, vec![10, 14, 10, 14])?;
//! let scores = measure(&stripes, &stripes, &stripes, &[Metric::Sf, Metric::AgMean])?;
//! assert_eq!(scores[0], Ok(4.0));
//! assert!((scores[1]? - 8f64.sqrt()).abs() < 1e-12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::Grey;
use super::window::sum_in_lanes;
use crate::device::simd::simd_fn;

pub(super) fn sf(f: &Grey) -> f64 {
    let (w, h) = (f.width(), f.height());
    let (mut along, mut across) = (0, 0);
    for y in 0..h {
        add_squared_differences(&f.row(y)[1..], &f.row(y)[..w - 1], &mut along);
    }
    add_squared_differences(&f.values()[w..], &f.values()[..(h - 1) * w], &mut across);
    let mean = |sum: u64, n: usize| sum as f64 / n as f64;
    (mean(across, (h - 1) * w) + mean(along, h * (w - 1))).sqrt()
}

/// Squares of so many differences add up in 32 bits.
const CHUNK: usize = 1 << 15;

simd_fn! {
    fn add_squared_differences(x: &[u8], y: &[u8], sum: &mut u64) {
        for (x, y) in x.chunks(CHUNK).zip(y.chunks(CHUNK)) {
            let squares = x.iter().zip(y).map(|(&x, &y)| {
                let d = i32::from(x) - i32::from(y);
                (d * d) as u32
            });
            *sum += u64::from(squares.sum::<u32>());
        }
    }
}

/// The sum that `ag` and `ag_mean` divide.
pub(super) fn gradient_sum(f: &Grey) -> f64 {
    let (w, h) = (f.width(), f.height());
    let mut strengths = vec![0.0; w];
    let mut sum = 0.0;
    for y in 0..h {
        let (above, below) = (y.saturating_sub(1), (y + 1).min(h - 1));
        // Twice the gradient is an integer: one-sided differences count double.
        let double = if below - above == 2 { 1 } else { 2 };
        let rows = [f.row(above), f.row(y), f.row(below)];
        add_strengths(rows, double, &mut strengths, &mut sum);
    }
    // sqrt((Gx^2 + Gy^2) / 2) with twice the gradients.
    sum / 8f64.sqrt()
}

simd_fn! {
    /// Adds the lengths of twice the gradients of one row, for which `strengths` is the room.
    fn add_strengths(rows: [&[u8]; 3], double: i32, strengths: &mut [f64], sum: &mut f64) {
        let [above, row, below] = rows;
        let strength = |left: u8, right: u8, above: u8, below: u8, along: i32| {
            let x = along * (i32::from(right) - i32::from(left));
            let y = double * (i32::from(below) - i32::from(above));
            f64::from(x * x + y * y).sqrt()
        };
        let w = row.len();
        strengths[0] = strength(row[0], row[1], above[0], below[0], 2);
        strengths[w - 1] = strength(row[w - 2], row[w - 1], above[w - 1], below[w - 1], 2);
        let n = w - 2;
        let (left, right) = (&row[..n], &row[2..]);
        let (above, below) = (&above[1..][..n], &below[1..][..n]);
        let inner = &mut strengths[1..][..n];
        for x in 0..n {
            inner[x] = strength(left[x], right[x], above[x], below[x], 1);
        }
        *sum += sum_in_lanes(strengths);
    }
}
