//! EN: entropy of the fused picture.
//!
//! ```text
//! EN = - sum over levels l of p(l) log2 p(l),   p = histogram of F over 256 levels
//! ```
//!
//! In bits, 0 (one level) to 8 (all levels equally often). Roberts, van Aardt and Ahmed 2008 brought it to image fusion;
//! every toolbox computes it this way. It rewards noise as much as detail.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let half = Grey::new(2, 2, vec![0, 0, 255, 255])?;
//! assert_eq!(measure(&half, &half, &half, &[Metric::En])?, [Ok(1.0)]);
//! # Ok::<(), hafuse::Error>(())
//! ```

use super::counts;

pub(super) fn en(histogram: &[u64; 256]) -> f64 {
    counts::entropy(histogram.iter().copied())
}
