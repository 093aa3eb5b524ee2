//! Networks for other engines: ONNX files that ONNX Runtime, TensorRT and OpenVINO run.
//!
//! Each operator knows its own ONNX form ([`Operator::onnx`](crate::tape::Operator::onnx)); here the tape
//! of a fusion is walked, node by node. `docs/onnx.md` has the table of forms.

use crate::infer::Model;
use crate::net::fusion_tape;
#[doc(hidden)]
pub mod proto;

use self::proto::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionProto, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::onnx::{Attribute, Element, Graph, OPSET, Operand, Value};
use crate::tape::{Node, Source, Tape, needed_nodes};
use crate::tensor::DType;
use crate::tensor::io::TensorMap;
use crate::{Error, Result};
use prost::Message;
use std::sync::Arc;

/// Version of the file format that goes with [`OPSET`].
const IR_VERSION: i64 = 8;

/// What is fixed of the inputs `[batch, 1, height, width]`; the default leaves all three open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dims {
    /// Pairs at a time, N.
    pub batch: Option<usize>,
    /// Height and width.
    pub size: Option<(usize, usize)>,
}

impl Dims {
    /// Batch, height and width: the number if it is fixed, else the name.
    pub fn named(&self) -> [Result<usize, &'static str>; 3] {
        [
            self.batch.ok_or("batch"),
            self.size.map(|s| s.0).ok_or("height"),
            self.size.map(|s| s.1).ok_or("width"),
        ]
    }
}

/// A model as ONNX, opset [`OPSET`] of the standard domain.
///
/// # Shapes
/// Inputs `a` and `b` and the output `fused` are f32 `[batch, 1, height, width]`, grey values in [0, 1];
/// the output is clamped to them. What `dims` leaves open has a name and takes any value.
///
/// # Errors
/// [`Error::Config`] for an operator without an ONNX form, a size that is 0 or larger than any memory, or a side that
/// is not larger than the border of mirror image that the network wants, which ONNX mirrors only once;
/// [`Error::Weights`] if a parameter is missing.
///
/// ```
/// use hafuse::export::{Dims, onnx};
/// use hafuse::infer::Model;
/// let bytes = onnx(&Model::builtin("ivif-fast")?, Dims::default())?;
/// assert!(bytes.len() > 10_000);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn onnx(model: &Model, dims: Dims) -> Result<Vec<u8>> {
    record(model, dims).map(|file| file.encode_to_vec())
}

fn record(model: &Model, dims: Dims) -> Result<ModelProto> {
    let (height, width) = dims.size.unwrap_or((16, 16));
    let batch = dims.batch.unwrap_or(1);
    let pixels = batch.checked_mul(height).and_then(|p| p.checked_mul(width));
    if matches!(pixels, None | Some(0)) {
        return Err(Error::config(
            "export",
            format!("{batch} pictures of {width} x {height} have no pixels, or too many to count"),
        ));
    }
    let border = model.genotype.frame.border;
    if let Some((height, width)) = dims.size.filter(|(h, w)| *h.min(w) <= border) {
        return Err(Error::config(
            "export",
            format!(
                "pictures of {width} x {height} are too small for ONNX to mirror a border of {border} pixels; \
                 sides of at least {} are needed",
                border + 1
            ),
        ));
    }
    let tape = fusion_tape(&model.genotype, [batch, height, width], DType::F32)?;
    let mut g = Graph::new();
    let fused = walk(&tape, &model.weights, &mut g)?;
    g.set_scope("");
    let (zero, one) = (
        g.floats("zero", &[], &[0.0])?,
        g.floats("one", &[], &[1.0])?,
    );
    g.node("Clip", &[&fused, &zero, &one], &[]);
    g.rename_last("fused")?;
    let graph = GraphProto {
        name: model.name.clone(),
        node: g.nodes().iter().map(node).collect(),
        initializer: g.constants().iter().map(constant).collect(),
        input: ["a", "b"].map(|name| picture(name, dims)).into(),
        output: vec![picture("fused", dims)],
    };
    let version = env!("CARGO_PKG_VERSION").to_string();
    let props = [
        ("model", model.name.clone()),
        ("about", model.about.clone()),
        ("version", version.clone()),
        ("hash", format!("{:016x}", model.hash()?)),
        ("genotype", model.genotype.to_json()?),
    ];
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "hafuse".into(),
        producer_version: version,
        doc_string: "Fuses two registered grey pictures in [0, 1], a and b, into one.".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: props
            .into_iter()
            .map(|(key, value)| StringStringEntryProto {
                key: format!("hafuse.{key}"),
                value,
            })
            .collect(),
    })
}

