//! Tone: brightness and contrast of a fused picture, a step of its own after fusion.
//!
//! Networks and rules give a luma plane in \[0, 1\] that seldom uses the whole range. A [`Tone`]
//! says how that plane is spread, before colour is put back and before it is rounded to 8 or 16
//! bits. It is the same step for every method, so that methods are compared by what they fuse
//! rather than by how far they stretch.
//!
//! | name | curve |
//! |---|---|
//! | `none` | y = x |
//! | `auto` | gain of 1 to 1.5 with soft ends; monotone, continuous slope, nothing becomes black or white |
//! | `LOW,HIGH` | y = (x - p_LOW) / (p_HIGH - p_LOW), clamped to \[0, 1\]; p_k is the k-th percentile |
//!
//! Percentiles come from a histogram of 4096 bins over \[0, 1\] and are linear within a bin: exact
//! to 1/4096 for planes of any depth, and nothing is sorted. The 0th and the 100th are the exact
//! least and greatest value. A plane whose two percentiles are at most 1/4096 apart stays as it is,
//! so a constant picture does too. Results do not depend on the number of threads.
//!
//! Values outside \[0, 1\] count as 0 or 1. Values that are not finite are not counted and stay
//! what they are, so that writing the picture still reports them.
//!
//! # `auto`
//!
//! Let l, h and m be the percentiles 0.5 and 99.5 and the mean. With the targets l' = min(l, 0.02)
//! and h' = max(h, 0.98), the middle of the curve is a line through a fixed point c:
//!
//! ```text
//! y = c + g (x - c)
//! g = min(1.5, (h' - l') / (h - l), 1 + (0.1 + l - l') / (m - l), 1 + (0.1 + h' - h) / (h - m))
//! c = the point nearest to m with y(l) >= l' and y(h) <= h'
//! ```
//!
//! - The first bound keeps noise of a flat or foggy picture from being blown up; the second fits
//!   the picture into the range; the others let its mean move by about 0.1 at most.
//! - If g <= 1, the picture has the whole range already and stays as it is.
//! - Below y = 0.1 and above y = 0.9 the line bends smoothly (u = t / (k - (k - 1) t), the only
//!   fraction of this degree with given slopes at both ends) and reaches the end of the range
//!   instead of leaving it.
//!
//! Guarantees, each of them a property test: x1 <= x2 gives y1 <= y2; y >= min(x, 2/255) and
//! y <= max(x, 253/255), so that no pixel with 1/255 < x < 254/255 becomes black or white; y(h) - y(l) >= h - l.
//!
//! # Example
//!
//! ```
//! use hafuse::tone::Tone;
//!
//! // A foggy ramp between 0.4 and 0.6.
//! let mut plane: Vec<f32> = (0..=100).map(|i| 0.4 + 0.002 * i as f32).collect();
//! Tone::Auto.apply(&mut plane)?;
//! assert!((plane[0] - 0.35).abs() < 1e-3 && (plane[100] - 0.65).abs() < 1e-3);
//!
//! let tone: Tone = "0,100".parse()?;
//! tone.apply(&mut plane)?;
//! assert_eq!((plane[0], plane[100]), (0.0, 1.0));
//! # Ok::<(), hafuse::Error>(())
//! ```

mod curve;
mod histogram;

use crate::device::cpu::for_chunks;
use crate::device::simd::simd_fn;
use crate::{Error, Result};
use curve::Curve;
use histogram::{BINS, Histogram};
use std::fmt;
use std::str::FromStr;

/// Tone of a fused picture; see [the module](self) for the curves.
///
/// As text: `none`, `auto`, or two percentages with a comma between, as in `0.5,99.5`.
///
/// ```
/// use hafuse::tone::Tone;
///
/// assert_eq!("auto".parse::<Tone>()?, Tone::Auto);
/// let tone = Tone::Percentiles { low: 0.5, high: 99.5 };
/// assert_eq!(tone.to_string(), "0.5,99.5");
/// assert_eq!("0.5,99.5".parse::<Tone>()?, tone);
/// assert!("99.5,0.5".parse::<Tone>().is_err());
/// # Ok::<(), hafuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tone {
    /// The fused plane as it is.
    None,
    /// A moderate stretch that loses nothing.
    Auto,
    /// A linear stretch that puts the percentile `low` at 0 and `high` at 1 and clips beyond.
    Percentiles {
        /// Percentage of pixels below the new black, 0 <= `low` < `high`.
        low: f64,
        /// Percentage of pixels below the new white, at most 100.
        high: f64,
    },
}

