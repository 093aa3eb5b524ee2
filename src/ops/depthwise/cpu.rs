//! Loops of the depthwise convolution and its two adjoints.

use super::register;
use crate::device::cpu::for_chunks;
use crate::device::simd::{LANES, mul_add_block, simd_fn};
use crate::ops::parts;
use crate::tensor::{DType, Real};

/// Elements kept in registers: eight AVX registers of f32.
const BLOCK: usize = 64;
/// Columns per step of the weight gradient: a tile of two rows stays in the first-level cache.
const TILE: usize = 64;

/// Largest kernel side.
pub(super) const MAX_K: usize = 31;

/// How output positions of one axis map to input positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub input: usize,
    pub output: usize,
    pub k: usize,
    pub stride: usize,
    pub dilation: usize,
    pub pad: usize,
    /// `true` for the adjoint: `input` and `output` are those of the adjoint.
    pub transposed: bool,
}

impl Axis {
    /// The adjoint map.
    pub fn transpose(self) -> Self {
        Self {
            input: self.output,
            output: self.input,
            transposed: !self.transposed,
            ..self
        }
    }

    /// The input position that tap `k` of output `o` reads, if it is not padding.
    #[inline(always)]
    pub fn source(&self, o: usize, k: usize) -> Option<usize> {
        let i = if self.transposed {
            let shifted = (o + self.pad).checked_sub(k * self.dilation)?;
            if shifted % self.stride != 0 {
                return None;
            }
            shifted / self.stride
        } else {
            (o * self.stride + k * self.dilation).checked_sub(self.pad)?
        };
        (i < self.input).then_some(i)
    }

    /// `source(o, k) - o` for stride 1.
    #[inline(always)]
    pub fn shift(&self, k: usize) -> isize {
        let s = (k * self.dilation) as isize - self.pad as isize;
        if self.transposed { -s } else { s }
    }

    /// Outputs whose taps all read inside the input (stride 1); empty for other strides.
    fn interior(&self) -> std::ops::Range<usize> {
        let (a, b) = (self.shift(0), self.shift(self.k - 1));
        let from = (-a.min(b)).max(0);
        let to = (self.input as isize - a.max(b)).min(self.output as isize);
        if self.stride != 1 || from >= to {
            return 0..0;
        }
        from as usize..to as usize
    }
}

/// Shapes of one convolution or adjoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub h: Axis,
    pub w: Axis,
    pub c: usize,
}

impl Geometry {
    pub fn transpose(self) -> Self {
        Self {
            h: self.h.transpose(),
            w: self.w.transpose(),
            c: self.c,
        }
    }

    fn taps(&self) -> usize {
        self.h.k * self.w.k
    }

    /// Length of a kernel row that is repeated so that a block may start at any channel.
    fn tile_len(&self) -> usize {
        self.c + BLOCK
    }

    /// Scratch elements of [`convolve`].
    pub fn tiles_len(&self) -> usize {
        (self.taps() + 1) * self.tile_len()
    }
}

/// Kernel rows and the bias, each repeated with period C.
pub(super) fn fill_tiles<T: Real>(g: Geometry, w: &[T], bias: Option<&[T]>, tiles: &mut [T]) {
    let len = g.tile_len();
    for (k, tile) in tiles[..g.tiles_len()].chunks_mut(len).enumerate() {
        // The last tile is the bias.
        let values = if k < g.taps() {
            Some(&w[k * g.c..(k + 1) * g.c])
        } else {
            bias
        };
        match values {
            Some(v) => {
                for tile in tile.chunks_mut(g.c) {
                    tile.copy_from_slice(&v[..tile.len()]);
                }
            }
            None => tile.fill(T::zero()),
        }
    }
}

/// Convolution (or its adjoint in the input, if the geometry is transposed) by [`fill_tiles`].
///
/// With stride 1 an output row is one vector of W*C elements, whatever C is: each tap adds a
/// shifted input row times the kernel repeated with period C. Borders and other strides go pixel by
/// pixel.
pub(super) fn convolve<T: Real>(g: Geometry, x: &[T], tiles: &[T], out: &mut [T]) {
    let row_in = g.w.input * g.c;
    let image = g.h.input * row_in;
    for_chunks(out, g.w.output * g.c, |i, out| {
        let (n, o) = (i / g.h.output, i % g.h.output);
        let x = &x[n * image..(n + 1) * image];
        let line = |ky| g.h.source(o, ky).map(|i| &x[i * row_in..][..row_in]);
        row(g, &lines(g.h.k, line), tiles, out);
    });
}

