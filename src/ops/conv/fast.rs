//! The dense convolution and its transpose in f32: bands of rows in parallel, register tiles inside.

use super::geometry::{Axis, AxisSize, MAX_K, Segment};
use super::kernel::{MR, MR_HALF, NR, Tap, dots, tile};
use crate::device::simd::{LANES, Lanes, dispatch_lanes};
use crate::ops::Activation;
use rayon::prelude::*;

/// Output channels up to which dot products beat a panel.
const DOT_CHANNELS: usize = 4;
/// Rows of a band; small enough that a batch of 64 x 64 patches keeps many cores busy.
const BAND: usize = 8;

/// What happens to a sum before it is stored: `act(sum + bias) + residual`.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a> {
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    pub residual: Option<&'a [f32]>,
}

/// A convolution ready to run; channels are those of the side that is read (`cin`) and written.
pub(super) struct Job<'a> {
    pub input: &'a [f32],
    pub batch: usize,
    pub rows: AxisSize,
    pub cols: AxisSize,
    pub cin: usize,
    pub cout: usize,
    pub epilogue: Epilogue<'a>,
    /// Forward, or the gradient with respect to the input.
    pub transposed: bool,
}

/// Elements of the packed weights: the scratch that [`run`] wants.
pub(super) fn packed_len(taps: usize, cin: usize, cout: usize) -> usize {
    taps * cin * cout.next_multiple_of(LANES)
}

/// Runs `job`, writing every element of `out`. `weight(ky, kx, ci, co)` with `ci` on the side read.
pub(super) fn run(
    job: &Job<'_>,
    weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let strides = (job.rows.stride, job.cols.stride);
    let phases = if job.transposed { strides } else { (1, 1) };
    let out_dims = if job.transposed {
        (job.rows.x, job.cols.x)
    } else {
        (job.rows.y, job.cols.y)
    };
    for py in 0..phases.0 {
        for px in 0..phases.1 {
            let (ay, ax) = if job.transposed {
                (
                    Axis::transposed(job.rows, py),
                    Axis::transposed(job.cols, px),
                )
            } else {
                (Axis::forward(job.rows), Axis::forward(job.cols))
            };
            pack(&ay, &ax, job.cin, job.cout, &weight, scratch);
            let phase = Phase {
                job,
                ay,
                ax,
                out_width: out_dims.1,
                out_image: out_dims.0 * out_dims.1 * job.cout,
                packed: scratch,
            };
            let bands = phase.ay.count.div_ceil(BAND);
            let target = SendPtr(out.as_mut_ptr());
            (0..job.batch * bands).into_par_iter().for_each(|i| {
                let (image, band) = (i / bands, i % bands);
                let rows = (band * BAND, ((band + 1) * BAND).min(phase.ay.count));
                // SAFETY: a band writes only its own rows of its own image.
                unsafe { run_band(&phase, target, image, rows) };
            });
        }
    }
}

#[derive(Clone, Copy)]
struct SendPtr(*mut f32);
// SAFETY: bands write disjoint rows.
unsafe impl Send for SendPtr {}
// SAFETY: as above.
unsafe impl Sync for SendPtr {}

/// One phase of a job (a forward convolution has one, a transposed one `stride^2`).
struct Phase<'a> {
    job: &'a Job<'a>,
    ay: Axis,
    ax: Axis,
    out_width: usize,
    out_image: usize,
    packed: &'a [f32],
}

/// Weights packed at a time by one thread; fewer in all are not worth waking others.
const PACK_SERIAL: usize = 64 * 1024;

