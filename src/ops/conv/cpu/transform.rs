//! The transforms of [`super::winograd`]; their matrices follow from the points of interpolation 0, +-1, +-1/2, +-2 and
//! infinity.

#![allow(clippy::needless_range_loop)] // indices are powers and register numbers here

use crate::device::simd::{LANES, Lanes, Pixels, prefetch};

/// Side of an input tile.
pub(in crate::ops::conv) const SIDE: usize = 8;
/// Products for a tile and a pair of channels.
pub(in crate::ops::conv) const POINTS: usize = SIDE * SIDE;
/// The finite points.
const AT: [f64; SIDE - 1] = [0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0];

/// The rows of G: powers of each point over the product of its distances from the others.
pub(in crate::ops::conv) fn g(k: usize) -> [[f64; 5]; SIDE] {
    let mut g = [[0.0; 5]; SIDE];
    for (j, &p) in AT.iter().enumerate() {
        let others = AT.iter().enumerate().filter(|&(l, _)| l != j);
        let distances: f64 = others.map(|(_, q)| p - q).product();
        for (u, g) in g[j].iter_mut().enumerate().take(k) {
            *g = p.powi(u as i32) / distances;
        }
    }
    g[SIDE - 1][k - 1] = 1.0;
    g
}

/// `B^T d` of eight values.
///
/// # Safety
/// `L`'s instruction set must be available.
#[inline(always)]
unsafe fn eight<L: Lanes>(d: [L; SIDE]) -> [L; SIDE] {
    // SAFETY: the caller's contract.
    unsafe {
        let ends = L::splat(5.25);
        let one = L::splat(-4.25);
        let (half, half2) = (L::splat(-5.0), L::splat(4.0));
        let (two, two2) = (L::splat(-1.25), L::splat(0.25));
        // Of -p: the terms of even powers less those of odd ones.
        let (even, odd) = ([d[2], d[4], d[6]], [d[1], d[3], d[5]]);
        let (e1, o1) = (
            even[1].mul_add(one, even[0].add(even[2])),
            odd[1].mul_add(one, odd[0].add(odd[2])),
        );
        let (e2, o2) = (
            even[0].mul_add(half2, even[1].mul_add(half, even[2])),
            odd[0].mul_add(half2, odd[1].mul_add(half, odd[2])),
        );
        let (e3, o3) = (
            even[0].mul_add(two2, even[1].mul_add(two, even[2])),
            odd[0].mul_add(two2, odd[1].mul_add(two, odd[2])),
        );
        let (p2, p3) = (L::splat(0.5), L::splat(2.0));
        [
            d[2].sub(d[4]).mul_add(ends, d[6].sub(d[0])),
            e1.add(o1),
            e1.sub(o1),
            o2.mul_add(p2, e2),
            o2.neg_mul_add(p2, e2),
            o3.mul_add(p3, e3),
            o3.neg_mul_add(p3, e3),
            d[3].sub(d[5]).mul_add(ends, d[7].sub(d[1])),
        ]
    }
}

/// `A^T m` of eight values: `S` sums, 4 or 6.
///
/// # Safety
/// `L`'s instruction set must be available.
#[inline(always)]
pub(in crate::ops::conv) unsafe fn sums_of<L: Lanes, const S: usize>(m: [L; SIDE]) -> [L; S] {
    // SAFETY: the caller's contract.
    unsafe {
        let (e1, o1) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (e2, o2) = (m[3].add(m[4]), m[3].sub(m[4]));
        let (e3, o3) = (m[5].add(m[6]), m[5].sub(m[6]));
        let mut y = [L::splat(0.0); S];
        y[0] = m[0].add(e1).add(e2.add(e3));
        for i in 1..S {
            let (one, half, two) = if i % 2 == 0 {
                (e1, e2, e3)
            } else {
                (o1, o2, o3)
            };
            let power = (1 << i) as f32;
            y[i] = half.mul_add(L::splat(1.0 / power), two.mul_add(L::splat(power), one));
        }
        y[S - 1] = y[S - 1].add(m[SIDE - 1]);
        y
    }
}

/// `B^T d B` for all channels of a tile; point `p` goes to `to + p * to_pitch`. The rows are read one after the other,
/// since those of pictures of common widths lie in the same few lines of a cache.
///
/// # Safety
/// `from` must have eight rows, `pitch` apart, of eight pixels; `to` and `half` must have room for 64 points.
#[inline(always)]
pub(in crate::ops::conv) unsafe fn transform_input<L: Lanes>(
    from: *const f32,
    pitch: usize,
    cin: usize,
    half: *mut f32,
    to: *mut f32,
    to_pitch: usize,
) {
    // SAFETY: the caller vouches for all addresses; `cin` is a multiple of LANES.
    unsafe {
        let pixels = Pixels::new(cin);
        for i in 0..SIDE {
            for c in (0..cin).step_by(LANES) {
                let row = pixels.bases(from.add(i * pitch + c));
                let mut d = [L::splat(0.0); SIDE];
                for j in 0..SIDE {
                    d[j] = L::load(pixels.at(&row, j));
                }
                let d = eight(d);
                for j in 0..SIDE {
                    d[j].store(half.add(c * POINTS + (i * SIDE + j) * LANES));
                }
            }
        }
        let points = Pixels::new(SIDE * to_pitch);
        for j in 0..SIDE {
            for c in (0..cin).step_by(LANES) {
                let to = points.bases(to.add(j * to_pitch + c));
                let mut d = [L::splat(0.0); SIDE];
                for i in 0..SIDE {
                    d[i] = L::load(half.add(c * POINTS + (i * SIDE + j) * LANES));
                }
                let d = eight(d);
                for i in 0..SIDE {
                    let to = points.at(&to, i);
                    d[i].store(to.cast_mut());
                    // Of the next tile.
                    prefetch(to.wrapping_add(cin));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::simd::{Portable, Vector};

    /// One dimension: every output of a window of eight values, by the definition.
    fn check<const S: usize>(k: usize) {
        let d = [0.3f32, -1.0, 0.7, 2.0, -0.4, 1.1, -0.6, 0.9];
        let w = [0.5f64, -0.25, 1.5, 0.75, -1.0];
        let g = g(k);
        let weights: [f32; SIDE] =
            std::array::from_fn(|p| (0..k).map(|u| g[p][u] * w[u]).sum::<f64>() as f32);
        // SAFETY: `Portable` needs no instruction set.
        let y = unsafe {
            let zero = Portable::splat(0.0);
            let v = eight(d.map(|v| Portable::splat(v)));
            let m: [Portable; SIDE] =
                std::array::from_fn(|p| v[p].mul_add(Portable::splat(weights[p]), zero));
            sums_of::<Portable, S>(m)
        };
        assert_eq!(S, SIDE + 1 - k);
        for (i, y) in y.into_iter().enumerate() {
            let exact: f64 = (0..k).map(|u| f64::from(d[i + u]) * w[u]).sum();
            let mut lanes = [0.0f32; 8];
            // SAFETY: room for eight values.
            unsafe { y.store(lanes.as_mut_ptr()) };
            assert!(
                (f64::from(lanes[0]) - exact).abs() < 8e-6,
                "k {k}, output {i}"
            );
        }
    }

    #[test]
    fn the_matrices_convolve() {
        check::<6>(3);
        check::<4>(5);
    }
}
