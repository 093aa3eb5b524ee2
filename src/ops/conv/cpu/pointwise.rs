//! The 1 x 1 convolution of stride 1 in f32. All pixels are one run, so a tile costs little beside its products; with
//! few channels that is half of the time.

#![allow(clippy::needless_range_loop)] // indices are register numbers here

use super::job::{Job, check};
use super::pack::{DOT_CHANNELS, panel_width};
use super::tile::{NR, Tap, tile};
use crate::device::cpu::{SendPtr, for_ranges};
use crate::device::simd::{LANES, Lanes, dispatch_lanes, prefetch};
use std::ops::Range;

/// Pixels that all panels pass over while they are in the first-level cache.
const CHUNK: usize = 96;
/// Pixels that pay for another thread.
const SHARE: usize = 2048;
/// Most pixels of a tile.
const MOST_ROWS: usize = 12;

/// Whether a job is one of these, and large enough.
pub(in crate::ops::conv) fn suits(job: &Job<'_>) -> bool {
    let one = |s: crate::ops::conv::geometry::AxisSize| {
        s.k == 1 && s.stride == 1 && s.pad == 0 && s.x == s.y
    };
    let whole = job.cout > DOT_CHANNELS && job.cout.is_multiple_of(LANES);
    one(job.rows) && one(job.cols) && whole && pixels(job) >= MOST_ROWS
}

fn pixels(job: &Job<'_>) -> usize {
    job.batch * job.rows.y * job.cols.y
}

/// Runs a `job` that [`suits`] with weights of [`super::pack::pack`], writing every element of `out`.
pub(in crate::ops::conv) fn run(job: &Job<'_>, packed: &[f32], out: &mut [f32]) {
    check(job, out);
    let packed = &packed[..job.cin * job.cout];
    let pixels = pixels(job);
    let shares = (pixels / SHARE).max(1);
    let target = SendPtr::new(out);
    for_ranges(shares, &|range| {
        let all = range.start * pixels / shares..range.end * pixels / shares;
        // SAFETY: ranges do not overlap, so each thread has outputs of its own, `MOST_ROWS` pixels at least; input,
        // weights and output are whole (`check`, and the slice of `packed`).
        unsafe { run_pixels(job, packed, target, all) };
    });
}

