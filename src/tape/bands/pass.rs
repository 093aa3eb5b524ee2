//! One pass over the picture, for the output or for a statistic.

use super::Band;
use super::flow::{Flow, Graph};
use crate::device::cpu::{Buffer, CpuIo, RawView, for_chunks};
use crate::tape::Meta;
use crate::tape::plan::{self, Request};
use crate::tensor::{DType, Shape};
use crate::{Error, Result};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Values of the inputs, by node.
pub(super) struct Pictures<'a>(Vec<Option<&'a [f32]>>);

impl<'a> Pictures<'a> {
    pub fn new(nodes: usize) -> Self {
        Self(vec![None; nodes])
    }

    pub fn set(&mut self, node: usize, values: &'a [f32]) {
        self.0[node] = Some(values);
    }
}

/// Nodes up to one, and the memory in which they run.
pub(super) struct Pass {
    target: usize,
    /// The node that wants the statistic of the target; none if the target is the output.
    gather: Option<usize>,
    rows: usize,
    /// Bytes from the start of the arena, by node: rows of a band, scratch, rows kept for the next one.
    value: Vec<usize>,
    scratch: Vec<(usize, usize)>,
    kept: Vec<usize>,
    bytes: usize,
}

/// Metas of a band: inputs of a node and its value.
fn metas(graph: &Graph, v: usize, rows: &Range<usize>) -> (Vec<Meta>, Meta) {
    let cut = |meta: Meta, rows: usize| {
        let [n, _, w, c] = meta.shape.padded4();
        Meta::new([n, rows, w, c], meta.dtype)
    };
    let mut inputs = graph.whole[v].clone();
    if let Some(op) = graph.op(v) {
        for (i, _) in graph.pictures(v) {
            let reads = op.reads(i, &graph.whole[v], rows.clone());
            inputs[i] = cut(inputs[i], reads.len());
        }
    }
    (inputs, cut(graph.tape.nodes()[v].meta, rows.len()))
}

impl Pass {
    pub fn new(graph: &Graph, target: usize, gather: Option<usize>, rows: usize) -> Self {
        let rows = rows.clamp(1, graph.height(target));
        let count = target + 1;
        let (mut most, mut kept, mut scratch) = (vec![0; count], vec![0; count], vec![0; count]);
        let mut flow = Flow::new(graph, target);
        for to in bands(graph.height(target), rows) {
            flow.advance(graph, to);
            for &v in &flow.nodes {
                most[v] = most[v].max(flow.end[v] - flow.start[v]);
                kept[v] = kept[v].max(flow.end[v] - flow.next[v]);
                let new = flow.done[v]..flow.end[v];
                if let (Some(op), false) = (graph.op(v), new.is_empty()) {
                    let (inputs, output) = metas(graph, v, &new);
                    scratch[v] = scratch[v].max(op.scratch(&inputs, output));
                }
            }
        }
        let mut last: Vec<usize> = (0..count).collect();
        for &v in &flow.nodes {
            for (_, u) in graph.pictures(v) {
                last[u] = last[u].max(v);
            }
        }
        // Inputs lie with the caller, and so does the output.
        let held = |v: usize| graph.op(v).is_some() && (v != target || gather.is_some());
        let mut requests = Vec::new();
        for &v in flow.nodes.iter().filter(|&&v| graph.op(v).is_some()) {
            let value = if held(v) {
                4 * most[v] * graph.row(v)
            } else {
                0
            };
            let request = |bytes, last| Request {
                bytes,
                first: v,
                last,
            };
            requests.push(request(value, last[v]));
            requests.push(request(scratch[v], v));
        }
        let plan = plan::plan(&requests);
        let mut pass = Self {
            target,
            gather,
            rows,
            value: vec![0; count],
            scratch: vec![(0, 0); count],
            kept: vec![0; count],
            bytes: plan.arena_bytes,
        };
        let ops = flow.nodes.iter().filter(|&&v| graph.op(v).is_some());
        for (i, &v) in ops.enumerate() {
            pass.value[v] = plan.offsets[2 * i];
            pass.scratch[v] = (plan.offsets[2 * i + 1], scratch[v]);
            if held(v) {
                pass.kept[v] = pass.bytes;
                pass.bytes += (4 * kept[v] * graph.row(v)).next_multiple_of(plan::UNIT);
            }
        }
        pass
    }

