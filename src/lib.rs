//! `hafuse`: a multi-modality image fusion engine.

pub mod cli;
pub mod data;
pub mod device;
pub mod error;
pub mod infer;
pub mod loss;
pub mod net;
pub mod ops;
pub mod synth;
pub mod tape;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
pub use tape::{ParamStore, Session, SessionOptions, Tape, Var};
pub use tensor::{DType, Real, Shape, Tensor};
