//! ONNX graphs: the messages of the file format, and the nodes that operators write themselves as.

mod graph;
pub mod proto;

pub use graph::{Attribute, Graph, Operand, Slide, Value};

/// The set of operators that is used, without a domain of its own.
pub const OPSET: i64 = 17;
/// Version of the file format that goes with it.
pub const IR_VERSION: i64 = 8;
