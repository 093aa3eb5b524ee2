//! The exposure-aware target: what a fused picture should look like, from the two sources alone.

use super::{affine, same_shape};
use crate::Result;
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Radius of the box filter, applied twice, that parts fine from coarser details: about a Gaussian of standard deviation 2.8.
const FINE: usize = 3;
/// Radii of those that make local energies of fine and of coarser details.
const FINE_ENERGY: usize = 3;
const COARSE_ENERGY: usize = 6;
/// Radius and regularisation of the guided filter that parts base from details, the latter in squared grey values: steps of
/// more than 80 levels are of the base and stay sharp there, so that details cast no halo around them.
const BASE: usize = 8;
const STEP: f64 = (80.0 / 255.0) * (80.0 / 255.0);
/// Part of the room above `shoulder` that the bent base can take; details in bright places have the rest.
const ROOM: f64 = 0.87;
/// Least share of the average's mean level that a bright scene keeps.
const KEPT: f64 = 1.0;
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
    /// Share of the darker source that is added by day.
    pub overlap_day: f64,
    /// Mean grey value that a bright scene is brought down to.
    pub centre: f64,
    /// Grey value above which levels are bent, so that details show in bright places; below 1.
    pub shoulder: f64,
    /// Factor on fine details, by night and by day.
    pub fine_night: f64,
    /// Factor on fine details by day.
    pub fine_day: f64,
    /// Factor on coarser details.
    pub detail_night: f64,
    /// Factor on coarser details by day.
    pub detail_day: f64,
}

/// The values of `src/train/default.toml`.
impl Default for ExposureOptions {
    fn default() -> Self {
        Self {
            night: 0.5,
            day: 0.75,
            overlap_night: 0.49,
            overlap_day: 1.0,
            centre: 0.5,
            shoulder: 0.6,
            fine_night: 1.4,
            fine_day: 1.0,
            detail_night: 1.1,
            detail_day: 1.1,
        }
    }
}

/// Pictures of [`exposure_target`], each `[N, H, W, 1]` in \[0, 1\].
#[derive(Clone, Copy, Debug)]
pub struct ExposureTarget {
    /// Details of the stronger source, fine and coarser ones.
    pub fused: Var,
    /// The same with the fine details of A alone.
    pub of_a: Var,
    /// The same with those of B alone.
    pub of_b: Var,
    /// Share of A in the fine details, which the mask of the aggregation should be.
    pub share: Var,
}

/// The exposure-aware target, beyond the paper:
///
/// `T = tone(bend(M + o m - e) + g_1 (w_1 a_1 + (1 - w_1) b_1) + g_2 (w_2 a_2 + (1 - w_2) b_2))`
///
/// With `mu = mean A + mean B` of the whole pictures:
///
/// - `s = smoothstep((mu - night) / (day - night))` is how much of a day scene this is; the overlap `o`, the gain `g_1` of fine details
///   (`fine_night`, `fine_day`) and that of coarser ones, `g_2`, go with `s` from their night to their day values; by night the overlap also fades where `M` is bright, `o (1 - (1 - s) M)`, as in a screen blend;
/// - each source is parted into a base, what a guided filter ([`ops::guided_filter`](crate::ops::guided_filter)) of radius 8 and regularisation (80/255)^2 with the source as its own
///   guide leaves of it, and details, the rest; box filters cover the part of the window that lies inside the picture;
/// - `M` and `m` are the brighter and the darker of both bases, by day with contrasts brought closer:
///   `mean A + (1 - s + s r) (base A - mean A)`, and alike for B with `1 / r`, the factor `r` that of
///   [`ops::balance`](crate::ops::balance);
/// - `a_1` and `b_1` are the fine details of each source, what smoothing takes from its details (a box filter of radius 3, twice), `a_2`
///   and `b_2` the rest of them; `w_i = E(a_i)^4 / (E(a_i)^4 + E(b_i)^4)` is the share of the stronger one, with the local energy
///   `E(x) = smooth(x^2) + 1e-6`, box filters of radius 3 and 6, twice;
/// - `e = max(0, mu (1 + o) / 2 - max(centre, mu / 2))` brings a bright scene down, but not below what the average shows, and
///   leaves night as it is;
/// - `bend` is the identity up to `shoulder` and approaches `shoulder + k` above it, `shoulder + k - k exp((shoulder - x) / k)` with
///   `k = 0.87 (1 - shoulder)`, so that details show in bright places;
/// - `tone` is the identity, but for ends below `end` and above `1 - knee` that approach 0 and 1 exponentially, `end exp(x / end - 1)` and
///   its mirror image: the upper end always, `knee` of 40 levels, the lower one where `e` would otherwise push values below 0, of `0.6 e`,
///   at least 0.001 and at most `knee`.
///
/// So by night nothing is darker than the brighter source, but for what its details and the bends take; a scene's mean comes out near
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

        let mut guided = |x| ops::guided_filter(t, x, x, BASE, STEP);
        let base = [guided(a)?, guided(b)?];
        let details = [ops::sub(t, a, base[0])?, ops::sub(t, b, base[1])?];
        let coarse = [smooth(t, details[0], FINE)?, smooth(t, details[1], FINE)?];
        let fine = [
            ops::sub(t, details[0], coarse[0])?,
            ops::sub(t, details[1], coarse[1])?,
        ];
        let (share, fine_both) = stronger(t, fine, FINE_ENERGY)?;
        let (_, rest) = stronger(t, coarse, COARSE_ENERGY)?;
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
        let low_a = balanced(base[0], means[0], r)?;
        let low_b = balanced(base[1], means[1], inverse)?;
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
        let width = ROOM * (1.0 - o.shoulder);
        let ceiling = o.shoulder + width;
        let room = affine(t, base, -1.0, ceiling)?;
        let width = t.constant(&Tensor::full([1, 1, 1, 1], t.dtype(), width))?;
        let room = soft_floor(t, room, width)?;
        let base = affine(t, room, -1.0, ceiling)?;

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
            fused: picture(fine_both)?,
            of_a: picture(fine[0])?,
            of_b: picture(fine[1])?,
            share,
        })
    })
}

/// The share of A, and the details of the stronger source.
fn stronger(t: &mut Tape, details: [Var; 2], radius: usize) -> Result<(Var, Var)> {
    let mut strength = |d| -> Result<Var> {
        let squares = ops::square(t, d)?;
        let energy = smooth(t, squares, radius)?;
        let energy = ops::offset(t, energy, SILENCE)?;
        let energy = ops::square(t, energy)?;
        ops::square(t, energy)
    };
    let (of_a, of_b) = (strength(details[0])?, strength(details[1])?);
    let sum = ops::add(t, of_a, of_b)?;
    let share = ops::div(t, of_a, sum)?;
    let both = ops::lerp(t, details[0], details[1], share)?;
    Ok((share, both))
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
