//! Bilinear resizing.

use super::registry::{Case, CaseInput};
use super::window::Sizes;
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::device::simd::simd_fn;
use crate::tape::{Meta, Operator, check_inputs, expect_shape};
use crate::tensor::{Real, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;
use std::sync::Arc;

const NAME: &str = "resize_bilinear";

/// Resizes `x [N, H, W, C]` to `[N, h, w, C]` by bilinear interpolation and adds `residual
/// [N, h, w, C]`, if given, in the same pass.
///
/// Pixel centres are at half-integers and the edges are clamped: output i reads position
/// `max(0, (i + 0.5) H / h - 0.5)`, as PyTorch's `interpolate(mode="bilinear",
/// align_corners=False)` without antialiasing. The same size is a copy. The gradient of `x` gathers
/// what each pixel contributed to, that of `residual` is the cotangent itself.
///
/// # Errors
/// [`Error::Shape`] if `h` or `w` is 0 or the residual has another shape than the output.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 1, 2, 1])?;
/// let y = ops::resize_bilinear(&mut t, x, 1, 4, None)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 1, 2, 1], vec![0.0f32, 4.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [0.0, 1.0, 3.0, 4.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn resize_bilinear(
    t: &mut Tape,
    x: Var,
    h: usize,
    w: usize,
    residual: Option<Var>,
) -> Result<Var> {
    let op = Resize {
        maps: Maps::new(t.shape(x), h, w)?,
    };
    match residual {
        Some(r) => t.record(op, &[x, r]),
        None => t.record(op, &[x]),
    }
}

/// One output position: `(1 - weight) * x[low] + weight * x[high]`.
#[derive(Clone, Copy, Debug)]
struct Tap {
    low: usize,
    high: usize,
    weight: f64,
}

/// The map of one axis and its adjoint.
#[derive(Debug)]
struct Axis {
    input: usize,
    taps: Vec<Tap>,
    /// For each input position, its first output position and where its weights start; one more
    /// entry for the end of the last.
    readers: Vec<(usize, usize)>,
    weights: Vec<f64>,
}

impl Axis {
    fn new(input: usize, output: usize) -> Self {
        // In units of 1 / (2 output), so that the lower pixel is exact; kernels do the same.
        let unit = 2 * output;
        let taps: Vec<Tap> = (0..output)
            .map(|i| {
                let at = ((2 * i + 1) * input).saturating_sub(output);
                let low = at / unit;
                let high = (low + 1).min(input - 1);
                let weight = (at % unit) as f64 / unit as f64;
                Tap {
                    low,
                    high,
                    weight: if high == low { 0.0 } else { weight },
                }
            })
            .collect();
        let mut readers = Vec::with_capacity(input + 1);
        let mut weights = Vec::new();
        for i in 0..input {
            // `low` and `high` never decrease: the readers of a position are contiguous.
            let first = taps.partition_point(|t| t.high < i);
            let end = taps.partition_point(|t| t.low <= i);
            readers.push((first, weights.len()));
            weights.extend(
                taps[first..end]
                    .iter()
                    .map(|t| if t.low == i { 1.0 - t.weight } else { t.weight }),
            );
        }
        readers.push((output, weights.len()));
        Self {
            input,
            taps,
            readers,
            weights,
        }
    }

    /// Output positions that read input `i`, with their weights.
    #[inline(always)]
    fn readers(&self, i: usize) -> (usize, &[f64]) {
        let (first, from) = self.readers[i];
        (first, &self.weights[from..self.readers[i + 1].1])
    }
}

/// The maps of both axes.
#[derive(Clone, Debug)]
pub(super) struct Maps {
    h: Arc<Axis>,
    w: Arc<Axis>,
}

impl Maps {
    /// From the size of `x` to `h` by `w`.
    pub fn new(x: Shape, h: usize, w: usize) -> Result<Self> {
        let [_, hi, wi, _] = x.dims4(NAME)?;
        if hi * wi * h * w == 0 {
            return Err(Error::shape(
                NAME,
                format!("cannot resize {x} to {h} x {w}; sizes must be at least 1"),
            ));
        }
        Ok(Self {
            h: Arc::new(Axis::new(hi, h)),
            w: Arc::new(Axis::new(wi, w)),
        })
    }

    fn input(&self, n: usize, c: usize) -> Shape {
        Shape::from([n, self.h.input, self.w.input, c])
    }

    /// Shape of the output for `n` pictures of `c` channels.
    pub fn output(&self, n: usize, c: usize) -> Shape {
        Shape::from([n, self.h.taps.len(), self.w.taps.len(), c])
    }

