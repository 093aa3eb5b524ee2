//! Dense two-dimensional convolution with its epilogue, and its two adjoints.
//!
//! | file | content |
//! |---|---|
//! | this one | [`conv2d`], the operator, its shapes and derivative |
//! | `adjoint` | gradients with respect to input and kernel, operators too |
//! | `geometry` | which input positions an output reads, and the reverse |
//! | `forward` | whole pictures and bands on the CPU, for others that convolve too |
//! | `cpu/` | SIMD code: direct, pointwise, Winograd, the kernel's gradient, and the reference |
//! | `cuda/` | choice of a kernel of `kernels/conv*.cu` and its parameters |
//! | `cases` | shapes that tests run |

mod adjoint;
mod cases;
mod cpu;
mod cuda;
mod forward;
pub(crate) mod geometry;

pub(crate) use cases::cases;
pub use cuda::Variant;
pub(crate) use forward::{Convolve, Forward, rows_read};
pub use geometry::MAX_K;

use self::adjoint::{ActivationGrad, Conv2dInputGrad, Conv2dWeightGrad};
use self::cpu::{pack, winograd};
use self::geometry::AxisSize;
use super::{Activation, Padding};
use crate::device::cpu::CpuIo;
use crate::device::launch::CudaIo;
use crate::onnx::{Graph, Operand, Slide, Value};
use crate::tape::{Band, Banded, Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{DType, Real};
use crate::{Error, Result, dispatch_real};
use std::ops::Range;

/// Options of [`conv2d`]; the default is stride 1, dilation 1, "same" padding, no activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvOptions {
    /// Pixels between two windows, at least 1.
    pub stride: usize,
    /// Pixels between two taps of the kernel, at least 1; 1 is dense.
    pub dilation: usize,
    /// What surrounds the picture.
    pub padding: Padding,
    /// Applied after the bias and before the residual.
    pub activation: Activation,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self {
            stride: 1,
            dilation: 1,
            padding: Padding::Same,
            activation: Activation::None,
        }
    }
}

/// Two-dimensional convolution (cross-correlation, as in every network library):
///
/// `y[n,i,j,o] = f(b[o] + sum over u,v,c of x[n, i s + u d - p, j s + v d - p, c] w[u,v,c,o]) + r[n,i,j,o]`
///
/// with stride `s`, dilation `d`, padding `p` and activation `f`.
///
/// # Shapes
/// `x: [N, H, W, cin]`, `w: [kh, kw, cin, cout]`, bias `[cout]`, residual like the output. Kernel
/// sides are odd and at most 11. With [`Padding::Same`], zeros surround `x`, `p = d (k - 1) / 2`
/// and the output is `[N, ceil(H / s), ceil(W / s), cout]`; with [`Padding::Valid`], `p = 0`.
///
/// # Gradient
/// With respect to all inputs. The derivative of `f` is read from the output, so nothing else is kept.
///
/// # Errors
/// [`Error::Shape`] if shapes do not fit or nothing would be left of the input.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 5, 7, 3])?;
/// let w = t.constant(&Tensor::full([3, 3, 3, 8], DType::F32, 0.1))?;
/// let y = ops::conv2d(&mut t, x, w, None, None, ops::ConvOptions { stride: 2, ..Default::default() })?;
/// assert_eq!(t.shape(y).dims(), [1, 3, 4, 8]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn conv2d(
    t: &mut Tape,
    x: Var,
    w: Var,
    bias: Option<Var>,
    residual: Option<Var>,
    options: ConvOptions,
) -> Result<Var> {
    let op = Conv2d {
        options,
        bias: bias.is_some(),
        residual: residual.is_some(),
        variant: Variant::Auto,
    };
    let inputs: Vec<Var> = [Some(x), Some(w), bias, residual]
        .into_iter()
        .flatten()
        .collect();
    t.record(op, &inputs)
}

/// See [`conv2d`].
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// Stride, dilation, padding and activation.
    pub options: ConvOptions,
    /// Whether a bias `[cout]` is among the inputs.
    pub bias: bool,
    /// Whether a residual, shaped like the output, is among the inputs.
    pub residual: bool,
    #[doc(hidden)]
    pub variant: Variant,
}

/// Sizes of a convolution, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub n: usize,
    pub rows: AxisSize,
    pub cols: AxisSize,
}

