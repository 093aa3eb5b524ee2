//! Records layers with their parameters, named after the part of the network they stand in.

use crate::hash::Fnv1a;
use crate::ops::{self, Activation, ConvOptions, Padding, SeparableOptions, SeparableWeights};
use crate::tape::{ParamStore, Tape, Var};
use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Result};
use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64Mcg;

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros.
    Zero,
    /// Normal with this standard deviation, cut at two of them.
    Normal(f64),
}

/// Name, shape and initial distribution of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name in the parameter store and in files of weights.
    pub name: String,
    /// Dimensions of the tensor.
    pub shape: Shape,
    /// Distribution of the initial values.
    pub init: Init,
}

/// A layer of a [`Builder`]: kernel side, output channels and what follows.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Side of the square kernel, odd.
    pub k: usize,
    /// Output channels.
    pub cout: usize,
    /// Pixels between two windows, in both directions.
    pub stride: usize,
    /// Whether a bias per output channel is added.
    pub bias: bool,
    /// Function applied after the bias.
    pub activation: Activation,
    /// Added after the activation.
    pub residual: Option<Var>,
    /// Factor on the usual initial standard deviation.
    pub gain: f64,
}

impl Layer {
    /// A layer of stride 1 with a bias, without activation or residual.
    pub fn new(k: usize, cout: usize) -> Self {
        Self {
            k,
            cout,
            stride: 1,
            bias: true,
            activation: Activation::None,
            residual: None,
            gain: 1.0,
        }
    }

    /// The same layer with another stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same layer without a bias.
    pub fn no_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }

    /// The same layer with another activation.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The last layer of a residual branch: begins small, so that the whole block begins near the
    /// identity.
    pub fn onto(self, residual: Var) -> Self {
        Self {
            residual: Some(residual),
            gain: 0.1,
            ..self
        }
    }
}

/// Records layers on a tape and remembers their parameters.
pub struct Builder<'t> {
    /// Tape that is recorded on.
    pub tape: &'t mut Tape,
    specs: Vec<ParamSpec>,
}

impl<'t> Builder<'t> {
    /// A builder on this tape, without parameters.
    pub fn new(tape: &'t mut Tape) -> Self {
        Self {
            tape,
            specs: Vec::new(),
        }
    }

    /// Parameters recorded so far, in order.
    pub fn into_specs(self) -> Vec<ParamSpec> {
        self.specs
    }

    /// The tape, and the parameters recorded so far, in order.
    pub fn into_parts(self) -> (&'t mut Tape, Vec<ParamSpec>) {
        (self.tape, self.specs)
    }

    /// Runs `f` below the name `part`.
    pub fn part<R>(&mut self, part: &str, f: impl FnOnce(&mut Builder<'_>) -> R) -> R {
        let specs = std::mem::take(&mut self.specs);
        let (result, specs) = self.tape.scope(part, |tape| {
            let mut inner = Builder { tape, specs };
            let result = f(&mut inner);
            (result, inner.specs)
        });
        self.specs = specs;
        result
    }

    /// Channels of an activation.
    pub fn channels(&self, x: Var) -> usize {
        self.tape.shape(x).padded4()[3]
    }

    /// A parameter below the current part.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Var> {
        let scope = self.tape.scope_name();
        let name = if scope.is_empty() {
            name.to_string()
        } else {
            format!("{scope}.{name}")
        };
        let shape = shape.into();
        let var = self.tape.param(&name, shape)?;
        self.specs.push(ParamSpec { name, shape, init });
        Ok(var)
    }

    /// `conv k x k` with parameters `NAME.weight` and `NAME.bias`.
    pub fn conv(&mut self, name: &str, x: Var, layer: Layer) -> Result<Var> {
        let w = self.kernel(name, x, layer)?;
        let bias = if layer.bias {
            Some(self.bias(name, layer.cout)?)
        } else {
            None
        };
        let options = ConvOptions {
            stride: layer.stride,
            dilation: 1,
            padding: Padding::Same,
            activation: layer.activation,
        };
        ops::conv2d(self.tape, x, w, bias, layer.residual, options)
    }