    /// Resizes pictures of `c` channels. Writes all of `out`.
    pub fn resize<T: Real>(&self, c: usize, x: &[T], residual: Option<&[T]>, out: &mut [T]) {
        let (h, w) = (&*self.h, &*self.w);
        let (row_in, row_out) = (w.input * c, w.taps.len() * c);
        for_chunks(out, row_out, |r, row| {
            let (n, tap) = (r / h.taps.len(), h.taps[r % h.taps.len()]);
            let line = |i: usize| &x[(n * h.input + i) * row_in..][..row_in];
            let residual = residual.map(|v| &v[r * row_out..(r + 1) * row_out]);
            resize_row(w, tap.weight, line(tap.low), line(tap.high), residual, row);
        });
    }

    /// Rows of `x` that `rows` of the output read.
    pub fn rows_read(&self, rows: &Range<usize>) -> Range<usize> {
        let taps = &self.h.taps;
        taps[rows.start].low..taps[rows.end - 1].high + 1
    }

    /// [`Maps::resize`] for some rows of one picture; `x` begins with row `first`, the others with `rows`.
    pub fn resize_rows<T: Real>(
        &self,
        rows: &Range<usize>,
        first: usize,
        c: usize,
        x: &[T],
        residual: Option<&[T]>,
        out: &mut [T],
    ) {
        let w = &*self.w;
        let (row_in, row_out) = (w.input * c, w.taps.len() * c);
        for_chunks(out, row_out, |r, row| {
            let tap = self.h.taps[rows.start + r];
            let line = |i: usize| &x[(i - first) * row_in..][..row_in];
            let residual = residual.map(|v| &v[r * row_out..(r + 1) * row_out]);
            resize_row(w, tap.weight, line(tap.low), line(tap.high), residual, row);
        });
    }

    /// Records the gradient of the resized pictures.
    pub fn gradient(&self, t: &mut Tape, g: Var) -> Result<Var> {
        let maps = self.clone();
        t.record(ResizeGrad { maps }, &[g])
    }
}

/// `Resize` of `kernels/resize.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ResizeParams {
    x: DevicePtr,
    residual: DevicePtr,
    y: DevicePtr,
    sizes: Sizes,
}

/// `ResizeGrad` of `kernels/resize.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ResizeGradParams {
    g: DevicePtr,
    dx: DevicePtr,
    sizes: Sizes,
}

fn sizes(io: &CudaIo<'_>, maps: &Maps) -> Result<Sizes> {
    let [n, _, _, c] = io.shape(0).padded4();
    let x = maps.input(n, c).padded4();
    Sizes::new(io, x, (maps.h.taps.len(), maps.w.taps.len()))
}

/// Inputs x and, if there, the residual.
#[derive(Debug)]
struct Resize {
    maps: Maps,
}

