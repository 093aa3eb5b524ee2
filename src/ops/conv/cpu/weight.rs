//! The weight gradient in f32: outer products of inputs and cotangents, summed over pixels.

use super::tile::{NR, OuterStrides, most_rows, outer, outer_one};
use crate::device::cpu::{for_chunks, for_chunks_of_work};
use crate::device::simd::{LANES, Lanes, dispatch_lanes};
use crate::ops::conv::geometry::{Axis, AxisSize};

/// Sizes of a weight gradient.
#[derive(Clone, Copy)]
pub(in crate::ops::conv) struct WeightJob<'a> {
    pub x: &'a [f32],
    pub g: &'a [f32],
    pub batch: usize,
    pub rows: AxisSize,
    pub cols: AxisSize,
    pub cin: usize,
    pub cout: usize,
}

/// Parts the pixels are split into; fixed by the shapes, so that the order of summation and hence
/// the bits do not depend on the number of threads.
fn parts(total_rows: usize, weights: usize) -> usize {
    const BUDGET: usize = 4 << 20; // elements of scratch
    // A power of two, so that the usual numbers of cores get equal shares.
    (BUDGET / weights.max(1))
        .clamp(2, 16)
        .next_power_of_two()
        .min(total_rows.max(1))
}

/// Elements of scratch that [`run`] wants.
pub(in crate::ops::conv) fn scratch_len(batch: usize, out_rows: usize, weights: usize) -> usize {
    parts(batch * out_rows, weights) * weights
}

/// `dw[ky, kx, ci, co] = sum over n, oy, ox of x[n, oy s + ky d - p, ox s + kx d - p, ci] g[n, oy, ox, co]`.
pub(in crate::ops::conv) fn run(job: WeightJob<'_>, dw: &mut [f32], scratch: &mut [f32]) {
    let weights = dw.len();
    let total = job.batch * job.rows.y;
    let parts = parts(total, weights);
    let all = &mut scratch[..parts * weights];
    for_chunks_of_work(usize::MAX, all, weights, |i, part| {
        part.fill(0.0);
        run_part(&job, (i * total / parts, (i + 1) * total / parts), part);
    });
    let scratch = &scratch[..parts * weights];
    for_chunks(dw, 4096, |c, out| {
        let at = c * 4096;
        out.copy_from_slice(&scratch[at..at + out.len()]);
        for p in 1..parts {
            let from = p * weights + at;
            for (o, s) in out.iter_mut().zip(&scratch[from..]) {
                *o += s;
            }
        }
    });
}

fn run_part(job: &WeightJob<'_>, rows: (usize, usize), part: &mut [f32]) {
    // Blocks of about this many pixels stay in the first-level cache while all taps pass.
    const PIXELS: usize = 128;
    let block = (PIXELS / job.cols.y.max(1)).max(1);
    let mut at = rows.0;
    while at < rows.1 {
        let (image, y) = (at / job.rows.y, at % job.rows.y);
        let end = (y + block).min(job.rows.y).min(y + rows.1 - at);
        run_block(job, image, (y, end), part);
        at += end - y;
    }
}

