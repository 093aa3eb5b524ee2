//! Augmentation: changes of tone, sharpness and place of training patches, and the mean of the picture under them.

use super::crop::Crop;
use super::dataset::Scene;
use super::tones::{Radius, Tones};
use crate::{Error, Result};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

/// Defaults of task "mif", as TOML.
pub(crate) const AUGMENT_MIF: &str = include_str!("augment_mif.toml");

/// See `augment.toml` for the meaning of every key; probabilities are in \[0, 1\], ranges are \[least, greatest\].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Switch of all changes.
    pub enabled: bool,
    /// Share of patches that nothing is done to.
    pub untouched: f64,
    /// Probability of another exposure: times a factor.
    pub exposure: f64,
    /// Factor of the exposure, drawn log-uniformly.
    pub exposure_range: [f64; 2],
    /// Probability of another gamma: to the power of an exponent.
    pub gamma: f64,
    /// Exponent of the gamma, drawn log-uniformly; below 1 is brighter.
    pub gamma_range: [f64; 2],
    /// Probability of an offset: plus a number.
    pub offset: f64,
    /// Number that is added, in units of white.
    pub offset_range: [f64; 2],
    /// Probability of another contrast: distances from the picture's mean, times a factor.
    pub contrast: f64,
    /// Factor of the contrast.
    pub contrast_range: [f64; 2],
    /// Probability that source A is inverted, 1 - x: what is hot becomes black.
    pub polarity: f64,
    /// Probability that one of the two sources is darkened, as visible light at night.
    pub dark: f64,
    /// Largest mean of a darkened source.
    pub dark_mean: f64,
    /// Probability that one of the two sources is scaled until a part of it is white.
    pub saturated: f64,
    /// Share of the pixels of a saturated source that are white.
    pub saturated_share: [f64; 2],
    /// Probability of vignetting: darker towards the corners of the whole picture.
    pub vignetting: f64,
    /// Part of the light that is missing in the corners; it grows with the squared radius.
    pub vignetting_range: [f64; 2],
    /// Probability of a Gaussian blur.
    pub blur: f64,
    /// Standard deviation of the blur, in pixels.
    pub blur_range: [f64; 2],
    /// Probability of Gaussian noise.
    pub noise: f64,
    /// Standard deviation of the noise, in units of white.
    pub noise_range: [f64; 2],
    /// Part of the noise's variance that grows with the signal: 0 none, 1 all of it.
    pub noise_signal: f64,
    /// Probability that source A is moved, as if it were not registered well.
    pub shift: f64,
    /// Largest shift across and down, in whole pixels.
    pub shift_px: u32,
}

/// No source is scaled by more than this to be saturated: what is black stays so.
const MOST_GAIN: f32 = 20.0;
/// Pixels on each side that a blur reads.
const BLUR_SIDE: usize = 4;

impl Augment {
    /// Itself if it is enabled.
    pub fn active(&self) -> Option<&Self> {
        self.enabled.then_some(self)
    }

    /// # Errors
    /// [`Error::Config`] naming the first key whose value is out of its range.
    pub fn check(&self) -> Result<()> {
        let probabilities = [
            ("untouched", self.untouched),
            ("exposure", self.exposure),
            ("gamma", self.gamma),
            ("offset", self.offset),
            ("contrast", self.contrast),
            ("polarity", self.polarity),
            ("dark", self.dark),
            ("dark_mean", self.dark_mean),
            ("saturated", self.saturated),
            ("dark + augment.saturated", self.dark + self.saturated),
            ("vignetting", self.vignetting),
            ("blur", self.blur),
            ("noise", self.noise),
            ("noise_signal", self.noise_signal),
            ("shift", self.shift),
        ];
        for (key, value) in probabilities {
            within(key, [value, value], 0.0, 1.0)?;
        }
        within("exposure_range", self.exposure_range, 0.01, 100.0)?;
        within("gamma_range", self.gamma_range, 0.1, 10.0)?;
        within("offset_range", self.offset_range, -1.0, 1.0)?;
        within("contrast_range", self.contrast_range, 0.0, 100.0)?;
        within("saturated_share", self.saturated_share, 0.0, 1.0)?;
        within("vignetting_range", self.vignetting_range, 0.0, 1.0)?;
        within("blur_range", self.blur_range, 0.1, 2.0)?;
        within("noise_range", self.noise_range, 0.0, 1.0)?;
        within("shift_px", [f64::from(self.shift_px); 2], 0.0, 16.0)
    }