/// The input rows under a kernel: one for each of its rows, `None` where that is padding.
pub(super) type Lines<'a, T> = [Option<&'a [T]>; MAX_K];

pub(super) fn lines<'a, T>(k: usize, f: impl Fn(usize) -> Option<&'a [T]>) -> Lines<'a, T> {
    std::array::from_fn(|ky| if ky < k { f(ky) } else { None })
}

/// One output row of [`convolve`].
pub(super) fn row<T: Real>(g: Geometry, lines: &Lines<'_, T>, tiles: &[T], out: &mut [T]) {
    let mut interior = g.w.interior();
    let in_registers = T::DTYPE == DType::F32 && g.c.is_multiple_of(LANES);
    if !in_registers && interior.len() * g.c < BLOCK {
        interior = 0..0;
    }
    for p in (0..interior.start).chain(interior.end..g.w.output) {
        pixel(g, lines, tiles, p, &mut out[p * g.c..(p + 1) * g.c]);
    }
    if !interior.is_empty() {
        let at = interior.start * g.c;
        if in_registers {
            let lines = lines.map(|line| line.map(bytemuck::cast_slice));
            let tiles = (bytemuck::cast_slice(tiles), g.tile_len());
            let out = bytemuck::cast_slice_mut(&mut out[at..interior.end * g.c]);
            return register::row(g, &lines, tiles, interior.start, out);
        }
        inner(g, lines, tiles, at, &mut out[at..interior.end * g.c]);
    }
}

simd_fn! {
    /// The part `out` of an output row that starts at element `at` and needs no padding in W.
    fn inner<T>(g: Geometry, lines: &Lines<'_, T>, tiles: &[T], at: usize, out: &mut [T]) {
        let (c, len) = (g.c, g.tile_len());
        let bias = &tiles[g.taps() * len..];
        let last = out.len() - BLOCK;
        let mut j = 0;
        loop {
            // The last block overlaps the one before and computes the same values again.
            let phase = (at + j) % c;
            let mut acc = [T::zero(); BLOCK];
            acc.copy_from_slice(&bias[phase..phase + BLOCK]);
            for (ky, line) in lines.iter().enumerate().take(g.h.k) {
                let Some(line) = line else { continue };
                for kx in 0..g.w.k {
                    let from = (at + j).wrapping_add_signed(g.w.shift(kx) * c as isize);
                    let tile = (ky * g.w.k + kx) * len + phase;
                    mul_add_block(&mut acc, &tiles[tile..tile + BLOCK], &line[from..from + BLOCK]);
                }
            }
            out[j..j + BLOCK].copy_from_slice(&acc);
            if j == last {
                break;
            }
            j = (j + BLOCK).min(last);
        }
    }
}

simd_fn! {
    /// One output pixel, any stride, taps outside skipped.
    fn pixel<T>(g: Geometry, lines: &Lines<'_, T>, tiles: &[T], p: usize, out: &mut [T]) {
        let (c, len) = (g.c, g.tile_len());
        out.copy_from_slice(&tiles[g.taps() * len..][..c]);
        for (ky, line) in lines.iter().enumerate().take(g.h.k) {
            let Some(line) = line else { continue };
            for kx in 0..g.w.k {
                let Some(j) = g.w.source(p, kx) else { continue };
                let w = &tiles[(ky * g.w.k + kx) * len..][..c];
                for ((o, &x), &w) in out.iter_mut().zip(&line[j * c..]).zip(w) {
                    *o += w * x;
                }
            }
        }
    }
}

/// Scratch elements of [`weight_grad`] for `n` images.
pub(super) fn weight_grad_scratch(g: Geometry, n: usize) -> usize {
    parts::count(n * g.h.output) * g.taps() * g.c
}

