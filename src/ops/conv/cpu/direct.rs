//! The dense convolution and its transpose in f32: bands of rows in parallel, register tiles inside.

#![allow(clippy::needless_range_loop)] // indices are register numbers here

use super::job::{Job, check};
use super::pack::{DOT_CHANNELS, Weight, pack, packed_len, panel_width};
use super::tile::{NR, Tap, dots, most_rows, tile};
use super::{pointwise, winograd};
use crate::device::cpu::{SendPtr, fair_share, for_ranges};
use crate::device::simd::{LANES, Lanes, dispatch_lanes, prefetch};
use crate::ops::conv::geometry::{Axis, MAX_K, Segment};

/// Most rows that a thread takes at a time.
const BAND: usize = 8;

/// Runs `job`, writing every element of `out`. `weight(ky, kx, ci, co)` with `ci` on the side read; `scratch` of
/// [`super::pack::scratch_len`].
pub(in crate::ops::conv) fn run(
    job: &Job<'_>,
    weight: &impl Weight,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    if winograd::suits(job) {
        let len = packed_len(job.rows.k * job.cols.k, job.cin, job.cout);
        let (packed, locals) = scratch.split_at_mut(len);
        winograd::pack(job, weight, packed);
        return winograd::run(job, packed, out, locals);
    }
    let phases = if job.transposed {
        (job.rows.stride, job.cols.stride)
    } else {
        (1, 1)
    };
    for py in 0..phases.0 {
        for px in 0..phases.1 {
            let (ay, ax) = axes(job, (py, px));
            pack(&ay, &ax, job.cin, job.cout, weight, scratch);
            run_phase(job, (ay, ax), scratch, out);
        }
    }
}

/// Packs the weights of a forward convolution, whose `input` may be empty, for [`run_packed`].
pub(in crate::ops::conv) fn pack_forward(job: &Job<'_>, weight: &impl Weight, packed: &mut [f32]) {
    if winograd::suits(job) {
        return winograd::pack(job, weight, packed);
    }
    let (ay, ax) = axes(job, (0, 0));
    pack(&ay, &ax, job.cin, job.cout, weight, packed);
}

/// Runs a forward `job` that is a part of `whole`, with what [`pack_forward`] made of `whole` and
/// [`winograd::threads_len`] floats.
pub(in crate::ops::conv) fn run_packed(
    job: &Job<'_>,
    whole: &Job<'_>,
    packed: &[f32],
    out: &mut [f32],
    scratch: &mut [f32],
) {
    if winograd::suits(whole) {
        winograd::run(job, packed, out, scratch);
    } else {
        run_phase(job, axes(job, (0, 0)), packed, out);
    }
}

fn axes(job: &Job<'_>, (py, px): (usize, usize)) -> (Axis, Axis) {
    if job.transposed {
        let y = Axis::transposed(job.rows, py);
        (y, Axis::transposed(job.cols, px))
    } else {
        (Axis::forward(job.rows), Axis::forward(job.cols))
    }
}

fn run_phase(job: &Job<'_>, (ay, ax): (Axis, Axis), packed: &[f32], out: &mut [f32]) {
    if pointwise::suits(job) {
        return pointwise::run(job, packed, out);
    }
    check(job, out);
    let out_dims = if job.transposed {
        (job.rows.x, job.cols.x)
    } else {
        (job.rows.y, job.cols.y)
    };
    let phase = Phase {
        job,
        ay,
        ax,
        out_width: out_dims.1,
        out_image: out_dims.0 * out_dims.1 * job.cout,
        packed,
    };
    let band = fair_share(job.batch * phase.ay.count, BAND);
    let bands = phase.ay.count.div_ceil(band);
    let target = SendPtr::new(out);
    for_ranges(job.batch * bands, &|range| {
        for i in range {
            let (image, first) = (i / bands, i % bands * band);
            let rows = (first, (first + band).min(phase.ay.count));
            // SAFETY: a band writes only its own rows of its own image.
            unsafe { run_band(&phase, target, image, rows) };
        }
    });
}

/// One phase of a job (a forward convolution has one, a transposed one `stride^2`).
struct Phase<'a> {
    job: &'a Job<'a>,
    ay: Axis,
    ax: Axis,
    out_width: usize,
    out_image: usize,
    packed: &'a [f32],
}

