//! Depthwise convolution: each channel has its own window.

mod cases;
mod cpu;
mod cuda;
mod register;

pub(crate) use cases::cases;

use self::cpu::{Axis, Geometry};
use super::Padding;
use crate::device::cpu::CpuIo;
use crate::device::launch::CudaIo;
use crate::onnx::{Graph, Operand, Slide, Value};
use crate::tape::{Meta, Operator, check_inputs, expect_shape};
use crate::tensor::{Real, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};

const NAME: &str = "depthwise_conv2d";

/// Stride, dilation and padding of [`depthwise_conv2d`], the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthwiseOptions {
    /// Pixels between two windows, at least 1.
    pub stride: usize,
    /// Pixels between two taps of the kernel, at least 1; 1 is dense.
    pub dilation: usize,
    /// What surrounds the picture.
    pub padding: Padding,
}

impl Default for DepthwiseOptions {
    fn default() -> Self {
        Self {
            stride: 1,
            dilation: 1,
            padding: Padding::Same,
        }
    }
}

/// Depthwise convolution (a cross-correlation, as everywhere in deep learning; Chollet 2017):
///
/// `y[n, i, j, c] = b[c] + sum over p, q of w[p, q, 0, c] * x[n, i s + p d - pad, j s + q d - pad, c]`
///
/// with stride s and dilation d. `x` is `[N, H, W, C]`, `w` is `[kh, kw, 1, C]`, `bias` is `[C]`.
/// [`Padding::Same`] reads zeros outside, `d (k - 1) / 2` on each side, and gives
/// `[N, ceil(H / s), ceil(W / s), C]`; [`Padding::Valid`] gives `(H - d (kh - 1) - 1) / s + 1` rows,
/// rounded down. Differentiable in all inputs, any number of times.
///
/// # Errors
/// [`Error::Shape`] if shapes do not fit, stride or dilation is 0, a kernel side is above 31, an even kernel is
/// used with `Same`, or a `Valid` window is larger than the image.
///
/// ```
/// use hafuse::{ops, ops::DepthwiseOptions, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 3, 3, 1])?;
/// let w = t.constant(&Tensor::full([3, 3, 1, 1], DType::F32, 1.0))?;
/// let y = ops::depthwise_conv2d(&mut t, x, w, None, DepthwiseOptions::default())?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::full([1, 3, 3, 1], DType::F32, 1.0))?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn depthwise_conv2d(
    t: &mut Tape,
    x: Var,
    w: Var,
    bias: Option<Var>,
    options: DepthwiseOptions,
) -> Result<Var> {
    let op = DepthwiseConv2d {
        options,
        naive: false,
    };
    match bias {
        Some(b) => t.record(op, &[x, w, b]),
        None => t.record(op, &[x, w]),
    }
}

/// One axis of the forward map, or why there is none.
fn axis(name: &str, size: usize, k: usize, o: DepthwiseOptions) -> Result<Axis> {
    if o.stride == 0 || o.dilation == 0 || k == 0 {
        return Err(Error::shape(
            NAME,
            format!(
                "stride {}, dilation {} and kernel {name} {k} must be at least 1",
                o.stride, o.dilation
            ),
        ));
    }
    if k > cpu::MAX_K {
        return Err(Error::shape(
            NAME,
            format!(
                "kernel {name} is {k}; sides up to {} are supported",
                cpu::MAX_K
            ),
        ));
    }
    let extent = o.dilation * (k - 1);
    let (pad, output) = match o.padding {
        Padding::Same if k.is_multiple_of(2) => {
            return Err(Error::shape(
                NAME,
                format!("kernel {name} {k} is even; use an odd one, or Padding::Valid"),
            ));
        }
        Padding::Same => (extent / 2, size.div_ceil(o.stride)),
        Padding::Valid if extent >= size => {
            return Err(Error::shape(
                NAME,
                format!(
                    "a window of {} does not fit into {name} {size}; use Padding::Same or a larger image",
                    extent + 1
                ),
            ));
        }
        Padding::Valid => (0, (size - extent - 1) / o.stride + 1),
    };
    Ok(Axis {
        input: size,
        output,
        k,
        stride: o.stride,
        dilation: o.dilation,
        pad,
        transposed: false,
    })
}

