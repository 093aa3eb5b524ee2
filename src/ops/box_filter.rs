//! Mean over a square window.

use super::parts;
use super::registry::{Case, CaseInput};
use super::window::{Reach, TileSizes, TilingParams, WindowParams};
use crate::device::cpu::CpuIo;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::device::simd::{add_block, mul_add_block, simd_fn};
use crate::tape::{Meta, Operator, check_inputs};
use crate::tensor::Real;
use crate::{Result, Tape, Var, dispatch_real};
use bytemuck::{Pod, Zeroable};

const NAME: &str = "box_filter";

/// Mean over the window of `2 radius + 1` squared around each pixel, cut at the borders: the sum is
/// divided by the number of pixels that are inside (He, Sun, Tang, TPAMI 2013).
///
/// `x [N, H, W, C]` keeps its shape; the image may be smaller than the window. Sums are taken
/// afresh for every pixel, one axis after the other, so nothing cancels; time grows with `radius`.
/// The gradient is the window sum of cotangent / count.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` does not have four dimensions.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 1, 4, 1])?;
/// let y = ops::box_filter(&mut t, x, 1)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 1, 4, 1], vec![0.0f32, 6.0, 0.0, 3.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [3.0, 2.0, 3.0, 1.5]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn box_filter(t: &mut Tape, x: Var, radius: usize) -> Result<Var> {
    t.record(BoxFilter::new(radius), &[x])
}

/// `y = sum(x) / count` or its adjoint `y = sum(x / count)`.
#[derive(Debug)]
struct BoxFilter {
    radius: usize,
    adjoint: bool,
    /// On CUDA, sum every window by itself.
    naive: bool,
}

impl BoxFilter {
    fn new(radius: usize) -> Self {
        Self {
            radius,
            adjoint: false,
            naive: false,
        }
    }
}

/// `Box` of `kernels/box_filter.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct BoxParams {
    x: DevicePtr,
    y: DevicePtr,
    sums: DevicePtr,
    window: WindowParams,
    tiling: TilingParams,
    adjoint: i32,
}

/// `POOL` of `kernels/box_filter.cu`.
const POOL: usize = 6144;

/// Floats of shared memory: the tile with its surroundings, and the sums of its rows.
fn tile_floats(t: TileSizes) -> usize {
    t.channels * t.height * (t.width + t.side)
}

