//! New black and new white: places that a source shows and the fused picture has lost at an end of the range.
//!
//! ```text
//! new_black = 100 / (H W) * number of pixels with F <= 1   and max(A, B) >= 20
//! new_white = 100 / (H W) * number of pixels with F >= 254 and max(A, B) < 240
//! ```
//!
//! Share of the picture in percent, 0 to 100; lower is better. Always defined. Measures of hafuse's own gates: a fusion that
//! subtracts a constant or stretches contrast clips dark or bright places, which most metrics reward.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let source = Grey::new(4, 1, vec![10, 20, 239, 240])?;
//! let fused = Grey::new(4, 1, vec![0, 1, 254, 255])?;
//! let scores = measure(&source, &source, &fused, &[Metric::NewBlack, Metric::NewWhite])?;
//! assert_eq!(scores, [Ok(25.0), Ok(25.0)]);
//! # Ok::<(), hafuse::Error>(())
//! ```

use super::Grey;

/// Highest level that counts as black, and the brighter source's lowest level that is not dark.
const BLACK: u8 = 1;
const SHOWN: u8 = 20;
/// Lowest level that counts as white, and the brighter source's lowest level that is bright.
const WHITE: u8 = 254;
const BRIGHT: u8 = 240;

pub(super) fn new_black(a: &Grey, b: &Grey, f: &Grey) -> f64 {
    percent(a, b, f, |source, fused| fused <= BLACK && source >= SHOWN)
}

pub(super) fn new_white(a: &Grey, b: &Grey, f: &Grey) -> f64 {
    percent(a, b, f, |source, fused| fused >= WHITE && source < BRIGHT)
}

/// Share of the pixels for which `is(max(A, B), F)` holds.
fn percent(a: &Grey, b: &Grey, f: &Grey, is: impl Fn(u8, u8) -> bool) -> f64 {
    let pixels = a.values().iter().zip(b.values()).zip(f.values());
    let count = pixels.filter(|&((&a, &b), &f)| is(a.max(b), f)).count();
    100.0 * count as f64 / f.len() as f64
}
