//! A tape run on one picture a band of rows at a time: each node keeps only the rows that others still read, so
//! memory grows with the width of a picture instead of its area, and values stay in the caches.
//!
//! Bands of the output follow each other from the top. Before each, every node is asked which rows the nodes
//! after it need; it computes those that it has not computed before, so nothing is computed twice. What a later
//! band reads again is kept aside. An operator that must know something of a whole picture first (the means of
//! channel attention) costs one more pass over the nodes before it.

mod flow;
mod operator;
mod pass;

pub use operator::{Band, Banded};

use self::flow::Graph;
use self::pass::{Pass, Pictures};
use super::dump::report;
use super::params::SlotMemory;
use super::session::no_memory;
use super::{Node, NodeReport, ParamStore, Source, Tape};
use crate::device::Device;
use crate::device::cpu::{self, ALIGN, Buffer, CpuIo, RawView};
use crate::tensor::{DType, Shape};
use crate::{Error, Result};
use std::time::Duration;

/// A tape with one output bound to parameters on the CPU, ready to run in bands of rows, in f32.
///
/// ```
/// use hafuse::{ops, tape::BandSession, DType, ParamStore, Tape};
/// let mut t = Tape::new(DType::F32);
/// let (a, b) = (t.input("a", [1, 5, 2, 1])?, t.input("b", [1, 5, 2, 1])?);
/// let y = ops::sub(&mut t, a, b)?;
/// t.output("y", y)?;
/// let mut s = BandSession::new(&t, &ParamStore::default(), 2)?;   // two rows at a time
/// let mut y = [0.0; 10];
/// s.run(&[("a", &[3.0; 10]), ("b", &[1.0; 10])], &mut y)?;
/// assert_eq!(y, [2.0; 10]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub struct BandSession {
    graph: Graph,
    params: ParamStore,
    /// Where each parameter and constant lies.
    views: Vec<Option<RawView>>,
    /// What operators made of their parameters, and where.
    prepared: Buffer,
    prepared_at: Vec<(usize, usize)>,
    /// One for each operator that needs a statistic, then the one that writes the output.
    passes: Vec<Pass>,
    /// The statistic of each node.
    statistics: Vec<Vec<f64>>,
    arena: Buffer,
    times: Vec<Duration>,
}

// SAFETY: the raw pointers of `views` lead into constants that the tape holds and into buffers that the store
// holds; both move with the session and never reallocate.
unsafe impl Send for BandSession {}

impl BandSession {
    /// Plans bands of `rows` rows of the output and prepares the parameters, whose values must not change
    /// afterwards.
    ///
    /// # Errors
    /// [`Error::Tape`] unless the tape has one output and all its operators are [`Banded`];
    /// [`Error::Weights`] if a parameter is missing or has another shape.
    pub fn new(tape: &Tape, params: &ParamStore, rows: usize) -> Result<Self> {
        if !matches!(params.device(), Device::Cpu) {
            return Err(Error::Tape("bands of rows run on the CPU only".into()));
        }
        let graph = Graph::new(tape)?;
        let passes = passes(&graph, rows)?;
        let views = views(&graph, params)?;
        let mut prepared_at = vec![(0, 0); tape.nodes().len()];
        let mut len = 0;
        let mut statistics = vec![Vec::new(); tape.nodes().len()];
        for v in 0..tape.nodes().len() {
            if let Some(op) = graph.op(v) {
                let count = op.prepared(&graph.whole[v]);
                prepared_at[v] = (len, count);
                len += room(count);
                statistics[v] = vec![0.0; op.statistic(&graph.whole[v])];
            }
        }
        let bytes = passes.iter().map(Pass::bytes).max().unwrap_or(0);
        let mut session = Self {
            views,
            prepared: Buffer::filled(4 * len, 0),
            prepared_at,
            passes,
            statistics,
            arena: Buffer::filled(bytes, 0),
            times: vec![Duration::ZERO; tape.nodes().len()],
            params: params.clone(),
            graph,
        };
        {
            let _guard = params.read();
            cpu::together(|| session.prepare())?;
        }
        Ok(session)
    }

    /// Bytes that a session of `tape` would hold beside its inputs, output and parameters; `None` if the tape does not
    /// run in bands.
    pub fn planned_bytes(tape: &Tape, rows: usize) -> Option<usize> {
        let graph = Graph::new(tape).ok()?;
        let passes = passes(&graph, rows).ok()?;
        let op = |v: usize| {
            graph
                .op(v)
                .map_or(0, |op| room(op.prepared(&graph.whole[v])))
        };
        let prepared: usize = (0..tape.nodes().len()).map(op).sum();
        let most = passes.iter().map(Pass::bytes).max().unwrap_or(0);
        Some(4 * prepared + most.next_multiple_of(ALIGN))
    }

    /// Passes over the picture that a session of `tape` would make: 1, and one more for each operator that needs a
    /// statistic; `None` if the tape does not run in bands.
    pub fn passes_of(tape: &Tape) -> Option<usize> {
        Some(targets(&Graph::new(tape).ok()?).ok()?.len())
    }

    /// Bytes held beside inputs, output and parameters.
    pub fn bytes(&self) -> usize {
        self.arena.len_bytes() + self.prepared.len_bytes()
    }

    /// Every node with its cost and its time in the last run.
    pub fn report(&self) -> Vec<NodeReport> {
        let tape = &self.graph.tape;
        report(tape, tape.vars().zip(self.times.iter().copied()))
    }

