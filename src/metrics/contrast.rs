//! SD: standard deviation of the fused picture, and the variant that tables of 2021 and 2022 print.
//!
//! ```text
//! SD        = sqrt(mean((F - mean F)^2))
//! SD_u8sat  = sqrt(mean q),   q = min(255, d^2),   d = max(0, round(F - mean F))
//! ```
//!
//! Both in grey levels. `sd` is 0 to 127.5, some 25 to 50 on the TNO set; Rao 1997; MMIF-CDDFuse, and Evaluation-for-Image-Fusion
//! since March 2023. `sd_u8sat` is 0 to 15.97, some 8 to 11 on TNO: before, the latter handed 8-bit integers
//! to the formula, and MATLAB rounds these and cuts them off below 0 and above 255. The tables of the
//! papers that used it, the fusion paper's among them, hold that number under the name SD.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let f = Grey::new(2, 1, vec![90, 110])?;
//! let scores = measure(&f, &f, &f, &[Metric::Sd, Metric::SdU8sat])?;
//! assert_eq!(scores, [Ok(10.0), Ok(50f64.sqrt())]);
//! # Ok::<(), hafuse::Error>(())
//! ```

use super::{Grey, counts};

pub(super) fn sd(f: &Grey) -> f64 {
    let [sum, squares] = counts::sum_and_squares(f).map(i128::from);
    let n = f.len() as u64;
    counts::scaled_covariance(n, sum, sum, squares).sqrt() / n as f64
}

pub(super) fn sd_u8sat(histogram: &[u64; 256]) -> f64 {
    let n: u64 = histogram.iter().sum();
    let sum: u64 = histogram.iter().zip(0..).map(|(&c, level)| c * level).sum();
    let squares = histogram.iter().zip(0..).map(|(&count, level): (_, u64)| {
        // round(level - sum / n) for levels above the mean, in integers.
        let above = (2 * level * n + n).saturating_sub(2 * sum) / (2 * n);
        count * (above * above).min(255)
    });
    (squares.sum::<u64>() as f64 / n as f64).sqrt()
}
