//! VIF and VIFF: how much of the sources' information survives, seen through the model of a noisy eye.
//!
//! ```text
//! scales s = 1..4, Gaussian window of n = 17, 9, 5, 3 pixels, sigma = n / 5, only where it fits; before scales 2, 3 and 4 all
//! pictures pass that scale's window and keep every second pixel of every second row
//! g      = cov(X, F) / (var X + 1e-10),   v = var F - g cov(X, F)        (in each window)
//!          var X < 1e-10: g = 0, v = var F, var X = 0;   var F < 1e-10: g = v = 0;   g < 0: g = 0, v = var F;   v at least 1e-10
//! VID    = log10(1 + g^2 var X / (v + nsq)),   VIND = log10(1 + var X / nsq)
//! vif(X) = sum VID / sum VIND over scales and windows (1 if X is flat everywhere),   nsq = 2
//! VIF    = vif(A) + vif(B)
//! VIFF   = sum p_s (sum VID + 1e-7 / sum VIND + 1e-7) of scale s,   p = [1, 0, 0.15, 1] / 2.15,   nsq = 0.005 * 255^2
//! ```
//!
//! In VIFF each window takes VID and VIND of one source: A where gA < gB, else B. (The paper means the larger gain; its published code
//! takes the smaller.) All are without unit, 0 upward; 1 per source is a perfect copy, contrast above the source's gives more.
//! Levels 0..255. At 1e-10 rounding has a say which of two nearly flat sources VIFF takes, so codes that sum in another order may
//! differ by some 1e-6 there. Undefined below 41 x 41 pixels, where the last window does not fit.
//!
//! `vif`: Sheikh and Bovik 2006 in the pixel domain (vifp), summed; Evaluation-for-Image-Fusion since March 2023, MMIF-CDDFuse (which calls it VIFF).
//! `vif_u8sat`: the same with the products of levels at scale 1 cut off at 255, as MATLAB does with 8-bit integers: the
//! former before that, and so the fusion paper's tables. `viff`: Han, Cai, Cao and Xu 2013.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let a = Grey::from_fn(48, 48, |x, y| (x * x + 3 * x * y) as u8)?;
//! let score = measure(&a, &a, &a, &[Metric::Vif])?[0]?;
//! assert!((score - 2.0).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::Grey;
use super::window::{LANES, Moments, Plane, Product, gaussian, scan};
use crate::device::simd::simd_fn;

/// The side below which the window of scale 4 does not fit.
pub(super) const LEAST_SIDE: usize = 41;

const EPS: f64 = 1e-10;
const VIF_NOISE: f64 = 2.0;
const VIFF_NOISE: f64 = 0.005 * 255.0 * 255.0;
const VIFF_EPS: f64 = 1e-7;
const VIFF_WEIGHTS: [f64; 4] = [1.0 / 2.15, 0.0, 0.15 / 2.15, 1.0 / 2.15];

#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    pub vif: bool,
    pub u8sat: bool,
    pub viff: bool,
}

/// What was wanted; the rest is 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Fidelity {
    pub vif: f64,
    pub u8sat: f64,
    pub viff: f64,
}

/// All three from one pyramid; the pictures have at least [`LEAST_SIDE`] pixels a side.
pub(super) fn fidelity(a: &Grey, b: &Grey, f: &Grey, wanted: Wanted) -> Fidelity {
    let mut planes = [a, b, f].map(|x| Plane::new(x, 0));
    let mut result = Fidelity::default();
    // VID and VIND of A, then of B.
    let (mut first, mut saturated, mut rest) = ([0.0; 4], [0.0; 4], [0.0; 4]);
    for (scale, n) in [17, 9, 5, 3].into_iter().enumerate() {
        let taps = gaussian(n, n as f64 / 5.0);
        if scale > 0 {
            planes = planes.map(|p| p.halved(&taps));
        }
        let sums = |product, vif: bool, viff: bool| {
            let mut sums = Logs::new(vif, viff);
            scan(planes.each_ref(), &taps, product, |_, row| {
                add_row(row, &mut sums)
            });
            sums
        };
        let vif = wanted.vif || (wanted.u8sat && scale > 0);
        if vif || wanted.viff {
            let sums = sums(Product::Exact, vif, wanted.viff);
            let to = if scale == 0 { &mut first } else { &mut rest };
            for (to, sum) in to.iter_mut().zip(sums.vif) {
                *to += sum;
            }
            let windows = (planes[0].width + 1 - n) * (planes[0].height + 1 - n);
            let [vid, vind] = sums.viff.map(|sum| sum + VIFF_EPS * windows as f64);
            result.viff += VIFF_WEIGHTS[scale] * vid / vind;
        }
        if wanted.u8sat && scale == 0 {
            saturated = sums(Product::Saturated, true, false).vif;
        }
    }
    let ratio = |first: [f64; 4]| {
        let of = |vid: usize| {
            let (vid, vind) = (first[vid] + rest[vid], first[vid + 1] + rest[vid + 1]);
            if vind > 0.0 { vid / vind } else { 1.0 }
        };
        of(0) + of(2)
    };
    result.vif = ratio(first);
    result.u8sat = ratio(saturated);
    result
}

