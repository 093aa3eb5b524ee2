//! A tape bound to memory: plan once, run many times without allocating.

use super::plan::{self, Plan, Request};
use super::{Meta, Operator, ParamStore, Source, Tape, Var};
use crate::device::cpu::{self, Buffer, CpuIo, RawView};
use crate::tensor::{Element, Tensor};
use crate::{DType, Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a [`Session`] is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionOptions {
    /// Measure each node in every run; see [`Session::times`].
    pub profile: bool,
    /// Fill the arena with NaN before every run, so that a read of memory that nobody wrote shows.
    pub poison: bool,
}

/// A tape bound to a device: memory planned, parameters found, ready to run.
///
/// Nodes that no output and no effect needs are left out. After the first run nothing is allocated.
pub struct Session {
    tape: Tape,
    params: ParamStore,
    options: SessionOptions,
    steps: Vec<Step>,
    views: Vec<RawView>,
    /// View of each node; `None` if it was left out.
    node_views: Vec<Option<RawView>>,
    has_effects: bool,
    plan: Plan,
    arena: Buffer,
    input_regions: Vec<(*mut u8, usize)>,
    times: Vec<Duration>,
}

struct Step {
    op: Arc<dyn Operator>,
    node: Var,
    inputs: std::ops::Range<usize>,
    output: RawView,
    scratch: (*mut u8, usize),
}

// SAFETY: the raw pointers lead into `arena`, into constants that `tape` holds and into buffers
// that `params` holds; all of these move with the session and never reallocate.
unsafe impl Send for Session {}

impl Session {
    /// Binds `tape` to the parameters of `params`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a parameter is missing or has another shape or dtype.
    pub fn new(tape: &Tape, params: &ParamStore) -> Result<Self> {
        Self::with_options(tape, params, SessionOptions::default())
    }

    /// [`Session::new`] with options.
    pub fn with_options(tape: &Tape, params: &ParamStore, options: SessionOptions) -> Result<Self> {
        let needed = needed_nodes(tape);
        let (requests, slots) = requests(tape, &needed);
        let plan = plan::plan(&requests);
        let mut arena = Buffer::filled(plan.arena_bytes, 0);
        let base = arena.as_mut_ptr();
        // SAFETY: the planner keeps every offset + size within `arena_bytes`.
        let at = |request: usize| unsafe { base.add(plan.offsets[request]) };

        let mut node_views: Vec<Option<RawView>> = vec![None; tape.nodes().len()];
        let mut steps = Vec::new();
        let mut views = Vec::new();
        let mut input_regions = Vec::new();
        for var in tape.vars().filter(|v| needed[v.index()]) {
            let node = &tape.nodes()[var.index()];
            let Meta { shape, dtype } = node.meta;
            let ptr = match &node.source {
                Source::Param(name) => bind_param(params, name, node.meta)?,
                // Operators only read constants (`mutates` is limited to parameters).
                Source::Constant(t) => t.bytes().as_ptr().cast_mut(),
                Source::Input(_) | Source::Op(_) => match slots[var.index()].0 {
                    Some(request) => at(request),
                    None => return Err(Error::Internal("node without memory".into())),
                },
            };
            let view = RawView { ptr, shape, dtype };
            node_views[var.index()] = Some(view);
            match &node.source {
                Source::Input(_) => input_regions.push((ptr, node.meta.bytes())),
                Source::Op(op) => {
                    let first = views.len();
                    for input in &node.inputs {
                        views.extend(node_views[input.index()]);
                    }
                    let scratch = match slots[var.index()].1 {
                        Some(request) => (at(request), requests[request].bytes),
                        None => (base, 0),
                    };
                    steps.push(Step {
                        op: op.clone(),
                        node: var,
                        inputs: first..views.len(),
                        output: view,
                        scratch,
                    });
                }
                _ => {}
            }
        }
        let has_effects = steps.iter().any(|s| !s.op.mutates().is_empty());
        Ok(Self {
            times: vec![Duration::ZERO; steps.len()],
            tape: tape.clone(),
            params: params.clone(),
            options,
            steps,
            views,
            node_views,
            has_effects,
            plan,
            arena,
            input_regions,
        })
    }

    /// [`Session::arena_bytes`] of a session of `tape`, without making it.
    pub fn planned_bytes(tape: &Tape) -> usize {
        let needed = needed_nodes(tape);
        plan::plan(&requests(tape, &needed).0).arena_bytes
    }

    /// Sets an input. Values must have the recorded shape and dtype.
    pub fn set(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let meta = self.input_meta(name)?;
        if meta.shape != value.shape() {
            return Err(Error::Tape(format!(
                "input `{name}` has shape {}, cannot take {}",
                meta.shape,
                value.shape()
            )));
        }
        match meta.dtype {
            DType::F16 => self.copy_into::<half::f16>(name, value),
            DType::F32 => self.copy_into::<f32>(name, value),
            DType::F64 => self.copy_into::<f64>(name, value),
        }
    }

    fn copy_into<T: Element>(&mut self, name: &str, value: &Tensor) -> Result<()> {
        self.input_mut::<T>(name)?
            .copy_from_slice(value.as_slice()?);
        Ok(())
    }

    /// Sets a scalar input such as a learning rate.
    pub fn set_scalar(&mut self, name: &str, value: f64) -> Result<()> {
        match self.input_meta(name)?.dtype {
            DType::F16 => self.input_mut(name)?.fill(half::f16::from_f64(value)),
            DType::F32 => self.input_mut(name)?.fill(value as f32),
            DType::F64 => self.input_mut(name)?.fill(value),
        }
        Ok(())
    }

    /// The memory of an input, to fill without a copy. It keeps its values from run to run.
    pub fn input_mut<T: Element>(&mut self, name: &str) -> Result<&mut [T]> {
        let meta = self.input_meta(name)?;
        expect_dtype::<T>(name, meta)?;
        let var = self.tape.input_vars()[name];
        match self.node_views[var.index()] {
            // SAFETY: a planned region of this session, borrowed mutably with it.
            Some(v) => Ok(unsafe { std::slice::from_raw_parts_mut(v.ptr.cast(), v.shape.len()) }),
            None => Err(Error::Tape(format!(
                "input `{name}` is not used by any output; do not set it"
            ))),
        }
    }

    /// Whether an input takes part in any output.
    pub fn uses_input(&self, name: &str) -> bool {
        self.tape
            .input_vars()
            .get(name)
            .is_some_and(|v| self.node_views[v.index()].is_some())
    }

    fn input_meta(&self, name: &str) -> Result<Meta> {
        let var = self.tape.input_vars().get(name).ok_or_else(|| {
            let known: Vec<_> = self.tape.input_vars().keys().collect();
            Error::Tape(format!("no input `{name}`; there are {known:?}"))
        })?;
        Ok(self.tape.meta(*var))
    }

    /// Runs every step once, in order. Effects write into the parameter store.
    pub fn run(&mut self) -> Result<()> {
        let store = self.params.clone();
        // Updates exclude every other session on this store; plain runs exclude only updates.
        if self.has_effects {
            let _guard = store.write();
            cpu::install(|| self.run_steps())
        } else {
            let _guard = store.read();
            cpu::install(|| self.run_steps())
        }
    }

    fn run_steps(&mut self) -> Result<()> {
        if self.options.poison {
            self.poison();
        }
        for (step, time) in self.steps.iter().zip(&mut self.times) {
            let start = self.options.profile.then(Instant::now);
            // SAFETY: views were bound in `with_options`: inputs, output and scratch are alive in
            // this step, so the plan gives them disjoint regions; updated inputs are parameters
            // that occur once (`Tape::record`), and `run` holds the store's lock.
            let io = unsafe {
                CpuIo::new(
                    &self.views[step.inputs.clone()],
                    step.op.mutates(),
                    step.output,
                    step.scratch,
                )
            };
            step.op.cpu(io)?;
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
        self.input_regions.sort_unstable();
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

    /// The values of a named output after a run.
    pub fn output<T: Element>(&self, name: &str) -> Result<&[T]> {
        let var = self.output_var(name)?;
        expect_dtype::<T>(name, self.tape.meta(var))?;
        match self.node_views[var.index()] {
            // SAFETY: a live region of this session, borrowed with it.
            Some(v) => Ok(unsafe { std::slice::from_raw_parts(v.ptr.cast(), v.shape.len()) }),
            None => Err(Error::Internal(format!("output `{name}` was left out"))),
        }
    }

    /// A copy of a named output.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let meta = self.tape.meta(self.output_var(name)?);
        match meta.dtype {
            DType::F16 => Tensor::from_vec(meta.shape, self.output::<half::f16>(name)?.to_vec()),
            DType::F32 => Tensor::from_vec(meta.shape, self.output::<f32>(name)?.to_vec()),
            DType::F64 => Tensor::from_vec(meta.shape, self.output::<f64>(name)?.to_vec()),
        }
    }

    /// A scalar output as f64.
    pub fn scalar(&self, name: &str) -> Result<f64> {
        let meta = self.tape.meta(self.output_var(name)?);
        let found = match meta.dtype {
            DType::F16 => self.output::<half::f16>(name)?.first().map(|v| v.to_f64()),
            DType::F32 => self.output::<f32>(name)?.first().map(|&v| f64::from(v)),
            DType::F64 => self.output::<f64>(name)?.first().copied(),
        };
        match found {
            Some(v) if meta.shape.len() == 1 => Ok(v),
            _ => Err(Error::Tape(format!(
                "output `{name}` has shape {}, not one value",
                meta.shape
            ))),
        }
    }

    fn output_var(&self, name: &str) -> Result<Var> {
        self.tape.output_vars().get(name).copied().ok_or_else(|| {
            let known: Vec<_> = self.tape.output_vars().keys().collect();
            Error::Tape(format!("no output `{name}`; there are {known:?}"))
        })
    }

    /// Time of each executed node in the last run, in execution order
    /// (zero without [`SessionOptions::profile`]).
    pub fn times(&self) -> impl Iterator<Item = (Var, Duration)> + '_ {
        self.steps
            .iter()
            .map(|s| s.node)
            .zip(self.times.iter().copied())
    }

    /// The tape this session was made from.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Bytes of the arena: activations, scratch, inputs and outputs.
    pub fn arena_bytes(&self) -> usize {
        self.plan.arena_bytes
    }
}

fn expect_dtype<T: Element>(name: &str, meta: Meta) -> Result<()> {
    if meta.dtype != T::DTYPE {
        return Err(Error::DType {
            what: format!("`{name}`"),
            expected: meta.dtype.to_string(),
            found: T::DTYPE.to_string(),
        });
    }
    Ok(())
}

/// Nodes that an output or an effect depends on.
fn needed_nodes(tape: &Tape) -> Vec<bool> {
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

/// Memory requests, and for each node the numbers of its own request and of its scratch.
type NodeSlots = Vec<(Option<usize>, Option<usize>)>;

fn requests(tape: &Tape, needed: &[bool]) -> (Vec<Request>, NodeSlots) {
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
    let mut slots: NodeSlots = vec![(None, None); n];
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
            let bytes = op.workspace(&metas, node.meta);
            if bytes > 0 {
                slots[i].1 = add(bytes, i, i);
            }
        }
    }
    (requests, slots)
}

fn bind_param(params: &ParamStore, name: &str, meta: Meta) -> Result<*mut u8> {
    let mut slots = params.write();
    let slot = slots
        .slot_mut(name)
        .ok_or_else(|| Error::Weights(format!("the network needs `{name}`, which is missing")))?;
    if slot.meta != meta {
        return Err(Error::Weights(format!(
            "`{name}` is {} {}, the network needs {} {}",
            slot.meta.dtype, slot.meta.shape, meta.dtype, meta.shape
        )));
    }
    Ok(slot.buffer.as_mut_ptr())
}
