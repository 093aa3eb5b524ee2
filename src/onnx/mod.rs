//! ONNX graphs: nodes and constants that operators write themselves as. [`export`](crate::export) makes a file of them.

mod graph;

pub use graph::{Attribute, Constant, Element, Graph, Node, Operand, Slide, Value};

/// The set of operators that is used, without a domain of its own.
pub const OPSET: i64 = 17;
