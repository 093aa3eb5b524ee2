//! `hafuse`: a multi-modality image fusion engine.

pub mod data;
pub mod error;
pub mod tensor;

pub use error::{Error, Result};
pub use tensor::{DType, Real, Shape, Tensor};