fn run_block(job: &WeightJob<'_>, image: usize, rows: (usize, usize), part: &mut [f32]) {
    // SAFETY: `taps_of_block` restricts every read to taps inside the input.
    dispatch_lanes!(taps_of_block(job: &WeightJob<'_>, image: usize, rows: (usize, usize), part: &mut [f32]))
}

/// First and last + 1 position of `from..to` whose tap at `offset` lies inside the input.
fn clip(axis: &Axis, offset: isize, from: usize, to: usize) -> (usize, usize) {
    let step = axis.in_step as isize;
    let lo = (-offset).max(0).div_euclid(step) + isize::from((-offset).max(0) % step != 0);
    let hi = (axis.in_len as isize - 1 - offset).div_euclid(step) + 1;
    let from = from.max(lo as usize);
    (from, to.min(hi.max(0) as usize).max(from))
}

/// # Safety
/// `x` and `g` must have the sizes of `job`.
#[inline(always)]
unsafe fn taps_of_block<L: Lanes>(
    job: &WeightJob<'_>,
    image: usize,
    rows: (usize, usize),
    part: &mut [f32],
) {
    let (ay, ax) = (Axis::forward(job.rows), Axis::forward(job.cols));
    let (cin, cout) = (job.cin, job.cout);
    for &(ky, cy) in ay.taps() {
        let (y0, y1) = clip(&ay, cy, rows.0, rows.1);
        for &(kx, cx) in ax.taps() {
            let (x0, x1) = clip(&ax, cx, 0, job.cols.y);
            if y0 == y1 || x0 == x1 {
                continue;
            }
            let in_y = ((y0 * ay.in_step) as isize + cy) as usize;
            let in_x = ((x0 * ax.in_step) as isize + cx) as usize;
            let a = ((image * job.rows.x + in_y) * job.cols.x + in_x) * cin;
            let b = ((image * job.rows.y + y0) * job.cols.y + x0) * cout;
            let s = OuterStrides {
                rows: y1 - y0,
                pixels: x1 - x0,
                a_row: ay.in_step * job.cols.x * cin,
                a_step: ax.in_step * cin,
                b_row: job.cols.y * cout,
                b_step: cout,
            };
            let dw = &mut part[(ky * job.cols.k + kx) * cin * cout..][..cin * cout];
            // The wide side of the tile goes to the side with more channels.
            if cout >= 8 || cout >= cin {
                let (x, g) = (&job.x[a..], &job.g[b..]);
                // SAFETY: the clipped region lies inside x and g.
                unsafe { product::<L>(x, g, &s, (cin, cout), dw, (cout, 1)) };
            } else {
                let swapped = OuterStrides {
                    a_row: s.b_row,
                    a_step: s.b_step,
                    b_row: s.a_row,
                    b_step: s.a_step,
                    ..s
                };
                // SAFETY: as above.
                unsafe {
                    product::<L>(
                        &job.g[b..],
                        &job.x[a..],
                        &swapped,
                        (cout, cin),
                        dw,
                        (1, cout),
                    );
                }
            }
        }
    }
}

/// `dw[m * strides.0 + n * strides.1] += outer(a, b)` for all `m < size.0`, `n < size.1`.
///
/// # Safety
/// The region described by `s` must lie inside `a` and `b` with `size` channels.
#[inline(always)]
unsafe fn product<L: Lanes>(
    a: &[f32],
    b: &[f32],
    s: &OuterStrides,
    size: (usize, usize),
    dw: &mut [f32],
    strides: (usize, usize),
) {
    let mut n = 0;
    while n < size.1 {
        let width = match size.1 - n {
            NR.. => NR,
            LANES.. => LANES,
            _ => 1,
        };
        let mut m = 0;
        let mut tiles = size.0.div_ceil(most_rows::<L>(width));
        while m < size.0 {
            let height = (size.0 - m).div_ceil(tiles);
            tiles -= 1;
            let at = m * strides.0 + n * strides.1;
            macro_rules! tiles {
                ($vectors:literal: $($m:literal)*) => {
                    match height {
                        // SAFETY: `width` and `height` channels are left from `n` and `m`.
                        $($m if const { $m * $vectors <= L::SUMS } => unsafe { add(&outer::<L, $m, $vectors>(a.as_ptr().add(m), b.as_ptr().add(n), s), &mut dw[at..], strides) },)*
                        _ => {}
                    }
                };
            }
            macro_rules! columns {
                ($($m:literal)*) => {
                    match height {
                        $($m if const { $m <= most_rows::<L>(1) } => {
                            // SAFETY: as above, for one channel of `b`.
                            let acc = unsafe { outer_one::<L, $m>(a.as_ptr().add(m), b.as_ptr().add(n), s) };
                            for (m, v) in acc.into_iter().enumerate() {
                                dw[at + m * strides.0] += v;
                            }
                        })*
                        _ => {}
                    }
                };
            }
            match width {
                NR => tiles!(2: 1 2 3 4 5 6),
                LANES => tiles!(1: 1 2 3 4 5 6 7 8 9 10 11 12),
                _ => columns!(1 2 3 4 5 6),
            }
            m += height;
        }
        n += width;
    }
}

/// # Safety
/// `L`'s instruction set must be available.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices are register numbers here
unsafe fn add<L: Lanes, const M: usize, const V: usize>(
    acc: &[[L; V]; M],
    dw: &mut [f32],
    strides: (usize, usize),
) {
    // Stored in a short loop of its own, which is unrolled: an index that the compiler does not know
    // would keep the accumulators in memory all the while.
    let mut values = [[[0.0f32; LANES]; V]; M];
    for m in 0..M {
        for v in 0..V {
            // SAFETY: a block holds eight.
            unsafe { acc[m][v].store(values[m][v].as_mut_ptr()) };
        }
    }
    for (m, row) in values.as_flattened().chunks_exact(V).enumerate() {
        let row = row.as_flattened();
        if strides.1 == 1 {
            for (to, value) in dw[m * strides.0..][..V * LANES].iter_mut().zip(row) {
                *to += value;
            }
        } else {
            for (n, value) in row.iter().enumerate() {
                dw[m * strides.0 + n * strides.1] += value;
            }
        }
    }
}