    /// Changes of A and of B of one patch.
    pub(super) fn draw(&self, tones: &[Tones; 2], rng: &mut Pcg64Mcg) -> [Change; 2] {
        let mut both = [Change::NONE; 2];
        if hit(self.untouched, rng) {
            return both;
        }
        let extreme: f64 = rng.random();
        let which = usize::from(rng.random::<bool>());
        for (source, (change, tones)) in both.iter_mut().zip(tones).enumerate() {
            self.draw_tone(&mut change.tone, source == 0, tones, rng);
            if which == source {
                if extreme < self.dark {
                    let mean = uniform([0.2 * self.dark_mean, self.dark_mean], rng);
                    change.tone.darken(tones, mean);
                } else if extreme < self.dark + self.saturated {
                    let share = uniform(self.saturated_share, rng);
                    change.tone.saturate(tones, share);
                }
            }
            let vignetting = uniform(self.vignetting_range, rng);
            if hit(self.vignetting, rng) {
                change.vignetting = vignetting;
            }
            let blur = uniform(self.blur_range, rng);
            if hit(self.blur, rng) {
                change.blur = blur;
            }
            let noise = uniform(self.noise_range, rng);
            if hit(self.noise, rng) {
                change.noise = (noise, self.noise_signal as f32);
            }
        }
        if hit(self.shift, rng) {
            let most = i32::try_from(self.shift_px).unwrap_or(0);
            let mut step = || rng.random_range(-most..=most) as isize;
            both[0].shift = (step(), step());
        }
        both
    }

    fn draw_tone(&self, tone: &mut Tone, is_a: bool, tones: &Tones, rng: &mut Pcg64Mcg) {
        if hit(self.exposure, rng) {
            tone.gain = log_uniform(self.exposure_range, rng);
        }
        if hit(self.gamma, rng) {
            tone.gamma = log_uniform(self.gamma_range, rng);
        }
        if hit(self.offset, rng) {
            tone.offset = uniform(self.offset_range, rng);
        }
        if hit(self.contrast, rng) {
            // With the contrast it has until now: 1.
            tone.pivot = tones.mean_of(0.0, |x| tone.until_contrast(x));
            tone.contrast = uniform(self.contrast_range, rng);
        }
        tone.inverted = is_a && hit(self.polarity, rng);
    }
}

fn within(key: &str, range: [f64; 2], least: f64, most: f64) -> Result<()> {
    // What is no number fails both.
    let fits = |v: f64| v >= least && v <= most;
    let [low, high] = range;
    let found = if low == high {
        format!("{low}")
    } else {
        format!("[{low}, {high}]")
    };
    if !(fits(low) && fits(high)) {
        let detail = format!("must be in [{least}, {most}], found {found}");
        return Err(Error::config(format!("augment.{key}"), detail));
    }
    if low > high {
        let detail = format!("{found} goes down; give the smaller number first");
        return Err(Error::config(format!("augment.{key}"), detail));
    }
    Ok(())
}

fn hit(probability: f64, rng: &mut Pcg64Mcg) -> bool {
    rng.random::<f64>() < probability
}

fn uniform([low, high]: [f64; 2], rng: &mut Pcg64Mcg) -> f32 {
    (low + (high - low) * rng.random::<f64>()) as f32
}

fn log_uniform([low, high]: [f64; 2], rng: &mut Pcg64Mcg) -> f32 {
    f64::from(uniform([low.ln(), high.ln()], rng)).exp() as f32
}

/// A map of values: exposure, gamma, offset, contrast, polarity, clamp, scale.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tone {
    gain: f32,
    gamma: f32,
    offset: f32,
    /// Contrast about `pivot`.
    contrast: f32,
    pivot: f32,
    inverted: bool,
    /// Below 1 dark, above 1 saturated.
    scale: f32,
}

impl Tone {
    const NONE: Self = Self {
        gain: 1.0,
        gamma: 1.0,
        offset: 0.0,
        contrast: 1.0,
        pivot: 0.0,
        inverted: false,
        scale: 1.0,
    };

    #[inline(always)]
    fn until_contrast(&self, x: f32) -> f32 {
        let v = x * self.gain;
        let v = if self.gamma == 1.0 {
            v
        } else {
            v.max(0.0).powf(self.gamma)
        };
        v + self.offset
    }