impl Default for Tone {
    /// [`Tone::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Tone {
    /// Tone of pictures fused by the command line unless `--tone` says otherwise.
    pub const DEFAULT: Tone = Tone::None;

    /// Tones a luma plane in place, in two passes and without a copy of it.
    ///
    /// The plane may have any size, also none. The result lies in \[0, 1\], except for
    /// [`Tone::None`] and where a plane stays as it is.
    ///
    /// # Errors
    /// [`Error::Config`] unless 0 <= `low` < `high` <= 100.
    ///
    /// ```
    /// use hafuse::tone::Tone;
    ///
    /// let mut plane = [0.25, 0.5, 0.75];
    /// Tone::Percentiles { low: 0.0, high: 100.0 }.apply(&mut plane)?;
    /// assert_eq!(plane, [0.0, 0.5, 1.0]);
    /// # Ok::<(), hafuse::Error>(())
    /// ```
    pub fn apply(self, plane: &mut [f32]) -> Result<()> {
        self.check()?;
        let ends = match self {
            Tone::None => return Ok(()),
            Tone::Auto => curve::PERCENTILES,
            Tone::Percentiles { low, high } => [low, high],
        };
        let Some(histogram) = Histogram::of(plane) else {
            return Ok(());
        };
        let [low, high] = ends.map(|p| histogram.percentile(p));
        if high - low <= 1.0 / BINS as f64 {
            return Ok(());
        }
        if self != Tone::Auto {
            let (low, gain) = (low as f32, (1.0 / (high - low)) as f32);
            for_chunks(plane, PART, |_, part| stretch(part, low, gain));
        } else if let Some(curve) = Curve::auto(&histogram, low, high) {
            for_chunks(plane, PART, |_, part| bend(part, &curve));
        }
        Ok(())
    }

    fn check(self) -> Result<()> {
        match self {
            Tone::Percentiles { low, high } if !(0.0 <= low && low < high && high <= 100.0) => {
                Err(Error::config(
                    "tone",
                    format!(
                        "percentiles {low} and {high} are no range; give 0 <= LOW < HIGH <= 100, as in 0.5,99.5"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tone::None => f.pad("none"),
            Tone::Auto => f.pad("auto"),
            Tone::Percentiles { low, high } => f.pad(&format!("{low},{high}")),
        }
    }
}

impl FromStr for Tone {
    type Err = Error;

    /// The inverse of [`Display`](fmt::Display).
    fn from_str(text: &str) -> Result<Self> {
        let percentiles = || {
            let (low, high) = text.split_once(',')?;
            let [low, high] = [low, high].map(|p| p.trim().parse().ok());
            Some(Tone::Percentiles {
                low: low?,
                high: high?,
            })
        };
        let tone = match text {
            "none" => Some(Tone::None),
            "auto" => Some(Tone::Auto),
            _ => percentiles(),
        };
        let Some(tone) = tone else {
            return Err(Error::config(
                "tone",
                format!(
                    "`{text}` is not known; give none, auto or two percentages, as in 0.5,99.5"
                ),
            ));
        };
        tone.check()?;
        Ok(tone)
    }
}

/// Pixels that a thread takes at a time.
const PART: usize = 1 << 13;

simd_fn! {
    /// y = gain (x - low), clamped to \[0, 1\].
    fn stretch(plane: &mut [f32], low: f32, gain: f32) {
        for v in plane {
            let y = ((*v - low) * gain).clamp(0.0, 1.0);
            *v = if v.is_finite() { y } else { *v };
        }
    }
}

simd_fn! {
    /// y = curve(x), x clamped to \[0, 1\].
    fn bend(plane: &mut [f32], curve: &Curve) {
        for v in plane {
            let y = curve.at(v.clamp(0.0, 1.0));
            *v = if v.is_finite() { y } else { *v };
        }
    }
}

#[cfg(test)]
mod tests;
