//! Reverse mode, source to source: the adjoint nodes are recorded on the same tape.

use super::accumulate::Accumulate;
use super::{Source, Tape, Var};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Tape {
    /// Records the gradient of a scalar `loss` with respect to each of `wrt`.
    ///
    /// A node that `loss` does not depend on gets a zero constant.
    ///
    /// # Errors
    /// [`Error::Shape`] if `loss` is not a scalar (use [`Tape::vjp`]); [`Error::NotDifferentiable`]
    /// if an operator between `wrt` and `loss` has no derivative.
    pub fn grad(&mut self, loss: Var, wrt: &[Var]) -> Result<Vec<Var>> {
        if self.shape(loss).len() != 1 {
            return Err(Error::shape(
                "grad",
                format!(
                    "the loss must be a scalar, its shape is {}",
                    self.shape(loss)
                ),
            ));
        }
        let one = self.constant(&Tensor::full(self.shape(loss), self.dtype(), 1.0))?;
        self.vjp(loss, one, wrt)
    }

    /// Records the vector-Jacobian product `cotangent^T dy/dw` for each `w` of `wrt`.
    pub fn vjp(&mut self, y: Var, cotangent: Var, wrt: &[Var]) -> Result<Vec<Var>> {
        self.record_adjoints(y, cotangent, wrt, false)
    }

    /// [`Tape::vjp`] with `wrt` as leaves, whatever they were computed from: for operators whose
    /// `vjp` records their work again in smaller steps and differentiates those.
    pub fn vjp_local(&mut self, y: Var, cotangent: Var, wrt: &[Var]) -> Result<Vec<Var>> {
        self.record_adjoints(y, cotangent, wrt, true)
    }

    fn record_adjoints(
        &mut self,
        y: Var,
        cotangent: Var,
        wrt: &[Var],
        leaves: bool,
    ) -> Result<Vec<Var>> {
        let scope = self.scope.clone();
        let result = self.walk_back(y, cotangent, wrt, leaves);
        self.scope = scope;
        result
    }

    fn walk_back(&mut self, y: Var, cotangent: Var, wrt: &[Var], leaves: bool) -> Result<Vec<Var>> {
        if self.shape(y) != self.shape(cotangent) {
            return Err(Error::shape(
                "vjp",
                format!(
                    "the cotangent has shape {}, the output {}",
                    self.shape(cotangent),
                    self.shape(y)
                ),
            ));
        }
        // Only nodes between `wrt` and `y` take part.
        let mut depends = vec![false; y.index() + 1];
        for &w in wrt {
            if w.index() <= y.index() {
                depends[w.index()] = true;
            }
        }
        for i in 0..=y.index() {
            depends[i] |= self.nodes[i].inputs.iter().any(|v| depends[v.index()]);
        }
        let mut cotangents: Vec<Vec<Var>> = vec![Vec::new(); y.index() + 1];
        cotangents[y.index()].push(cotangent);
        for i in (0..=y.index()).rev() {
            if !depends[i] || cotangents[i].is_empty() {
                continue;
            }
            let node = Var(i as u32);
            self.scope = match &*self.nodes[i].scope {
                "" => Arc::from(""),
                part => Arc::from(format!("{part}'")),
            };
            let parts = std::mem::take(&mut cotangents[i]);
            let total = match parts.as_slice() {
                [one] => *one,
                many => self.record(Accumulate, many)?,
            };
            cotangents[i] = vec![total];
            let Source::Op(op) = &self.nodes[i].source else {
                continue;
            };
            if leaves && wrt.contains(&node) {
                continue;
            }
            if let Some(&first) = self.recomputed.get(&node) {
                for (outer, gradient) in self.replay(first, node, total, &depends)? {
                    cotangents[outer.index()].push(gradient);
                }
                continue;
            }
            let op = op.clone();
            let gradients = op.vjp(self, node, total)?;
            let inputs = self.nodes[i].inputs.clone();
            if gradients.len() != inputs.len() {
                return Err(Error::Internal(format!(
                    "vjp of {} gave {} gradients for {} inputs",
                    op.name(),
                    gradients.len(),
                    inputs.len()
                )));
            }
            for (&input, gradient) in inputs.iter().zip(gradients) {
                let Some(g) = gradient else { continue };
                if self.shape(g) != self.shape(input) {
                    return Err(Error::Internal(format!(
                        "vjp of {}: gradient {} for an input {}",
                        op.name(),
                        self.shape(g),
                        self.shape(input)
                    )));
                }
                if depends[input.index()] {
                    cotangents[input.index()].push(g);
                }
            }
        }
        wrt.iter()
            .map(|w| match cotangents.get(w.index()).map(Vec::as_slice) {
                Some([g, ..]) => Ok(*g),
                _ => self.constant(&Tensor::full(self.shape(*w), self.dtype(), 0.0)),
            })
            .collect()
    }

    /// Records the nodes `first..=y` again and their gradients with respect to what they read from
    /// outside and `depends`.
    fn replay(
        &mut self,
        first: usize,
        y: Var,
        cotangent: Var,
        depends: &[bool],
    ) -> Result<Vec<(Var, Var)>> {
        let mut again: BTreeMap<Var, Var> = BTreeMap::new();
        let mut outside: Vec<Var> = Vec::new();
        for i in first..=y.index() {
            let node = self.nodes[i].clone();
            let Source::Op(op) = node.source else {
                continue;
            };
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for v in node.inputs {
                let twin = again.get(&v).copied().unwrap_or(v);
                if twin == v && depends[v.index()] && !outside.contains(&v) {
                    outside.push(v);
                }
                inputs.push(twin);
            }
            self.scope = node.scope;
            again.insert(Var(i as u32), self.record_shared(op, &inputs)?);
        }
        let gradients = self.vjp_local(again[&y], cotangent, &outside)?;
        Ok(outside.into_iter().zip(gradients).collect())
    }
}
