//! Weighted means of levels and of their products under a moving Gaussian window, in f64.
//!
//! The window is separable: for each row of results the rows of the pictures are summed first, with the products
//! formed on the way, then the columns of these few sums. No picture of products is ever stored.

use super::Grey;
use crate::device::simd::simd_fn;

/// Means over one row of windows, in this order: A, B, F, AA, BB, FF, AF, BF and, where N is 9, AB.
/// Each is followed by zeros up to a multiple of [`LANES`].
pub(super) type Moments<const N: usize> = [Vec<f64>; N];

/// Loops over rows of moments go in steps of this.
pub(super) const LANES: usize = 8;

/// A picture in f64.
#[derive(Clone)]
pub(super) struct Plane {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f64>,
}

impl Plane {
    /// The picture, with its outermost pixels repeated `border` times.
    pub fn new(x: &Grey, border: usize) -> Self {
        let (width, height) = (x.width() + 2 * border, x.height() + 2 * border);
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = x.row(y.saturating_sub(border).min(x.height() - 1));
            let end = |v: u8| std::iter::repeat_n(f64::from(v), border);
            values.extend(end(row[0]));
            values.extend(row.iter().map(|&v| f64::from(v)));
            values.extend(end(row[row.len() - 1]));
        }
        Self {
            width,
            height,
            values,
        }
    }

    pub fn row(&self, y: usize) -> &[f64] {
        &self.values[y * self.width..][..self.width]
    }

    /// Calls `each` with the row number and every row of means under the window, where it fits.
    pub fn scan_means(&self, taps: &[f64], mut each: impl FnMut(usize, &[f64])) {
        let (width, height) = (self.width + 1 - taps.len(), self.height + 1 - taps.len());
        let mut column_sums = vec![0.0; self.width];
        let mut row = vec![0.0; width];
        for y in 0..height {
            sum_rows(&self.values[y * self.width..], taps, &mut column_sums);
            sum_columns(&column_sums, taps, &mut row);
            each(y, &row);
        }
    }

    /// Every second pixel of every second row of the means under the window, where it fits.
    pub fn halved(&self, taps: &[f64]) -> Self {
        let (width, height) = (self.width + 1 - taps.len(), self.height + 1 - taps.len());
        let mut column_sums = vec![0.0; self.width];
        let mut row = vec![0.0; width];
        let mut values = Vec::with_capacity(width.div_ceil(2) * height.div_ceil(2));
        for y in (0..height).step_by(2) {
            sum_rows(&self.values[y * self.width..], taps, &mut column_sums);
            sum_columns(&column_sums, taps, &mut row);
            values.extend(row.iter().step_by(2));
        }
        Self {
            width: width.div_ceil(2),
            height: height.div_ceil(2),
            values,
        }
    }
}

/// Sum of a row, in lanes that do not wait for each other.
#[inline(always)]
pub(super) fn sum_in_lanes(row: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] += block[i];
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// A Gaussian of `n` (odd) taps with sum 1.
pub(super) fn gaussian(n: usize, sigma: f64) -> Vec<f64> {
    let weight = |i| {
        let r = i as f64 - (n - 1) as f64 / 2.0;
        (-r * r / (2.0 * sigma * sigma)).exp()
    };
    let sum: f64 = (0..n).map(weight).sum();
    (0..n).map(|i| weight(i) / sum).collect()
}

/// How two levels are multiplied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    Exact,
    /// Cut off at 255, as a product of 8-bit integers in MATLAB.
    Saturated,
}

/// Calls `each` with the row number and the moments of every row of windows that fit into A, B and F.
pub(super) fn scan<const N: usize>(
    planes: [&Plane; 3],
    taps: &[f64],
    product: Product,
    mut each: impl FnMut(usize, &Moments<N>),
) {
    let (width, height) = (planes[0].width, planes[0].height);
    let columns = width + 1 - taps.len();
    let mut sums: Moments<N> = std::array::from_fn(|_| vec![0.0; width]);
    let mut means: Moments<N> = std::array::from_fn(|_| vec![0.0; columns.next_multiple_of(LANES)]);
    for y in 0..height + 1 - taps.len() {
        let rows = planes.map(|p| &p.values[y * width..]);
        // Nine sums need no more registers than there are; the choice is made outside the loop.
        match (N, product) {
            (9, _) => sum_products_9(rows, width, taps, &mut sums),
            (_, Product::Exact) => sum_products_8(rows, width, taps, &mut sums),
            (_, Product::Saturated) => sum_saturated(rows, width, taps, &mut sums),
        }
        for (mean, sum) in means.iter_mut().zip(&sums) {
            sum_columns(sum, taps, &mut mean[..columns]);
        }
        each(y, &means);
    }
}

