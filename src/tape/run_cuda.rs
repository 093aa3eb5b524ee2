//! A session's memory and launches on a CUDA card.
//!
//! Kernels, parameters and addresses are fixed when the session is made; a run uploads the inputs
//! that were touched, replays the launches (as one graph from the second run on) and downloads the
//! outputs. Copies have streams of their own, tied to the kernels by events.

use super::layout::Layout;
use super::params::SlotMemory;
use super::session::no_memory;
use super::{ParamStore, SessionOptions, Source, Tape, Var};
use crate::Result;
use crate::device::cuda::{Cuda, Event, Graph, Memory, Pinned, Prepared, Queue};
use crate::device::launch::{CudaIo, DevicePtr, DeviceView};
use crate::tensor::Shape;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct CudaRun {
    // Graph and launches go before the memory that they use: fields drop in order.
    graph: Option<Graph>,
    launches: Vec<Prepared>,
    /// Launches of each executed operator.
    steps: Vec<Range<usize>>,
    /// One event before each step and one behind the last, for profiling.
    events: Vec<Event>,
    uploaded: Event,
    computed: Event,
    downloaded: Event,
    /// Started and not waited for.
    pending: bool,
    inputs: Vec<Staged>,
    outputs: Vec<Staged>,
    staging: Pinned,
    /// Values and scratch: one arena, or one region for each request where reads of unwritten or
    /// foreign memory are to show.
    regions: Vec<Memory>,
    poisoned: Vec<usize>,
    #[allow(dead_code)] // kept alive for the launches that read them
    constants: Vec<Memory>,
    cuda: Arc<Cuda>,
    present: Vec<bool>,
}

/// A node that crosses between host and card, and its place in the staging memory.
struct Staged {
    var: Var,
    ptr: DevicePtr,
    at: usize,
    bytes: usize,
    dirty: bool,
}