/// Sums of logarithms.
struct Logs {
    with_vif: bool,
    with_viff: bool,
    vif: [f64; 4],
    viff: [f64; 2],
}

impl Logs {
    fn new(with_vif: bool, with_viff: bool) -> Self {
        Self {
            with_vif,
            with_viff,
            vif: [0.0; 4],
            viff: [0.0; 2],
        }
    }
}

/// The sum of some logarithms is the logarithm of a product. No factor here exceeds 1e20
/// (cov^2 / 1e-10 with cov below 65025), so ten of them are far from the largest f64.
const FACTORS: usize = 10;

simd_fn! {
    fn add_row(row: &Moments<8>, logs: &mut Logs) {
        let n = row[0].len();
        let mut at = 0;
        while at < n {
            let end = n.min(at + FACTORS * LANES);
            let (mut vif, mut viff) = ([[1.0; LANES]; 4], [[1.0; LANES]; 2]);
            for x in (at..end).step_by(LANES) {
                add_block(row, x, logs, &mut vif, &mut viff);
            }
            if logs.with_vif {
                for (sum, lanes) in logs.vif.iter_mut().zip(vif) {
                    *sum += lanes.iter().map(|v| v.log10()).sum::<f64>();
                }
            }
            if logs.with_viff {
                for (sum, lanes) in logs.viff.iter_mut().zip(viff) {
                    *sum += lanes.iter().map(|v| v.log10()).sum::<f64>();
                }
            }
            at = end;
        }
    }
}

/// Zeros, which fill up a row, have no variance and give factors of 1.
#[inline(always)]
fn add_block(
    row: &Moments<8>,
    x: usize,
    logs: &Logs,
    vif: &mut [[f64; LANES]; 4],
    viff: &mut [[f64; LANES]; 2],
) {
    let of = |k: usize| &row[k][x..x + LANES];
    let (a, b, f) = (of(0), of(1), of(2));
    let (aa, bb, ff, af, bf) = (of(3), of(4), of(5), of(6), of(7));
    // Lane by lane, all branches as selections: the compiler makes vectors of it.
    for i in 0..LANES {
        let var_f = ff[i] - f[i] * f[i];
        let of_a = Gain::new(aa[i] - a[i] * a[i], var_f, af[i] - a[i] * f[i]);
        let of_b = Gain::new(bb[i] - b[i] * b[i], var_f, bf[i] - b[i] * f[i]);
        if logs.with_vif {
            vif[0][i] *= of_a.kept(VIF_NOISE);
            vif[1][i] *= of_a.seen(VIF_NOISE);
            vif[2][i] *= of_b.kept(VIF_NOISE);
            vif[3][i] *= of_b.seen(VIF_NOISE);
        }
        if logs.with_viff {
            let smaller = of_a.g < of_b.g;
            let pick = |a: f64, b: f64| if smaller { a } else { b };
            viff[0][i] *= pick(of_a.kept(VIFF_NOISE), of_b.kept(VIFF_NOISE));
            viff[1][i] *= pick(of_a.seen(VIFF_NOISE), of_b.seen(VIFF_NOISE));
        }
    }
}

/// F in one window as g X plus noise of variance v.
struct Gain {
    g: f64,
    v: f64,
    var: f64,
}

impl Gain {
    #[inline(always)]
    fn new(var_x: f64, var_f: f64, cov: f64) -> Self {
        let pick = |yes: bool, a: f64, b: f64| if yes { a } else { b };
        let var_x = pick(var_x > 0.0, var_x, 0.0);
        let var_f = pick(var_f > 0.0, var_f, 0.0);
        let g = cov / (var_x + EPS);
        let v = var_f - g * cov;
        let (flat_x, flat_f) = (var_x < EPS, var_f < EPS);
        let (g, v) = (pick(flat_x, 0.0, g), pick(flat_x, var_f, v));
        let (g, v) = (pick(flat_f, 0.0, g), pick(flat_f, 0.0, v));
        let inverted = g < 0.0;
        let (g, v) = (pick(inverted, 0.0, g), pick(inverted, var_f, v));
        Self {
            g,
            v: pick(v > EPS, v, EPS),
            var: pick(flat_x, 0.0, var_x),
        }
    }

    /// 10^VID
    #[inline(always)]
    fn kept(&self, noise: f64) -> f64 {
        1.0 + self.g * self.g * self.var / (self.v + noise)
    }

    /// 10^VIND
    #[inline(always)]
    fn seen(&self, noise: f64) -> f64 {
        1.0 + self.var / noise
    }
}
