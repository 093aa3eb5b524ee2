//! The ten operators of section 2.2.2. All keep shape and channels.

use super::builder::{Builder, Init, Layer, he_normal};
use super::genotype::OpKind;
use crate::Result;
use crate::ops::{self, Activation};
use crate::tape::Var;

/// Slope of the leaky ReLU, sigma below.
pub const SLOPE: f32 = 0.2;

const SIGMA: Activation = Activation::LeakyRelu(SLOPE);

/// Records operator `kind` on `x`; parameters are named below the builder's current part.
pub fn record_operator(b: &mut Builder<'_>, kind: OpKind, x: Var) -> Result<Var> {
    match kind {
        OpKind::Separable3 => separable(b, x, 3),
        OpKind::Separable5 => separable(b, x, 5),
        OpKind::Dilated3 => dilated(b, x, 3),
        OpKind::Dilated5 => dilated(b, x, 5),
        OpKind::Residual3 => residual(b, x, 3),
        OpKind::Residual5 => residual(b, x, 5),
        OpKind::Dense3 => dense(b, x, 3),
        OpKind::Dense5 => dense(b, x, 5),
        OpKind::SpatialAttention => spatial_attention(b, x),
        OpKind::ChannelAttention => channel_attention(b, x),
    }
}

/// (sigma, depthwise k x k, 1 x 1) twice. The second sigma is the first 1 x 1's epilogue.
fn separable(b: &mut Builder<'_>, x: Var, k: usize) -> Result<Var> {
    let layer = Layer::new(1, b.channels(x));
    let names = ["depthwise1", "pointwise1"];
    let y = b.separable(names, x, (k, 1), Some(SLOPE), layer.activation(SIGMA))?;
    b.separable(["depthwise2", "pointwise2"], y, (k, 1), None, layer)
}

/// sigma, depthwise k x k of dilation 2, 1 x 1, + x.
fn dilated(b: &mut Builder<'_>, x: Var, k: usize) -> Result<Var> {
    let layer = Layer::new(1, b.channels(x)).onto(x);
    b.separable(["depthwise", "pointwise"], x, (k, 2), Some(SLOPE), layer)
}

/// conv k x k, sigma, conv k x k, + x.
fn residual(b: &mut Builder<'_>, x: Var, k: usize) -> Result<Var> {
    let c = b.channels(x);
    let y = b.conv("conv1", x, Layer::new(k, c).activation(SIGMA))?;
    b.conv("conv2", y, Layer::new(k, c).onto(x))
}

/// x1 = sigma(conv([x])), x2 = sigma(conv([x, x1])), x3 = sigma(conv([x, x1, x2])); x + x3.
fn dense(b: &mut Builder<'_>, x: Var, k: usize) -> Result<Var> {
    let c = b.channels(x);
    let layer = Layer::new(k, c).activation(SIGMA);
    let x1 = b.conv("conv1", x, layer)?;
    let two = ops::concat(b.tape, &[x, x1])?;
    let x2 = b.conv("conv2", two, layer)?;
    let three = ops::concat(b.tape, &[x, x1, x2])?;
    b.conv("conv3", three, layer.onto(x))
}

/// s = conv 3x3(x); u = conv 3x3(sigma(s)): the trunk of both attention blocks.
fn attention_trunk(b: &mut Builder<'_>, x: Var) -> Result<Var> {
    let c = b.channels(x);
    let s = b.conv("conv1", x, Layer::new(3, c).activation(SIGMA))?;
    // Begins small for the same reason as a residual branch.
    let layer = Layer {
        gain: 0.1,
        ..Layer::new(3, c)
    };
    b.conv("conv2", s, layer)
}

/// u * sigmoid(conv 5x5([max_c u, mean_c u])) + x.
fn spatial_attention(b: &mut Builder<'_>, x: Var) -> Result<Var> {
    let u = attention_trunk(b, x)?;
    let w = b.param("attention.weight", [5, 5, 2, 1], he_normal(5 * 5 * 2, 1.0))?;
    let bias = b.param("attention.bias", [1], Init::Zero)?;
    ops::spatial_attention(b.tape, u, w, bias, x)
}

/// u * sigmoid(conv1d over channels, k = 3 (mean over positions of u)) + x.
fn channel_attention(b: &mut Builder<'_>, x: Var) -> Result<Var> {
    let u = attention_trunk(b, x)?;
    let w = b.param("attention.weight", [3], Init::Normal(0.3))?;
    ops::channel_attention(b.tape, u, w, x)
}
