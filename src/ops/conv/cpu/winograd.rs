//! Dense 3 x 3 and 5 x 5 convolutions of stride 1 with fewer products, in f32.
//!
//! A tile of 8 x 8 inputs gives 6 x 6 outputs of a 3 x 3 kernel or 4 x 4 of a 5 x 5 one as
//! `A^T [(G w G^T) * (B^T x B)] A`, so a pair of channels costs 64 products instead of 324 or 400
//! (Lavin, Gray: "Fast Algorithms for Convolutional Neural Networks", 2016). Both kernels share B: the points of
//! interpolation are 0, +-1, +-1/2, +-2 and infinity. Rounding errors are in docs/numerics.md.

#![allow(clippy::needless_range_loop)] // indices are register numbers here

use super::job::{Job, check};
use super::pack::{Weight, panel_width};
use super::tile::{MR, NR, Tap, most_rows, tile};
use super::transform::{POINTS, SIDE, g, sums_of, transform_input};
use crate::device::cpu::{SendPtr, for_chunks_of_work, for_ranges};
use crate::device::simd::{LANES, Lanes, Pixels, dispatch_lanes, prefetch_all, prefetch_far};
use std::ops::Range;

/// Floats of transformed tiles that a thread works on: with the weights they stay in a second-level cache.
const BLOCK_FLOATS: usize = 64 * 1024;
/// Fewer tiles than this do not pay for the transformed weights.
const FEW_TILES: usize = 16;
/// Keeps the 64 lines of a position apart in the first-level cache.
const GAP: usize = 16;

/// Elements of the transformed weights of a kernel that [`suits`] may accept, else 0.
pub(in crate::ops::conv) fn packed_len(taps: usize, cin: usize, cout: usize) -> usize {
    let whole = cin.is_multiple_of(LANES) && cout.is_multiple_of(LANES);
    if whole && (taps == 9 || taps == 25) {
        POINTS * cin * cout
    } else {
        0
    }
}

/// Whether a job is one of these, and large enough.
pub(in crate::ops::conv) fn suits(job: &Job<'_>) -> bool {
    let (r, c) = (job.rows, job.cols);
    let plain = |s: crate::ops::conv::geometry::AxisSize| s.stride == 1 && s.dilation == 1;
    if r.k != c.k || !plain(r) || !plain(c) || packed_len(r.k * c.k, job.cin, job.cout) == 0 {
        return false;
    }
    let map = Map::new(job);
    let tiles = job.batch * map.down * map.across;
    // Half-empty tiles at the borders of small pictures cost as much as whole ones.
    let full = map.height * map.width * 4 >= map.down * map.across * map.step * map.step * 3;
    tiles >= FEW_TILES && full
}

/// Rows of an output tile of a kernel of side `k`.
pub(in crate::ops::conv) fn step(k: usize) -> usize {
    SIDE + 1 - k
}

/// Tiles of a block, whole register tiles.
fn block_tiles(cin: usize, cout: usize) -> usize {
    let most = BLOCK_FLOATS / (POINTS * (cin + cout));
    (most / MR).clamp(2, 8) * MR
}

/// From one point of transformed inputs, or sums, of a block to the next.
fn pitch(block: usize, channels: usize) -> usize {
    block * channels + GAP
}

/// Floats that one thread works with.
fn local_len(cin: usize, cout: usize) -> usize {
    let block = block_tiles(cin, cout);
    let len = POINTS * (pitch(block, cin) + pitch(block, cout) + cin + cin.max(cout));
    len.next_multiple_of(GAP)
}

/// Floats that all threads work with, for a kernel that [`suits`] may accept, else 0.
pub(in crate::ops::conv) fn threads_len(taps: usize, cin: usize, cout: usize) -> usize {
    match packed_len(taps, cin, cout) {
        0 => 0,
        _ => rayon::current_num_threads() * local_len(cin, cout),
    }
}