/// `dw[ky, kx, c] = sum over n, o, p of gy[n, o, p, c] * x[n, source(o, ky), source(p, kx), c]`.
pub(super) fn weight_grad<T: Real>(
    g: Geometry,
    n: usize,
    x: &[T],
    gy: &[T],
    scratch: &mut [T],
    out: &mut [T],
) {
    let rows = n * g.h.output;
    let slot = g.taps() * g.c;
    parts::for_parts(scratch, slot, rows, gy.len() * g.taps(), |rows, dw| {
        weight_rows(g, x, gy, rows, dw);
    });
    parts::reduce(out, scratch, slot, rows);
}

simd_fn! {
    /// The sum over some output rows.
    fn weight_rows<T>(g: Geometry, x: &[T], gy: &[T], rows: std::ops::Range<usize>, dw: &mut [T]) {
        let (c, x_row, y_row) = (g.c, g.w.input * g.c, g.w.output * g.c);
        dw.fill(T::zero());
        for r in rows {
            let (n, o) = (r / g.h.output, r % g.h.output);
            let gy = &gy[r * y_row..(r + 1) * y_row];
            let mut first = 0;
            while first < g.w.output {
                let end = (first + TILE).min(g.w.output);
                for ky in 0..g.h.k {
                    let Some(i) = g.h.source(o, ky) else { continue };
                    let x = &x[(n * g.h.input + i) * x_row..][..x_row];
                    for kx in 0..g.w.k {
                        // Columns whose source is inside are contiguous.
                        let shift = kx * g.w.dilation;
                        let from = g.w.pad.saturating_sub(shift).div_ceil(g.w.stride).max(first);
                        let to = (g.w.input + g.w.pad).saturating_sub(shift).div_ceil(g.w.stride).min(end);
                        if from >= to {
                            continue;
                        }
                        let dw = &mut dw[(ky * g.w.k + kx) * c..][..c];
                        let at = (from * g.w.stride + shift - g.w.pad) * c;
                        dot_columns(dw, &gy[from * c..to * c], &x[at..], g.w.stride * c);
                    }
                }
                first = end;
            }
        }
    }
}

/// `dw[c] += sum over pixels of gy[pixel, c] * x[pixel * step + c]`.
#[inline(always)]
fn dot_columns<T: Real>(dw: &mut [T], gy: &[T], x: &[T], step: usize) {
    let c = dw.len();
    let mut at = 0;
    while at + 32 <= c {
        dot_block::<T, 32>(&mut dw[at..], &gy[at..], &x[at..], c, step);
        at += 32;
    }
    while at + 8 <= c {
        dot_block::<T, 8>(&mut dw[at..], &gy[at..], &x[at..], c, step);
        at += 8;
    }
    while at < c {
        dot_block::<T, 1>(&mut dw[at..], &gy[at..], &x[at..], c, step);
        at += 1;
    }
}

#[inline(always)]
fn dot_block<T: Real, const B: usize>(dw: &mut [T], gy: &[T], x: &[T], c: usize, step: usize) {
    let mut acc = [T::zero(); B];
    for (p, gy) in gy.chunks(c).enumerate() {
        mul_add_block(&mut acc, gy, &x[p * step..]);
    }
    for i in 0..B {
        dw[i] += acc[i];
    }
}

/// Scratch elements of [`channel_sum`].
pub(super) fn channel_sum_scratch(rows: usize, c: usize) -> usize {
    parts::count(rows) * 2 * c
}

/// `out[c] = sum of x[.., c]` over `rows` rows of pixels.
pub(super) fn channel_sum<T: Real>(rows: usize, x: &[T], scratch: &mut [T], out: &mut [T]) {
    let c = out.len();
    let row = x.len() / rows;
    // Each slot: the total of the part and the sum of the current row, which keeps rounding small.
    parts::for_parts(scratch, 2 * c, rows, x.len(), |rows, slot| {
        sum_rows(&x[rows.start * row..rows.end * row], row, slot);
    });
    parts::reduce(out, scratch, 2 * c, rows);
}

simd_fn! {
    fn sum_rows<T>(x: &[T], row: usize, slot: &mut [T]) {
        let c = slot.len() / 2;
        let (total, sum) = slot.split_at_mut(c);
        total.fill(T::zero());
        for x in x.chunks(row) {
            sum.fill(T::zero());
            for x in x.chunks(c) {
                for (s, &x) in sum.iter_mut().zip(x) {
                    *s += x;
                }
            }
            for (t, &s) in total.iter_mut().zip(sum.iter()) {
                *t += s;
            }
        }
    }
}