/// Writes every node that `fused` is made of into the graph; the value of `fused`.
fn walk(tape: &Tape, weights: &TensorMap, g: &mut Graph) -> Result<Value> {
    let fused = tape.output_vars().get("fused").map(|v| v.index());
    let mut operands: Vec<Option<Operand>> = Vec::with_capacity(tape.nodes().len());
    for (i, (node, needed)) in tape.nodes().iter().zip(needed_nodes(tape)).enumerate() {
        if !needed {
            operands.push(None);
            continue;
        }
        g.set_scope(&node.scope);
        operands.push(Some(match &node.source {
            Source::Input(name) => Operand::Computed(g.input(name)),
            Source::Param(name) => Operand::Known {
                name: name.clone(),
                tensor: weights.get(name).cloned().map(Arc::new).ok_or_else(|| {
                    Error::Weights(format!("the network needs `{name}`, which is missing"))
                })?,
            },
            Source::Constant(tensor) => Operand::Known {
                name: format!("constant{i}"),
                tensor: tensor.clone(),
            },
            Source::Op(op) => {
                let inputs = node.inputs.iter().map(|v| operands[v.index()].clone());
                let inputs: Option<Vec<Operand>> = inputs.collect();
                let inputs = inputs.ok_or_else(|| {
                    Error::Internal(format!("{} of what is not needed", op.name()))
                })?;
                check_rank(tape, node, op.name())?;
                Operand::Computed(op.onnx(g, &inputs)?)
            }
        }));
    }
    match fused.and_then(|i| operands[i].as_ref()) {
        Some(Operand::Computed(value)) => Ok(value.clone()),
        _ => Err(Error::Internal(
            "a fusion without the output `fused`".into(),
        )),
    }
}

/// Axes trade places, so only values that have all four mean the same in both layouts.
fn check_rank(tape: &Tape, node: &Node, op: &str) -> Result<()> {
    let computed = |v: &&crate::Var| matches!(tape.nodes()[v.index()].source, Source::Op(_));
    let inputs = node.inputs.iter().filter(computed);
    let shapes = inputs.map(|&v| tape.shape(v)).chain([node.meta.shape]);
    match shapes.into_iter().find(|s| s.rank() != 4) {
        None => Ok(()),
        Some(shape) => Err(Error::config(
            "export",
            format!("{op} with a value of shape {shape}; only four dimensions have an ONNX form"),
        )),
    }
}

fn node(node: &crate::onnx::Node) -> NodeProto {
    NodeProto {
        input: node.inputs.clone(),
        output: vec![node.output.clone()],
        name: node.name.clone(),
        op_type: node.op.to_string(),
        attribute: node.attributes.iter().map(attribute).collect(),
        domain: String::new(),
    }
}

fn constant(constant: &crate::onnx::Constant) -> TensorProto {
    let kind = match constant.element {
        Element::F32 => DataType::Float,
        Element::I64 => DataType::Int64,
    };
    TensorProto {
        dims: constant.dims.iter().map(|&d| d as i64).collect(),
        data_type: kind.into(),
        name: constant.name.clone(),
        raw_data: constant.bytes.clone(),
    }
}

fn attribute((name, value): &(&'static str, Attribute)) -> AttributeProto {
    let mut a = AttributeProto {
        name: name.to_string(),
        ..AttributeProto::default()
    };
    let kind = match value {
        Attribute::Float(v) => {
            a.f = Some(*v);
            AttributeType::Float
        }
        Attribute::Int(v) => {
            a.i = Some(*v);
            AttributeType::Int
        }
        Attribute::Ints(v) => {
            a.ints.clone_from(v);
            AttributeType::Ints
        }
        Attribute::Text(v) => {
            a.s = Some(v.as_bytes().to_vec());
            AttributeType::String
        }
    };
    a.kind = kind.into();
    a
}

/// `name` as `[batch, 1, height, width]`.
fn picture(name: &str, dims: Dims) -> ValueInfoProto {
    let [batch, height, width] = dims.named().map(|d| match d {
        Ok(n) => Dimension::Value(n as i64),
        Err(name) => Dimension::Param(name.into()),
    });
    let dim = [batch, Dimension::Value(1), height, width];
    let dim = dim.map(|value| DimensionProto { value: Some(value) });
    ValueInfoProto {
        name: name.into(),
        kind: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: DataType::Float.into(),
                shape: Some(TensorShapeProto { dim: dim.into() }),
            }),
        }),
    }
}