/// Runs `job` with weights of [`pack`] and [`threads_len`] floats, writing every element of `out`.
pub(in crate::ops::conv) fn run(
    job: &Job<'_>,
    packed: &[f32],
    out: &mut [f32],
    locals: &mut [f32],
) {
    check(job, out);
    let map = Map::new(job);
    let packed = &packed[..POINTS * job.cin * job.cout];
    let target = SendPtr::new(out);
    let tiles = map.down * map.across;
    let blocks = tiles.div_ceil(map.block);
    let one = |i: usize, local: &mut [f32]| {
        let first = i % blocks * map.block;
        let to = (first + map.block).min(tiles);
        // SAFETY: a block writes only the outputs of its own tiles; the output is whole (`check`), and `local` has the
        // length that a block asks for.
        unsafe { run_block(job, &map, packed, local, target, i / blocks, (first, to)) };
    };
    let len = local_len(job.cin, job.cout);
    let count = locals.len() / len;
    assert!(count > 0, "scratch of a convolution");
    if count < rayon::current_num_threads() {
        // Planned for a smaller pool.
        for_chunks_of_work(usize::MAX, &mut locals[..count * len], len, |k, local| {
            for i in (k..job.batch * blocks).step_by(count) {
                one(i, local);
            }
        });
        return;
    }
    let locals = SendPtr::new(&mut locals[..count * len]);
    for_ranges(job.batch * blocks, &|range| {
        let thread = rayon::current_thread_index().unwrap_or(0);
        // SAFETY: threads of a pool have indices below their number, each its own; nothing in a block is parallel,
        // so a thread never begins another one meanwhile.
        let local = unsafe { locals.slice(thread * len, len) };
        for i in range {
            one(i, local);
        }
    });
}

/// How a picture is cut into tiles.
struct Map {
    height: usize,
    width: usize,
    in_height: usize,
    in_width: usize,
    /// Zeros above and left of the input.
    pad: (usize, usize),
    /// Side of an output tile.
    step: usize,
    down: usize,
    across: usize,
    /// [`block_tiles`].
    block: usize,
}

impl Map {
    fn new(job: &Job<'_>) -> Self {
        let (r, c) = (job.rows, job.cols);
        let (sizes, inputs, pad) = if job.transposed {
            ((r.x, c.x), (r.y, c.y), (r.k - 1 - r.pad, c.k - 1 - c.pad))
        } else {
            ((r.y, c.y), (r.x, c.x), (r.pad, c.pad))
        };
        let step = step(r.k);
        Self {
            height: sizes.0,
            width: sizes.1,
            in_height: inputs.0,
            in_width: inputs.1,
            pad,
            step,
            down: sizes.0.div_ceil(step),
            across: sizes.1.div_ceil(step),
            block: block_tiles(job.cin, job.cout),
        }
    }

    /// Row and column of the first output of a tile.
    fn place(&self, tile: usize) -> (usize, usize) {
        (
            tile / self.across * self.step,
            tile % self.across * self.step,
        )
    }

    /// See [`pitch`].
    fn pitch(&self, channels: usize) -> usize {
        pitch(self.block, channels)
    }
}

