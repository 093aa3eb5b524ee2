//! Full-range BT.601 (JFIF) YCbCr in unit floats.
//!
//! R, G, B and Y lie in \[0, 1\], Cb and Cr in \[-0.5, 0.5\] with 0 meaning grey:
//!
//! ```text
//! Y  = 0.299 R + 0.587 G + 0.114 B        R = Y + 1.402 Cr
//! Cb = (B - Y) / 1.772                    G = Y - (0.299 * 1.402 Cr + 0.114 * 1.772 Cb) / 0.587
//! Cr = (R - Y) / 1.402                    B = Y + 1.772 Cb
//! ```

use crate::device::simd::simd_fn;

/// Pixels that the vectorised loops here take at a time.
pub(super) const RUN: usize = 64;
/// Pixels that a thread takes at a time.
pub(super) const PART: usize = 64 * RUN;

/// `[R, G, B]` to `[Y, Cb, Cr]`; grey (R = G = B) gives Y = G and zero chroma to the last bit.
#[inline(always)]
pub fn rgb_to_ycbcr([r, g, b]: [f32; 3]) -> [f32; 3] {
    let y = g + 0.299 * (r - g) + 0.114 * (b - g);
    [y, (b - y) / 1.772, (r - y) / 1.402]
}

/// `[Y, Cb, Cr]` to `[R, G, B]`: the inverse of [`rgb_to_ycbcr`], without any clamping.
#[inline(always)]
pub fn ycbcr_to_rgb([y, cb, cr]: [f32; 3]) -> [f32; 3] {
    let (dr, db) = (1.402 * cr, 1.772 * cb);
    let dg = -(0.299 * dr + 0.114 * db) / 0.587;
    [y + dr, y + dg, y + db]
}

/// `[Y, Cb, Cr]` to `[R, G, B]` in \[0, 1\], with Y (clamped to \[0, 1\]) and hue kept.
///
/// Clamping each channel by itself would change both the hue and Y. Here the chroma is scaled
/// toward grey instead, by the largest s in \[0, 1\] for which (Y, s Cb, s Cr) is a colour of the
/// RGB cube; colours inside the cube keep s = 1.
#[inline(always)]
pub fn ycbcr_to_gamut([y, cb, cr]: [f32; 3]) -> [f32; 3] {
    let y = y.clamp(0.0, 1.0);
    let delta = ycbcr_to_rgb([0.0, cb, cr]);
    let mut scale = 1.0f32;
    for d in delta {
        // Written without branches, for vectors.
        let room = if d > 0.0 { 1.0 - y } else { y };
        let most = if d.abs() > room { room / d.abs() } else { 1.0 };
        scale = if most < scale { most } else { scale };
    }
    delta.map(|d| (y + scale * d).clamp(0.0, 1.0))
}

simd_fn! {
    /// [`rgb_to_ycbcr`] of a run of pixels, in place.
    pub(super) fn run_to_ycbcr(planes: &mut [[f32; RUN]; 3]) {
        let [r, g, b] = planes;
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            [*r, *g, *b] = rgb_to_ycbcr([*r, *g, *b]);
        }
    }
}

simd_fn! {
    /// [`ycbcr_to_gamut`] of a run of pixels, in place.
    pub(super) fn run_to_gamut(planes: &mut [[f32; RUN]; 3]) {
        let [y, cb, cr] = planes;
        for ((y, cb), cr) in y.iter_mut().zip(cb).zip(cr) {
            [*y, *cb, *cr] = ycbcr_to_gamut([*y, *cb, *cr]);
        }
    }
}

simd_fn! {
    /// Each value, clamped to \[0, 1\], as the nearest of the whole numbers up to `max`.
    pub(super) fn run_to_levels(values: &mut [f32; RUN], max: f32) {
        for v in values {
            *v = (v.clamp(0.0, 1.0) * max).round();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rgb_survives_a_round_trip(r in 0.0f32..=1.0, g in 0.0f32..=1.0, b in 0.0f32..=1.0) {
            let ycc = rgb_to_ycbcr([r, g, b]);
            prop_assert!((-1e-6..=1.0 + 1e-6).contains(&ycc[0]));
            prop_assert!(ycc[1].abs() <= 0.5 + 1e-6 && ycc[2].abs() <= 0.5 + 1e-6);
            for back in [ycbcr_to_rgb(ycc), ycbcr_to_gamut(ycc)] {
                for (x, y) in [r, g, b].into_iter().zip(back) {
                    prop_assert!((x - y).abs() <= 1e-6, "{:?} -> {back:?}", [r, g, b]);
                }
            }
        }

        #[test]
        fn gamut_keeps_luma_and_hue(y in 0.0f32..=1.0, cb in -0.5f32..=0.5, cr in -0.5f32..=0.5) {
            let rgb = ycbcr_to_gamut([y, cb, cr]);
            prop_assert!(rgb.iter().all(|v| (0.0..=1.0).contains(v)));
            let [y2, cb2, cr2] = rgb_to_ycbcr(rgb);
            prop_assert!((y - y2).abs() < 1e-5, "luma {y} -> {y2}");
            // Same direction in the chroma plane, never longer.
            prop_assert!((cb * cr2 - cr * cb2).abs() < 1e-5, "hue of {cb} {cr} -> {cb2} {cr2}");
            prop_assert!(cb * cb2 >= -1e-5 && cr * cr2 >= -1e-5);
            prop_assert!(cb2.abs() <= cb.abs() + 1e-5 && cr2.abs() <= cr.abs() + 1e-5);
        }
    }

    #[test]
    fn known_colours_and_exact_grey() {
        assert_eq!(rgb_to_ycbcr([1.0, 0.0, 0.0])[0], 0.299);
        assert_eq!(rgb_to_ycbcr([0.0, 0.0, 1.0])[0], 0.114);
        assert!((rgb_to_ycbcr([1.0, 0.0, 0.0])[2] - 0.5).abs() < 1e-6);
        assert!((rgb_to_ycbcr([0.0, 0.0, 1.0])[1] - 0.5).abs() < 1e-6);
        assert_eq!(rgb_to_ycbcr([0.3; 3]), [0.3, 0.0, 0.0]);
        assert_eq!(ycbcr_to_gamut([1.2, 0.3, -0.2]), [1.0; 3]);
        assert_eq!(ycbcr_to_gamut([0.0, 0.3, -0.2]), [0.0; 3]);
    }
}