/// The forward map of `x [N, H, W, C]` and `w [kh, kw, 1, C]`.
fn geometry(x: Shape, w: Shape, options: DepthwiseOptions) -> Result<Geometry> {
    let [_, h, width, c] = x.dims4(NAME)?;
    let [kh, kw, one, wc] = w.dims4(NAME)?;
    if one != 1 || wc != c {
        return Err(Error::shape(
            NAME,
            format!("x {x} needs a kernel [kh, kw, 1, {c}], found {w}"),
        ));
    }
    Ok(Geometry {
        h: axis("height", h, kh, options)?,
        w: axis("width", width, kw, options)?,
        c,
    })
}

/// Elements of [`fill_tiles`].
pub(crate) fn scratch_len(x: Shape, w: Shape, options: DepthwiseOptions) -> usize {
    geometry(x, w, options).map_or(0, |g| g.tiles_len())
}

/// Writes a depthwise convolution into an ONNX graph.
pub(crate) fn onnx(
    options: DepthwiseOptions,
    g: &mut Graph,
    x: &Value,
    w: &Operand,
    bias: Option<&Operand>,
) -> Result<Value> {
    let slide = Slide {
        stride: options.stride,
        dilation: options.dilation,
        same: options.padding == Padding::Same,
        groups: w.tensor(NAME)?.1.shape().padded4()[3],
    };
    g.conv(NAME, x, w, bias, slide)
}

/// Makes the `tiles` of [`convolve_row`] for an `x` of this width and these channels.
pub(crate) fn fill_tiles<T: Real>(
    options: DepthwiseOptions,
    x: Shape,
    (w, w_shape): (&[T], Shape),
    bias: Option<&[T]>,
    tiles: &mut [T],
) -> Result<()> {
    cpu::fill_tiles(geometry(x, w_shape, options)?, w, bias, tiles);
    Ok(())
}

/// One output row of the forward convolution of stride 1 of pictures like `x`, for operators that contain one.
/// `line(i)` is row `i` of the picture; `tiles` as [`fill_tiles`] made them for a kernel of this shape.
pub(crate) fn convolve_row<'a, T: Real>(
    options: DepthwiseOptions,
    (x, w): (Shape, Shape),
    row: usize,
    line: impl Fn(usize) -> &'a [T],
    tiles: &[T],
    out: &mut [T],
) -> Result<()> {
    let g = geometry(x, w, options)?;
    let lines = cpu::lines(g.h.k, |ky| g.h.source(row, ky).map(&line));
    cpu::row(g, &lines, tiles, out);
    Ok(())
}

fn output_shape(x: Shape, g: &Geometry) -> Shape {
    Shape::from([x.padded4()[0], g.h.output, g.w.output, g.c])
}

/// `y = b + w * x`; inputs x, w and, if there, b.
#[derive(Debug)]
struct DepthwiseConv2d {
    options: DepthwiseOptions,
    /// Run the plain CUDA kernels, which the fast ones are compared with; so do the adjoints.
    naive: bool,
}

