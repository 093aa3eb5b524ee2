//! Operators: one file or folder for each. A file holds, in this order, the function that users
//! call, the operator with its shape rule and vjp, its CPU code, and its cases for the registry.

mod attention;
mod binary;
mod box_filter;
mod channel_conv;
mod channel_stats;
mod clip;
mod concat;
mod conv;
mod depthwise;
mod gate;
mod guided;
mod levels;
mod mixed;
mod optim;
mod pool;
mod reduce;
mod reflect_pad;
#[doc(hidden)]
pub mod registry;
mod resize;
mod separable;
mod stencil;
mod support;
mod unary;
mod upsample;

pub use attention::{channel_attention, spatial_attention};
pub use binary::{add, div, maximum, mul, sub};
pub use box_filter::box_filter;
pub use channel_conv::channel_conv1d;
pub use channel_stats::{channel_range, channel_stats};
pub use clip::clip_norm;
pub use concat::{MAX_CONCAT, concat, slice_channels};
pub use conv::{Conv2d, ConvOptions, conv2d};
pub use depthwise::{DepthwiseOptions, depthwise_conv2d};
pub use gate::{gate, lerp};
pub use guided::guided_filter;
pub(crate) use levels::FLAT;
pub(crate) use levels::balance_factor;
pub use levels::{balance, picture_levels};
pub use mixed::{softmax, weighted_sum};
pub use optim::{AdamOptions, SgdOptions, adam, sgd};
pub use pool::max_pool2d;
pub use reduce::{broadcast_to, mean_all, mean_positions, mean_samples, sum_all, sum_to};
pub(crate) use reflect_pad::mirrored;
pub use reflect_pad::{crop, reflect_pad};
pub use resize::resize_bilinear;
pub use separable::{SeparableOptions, SeparableWeights, separable_conv2d};
pub use stencil::{gaussian_window, image_gradient, laplacian};
pub use support::activation::Activation;
use support::{broadcast, lanes, parts, sum, window};
pub use unary::{
    abs, clamp, exp, leaky_relu, log, neg, offset, recip, relu, scale, sigmoid, soft_clamp, sqrt,
    square, tanh,
};
pub use upsample::pointwise_upsample;

/// What surrounds the picture under a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Padding {
    /// Zeros, `dilation * (k - 1) / 2` on each side: the output is `ceil(size / stride)`. Needs an
    /// odd kernel.
    #[default]
    Same,
    /// Nothing: only whole windows count.
    Valid,
}