simd_fn! {
    fn sum_products_8(rows: [&[f64]; 3], width: usize, taps: &[f64], sums: &mut [Vec<f64>]) {
        sum_products::<8>(rows, width, taps, sums, |x, y| x * y);
    }
}

simd_fn! {
    fn sum_products_9(rows: [&[f64]; 3], width: usize, taps: &[f64], sums: &mut [Vec<f64>]) {
        sum_products::<9>(rows, width, taps, sums, |x, y| x * y);
    }
}

simd_fn! {
    fn sum_saturated(rows: [&[f64]; 3], width: usize, taps: &[f64], sums: &mut [Vec<f64>]) {
        let saturated = |x: f64, y: f64| if x * y < 255.0 { x * y } else { 255.0 };
        sum_products::<8>(rows, width, taps, sums, saturated);
    }
}

#[inline(always)]
fn sum_products<const N: usize>(
    rows: [&[f64]; 3],
    width: usize,
    taps: &[f64],
    sums: &mut [Vec<f64>],
    product: impl Fn(f64, f64) -> f64 + Copy,
) {
    const WIDE: usize = 4;
    if width < WIDE {
        for x in 0..width {
            sum_block::<N, 1>(rows, width, x, taps, sums, product);
        }
        return;
    }
    for x in (0..width - WIDE).step_by(WIDE).chain([width - WIDE]) {
        sum_block::<N, WIDE>(rows, width, x, taps, sums, product);
    }
}

#[inline(always)]
fn sum_block<const N: usize, const B: usize>(
    rows: [&[f64]; 3],
    width: usize,
    x: usize,
    taps: &[f64],
    sums: &mut [Vec<f64>],
    product: impl Fn(f64, f64) -> f64,
) {
    // Spelled out: neither `array::map` nor a loop over terms reliably ends up in registers.
    let mut acc = [[0.0; B]; N];
    for (k, &g) in taps.iter().enumerate() {
        let at = k * width + x;
        let (a, b, f) = (
            &rows[0][at..at + B],
            &rows[1][at..at + B],
            &rows[2][at..at + B],
        );
        for i in 0..B {
            let (a, b, f) = (a[i], b[i], f[i]);
            acc[0][i] += g * a;
            acc[1][i] += g * b;
            acc[2][i] += g * f;
            acc[3][i] += g * product(a, a);
            acc[4][i] += g * product(b, b);
            acc[5][i] += g * product(f, f);
            acc[6][i] += g * product(a, f);
            acc[7][i] += g * product(b, f);
            if N == 9 {
                acc[N - 1][i] += g * product(a, b);
            }
        }
    }
    for (sum, acc) in sums.iter_mut().zip(acc) {
        sum[x..x + B].copy_from_slice(&acc);
    }
}

simd_fn! {
    /// Weighted sums over the first rows of `values`, each as long as `sums`.
    fn sum_rows(values: &[f64], taps: &[f64], sums: &mut [f64]) {
        weigh(values, sums.len(), taps, sums);
    }
}

simd_fn! {
    /// Weighted sums over neighbours in a row.
    fn sum_columns(row: &[f64], taps: &[f64], sums: &mut [f64]) {
        weigh(row, 1, taps, sums);
    }
}

/// `sums[x]` = sum over k of `taps[k] * values[k * stride + x]`, for an odd number of taps.
#[inline(always)]
fn weigh(values: &[f64], stride: usize, taps: &[f64], sums: &mut [f64]) {
    let n = sums.len();
    // Four taps for each pass over `sums`; the one or three that are left begin it. Tap after tap, as one would
    // expect: where the formula of VIF asks whether a variance is below 1e-10, rounding has a say.
    let (rest, fours) = taps.as_rchunks::<4>();
    if let [g0, g1, g2] = rest {
        let (v0, v1) = (&values[..n], &values[stride..][..n]);
        let v2 = &values[2 * stride..][..n];
        for x in 0..n {
            sums[x] = g0 * v0[x] + g1 * v1[x] + g2 * v2[x];
        }
    } else {
        for x in 0..n {
            sums[x] = taps[0] * values[x];
        }
    }
    for (k, g) in fours.iter().enumerate() {
        let values = &values[(rest.len() + 4 * k) * stride..];
        let (v0, v1) = (&values[..n], &values[stride..][..n]);
        let (v2, v3) = (&values[2 * stride..][..n], &values[3 * stride..][..n]);
        for x in 0..n {
            sums[x] = sums[x] + g[0] * v0[x] + g[1] * v1[x] + g[2] * v2[x] + g[3] * v3[x];
        }
    }
}
