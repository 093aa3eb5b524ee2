//! MS-SSIM: structural similarity over five scales.
//!
//! ```text
//! C_s(X)   = mean over windows of (2 cov(X, F) + c2) / (var X + var F + c2),  scales 1..4
//! C_5(X)   = mean of the whole S(X) of SSIM
//! MS(X)    = product over s of max(C_s, 0)^w_s,   w = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333
//! MS_SSIM  = (MS(A) + MS(B)) / 2
//! ```
//!
//! 0 to 1, without unit. Wang, Simoncelli and Bovik 2003: 11 x 11 Gaussian of sigma 1.5 where it fits, L = 255, means of 2 x 2 pixels between scales (an
//! odd last row or column is dropped). Undefined below 176 x 176 pixels, where the window does not fit at scale 5. What
//! Evaluation-for-Image-Fusion and hli1221's collection print as MS_SSIM is another measure, see [`mef_ssim`](super::mef_ssim).
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, Undefined, measure};
//!
//! let a = Grey::from_fn(180, 176, |x, y| (x * y / 50) as u8)?;
//! assert!((measure(&a, &a, &a, &[Metric::MsSsim])?[0]? - 1.0).abs() < 1e-12);
//! let small = Grey::from_fn(180, 100, |_, _| 0)?;
//! assert!(matches!(
//!     measure(&small, &small, &small, &[Metric::MsSsim])?[0],
//!     Err(Undefined::TooSmall { side: 176, .. })
//! ));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// The window fits at the last of the scales.
pub(super) const LEAST_SIDE: usize = 176;

pub(super) const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// From the means of the two pairs at each scale.
pub(super) fn ms_ssim(means: &[[f64; 2]; 5]) -> f64 {
    let of = |pair: usize| -> f64 {
        let factors = means.iter().zip(WEIGHTS);
        factors.map(|(m, w)| m[pair].max(0.0).powf(w)).product()
    };
    0.5 * (of(0) + of(1))
}
