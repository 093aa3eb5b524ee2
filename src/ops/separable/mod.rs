//! A depthwise convolution, a 1 x 1 and what stands around them, in one pass.

mod cases;
mod cuda;

pub(crate) use cases::cases;

use super::conv::{Conv2d, ConvOptions, Convolve, Forward, Variant};
use super::depthwise::{self, DepthwiseOptions, depthwise_conv2d};
use super::{Activation, Padding, leaky_relu};
use crate::device::cpu::{CpuIo, SendPtr, for_chunks_of_work};
use crate::device::launch::CudaIo;
use crate::device::simd::simd_fn;
use crate::onnx::{Graph, Operand, Value};
use crate::tape::{Band, Banded, Meta, Operator, check_inputs, expect_shape};
use crate::tensor::{DType, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

const NAME: &str = "separable_conv2d";

/// Options of [`separable_conv2d`]; the default is dilation 1 and no activation anywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeparableOptions {
    /// Of the depthwise convolution: 1 or 2.
    pub dilation: usize,
    /// Slope of a leaky ReLU that `x` goes through first.
    pub slope: Option<f32>,
    /// Applied after the second bias and before the residual.
    pub activation: Activation,
}

impl Default for SeparableOptions {
    fn default() -> Self {
        Self {
            dilation: 1,
            slope: None,
            activation: Activation::None,
        }
    }
}

impl SeparableOptions {
    fn depthwise(&self) -> DepthwiseOptions {
        DepthwiseOptions {
            stride: 1,
            dilation: self.dilation,
            padding: Padding::Same,
        }
    }

    fn pointwise(&self) -> ConvOptions {
        ConvOptions {
            activation: self.activation,
            ..Default::default()
        }
    }
}

/// Parameters of [`separable_conv2d`].
#[derive(Clone, Copy, Debug)]
pub struct SeparableWeights {
    /// `[k, k, 1, C]`, `k` 3 or 5.
    pub depthwise: Var,
    /// `[C]`.
    pub depthwise_bias: Var,
    /// `[1, 1, C, cout]`.
    pub pointwise: Var,
    /// `[cout]`.
    pub pointwise_bias: Var,
}

/// Separable convolution, the (sigma, depthwise, 1 x 1) blocks of section 2.2.2:
///
/// `m[n,i,j,c] = b1[c] + sum over u,v of w1[u,v,0,c] g(x[n, i + u d - p, j + v d - p, c])`
/// `y[n,i,j,o] = f(b2[o] + sum over c of m[n,i,j,c] w2[0,0,c,o]) + r[n,i,j,o]`
///
/// with dilation `d`, zeros around `g(x)`, `p = d (k - 1) / 2`, the leaky ReLU `g` and the activation
/// `f`. One kernel on CUDA: `m` never leaves the chip.
///
/// # Shapes
/// `x: [N, H, W, C]` gives `[N, H, W, cout]`, which is the residual's shape too.
///
/// # Gradient
/// With respect to all inputs. `m` is computed again; the derivative of `f` is read from the output.
///
/// # Errors
/// [`Error::Shape`] if shapes do not fit, or for another kernel side than 3 and 5 or another dilation
/// than 1 and 2.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let mut full = |t: &mut Tape, shape: &[usize], v| {
///     t.constant(&Tensor::full(hafuse::Shape::new(shape)?, DType::F32, v))
/// };
/// let x = full(&mut t, &[1, 3, 3, 1], 1.0)?;
/// let weights = ops::SeparableWeights {
///     depthwise: full(&mut t, &[3, 3, 1, 1], 1.0)?,
///     depthwise_bias: full(&mut t, &[1], 1.0)?,
///     pointwise: full(&mut t, &[1, 1, 1, 1], 2.0)?,
///     pointwise_bias: full(&mut t, &[1], 0.5)?,
/// };
/// let y = ops::separable_conv2d(&mut t, x, weights, None, ops::SeparableOptions::default())?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?[..5], [10.5, 14.5, 10.5, 14.5, 20.5]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn separable_conv2d(
    t: &mut Tape,
    x: Var,
    weights: SeparableWeights,
    residual: Option<Var>,
    options: SeparableOptions,
) -> Result<Var> {
    let op = SeparableConv2d {
        options,
        residual: residual.is_some(),
        naive: false,
    };
    let mut inputs = vec![
        x,
        weights.depthwise,
        weights.depthwise_bias,
        weights.pointwise,
        weights.pointwise_bias,
    ];
    inputs.extend(residual);
    t.record(op, &inputs)
}

