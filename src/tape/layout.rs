//! What a session of a tape executes, and the memory it wants.

use super::plan::{self, Plan, Request};
use super::{Meta, Source, Tape, Var};

/// Whose workspace counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Cpu,
    Cuda,
}

/// Needed nodes, their requests for memory and where the plan puts them.
pub(super) struct Layout {
    needed: Vec<bool>,
    pub requests: Vec<Request>,
    /// Number of the node's own request and of its scratch.
    slots: Vec<(Option<usize>, Option<usize>)>,
    pub plan: Plan,
}

impl Layout {
    pub fn new(tape: &Tape, target: Target) -> Self {
        let needed = needed_nodes(tape);
        let n = tape.nodes().len();
        let mut last: Vec<usize> = (0..n).collect();
        for (i, node) in tape.nodes().iter().enumerate().filter(|(i, _)| needed[*i]) {
            for v in &node.inputs {
                last[v.index()] = last[v.index()].max(i);
            }
        }
        for v in tape.output_vars().values() {
            last[v.index()] = n;
        }
        let mut requests = Vec::new();
        let mut slots = vec![(None, None); n];
        for (i, node) in tape.nodes().iter().enumerate().filter(|(i, _)| needed[*i]) {
            let (first, last) = match &node.source {
                // Callers may fill an input before any run and expect it to stay.
                Source::Input(_) => (0, n),
                Source::Op(_) => (i, last[i]),
                Source::Param(_) | Source::Constant(_) => continue,
            };
            let mut add = |bytes, first, last| {
                requests.push(Request { bytes, first, last });
                Some(requests.len() - 1)
            };
            slots[i].0 = add(node.meta.bytes(), first, last);
            if let Source::Op(op) = &node.source {
                let metas: Vec<Meta> = node.inputs.iter().map(|&v| tape.meta(v)).collect();
                let bytes = match target {
                    Target::Cpu => op.workspace(&metas, node.meta),
                    Target::Cuda => op.cuda_workspace(&metas, node.meta),
                };
                if bytes > 0 {
                    slots[i].1 = add(bytes, i, i);
                }
            }
        }
        let plan = plan::plan(&requests);
        Self {
            needed,
            requests,
            slots,
            plan,
        }
    }

    /// Nodes that take part, in order.
    pub fn vars<'a>(&'a self, tape: &Tape) -> impl Iterator<Item = Var> + use<'a> {
        tape.vars().filter(|v| self.needed[v.index()])
    }

    /// Operators that run, in order.
    pub fn executed(&self, tape: &Tape) -> Vec<Var> {
        let is_op = |v: &Var| matches!(tape.nodes()[v.index()].source, Source::Op(_));
        self.vars(tape).filter(is_op).collect()
    }

    /// The request of a node's value.
    pub fn value(&self, var: Var) -> Option<usize> {
        self.slots[var.index()].0
    }

    /// The request of a node's scratch.
    pub fn scratch(&self, var: Var) -> Option<usize> {
        self.slots[var.index()].1
    }
}

/// Nodes that an output or an effect depends on.
pub(crate) fn needed_nodes(tape: &Tape) -> Vec<bool> {
    let mut needed = vec![false; tape.nodes().len()];
    for v in tape.output_vars().values() {
        needed[v.index()] = true;
    }
    for i in (0..needed.len()).rev() {
        let node = &tape.nodes()[i];
        if let Source::Op(op) = &node.source {
            needed[i] |= !op.mutates().is_empty();
        }
        if needed[i] {
            for v in &node.inputs {
                needed[v.index()] = true;
            }
        }
    }
    needed
}
