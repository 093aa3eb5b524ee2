//! A tape bound to memory: plan once, run many times without allocating.

use super::layout::{Layout, Target};
use super::run_cpu::CpuRun;
use super::run_cuda::CudaRun;
use super::{Meta, ParamStore, Tape, Var};
use crate::device::Device;
use crate::tensor::{Element, Tensor};
use crate::{DType, Error, Result};
use std::time::Duration;

/// How a [`Session`] is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionOptions {
    /// Measure each node in every run; see [`Session::times`].
    pub profile: bool,
    /// Fill everything but inputs with NaN before every run, so that a read of memory that nobody
    /// wrote shows; on CUDA each value also gets memory of its own, so that a stray access does.
    pub poison: bool,
    /// On the CPU in f32: round every value to f16 before others read it, as f16 storage would. This
    /// is the plain evaluation that f16 kernels are measured against.
    pub round_to_f16: bool,
    /// On CUDA: launch each kernel by itself in every run instead of replaying a graph.
    pub eager: bool,
}

impl SessionOptions {
    /// Whether these are of no use but in a [`Session`].
    pub(crate) fn needs_whole(self) -> bool {
        self.poison || self.round_to_f16
    }
}

/// A tape bound to the device of its parameters: memory planned, ready to run.
///
/// Nodes that no output and no effect needs are left out. After the first run nothing is allocated.
pub struct Session {
    backend: Backend,
    tape: Tape,
    params: ParamStore,
    options: SessionOptions,
    has_effects: bool,
    arena_bytes: usize,
    /// Operators that run, in order, and what each took.
    executed: Vec<Var>,
    times: Vec<Duration>,
}

enum Backend {
    Cpu(CpuRun),
    Cuda(Box<CudaRun>),
}

/// Calls a method that both backends have.
macro_rules! backend {
    ($self:ident . $method:ident ( $($arg:expr),* )) => {
        match &mut $self.backend {
            Backend::Cpu(b) => b.$method($($arg),*),
            Backend::Cuda(b) => b.$method($($arg),*),
        }
    };
    (& $self:ident . $method:ident ( $($arg:expr),* )) => {
        match &$self.backend {
            Backend::Cpu(b) => b.$method($($arg),*),
            Backend::Cuda(b) => b.$method($($arg),*),
        }
    };
}

impl Session {
    /// Binds `tape` to the parameters of `params`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a parameter is missing or has another shape or dtype;
    /// [`Error::Device`] if the card lacks memory or a kernel.
    pub fn new(tape: &Tape, params: &ParamStore) -> Result<Self> {
        Self::with_options(tape, params, SessionOptions::default())
    }

    /// [`Session::new`] with options.
    pub fn with_options(tape: &Tape, params: &ParamStore, options: SessionOptions) -> Result<Self> {
        let target = match params.device() {
            Device::Cpu => Target::Cpu,
            Device::Cuda(_) => Target::Cuda,
        };
        let layout = Layout::new(tape, target);
        let executed = layout.executed(tape);
        Ok(Self {
            backend: match params.device() {
                Device::Cpu => Backend::Cpu(CpuRun::new(tape, &layout, params)?),
                Device::Cuda(cuda) => {
                    let run = CudaRun::new(tape, &layout, params, cuda, options)?;
                    Backend::Cuda(Box::new(run))
                }
            },
            tape: tape.clone(),
            params: params.clone(),
            options,
            has_effects: tape.has_effects(),
            arena_bytes: layout.plan.arena_bytes,
            times: vec![Duration::ZERO; executed.len()],
            executed,
        })
    }

    /// [`Session::arena_bytes`] of a session of `tape` on the CPU, without making it.
    pub fn planned_bytes(tape: &Tape) -> usize {
        Layout::new(tape, Target::Cpu).plan.arena_bytes
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        self.params.device()
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
        // The copy of a started run may still be reading.
        self.finish()?;
        match backend!(self.input(var)) {
            Some(bytes) => Ok(bytemuck::cast_slice_mut(bytes)),
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
            .is_some_and(|v| backend!(&self.has(*v)))
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
            self.run_locked()
        } else {
            let _guard = store.read();
            self.run_locked()
        }
    }

    fn run_locked(&mut self) -> Result<()> {
        match &mut self.backend {
            Backend::Cpu(b) => b.run(self.options, &mut self.times),
            Backend::Cuda(b) => {
                b.start(self.options)?;
                b.finish(self.options, &mut self.times)
            }
        }
    }

    /// Starts a run on a card and returns while it computes; on the CPU, runs. [`Session::finish`]
    /// waits; outputs are an error until then.
    ///
    /// # Errors
    /// [`Error::Tape`] for a session that updates parameters; use [`Session::run`].
    pub fn start(&mut self) -> Result<()> {
        if self.has_effects {
            return Err(Error::Tape(
                "a session that updates parameters runs in one piece; use `run`".into(),
            ));
        }
        let store = self.params.clone();
        match &mut self.backend {
            Backend::Cpu(_) => self.run(),
            Backend::Cuda(b) => {
                // The card runs launches in the order they were queued: an update cannot fall between.
                let _guard = store.read();
                b.start(self.options)
            }
        }
    }

    /// Waits for a run that was started; outputs are those of that run afterwards.
    pub fn finish(&mut self) -> Result<()> {
        match &mut self.backend {
            Backend::Cpu(_) => Ok(()),
            Backend::Cuda(b) => b.finish(self.options, &mut self.times),
        }
    }

    /// The values of a named output after a run.
    pub fn output<T: Element>(&self, name: &str) -> Result<&[T]> {
        let var = self.output_var(name)?;
        expect_dtype::<T>(name, self.tape.meta(var))?;
        if matches!(&self.backend, Backend::Cuda(b) if b.pending()) {
            // The card still writes there.
            return Err(Error::Tape(format!(
                "output `{name}` is being computed; call `finish` first"
            )));
        }
        match backend!(&self.output(var)) {
            Some(bytes) => Ok(bytemuck::cast_slice(bytes)),
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
        self.executed
            .iter()
            .copied()
            .zip(self.times.iter().copied())
    }

    /// The kernels that a node launches; none on the CPU.
    pub fn kernels(&self, var: Var) -> Vec<&str> {
        match &self.backend {
            Backend::Cpu(_) => Vec::new(),
            Backend::Cuda(b) => {
                let step = self.executed.iter().position(|&v| v == var);
                step.map_or(Vec::new(), |i| b.kernels(i))
            }
        }
    }

    /// What a [`Replay`](super::Replay) captures.
    ///
    /// # Errors
    /// [`Error::Tape`] on the CPU, and if a run updates parameters or measures its nodes.
    pub(super) fn on_card(&self) -> Result<&CudaRun> {
        match &self.backend {
            Backend::Cuda(run) if !self.has_effects && !self.options.profile => Ok(run),
            _ => Err(Error::Tape(
                "a replay is of a card, updates no parameters and measures no nodes".into(),
            )),
        }
    }

    /// The tape this session was made from.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Bytes of the arena: activations, scratch, inputs and outputs.
    pub fn arena_bytes(&self) -> usize {
        self.arena_bytes
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

/// A node without a planned region: a bug in the layout.
pub(super) fn no_memory() -> Error {
    Error::Internal("node without memory on this device".into())
}