impl Operator for DepthwiseConv2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(NAME, inputs, 2..=3)?;
        let (x, w) = (inputs[0].shape, inputs[1].shape);
        let g = geometry(x, w, self.options)?;
        if let Some(b) = inputs.get(2) {
            expect_shape(NAME, "bias", b.shape, Shape::from([g.c]))?;
        }
        Ok(Meta::new(output_shape(x, &g), dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let inputs = t.inputs_of(node).to_vec();
        let (x, w) = (inputs[0], inputs[1]);
        let mut gradients = vec![
            Some(self.input_grad(t, g, w, t.shape(x))?),
            Some(self.weight_grad(t, x, g, t.shape(w))?),
        ];
        if inputs.len() == 3 {
            let op = DepthwiseBiasGrad { naive: self.naive };
            gradients.push(Some(t.record(op, &[g])?));
        }
        Ok(gradients)
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let g = geometry(io.shape(0), io.shape(1), self.options)?;
        fn run<T: Real>(io: &mut CpuIo<'_>, g: Geometry) -> Result<()> {
            let bias = if io.len() == 3 {
                Some(io.input::<T>(2)?)
            } else {
                None
            };
            let (tiles, out) = (io.scratch::<T>()?, io.output::<T>()?);
            cpu::fill_tiles(g, io.input(1)?, bias, tiles);
            cpu::convolve(g, io.input(0)?, tiles, out);
            Ok(())
        }
        dispatch_real!(io.dtype(), NAME, T => run::<T>(&mut io, g))
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let x = inputs[0].value(NAME)?;
        onnx(self.options, g, x, &inputs[1], inputs.get(2))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let g = geometry(io.shape(0), io.shape(1), self.options)?;
        cuda::forward(io, io.shape(0).padded4()[0], &g, self.naive)
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        let [kh, kw, ..] = inputs[1].shape.padded4();
        2 * (kh * kw * output.shape.len()) as u64
    }

    fn multiply_adds(&self, inputs: &[Meta], output: Meta) -> u64 {
        self.flops(inputs, output) / 2
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        geometry(inputs[0].shape, inputs[1].shape, self.options)
            .map_or(0, |g| g.tiles_len() * inputs[0].dtype.size())
    }
}

impl DepthwiseConv2d {
    fn input_grad(&self, t: &mut Tape, g: Var, w: Var, x: Shape) -> Result<Var> {
        let &Self { options, naive } = self;
        t.record(DepthwiseInputGrad { options, x, naive }, &[g, w])
    }

    fn weight_grad(&self, t: &mut Tape, x: Var, g: Var, w: Shape) -> Result<Var> {
        let &Self { options, naive } = self;
        t.record(DepthwiseWeightGrad { options, w, naive }, &[x, g])
    }
}

/// `dx[i, j, c] = sum of w[p, q, 0, c] * g[(i + pad - p d) / s, (j + pad - q d) / s, c]` where the
/// divisions leave no remainder; inputs g, w.
#[derive(Debug)]
struct DepthwiseInputGrad {
    options: DepthwiseOptions,
    /// Shape of the gradient.
    x: Shape,
    naive: bool,
}

