//! Operators: one file or folder for each. A file holds, in this order, the function that users
//! call, the operator with its shape rule and vjp, its CPU code, and its cases for the registry.

mod depthwise;
mod parts;
pub mod registry;

pub use depthwise::{DepthwiseOptions, depthwise_conv2d};

/// What a sliding window does at the borders of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Padding {
    /// Zeros on each side, `dilation * (k - 1) / 2` of them: the output is `ceil(size / stride)`.
    /// Needs an odd kernel.
    #[default]
    Same,
    /// No padding: the window stays inside.
    Valid,
}
