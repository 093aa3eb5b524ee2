//! Operators: one file or folder for each. A file holds, in this order, the function that users
//! call, the operator with its shape rule and vjp, its CPU code, and its cases for the registry.

mod activation;
mod box_filter;
mod channel_conv;
mod conv;
mod depthwise;
mod guided;
mod parts;
mod pool;
mod reflect_pad;
pub mod registry;
mod resize;
pub(crate) mod simd;

pub use activation::Activation;
pub use box_filter::box_filter;
pub use channel_conv::channel_conv1d;
pub use conv::{Conv2d, ConvOptions, MAX_K as MAX_KERNEL, conv2d};
pub use depthwise::{DepthwiseOptions, depthwise_conv2d};
pub use guided::guided_filter;
pub use pool::max_pool2d;
pub use reflect_pad::reflect_pad;
pub use resize::resize_bilinear;

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
