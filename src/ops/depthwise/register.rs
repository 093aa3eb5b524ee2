//! The inner part of a depthwise output row in f32 with register tiles: 6 pixels by 16 channels, or 12 by 8.

#![allow(clippy::needless_range_loop)] // indices are register numbers here

use super::cpu::{Geometry, Lines};
use crate::device::simd::{LANES, Lanes, Pixels, dispatch_lanes};

/// Pixels of a tile of two registers; with its 12 sums, two weights and a value it fills 16 registers.
const PIXELS: usize = 6;

/// Pixels `from..from + out.len() / c` of an output row of stride 1, all of whose taps lie inside. `tiles` holds
/// the kernel's taps and the bias, `len` apart.
pub(super) fn row(
    g: Geometry,
    lines: &Lines<'_, f32>,
    (tiles, len): (&[f32], usize),
    from: usize,
    out: &mut [f32],
) {
    let count = out.len() / g.c;
    let shift = |k: usize| from.checked_add_signed(g.w.shift(k));
    let inside = |k: usize| shift(k).is_some_and(|at| at + count <= g.w.input);
    let whole = |line: &Option<&[f32]>| line.is_none_or(|l| l.len() == g.w.input * g.c);
    assert!(
        g.c.is_multiple_of(LANES)
            && (0..g.w.k).all(inside)
            && lines.iter().all(whole)
            && len >= g.c
            && tiles.len() >= (g.h.k * g.w.k + 1) * len,
        "depthwise row"
    );
    // SAFETY: just checked: every tap of every pixel lies in its line, and weights and bias in `tiles`.
    unsafe { run(g, lines, tiles, len, from, out) }
}

/// # Safety
/// What [`row`] checks.
unsafe fn run(
    g: Geometry,
    lines: &Lines<'_, f32>,
    tiles: &[f32],
    len: usize,
    from: usize,
    out: &mut [f32],
) {
    dispatch_lanes!(all(g: Geometry, lines: &Lines<'_, f32>, tiles: &[f32], len: usize, from: usize, out: &mut [f32]))
}

/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn all<L: Lanes>(
    g: Geometry,
    lines: &Lines<'_, f32>,
    tiles: &[f32],
    len: usize,
    from: usize,
    out: &mut [f32],
) {
    let count = out.len() / g.c;
    let wide = g.c / (2 * LANES) * (2 * LANES);
    let mut p = 0;
    while p < count {
        let m = (count - p).min(2 * PIXELS);
        // SAFETY: the caller's contract; channels stay below `c` and pixels below `count`.
        unsafe {
            let at = |first: usize, c: usize| (g, lines, tiles, len, from + first, c);
            for c in (0..wide).step_by(2 * LANES) {
                let mut done = 0;
                while done + PIXELS <= m {
                    let to = out.as_mut_ptr().add((p + done) * g.c + c);
                    tile::<L, PIXELS, 2>(at(p + done, c), to);
                    done += PIXELS;
                }
                for i in done..m {
                    tile::<L, 1, 2>(at(p + i, c), out.as_mut_ptr().add((p + i) * g.c + c));
                }
            }
            if wide < g.c {
                if m == 2 * PIXELS {
                    tile::<L, { 2 * PIXELS }, 1>(at(p, wide), out.as_mut_ptr().add(p * g.c + wide));
                } else {
                    for i in 0..m {
                        let to = out.as_mut_ptr().add((p + i) * g.c + wide);
                        tile::<L, 1, 1>(at(p + i, wide), to);
                    }
                }
            }
        }
        p += m;
    }
}

/// `M` pixels from `first` on, `8 V` channels from `c` on.
///
/// # Safety
/// As for [`run`], for these pixels and channels; `to` must have room for them.
#[inline(always)]
unsafe fn tile<L: Lanes, const M: usize, const V: usize>(
    (g, lines, tiles, len, first, c): (Geometry, &Lines<'_, f32>, &[f32], usize, usize, usize),
    to: *mut f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let bias = tiles.as_ptr().add(g.h.k * g.w.k * len + c);
        let mut acc = [[L::splat(0.0); V]; M];
        for v in 0..V {
            let bias = L::load(bias.add(v * LANES));
            for m in 0..M {
                acc[m][v] = bias;
            }
        }
        let pixels = Pixels::new(g.c);
        let (left, next) = (g.w.shift(0), g.w.shift(1) - g.w.shift(0));
        let mut weight = tiles.as_ptr().add(c);
        for line in &lines[..g.h.k] {
            let Some(line) = line else {
                weight = weight.add(g.w.k * len);
                continue;
            };
            let at = first.wrapping_add_signed(left) * g.c + c;
            let mut x = pixels.bases(line.as_ptr().wrapping_add(at));
            for _ in 0..g.w.k {
                let mut w = [L::splat(0.0); V];
                for v in 0..V {
                    w[v] = L::load(weight.add(v * LANES));
                }
                for m in 0..M {
                    for v in 0..V {
                        let x = L::load(pixels.at(&x, m).add(v * LANES));
                        acc[m][v] = x.mul_add(w[v], acc[m][v]);
                    }
                }
                pixels.advance(&mut x, next * g.c as isize);
                weight = weight.add(len);
            }
        }
        for (m, acc) in acc.into_iter().enumerate() {
            for (v, acc) in acc.into_iter().enumerate() {
                acc.store(to.add(m * g.c + v * LANES));
            }
        }
    }
}
