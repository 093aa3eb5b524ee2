//! The pointwise functions that convolutions apply before they store.

use crate::onnx::{Attribute, Graph, Value};
use crate::tensor::Real;

/// A pointwise function with a derivative that its own output determines.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Activation {
    /// `f(z) = z`.
    #[default]
    None,
    /// `f(z) = z` for `z > 0`, else `slope * z`; a slope of 0 is the ReLU. The slope must not be
    /// negative, so that the sign of the output is that of `z`.
    LeakyRelu(f32),
    /// `f(z) = 1 / (1 + exp(-z))`.
    Sigmoid,
}

impl Activation {
    /// Replaces each value by `f(value)`.
    #[inline(always)]
    pub fn apply<T: Real>(self, values: &mut [T]) {
        match self {
            Activation::None => {}
            Activation::LeakyRelu(slope) => {
                let slope = T::lit(f64::from(slope));
                for v in values {
                    *v = if *v > T::zero() { *v } else { *v * slope };
                }
            }
            Activation::Sigmoid => {
                for v in values {
                    *v = T::one() / (T::one() + (-*v).exp());
                }
            }
        }
    }

    /// Writes `f(x)` into an ONNX graph.
    pub(crate) fn onnx(self, g: &mut Graph, x: Value) -> Value {
        match self {
            Activation::None => x,
            Activation::LeakyRelu(slope) => {
                g.node("LeakyRelu", &[&x], &[("alpha", Attribute::Float(slope))])
            }
            Activation::Sigmoid => g.node("Sigmoid", &[&x], &[]),
        }
    }

    /// Kind and slope, as `Activation` of `kernels/common/kernel.cuh` has them.
    pub(crate) fn code(self) -> (i32, f32) {
        match self {
            Activation::None => (0, 0.0),
            Activation::LeakyRelu(slope) => (1, slope),
            Activation::Sigmoid => (2, 0.0),
        }
    }

    /// `f'(z)` from `y = f(z)`; at a kink the left derivative.
    #[inline(always)]
    pub fn derivative<T: Real>(self, y: T) -> T {
        match self {
            Activation::None => T::one(),
            Activation::LeakyRelu(slope) => {
                if y > T::zero() {
                    T::one()
                } else {
                    T::lit(f64::from(slope))
                }
            }
            Activation::Sigmoid => y * (T::one() - y),
        }
    }
}
