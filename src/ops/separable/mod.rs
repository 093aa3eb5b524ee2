//! A depthwise convolution, a 1 x 1 and what stands around them, in one pass.

mod cases;
mod cuda;

pub(crate) use cases::cases;

use super::conv::{Conv2d, ConvOptions, Convolve, Forward, Kernels};
use super::depthwise::{self, DepthwiseOptions, depthwise_conv2d};
use super::{Activation, Padding, leaky_relu};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::CudaIo;
use crate::export::{Graph, Operand, Value};
use crate::tape::{Meta, Operator, check_inputs, expect_shape};
use crate::tensor::{DType, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};

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

/// Elements of `m` that the CPU computes at a time: they stay in its caches.
const BAND: usize = 1 << 20;

/// What the CPU computes at a time: whole pictures, or rows of one.
#[derive(Clone, Copy)]
struct Band {
    pictures: usize,
    rows: usize,
}

impl Band {
    fn new([n, h, w, c]: [usize; 4]) -> Self {
        let picture = h * w * c;
        if picture <= BAND {
            let pictures = (BAND / picture).min(n);
            return Self { pictures, rows: h };
        }
        let rows = (BAND / (w * c)).max(1);
        Self { pictures: 1, rows }
    }
}

/// Lengths of the parts of the CPU's scratch, each whole in cache lines.
struct Scratch {
    /// `g(x)` of a band and of the rows around it, unless `g` does nothing.
    active: usize,
    /// `m` of a band.
    mid: usize,
    tiles: usize,
    packed: usize,
}

impl SeparableConv2d {
    /// The 1 x 1 with all that follows, on its own; inputs `m` and those from its kernel on.
    fn last(&self) -> Conv2d {
        Conv2d {
            options: self.options.pointwise(),
            bias: true,
            residual: self.residual,
            kernels: Kernels::Auto,
        }
    }

    fn scratch<T: Convolve>(&self, x: Shape, w1: Shape, w2: Shape) -> Scratch {
        let whole = |len: usize| len.next_multiple_of(crate::device::cpu::ALIGN / size_of::<T>());
        let [_, h, w, c] = x.padded4();
        let (band, reach) = (Band::new(x.padded4()), self.reach(w1));
        let row = band.pictures * w * c;
        let active = (band.rows + 2 * reach).min(h) * row;
        Scratch {
            active: self.options.slope.map_or(0, |_| whole(active)),
            mid: whole(band.rows * row),
            tiles: whole(depthwise::scratch_len(x, w1, self.options.depthwise())),
            packed: T::scratch_len(w2.padded4()),
        }
    }

    /// Rows that a window reaches up and down.
    fn reach(&self, w1: Shape) -> usize {
        self.options.dilation * (w1.padded4()[0] / 2)
    }

    fn run<T: Convolve>(&self, io: &mut CpuIo<'_>) -> Result<()> {
        let [x_shape, w1, w2] = [io.shape(0), io.shape(1), io.shape(3)];
        let lens = self.scratch::<T>(x_shape, w1, w2);
        let (active, rest) = io.scratch::<T>()?.split_at_mut(lens.active);
        let (mid, rest) = rest.split_at_mut(lens.mid);
        let (tiles, packed) = rest.split_at_mut(lens.tiles);
        let (x, y) = (io.input::<T>(0)?, io.output::<T>()?);
        let residual = if self.residual {
            Some(io.input(5)?)
        } else {
            None
        };
        let (kernel, bias) = ((io.input(1)?, w1), Some(io.input(2)?));
        let [n, h, w, c] = x_shape.padded4();
        let (band, reach) = (Band::new([n, h, w, c]), self.reach(w1));
        let cout = w2.padded4()[3];
        let (dw, pw) = (self.options.depthwise(), self.options.pointwise());
        for first in (0..n).step_by(band.pictures) {
            let pictures = band.pictures.min(n - first);
            for top in (0..h).step_by(band.rows) {
                let rows = band.rows.min(h - top);
                // Rows of x under the band's windows; all of them where there are several pictures.
                let (from, to) = (top.saturating_sub(reach), h.min(top + rows + reach));
                let under = Shape::from([pictures, to - from, w, c]);
                let x = &x[(first * h + from) * w * c..][..under.len()];
                let x = match self.options.slope {
                    None => x,
                    Some(slope) => {
                        leak(slope, x, &mut active[..x.len()]);
                        &active[..x.len()]
                    }
                };
                let above = from + reach - top;
                let mid = &mut mid[..pictures * rows * w * c];
                depthwise::convolve_rows(dw, (x, under), kernel, bias, (above, rows), tiles, mid)?;
                let at = (first * h + top) * w * cout;
                let out = at..at + pictures * rows * w * cout;
                let f = Forward {
                    x: mid,
                    x_shape: [pictures, rows, w, c],
                    w: io.input(3)?,
                    w_shape: w2.padded4(),
                    bias: Some(io.input(4)?),
                    residual: residual.map(|r: &[T]| &r[out.clone()]),
                };
                T::convolve(NAME, &pw, &f, &mut y[out], packed)?;
            }
        }
        Ok(())
    }

    /// Multiply-adds of the depthwise convolution and of the 1 x 1.
    fn macs(&self, inputs: &[Meta]) -> u64 {
        let [kh, kw, ..] = inputs[1].shape.padded4();
        let cout = inputs[3].shape.padded4()[3];
        (inputs[0].shape.len() * (kh * kw + cout)) as u64
    }
}

/// The leaky ReLU on its own.
fn leak<T: Convolve>(slope: f32, x: &[T], out: &mut [T]) {
    const CHUNK: usize = 4096;
    for_chunks(out, CHUNK, |i, out| {
        out.copy_from_slice(&x[i * CHUNK..][..out.len()]);
        Activation::LeakyRelu(slope).apply(out);
    });
}

impl Operator for SeparableConv2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
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
        let dtype = inputs[0].dtype;
        let lens = match dtype {
            DType::F32 => self.scratch::<f32>(x, w1, w2),
            _ => self.scratch::<f64>(x, w1, w2),
        };
        (lens.active + lens.mid + lens.tiles + lens.packed) * dtype.size()
    }
}
