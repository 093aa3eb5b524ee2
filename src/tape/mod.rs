//! The Wengert list: record once, symbolically; differentiate; plan memory; run many times; time.
//!
//! ```
//! use hafuse::{ops, Session, Tape, Tensor, DType, ParamStore};
//! let mut t = Tape::new(DType::F32);
//! let x = t.input("x", [3])?;
//! let y = ops::mul(&mut t, x, x)?;
//! let loss = ops::sum_all(&mut t, y)?;            // x.x
//! let dx = t.grad(loss, &[x])?[0];                // 2 x, recorded on the same tape
//! t.output("dx", dx)?;
//! let mut s = Session::new(&t, &ParamStore::default())?;
//! s.set("x", &Tensor::from_vec([3], vec![1.0f32, 2.0, 3.0])?)?;
//! s.run()?;
//! assert_eq!(s.get("dx")?.as_slice::<f32>()?, [2.0, 4.0, 6.0]);
//! # Ok::<(), hafuse::Error>(())
//! ```

mod accumulate;
mod bands;
mod dump;
mod grad;
mod layout;
mod operator;
mod params;
#[doc(hidden)]
pub mod plan;
mod replay;
mod run_cpu;
mod run_cuda;
mod session;

pub(crate) use accumulate::Accumulate;
pub use accumulate::MAX_TERMS;
pub(crate) use accumulate::launch_sum;
pub use bands::{Band, BandSession, Banded};
pub use dump::{NodeReport, format_table};
pub(crate) use layout::needed_nodes;
pub use operator::{Cost, Meta, Operator, check_inputs, expect_shape};
pub use params::ParamStore;
pub use replay::Replay;
pub use session::{Session, SessionOptions};

use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node of a [`Tape`]; only meaningful on the tape that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(u32);

impl Var {
    /// Position in execution order.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a node's value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Set by the caller before each run.
    Input(String),
    /// Lives in a [`ParamStore`] that several sessions may share.
    Param(String),
    /// Known when recording.
    Constant(Arc<Tensor>),
    /// Computed.
    Op(Arc<dyn Operator>),
}

/// One entry of the list.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where its value comes from.
    pub source: Source,
    /// Nodes that it reads.
    pub inputs: Vec<Var>,
    /// Shape and element type of its value.
    pub meta: Meta,
    /// Part of the network this node belongs to, e.g. `ffm.cell1.block0`.
    pub scope: Arc<str>,
}

/// A list of nodes in execution order. Recording checks shapes and touches no data.
#[derive(Clone, Debug)]
pub struct Tape {
    dtype: DType,
    nodes: Vec<Node>,
    inputs: BTreeMap<String, Var>,
    params: BTreeMap<String, Var>,
    outputs: BTreeMap<String, Var>,
    updated: Vec<Var>,
    /// Last node of each part that reverse mode computes again, and its first.
    recomputed: BTreeMap<Var, usize>,
    scope: Arc<str>,
}

impl Tape {
    /// An empty tape whose inputs and parameters are of `dtype`.
    pub fn new(dtype: DType) -> Self {
        Self {
            dtype,
            nodes: Vec::new(),
            inputs: BTreeMap::new(),
            params: BTreeMap::new(),
            outputs: BTreeMap::new(),
            updated: Vec::new(),
            recomputed: BTreeMap::new(),
            scope: Arc::from(""),
        }
    }

    /// Element type of the nodes.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// A value the caller sets before each run.
    pub fn input(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Var> {
        if self.inputs.contains_key(name) {
            return Err(Error::Tape(format!("input `{name}` is recorded twice")));
        }
        let meta = Meta::new(shape, self.dtype);
        let var = self.push(Source::Input(name.to_string()), vec![], meta)?;
        self.inputs.insert(name.to_string(), var);
        Ok(var)
    }

    /// A value of the [`ParamStore`]. Asking for a name again gives the same node.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Var> {
        let shape = shape.into();
        if let Some(&var) = self.params.get(name) {
            if self.shape(var) != shape {
                return Err(Error::Tape(format!(
                    "parameter `{name}` was recorded with shape {}, now {shape}",
                    self.shape(var)
                )));
            }
            return Ok(var);
        }
        let meta = Meta::new(shape, self.dtype);
        let var = self.push(Source::Param(name.to_string()), vec![], meta)?;
        self.params.insert(name.to_string(), var);
        Ok(var)
    }

    /// A value known now; converted to the tape's dtype.
    pub fn constant(&mut self, value: &Tensor) -> Result<Var> {
        let value = value.to_dtype(self.dtype);
        let meta = Meta::new(value.shape(), self.dtype);
        self.push(Source::Constant(Arc::new(value)), vec![], meta)
    }

    /// Applies an operator. Most callers use the functions of [`crate::ops`] instead.
    ///
    /// # Errors
    /// Those of [`Operator::output`]; [`Error::Tape`] if an input was updated by an effect before
    /// (its value would be the new one, and gradients would be wrong).
    pub fn record(&mut self, op: impl Operator + 'static, inputs: &[Var]) -> Result<Var> {
        self.record_shared(Arc::new(op), inputs)
    }

    /// [`Tape::record`] for an operator that is already shared.
    pub fn record_shared(&mut self, op: Arc<dyn Operator>, inputs: &[Var]) -> Result<Var> {
        let mut metas = Vec::with_capacity(inputs.len());
        for &v in inputs {
            let node = self.nodes.get(v.index()).ok_or_else(|| {
                Error::Tape(format!("{} was given a node of another tape", op.name()))
            })?;
            if self.updated.contains(&v) {
                return Err(Error::Tape(format!(
                    "{} reads a parameter after its update; record the update last",
                    op.name()
                )));
            }
            metas.push(node.meta);
        }
        let meta = op.output(&metas)?;
        for &i in op.mutates() {
            let var = inputs[i];
            let unique = inputs.iter().filter(|&&v| v == var).count() == 1;
            if !matches!(self.nodes[var.index()].source, Source::Param(_)) || !unique {
                return Err(Error::Tape(format!(
                    "{} updates its input {i}, which must be a parameter and occur once",
                    op.name()
                )));
            }
        }
        self.updated.extend(op.mutates().iter().map(|&i| inputs[i]));
        self.push(Source::Op(op), inputs.to_vec(), meta)
    }

