//! MSE and PSNR: distance of the fused picture from its sources.
//!
//! ```text
//! MSE     = (mean (A - F)^2 + mean (B - F)^2) / 2,   levels / 255
//! PSNR    = 10 log10(1 / max(MSE, 1e-20))
//! PSNR_lt = PSNR + 20 log10 255
//! ```
//!
//! `mse` is 0 to 1; `psnr` in dB, from 0 to 200, which stands for equal pictures. `psnr_lt` is what Evaluation-for-Image-Fusion
//! prints (some 61 to 64 dB): the peak is taken as 255 while the pictures lie in 0..1, so it is 48.13 dB
//! too high. Between two sources both numbers favour their plain average, which no fusion can beat.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let (black, white) = (Grey::new(1, 1, vec![0])?, Grey::new(1, 1, vec![255])?);
//! let scores = measure(&black, &white, &black, &[Metric::Mse, Metric::Psnr])?;
//! assert_eq!(scores, [Ok(0.5), Ok(10.0 * 2f64.log10())]);
//! # Ok::<(), hafuse::Error>(())
//! ```

use super::counts::Sums;

/// Below this MSE two pictures are called equal.
const LEAST: f64 = 1e-20;

pub(super) fn mse(s: &Sums) -> f64 {
    let a = s.aa + s.ff - 2 * s.af;
    let b = s.bb + s.ff - 2 * s.bf;
    (a + b) as f64 / (2.0 * 255.0 * 255.0 * s.n as f64)
}

pub(super) fn psnr(s: &Sums) -> f64 {
    10.0 * (1.0 / mse(s).max(LEAST)).log10()
}

pub(super) fn psnr_lt(s: &Sums) -> f64 {
    psnr(s) + 20.0 * 255f64.log10()
}