impl Operator for DepthwiseInputGrad {
    fn name(&self) -> &'static str {
        "depthwise_conv2d_dx"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 2..=2)?;
        let g = geometry(self.x, inputs[1].shape, self.options)?;
        expect_shape(NAME, "cotangent", inputs[0].shape, output_shape(self.x, &g))?;
        Ok(Meta::new(self.x, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, u: Var) -> Result<Vec<Option<Var>>> {
        let (g, w) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let &Self { options, naive, .. } = self;
        let forward = DepthwiseConv2d { options, naive };
        let dw = forward.weight_grad(t, u, g, t.shape(w))?;
        Ok(vec![Some(t.record(forward, &[u, w])?), Some(dw)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let g = geometry(self.x, io.shape(1), self.options)?.transpose();
        fn run<T: Real>(io: &mut CpuIo<'_>, g: Geometry) -> Result<()> {
            let (tiles, out) = (io.scratch::<T>()?, io.output::<T>()?);
            cpu::fill_tiles(g, io.input(1)?, None, tiles);
            cpu::convolve(g, io.input(0)?, tiles, out);
            Ok(())
        }
        dispatch_real!(io.dtype(), NAME, T => run::<T>(&mut io, g))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let g = geometry(self.x, io.shape(1), self.options)?;
        cuda::input_grad(io, self.x.padded4()[0], &g, self.naive)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let [kh, kw, ..] = inputs[1].shape.padded4();
        2 * (kh * kw * inputs[0].shape.len()) as u64
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        geometry(self.x, inputs[1].shape, self.options)
            .map_or(0, |g| g.tiles_len() * inputs[0].dtype.size())
    }
}

/// `dw[p, q, 0, c] = sum over n, i, j of g[n, i, j, c] * x[n, i s + p d - pad, j s + q d - pad, c]`;
/// inputs x, g.
#[derive(Debug)]
struct DepthwiseWeightGrad {
    options: DepthwiseOptions,
    /// Shape of the gradient.
    w: Shape,
    naive: bool,
}

impl Operator for DepthwiseWeightGrad {
    fn name(&self) -> &'static str {
        "depthwise_conv2d_dw"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 2..=2)?;
        let g = geometry(inputs[0].shape, self.w, self.options)?;
        expect_shape(
            NAME,
            "cotangent",
            inputs[1].shape,
            output_shape(inputs[0].shape, &g),
        )?;
        Ok(Meta::new(self.w, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, u: Var) -> Result<Vec<Option<Var>>> {
        let (x, g) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let &Self { options, naive, .. } = self;
        let forward = DepthwiseConv2d { options, naive };
        let dx = forward.input_grad(t, g, u, t.shape(x))?;
        Ok(vec![Some(dx), Some(t.record(forward, &[x, u])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let g = geometry(io.shape(0), self.w, self.options)?;
        fn run<T: Real>(io: &mut CpuIo<'_>, g: Geometry) -> Result<()> {
            let n = io.shape(0).padded4()[0];
            let (scratch, out) = (io.scratch::<T>()?, io.output::<T>()?);
            cpu::weight_grad(g, n, io.input(0)?, io.input(1)?, scratch, out);
            Ok(())
        }
        dispatch_real!(io.dtype(), NAME, T => run::<T>(&mut io, g))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let g = geometry(io.shape(0), self.w, self.options)?;
        let pair = (io.input(0), io.input(1));
        cuda::weight_grad(io, io.shape(0).padded4()[0], &g, pair, self.naive)
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        let [kh, kw, ..] = output.shape.padded4();
        2 * (kh * kw * inputs[1].shape.len()) as u64
    }

    fn workspace(&self, inputs: &[Meta], output: Meta) -> usize {
        let n = inputs[0].shape.padded4()[0];
        geometry(inputs[0].shape, self.w, self.options)
            .map_or(0, |g| cpu::weight_grad_scratch(g, n) * output.dtype.size())
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let n = inputs[0].shape.padded4()[0];
        geometry(inputs[0].shape, self.w, self.options)
            .map_or(0, |g| cuda::weight_grad_bytes(n, &g))
    }
}

/// `db[c] = sum over n, i, j of g[n, i, j, c]`; input g.
#[derive(Debug)]
struct DepthwiseBiasGrad {
    naive: bool,
}

impl Operator for DepthwiseBiasGrad {
    fn name(&self) -> &'static str {
        "depthwise_conv2d_db"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 1..=1)?;
        let [_, _, _, c] = inputs[0].shape.dims4(NAME)?;
        Ok(Meta::new([c], dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, u: Var) -> Result<Vec<Option<Var>>> {
        // Spread u over all pixels: a convolution of zeros with bias u.
        let shape = t.shape(t.inputs_of(node)[0]);
        let c = shape.padded4()[3];
        let zeros = t.constant(&crate::Tensor::full(shape, t.dtype(), 0.0))?;
        let one = t.constant(&crate::Tensor::full([1, 1, 1, c], t.dtype(), 1.0))?;
        let spread = depthwise_conv2d(t, zeros, one, Some(u), DepthwiseOptions::default())?;
        Ok(vec![Some(spread)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let [n, h, ..] = io.shape(0).padded4();
        fn run<T: Real>(io: &mut CpuIo<'_>, rows: usize) -> Result<()> {
            let (scratch, out) = (io.scratch::<T>()?, io.output::<T>()?);
            cpu::channel_sum(rows, io.input(0)?, scratch, out);
            Ok(())
        }
        dispatch_real!(io.dtype(), NAME, T => run::<T>(&mut io, n * h))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        cuda::bias_grad(io, self.naive)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        inputs[0].shape.len() as u64
    }

    fn workspace(&self, inputs: &[Meta], output: Meta) -> usize {
        let [n, h, _, c] = inputs[0].shape.padded4();
        cpu::channel_sum_scratch(n * h, c) * output.dtype.size()
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        cuda::bias_grad_bytes(inputs[0].shape)
    }
}