/// # Safety
/// `out` must hold the whole output, and no other thread may touch rows `rows` of `image`.
unsafe fn run_band(phase: &Phase<'_>, out: SendPtr, image: usize, rows: (usize, usize)) {
    dispatch_lanes!(band(phase: &Phase<'_>, out: SendPtr, image: usize, rows: (usize, usize)))
}

/// # Safety
/// As for [`run_band`].
#[inline(always)]
unsafe fn band<L: Lanes>(phase: &Phase<'_>, out: SendPtr, image: usize, rows: (usize, usize)) {
    let Phase { job, ay, ax, .. } = phase;
    let mut taps = [Tap::default(); MAX_K * MAX_K];
    for sy in ay.segments(rows.0, rows.1) {
        for sx in ax.segments(0, ax.count) {
            let used = fill_taps(phase, sy, sx, &mut taps);
            let taps = &taps[..used];
            let (height, width) = (sy.to - sy.from, sx.to - sx.from);
            // Tiles run along the longer side, so that border columns fill them too.
            let along_x = width >= height;
            let (lines, len) = if along_x {
                (height, width)
            } else {
                (width, height)
            };
            let in_pitch = if along_x {
                ax.in_step * job.cin
            } else {
                ay.in_step * ax.in_len * job.cin
            };
            let out_pitch = if along_x {
                ax.out_step * job.cout
            } else {
                ay.out_step * phase.out_width * job.cout
            };
            for line in 0..lines {
                let (y, x) = if along_x {
                    (sy.from + line, sx.from)
                } else {
                    (sy.from, sx.from + line)
                };
                let input = (image * ay.in_len + y * ay.in_step) * ax.in_len + x * ax.in_step;
                let output = image * phase.out_image
                    + ((ay.out_first + y * ay.out_step) * phase.out_width
                        + ax.out_first
                        + x * ax.out_step)
                        * job.cout;
                let run = Run {
                    input: input * job.cin,
                    in_pitch,
                    output,
                    out_pitch,
                    len,
                };
                // SAFETY: `segments` gave only taps that lie inside the input for every pixel of
                // the run, and output positions of this band.
                unsafe { line_of_tiles::<L>(phase, out, taps, run) };
            }
        }
    }
}

/// Valid taps of a region, neighbours along x merged into one run.
fn fill_taps(phase: &Phase<'_>, sy: Segment, sx: Segment, taps: &mut [Tap]) -> usize {
    let (ay, ax, cin) = (&phase.ay, &phase.ax, phase.job.cin);
    let nx = ax.taps().len();
    let mut used = 0;
    for iy in sy.taps.0..sy.taps.1 {
        let row_offset = ay.taps()[iy].1 * ax.in_len as isize;
        let first = used;
        for ix in sx.taps.0..sx.taps.1 {
            let a = (row_offset + ax.taps()[ix].1) * cin as isize;
            if used > first && taps[used - 1].a + taps[used - 1].len as isize == a {
                taps[used - 1].len += cin;
            } else {
                taps[used] = Tap {
                    a,
                    row: (iy * nx + ix) * cin,
                    len: cin,
                };
                used += 1;
            }
        }
    }
    used
}

/// A line of pixels: where it is read and written, and how far apart its pixels are.
#[derive(Clone, Copy)]
struct Run {
    input: usize,
    in_pitch: usize,
    output: usize,
    out_pitch: usize,
    len: usize,
}

/// # Safety
/// All taps must be readable for all pixels of the run, and its outputs writable by this thread.
#[inline(always)]
unsafe fn line_of_tiles<L: Lanes>(phase: &Phase<'_>, out: SendPtr, taps: &[Tap], run: Run) {
    let job = phase.job;
    let depth = phase.ay.taps().len() * phase.ax.taps().len() * job.cin;
    let step = if job.cout <= DOT_CHANNELS {
        job.cout
    } else {
        NR
    };
    for first in (0..job.cout).step_by(step) {
        let panel = &phase.packed[first * depth..];
        let width = panel_width(job.cout, first);
        let count = (job.cout - first).min(NR);
        let mut at = 0;
        let mut tiles = run.len.div_ceil(most_rows::<L>(width));
        while at < run.len {
            // Even tiles: 32 pixels are 6 6 5 5 5 5, not 6 6 6 6 6 2.
            let m = (run.len - at).div_ceil(tiles);
            tiles -= 1;
            let place = Place {
                input: run.input + at * run.in_pitch,
                output: run.output + at * run.out_pitch + first,
                first,
                count,
            };
            for i in 0..m {
                prefetch(out.line(place.output + i * run.out_pitch));
            }
            macro_rules! tiles {
                ($($m:literal)*) => {
                    match m {
                        $($m if const { $m <= most_rows::<L>(NR) } => {
                            // SAFETY: the caller's contract.
                            unsafe {
                                if job.cout > DOT_CHANNELS {
                                    wide_tile::<L, $m, { NR / LANES }, NR>(job, out, taps, run, place, panel);
                                } else {
                                    // Networks have one; a tile for each number would be long to compile.
                                    for c in 0..job.cout {
                                        let place = place.channel(c);
                                        dot_tile::<L, $m>(job, out, taps, run, place, &panel[c * depth..]);
                                    }
                                }
                            }
                        })*
                        _ => {}
                    }
                };
            }
            macro_rules! half_tiles {
                ($($m:literal)*) => {
                    match m {
                        // SAFETY: the caller's contract.
                        $($m if const { $m <= most_rows::<L>(LANES) } => unsafe { wide_tile::<L, $m, 1, LANES>(job, out, taps, run, place, panel) },)*
                        _ => {}
                    }
                };
            }
            if width == LANES {
                half_tiles!(1 2 3 4 5 6 7 8 9 10 11 12);
            } else {
                tiles!(1 2 3 4 5 6);
            }
            at += m;
        }
    }
}

/// Where a tile reads and writes, and which output channels it holds.
#[derive(Clone, Copy)]
struct Place {
    input: usize,
    output: usize,
    first: usize,
    count: usize,
}

impl Place {
    /// The tile of one of its channels.
    #[inline(always)]
    fn channel(self, c: usize) -> Self {
        Self {
            output: self.output + c,
            first: self.first + c,
            count: 1,
            ..self
        }
    }
}

/// # Safety
/// As for [`line_of_tiles`].
#[inline(always)]
unsafe fn dot_tile<L: Lanes, const M: usize>(
    job: &Job<'_>,
    out: SendPtr,
    taps: &[Tap],
    run: Run,
    place: Place,
    weights: &[f32],
) {
    // SAFETY: the caller's contract.
    unsafe {
        let a = job.input.as_ptr().add(place.input);
        let acc = dots::<L, M>(a, run.in_pitch, taps, weights.as_ptr());
        store::<M, 1>(&acc, job, out, run, place);
    }
}

/// A tile of a panel of `N = 8 V` channels.
///
/// # Safety
/// As for [`line_of_tiles`].
#[inline(always)]
unsafe fn wide_tile<L: Lanes, const M: usize, const V: usize, const N: usize>(
    job: &Job<'_>,
    out: SendPtr,
    taps: &[Tap],
    run: Run,
    place: Place,
    panel: &[f32],
) {
    // SAFETY: the caller's contract.
    unsafe {
        let a = job.input.as_ptr().add(place.input);
        let acc = tile::<L, M, V>(a, run.in_pitch, taps, panel.as_ptr());
        let mut sums = [[0.0f32; N]; M];
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (v, acc) in acc.into_iter().enumerate() {
                acc.store(sums.as_mut_ptr().add(v * LANES));
            }
        }
        store::<M, N>(&sums, job, out, run, place);
    }
}

/// Epilogue and store of one tile.
///
/// # Safety
/// The tile's outputs must be in range and this thread's own.
#[inline(always)]
unsafe fn store<const M: usize, const N: usize>(
    acc: &[[f32; N]; M],
    job: &Job<'_>,
    out: SendPtr,
    run: Run,
    place: Place,
) {
    let e = &job.epilogue;
    // A whole tile has lengths that the compiler knows, which is worth as much as the sums of a 1 x 1.
    if place.count == N {
        for m in 0..M {
            let at = place.output + m * run.out_pitch;
            let v = e.whole(acc[m], place.first, at);
            // SAFETY: the caller's contract; `N` channels from `at` are inside the output.
            unsafe { out.at(at).cast::<[f32; N]>().write(v) };
        }
        return;
    }
    for m in 0..M {
        let at = place.output + m * run.out_pitch;
        let mut v = acc[m];
        let n = place.count.min(N);
        if let Some(bias) = e.bias {
            let bias = &bias[place.first..][..n];
            for i in 0..n {
                v[i] += bias[i];
            }
        }
        e.activation.apply(&mut v);
        if let Some(residual) = e.residual {
            let residual = &residual[at..][..n];
            for i in 0..n {
                v[i] += residual[i];
            }
        }
        // SAFETY: the caller's contract; `n` channels from `at` are inside the output.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), out.at(at), n) };
    }
}