/// # Safety
/// `out` must hold the whole output and no other thread may touch those of `range`, [`MOST_ROWS`] pixels at least.
unsafe fn run_pixels(job: &Job<'_>, packed: &[f32], out: SendPtr, range: Range<usize>) {
    dispatch_lanes!(chunks(job: &Job<'_>, packed: &[f32], out: SendPtr, range: Range<usize>))
}

/// # Safety
/// As for [`run_pixels`].
#[inline(always)]
unsafe fn chunks<L: Lanes>(job: &Job<'_>, packed: &[f32], out: SendPtr, range: Range<usize>) {
    let mut at = range.start;
    while at < range.end {
        let left = range.end - at;
        let count = if left < 2 * CHUNK { left } else { CHUNK };
        for first in (0..job.cout).step_by(NR) {
            let weights = packed[first * job.cin..].as_ptr();
            let place = (first, at, count);
            // SAFETY: the caller's contract; a chunk is part of the range and not smaller than the least one.
            unsafe {
                match (panel_width(job.cout, first), const { L::SUMS == 12 }) {
                    (LANES, true) => panel::<L, 12, 1>(job, weights, out, place),
                    (LANES, false) => panel::<L, 4, 1>(job, weights, out, place),
                    (_, true) => panel::<L, 6, 2>(job, weights, out, place),
                    (_, false) => panel::<L, 2, 2>(job, weights, out, place),
                }
            }
        }
        at += count;
    }
}

/// `8 V` channels from `first` on of `count >= M` pixels from `from` on.
///
/// # Safety
/// As for [`run_pixels`], for these pixels and channels; `weights` must be their panel.
#[inline(always)]
unsafe fn panel<L: Lanes, const M: usize, const V: usize>(
    job: &Job<'_>,
    weights: *const f32,
    out: SendPtr,
    (first, from, count): (usize, usize, usize),
) {
    let taps = [Tap {
        a: 0,
        row: 0,
        len: job.cin,
    }];
    let mut done = 0;
    while done < count {
        // The last tile begins in the one before it and computes the same again.
        let at = from + done.min(count - M);
        let output = at * job.cout + first;
        for m in 0..M {
            prefetch(out.line(output + m * job.cout));
        }
        // SAFETY: the caller's contract.
        unsafe {
            let a = job.input.as_ptr().add(at * job.cin);
            let acc = tile::<L, M, V>(a, job.cin, &taps, weights);
            // Not a loop: sums with a variable index would lie in memory.
            let mut sums = [acc[0][0]; M];
            for m in 0..M {
                sums[m] = acc[m][0];
            }
            job.epilogue
                .store_lanes(sums, first, (output, job.cout), out);
            if V == 2 {
                for m in 0..M {
                    sums[m] = acc[m][V - 1];
                }
                let place = (output + LANES, job.cout);
                job.epilogue.store_lanes(sums, first + LANES, place, out);
            }
        }
        done += M;
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Epilogue;
    use super::super::pack::{pack, packed_len};
    use super::*;
    use crate::ops::Activation;
    use crate::ops::conv::geometry::{Axis, AxisSize};

    fn axis(n: usize) -> AxisSize {
        AxisSize {
            x: n,
            y: n,
            k: 1,
            stride: 1,
            dilation: 1,
            pad: 0,
        }
    }

    /// Chunks, shares of threads and last tiles of every length, against sums in f64.
    #[test]
    fn every_pixel_is_the_sum_over_its_channels() {
        let wave =
            |n: usize, f: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * f).sin()).collect() };
        let sizes = [(1, 12), (1, 13), (1, 17), (5, 21), (1, 191), (1, 193)];
        for (h, w) in sizes.into_iter().chain([(3, 97), (67, 61), (65, 127)]) {
            for (cin, cout) in [(3, 8), (16, 16), (5, 24), (8, 40)] {
                let x = wave(h * w * cin, 0.37);
                let weights = wave(cin * cout, 0.73);
                let (bias, residual) = (wave(cout, 1.3), wave(h * w * cout, 0.11));
                let job = Job {
                    input: &x,
                    batch: 1,
                    rows: axis(h),
                    cols: axis(w),
                    cin,
                    cout,
                    epilogue: Epilogue {
                        bias: Some(&bias),
                        activation: Activation::LeakyRelu(0.2),
                        residual: Some(&residual),
                    },
                    transposed: false,
                };
                assert!(suits(&job));
                let mut packed = vec![0.0; packed_len(1, cin, cout)];
                let (ay, ax) = (Axis::forward(job.rows), Axis::forward(job.cols));
                let weight = |_, _, ci: usize, co: usize| weights[ci * cout + co];
                pack(&ay, &ax, cin, cout, &weight, &mut packed);
                let mut out = vec![f32::NAN; h * w * cout];
                run(&job, &packed, &mut out);
                for (i, found) in out.iter().enumerate() {
                    let (p, co) = (i / cout, i % cout);
                    let product =
                        |ci: usize| f64::from(x[p * cin + ci]) * f64::from(weights[ci * cout + co]);
                    let sum = (0..cin).map(product).sum::<f64>() + f64::from(bias[co]);
                    let active = if sum > 0.0 { sum } else { 0.2 * sum };
                    let wanted = active + f64::from(residual[i]);
                    assert!(
                        (f64::from(*found) - wanted).abs() < 1e-5,
                        "{h} x {w}, {cin} to {cout}, pixel {p}, channel {co}: {found}, {wanted} wanted"
                    );
                }
            }
        }
    }
}