    /// sigma, then depthwise `k x k` with parameters `DEPTHWISE.weight` and `.bias`, then the 1 x 1
    /// `layer` with `POINTWISE.weight` and `.bias`. `slope` is that of sigma, if it stands there.
    pub fn separable(
        &mut self,
        [depthwise, pointwise]: [&str; 2],
        x: Var,
        (k, dilation): (usize, usize),
        slope: Option<f32>,
        layer: Layer,
    ) -> Result<Var> {
        let c = self.channels(x);
        let init = he_normal(k * k, 1.0);
        let weights = SeparableWeights {
            depthwise: self.param(&format!("{depthwise}.weight"), [k, k, 1, c], init)?,
            depthwise_bias: self.bias(depthwise, c)?,
            pointwise: self.kernel(pointwise, x, layer)?,
            pointwise_bias: self.bias(pointwise, layer.cout)?,
        };
        let options = SeparableOptions {
            dilation,
            slope,
            activation: layer.activation,
        };
        ops::separable_conv2d(self.tape, x, weights, layer.residual, options)
    }

    /// The 1 x 1 `layer` with parameter `NAME.weight` and no bias, enlarged to `size`, plus its residual.
    pub fn upsample(
        &mut self,
        name: &str,
        x: Var,
        size: (usize, usize),
        layer: Layer,
    ) -> Result<Var> {
        let w = self.kernel(name, x, layer)?;
        ops::pointwise_upsample(self.tape, x, w, size, layer.residual)
    }

    /// The parameter `NAME.weight` of a convolution of `x`.
    fn kernel(&mut self, name: &str, x: Var, layer: Layer) -> Result<Var> {
        let cin = self.channels(x);
        let init = he_normal(layer.k * layer.k * cin, layer.gain);
        let shape = [layer.k, layer.k, cin, layer.cout];
        self.param(&format!("{name}.weight"), shape, init)
    }

    /// The parameter `NAME.bias`.
    fn bias(&mut self, name: &str, channels: usize) -> Result<Var> {
        self.param(&format!("{name}.bias"), [channels], Init::Zero)
    }
}

/// He, Zhang, Ren, Sun 2015 for a leaky ReLU of slope 0.2: variance `2 / ((1 + 0.2^2) fan_in)`.
pub(super) fn he_normal(fan_in: usize, gain: f64) -> Init {
    let slope = f64::from(super::SLOPE);
    Init::Normal(gain * (2.0 / ((1.0 + slope * slope) * fan_in as f64)).sqrt())
}

/// Fills `store` with the initial values of `specs`. Parameter `i` draws from its own stream of
/// `seed`, so adding a layer does not change the others.
pub fn initial_params(
    specs: &[ParamSpec],
    seed: u64,
    dtype: DType,
    store: &ParamStore,
) -> Result<()> {
    for spec in specs {
        let value = match spec.init {
            Init::Zero => Tensor::full(spec.shape, dtype, 0.0),
            Init::Normal(std) => {
                let mut name = Fnv1a::new();
                name.write(spec.name.as_bytes());
                let mut rng = Pcg64Mcg::seed_from_u64(seed ^ name.finish());
                let normal = Normal::new(0.0, std)
                    .map_err(|e| Error::Internal(format!("initial {}: {e}", spec.name)))?;
                let mut draw = || loop {
                    let v: f64 = normal.sample(&mut rng);
                    if v.abs() <= 2.0 * std {
                        return v;
                    }
                };
                let values: Vec<f64> = (0..spec.shape.len()).map(|_| draw()).collect();
                Tensor::from_vec(spec.shape, values)?.to_dtype(dtype)
            }
        };
        store.set(&spec.name, &value)?;
    }
    Ok(())
}
