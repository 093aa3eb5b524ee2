//! What the gradients of a convolution are made of: the epilogue's derivative and the two adjoints.

use super::cpu::{direct, job, reference, weight};
use super::{Conv2d, ConvOptions, Sizes, Variant, cuda, macs, scratch_bytes};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::CudaIo;
use crate::ops::Activation;
use crate::tape::{Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{DType, Real};
use crate::{Error, Result, dispatch_real};

/// `g * f'(z)` with `f'` read from the output: inputs `y`, cotangent and, if one was added, the residual.
#[derive(Debug)]
pub(super) struct ActivationGrad {
    pub activation: Activation,
}

impl Operator for ActivationGrad {
    fn name(&self) -> &'static str {
        "activation_grad"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
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

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        cuda::activation_grad(io, self.activation)
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        2 * output.shape.len() as u64
    }
}

fn plain_conv(options: ConvOptions, variant: Variant) -> Conv2d {
    Conv2d {
        options,
        bias: false,
        residual: false,
        variant,
    }
}

/// Gradient of [`conv2d`](super::conv2d) with respect to its input: the transposed convolution of the cotangent
/// with the same kernel, in gather form. Inputs: cotangent, kernel.
#[derive(Debug)]
pub(super) struct Conv2dInputGrad {
    pub options: ConvOptions,
    pub size: (usize, usize),
    pub variant: Variant,
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

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
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
        let dg = t.record(plain_conv(plain, self.variant), &[cotangent, w])?;
        let dw = t.record(
            Conv2dWeightGrad {
                options: plain,
                kernel: (kh, kw),
                variant: self.variant,
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
            let job = job::Job {
                input: io.input(0)?,
                batch: sizes.n,
                rows: sizes.rows,
                cols: sizes.cols,
                cin: cout,
                cout: cin,
                epilogue: job::Epilogue {
                    bias: None,
                    activation: Activation::None,
                    residual: None,
                },
                transposed: true,
            };
            let at = |ky, kx, co, ci| weight[((ky * w[1] + kx) * cin + ci) * cout + co];
            direct::run(&job, &at, io.output()?, io.scratch()?);
            return Ok(());
        }
        dispatch_real!(io.dtype(), "conv2d_input_grad", T => {
            reference::input_grad(&sizes, (cin, cout), io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let (g, w) = (io.shape(0).padded4(), io.shape(1).padded4());
        let job = cuda::Job {
            sizes: self.sizes([g, w])?,
            channels: (w[2], w[3]),
            variant: self.variant,
        };
        cuda::input_grad(io, &job)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let w = inputs[1].shape.padded4();
        self.sizes([inputs[0].shape.padded4(), w])
            .map_or(0, |s| 2 * macs(&s, w[2], w[3]))
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        scratch_bytes(inputs[0].dtype, inputs[1].shape.padded4(), true)
    }
}

/// Gradient of [`conv2d`](super::conv2d) with respect to its kernel. Inputs: input, cotangent.
#[derive(Debug)]
pub(super) struct Conv2dWeightGrad {
    pub options: ConvOptions,
    pub kernel: (usize, usize),
    pub variant: Variant,
}

impl Conv2dWeightGrad {
    fn sizes(&self, x: [usize; 4], g: [usize; 4]) -> Result<Sizes> {
        let w = [self.kernel.0, self.kernel.1, x[3], g[3]];
        self.options.sizes("conv2d_weight_grad", x, w)
    }

    fn job(&self, x: [usize; 4], g: [usize; 4]) -> Result<cuda::Job> {
        Ok(cuda::Job {
            sizes: self.sizes(x, g)?,
            channels: (x[3], g[3]),
            variant: self.variant,
        })
    }
}

impl Operator for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
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
                variant: self.variant,
            },
            &[g, cotangent],
        )?;
        let dg = t.record(plain_conv(plain, self.variant), &[x, cotangent])?;
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

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let job = self.job(io.shape(0).padded4(), io.shape(1).padded4())?;
        cuda::weight_grad(io, &job)
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
    fn cuda_workspace(&self, inputs: &[Meta], output: Meta) -> usize {
        self.job(inputs[0].shape.padded4(), inputs[1].shape.padded4())
            .map_or(0, |job| cuda::weight_grad_bytes(&job, output.dtype))
    }
}
