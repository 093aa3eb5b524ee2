//! What an operator must offer.

use super::{Banded, Tape, Var};
use crate::device::cpu::CpuIo;
use crate::device::launch::CudaIo;
use crate::onnx::{Graph, Operand, Value};
use crate::tensor::{DType, Shape};
use crate::{Error, Result};
use std::fmt::Debug;

/// Shape and element type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Dimensions, outermost first.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Meta {
    /// A shape together with an element type.
    pub fn new(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self {
            shape: shape.into(),
            dtype,
        }
    }

    /// Size of the value in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.len() * self.dtype.size()
    }
}

/// Work of one node: floating-point operations (a multiply-add counts as two) and bytes moved to
/// and from memory when nothing stays in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

/// One operation of the engine: its shape rule, its derivative and its code for each device.
///
/// An operator has any number of inputs and one output. See `docs/adding-an-operator.md`.
pub trait Operator: Debug + Send + Sync {
    /// Name in dumps, timings and error messages.
    fn name(&self) -> &'static str;

    /// Output shape and dtype, or an error that names both shapes.
    fn output(&self, inputs: &[Meta]) -> Result<Meta>;

    /// Records the vector-Jacobian product: for every input, the gradient node given the cotangent
    /// of the output, or `None` where the input has no gradient. What nobody asked for is dropped
    /// before execution, so no case distinction is needed here.
    fn vjp(&self, tape: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>>;

    /// Runs on the CPU.
    fn cpu(&self, io: CpuIo<'_>) -> Result<()>;

    /// Lists the kernels that compute this on a CUDA card, for f32 and, unless it trains, f16.
    /// Called once for each node of a session.
    fn cuda(&self, _io: &mut CudaIo<'_>) -> Result<()> {
        Err(Error::Device {
            device: "cuda".into(),
            detail: format!("{} has no kernel", self.name()),
            way_out: "use the CPU".into(),
        })
    }

    /// Writes this into an ONNX graph, where pictures are `[N, C, H, W]`, with the standard operators of
    /// opset [`OPSET`](crate::onnx::OPSET); gives the value that stands for the output.
    ///
    /// # Errors
    /// [`Error::Config`] where there is no ONNX form: for all operators that inference does without.
    fn onnx(&self, _g: &mut Graph, _inputs: &[Operand]) -> Result<Value> {
        Err(Error::config(
            "export",
            format!(
                "{} has no ONNX form; docs/onnx.md lists those that have one",
                self.name()
            ),
        ))
    }

    /// Floating-point operations; a multiply-add is two.
    fn flops(&self, inputs: &[Meta], output: Meta) -> u64;

    /// Multiply-adds of its convolutions in a forward pass, by which the literature measures networks.
    fn multiply_adds(&self, _inputs: &[Meta], _output: Meta) -> u64 {
        0
    }

    /// Bytes of scratch memory that [`Operator::cpu`] wants.
    fn workspace(&self, _inputs: &[Meta], _output: Meta) -> usize {
        0
    }

    /// Bytes of scratch memory that [`Operator::cuda`] wants.
    fn cuda_workspace(&self, _inputs: &[Meta], _output: Meta) -> usize {
        0
    }

    /// This operator as one that can compute a few rows at a time, if it can.
    fn banded(&self) -> Option<&dyn Banded> {
        None
    }

    /// Inputs (parameters) that this operator updates in place; such a node is an effect and is
    /// never dropped.
    fn mutates(&self) -> &'static [usize] {
        &[]
    }

    /// FLOPs, and every input read and the output written once.
    fn cost(&self, inputs: &[Meta], output: Meta) -> Cost {
        let updated: usize = self.mutates().iter().map(|&i| inputs[i].bytes()).sum();
        Cost {
            flops: self.flops(inputs, output),
            read: inputs.iter().map(|m| m.bytes() as u64).sum(),
            written: (output.bytes() + updated) as u64,
        }
    }
}

/// Checks the number of inputs and that all have one dtype; for use in [`Operator::output`].
pub fn check_inputs(
    op: &'static str,
    inputs: &[Meta],
    allowed: std::ops::RangeInclusive<usize>,
) -> Result<DType> {
    if !allowed.contains(&inputs.len()) {
        return Err(Error::shape(
            op,
            format!("takes {allowed:?} inputs, {} were given", inputs.len()),
        ));
    }
    let Some(first) = inputs.first() else {
        return Err(Error::shape(op, "takes at least one input"));
    };
    for (i, m) in inputs.iter().enumerate() {
        if m.dtype != first.dtype {
            return Err(Error::DType {
                what: format!("{op}, input {i}"),
                expected: first.dtype.to_string(),
                found: m.dtype.to_string(),
            });
        }
    }
    Ok(first.dtype)
}

/// Checks one shape; for use in [`Operator::output`].
pub fn expect_shape(op: &'static str, what: &str, found: Shape, wanted: Shape) -> Result<()> {
    if found != wanted {
        return Err(Error::shape(
            op,
            format!("{what} has shape {found}, must be {wanted}"),
        ));
    }
    Ok(())
}