/// Panels `[cout / NR][ky][kx][cin][NR]`, the last one of `LANES` if that is enough, zero beyond
/// `cout`; for few channels `[cout][ky][kx][cin]`.
fn pack(
    ay: &Axis,
    ax: &Axis,
    cin: usize,
    cout: usize,
    weight: &(impl Fn(usize, usize, usize, usize) -> f32 + Sync),
    packed: &mut [f32],
) {
    let depth = ay.taps().len() * ax.taps().len() * cin;
    let step = if cout <= DOT_CHANNELS { 1 } else { NR };
    let one = |i: usize, panel: &mut [f32]| {
        let first = i * step;
        let width = panel_width(cout, first);
        let mut at = 0;
        for &(ky, _) in ay.taps() {
            for &(kx, _) in ax.taps() {
                for ci in 0..cin {
                    for co in first..first + width {
                        panel[at] = if co < cout {
                            weight(ky, kx, ci, co)
                        } else {
                            0.0
                        };
                        at += 1;
                    }
                }
            }
        }
    };
    let whole = if cout <= DOT_CHANNELS {
        cout * depth
    } else {
        cout.next_multiple_of(LANES) * depth
    };
    let panel = (step * depth).max(1);
    let packed = &mut packed[..whole];
    if whole < PACK_SERIAL {
        packed
            .chunks_mut(panel)
            .enumerate()
            .for_each(|(i, p)| one(i, p));
    } else {
        packed
            .par_chunks_mut(panel)
            .enumerate()
            .for_each(|(i, p)| one(i, p));
    }
}

/// Channels that the panel beginning at channel `first` has room for.
fn panel_width(cout: usize, first: usize) -> usize {
    match cout - first {
        _ if cout <= DOT_CHANNELS => 1,
        left if left <= LANES => LANES,
        _ => NR,
    }
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
        let most = if width == LANES { MR_HALF } else { MR };
        let mut tiles = run.len.div_ceil(most);
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
            macro_rules! tiles {
                ($($m:literal)*) => {
                    match (job.cout, m) {
                        // SAFETY: the caller's contract.
                        $((1, $m) => unsafe { dot_tile::<L, $m, 1>(job, out, taps, run, place, panel, depth) },)*
                        $((2, $m) => unsafe { dot_tile::<L, $m, 2>(job, out, taps, run, place, panel, depth) },)*
                        $((3, $m) => unsafe { dot_tile::<L, $m, 3>(job, out, taps, run, place, panel, depth) },)*
                        $((4, $m) => unsafe { dot_tile::<L, $m, 4>(job, out, taps, run, place, panel, depth) },)*
                        $((_, $m) => unsafe { wide_tile::<L, $m, { NR / LANES }, NR>(job, out, taps, run, place, panel) },)*
                        _ => {}
                    }
                };
            }
            macro_rules! half_tiles {
                ($($m:literal)*) => {
                    match m {
                        // SAFETY: the caller's contract.
                        $($m => unsafe { wide_tile::<L, $m, 1, LANES>(job, out, taps, run, place, panel) },)*
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

/// # Safety
/// As for [`line_of_tiles`].
#[inline(always)]
unsafe fn dot_tile<L: Lanes, const M: usize, const C: usize>(
    job: &Job<'_>,
    out: SendPtr,
    taps: &[Tap],
    run: Run,
    place: Place,
    panel: &[f32],
    depth: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let a = job.input.as_ptr().add(place.input);
        let acc = dots::<L, M, C>(a, run.in_pitch, taps, panel.as_ptr(), depth);
        store::<M, C>(&acc, job, out, run, place);
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
        let bias: Option<[f32; N]> = e
            .bias
            .map(|b| std::array::from_fn(|i| b[place.first..place.first + N][i]));
        for (m, sums) in acc.iter().enumerate() {
            let at = place.output + m * run.out_pitch;
            let mut v = *sums;
            if let Some(bias) = &bias {
                for (v, b) in v.iter_mut().zip(bias) {
                    *v += b;
                }
            }
            e.activation.apply(&mut v);
            if let Some(residual) = e.residual {
                for (v, r) in v.iter_mut().zip(&residual[at..at + N]) {
                    *v += r;
                }
            }
            // SAFETY: the caller's contract; `N` channels from `at` are inside the output.
            unsafe { out.0.add(at).cast::<[f32; N]>().write(v) };
        }
        return;
    }
    for (m, sums) in acc.iter().enumerate() {
        let at = place.output + m * run.out_pitch;
        let mut v = *sums;
        let n = place.count.min(N);
        if let Some(bias) = e.bias {
            for (v, b) in v.iter_mut().zip(&bias[place.first..place.first + n]) {
                *v += b;
            }
        }
        e.activation.apply(&mut v);
        if let Some(residual) = e.residual {
            for (v, r) in v.iter_mut().zip(&residual[at..at + n]) {
                *v += r;
            }
        }
        // SAFETY: the caller's contract; `n` channels from `at` are inside the output.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), out.0.add(at), n) };
    }
}