impl Operator for Resize {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(NAME, inputs, 1..=2)?;
        let [n, _, _, c] = inputs[0].shape.dims4(NAME)?;
        expect_shape(NAME, "x", inputs[0].shape, self.maps.input(n, c))?;
        let out = self.maps.output(n, c);
        if let Some(r) = inputs.get(1) {
            expect_shape(NAME, "residual", r.shape, out)?;
        }
        Ok(Meta::new(out, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let dx = self.maps.gradient(t, g)?;
        Ok(match t.inputs_of(node).len() {
            1 => vec![Some(dx)],
            _ => vec![Some(dx), Some(g)],
        })
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let c = io.shape(0).padded4()[3];
        dispatch_real!(io.dtype(), NAME, T => {
            let residual = if io.len() == 2 { Some(io.input::<T>(1)?) } else { None };
            self.maps.resize(c, io.input(0)?, residual, io.output()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let params = ResizeParams {
            x: io.input(0),
            residual: io.optional((io.len() == 2).then_some(1)),
            y: io.output(),
            sizes: sizes(io, &self.maps)?,
        };
        let blocks = io.blocks_for(io.output_shape().len());
        io.launch("resize", "resize_bilinear_fwd", blocks, THREADS, params)
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        // Three interpolations of three operations, and the residual.
        (9 + inputs.len() as u64 - 1) * output.shape.len() as u64
    }
}

simd_fn! {
    /// One output row from the two input rows around it.
    fn resize_row<T>(w: &Axis, weight: f64, top: &[T], bottom: &[T], residual: Option<&[T]>, out: &mut [T]) {
        let c = top.len() / w.input;
        let (wide, narrow) = (c / 32 * 32, c / 8 * 8);
        for at in (0..wide).step_by(32) {
            resize_block::<T, 32>((w, c, at), weight, top, bottom, residual, out);
        }
        for at in (wide..narrow).step_by(8) {
            resize_block::<T, 8>((w, c, at), weight, top, bottom, residual, out);
        }
        for at in narrow..c {
            resize_block::<T, 1>((w, c, at), weight, top, bottom, residual, out);
        }
    }
}

/// Channels `at` to `at + B` of [`resize_row`]. Neighbours in a row share the columns around them, which are
/// interpolated once.
#[inline(always)]
fn resize_block<T: Real, const B: usize>(
    (w, c, at): (&Axis, usize, usize),
    weight: f64,
    top: &[T],
    bottom: &[T],
    residual: Option<&[T]>,
    out: &mut [T],
) {
    let (u, u0) = (T::lit(weight), T::lit(1.0 - weight));
    let column = |i: usize| -> [T; B] {
        let (a, b) = (&top[i * c + at..][..B], &bottom[i * c + at..][..B]);
        let mut v = [T::lit(0.0); B];
        for k in 0..B {
            v[k] = u0 * a[k] + u * b[k];
        }
        v
    };
    let (mut low, mut left) = (0, column(0));
    let (mut high, mut right) = (0, left);
    for (p, tap) in w.taps.iter().enumerate() {
        if tap.low != low {
            (low, left) = match tap.low == high {
                true => (high, right),
                false => (tap.low, column(tap.low)),
            };
        }
        if tap.high != high {
            (high, right) = (tap.high, column(tap.high));
        }
        let (v, v0) = (T::lit(tap.weight), T::lit(1.0 - tap.weight));
        let out = &mut out[p * c + at..][..B];
        for k in 0..B {
            out[k] = v0 * left[k] + v * right[k];
        }
        if let Some(r) = residual {
            let r = &r[p * c + at..][..B];
            for k in 0..B {
                out[k] += r[k];
            }
        }
    }
}

/// `dx[i, j] = sum of the weights with which outputs read (i, j), times g`; input g.
#[derive(Debug)]
struct ResizeGrad {
    maps: Maps,
}

impl Operator for ResizeGrad {
    fn name(&self) -> &'static str {
        "resize_bilinear_dx"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 1..=1)?;
        let [n, _, _, c] = inputs[0].shape.dims4(NAME)?;
        expect_shape(NAME, "cotangent", inputs[0].shape, self.maps.output(n, c))?;
        Ok(Meta::new(self.maps.input(n, c), dtype))
    }

    fn vjp(&self, t: &mut Tape, _node: Var, u: Var) -> Result<Vec<Option<Var>>> {
        let maps = self.maps.clone();
        Ok(vec![Some(t.record(Resize { maps }, &[u])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let c = io.shape(0).padded4()[3];
        let (h, w) = (&*self.maps.h, &*self.maps.w);
        dispatch_real!(io.dtype(), NAME, T => {
            let (g, out) = (io.input::<T>(0)?, io.output::<T>()?);
            let image = h.taps.len() * w.taps.len() * c;
            for_chunks(out, w.input * c, |r, row| {
                let (n, i) = (r / h.input, r % h.input);
                gather_row(h, w, i, &g[n * image..(n + 1) * image], row);
            });
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let params = ResizeGradParams {
            g: io.input(0),
            dx: io.output(),
            sizes: sizes(io, &self.maps)?,
        };
        let blocks = io.blocks_for(io.output_shape().len());
        io.launch(
            "resize",
            "resize_bilinear_bwd_input",
            blocks,
            THREADS,
            params,
        )
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        // Every output was read with four weights.
        8 * inputs[0].shape.len() as u64
    }
}

simd_fn! {
    /// Row `i` of the input gradient of one image.
    fn gather_row<T>(h: &Axis, w: &Axis, i: usize, g: &[T], out: &mut [T]) {
        let c = out.len() / w.input;
        let row = w.taps.len() * c;
        let (first, rows) = h.readers(i);
        for (j, out) in out.chunks_exact_mut(c).enumerate() {
            let (left, columns) = w.readers(j);
            out.fill(T::zero());
            for (y, &u) in rows.iter().enumerate() {
                let g = &g[(first + y) * row + left * c..];
                for (x, &v) in columns.iter().enumerate() {
                    let weight = T::lit(u * v);
                    for (o, &g) in out.iter_mut().zip(&g[x * c..(x + 1) * c]) {
                        *o += weight * g;
                    }
                }
            }
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let sizes = [
        ([1, 3, 4, 5], [6, 8], true),
        ([2, 5, 7, 2], [3, 3], false),
        ([1, 7, 5, 3], [11, 13], false),
        ([1, 4, 4, 9], [4, 4], true),
        ([1, 1, 7, 2], [3, 5], false),
        ([1, 7, 1, 1], [2, 4], true),
        ([1, 1, 1, 3], [2, 3], false),
        ([1, 9, 11, 1], [1, 1], true),
        ([1, 3, 5, 1], [4, 31], false),
        ([1, 3, 4, 8], [5, 8], true),
        ([1, 3, 4, 12], [7, 7], true), // 16-byte vectors in f32, not in f16
    ];
    let mut cases = Vec::new();
    for (x, [h, w], residual) in sizes {
        // Sizes are at least 1: this cannot fail.
        let Ok(maps) = Maps::new(Shape::from(x), h, w) else {
            continue;
        };
        let mut inputs = vec![CaseInput::any(x)];
        if residual {
            inputs.push(CaseInput::any([x[0], h, w, x[3]]));
        }
        cases.push(Case::new(
            format!("resize {x:?} to {h}x{w} residual {residual}"),
            Resize { maps },
            inputs,
            5,
        ));
    }
    cases
}
