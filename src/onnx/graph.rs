//! The ONNX graph that operators write themselves into.

use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value in the graph: an input, an initializer or what a node computes. Pictures are `[N, C, H, W]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(Arc<str>);

impl Value {
    /// Name in the graph, unique.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// An input of a node of the tape.
#[derive(Clone, Debug)]
pub enum Operand {
    /// In the graph already.
    Computed(Value),
    /// A parameter or constant, laid out as the tape has it; its reader says how ONNX wants it.
    Known {
        /// Name of the parameter or constant.
        name: String,
        /// Its values.
        tensor: Arc<Tensor>,
    },
}

impl Operand {
    /// A value of the graph.
    ///
    /// # Errors
    /// [`Error::Config`] for a parameter: `op` has an ONNX form for values that are computed only.
    pub fn value(&self, op: &str) -> Result<&Value> {
        match self {
            Operand::Computed(value) => Ok(value),
            Operand::Known { name, .. } => Err(Error::config(
                "export",
                format!(
                    "{op} reads the parameter `{name}` where only a computed value has an ONNX form"
                ),
            )),
        }
    }

    /// A parameter or constant.
    ///
    /// # Errors
    /// [`Error::Config`] for a computed value: kernels and biases have to be known when a file is written.
    pub fn tensor(&self, op: &str) -> Result<(&str, &Tensor)> {
        match self {
            Operand::Known { name, tensor } => Ok((name, tensor)),
            Operand::Computed(value) => Err(Error::config(
                "export",
                format!(
                    "{op} takes its weights from the computed value `{}`, which has no ONNX form",
                    value.name()
                ),
            )),
        }
    }
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A number.
    Float(f32),
    /// A whole number.
    Int(i64),
    /// Whole numbers, as pads or strides.
    Ints(Vec<i64>),
    /// A string, as the mode of a node.
    Text(&'static str),
}

/// A node with one output, after which it is named unless that was [renamed](Graph::rename_last).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Type of the operator in ONNX, e.g. `Conv`.
    pub op: &'static str,
    /// Name of the node, unique.
    pub name: String,
    /// Names of values; "" leaves an optional one out.
    pub inputs: Vec<String>,
    /// Name of the value that it computes.
    pub output: String,
    /// Names and values of the attributes.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// Element type of a [`Constant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// 64-bit integer, as shapes are.
    I64,
}

/// An initializer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Name of the value in the graph, unique.
    pub name: String,
    /// Element type.
    pub element: Element,
    /// Dimensions, outermost first.
    pub dims: Vec<usize>,
    /// Little-endian.
    pub bytes: Vec<u8>,
}

/// How a convolution slides, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slide {
    /// Pixels between two windows.
    pub stride: usize,
    /// Pixels between two taps of a kernel; 1 is dense.
    pub dilation: usize,
    /// Zeros around the picture, `dilation * (k - 1) / 2` on each side.
    pub same: bool,
    /// Groups of channels that meet their own kernels only: 1, or all channels.
    pub groups: usize,
}

