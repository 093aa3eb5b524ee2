//! The curve of [`Tone::Auto`](super::Tone::Auto).

use super::histogram::Histogram;

/// Percentiles that stand for the darkest and the brightest of a picture: a few hot or dead pixels
/// do not count.
pub(super) const PERCENTILES: [f64; 2] = [0.5, 99.5];
/// Greatest gain.
pub(super) const MAX_GAIN: f64 = 1.5;
/// Distance from black and white that the percentiles are moved to at most.
const MARGIN: f64 = 0.02;
/// Greatest move of the mean.
pub(super) const MAX_SHIFT: f64 = 0.1;
/// Height of a shoulder: the line holds from here to 1 minus it.
const SHOULDER: f64 = 0.1;
/// Nearest that a value comes to black or white, unless it was nearer before: two levels of 8 bits.
pub(super) const SAFE: f64 = 2.0 / 255.0;

/// A line in the middle with a shoulder at each end: y = `fixed` + `gain` (x - `fixed`).
#[derive(Debug)]
pub(super) struct Curve {
    gain: f32,
    fixed: f32,
    dark: Shoulder,
    /// Of 1 - x and 1 - y.
    bright: Shoulder,
}

/// The curve from black to where it meets the line. Three pieces, of which the slopes meet:
///
/// ```text
/// w < from_x           from_x (1 - u (s + (1 - s) u)), u = 1 - w / from_x      slope s at the end
/// w < to_x             from_y + (to_y - from_y) t / (k - (k - 1) t), t from 0 to 1
/// else                 the line
/// ```
///
/// The first is there if values lie below `from_x`; then `from_y` = `from_x` and s <= 1, so it stays above y = x.
/// Each operation is monotone in floating point, so the curve is too.
#[derive(Debug, Default)]
struct Shoulder {
    from_x: f32,
    from_y: f32,
    to_x: f32,
    to_y: f32,
    /// k: slope of the line in units of the chord.
    bend: f32,
    /// s.
    slope: f32,
    /// 1 / `from_x` and 1 / (`to_x` - `from_x`).
    scale: [f32; 2],
}

impl Curve {
    /// The curve for a picture whose percentiles are `low` < `high`; `None` if it has the whole range already.
    pub fn auto(picture: &Histogram, low: f64, high: f64) -> Option<Self> {
        let mean = picture.mean().max(low).min(high);
        let (target_low, target_high) = (low.min(MARGIN), high.max(1.0 - MARGIN));
        // Room below and above. A picture that is moved by it keeps its mean within MAX_SHIFT.
        let (down, up) = (low - target_low, target_high - high);
        let gain = MAX_GAIN
            .min((target_high - target_low) / (high - low))
            .min(1.0 + (MAX_SHIFT + down) / (mean - low))
            .min(1.0 + (MAX_SHIFT + up) / (high - mean));
        if gain.is_nan() || gain <= 1.0 {
            return None;
        }
        let least = high - up / (gain - 1.0);
        let most = low + down / (gain - 1.0);
        let fixed = mean.max(least).min(most).max(low).min(high);
        Some(Self {
            gain: gain as f32,
            fixed: fixed as f32,
            dark: Shoulder::new(gain, fixed, picture.min),
            bright: Shoulder::new(gain, 1.0 - fixed, 1.0 - picture.max),
        })
    }

    /// Where pieces meet.
    #[cfg(test)]
    pub fn knots(&self) -> [f32; 4] {
        let (d, b) = (&self.dark, &self.bright);
        [d.from_x, d.to_x, 1.0 - b.to_x, 1.0 - b.from_x]
    }

    /// y at x in \[0, 1\].
    #[inline(always)]
    pub fn at(&self, x: f32) -> f32 {
        let line = self.fixed + self.gain * (x - self.fixed);
        let y = least(greatest(line, self.dark.to_y), 1.0 - self.bright.to_y);
        let (dark, bright) = (self.dark.at(x), 1.0 - self.bright.at(1.0 - x));
        let y = if x < self.dark.to_x { dark } else { y };
        let y = if 1.0 - x < self.bright.to_x {
            bright
        } else {
            y
        };
        // True of the curve already but for its rounding.
        let safe = SAFE as f32;
        least(greatest(y, least(x, safe)), greatest(x, 1.0 - safe))
    }
}

impl Shoulder {
    /// For a line of slope `gain` through (`fixed`, `fixed`), and values from `min` on.
    fn new(gain: f64, fixed: f64, min: f64) -> Self {
        let line = |x: f64| fixed + gain * (x - fixed);
        let safe = SAFE.min(0.5 * fixed);
        let from_x = min.max(safe);
        let from_y = line(from_x).max(from_x.min(SAFE));
        // No higher than where the slope at `safe` becomes 1, lest it be below y = x there.
        let to_y = SHOULDER.min(fixed + gain.sqrt() * (fixed - safe));
        let to_x = fixed + (to_y - fixed) / gain;
        if to_x - from_x < 1e-6 || to_y <= from_y {
            return Self::default();
        }
        let chord = (to_y - from_y) / (to_x - from_x);
        let bend = (gain / chord).max(1.0);
        Self {
            from_x: from_x as f32,
            from_y: from_y as f32,
            to_x: to_x as f32,
            to_y: to_y as f32,
            bend: bend as f32,
            slope: (chord / bend).min(1.0) as f32,
            scale: [1.0 / from_x, 1.0 / (to_x - from_x)].map(|v| v as f32),
        }
    }

    #[inline(always)]
    fn at(&self, w: f32) -> f32 {
        let u = greatest(1.0 - w * self.scale[0], 0.0);
        let first = self.from_x * (1.0 - u * (self.slope + (1.0 - self.slope) * u));
        let t = (w - self.from_x) * self.scale[1];
        let t = least(greatest(t, 0.0), 1.0);
        let bent = t / (self.bend - (self.bend - 1.0) * t);
        let second = least(self.from_y + (self.to_y - self.from_y) * bent, self.to_y);
        if w < self.from_x { first } else { second }
    }
}

/// Of two numbers, in one instruction.
#[inline(always)]
fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn greatest(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