impl Operator for BoxFilter {
    fn name(&self) -> &'static str {
        if self.adjoint { "box_filter_dx" } else { NAME }
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(NAME, inputs, 1..=1)?;
        inputs[0].shape.dims4(NAME)?;
        Ok(inputs[0])
    }

    fn vjp(&self, t: &mut Tape, _node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let op = BoxFilter {
            radius: self.radius,
            adjoint: !self.adjoint,
            naive: self.naive,
        };
        Ok(vec![Some(t.record(op, &[g])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let window = Window::new(io.shape(0).padded4(), self.radius);
        dispatch_real!(io.dtype(), NAME, T => {
            let (scratch, out) = (io.scratch::<T>()?, io.output::<T>()?);
            window.mean(self.adjoint, io.input(0)?, scratch, out);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let shape = io.shape(0);
        let reach = Reach::new(shape.padded4(), self.radius);
        let tiling = reach.tiling(POOL, tile_floats);
        let params = BoxParams {
            x: io.input(0),
            y: io.output(),
            sums: io.scratch().0,
            window: reach.params(io)?,
            tiling: match tiling {
                Some(t) => t.params(io)?,
                None => TilingParams::zeroed(),
            },
            adjoint: self.adjoint.into(),
        };
        let blocks = io.blocks_for(shape.len());
        let mut launch = |kernel, blocks| io.launch("box_filter", kernel, blocks, THREADS, params);
        match tiling {
            _ if self.naive => launch("box_filter_naive_fwd", blocks),
            Some(t) => launch("box_filter_fwd", t.blocks()),
            None => {
                launch("box_filter_columns_fwd", blocks)?;
                launch("box_filter_rows_fwd", blocks)
            }
        }
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let x = inputs[0].shape;
        match Reach::new(x.padded4(), self.radius).tiling(POOL, tile_floats) {
            None if !self.naive => 4 * x.len(),
            _ => 0,
        }
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let [_, h, w, _] = inputs[0].shape.padded4();
        let side = |size: usize| self.radius.saturating_mul(2).saturating_add(1).min(size);
        (side(h) + side(w)) as u64 * inputs[0].shape.len() as u64
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let window = Window::new(inputs[0].shape.padded4(), self.radius);
        window.scratch_len() * inputs[0].dtype.size()
    }
}

/// Elements kept in registers.
const BLOCK: usize = 32;

/// A box filter on images of one shape; also the inner part of the guided filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    /// Radii that reach no further than the image.
    rh: usize,
    rw: usize,
}

/// Positions inside the image within `r` of `i`.
#[inline(always)]
pub(super) fn around(i: usize, r: usize, size: usize) -> std::ops::Range<usize> {
    i.saturating_sub(r)..(i + r + 1).min(size)
}

impl Window {
    pub fn new([n, h, w, c]: [usize; 4], radius: usize) -> Self {
        Self {
            n,
            h,
            w,
            c,
            rh: radius.min(h.saturating_sub(1)),
            rw: radius.min(w.saturating_sub(1)),
        }
    }

    /// A row of column sums with zeros on both sides.
    fn slot(&self) -> usize {
        (self.w + 2 * self.rw) * self.c
    }

    /// Scratch elements of [`Window::mean`].
    pub fn scratch_len(&self) -> usize {
        parts::count(self.n * self.h) * self.slot()
    }

    /// `out = sum(x) / count`, or `sum(x / count)` for the adjoint.
    pub fn mean<T: Real>(self, adjoint: bool, x: &[T], scratch: &mut [T], out: &mut [T]) {
        let image = self.h * self.w * self.c;
        parts::for_rows_with(
            out,
            self.w * self.c,
            scratch,
            self.slot(),
            |r, slot, out| {
                let (n, i) = (r / self.h, r % self.h);
                mean_row(self, adjoint, i, &x[n * image..(n + 1) * image], slot, out);
            },
        );
    }
}

simd_fn! {
    /// Output row `i`: sums over rows into `slot`, then over columns into `out`.
    fn mean_row<T>(s: Window, adjoint: bool, i: usize, x: &[T], slot: &mut [T], out: &mut [T]) {
        let (len, border) = (s.w * s.c, s.rw * s.c);
        let (left, rest) = slot.split_at_mut(border);
        let (sums, right) = rest.split_at_mut(len);
        left.fill(T::zero());
        right.fill(T::zero());
        let rows = around(i, s.rh, s.h);
        sum_rows(s, adjoint, rows.clone(), x, sums);
        if adjoint {
            divide(s, 1, sums);
        }
        sum_columns(s, slot, out);
        if !adjoint {
            divide(s, rows.len(), out);
        }
    }
}

/// Starts of blocks that cover `len` elements; the last may overlap the one before.
#[inline(always)]
fn blocks(len: usize) -> impl Iterator<Item = usize> {
    let n = if len < BLOCK { 0 } else { len.div_ceil(BLOCK) };
    (0..n).map(move |k| (k * BLOCK).min(len - BLOCK))
}

/// `sums = sum over rows of x`, each divided by its count of rows if `adjoint`.
#[inline(always)]
fn sum_rows<T: Real>(
    s: Window,
    adjoint: bool,
    rows: std::ops::Range<usize>,
    x: &[T],
    sums: &mut [T],
) {
    let len = sums.len();
    let weight = |i| T::one() / T::lit(around(i, s.rh, s.h).len() as f64);
    for at in blocks(len) {
        let mut acc = [T::zero(); BLOCK];
        for i in rows.clone() {
            let x = &x[i * len + at..i * len + at + BLOCK];
            if adjoint {
                mul_add_block(&mut acc, x, &[weight(i); BLOCK]);
            } else {
                add_block(&mut acc, x);
            }
        }
        sums[at..at + BLOCK].copy_from_slice(&acc);
    }
    if len < BLOCK {
        sums.fill(T::zero());
        for i in rows {
            let w = if adjoint { weight(i) } else { T::one() };
            for (a, &x) in sums.iter_mut().zip(&x[i * len..]) {
                *a += x * w;
            }
        }
    }
}

/// `out = sum over the columns of the window`; `sums` has zeros on both sides.
#[inline(always)]
fn sum_columns<T: Real>(s: Window, sums: &[T], out: &mut [T]) {
    for at in blocks(out.len()) {
        let mut acc = [T::zero(); BLOCK];
        for k in 0..=2 * s.rw {
            add_block(&mut acc, &sums[at + k * s.c..at + k * s.c + BLOCK]);
        }
        out[at..at + BLOCK].copy_from_slice(&acc);
    }
    if out.len() < BLOCK {
        out.fill(T::zero());
        for k in 0..=2 * s.rw {
            for (o, &v) in out.iter_mut().zip(&sums[k * s.c..]) {
                *o += v;
            }
        }
    }
}

/// Divides each pixel of a row by `rows` times its count of columns.
#[inline(always)]
fn divide<T: Real>(s: Window, rows: usize, row: &mut [T]) {
    // Columns whose window is not cut share one count.
    let inner = s.rw.min(s.w)..s.w.saturating_sub(s.rw).max(s.rw.min(s.w));
    for p in (0..inner.start).chain(inner.end..s.w) {
        let count = T::lit((rows * around(p, s.rw, s.w).len()) as f64);
        for v in &mut row[p * s.c..(p + 1) * s.c] {
            *v = *v / count;
        }
    }
    let count = T::lit((rows * (2 * s.rw + 1)) as f64);
    for v in &mut row[inner.start * s.c..inner.end * s.c] {
        *v = *v / count;
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let shapes = [
        ([2, 5, 7, 2], 1),
        ([1, 6, 31, 1], 2),
        ([1, 3, 4, 9], 5),
        ([1, 1, 13, 3], 2),
        ([1, 13, 1, 3], 4),
        ([2, 1, 1, 5], 3),
        ([1, 4, 5, 1], 0),
        ([1, 3, 17, 2], usize::MAX),
        // Several tiles and blocks of channels, with remainders.
        ([2, 19, 37, 11], 2),
        ([1, 21, 18, 20], 8),
        ([1, 33, 35, 1], 4),
        // Windows too wide for a tile.
        ([1, 2, 41, 1], 9),
        ([2, 30, 23, 3], 12),
    ];
    let mut out = Vec::new();
    for (i, (x, radius)) in shapes.into_iter().enumerate() {
        let terms = (radius.min(x[1]) * 2 + 1) * (radius.min(x[2]) * 2 + 1);
        let op = BoxFilter::new(radius);
        let label = format!("box_filter {x:?} radius {radius}");
        out.push(Case::new(&label, op, vec![CaseInput::any(x)], terms));
        if i < 8 {
            let naive = BoxFilter {
                naive: true,
                ..BoxFilter::new(radius)
            };
            let label = format!("{label}, naive");
            out.push(Case::new(label, naive, vec![CaseInput::any(x)], terms));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_into_shared_memory() {
        crate::ops::window::tests::check_pool(POOL, tile_floats);
    }
}