/// `G w G^T` of every pair of channels as panels `[64][cout / NR][cin][NR]`, the last one of `LANES` if
/// that is what is left.
pub(in crate::ops::conv) fn pack(job: &Job<'_>, weight: &impl Weight, packed: &mut [f32]) {
    let (k, cin, cout) = (job.rows.k, job.cin, job.cout);
    let g = g(k);
    let target = SendPtr::new(&mut packed[..POINTS * cin * cout]);
    let one = |ci: usize| {
        for co in (0..cout).step_by(LANES) {
            let mut half = [[[0.0f64; LANES]; 5]; SIDE];
            for u in 0..k {
                let y = if job.transposed { k - 1 - u } else { u };
                for v in 0..k {
                    let x = if job.transposed { k - 1 - v } else { v };
                    let w: [f64; LANES] =
                        std::array::from_fn(|l| f64::from(weight(y, x, ci, co + l)));
                    for (row, g) in half.iter_mut().zip(&g) {
                        for (sum, w) in row[v].iter_mut().zip(w) {
                            *sum += g[u] * w;
                        }
                    }
                }
            }
            let width = panel_width(cout, co / NR * NR);
            let at = co / NR * NR * cin + ci * width + co % NR;
            for (i, row) in half.iter().enumerate() {
                for (j, g) in g.iter().enumerate() {
                    let mut sum = [0.0f64; LANES];
                    for v in 0..k {
                        for l in 0..LANES {
                            sum[l] += g[v] * row[v][l];
                        }
                    }
                    let at = (i * SIDE + j) * cin * cout + at;
                    // SAFETY: `packed` holds 64 cin cout values, and channel `ci` owns these eight.
                    unsafe {
                        target
                            .at(at)
                            .cast::<[f32; LANES]>()
                            .write(sum.map(|v| v as f32))
                    };
                }
            }
        }
    };
    let all = |range: Range<usize>| range.for_each(one);
    if cin * cout < 32 * 32 {
        all(0..cin);
    } else {
        for_ranges(cin, &all);
    }
}

/// # Safety
/// `out` must hold the whole output and no other thread may touch the outputs of tiles `tiles` of
/// `image`; `local` must have [`local_len`] floats, `packed` 64 for each pair of channels.
unsafe fn run_block(
    job: &Job<'_>,
    map: &Map,
    packed: &[f32],
    local: &mut [f32],
    out: SendPtr,
    image: usize,
    tiles: (usize, usize),
) {
    dispatch_lanes!(block(job: &Job<'_>, map: &Map, packed: &[f32], local: &mut [f32], out: SendPtr,
        image: usize, tiles: (usize, usize)))
}

/// # Safety
/// As for [`run_block`].
#[inline(always)]
unsafe fn block<L: Lanes>(
    job: &Job<'_>,
    map: &Map,
    packed: &[f32],
    local: &mut [f32],
    out: SendPtr,
    image: usize,
    tiles: (usize, usize),
) {
    let (cin, cout) = (job.cin, job.cout);
    let (inputs, rest) = local.split_at_mut(POINTS * map.pitch(cin));
    let (sums, rest) = rest.split_at_mut(POINTS * map.pitch(cout));
    let (patch, half) = rest.split_at_mut(POINTS * cin);
    let half = half.as_mut_ptr();
    let count = tiles.1 - tiles.0;
    for t in 0..count {
        let (from, pitch) = patch_of(job, map, image, map.place(tiles.0 + t), patch);
        // What the next tile reads.
        for i in 0..SIDE {
            prefetch_all(from.wrapping_add(i * pitch + SIDE * cin), cin * map.step);
        }
        // SAFETY: `patch_of` gives 8 x 8 pixels of `cin` channels; tile `t < block` has room in `inputs`.
        unsafe {
            let to = inputs.as_mut_ptr().add(t * cin);
            transform_input::<L>(from, pitch, cin, half, to, map.pitch(cin));
        }
    }
    for p in 0..POINTS {
        let inputs = &inputs[p * map.pitch(cin)..][..count * cin];
        let sums = &mut sums[p * map.pitch(cout)..][..count * cout];
        // SAFETY: the slices have `count` rows of `cin` and `cout`, the weights of a point are cin x cout.
        unsafe { products::<L>(inputs, &packed[p * cin * cout..], sums, (count, cin, cout)) };
        ask_ahead(job, map, out, image, tiles, p);
    }
    for t in 0..count {
        let (y, x) = map.place(tiles.0 + t);
        let place = (image, y, x);
        // SAFETY: the caller's contract; sums of all 64 points were written for tile `t`.
        unsafe {
            let from = sums.as_ptr().add(t * cout);
            match map.step {
                6 => transform_output::<L, 6>(job, map, from, half, out, place),
                _ => transform_output::<L, 4>(job, map, from, half, out, place),
            }
        }
    }
}