impl Sizes {
    /// Sizes of `x [N, H, W, C]` under a kernel of `kh` by `kw`.
    pub fn new(
        op: &'static str,
        x: [usize; 4],
        (kh, kw): (usize, usize),
        stride: usize,
        dilation: usize,
        padding: Padding,
    ) -> Result<Self> {
        let axis = |name: &str, x: usize, k: usize| {
            if k.is_multiple_of(2) || k > MAX_K {
                return Err(Error::shape(
                    op,
                    format!("kernel {name} is {k}; odd sides from 1 to {MAX_K} are supported"),
                ));
            }
            if stride == 0 || dilation == 0 {
                return Err(Error::shape(op, "stride and dilation must be at least 1"));
            }
            let reach = dilation * (k - 1) + 1;
            let pad = match padding {
                Padding::Same => reach / 2,
                Padding::Valid => 0,
            };
            if x == 0 || x + 2 * pad < reach {
                return Err(Error::shape(
                    op,
                    format!(
                        "input {name} {x} is smaller than the kernel's reach {reach}; \
                         use a larger input or padding `same`"
                    ),
                ));
            }
            Ok(AxisSize {
                x,
                y: (x + 2 * pad - reach) / stride + 1,
                k,
                stride,
                dilation,
                pad,
            })
        };
        Ok(Self {
            n: x[0],
            rows: axis("height", x[1], kh)?,
            cols: axis("width", x[2], kw)?,
        })
    }
}

impl ConvOptions {
    fn sizes(&self, op: &'static str, x: [usize; 4], w: [usize; 4]) -> Result<Sizes> {
        if w[2] == 0 || w[3] == 0 {
            return Err(Error::shape(op, format!("kernel {w:?} has no channels")));
        }
        if x[3] != w[2] {
            return Err(Error::shape(
                op,
                format!(
                    "input has {} channels, the kernel {w:?} takes {}",
                    x[3], w[2]
                ),
            ));
        }
        Sizes::new(
            op,
            x,
            (w[0], w[1]),
            self.stride,
            self.dilation,
            self.padding,
        )
    }
}

fn macs(sizes: &Sizes, cin: usize, cout: usize) -> u64 {
    (sizes.n * sizes.rows.y * sizes.cols.y * sizes.rows.k * sizes.cols.k) as u64
        * (cin * cout) as u64
}

impl Conv2d {
    /// The operands, of which the whole `x` has this shape.
    fn forward<'a, T: Real>(&self, io: &CpuIo<'a>, x_shape: [usize; 4]) -> Result<Forward<'a, T>> {
        let residual = self.residual.then(|| io.len() - 1);
        Ok(Forward {
            x: io.input(0)?,
            x_shape,
            w: io.input(1)?,
            w_shape: io.shape(1).dims4("conv2d")?,
            bias: if self.bias { Some(io.input(2)?) } else { None },
            residual: residual.map(|i| io.input(i)).transpose()?,
        })
    }

    /// The gradients of `inputs` (those of a convolution) from the cotangent of `output`, which may be
    /// a node that computes more than this convolution but ends with it.
    pub(crate) fn adjoints(
        &self,
        t: &mut Tape,
        inputs: &[Var],
        output: Var,
        cotangent: Var,
    ) -> Result<Vec<Option<Var>>> {
        let (x, w) = (inputs[0], inputs[1]);
        let residual = self.residual.then(|| inputs[inputs.len() - 1]);
        let g = match self.options.activation {
            Activation::None => cotangent,
            activation => {
                let op = ActivationGrad { activation };
                let args: Vec<Var> = [Some(output), Some(cotangent), residual]
                    .into_iter()
                    .flatten()
                    .collect();
                t.record(op, &args)?
            }
        };
        let [_, h, width, _] = t.shape(x).dims4("conv2d")?;
        let [kh, kw, ..] = t.shape(w).dims4("conv2d")?;
        let dx = t.record(
            Conv2dInputGrad {
                options: self.options,
                size: (h, width),
                variant: self.variant,
            },
            &[g, w],
        )?;
        let dw = t.record(
            Conv2dWeightGrad {
                options: self.options,
                kernel: (kh, kw),
                variant: self.variant,
            },
            &[x, g],
        )?;
        let mut out = vec![Some(dx), Some(dw)];
        if self.bias {
            let shape = t.shape(inputs[2]);
            out.push(Some(super::sum_to(t, g, shape)?));
        }
        if self.residual {
            out.push(Some(cotangent));
        }
        Ok(out)
    }
}

