//! A session's memory and steps on the CPU.

use super::layout::Layout;
use super::params::SlotMemory;
use super::session::no_memory;
use super::{Operator, ParamStore, SessionOptions, Source, Tape, Var};
use crate::device::cpu::{self, Buffer, CpuIo, RawView};
use crate::{DType, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct CpuRun {
    steps: Vec<CpuStep>,
    views: Vec<RawView>,
    /// View of each node; `None` if it was left out.
    node_views: Vec<Option<RawView>>,
    arena: Buffer,
    input_regions: Vec<(*mut u8, usize)>,
}

struct CpuStep {
    op: Arc<dyn Operator>,
    inputs: std::ops::Range<usize>,
    output: RawView,
    scratch: (*mut u8, usize),
}

// SAFETY: the raw pointers lead into `arena`, into constants that the session's tape holds and into
// buffers that its store holds; all of these move with the session and never reallocate.
unsafe impl Send for CpuRun {}

impl CpuRun {
    pub fn new(tape: &Tape, layout: &Layout, params: &ParamStore) -> Result<Self> {
        let mut arena = Buffer::filled(layout.plan.arena_bytes, 0);
        let base = arena.as_mut_ptr();
        // SAFETY: the planner keeps every offset + size within `arena_bytes`.
        let at = |request: usize| unsafe { base.add(layout.plan.offsets[request]) };
        let mut node_views: Vec<Option<RawView>> = vec![None; tape.nodes().len()];
        let mut steps = Vec::new();
        let mut views = Vec::new();
        let mut input_regions = Vec::new();
        for var in layout.vars(tape) {
            let node = &tape.nodes()[var.index()];
            let ptr = match &node.source {
                Source::Param(name) => params.bind(name, node.meta, |memory| match memory {
                    SlotMemory::Host(buffer) => Ok(buffer.as_mut_ptr()),
                    SlotMemory::Card(_) => Err(no_memory()),
                })?,
                // Operators only read constants (`mutates` is limited to parameters).
                Source::Constant(t) => t.bytes().as_ptr().cast_mut(),
                Source::Input(_) | Source::Op(_) => at(layout.value(var).ok_or_else(no_memory)?),
            };
            let view = RawView {
                ptr,
                shape: node.meta.shape,
                dtype: node.meta.dtype,
            };
            node_views[var.index()] = Some(view);
            match &node.source {
                Source::Input(_) => input_regions.push((ptr, node.meta.bytes())),
                Source::Op(op) => {
                    let first = views.len();
                    for input in &node.inputs {
                        views.extend(node_views[input.index()]);
                    }
                    let scratch = match layout.scratch(var) {
                        Some(request) => (at(request), layout.requests[request].bytes),
                        None => (base, 0),
                    };
                    steps.push(CpuStep {
                        op: op.clone(),
                        inputs: first..views.len(),
                        output: view,
                        scratch,
                    });
                }
                _ => {}
            }
        }
        input_regions.sort_unstable();
        Ok(Self {
            steps,
            views,
            node_views,
            arena,
            input_regions,
        })
    }

    /// Whether a node takes part.
    pub fn has(&self, var: Var) -> bool {
        self.node_views[var.index()].is_some()
    }

    pub fn input(&mut self, var: Var) -> Option<&mut [u8]> {
        let v = self.node_views[var.index()]?;
        let bytes = v.shape.len() * v.dtype.size();
        // SAFETY: a planned region of this arena, borrowed mutably with it.
        Some(unsafe { std::slice::from_raw_parts_mut(v.ptr, bytes) })
    }

    pub fn output(&self, var: Var) -> Option<&[u8]> {
        let v = self.node_views[var.index()]?;
        let bytes = v.shape.len() * v.dtype.size();
        // SAFETY: a live region of this arena or a constant, borrowed with the session.
        Some(unsafe { std::slice::from_raw_parts(v.ptr, bytes) })
    }

    /// The caller holds the store's lock.
    pub fn run(&mut self, options: SessionOptions, times: &mut [Duration]) -> Result<()> {
        cpu::together(|| self.run_steps(options, times))
    }

    fn run_steps(&mut self, options: SessionOptions, times: &mut [Duration]) -> Result<()> {
        if options.poison {
            self.poison();
        }
        for (s, time) in self.steps.iter().zip(times) {
            let start = options.profile.then(Instant::now);
            let op = &s.op;
            // SAFETY: views were bound in `new`: inputs, output and scratch are alive in this step,
            // so the plan gives them disjoint regions; updated inputs are parameters that occur once
            // (`Tape::record`), and `Session::run` holds the store's lock.
            let io = unsafe {
                CpuIo::new(
                    &self.views[s.inputs.clone()],
                    op.mutates(),
                    s.output,
                    s.scratch,
                )
            };
            op.cpu(io)?;
            if options.round_to_f16 && s.output.dtype == DType::F32 {
                let len = s.output.shape.len();
                // SAFETY: the step's own output, a region of this size in the arena.
                let out =
                    unsafe { std::slice::from_raw_parts_mut(s.output.ptr.cast::<f32>(), len) };
                out.iter_mut()
                    .for_each(|v| *v = half::f16::from_f32(*v).to_f32());
            }
            if let Some(start) = start {
                *time = start.elapsed();
            }
        }
        Ok(())
    }

    /// Overwrites everything but the inputs with NaN.
    fn poison(&mut self) {
        let base = self.arena.as_mut_ptr();
        let mut from = 0;
        for &(ptr, bytes) in &self.input_regions {
            // SAFETY: `ptr` was made by adding an in-range offset to `base`.
            let offset = unsafe { ptr.offset_from(base) } as usize;
            // SAFETY: from <= offset <= arena size, since regions are sorted and disjoint.
            unsafe { std::ptr::write_bytes(base.add(from), 0xff, offset - from) };
            from = offset + bytes;
        }
        // SAFETY: `from` is at most the arena size.
        unsafe { std::ptr::write_bytes(base.add(from), 0xff, self.arena.len_bytes() - from) };
    }
}