/// Asks for a part of what this block writes, and of what the next block of the picture reads, which mostly is this thread's
/// too, while there is little else to wait for: part `point` of [`POINTS`].
#[inline(always)]
fn ask_ahead(
    job: &Job<'_>,
    map: &Map,
    out: SendPtr,
    image: usize,
    tiles: (usize, usize),
    point: usize,
) {
    let (row, first) = (point % SIDE, point / SIDE);
    for tile in (tiles.0 + first..tiles.1).step_by(SIDE) {
        if row < map.step {
            let (y, x) = map.place(tile);
            let at = ((image * map.height + y + row) * map.width + x) * job.cout;
            prefetch_far(out.line(at), map.step * job.cout);
            if let Some(residual) = job.epilogue.residual {
                prefetch_far(residual.as_ptr().wrapping_add(at), map.step * job.cout);
            }
        }
        let (y, x) = map.place(tile + tiles.1 - tiles.0);
        let at = ((image * map.in_height + y + row) * map.in_width + x) * job.cin;
        prefetch_far(job.input.as_ptr().wrapping_add(at), map.step * job.cin);
    }
}

/// The 8 x 8 inputs of the output tile at (y, x), and the distance of their rows: where they lie or, at
/// the border, copied to `patch` with zeros around.
#[inline(always)]
fn patch_of(
    job: &Job<'_>,
    map: &Map,
    image: usize,
    (y, x): (usize, usize),
    patch: &mut [f32],
) -> (*const f32, usize) {
    let (cin, w, h) = (job.cin, map.in_width, map.in_height);
    let input = &job.input[image * h * w * cin..][..h * w * cin];
    let inside = |at: usize, pad: usize, len: usize| at >= pad && at - pad + SIDE <= len;
    if inside(y, map.pad.0, h) && inside(x, map.pad.1, w) {
        let rows = &input[((y - map.pad.0) * w + x - map.pad.1) * cin..];
        return (rows.as_ptr(), w * cin);
    }
    let patch = &mut patch[..POINTS * cin];
    patch.fill(0.0);
    // Columns of the patch that lie inside the input.
    let from = map.pad.1.saturating_sub(x).min(SIDE);
    let to = (w + map.pad.1).saturating_sub(x).clamp(from, SIDE);
    for (i, row) in patch.chunks_exact_mut(SIDE * cin).enumerate() {
        let Some(line) = (y + i).checked_sub(map.pad.0).filter(|&l| l < h) else {
            continue;
        };
        if from < to {
            let at = (line * w + x + from - map.pad.1) * cin;
            row[from * cin..to * cin].copy_from_slice(&input[at..at + (to - from) * cin]);
        }
    }
    (patch.as_ptr(), SIDE * cin)
}

/// `sums [count, cout] = inputs [count, cin] * weights [cin, cout]`, the latter in panels.
///
/// # Safety
/// The slices must be that large; `cin` and `cout` multiples of LANES.
#[inline(always)]
unsafe fn products<L: Lanes>(
    inputs: &[f32],
    weights: &[f32],
    sums: &mut [f32],
    (count, cin, cout): (usize, usize, usize),
) {
    let taps = [Tap {
        a: 0,
        row: 0,
        len: cin,
    }];
    for first in (0..cout).step_by(NR) {
        let width = panel_width(cout, first);
        let panel = weights[first * cin..].as_ptr();
        let mut tiles = count.div_ceil(most_rows::<L>(width));
        let mut at = 0;
        while at < count {
            let m = (count - at).div_ceil(tiles);
            tiles -= 1;
            macro_rules! tiles {
                ($v:literal: $($m:literal)*) => {
                    match m {
                        // SAFETY: rows `at` to `at + m` of both slices and `8 v` columns from `first`.
                        $($m if const { $m * $v <= L::SUMS } => unsafe {
                            let a = inputs.as_ptr().add(at * cin);
                            let acc = tile::<L, $m, $v>(a, cin, &taps, panel);
                            for (i, acc) in acc.into_iter().enumerate() {
                                for (v, acc) in acc.into_iter().enumerate() {
                                    acc.store(sums.as_mut_ptr().add((at + i) * cout + first + v * LANES));
                                }
                            }
                        },)*
                        _ => {}
                    }
                };
            }
            if width == LANES {
                tiles!(1: 1 2 3 4 5 6 7 8 9 10 11 12);
            } else {
                tiles!(2: 1 2 3 4 5 6);
            }
            at += m;
        }
    }
}

