//! Eq. 5 and the adaptive weights, both from features of the feature network.

use crate::Result;
use crate::ops;
use crate::tape::{Tape, Var};

/// Perceptual loss, Eq. 5 of the paper, averaged over the taps given:
/// `mean_i (1 / (C_i H_i W_i)) ||phi_i(A) - phi_i(B)||^2`, mean over the batch.
///
/// `a`, `b`: outputs of [`FeatureNet::record`](super::FeatureNet::record) for the two pictures.
/// Result: scalar `[]`.
pub fn perceptual(t: &mut Tape, a: &[Var], b: &[Var]) -> Result<Var> {
    let mut total = None;
    for (&a, &b) in a.iter().zip(b) {
        let d = ops::sub(t, a, b)?;
        let sq = ops::square(t, d)?;
        let term = ops::mean_all(t, sq)?;
        total = Some(match total {
            None => term,
            Some(sum) => ops::add(t, sum, term)?,
        });
    }
    let total = total.ok_or_else(|| crate::Error::Tape("perceptual loss of no taps".into()))?;
    ops::scale(t, total, 1.0 / a.len() as f64)
}

/// How much structure a source has: the mean over taps of the Frobenius norm of the Laplacian of
/// its features, for each sample. `[N, 1, 1, 1]`.
///
/// The Laplacian is 3 x 3 without borders: centre -1, its eight neighbours 1/8.
pub fn structure(t: &mut Tape, taps: &[Var]) -> Result<Var> {
    let mut total = None;
    for &x in taps {
        let l = ops::laplacian(t, x)?;
        let [_, h, w, c] = t.shape(l).padded4();
        let sq = ops::square(t, l)?;
        let mean = ops::mean_samples(t, sq)?;
        let sum = ops::scale(t, mean, (h * w * c) as f64)?;
        let norm = ops::sqrt(t, sum)?;
        total = Some(match total {
            None => norm,
            Some(sum) => ops::add(t, sum, norm)?,
        });
    }
    let total = total.ok_or_else(|| crate::Error::Tape("structure of no taps".into()))?;
    ops::scale(t, total, 1.0 / taps.len() as f64)
}

/// Adaptive weights sigma_1, sigma_2 of the two sources (sections 2.3.4 and 3.3.1, after U2Fusion):
/// `softmax([s_a, s_b] / scale)` with `s` from [`structure`]. Each `[N, 1, 1, 1]`; they sum to 1.
pub fn adaptive_weights(t: &mut Tape, a: Var, b: Var, scale: f64) -> Result<[Var; 2]> {
    let both = ops::concat(t, &[a, b])?;
    let logits = ops::scale(t, both, 1.0 / scale)?;
    let w = ops::softmax(t, logits)?;
    Ok([
        ops::slice_channels(t, w, 0, 1)?,
        ops::slice_channels(t, w, 1, 1)?,
    ])
}
