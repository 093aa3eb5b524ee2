//! Register tiles of the dense convolution: `M` pixels by `8 V` channels, in f32; up to 6 by 16 or 12 by 8.
//!
//! A convolution in NHWC is a sum of small matrix products: for one kernel row, the `kw * cin`
//! values under it are contiguous, so pixels are rows of a matrix whose rows overlap, and nothing
//! needs to be copied (no im2col). Weights are packed into panels of [`NR`] output channels.

#![allow(clippy::needless_range_loop)] // indices are register numbers here

use crate::device::simd::{LANES, Lanes, Pair, Pixels, Vector};

/// Width of a panel: two registers, one of AVX-512. The last one is half as wide if that holds what is left.
pub(in crate::ops::conv) const NR: usize = 2 * LANES;
/// Most pixels in a tile of any instruction set: 6 x 2 accumulators + 2 weights + 1 pixel fill the 16 AVX2 registers.
pub(in crate::ops::conv) const MR: usize = 6;

/// Most pixels in a tile of a panel of `width` channels.
pub(in crate::ops::conv) const fn most_rows<L: Lanes>(width: usize) -> usize {
    if width == LANES { L::SUMS } else { L::SUMS / 2 }
}

/// A run of `len` consecutive input values at `a` (relative to a pixel) and the row of the packed
/// panel that its first value meets.
#[derive(Clone, Copy, Default)]
pub(in crate::ops::conv) struct Tap {
    pub a: isize,
    pub row: usize,
    pub len: usize,
}

/// `acc[m] = sum over taps and k of a[m * pitch + tap.a + k] * panel[tap.row + k]`, rows of `8 V`, V 1 or 2.
///
/// # Safety
/// Every address of the formula must be readable, and `L`'s instruction set available.
#[inline(always)]
pub(in crate::ops::conv) unsafe fn tile<L: Lanes, const M: usize, const V: usize>(
    a: *const f32,
    pitch: usize,
    taps: &[Tap],
    panel: *const f32,
) -> [[L; V]; M] {
    // SAFETY: the caller vouches for all addresses.
    unsafe {
        let mut acc = [[L::splat(0.0); V]; M];
        const { assert!(V == 1 || V == 2) };
        if const { V == 1 } {
            let sums = sums::<L, M>(a, pitch, taps, panel);
            for m in 0..M {
                acc[m][0] = sums[m];
            }
        } else {
            let sums = sums::<L::Pair, M>(a, pitch, taps, panel);
            for m in 0..M {
                [acc[m][0], acc[m][V - 1]] = sums[m].halves();
            }
        }
        acc
    }
}

/// [`tile`] of a panel as wide as a vector.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn sums<R: Vector, const M: usize>(
    a: *const f32,
    pitch: usize,
    taps: &[Tap],
    panel: *const f32,
) -> [R; M] {
    // SAFETY: the caller vouches for all addresses.
    unsafe {
        let mut acc = [R::splat(0.0); M];
        let pixels = Pixels::new(pitch);
        for tap in taps {
            let mut a = pixels.bases(a.offset(tap.a));
            let mut b = panel.add(tap.row * R::WIDTH);
            for _ in 0..tap.len {
                let w = R::load(b);
                for m in 0..M {
                    acc[m] = R::splat(*pixels.at(&a, m)).mul_add(w, acc[m]);
                }
                pixels.advance(&mut a, 1);
                b = b.add(R::WIDTH);
            }
        }
        acc
    }
}

/// Extent and strides of [`outer`].
#[derive(Clone, Copy)]
pub(in crate::ops::conv) struct OuterStrides {
    pub rows: usize,
    pub pixels: usize,
    pub a_row: usize,
    pub a_step: usize,
    pub b_row: usize,
    pub b_step: usize,
}

/// `acc[m] = sum over rows r and pixels p of a[r a_row + p a_step + m] * b[r b_row + p b_step ..]`:
/// an outer product summed over pixels, for weight gradients.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
pub(in crate::ops::conv) unsafe fn outer<L: Lanes, const M: usize, const V: usize>(
    a: *const f32,
    b: *const f32,
    s: &OuterStrides,
) -> [[L; V]; M] {
    // SAFETY: the caller vouches for all addresses.
    unsafe {
        let mut acc = [[L::splat(0.0); V]; M];
        for r in 0..s.rows {
            let mut a = a.add(r * s.a_row);
            let mut b = b.add(r * s.b_row);
            for _ in 0..s.pixels {
                let mut y = [L::splat(0.0); V];
                for v in 0..V {
                    y[v] = L::load(b.add(v * LANES));
                }
                for m in 0..M {
                    let x = L::splat(*a.add(m));
                    for v in 0..V {
                        acc[m][v] = x.mul_add(y[v], acc[m][v]);
                    }
                }
                // The last step may leave the buffer; it is not read.
                a = a.wrapping_add(s.a_step);
                b = b.wrapping_add(s.b_step);
            }
        }
        acc
    }
}