impl Operator for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let expected = 2 + usize::from(self.bias) + usize::from(self.residual);
        let dtype = check_inputs("conv2d", inputs, expected..=expected)?;
        let (x, w) = (
            inputs[0].shape.dims4("conv2d")?,
            inputs[1].shape.dims4("conv2d")?,
        );
        let s = self.options.sizes("conv2d", x, w)?;
        if self.bias && inputs[2].shape.dims() != [w[3]] {
            return Err(Error::shape(
                "conv2d",
                format!("bias {} for {} output channels", inputs[2].shape, w[3]),
            ));
        }
        let out = Meta::new([s.n, s.rows.y, s.cols.y, w[3]], dtype);
        if self.residual && inputs[expected - 1].shape != out.shape {
            return Err(Error::shape(
                "conv2d",
                format!(
                    "residual {} for output {}",
                    inputs[expected - 1].shape,
                    out.shape
                ),
            ));
        }
        Ok(out)
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let inputs = t.inputs_of(node).to_vec();
        self.adjoints(t, &inputs, node, cotangent)
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        dispatch_real!(io.dtype(), "conv2d", T => {
            let f = self.forward::<T>(&io, io.shape(0).dims4("conv2d")?)?;
            T::convolve("conv2d", &self.options, &f, io.output()?, io.scratch()?)
        })
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let x = inputs[0].value("conv2d")?;
        let bias = self.bias.then(|| &inputs[2]);
        let slide = Slide {
            stride: self.options.stride,
            dilation: self.options.dilation,
            same: self.options.padding == Padding::Same,
            groups: 1,
        };
        let y = g.conv("conv2d", x, &inputs[1], bias, slide)?;
        let y = self.options.activation.onnx(g, y);
        if !self.residual {
            return Ok(y);
        }
        let residual = inputs[inputs.len() - 1].value("conv2d")?;
        Ok(g.node("Add", &[&y, residual], &[]))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let (x, w) = (io.shape(0).dims4("conv2d")?, io.shape(1).dims4("conv2d")?);
        let job = cuda::Job {
            sizes: self.options.sizes("conv2d", x, w)?,
            channels: (w[2], w[3]),
            variant: self.variant,
        };
        let bias = self.bias.then_some(2);
        let residual = self.residual.then(|| io.len() - 1);
        cuda::forward(io, &job, bias, residual, self.options.activation)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let (Ok(x), Ok(w)) = (
            inputs[0].shape.dims4("conv2d"),
            inputs[1].shape.dims4("conv2d"),
        ) else {
            return 0;
        };
        self.options
            .sizes("conv2d", x, w)
            .map_or(0, |s| 2 * macs(&s, w[2], w[3]))
    }

    fn multiply_adds(&self, inputs: &[Meta], output: Meta) -> u64 {
        self.flops(inputs, output) / 2
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        scratch_bytes(inputs[0].dtype, inputs[1].shape.padded4(), false)
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for Conv2d {
    fn reads(&self, i: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        let k = whole[1].shape.padded4()[0];
        match i {
            0 => rows_read(&self.options, whole[0].shape.padded4(), k, &rows),
            _ => rows,
        }
    }

    fn granule(&self, whole: &[Meta]) -> usize {
        let [x, w] = [0, 1].map(|i| whole[i].shape.padded4());
        forward::granule(&self.options, x, w)
    }

    fn prepared(&self, whole: &[Meta]) -> usize {
        f32::packed_len(whole[1].shape.padded4())
    }

    fn prepare(&self, mut io: CpuIo<'_>, whole: &[Meta]) -> Result<()> {
        let packed = io.output()?;
        let x_shape = whole[0].shape.dims4("conv2d")?;
        f32::pack(
            "conv2d",
            &self.options,
            &self.forward(&io, x_shape)?,
            packed,
        )
    }

    fn scratch(&self, inputs: &[Meta], _output: Meta) -> usize {
        let [kh, kw, cin, cout] = inputs[1].shape.padded4();
        4 * winograd::threads_len(kh * kw, cin, cout)
    }

    fn run(&self, mut io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let (y, scratch) = (io.output()?, io.scratch()?);
        let at = (&band.rows, band.first[0]);
        let f = self.forward(&io, band.whole[0].shape.dims4("conv2d")?)?;
        f32::convolve_rows("conv2d", &self.options, &f, at, band.prepared, y, scratch)
    }
}

fn scratch_bytes(dtype: DType, w: [usize; 4], transposed: bool) -> usize {
    match (dtype, transposed) {
        (DType::F32, false) => 4 * pack::scratch_len(w[0] * w[1], w[2], w[3]),
        (DType::F32, true) => 4 * pack::scratch_len(w[0] * w[1], w[3], w[2]),
        _ => 0,
    }
}
