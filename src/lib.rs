//! `hafuse`: a multi-modality image fusion engine.

pub mod data;
pub mod device;
pub mod error;
pub mod ops;
pub mod tape;
pub mod tensor;

pub use error::{Error, Result};
pub use tape::{ParamStore, Session, SessionOptions, Tape, Var};
pub use tensor::{DType, Real, Shape, Tensor};
