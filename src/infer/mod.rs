//! Fusing pictures with a trained model.

mod engine;
mod model;

pub use engine::{Engine, Precision};
pub use model::{BUILTIN, DEFAULT_MODEL, Model};