/// A graph under construction. Nodes are named after the part of the network that they stand in.
///
/// ```
/// use hafuse::onnx::{Attribute, Graph};
/// let mut g = Graph::new();
/// let x = g.input("x");
/// let y = g.node("LeakyRelu", &[&x], &[("alpha", Attribute::Float(0.2))]);
/// assert_eq!(y.name(), "LeakyRelu");
/// ```
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    constants: Vec<Constant>,
    scope: String,
    /// How often a name was asked for.
    names: BTreeMap<String, usize>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the nodes to come after this part of the network.
    pub fn set_scope(&mut self, scope: &str) {
        self.scope = scope.to_string();
    }

    /// All nodes, each after those that it takes values from.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All initializers.
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// An input; its type is the file's affair.
    pub fn input(&mut self, name: &str) -> Value {
        self.fresh(name.to_string())
    }

    /// A node with one output.
    pub fn node(
        &mut self,
        op: &'static str,
        inputs: &[&Value],
        attributes: &[(&'static str, Attribute)],
    ) -> Value {
        let inputs: Vec<&str> = inputs.iter().map(|v| v.name()).collect();
        self.node_with_gaps(op, &inputs, attributes)
    }

    /// [`Graph::node`] by the names of the inputs, where "" leaves an optional one out.
    pub fn node_with_gaps(
        &mut self,
        op: &'static str,
        inputs: &[&str],
        attributes: &[(&'static str, Attribute)],
    ) -> Value {
        let output = if self.scope.is_empty() {
            self.fresh(op.to_string())
        } else {
            self.fresh(format!("{}/{op}", self.scope))
        };
        self.nodes.push(Node {
            op,
            name: output.name().to_string(),
            inputs: inputs.iter().map(|n| n.to_string()).collect(),
            output: output.name().to_string(),
            attributes: attributes.to_vec(),
        });
        output
    }

    /// Gives the output of the last node another name.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is no node or the name is taken.
    pub fn rename_last(&mut self, name: &str) -> Result<Value> {
        let taken = self.names.contains_key(name);
        match self.nodes.last_mut() {
            Some(node) if !taken => node.output = name.to_string(),
            _ => return Err(Error::Internal(format!("no node to be named `{name}`"))),
        }
        Ok(self.fresh(name.to_string()))
    }

    /// An initializer of f32. One that is asked for again is the same.
    ///
    /// # Errors
    /// [`Error::Internal`] if the name stands for other values.
    pub fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Result<Value> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, Element::F32, dims, bytes)
    }

    /// An initializer of i64, one-dimensional: a shape or sizes.
    ///
    /// # Errors
    /// [`Error::Internal`] if the name stands for other values.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> Result<Value> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, Element::I64, &[values.len()], bytes)
    }

    /// A parameter as it is, in the shape `dims`.
    ///
    /// # Errors
    /// Those of [`Operand::tensor`]; [`Error::Internal`] if `dims` hold another number of values.
    pub fn weights(&mut self, op: &str, operand: &Operand, dims: &[usize]) -> Result<Value> {
        let (name, tensor) = operand.tensor(op)?;
        let values = tensor.to_dtype(DType::F32);
        let values = values.as_slice::<f32>()?;
        if dims.iter().product::<usize>() != values.len() {
            let shape = tensor.shape();
            let detail = format!("`{name}` {shape} in the shape {dims:?} of an initializer");
            return Err(Error::Internal(detail));
        }
        self.floats(name, dims, values)
    }

    /// A convolution of `x [N, C, H, W]`. `kernel` is `[kh, kw, C / groups, cout]` on the tape and
    /// `[cout, C / groups, kh, kw]` in the graph.
    ///
    /// # Errors
    /// Those of [`Operand::tensor`] for kernel and bias, and [`Error::Shape`] unless the kernel has four
    /// dimensions.
    pub fn conv(
        &mut self,
        op: &'static str,
        x: &Value,
        kernel: &Operand,
        bias: Option<&Operand>,
        slide: Slide,
    ) -> Result<Value> {
        let (name, tensor) = kernel.tensor(op)?;
        let [kh, kw, cin, cout] = tensor.shape().dims4(op)?;
        // A depthwise kernel is [k, k, 1, C] on the tape: the same permutation.
        let values = tensor.to_dtype(DType::F32);
        let values = permuted(values.as_slice::<f32>()?, [kh * kw, cin, cout]);
        let mut inputs = vec![x.clone(), self.floats(name, &[cout, cin, kh, kw], &values)?];
        if let Some(bias) = bias {
            inputs.push(self.weights(op, bias, &[cout])?);
        }
        let Slide {
            stride, dilation, ..
        } = slide;
        let pad = |k: usize| {
            if slide.same {
                dilation * (k - 1) / 2
            } else {
                0
            }
        };
        let ints = |values: &[usize]| Attribute::Ints(values.iter().map(|&v| v as i64).collect());
        let inputs: Vec<&Value> = inputs.iter().collect();
        let attributes = [
            ("kernel_shape", ints(&[kh, kw])),
            ("pads", ints(&[pad(kh), pad(kw), pad(kh), pad(kw)])),
            ("strides", ints(&[stride; 2])),
            ("dilations", ints(&[dilation; 2])),
            ("group", Attribute::Int(slide.groups as i64)),
        ];
        Ok(self.node("Conv", &inputs, &attributes))
    }

    fn constant(
        &mut self,
        name: &str,
        element: Element,
        dims: &[usize],
        bytes: Vec<u8>,
    ) -> Result<Value> {
        let wanted = Constant {
            name: name.to_string(),
            element,
            dims: dims.to_vec(),
            bytes,
        };
        match self.constants.iter().find(|t| t.name == name) {
            Some(found) if *found == wanted => return Ok(Value(name.into())),
            None if !self.names.contains_key(name) => {}
            _ => {
                let detail = format!("the name `{name}` stands for two values of a graph");
                return Err(Error::Internal(detail));
            }
        }
        self.constants.push(wanted);
        Ok(self.fresh(name.to_string()))
    }

    /// A name that nothing else has: the wanted one, or with a number.
    fn fresh(&mut self, wanted: String) -> Value {
        let name = match self.names.get(&wanted) {
            None => wanted.clone(),
            Some(&count) => (count + 1..)
                .map(|n| format!("{wanted}_{n}"))
                .find(|name| !self.names.contains_key(name))
                .unwrap_or_default(), // the range does not end
        };
        *self.names.entry(wanted).or_insert(0) += 1;
        self.names.entry(name.clone()).or_insert(1);
        Value(name.into())
    }
}

/// `[taps, cin, cout]` to `[cout, cin, taps]`.
fn permuted(values: &[f32], [taps, cin, cout]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for o in 0..cout {
        for c in 0..cin {
            out.extend((0..taps).map(|t| values[(t * cin + c) * cout + o]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_permuted() {
        // [1, 2, 2, 3]: two taps, two inputs, three outputs; the value says tap, input, output.
        let ours: Vec<f32> = (0..12)
            .map(|i| (i / 6 * 100 + i / 3 % 2 * 10 + i % 3) as f32)
            .collect();
        let theirs = permuted(&ours, [2, 2, 3]);
        assert_eq!(theirs[..4], [0.0, 100.0, 10.0, 110.0]);
        assert_eq!(theirs[8..], [2.0, 102.0, 12.0, 112.0]);
    }

    #[test]
    fn names_are_unique_and_values_have_one_meaning() {
        let mut g = Graph::new();
        let x = g.input("x");
        g.set_scope("part");
        let first = g.node("Relu", &[&x], &[]);
        let second = g.node("Relu", &[&first], &[]);
        assert_eq!([first.name(), second.name()], ["part/Relu", "part/Relu_2"]);
        let one = g.floats("one", &[], &[1.0]).unwrap();
        assert_eq!(g.floats("one", &[], &[1.0]).unwrap(), one);
        assert!(g.floats("one", &[], &[2.0]).is_err());
        assert!(g.rename_last("one").is_err());
        assert_eq!(g.rename_last("y").unwrap().name(), "y");
    }
}