    #[inline(always)]
    fn of(&self, x: f32) -> f32 {
        let v = self.until_contrast(x);
        let v = self.pivot + self.contrast * (v - self.pivot);
        let v = if self.inverted { 1.0 - v } else { v };
        (v.clamp(0.0, 1.0) * self.scale).min(1.0)
    }

    fn darken(&mut self, tones: &Tones, mean: f32) {
        let now = tones.mean_of(0.0, |x| self.of(x));
        if now > mean {
            self.scale = mean / now;
        }
    }

    fn saturate(&mut self, tones: &Tones, share: f32) {
        let value = tones.upper(share, |x| self.of(x));
        self.scale = (1.0 / value.max(1.0 / MOST_GAIN)).max(1.0);
    }
}

/// Changes of one source of a patch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    tone: Tone,
    /// Part of the light that is lost in the corners.
    vignetting: f32,
    /// Standard deviation in pixels; 0 is none.
    blur: f32,
    /// Standard deviation, and the part of its variance that grows with the signal.
    noise: (f32, f32),
    shift: (isize, isize),
}

impl Change {
    pub const NONE: Self = Self {
        tone: Tone::NONE,
        vignetting: 0.0,
        blur: 0.0,
        noise: (0.0, 0.0),
        shift: (0, 0),
    };

    /// Copies the crop of a plane of `scene` and changes it; returns the mean of the whole picture under the same change
    /// of tone and vignetting. `spare` has room for a patch.
    pub fn take(
        &self,
        (scene, plane, tones): (&Scene, &[f32], &Tones),
        (crop, patch): (Crop, usize),
        rng: &mut Pcg64Mcg,
        out: &mut [f32],
        spare: &mut [f32],
    ) -> (f32, f32) {
        let (w, h) = (scene.width, scene.height);
        let crop = match self.shift {
            (0, 0) => crop,
            by => crop.moved(by, patch, w, h),
        };
        crop.copy(plane, w, patch, out);
        let still = Self {
            shift: (0, 0),
            ..*self
        };
        if still == Self::NONE {
            return tones.levels(0.0, |x| x);
        }
        if self.blur > 0.0 {
            blur(out, patch, self.blur, spare);
        }
        let tone = self.tone;
        if tone != Tone::NONE {
            out.iter_mut().for_each(|v| *v = tone.of(*v));
        }
        let vignetting = self.vignetting;
        if vignetting > 0.0 {
            let radius = Radius::of(w, h);
            crop.scale_by_place(patch, out, |x, y| 1.0 - vignetting * radius.squared(x, y));
        }
        if self.noise.0 > 0.0 {
            add_noise(out, self.noise, rng);
        }
        out.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        tones.levels(vignetting, |x| tone.of(x))
    }
}

fn add_noise(out: &mut [f32], (sigma, signal): (f32, f32), rng: &mut Pcg64Mcg) {
    for v in out {
        let n: f32 = StandardNormal.sample(rng);
        let variance = 1.0 - signal + signal * v.max(0.0);
        *v += sigma * variance.sqrt() * n;
    }
}

/// A Gaussian along rows, then along columns; the border pixels go on beyond the border.
fn blur(out: &mut [f32], patch: usize, sigma: f32, spare: &mut [f32]) {
    let mut taps = [0.0f32; 2 * BLUR_SIDE + 1];
    for (i, tap) in taps.iter_mut().enumerate() {
        let d = (i as f32 - BLUR_SIDE as f32) / sigma;
        *tap = (-0.5 * d * d).exp();
    }
    let sum: f32 = taps.iter().sum();
    taps.iter_mut().for_each(|t| *t /= sum);
    // Twice along rows with the result turned is once along each side.
    along_rows(out, patch, &taps, spare);
    along_rows(spare, patch, &taps, out);
}

/// `out` is turned: its columns are the rows.
fn along_rows(plane: &[f32], patch: usize, taps: &[f32; 2 * BLUR_SIDE + 1], out: &mut [f32]) {
    for (y, row) in plane.chunks_exact(patch).enumerate() {
        for x in 0..patch {
            let mut sum = 0.0;
            for (k, tap) in taps.iter().enumerate() {
                let at = (x + k).saturating_sub(BLUR_SIDE).min(patch - 1);
                sum += tap * row[at];
            }
            out[x * patch + y] = sum;
        }
    }
}

#[cfg(test)]
mod tests;
