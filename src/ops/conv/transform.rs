//! The matrices of [`super::winograd`], which follow from its points of interpolation: 0, +-sqrt(1/2), +-sqrt(2) and
//! infinity.

use crate::device::simd::Lanes;
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

/// Side of an input tile.
pub(super) const SIDE: usize = 6;

/// The rows of G: powers of each point over the product of its distances from the others.
pub(super) fn g(k: usize) -> [[f64; 5]; SIDE] {
    let (a, b) = (0.5f64.sqrt(), 2.0f64.sqrt());
    let points = [0.0, a, -a, b, -b];
    let mut g = [[0.0; 5]; SIDE];
    for (j, &p) in points.iter().enumerate() {
        let others = points.iter().enumerate().filter(|&(l, _)| l != j);
        let distances: f64 = others.map(|(_, q)| p - q).product();
        for (u, g) in g[j].iter_mut().enumerate().take(k) {
            *g = p.powi(u as i32) / distances;
        }
    }
    g[SIDE - 1][k - 1] = 1.0;
    g
}

/// `B^T d` of six values.
///
/// # Safety
/// `L`'s instruction set must be available.
#[inline(always)]
pub(super) unsafe fn six<L: Lanes>(d: [L; SIDE]) -> [L; SIDE] {
    // SAFETY: the caller's contract.
    unsafe {
        let (a, b) = (L::splat(FRAC_1_SQRT_2), L::splat(SQRT_2));
        let (half, two, middle) = (L::splat(-0.5), L::splat(-2.0), L::splat(-2.5));
        let (even, odd) = (d[2].mul_add(two, d[4]), d[1].mul_add(two, d[3]));
        let (even2, odd2) = (d[2].mul_add(half, d[4]), d[1].mul_add(half, d[3]));
        [
            d[2].mul_add(middle, d[0].add(d[4])),
            odd.mul_add(a, even),
            odd.neg_mul_add(a, even),
            odd2.mul_add(b, even2),
            odd2.neg_mul_add(b, even2),
            d[3].mul_add(middle, d[1].add(d[5])),
        ]
    }
}

/// `A^T m` of six values: `S` sums.
///
/// # Safety
/// `L`'s instruction set must be available.
#[inline(always)]
pub(super) unsafe fn sums_of<L: Lanes, const S: usize>(m: [L; SIDE]) -> [L; S] {
    // SAFETY: the caller's contract.
    unsafe {
        let (a, b) = (L::splat(FRAC_1_SQRT_2), L::splat(SQRT_2));
        let (even, odd) = (m[1].add(m[2]), m[1].sub(m[2]).mul(a));
        let (even2, odd2) = (m[3].add(m[4]), m[3].sub(m[4]).mul(b));
        let (half, two) = (L::splat(0.5), L::splat(2.0));
        let mut y = [L::splat(0.0); S];
        y[0] = m[0].add(even).add(even2);
        y[1] = odd.add(odd2);
        if S == 4 {
            y[2] = even2.mul_add(two, even.mul(half));
            y[3] = odd2.mul_add(two, odd.mul(half));
        }
        y[S - 1] = y[S - 1].add(m[5]);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::simd::Portable;

    /// One dimension: every output of a window of six values, by the definition.
    fn check<const S: usize>(k: usize) {
        let d = [0.3f32, -1.0, 0.7, 2.0, -0.4, 1.1];
        let w = [0.5f64, -0.25, 1.5, 0.75, -1.0];
        let g = g(k);
        let weights: [f32; SIDE] =
            std::array::from_fn(|p| (0..k).map(|u| g[p][u] * w[u]).sum::<f64>() as f32);
        // SAFETY: `Portable` needs no instruction set.
        let y = unsafe {
            let v = six(d.map(|v| Portable::splat(v)));
            let m: [Portable; SIDE] =
                std::array::from_fn(|p| v[p].mul(Portable::splat(weights[p])));
            sums_of::<Portable, S>(m)
        };
        assert_eq!(S, SIDE + 1 - k);
        for (i, y) in y.into_iter().enumerate() {
            let exact: f64 = (0..k).map(|u| f64::from(d[i + u]) * w[u]).sum();
            let mut lanes = [0.0f32; 8];
            // SAFETY: room for eight values.
            unsafe { y.store(lanes.as_mut_ptr()) };
            assert!(
                (f64::from(lanes[0]) - exact).abs() < 2e-6,
                "k {k}, output {i}"
            );
        }
    }

    #[test]
    fn the_matrices_convolve() {
        check::<4>(3);
        check::<2>(5);
    }
}
