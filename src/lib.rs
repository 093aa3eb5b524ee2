//! `hafuse`: a multi-modality image fusion engine.

pub mod cli;
pub mod error;
pub mod synth;
pub mod tensor;

pub use error::{Error, Result};
pub use tensor::{DType, Real, Shape, Tensor};
