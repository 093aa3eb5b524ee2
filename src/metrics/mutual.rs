//! MI: how much the fused picture tells of its sources, in three conventions.
//!
//! ```text
//! MI      = I(A, F) + I(B, F),   I(X, F) = H(X) + H(F) - H(X, F)
//! MI_nats = MI ln 2
//! MI_lt   = the same with levels 254 and 255 taken for one in H(X, F) only
//! ```
//!
//! H is the entropy of the histogram of 256 levels, or of 256 x 256 pairs of levels. `mi` is in bits, 0 to 16:
//! Qu, Zhang and Yan 2002. `mi_nats` is what MMIF-CDDFuse prints. `mi_lt` is Evaluation-for-Image-Fusion to
//! the digit: its index of a joint cell is an 8-bit level plus one, which MATLAB cuts off at 255. It differs
//! from `mi` where pixels reach 254. Choosing each pixel from one source scores higher than blending them.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let half = Grey::new(2, 2, vec![0, 0, 255, 255])?;
//! // Equal pictures tell all of each other: twice the entropy of one bit.
//! assert_eq!(measure(&half, &half, &half, &[Metric::Mi])?, [Ok(2.0)]);
//! # Ok::<(), hafuse::Error>(())
//! ```

use super::counts::{Joint, entropy};

/// MI in bits from the joint histograms of (A, F) and (B, F).
pub(super) fn mi(joints: &[Joint; 2]) -> f64 {
    joints.iter().map(|j| pair(j, j.entropy())).sum()
}

pub(super) fn mi_lt(joints: &[Joint; 2]) -> f64 {
    let with_slip = |j: &Joint| pair(j, j.with_top_levels_merged().entropy());
    joints.iter().map(with_slip).sum()
}

fn pair(joint: &Joint, joint_entropy: f64) -> f64 {
    let [x, f] = joint.marginals().map(|h| entropy(h.into_iter()));
    // Rounding must not turn "nothing" into a negative number.
    (x + f - joint_entropy).max(0.0)
}