/// `A^T m A` for all channels of a tile, the epilogue, and the outputs that lie in the picture, row by row as in
/// [`transform_input`].
///
/// # Safety
/// `from` must have the sums of all 64 points and `half` room for as many; the outputs must be this thread's own.
#[inline(always)]
unsafe fn transform_output<L: Lanes, const S: usize>(
    job: &Job<'_>,
    map: &Map,
    from: *const f32,
    half: *mut f32,
    out: SendPtr,
    (image, y, x): (usize, usize, usize),
) {
    let (cout, pitch, epilogue) = (job.cout, map.pitch(job.cout), job.epilogue);
    let (high, wide) = (S.min(map.height - y), S.min(map.width - x));
    let points = Pixels::new(SIDE * pitch);
    for j in 0..SIDE {
        for c in (0..cout).step_by(LANES) {
            // SAFETY: the caller vouches for `from` and `half`.
            unsafe {
                let from = points.bases(from.add(j * pitch + c));
                let mut m = [L::splat(0.0); SIDE];
                for i in 0..SIDE {
                    m[i] = L::load(points.at(&from, i));
                }
                let sums = sums_of::<L, S>(m);
                for i in 0..S {
                    sums[i].store(half.add(c * POINTS + (i * SIDE + j) * LANES));
                }
            }
        }
    }
    for i in 0..high {
        let first = ((image * map.height + y + i) * map.width + x) * cout;
        // What the next tile writes.
        prefetch_all(out.line(first + S * cout), S * cout);
        for c in (0..cout).step_by(LANES) {
            // SAFETY: as above; positions below `high` and `wide` lie in the output.
            unsafe {
                let mut m = [L::splat(0.0); SIDE];
                for j in 0..SIDE {
                    m[j] = L::load(half.add(c * POINTS + (i * SIDE + j) * LANES));
                }
                let sums = sums_of::<L, S>(m);
                if wide == S {
                    epilogue.store_lanes(sums, c, (first + c, cout), out);
                    continue;
                }
                for j in 0..wide {
                    epilogue.store_lanes([sums[j]], c, (first + j * cout + c, 0), out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Epilogue;
    use super::*;
    use crate::ops::Activation;
    use crate::ops::conv::geometry::AxisSize;

    #[test]
    fn cases_called_tiles_run_here() {
        let cases = crate::ops::conv::cases();
        let cases = cases.iter().filter(|case| case.label.contains("tiles"));
        let mut count = 0;
        for case in cases {
            let [batch, h, w, cin] = case.inputs[0].shape.padded4();
            let [k, _, _, cout] = case.inputs[1].shape.padded4();
            let pad = if case.label.contains("valid") {
                0
            } else {
                k / 2
            };
            let axis = |x: usize| AxisSize {
                x,
                y: x + 2 * pad + 1 - k,
                k,
                stride: 1,
                dilation: 1,
                pad,
            };
            let job = Job {
                input: &[],
                batch,
                rows: axis(h),
                cols: axis(w),
                cin,
                cout,
                epilogue: Epilogue {
                    bias: None,
                    activation: Activation::None,
                    residual: None,
                },
                transposed: false,
            };
            assert!(suits(&job), "{}", case.label);
            count += 1;
        }
        assert_eq!(count, 4);
    }
}
