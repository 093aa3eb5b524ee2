//! Fusion without a network: five rules that anything learnt should beat.
//!
//! | name | rule | source |
//! |---|---|---|
//! | `average` | (A + B) / 2 | |
//! | `maximum` | max(A, B) | |
//! | `laplacian` | Laplacian pyramids, the stronger detail wins | [`pyramid`] |
//! | `gff` | two layers, weights smoothed by the guided filter | [`guided`] |
//! | `exposure` | levels by the brightness of the scene, the stronger detail at four scales | [`exposure_target`](crate::loss::exposure_target) |
//!
//! All work on brightness in \[0, 1\] and on the CPU and treat both sources alike. All but `exposure` give A where A = B.
//!
//! ```
//! use hafuse::baseline::Baseline;
//! let (a, b) = (vec![0.2f32; 6 * 8], vec![0.6f32; 6 * 8]);
//! let rule: Baseline = "maximum".parse()?;
//! assert_eq!(rule.fuse(6, 8, &a, &b)?, b);
//! # Ok::<(), hafuse::Error>(())
//! ```

mod exposure;
pub mod guided;
pub mod pyramid;

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A rule of fusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Baseline {
    /// Mean of both sources at each pixel.
    Average,
    /// Larger of both sources at each pixel.
    Maximum,
    /// Laplacian pyramids of four levels, see [`pyramid`].
    Laplacian,
    /// Guided-filter fusion of a base and a detail layer, see [`guided`].
    Gff,
    /// Exposure-aware target of training, see [`exposure_target`](crate::loss::exposure_target).
    Exposure,
}

impl Baseline {
    /// All five rules, the simplest first.
    pub const ALL: [Baseline; 5] = [
        Baseline::Average,
        Baseline::Maximum,
        Baseline::Laplacian,
        Baseline::Gff,
        Baseline::Exposure,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Baseline::Average => "average",
            Baseline::Maximum => "maximum",
            Baseline::Laplacian => "laplacian",
            Baseline::Gff => "gff",
            Baseline::Exposure => "exposure",
        }
    }

    /// What it does, whose it is.
    pub fn about(self) -> &'static str {
        match self {
            Baseline::Average => "mean of both sources",
            Baseline::Maximum => "maximum of both sources",
            Baseline::Laplacian => "Laplacian pyramids, 4 levels (Burt and Adelson 1983)",
            Baseline::Gff => "guided-filter fusion (Li, Kang and Hu 2013)",
            Baseline::Exposure => "the exposure-aware target of training",
        }
    }

    /// Fuses two planes in \[0, 1\], row-major; the result is clamped to \[0, 1\].
    ///
    /// # Errors
    /// [`Error::Shape`] if a plane does not hold `height * width` values, or there are none.
    pub fn fuse(self, height: usize, width: usize, a: &[f32], b: &[f32]) -> Result<Vec<f32>> {
        let len = height * width;
        if a.len() != len || b.len() != len || len == 0 {
            return Err(Error::shape(
                self.name(),
                format!(
                    "planes of {} and {} values; both need {height} x {width}, at least 1 x 1",
                    a.len(),
                    b.len()
                ),
            ));
        }
        let pixels = a.iter().zip(b);
        let mut out = match self {
            Baseline::Average => pixels.map(|(a, b)| 0.5 * (a + b)).collect(),
            Baseline::Maximum => pixels.map(|(a, b)| a.max(*b)).collect(),
            Baseline::Laplacian => pyramid::fuse(height, width, a, b),
            Baseline::Gff => guided::fuse(height, width, a, b)?,
            Baseline::Exposure => exposure::fuse(height, width, a, b)?,
        };
        for v in &mut out {
            *v = v.clamp(0.0, 1.0);
        }
        Ok(out)
    }

    /// About how much memory [`Baseline::fuse`] takes beside its arguments, in bytes.
    ///
    /// # Errors
    /// As [`Baseline::fuse`].
    pub fn bytes(self, height: usize, width: usize) -> Result<usize> {
        let plane = 4 * height * width;
        Ok(match self {
            Baseline::Average | Baseline::Maximum => plane,
            Baseline::Laplacian => 6 * plane,
            Baseline::Gff => 12 * plane + guided::planned_bytes(height, width)?,
            Baseline::Exposure => 3 * plane + exposure::planned_bytes(height, width)?,
        })
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Baseline {
    type Err = Error;

    /// From [`Baseline::name`].
    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|b| b.name() == text);
        found.ok_or_else(|| {
            Error::config(
                "baseline",
                format!(
                    "`{text}` is not known; give one of {}",
                    Self::ALL.map(Self::name).join(", ")
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests;