/// Inputs x, depthwise kernel and bias, 1 x 1 kernel and bias and, if there, the residual.
#[derive(Debug)]
struct SeparableConv2d {
    options: SeparableOptions,
    residual: bool,
    /// Run the plain CUDA kernel, which the fast ones are compared with.
    naive: bool,
}

/// What a part keeps while it goes down its rows; each length whole in cache lines.
struct Slot {
    /// `g(x)` of the rows under a window, unless `g` does nothing.
    ring: usize,
    /// A row of `m`.
    mid: usize,
}

impl Slot {
    fn len(&self) -> usize {
        self.ring + self.mid
    }
}

/// Lengths of what is made of the parameters.
struct Prepared {
    tiles: usize,
    packed: usize,
}

fn whole_lines<T>(len: usize) -> usize {
    len.next_multiple_of(crate::device::cpu::ALIGN / size_of::<T>())
}

impl SeparableConv2d {
    /// The 1 x 1 with all that follows, on its own; inputs `m` and those from its kernel on.
    fn last(&self) -> Conv2d {
        Conv2d {
            options: self.options.pointwise(),
            bias: true,
            residual: self.residual,
            variant: Variant::Auto,
        }
    }

    fn slot<T>(&self, x: Shape, w1: Shape) -> Slot {
        let [.., w, c] = x.padded4();
        let rows = 2 * self.reach(w1) + 1;
        Slot {
            ring: self
                .options
                .slope
                .map_or(0, |_| whole_lines::<T>(rows * w * c)),
            mid: whole_lines::<T>(w * c),
        }
    }

    /// Elements of scratch for an output of this many rows.
    fn slots_len<T>(&self, x: Shape, w1: Shape, rows: usize) -> usize {
        let parts = rayon::current_num_threads().clamp(1, rows.max(1));
        parts * self.slot::<T>(x, w1).len()
    }

    fn prepared_lens<T: Convolve>(&self, x: Shape, w1: Shape, w2: Shape) -> Prepared {
        let tiles = depthwise::scratch_len(x, w1, self.options.depthwise());
        Prepared {
            tiles: whole_lines::<T>(tiles),
            packed: T::packed_len(w2.padded4()),
        }
    }

    /// Rows that a window reaches up and down.
    fn reach(&self, w1: Shape) -> usize {
        self.options.dilation * (w1.padded4()[0] / 2)
    }