impl CudaRun {
    pub fn new(
        tape: &Tape,
        layout: &Layout,
        params: &ParamStore,
        cuda: &Arc<Cuda>,
        options: SessionOptions,
    ) -> Result<Self> {
        let regions: Vec<Memory> = if options.poison {
            let each = layout.requests.iter().map(|r| cuda.allocate(r.bytes));
            each.collect::<Result<_>>()?
        } else {
            vec![cuda.allocate(layout.plan.arena_bytes)?]
        };
        let at = |request: usize| match options.poison {
            true => regions[request].ptr(),
            false => regions[0].ptr().offset(layout.plan.offsets[request]),
        };
        let mut run_inputs = Vec::new();
        let mut input_requests = Vec::new();
        let mut constants = Vec::new();
        let mut views: Vec<Option<DeviceView>> = vec![None; tape.nodes().len()];
        let mut steps = Vec::new();
        let mut launches = Vec::new();
        let mut staged = 0usize;
        let mut stage = |var: Var, ptr, bytes: usize| {
            let at = staged;
            staged += bytes.next_multiple_of(64);
            Staged {
                var,
                ptr,
                at,
                bytes,
                dirty: true,
            }
        };
        for var in layout.vars(tape) {
            let node = &tape.nodes()[var.index()];
            let ptr = match &node.source {
                Source::Param(name) => params.bind(name, node.meta, |memory| match memory {
                    SlotMemory::Card(memory) => Ok(memory.ptr()),
                    SlotMemory::Host(_) => Err(no_memory()),
                })?,
                Source::Constant(t) => {
                    let memory = cuda.allocate(t.bytes().len())?;
                    memory.write(t.bytes())?;
                    let ptr = memory.ptr();
                    constants.push(memory);
                    ptr
                }
                Source::Input(_) | Source::Op(_) => at(layout.value(var).ok_or_else(no_memory)?),
            };
            let view = DeviceView {
                ptr,
                shape: node.meta.shape,
                dtype: node.meta.dtype,
            };
            views[var.index()] = Some(view);
            match &node.source {
                Source::Input(_) => {
                    run_inputs.push(stage(var, ptr, node.meta.bytes()));
                    input_requests.extend(layout.value(var));
                }
                Source::Op(op) => {
                    let inputs: Vec<DeviceView> = node
                        .inputs
                        .iter()
                        .filter_map(|v| views[v.index()])
                        .collect();
                    let scratch = match layout.scratch(var) {
                        Some(r) => (at(r), layout.requests[r].bytes),
                        None => (DevicePtr::NULL, 0),
                    };
                    let mut io = CudaIo::new(op.name(), &inputs, view, scratch, cuda.card());
                    op.cuda(&mut io)?;
                    let first = launches.len();
                    let shapes: Vec<Shape> = inputs.iter().map(|v| v.shape).collect();
                    for launch in io.into_launches() {
                        let name = format!("{}: {} of {shapes:?}", node.scope, op.name());
                        launches.push(cuda.prepare(launch, name)?);
                    }
                    steps.push(first..launches.len());
                }
                _ => {}
            }
        }
        let mut outputs = Vec::new();
        for &var in tape.output_vars().values() {
            let view = views[var.index()].ok_or_else(no_memory)?;
            outputs.push(stage(var, view.ptr, tape.meta(var).bytes()));
        }
        let poisoned = match options.poison {
            true => (0..regions.len())
                .filter(|r| !input_requests.contains(r))
                .collect(),
            false => Vec::new(),
        };
        let count = if options.profile { steps.len() + 1 } else { 0 };
        let events = (0..count)
            .map(|_| cuda.timed_event())
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            graph: None,
            launches,
            steps,
            events,
            uploaded: cuda.event()?,
            computed: cuda.event()?,
            downloaded: cuda.event()?,
            pending: false,
            inputs: run_inputs,
            outputs,
            staging: cuda.pinned(staged)?,
            regions,
            poisoned,
            constants,
            cuda: cuda.clone(),
            present: views.iter().map(Option::is_some).collect(),
        })
    }

    pub fn has(&self, var: Var) -> bool {
        self.present[var.index()]
    }

    /// Names of the kernels that executed operator `step` launches.
    pub fn kernels(&self, step: usize) -> Vec<&str> {
        let launches = &self.launches[self.steps[step].clone()];
        launches.iter().map(|l| &*l.launch().kernel).collect()
    }

    /// The host side of an input, to fill; it is uploaded with the next run. Nothing may be pending.
    pub fn input(&mut self, var: Var) -> Option<&mut [u8]> {
        let s = self.inputs.iter_mut().find(|s| s.var == var)?;
        s.dirty = true;
        Some(self.staging.bytes_mut(s.at, s.bytes))
    }

    /// The host side of an output, as of the last run.
    pub fn output(&self, var: Var) -> Option<&[u8]> {
        let s = self.outputs.iter().find(|s| s.var == var)?;
        Some(self.staging.bytes(s.at, s.bytes))
    }

    /// Puts a run on the streams and returns.
    pub fn start(&mut self, options: SessionOptions) -> Result<()> {
        self.finish(options, &mut [])?;
        let begun = self.enqueue();
        if begun.is_err() {
            // What was queued before the failure may still use this session's memory.
            let _ = self.cuda.synchronize();
            self.inputs.iter_mut().for_each(|s| s.dirty = true);
        }
        self.pending = begun.is_ok();
        begun
    }

    /// Started and not waited for.
    pub fn pending(&self) -> bool {
        self.pending
    }

    fn enqueue(&mut self) -> Result<()> {
        self.cuda.bind()?;
        for s in self.inputs.iter_mut().filter(|s| s.dirty) {
            self.cuda.upload(s.ptr, &self.staging, s.at, s.bytes)?;
            s.dirty = false;
        }
        self.uploaded.record(Queue::Upload)?;
        self.uploaded.hold(Queue::Compute)?;
        for &r in &self.poisoned {
            self.cuda.fill(&self.regions[r], 0xff)?;
        }
        match &self.graph {
            Some(graph) => graph.launch()?,
            None => self.launch_all(Queue::Compute)?,
        }
        self.computed.record(Queue::Compute)?;
        self.computed.hold(Queue::Download)?;
        for s in &self.outputs {
            let staging = &mut self.staging;
            self.cuda.download(staging, s.at, s.bytes, s.ptr)?;
        }
        self.downloaded.record(Queue::Download)
    }

    /// Waits for what was started.
    pub fn finish(&mut self, options: SessionOptions, times: &mut [Duration]) -> Result<()> {
        if !self.pending {
            return Ok(());
        }
        self.downloaded.wait()?;
        self.pending = false;
        // The first run loads kernels lazily, which a capture may not; later ones need no list.
        let eager = options.eager || options.profile || self.cuda.checks_launches();
        if self.graph.is_none() && !eager {
            self.graph = Some(self.cuda.capture(|| self.capture())?);
        }
        for (i, time) in times.iter_mut().enumerate().take(self.events.len()) {
            *time = self.events[i].until(&self.events[i + 1])?;
        }
        Ok(())
    }

    /// Puts the launches of a run where a capture takes them.
    pub fn capture(&self) -> Result<()> {
        self.launch_all(Queue::Capture)
    }

    fn launch_all(&self, queue: Queue) -> Result<()> {
        for (i, launches) in self.steps.iter().enumerate() {
            if let Some(event) = self.events.get(i) {
                event.record(queue)?;
            }
            for launch in &self.launches[launches.clone()] {
                self.cuda.launch(launch, queue)?;
            }
        }
        match self.events.last() {
            Some(event) => event.record(queue),
            None => Ok(()),
        }
    }
}
