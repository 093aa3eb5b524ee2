//! Dense two-dimensional convolution with its epilogue, and its two adjoints.

mod cases;
mod fast;
pub(crate) mod geometry;
mod kernel;
mod reference;
mod weight;

pub(crate) use cases::cases;
pub use geometry::MAX_K;

use self::geometry::AxisSize;
use super::{Activation, Padding};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::tape::{Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{DType, Real};
use crate::{Error, Result, dispatch_real};

/// Options of [`conv2d`]; the default is stride 1, dilation 1, "same" padding, no activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvOptions {
    pub stride: usize,
    pub dilation: usize,
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
    pub options: ConvOptions,
    pub bias: bool,
    pub residual: bool,
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

impl Operator for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
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
        let (x, w) = (inputs[0], inputs[1]);
        let residual = self.residual.then(|| inputs[inputs.len() - 1]);
        let g = match self.options.activation {
            Activation::None => cotangent,
            activation => {
                let op = ActivationGrad { activation };
                let args: Vec<Var> = [Some(node), Some(cotangent), residual]
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
            },
            &[g, w],
        )?;
        let dw = t.record(
            Conv2dWeightGrad {
                options: self.options,
                kernel: (kh, kw),
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

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let (x, w) = (io.shape(0).dims4("conv2d")?, io.shape(1).dims4("conv2d")?);
        let sizes = self.options.sizes("conv2d", x, w)?;
        let residual = self.residual.then(|| io.len() - 1);
        if io.dtype() == DType::F32 {
            let weight = io.input::<f32>(1)?;
            let (cin, cout) = (w[2], w[3]);
            let job = fast::Job {
                input: io.input(0)?,
                batch: sizes.n,
                rows: sizes.rows,
                cols: sizes.cols,
                cin,
                cout,
                epilogue: fast::Epilogue {
                    bias: if self.bias { Some(io.input(2)?) } else { None },
                    activation: self.options.activation,
                    residual: residual.map(|i| io.input(i)).transpose()?,
                },
                transposed: false,
            };
            let at = |ky, kx, ci, co| weight[((ky * w[1] + kx) * cin + ci) * cout + co];
            fast::run(&job, at, io.output()?, io.scratch()?);
            return Ok(());
        }
        dispatch_real!(io.dtype(), "conv2d", T => {
            let bias = if self.bias { Some(io.input::<T>(2)?) } else { None };
            let residual = residual.map(|i| io.input::<T>(i)).transpose()?;
            let (xs, ws) = (io.input::<T>(0)?, io.input::<T>(1)?);
            let y = io.output::<T>()?;
            reference::forward(&sizes, (w[2], w[3]), xs, ws, y);
            reference::epilogue(w[3], bias, self.options.activation, residual, y);
            Ok(())
        })
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

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        packed_bytes(inputs[0].dtype, inputs[1].shape.padded4(), false)
    }
}

fn packed_bytes(dtype: DType, w: [usize; 4], transposed: bool) -> usize {
    match (dtype, transposed) {
        (DType::F32, false) => 4 * fast::packed_len(w[0] * w[1], w[2], w[3]),
        (DType::F32, true) => 4 * fast::packed_len(w[0] * w[1], w[3], w[2]),
        _ => 0,
    }
}

/// `g * f'(z)` with `f'` read from the output: inputs `y`, cotangent and, if one was added, the residual.
#[derive(Debug)]
struct ActivationGrad {
    activation: Activation,
}

impl Operator for ActivationGrad {
    fn name(&self) -> &'static str {
        "activation_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs("activation_grad", inputs, 2..=3)?;
        Ok(inputs[1])
    }

    fn vjp(&self, _: &mut Tape, _: Var, _: Var) -> Result<Vec<Option<Var>>> {
        Err(Error::NotDifferentiable {
            op: "activation_grad",
            detail: "second derivatives are not supported".into(),
        })
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(f: Activation, io: &mut CpuIo<'_>) -> Result<()> {
            const CHUNK: usize = 4096;
            let (y, g) = (io.input::<T>(0)?, io.input::<T>(1)?);
            let residual = if io.len() == 3 {
                Some(io.input::<T>(2)?)
            } else {
                None
            };
            for_chunks(io.output::<T>()?, CHUNK, |i, out| {
                let at = i * CHUNK..i * CHUNK + out.len();
                let (y, g) = (&y[at.clone()], &g[at.clone()]);
                match residual {
                    None => {
                        for ((o, &y), &g) in out.iter_mut().zip(y).zip(g) {
                            *o = g * f.derivative(y);
                        }
                    }
                    Some(r) => {
                        for (((o, &y), &g), &r) in out.iter_mut().zip(y).zip(g).zip(&r[at]) {
                            *o = g * f.derivative(y - r);
                        }
                    }
                }
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), "activation_grad", T => run::<T>(self.activation, &mut io))
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        2 * output.shape.len() as u64
    }
}

/// Gradient of [`conv2d`] with respect to its input: the transposed convolution of the cotangent
/// with the same kernel, in gather form. Inputs: cotangent, kernel.
#[derive(Debug)]
struct Conv2dInputGrad {
    options: ConvOptions,
    size: (usize, usize),
}

impl Conv2dInputGrad {
    fn sizes(&self, inputs: [[usize; 4]; 2]) -> Result<Sizes> {
        let [g, w] = inputs;
        let x = [g[0], self.size.0, self.size.1, w[2]];
        self.options.sizes("conv2d_input_grad", x, w)
    }
}

impl Operator for Conv2dInputGrad {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("conv2d_input_grad", inputs, 2..=2)?;
        let (g, w) = (inputs[0].shape.padded4(), inputs[1].shape.padded4());
        let s = self.sizes([g, w])?;
        if g != [s.n, s.rows.y, s.cols.y, w[3]] {
            return Err(Error::shape(
                "conv2d_input_grad",
                format!("cotangent {g:?} does not belong to kernel {w:?}"),
            ));
        }
        Ok(Meta::new([g[0], self.size.0, self.size.1, w[2]], dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        // Bilinear in (g, w), and the adjoint of `x -> conv2d(x, w)`.
        let (g, w) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let [kh, kw, ..] = t.shape(w).padded4();
        let plain = ConvOptions {
            activation: Activation::None,
            ..self.options
        };
        let dg = conv2d(t, cotangent, w, None, None, plain)?;
        let dw = t.record(
            Conv2dWeightGrad {
                options: plain,
                kernel: (kh, kw),
            },
            &[cotangent, g],
        )?;
        Ok(vec![Some(dg), Some(dw)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let (g, w) = (io.shape(0).padded4(), io.shape(1).padded4());
        let sizes = self.sizes([g, w])?;
        let (cin, cout) = (w[2], w[3]);
        if io.dtype() == DType::F32 {
            let weight = io.input::<f32>(1)?;
            let job = fast::Job {
                input: io.input(0)?,
                batch: sizes.n,
                rows: sizes.rows,
                cols: sizes.cols,
                cin: cout,
                cout: cin,
                epilogue: fast::Epilogue {
                    bias: None,
                    activation: Activation::None,
                    residual: None,
                },
                transposed: true,
            };
            let at = |ky, kx, co, ci| weight[((ky * w[1] + kx) * cin + ci) * cout + co];
            fast::run(&job, at, io.output()?, io.scratch()?);
            return Ok(());
        }
        dispatch_real!(io.dtype(), "conv2d_input_grad", T => {
            reference::input_grad(&sizes, (cin, cout), io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>()?);
            Ok(())
        })
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let w = inputs[1].shape.padded4();
        self.sizes([inputs[0].shape.padded4(), w])
            .map_or(0, |s| 2 * macs(&s, w[2], w[3]))
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        packed_bytes(inputs[0].dtype, inputs[1].shape.padded4(), true)
    }
}

/// Gradient of [`conv2d`] with respect to its kernel. Inputs: input, cotangent.
#[derive(Debug)]
struct Conv2dWeightGrad {
    options: ConvOptions,
    kernel: (usize, usize),
}

impl Conv2dWeightGrad {
    fn sizes(&self, x: [usize; 4], g: [usize; 4]) -> Result<Sizes> {
        let w = [self.kernel.0, self.kernel.1, x[3], g[3]];
        self.options.sizes("conv2d_weight_grad", x, w)
    }
}

impl Operator for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("conv2d_weight_grad", inputs, 2..=2)?;
        let (x, g) = (inputs[0].shape.padded4(), inputs[1].shape.padded4());
        let s = self.sizes(x, g)?;
        if g != [s.n, s.rows.y, s.cols.y, g[3]] {
            return Err(Error::shape(
                "conv2d_weight_grad",
                format!("cotangent {g:?} does not belong to input {x:?}"),
            ));
        }
        Ok(Meta::new([self.kernel.0, self.kernel.1, x[3], g[3]], dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        // Bilinear in (x, g).
        let (x, g) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let [_, h, w, _] = t.shape(x).padded4();
        let plain = ConvOptions {
            activation: Activation::None,
            ..self.options
        };
        let dx = t.record(
            Conv2dInputGrad {
                options: plain,
                size: (h, w),
            },
            &[g, cotangent],
        )?;
        let dg = conv2d(t, x, cotangent, None, None, plain)?;
        Ok(vec![Some(dx), Some(dg)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let (x, g) = (io.shape(0).padded4(), io.shape(1).padded4());
        let sizes = self.sizes(x, g)?;
        if io.dtype() == DType::F32 {
            let job = weight::WeightJob {
                x: io.input(0)?,
                g: io.input(1)?,
                batch: sizes.n,
                rows: sizes.rows,
                cols: sizes.cols,
                cin: x[3],
                cout: g[3],
            };
            weight::run(job, io.output()?, io.scratch()?);
            return Ok(());
        }
        dispatch_real!(io.dtype(), "conv2d_weight_grad", T => {
            reference::weight_grad(&sizes, (x[3], g[3]), io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>()?);
            Ok(())
        })
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let (x, g) = (inputs[0].shape.padded4(), inputs[1].shape.padded4());
        self.sizes(x, g).map_or(0, |s| 2 * macs(&s, x[3], g[3]))
    }

    fn workspace(&self, inputs: &[Meta], output: Meta) -> usize {
        let g = inputs[1].shape.padded4();
        match output.dtype {
            DType::F32 => 4 * weight::scratch_len(g[0], g[1], output.shape.len()),
            _ => 0,
        }
    }
}
