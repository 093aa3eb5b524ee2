//! MEF-SSIM over three scales, the "MS_SSIM" of two toolboxes.
//!
//! ```text
//! in each 11 x 11 window, all pixels alike:  a = A - mean A,  b = B - mean B,  |.| the length of the 121 values
//! e_X  = |x| + 0.001
//! R    = |a + b| / (|a| + |b|),   p = min(tan(pi/2 R), 10)
//! r    = sum over X of w_X x / e_X,   w_X = (e_X / 11)^p / sum of both
//! ref  = r scaled to the length max(e_A, e_B)
//! Q    = (2 cov(ref, F) + c) / (var ref + var F + c),   under an 11 x 11 Gaussian of sigma 1.5,  c = (0.03 * 255)^2
//! MEF_MS_SSIM = product over scales of max(mean Q, 0)^v_s,   v = (0.0448, 0.2856, 0.3001) / 0.6305
//! ```
//!
//! 0 to 1, without unit. Ma, Zeng and Wang 2015, made for pictures of different exposure: F is held against what is strongest in each
//! window. hli1221's collection and Evaluation-for-Image-Fusion call it MS_SSIM. Between scales, means of 2 x 2 pixels (an odd last row or
//! column is repeated). Undefined below 41 x 41 pixels, where the window does not fit at scale 3.
//!
//! `ref` is a sum of A and B with two factors for each window, so its moments follow from those of A and B.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let a = Grey::from_fn(48, 48, |x, y| (x * x + 2 * y) as u8)?;
//! assert!(measure(&a, &a, &a, &[Metric::MefMsSsim])?[0]? > 0.999);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::ssim::{TAPS, constants};
use super::window::Plane;
use std::f64::consts::FRAC_PI_2;

/// The window fits at the last of the scales.
pub(super) const LEAST_SIDE: usize = 41;

const WEIGHTS: [f64; 3] = [0.0448, 0.2856, 0.3001];
/// Pixels of a window.
const PIXELS: f64 = (TAPS * TAPS) as f64;

/// From the mean Q of each scale.
pub(super) fn mef_ms_ssim(means: &[f64; 3]) -> f64 {
    let all: f64 = WEIGHTS.iter().sum();
    let factors = means.iter().zip(WEIGHTS);
    factors.map(|(m, w)| m.max(0.0).powf(w / all)).product()
}

/// Plain sums of A, B, AA, BB and AB over the windows of one row after the other. Levels, and their means
/// at the smaller scales, have few binary digits: adding and taking away again leaves no error.
pub(super) struct BoxSums<'a> {
    planes: [&'a Plane; 2],
    /// The row of windows that `columns` belongs to, if any.
    at: Option<usize>,
    columns: [Vec<f64>; 5],
}

impl<'a> BoxSums<'a> {
    pub fn new(a: &'a Plane, b: &'a Plane) -> Self {
        Self {
            planes: [a, b],
            at: None,
            columns: std::array::from_fn(|_| vec![0.0; a.width]),
        }
    }

    /// Goes to a row of windows, the next one or the first.
    fn go_to(&mut self, y: usize) {
        match self.at {
            Some(before) if before + 1 == y => {
                self.add(before, -1.0);
                self.add(y + TAPS - 1, 1.0);
            }
            _ => {
                self.columns.iter_mut().for_each(|c| c.fill(0.0));
                (y..y + TAPS).for_each(|row| self.add(row, 1.0));
            }
        }
        self.at = Some(y);
    }

    fn add(&mut self, y: usize, sign: f64) {
        let [a, b] = self.planes.map(|p| p.row(y));
        let [ca, cb, caa, cbb, cab] = &mut self.columns;
        let n = a.len();
        for x in 0..n {
            let (va, vb) = (a[x], b[x]);
            ca[x] += sign * va;
            cb[x] += sign * vb;
            caa[x] += sign * va * va;
            cbb[x] += sign * vb * vb;
            cab[x] += sign * va * vb;
        }
    }

    /// Sum of Q over the windows `from..to` of row y, whose moments are `row`.
    pub fn add_row(&mut self, y: usize, row: &[Vec<f64>], from: usize, to: usize) -> f64 {
        self.go_to(y);
        let mut sums = self
            .columns
            .each_ref()
            .map(|c| c[from..from + TAPS - 1].iter().sum::<f64>());
        let mut total = 0.0;
        for x in from..to {
            for (sum, column) in sums.iter_mut().zip(&self.columns) {
                *sum += column[x + TAPS - 1];
            }
            total += quality(sums, std::array::from_fn(|k| row[k][x]));
            for (sum, column) in sums.iter_mut().zip(&self.columns) {
                *sum -= column[x];
            }
        }
        total
    }
}

/// Q of one window from its plain sums (A, B, AA, BB, AB) and its Gaussian moments.
fn quality([a, b, aa, bb, ab]: [f64; 5], moments: [f64; 9]) -> f64 {
    // Squared lengths, and the product of the two.
    let aa = (aa - a * a / PIXELS).max(0.0);
    let bb = (bb - b * b / PIXELS).max(0.0);
    let ab = ab - a * b / PIXELS;
    let (length_a, length_b) = (aa.sqrt(), bb.sqrt());
    let (ea, eb) = (length_a + 0.001, length_b + 0.001);

    let both = (aa + bb + 2.0 * ab).max(0.0).sqrt();
    let alike = (both + f64::EPSILON) / (length_a + length_b + f64::EPSILON);
    let alike = if alike > 1.0 {
        1.0 - f64::EPSILON
    } else {
        alike
    };
    let power = (FRAC_PI_2 * alike).tan().min(10.0);
    let weight = |e: f64| (e / TAPS as f64).powf(power) + f64::EPSILON;
    let (wa, wb) = (weight(ea), weight(eb));
    let (fa, fb) = (wa / ((wa + wb) * ea), wb / ((wa + wb) * eb));
    let length = (fa * fa * aa + fb * fb * bb + 2.0 * fa * fb * ab)
        .max(0.0)
        .sqrt();
    let scale = if length > 0.0 {
        ea.max(eb) / length
    } else {
        1.0
    };
    let (fa, fb) = (scale * fa, scale * fb);

    let [a, b, f, aa, bb, ff, af, bf, ab] = moments;
    let var_ref = fa * fa * (aa - a * a) + fb * fb * (bb - b * b) + 2.0 * fa * fb * (ab - a * b);
    let cov = fa * (af - a * f) + fb * (bf - b * f);
    let c = constants(255.0)[1];
    (2.0 * cov + c) / (var_ref + (ff - f * f) + c)
}
