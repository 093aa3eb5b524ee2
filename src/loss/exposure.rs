//! The exposure-aware target: what a fused picture should look like, from the two sources alone.

use super::{affine, same_shape};
use crate::Result;
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Radii of the box filters, each applied twice and to what the one before gave, that make the scales of the details: about
/// Gaussians of standard deviation 2, 4.2 and 8.1 together.
const FINE: usize = 2;
const MIDDLE: usize = 4;
const COARSE: usize = 8;
/// Least share of the average's mean level that a bright scene keeps.
const KEPT: f64 = 0.95;
/// Widest end of the tone curve that is bent, in grey values.
const KNEE: f64 = 40.0 / 255.0;
/// Added to the energies of details, in squared grey values: below a quarter of an 8-bit level both sources count alike.
const SILENCE: f64 = 1e-6;

/// Keys below `loss.exposure`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExposureOptions {
    /// Sum of both sources' means up to which a scene is night.
    pub night: f64,
    /// Sum from which on it is day.
    pub day: f64,
    /// Share of the darker source that is added to the brighter one, by night and by day.
    pub overlap_night: f64,
    pub overlap_day: f64,
    /// Mean grey value that a bright scene is brought down to.
    pub centre: f64,
    /// Factor on the finest details, by night and by day.
    pub fine_night: f64,
    pub fine_day: f64,
    /// Factor on coarser details.
    pub detail_night: f64,
    pub detail_day: f64,
}

/// The values of `src/train/default.toml`.
impl Default for ExposureOptions {
    fn default() -> Self {
        Self {
            night: 0.5,
            day: 0.75,
            overlap_night: 0.52,
            overlap_day: 1.0,
            centre: 0.5,
            fine_night: 1.38,
            fine_day: 1.05,
            detail_night: 1.2,
            detail_day: 1.0,
        }
    }
}

/// Pictures of [`exposure_target`], each `[N, H, W, 1]` in \[0, 1\].
#[derive(Clone, Copy, Debug)]
pub struct ExposureTarget {
    /// Details of the stronger source at each scale.
    pub fused: Var,
    /// The same with the details of A alone at the finest scale.
    pub of_a: Var,
    /// The same with the details of B alone there.
    pub of_b: Var,
    /// Share of A in the details at the finest scale, which the mask of the aggregation should be.
    pub share: Var,
}

/// The exposure-aware target, beyond the paper:
///
/// `T = tone(M + o m - e + sum over scales i of g_i (w_i a_i + (1 - w_i) b_i))`
///
/// With `mu = mean A + mean B` of the whole pictures:
///
/// - `s = smoothstep((mu - night) / (day - night))` is how much of a day scene this is; the overlap `o` and the gains `g_i`, one of the
///   finest scale (`fine_night`, `fine_day`) and one of the others, go with `s` from their night to their day values; by night the overlap also fades where `M` is bright, `o (1 - (1 - s) M)`, as in a screen blend;
/// - sources are smoothed by box filters of radius 2, then 4, then 8, each applied twice, over the part of the window that lies inside
///   the picture;
/// - `M` and `m` are the brighter and the darker of both sources at the coarsest scale, by day with contrasts brought closer:
///   `mean A + (1 - s + s r) (smooth A - mean A)`, and alike for B with `1 / r`, the factor `r` that of
///   [`ops::balance`](crate::ops::balance);
/// - `a_i` and `b_i` are the details of each source that smoothing at scale `i` takes from the one before it, the finest from the source
///   itself; `w_i = E(a_i)^4 / (E(a_i)^4 + E(b_i)^4)` the share of the stronger one, with the local energy `E(x) = smooth(x^2) + 1e-6`,
///   smoothed with 3/2 of the radius, rounded down;
/// - `e = max(0, mu (1 + o) / 2 - max(centre, 0.95 mu / 2))` brings a bright scene down, but not below what the average shows, and
///   leaves night as it is;
/// - `tone` is the identity, but for ends below `end` and above `1 - knee` that approach 0 and 1 exponentially, `end exp(x / end - 1)` and
///   its mirror image: the upper end always, `knee` of 40 levels, the lower one where `e` would otherwise push values below 0, of `0.6 e`,
///   at least 0.001 and at most `knee`.
///
/// So by night nothing is darker than the brighter source, but for what its details and the upper end take; a scene's mean comes out near
/// `centre` by day, so that no road turns white; and details are those of the source that has them, whatever its level.
///
/// # Shapes
/// `a` and `b`: `[N, H, W, 1]`, `levels`: [`ops::picture_levels`](crate::ops::picture_levels) of the whole
/// pictures, `[N, 1, 1, 2]` each.
///
/// # Gradient
/// Not meant to be trained through; it has that of its parts.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit.
pub fn exposure_target(
    t: &mut Tape,
    (a, b): (Var, Var),
    levels: [Var; 2],
    options: &ExposureOptions,
) -> Result<ExposureTarget> {
    same_shape("exposure_target", t, a, b)?;
    t.scope("exposure", |t| {
        let o = options;
        let means = [
            ops::slice_channels(t, levels[0], 0, 1)?,
            ops::slice_channels(t, levels[1], 0, 1)?,
        ];
        let mu = ops::add(t, means[0], means[1])?;
        let day = smoothstep(t, mu, o.night, o.day)?;
        let overlap = affine(t, day, o.overlap_day - o.overlap_night, o.overlap_night)?;
        let gain = affine(t, day, o.detail_day - o.detail_night, o.detail_night)?;
        let fine_gain = affine(t, day, o.fine_day - o.fine_night, o.fine_night)?;

        let fine = scale(t, [a, b], FINE)?;
        let middle = scale(t, fine.low, MIDDLE)?;
        let coarse = scale(t, middle.low, COARSE)?;
        let low = coarse.low;
        let rest = ops::add(t, middle.stronger, coarse.stronger)?;
        let rest = ops::mul(t, rest, gain)?;
        // Closer contrasts by day.
        let r = ops::balance_factor(t, levels)?;
        let inverse = ops::recip(t, r)?;
        let mut balanced = |low, mean, r| -> Result<Var> {
            let change = affine(t, r, 1.0, -1.0)?;
            let change = ops::mul(t, change, day)?;
            let centred = ops::sub(t, low, mean)?;
            let more = ops::mul(t, centred, change)?;
            ops::add(t, low, more)
        };
        let low_a = balanced(low[0], means[0], r)?;
        let low_b = balanced(low[1], means[1], inverse)?;
        let bright = ops::maximum(t, low_a, low_b)?;
        let both = ops::add(t, low_a, low_b)?;
        let dark = ops::sub(t, both, bright)?;
        let night = affine(t, day, -1.0, 1.0)?;
        let faded = ops::mul(t, night, bright)?;
        let fade = affine(t, faded, -1.0, 1.0)?;
        let part = ops::mul(t, overlap, fade)?;
        let added = ops::mul(t, part, dark)?;
        let base = ops::add(t, bright, added)?;

        let half = affine(t, overlap, 0.5, 0.5)?;
        let mean = ops::mul(t, mu, half)?;
        // Half of mu is the level of the average.
        let average = ops::scale(t, mu, 0.5 * KEPT)?;
        let level = ops::clamp(t, average, o.centre, 1.0)?;
        let excess = ops::sub(t, mean, level)?;
        let excess = ops::relu(t, excess)?;
        let base = ops::sub(t, base, excess)?;

        let end = ops::scale(t, excess, 0.6)?;
        let end = ops::clamp(t, end, 1e-3, KNEE)?;
        let knee = t.constant(&Tensor::full([1, 1, 1, 1], t.dtype(), KNEE))?;
        let mut picture = |fine: Var| -> Result<Var> {
            let fine = ops::mul(t, fine, fine_gain)?;
            let detail = ops::add(t, rest, fine)?;
            let x = ops::add(t, base, detail)?;
            let x = soft_floor(t, x, end)?;
            let mirrored = affine(t, x, -1.0, 1.0)?;
            let x = soft_floor(t, mirrored, knee)?;
            affine(t, x, -1.0, 1.0)
        };
        Ok(ExposureTarget {
            fused: picture(fine.stronger)?,
            of_a: picture(fine.details[0])?,
            of_b: picture(fine.details[1])?,
            share: fine.share,
        })
    })
}