    /// Names a value that the caller wants to read after a run.
    ///
    /// # Errors
    /// [`Error::Tape`] if the name is taken, or if `var` is a parameter: other sessions may update
    /// that at any time, so read it with [`ParamStore::get`].
    pub fn output(&mut self, name: &str, var: Var) -> Result<()> {
        if let Source::Param(param) = &self.nodes[var.index()].source {
            return Err(Error::Tape(format!(
                "output `{name}` is the parameter `{param}`; read it with ParamStore::get"
            )));
        }
        if self.outputs.insert(name.to_string(), var).is_some() {
            return Err(Error::Tape(format!("output `{name}` is recorded twice")));
        }
        Ok(())
    }

    /// Lets reverse mode compute the nodes from number `first` to `y` again instead of keeping their
    /// values: less memory for one more forward pass of that part (gradient checkpointing; Chen et al.,
    /// "Training Deep Nets with Sublinear Memory Cost", 2016). Values stay the same; gradients differ by
    /// rounding, as terms are added in another order.
    ///
    /// ```
    /// use hafuse::{ops, DType, Tape};
    /// let mut t = Tape::new(DType::F32);
    /// let x = t.input("x", [4])?;
    /// let first = t.nodes().len();
    /// let y = ops::square(&mut t, x)?;
    /// let y = ops::square(&mut t, y)?;
    /// t.recompute(first, y)?;
    /// let loss = ops::mean_all(&mut t, y)?;
    /// let dx = t.grad(loss, &[x])?[0];
    /// # Ok::<(), hafuse::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Tape`] if the part is empty or updates a parameter.
    pub fn recompute(&mut self, first: usize, y: Var) -> Result<()> {
        let part = self.nodes.get(first..=y.index()).unwrap_or_default();
        let updates = |n: &Node| matches!(&n.source, Source::Op(op) if !op.mutates().is_empty());
        if part.is_empty() || part.iter().any(updates) {
            return Err(Error::Tape(format!(
                "nodes {first} to {} cannot be computed again: there are none, or one updates a parameter",
                y.index()
            )));
        }
        self.recomputed.insert(y, first);
        Ok(())
    }

    /// Labels the nodes that `f` records with `name`, below the current label.
    pub fn scope<R>(&mut self, name: &str, f: impl FnOnce(&mut Tape) -> R) -> R {
        let outer = self.scope.clone();
        self.scope = if outer.is_empty() {
            Arc::from(name)
        } else {
            Arc::from(format!("{outer}.{name}"))
        };
        let result = f(self);
        self.scope = outer;
        result
    }

    /// The current label.
    pub fn scope_name(&self) -> &str {
        &self.scope
    }

    /// Shape and element type of a node.
    pub fn meta(&self, var: Var) -> Meta {
        self.nodes[var.index()].meta
    }

    /// Shape of a node.
    pub fn shape(&self, var: Var) -> Shape {
        self.meta(var).shape
    }

    /// The inputs of a node.
    pub fn inputs_of(&self, var: Var) -> &[Var] {
        &self.nodes[var.index()].inputs
    }

    /// All nodes, in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes, in execution order.
    pub fn vars(&self) -> impl Iterator<Item = Var> + use<> {
        (0..self.nodes.len() as u32).map(Var)
    }

    /// Inputs by name.
    pub fn input_vars(&self) -> &BTreeMap<String, Var> {
        &self.inputs
    }

    /// Parameters by name.
    pub fn param_vars(&self) -> &BTreeMap<String, Var> {
        &self.params
    }

    /// Outputs by name.
    pub fn output_vars(&self) -> &BTreeMap<String, Var> {
        &self.outputs
    }

    /// Whether a run updates parameters.
    pub(crate) fn has_effects(&self) -> bool {
        !self.updated.is_empty()
    }

    /// Shape and dtype of every input of a node.
    pub(crate) fn input_metas(&self, var: Var) -> Vec<Meta> {
        self.inputs_of(var).iter().map(|&v| self.meta(v)).collect()
    }

    fn push(&mut self, source: Source, inputs: Vec<Var>, meta: Meta) -> Result<Var> {
        let index = u32::try_from(self.nodes.len())
            .map_err(|_| Error::Tape("more than 2^32 nodes".into()))?;
        if meta.shape.checked_len().is_none() {
            let detail =
                "is larger than any memory; lower the batch, the pictures' size or the channels";
            return Err(Error::config(
                format!("a value of shape {}", meta.shape),
                detail,
            ));
        }
        self.nodes.push(Node {
            source,
            inputs,
            meta,
            scope: self.scope.clone(),
        });
        Ok(Var(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_larger_than_memory_is_refused_when_it_is_recorded() {
        let mut t = Tape::new(DType::F32);
        for shape in [
            [1 << 20, 1 << 20, 1 << 20, 1 << 20],
            [1, 1 << 20, 1 << 20, 2],
        ] {
            let e = t.input("x", shape).unwrap_err();
            assert!(
                matches!(e, Error::Config { .. }) && e.to_string().contains("1048576"),
                "{e}"
            );
        }
        assert!(t.input("x", [1, 1 << 20, 1 << 20, 1]).is_ok());
    }
}