    /// Bytes of the arena.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs all bands. `views` are those of parameters, `prepared` all that operators made of them and where.
    #[allow(clippy::too_many_arguments)] // the parts of one session
    pub fn run(
        &self,
        graph: &Graph,
        views: &[Option<RawView>],
        prepared: (&[f32], &[(usize, usize)]),
        statistics: &mut [Vec<f64>],
        arena: &mut Buffer,
        times: &mut [Duration],
        (pictures, output): (&Pictures<'_>, &mut [f32]),
    ) -> Result<()> {
        if arena.len_bytes() < self.bytes {
            return Err(Error::Internal("the arena of a pass is too small".into()));
        }
        let base = arena.as_mut_ptr();
        let mut flow = Flow::new(graph, self.target);
        let mut inputs = Vec::new();
        let mut first = Vec::new();
        for to in bands(graph.height(self.target), self.rows) {
            flow.advance(graph, to);
            for &v in flow.nodes.iter() {
                let Some(op) = graph.op(v) else { continue };
                let begun = Instant::now();
                let row = graph.row(v);
                let (start, done, end) = (flow.start[v], flow.done[v], flow.end[v]);
                // SAFETY: the plan gives every node room for its rows and for those kept, all in the arena.
                let (value, kept) = unsafe {
                    let at = |bytes: usize| base.add(bytes).cast::<f32>();
                    (at(self.value[v]), at(self.kept[v]))
                };
                let whole_output = v == self.target && self.gather.is_none();
                if !whole_output {
                    // SAFETY: rows `start..done` were kept by the band before; regions do not overlap.
                    unsafe { copy_values(kept, value, (done - start) * row) };
                }
                if done < end {
                    inputs.clear();
                    first.clear();
                    for (i, u) in graph.tape.nodes()[v].inputs.iter().enumerate() {
                        let u = u.index();
                        if let Some(view) = views[u] {
                            inputs.push(view);
                            first.push(0);
                            continue;
                        }
                        let reads = op.reads(i, &graph.whole[v], done..end);
                        let (from, held) = match pictures.0[u] {
                            Some(values) => (values.as_ptr().cast_mut(), 0),
                            // SAFETY: as above.
                            None => (unsafe { base.add(self.value[u]).cast() }, flow.start[u]),
                        };
                        let [_, _, w, c] = graph.whole[v][i].shape.padded4();
                        inputs.push(RawView {
                            // SAFETY: a node holds all rows that others read (`Flow`), which are rows that it has
                            // (`Graph::check_reads`); a picture is whole.
                            ptr: unsafe { from.add((reads.start - held) * w * c) }.cast(),
                            shape: [1, reads.len(), w, c].into(),
                            dtype: DType::F32,
                        });
                        first.push(reads.start);
                    }
                    let to = match whole_output {
                        true => output[done * row..end * row].as_mut_ptr(),
                        // SAFETY: the value has room for rows `start..end`.
                        false => unsafe { value.add((done - start) * row) },
                    };
                    let [_, _, w, c] = graph.tape.nodes()[v].meta.shape.padded4();
                    let shape = Shape::from([1, end - done, w, c]);
                    let (at, bytes) = self.scratch[v];
                    // SAFETY: within the arena.
                    let scratch = (unsafe { base.add(at) }, bytes);
                    let view = RawView {
                        ptr: to.cast(),
                        shape,
                        dtype: DType::F32,
                    };
                    // SAFETY: inputs, output and scratch of a step are alive together, so the plan keeps them
                    // apart; all rows that are read were computed or kept; nobody else has the arena.
                    let io = unsafe { CpuIo::new(&inputs, &[], view, scratch) };
                    let (at, count) = prepared.1[v];
                    op.run(
                        io,
                        &Band {
                            rows: done..end,
                            first: &first,
                            whole: &graph.whole[v],
                            prepared: &prepared.0[at..at + count],
                            statistic: &statistics[v],
                        },
                    )?;
                    if let Some(wanting) = self.gather.filter(|_| v == self.target)
                        && let Some(op) = graph.op(wanting)
                    {
                        // SAFETY: the rows that were just written.
                        let new = unsafe { std::slice::from_raw_parts(to, (end - done) * row) };
                        op.gather(new, &mut statistics[wanting]);
                    }
                }
                if !whole_output {
                    let next = flow.next[v];
                    // SAFETY: the value holds rows `start..end`, and `kept` has room for those from `next` on.
                    unsafe {
                        let from = value.add((next - start) * row);
                        copy_values(from, kept, (end - next) * row);
                    }
                }
                times[v] += begun.elapsed();
            }
        }
        Ok(())
    }
}

/// Copies `len` values, by all threads if they are many.
///
/// # Safety
/// Both must have as many, initialised and aligned; they must not overlap, and nobody else may write to them.
unsafe fn copy_values(from: *const f32, to: *mut f32, len: usize) {
    const CHUNK: usize = 8 * 1024;
    // SAFETY: the caller's contract.
    let (from, to) = unsafe {
        (
            std::slice::from_raw_parts(from, len),
            std::slice::from_raw_parts_mut(to, len),
        )
    };
    for_chunks(to, CHUNK, |i, to| {
        to.copy_from_slice(&from[i * CHUNK..][..to.len()]);
    });
}

/// Ends of bands of `rows` rows.
fn bands(height: usize, rows: usize) -> impl Iterator<Item = usize> {
    (rows..height).step_by(rows).chain([height])
}