/// [`outer`] for one channel of `b`.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
pub(in crate::ops::conv) unsafe fn outer_one<L: Lanes, const M: usize>(
    a: *const f32,
    b: *const f32,
    s: &OuterStrides,
) -> [f32; M] {
    let mut acc = [0.0; M];
    for r in 0..s.rows {
        for p in 0..s.pixels {
            // SAFETY: the caller vouches for all addresses.
            unsafe {
                let y = *b.add(r * s.b_row + p * s.b_step);
                for (m, acc) in acc.iter_mut().enumerate() {
                    *acc = L::mul_add_one(*a.add(r * s.a_row + p * s.a_step + m), y, *acc);
                }
            }
        }
    }
    acc
}

/// `sums[m][0] = sum over taps and k of a[m * pitch + tap.a + k] * weights[tap.row + k]`: dot products for one output
/// channel, where a panel would stay mostly empty.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
pub(in crate::ops::conv) unsafe fn dots<L: Lanes, const M: usize>(
    a: *const f32,
    pitch: usize,
    taps: &[Tap],
    weights: *const f32,
) -> [[f32; 1]; M] {
    // SAFETY: the caller vouches for all addresses.
    unsafe {
        let mut lanes = [L::splat(0.0); M];
        let mut sums = [[0.0f32]; M];
        for tap in taps {
            let whole = tap.len / LANES * LANES;
            let a = a.offset(tap.a);
            let weights = weights.add(tap.row);
            let mut k = 0;
            while k < whole {
                let w = L::load(weights.add(k));
                for m in 0..M {
                    lanes[m] = L::load(a.add(m * pitch + k)).mul_add(w, lanes[m]);
                }
                k += LANES;
            }
            for k in whole..tap.len {
                for m in 0..M {
                    let x = *a.add(m * pitch + k);
                    sums[m][0] = L::mul_add_one(x, *weights.add(k), sums[m][0]);
                }
            }
        }
        for m in 0..M {
            sums[m][0] += lanes[m].sum();
        }
        sums
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::device::simd::{Avx2, Avx512, Simd, simd};

    const COUNT: usize = 40;

    /// Sums of six pixels of `COUNT` values, for sixteen channels.
    #[inline(always)]
    unsafe fn six<L: Lanes>(x: &[f32], panel: &[f32]) -> Vec<f32> {
        let taps = [Tap {
            a: 0,
            row: 0,
            len: COUNT,
        }];
        let mut out = vec![0.0; 6 * NR];
        // SAFETY: the caller gives six pixels, a panel, and the instruction set.
        unsafe {
            let acc = tile::<L, 6, 2>(x.as_ptr(), COUNT, &taps, panel.as_ptr());
            for (acc, out) in acc.as_flattened().iter().zip(out.chunks_exact_mut(LANES)) {
                acc.store(out.as_mut_ptr());
            }
        }
        out
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn narrow(x: &[f32], panel: &[f32]) -> Vec<f32> {
        // SAFETY: the features are enabled; the rest is the caller's.
        unsafe { six::<Avx2>(x, panel) }
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
    unsafe fn wide(x: &[f32], panel: &[f32]) -> Vec<f32> {
        // SAFETY: the features are enabled; the rest is the caller's.
        unsafe { six::<Avx512>(x, panel) }
    }

    #[test]
    fn both_widths_give_the_same_bits() {
        if simd() < Simd::Avx512 {
            println!("skipped: no AVX-512 here");
            return;
        }
        let wave = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
        let (x, panel) = (wave(6 * COUNT, 0.37), wave(COUNT * NR, 0.73));
        // SAFETY: the CPU has both, and the slices are that long.
        let (narrow, wide) = unsafe { (narrow(&x, &panel), wide(&x, &panel)) };
        assert_eq!(narrow, wide);
        let product = |k: usize| f64::from(x[5 * COUNT + k]) * f64::from(panel[k * NR + 15]);
        let exact: f64 = (0..COUNT).map(product).sum();
        assert!((f64::from(wide[6 * NR - 1]) - exact).abs() < 1e-5);
    }
}