/// The details of both sources between a scale of smoothing and the next.
struct Scale {
    details: [Var; 2],
    /// Share of A.
    share: Var,
    /// Of the stronger source.
    stronger: Var,
    /// Both sources, smoothed.
    low: [Var; 2],
}

fn scale(t: &mut Tape, [a, b]: [Var; 2], radius: usize) -> Result<Scale> {
    let low = [smooth(t, a, radius)?, smooth(t, b, radius)?];
    let details = [ops::sub(t, a, low[0])?, ops::sub(t, b, low[1])?];
    let mut strength = |d| -> Result<Var> {
        let squares = ops::square(t, d)?;
        let energy = smooth(t, squares, radius + radius / 2)?;
        let energy = ops::offset(t, energy, SILENCE)?;
        let energy = ops::square(t, energy)?;
        ops::square(t, energy)
    };
    let (of_a, of_b) = (strength(details[0])?, strength(details[1])?);
    let sum = ops::add(t, of_a, of_b)?;
    let share = ops::div(t, of_a, sum)?;
    let stronger = ops::lerp(t, details[0], details[1], share)?;
    Ok(Scale {
        details,
        share,
        stronger,
        low,
    })
}

/// A box filter twice: close to a Gaussian.
fn smooth(t: &mut Tape, x: Var, radius: usize) -> Result<Var> {
    let once = ops::box_filter(t, x, radius)?;
    ops::box_filter(t, once, radius)
}

/// `x` where it is at least `end`, else `end exp(x / end - 1)`: value and slope agree where they meet. So written, rounding
/// leaves it rising and not below 0.
fn soft_floor(t: &mut Tape, x: Var, end: Var) -> Result<Var> {
    let above = ops::sub(t, x, end)?;
    let above = ops::relu(t, above)?;
    let below = ops::sub(t, end, x)?;
    let below = ops::relu(t, below)?;
    let ratio = ops::div(t, below, end)?;
    let power = ops::scale(t, ratio, -1.0)?;
    let power = ops::exp(t, power)?;
    let bent = ops::mul(t, power, end)?;
    ops::add(t, above, bent)
}

/// `3 u^2 - 2 u^3` of `u = (x - from) / (to - from)`, clamped to [0, 1].
fn smoothstep(t: &mut Tape, x: Var, from: f64, to: f64) -> Result<Var> {
    let width = to - from;
    let u = affine(t, x, 1.0 / width, -from / width)?;
    let u = ops::clamp(t, u, 0.0, 1.0)?;
    let square = ops::square(t, u)?;
    let slope = affine(t, u, -2.0, 3.0)?;
    ops::mul(t, square, slope)
}
