//! Which rows every node has, computes and keeps, band after band.

use super::Banded;
use crate::tape::{Meta, Source, Tape};
use crate::{Error, Result};

/// A tape whose operators run in bands.
pub(super) struct Graph {
    pub tape: Tape,
    /// Shapes of the inputs of each node.
    pub whole: Vec<Vec<Meta>>,
}

impl Graph {
    /// # Errors
    /// [`Error::Tape`] if an operator does not run in bands.
    pub fn new(tape: &Tape) -> Result<Self> {
        let graph = Self {
            whole: tape.vars().map(|v| tape.input_metas(v)).collect(),
            tape: tape.clone(),
        };
        let one = |m: &Meta| m.shape.padded4()[0] == 1 && m.dtype == crate::DType::F32;
        for node in tape.nodes() {
            if let Source::Op(op) = &node.source
                && !(one(&node.meta) && op.banded().is_some())
            {
                return Err(Error::Tape(format!(
                    "{} of {} {} does not run in bands of rows",
                    op.name(),
                    node.meta.dtype,
                    node.meta.shape
                )));
            }
        }
        graph.check_reads()?;
        Ok(graph)
    }

    /// All rows that an operator reads are there, and pictures have rows.
    fn check_reads(&self) -> Result<()> {
        for (v, node) in self.tape.nodes().iter().enumerate() {
            let Some(op) = self.op(v) else { continue };
            let height = self.height(v);
            let refuse = |what: String| {
                Err(Error::Tape(format!(
                    "node {v}, {}, does not run in bands of rows: {what}",
                    op_name(&node.source)
                )))
            };
            if height == 0 {
                return refuse("it has no rows".into());
            }
            for (i, u) in node.inputs.iter().map(|u| u.index()).enumerate() {
                let shape = self.tape.nodes()[u].meta.shape;
                if self.is_picture(u) {
                    let reads = op.reads(i, &self.whole[v], 0..height);
                    if reads.end > self.height(u) {
                        return refuse(format!(
                            "input {i}, {shape}, is computed and has not {} rows",
                            reads.end
                        ));
                    }
                } else if matches!(shape.dims(), [1, rows, _, _] if *rows > 1) {
                    // Operators take parameters whole, from their first row on.
                    return refuse(format!("input {i}, {shape}, is a picture that is given"));
                }
            }
        }
        Ok(())
    }

    /// The operator of a node.
    pub fn op(&self, v: usize) -> Option<&dyn Banded> {
        match &self.tape.nodes()[v].source {
            Source::Op(op) => op.banded(),
            _ => None,
        }
    }

    /// Rows of a node's value.
    pub fn height(&self, v: usize) -> usize {
        self.tape.nodes()[v].meta.shape.padded4()[1]
    }

    /// Floats of a row of a node's value.
    pub fn row(&self, v: usize) -> usize {
        let [_, _, w, c] = self.tape.nodes()[v].meta.shape.padded4();
        w * c
    }

    /// Whether a node's value is a picture, of which there may be some rows only.
    pub fn is_picture(&self, v: usize) -> bool {
        let source = &self.tape.nodes()[v].source;
        matches!(source, Source::Op(_) | Source::Input(_))
    }

    /// Number and node of each picture that a node reads.
    pub fn pictures(&self, v: usize) -> impl Iterator<Item = (usize, usize)> {
        let inputs = self.tape.nodes()[v].inputs.iter();
        let inputs = inputs.map(|u| u.index()).enumerate();
        inputs.filter(|&(_, u)| self.is_picture(u))
    }

    /// Nodes up to `target` that it needs.
    pub fn needed(&self, target: usize) -> Vec<usize> {
        let mut needed = vec![false; target + 1];
        needed[target] = true;
        for v in (0..=target).rev() {
            if needed[v] {
                for u in &self.tape.nodes()[v].inputs {
                    needed[u.index()] = true;
                }
            }
        }
        (0..=target).filter(|&v| needed[v]).collect()
    }
}

fn op_name(source: &Source) -> &str {
    match source {
        Source::Op(op) => op.name(),
        _ => "input",
    }
}

/// Rows of each node in the present band.
pub(super) struct Flow {
    /// The nodes that take part, in order; the last one is the target.
    pub nodes: Vec<usize>,
    /// Computed before this band, by node.
    pub done: Vec<usize>,
    /// Computed after it.
    pub end: Vec<usize>,
    /// The first that is read in this band or later.
    pub start: Vec<usize>,
    /// The first that is read after it.
    pub next: Vec<usize>,
}

impl Flow {
    pub fn new(graph: &Graph, target: usize) -> Self {
        let zeros = vec![0; target + 1];
        let mut flow = Self {
            nodes: graph.needed(target),
            done: zeros.clone(),
            end: zeros.clone(),
            start: zeros.clone(),
            next: zeros,
        };
        flow.find_next(graph);
        flow
    }

    /// Goes on to the band that ends before row `to` of the target.
    pub fn advance(&mut self, graph: &Graph, to: usize) {
        self.done.copy_from_slice(&self.end);
        self.start.copy_from_slice(&self.next);
        if let Some(&target) = self.nodes.last() {
            self.end[target] = to;
        }
        for &v in self.nodes.iter().rev() {
            if self.done[v] == self.end[v] {
                continue;
            }
            if let Some(op) = graph.op(v) {
                let granule = op.granule(&graph.whole[v]);
                self.end[v] = self.end[v].next_multiple_of(granule).min(graph.height(v));
                let new = self.done[v]..self.end[v];
                for (i, u) in graph.pictures(v) {
                    let reads = op.reads(i, &graph.whole[v], new.clone());
                    self.end[u] = self.end[u].max(reads.end);
                }
            }
        }
        self.find_next(graph);
    }

    fn find_next(&mut self, graph: &Graph) {
        self.next.copy_from_slice(&self.end);
        for &v in &self.nodes {
            let from = self.end[v];
            if from == graph.height(v) {
                continue;
            }
            if let Some(op) = graph.op(v) {
                for (i, u) in graph.pictures(v) {
                    let reads = op.reads(i, &graph.whole[v], from..from + 1);
                    self.next[u] = self.next[u].min(reads.start);
                }
            }
        }
    }
}