    /// The 1 x 1 of a whole `m` of this shape.
    fn pointwise<'a, T: Convolve>(
        io: &CpuIo<'a>,
        mid: &'a [T],
        x_shape: [usize; 4],
        residual: Option<&'a [T]>,
    ) -> Result<Forward<'a, T>> {
        Ok(Forward {
            x: mid,
            x_shape,
            w: io.input(3)?,
            w_shape: io.shape(3).padded4(),
            bias: Some(io.input(4)?),
            residual,
        })
    }

    /// Makes what [`SeparableConv2d::run_rows`] wants of the parameters, for an `x` of this width.
    fn fill<T: Convolve>(&self, io: &CpuIo<'_>, x: Shape, prepared: &mut [T]) -> Result<()> {
        let (w1, w2) = (io.shape(1), io.shape(3));
        let lens = self.prepared_lens::<T>(x, w1, w2);
        let (tiles, packed) = prepared.split_at_mut(lens.tiles);
        let kernel = (io.input(1)?, w1);
        depthwise::fill_tiles(
            self.options.depthwise(),
            x,
            kernel,
            Some(io.input(2)?),
            tiles,
        )?;
        let f = Self::pointwise(io, &[], x.padded4(), None)?;
        T::pack(NAME, &self.options.pointwise(), &f, packed)
    }

    /// Rows `rows` of the output of an `x` of height `height` that is here from row `first` on; all rows if there are
    /// several pictures.
    fn run_rows<T: Convolve>(
        &self,
        io: &mut CpuIo<'_>,
        (rows, first, height): (Range<usize>, usize, usize),
        prepared: &[T],
        scratch: &mut [T],
    ) -> Result<()> {
        let [x_shape, w1, w2] = [io.shape(0), io.shape(1), io.shape(3)];
        let [n, here, w, c] = x_shape.padded4();
        let whole = Shape::from([1, height, w, c]);
        let slot = self.slot::<T>(whole, w1);
        let (tiles, packed) = prepared.split_at(self.prepared_lens::<T>(x_shape, w1, w2).tiles);
        let (x, y) = (io.input::<T>(0)?, io.output::<T>()?);
        let residual = if self.residual {
            Some(io.input::<T>(5)?)
        } else {
            None
        };
        let (reach, row_in) = (self.reach(w1), w * c);
        let row_out = w * w2.padded4()[3];
        let (dw, pw) = (self.options.depthwise(), self.options.pointwise());
        let pointwise = Self::pointwise(io, &[], [1, height, w, c], None)?;
        // A part of the output's rows, all pictures in one row of rows, from row `from` on.
        let part = |from: usize, y: &mut [T], slot_memory: &mut [T]| -> Result<()> {
            let (ring, mid) = slot_memory.split_at_mut(slot.ring);
            let mid = &mut mid[..row_in];
            // Row of the picture that the ring holds next, if it belongs to this picture.
            let mut next = None;
            for (i, y) in y.chunks_exact_mut(row_out).enumerate() {
                let (picture, row) = (
                    (from + i) / rows.len(),
                    (from + i) % rows.len() + rows.start,
                );
                let line = |l: usize| &x[(picture * here + l - first) * row_in..][..row_in];
                match self.options.slope {
                    None => depthwise::convolve_row(dw, (whole, w1), row, line, tiles, mid)?,
                    Some(slope) => {
                        let place = |l: usize| l % (2 * reach + 1) * row_in;
                        let begin = match next {
                            Some((p, l)) if p == picture => l,
                            _ => row.saturating_sub(reach),
                        };
                        let end = (row + reach + 1).min(height);
                        for l in begin..end {
                            leak(slope, line(l), &mut ring[place(l)..][..row_in]);
                        }
                        next = Some((picture, end.max(begin)));
                        let line = |l: usize| &ring[place(l)..][..row_in];
                        depthwise::convolve_row(dw, (whole, w1), row, line, tiles, mid)?;
                    }
                }
                let at = (from + i) * row_out;
                let f = Forward {
                    x: &*mid,
                    residual: residual.map(|r| &r[at..at + row_out]),
                    ..pointwise
                };
                T::convolve_rows(NAME, &pw, &f, (&(row..row + 1), row), packed, y, &mut [])?;
            }
            Ok(())
        };
        // One part for each thread: a part computes the leaky ReLU above its first row again.
        let parts = (scratch.len() / slot.len()).clamp(1, n * rows.len());
        let per_part = (n * rows.len()).div_ceil(parts);
        assert_eq!(
            y.len(),
            n * rows.len() * row_out,
            "rows of a separable convolution"
        );
        let slots = SendPtr::new(&mut scratch[..parts * slot.len()]);
        let failed = Mutex::new(Ok(()));
        for_chunks_of_work(usize::MAX, y, per_part * row_out, |i, y| {
            // SAFETY: `i` is below the number of parts, as `y` has that many rows (just asserted); each slot is handed out once.
            let slot_memory = unsafe { slots.slice(i * slot.len(), slot.len()) };
            if let Err(e) = part(i * per_part, y, slot_memory) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Err(e);
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T: Convolve>(&self, io: &mut CpuIo<'_>) -> Result<()> {
        let [x, w1, w2] = [io.shape(0), io.shape(1), io.shape(3)];
        let height = x.padded4()[1];
        let lens = self.prepared_lens::<T>(x, w1, w2);
        let len = whole_lines::<T>(lens.tiles + lens.packed);
        let (prepared, scratch) = io.scratch::<T>()?.split_at_mut(len);
        self.fill(io, x, prepared)?;
        self.run_rows(io, (0..height, 0, height), prepared, scratch)
    }

    /// Multiply-adds of the depthwise convolution and of the 1 x 1.
    fn macs(&self, inputs: &[Meta]) -> u64 {
        let [kh, kw, ..] = inputs[1].shape.padded4();
        let cout = inputs[3].shape.padded4()[3];
        (inputs[0].shape.len() * (kh * kw + cout)) as u64
    }
}

/// The leaky ReLU of a row.
fn leak<T: Convolve>(slope: f32, x: &[T], out: &mut [T]) {
    simd_fn! {
        fn leak_row<T>(slope: T, x: &[T], out: &mut [T]) {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = if x > T::zero() { x } else { x * slope };
            }
        }
    }
    leak_row(T::lit(f64::from(slope)), x, out);
}

impl Operator for SeparableConv2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let expected = 5 + usize::from(self.residual);
        let dtype = check_inputs(NAME, inputs, expected..=expected)?;
        let shape = |i: usize| inputs[i].shape;
        let [n, h, w, c] = shape(0).dims4(NAME)?;
        let [k, ..] = shape(1).dims4(NAME)?;
        let [_, _, _, cout] = shape(3).dims4(NAME)?;
        let dilation = self.options.dilation;
        if !matches!((k, dilation), (3 | 5, 1 | 2)) {
            return Err(Error::shape(
                NAME,
                format!(
                    "kernel side {k} with dilation {dilation}; sides 3 and 5 with dilation 1 or 2 are \
                     supported, others by depthwise_conv2d and conv2d"
                ),
            ));
        }
        if shape(0).len() * cout == 0 {
            return Err(Error::shape(
                NAME,
                format!("nothing to compute from {} and {}", shape(0), shape(3)),
            ));
        }
        expect_shape(
            NAME,
            "depthwise kernel",
            shape(1),
            Shape::from([k, k, 1, c]),
        )?;
        expect_shape(NAME, "depthwise bias", shape(2), Shape::from([c]))?;
        expect_shape(NAME, "1 x 1 kernel", shape(3), Shape::from([1, 1, c, cout]))?;
        expect_shape(NAME, "1 x 1 bias", shape(4), Shape::from([cout]))?;
        let out = Shape::from([n, h, w, cout]);
        if self.residual {
            expect_shape(NAME, "residual", shape(5), out)?;
        }
        Ok(Meta::new(out, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let inputs = t.inputs_of(node).to_vec();
        let first = &inputs[..3];
        let active = match self.options.slope {
            Some(slope) => leaky_relu(t, inputs[0], f64::from(slope))?,
            None => inputs[0],
        };
        let (w, bias) = (inputs[1], Some(inputs[2]));
        let mid = depthwise_conv2d(t, active, w, bias, self.options.depthwise())?;
        let last = [&[mid], &inputs[3..]].concat();
        let mut last = self.last().adjoints(t, &last, node, cotangent)?.into_iter();
        let mut gradients = Vec::with_capacity(inputs.len());
        if let Some(Some(d_mid)) = last.next() {
            gradients.extend(t.vjp_local(mid, d_mid, first)?.into_iter().map(Some));
        }
        gradients.extend(last);
        Ok(gradients)
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        dispatch_real!(io.dtype(), NAME, T => self.run::<T>(&mut io))
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let mut x = inputs[0].value(NAME)?.clone();
        if let Some(slope) = self.options.slope {
            x = Activation::LeakyRelu(slope).onnx(g, x);
        }
        let options = self.options.depthwise();
        let mid = depthwise::onnx(options, g, &x, &inputs[1], Some(&inputs[2]))?;
        let last = [&[Operand::Computed(mid)], &inputs[3..]].concat();
        self.last().onnx(g, &last)
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        cuda::forward(self, io)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let leaky = self.options.slope.map_or(0, |_| inputs[0].shape.len());
        leaky as u64 + 2 * self.macs(inputs)
    }

    fn multiply_adds(&self, inputs: &[Meta], _output: Meta) -> u64 {
        self.macs(inputs)
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let [x, w1, w2] = [0, 1, 3].map(|i| inputs[i].shape);
        let (dtype, [n, height, ..]) = (inputs[0].dtype, x.padded4());
        let (slots, prepared) = match dtype {
            DType::F32 => (
                self.slots_len::<f32>(x, w1, n * height),
                self.prepared_lens::<f32>(x, w1, w2),
            ),
            _ => (
                self.slots_len::<f64>(x, w1, n * height),
                self.prepared_lens::<f64>(x, w1, w2),
            ),
        };
        (slots + whole_lines::<f32>(prepared.tiles + prepared.packed)) * dtype.size()
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for SeparableConv2d {
    fn reads(&self, i: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        let reach = self.reach(whole[1].shape);
        match i {
            0 => {
                let height = whole[0].shape.padded4()[1];
                rows.start.saturating_sub(reach)..(rows.end + reach).min(height)
            }
            _ => rows,
        }
    }

    fn prepared(&self, whole: &[Meta]) -> usize {
        let [x, w1, w2] = [0, 1, 3].map(|i| whole[i].shape);
        let lens = self.prepared_lens::<f32>(x, w1, w2);
        lens.tiles + lens.packed
    }

    fn prepare(&self, mut io: CpuIo<'_>, whole: &[Meta]) -> Result<()> {
        let prepared = io.output::<f32>()?;
        self.fill(&io, whole[0].shape, prepared)
    }

    fn scratch(&self, inputs: &[Meta], output: Meta) -> usize {
        let rows = output.shape.padded4()[1];
        4 * self.slots_len::<f32>(inputs[0].shape, inputs[1].shape, rows)
    }

    fn run(&self, mut io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let height = band.whole[0].shape.padded4()[1];
        let scratch = io.scratch::<f32>()?;
        let at = (band.rows.clone(), band.first[0], height);
        self.run_rows(&mut io, at, band.prepared, scratch)
    }
}