    /// Computes the output of these inputs, given by name.
    ///
    /// # Errors
    /// [`Error::Tape`] if an input is missing; [`Error::Shape`] if a slice has another length than its value.
    pub fn run(&mut self, inputs: &[(&str, &[f32])], output: &mut [f32]) -> Result<()> {
        let tape = &self.graph.tape;
        let check = |what: &str, found: usize, shape: Shape| match found == shape.len() {
            true => Ok(()),
            false => Err(Error::shape(
                "bands",
                format!("`{what}` has {found} values, {shape} needs {}", shape.len()),
            )),
        };
        let mut pictures = Pictures::new(tape.nodes().len());
        for (name, &v) in tape.input_vars() {
            let given = inputs.iter().find(|(n, _)| n == name);
            let (_, values) =
                given.ok_or_else(|| Error::Tape(format!("input `{name}` is missing")))?;
            check(name, values.len(), tape.shape(v))?;
            pictures.set(v.index(), values);
        }
        if let Some((name, &v)) = tape.output_vars().iter().next() {
            check(name, output.len(), tape.shape(v))?;
        }
        self.times.fill(Duration::ZERO);
        self.statistics.iter_mut().for_each(|s| s.fill(0.0));
        let store = self.params.clone();
        let _guard = store.read();
        cpu::together(|| self.run_passes(&pictures, output))
    }

    fn run_passes(&mut self, pictures: &Pictures<'_>, output: &mut [f32]) -> Result<()> {
        let prepared = self.prepared.bytes(self.prepared.len_bytes());
        let prepared: &[f32] = bytemuck::cast_slice(prepared.unwrap_or_default());
        for pass in &self.passes {
            pass.run(
                &self.graph,
                &self.views,
                (prepared, &self.prepared_at),
                &mut self.statistics,
                &mut self.arena,
                &mut self.times,
                (pictures, &mut *output),
            )?;
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        let base = self.prepared.as_mut_ptr();
        for (v, node) in self.graph.tape.nodes().iter().enumerate() {
            let ((at, count), Some(op)) = (self.prepared_at[v], self.graph.op(v)) else {
                continue;
            };
            if count == 0 {
                continue;
            }
            let inputs = node.inputs.iter().map(|u| u.index());
            let views: Vec<RawView> = inputs
                .map(|u| self.views[u].unwrap_or_else(|| self.no_rows(u)))
                .collect();
            let output = RawView {
                // SAFETY: `prepared` has room for the values of every node.
                ptr: unsafe { base.add(4 * at) },
                shape: [count].into(),
                dtype: DType::F32,
            };
            // SAFETY: views are parameters or empty, aligned and alive; the output is this node's own part of
            // `prepared`; the caller has locked the store.
            let io = unsafe { CpuIo::new(&views, &[], output, (base, 0)) };
            op.prepare(io, &self.graph.whole[v])?;
        }
        Ok(())
    }

    /// A view of a picture of which nothing is there.
    fn no_rows(&self, v: usize) -> RawView {
        let [n, _, w, c] = self.graph.tape.nodes()[v].meta.shape.padded4();
        RawView {
            ptr: std::ptr::without_provenance_mut(ALIGN),
            shape: [n, 0, w, c].into(),
            dtype: DType::F32,
        }
    }
}

/// Floats kept for `count` of them, so that the next ones are aligned.
fn room(count: usize) -> usize {
    count.next_multiple_of(ALIGN / 4)
}

/// What each pass over a picture computes, and the node that wants a statistic of it; the output last.
fn targets(graph: &Graph) -> Result<Vec<(usize, Option<usize>)>> {
    let mut outputs = graph.tape.output_vars().values();
    let (Some(output), None) = (outputs.next(), outputs.next()) else {
        return Err(Error::Tape(
            "a tape that runs in bands has one output".into(),
        ));
    };
    let mut targets = Vec::new();
    for v in graph.needed(output.index()) {
        let wants = graph.op(v).map(|op| op.statistic(&graph.whole[v]));
        if wants > Some(0) {
            targets.push((graph.tape.nodes()[v].inputs[0].index(), Some(v)));
        }
    }
    targets.push((output.index(), None));
    match targets.iter().find(|(v, _)| graph.op(*v).is_none()) {
        None => Ok(targets),
        Some((v, _)) => Err(Error::Tape(format!(
            "node {v} is not computed: nothing runs in bands"
        ))),
    }
}

fn passes(graph: &Graph, rows: usize) -> Result<Vec<Pass>> {
    let pass = |(target, gather)| Pass::new(graph, target, gather, rows);
    Ok(targets(graph)?.into_iter().map(pass).collect())
}

/// Views of parameters and constants.
fn views(graph: &Graph, params: &ParamStore) -> Result<Vec<Option<RawView>>> {
    let nodes = graph.tape.nodes().iter();
    let view = |node: &Node| {
        let ptr = match &node.source {
            Source::Param(name) => params.bind(name, node.meta, |memory| match memory {
                SlotMemory::Host(buffer) => Ok(buffer.as_mut_ptr()),
                SlotMemory::Card(_) => Err(no_memory()),
            })?,
            Source::Constant(t) => t.bytes().as_ptr().cast_mut(),
            Source::Input(_) | Source::Op(_) => return Ok(None),
        };
        Ok(Some(RawView {
            ptr,
            shape: node.meta.shape,
            dtype: node.meta.dtype,
        }))
    };
    nodes.map(view).collect()
}
