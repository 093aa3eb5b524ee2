//! What a card reaches when nothing is in the way: bytes copied, multiply-adds, tensor-core products.

use crate::Result;
use crate::device::Device;
use crate::device::cpu::CpuIo;
use crate::device::cuda::Cuda;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::search::{Timing, warm_up};
use crate::tape::{Meta, Operator, ParamStore, Session, SessionOptions, Tape, Var};
use crate::tensor::{DType, Tensor};
use crate::{Error, Shape};
use bytemuck::{Pod, Zeroable};
use serde::Serialize;
use std::sync::Arc;

/// Measured ceilings of a card.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceilings {
    /// Read and written bytes of a copy, GB/s.
    pub copy_gb_per_s: f64,
    /// f32 multiply-adds in registers, TFLOP/s.
    pub f32_tflop_per_s: f64,
    /// f16 products on tensor cores with f32 sums, TFLOP/s; `None` before sm_75.
    pub f16_tflop_per_s: Option<f64>,
}

impl Ceilings {
    /// Share of the nearer ceiling, in percent, of work done in `seconds`.
    pub fn percent(&self, dtype: DType, flops: u64, bytes: u64, seconds: f64) -> f64 {
        let peak = match dtype {
            DType::F16 => self.f16_tflop_per_s.unwrap_or(self.f32_tflop_per_s),
            _ => self.f32_tflop_per_s,
        };
        let compute = flops as f64 / (peak * 1e12);
        let memory = bytes as f64 / (self.copy_gb_per_s * 1e9);
        100.0 * compute.max(memory) / seconds
    }
}

/// Measures, with `effort` times the work of the smallest run; leaves the card warm.
pub fn measure(cuda: &Arc<Cuda>, effort: usize) -> Result<Ceilings> {
    let blocks = cuda.card().multiprocessors as usize * 8;
    let threads = blocks * THREADS;
    let rounds = 64 * effort;
    let session = |kind, dtype, shape: Shape| {
        let op = Ceiling {
            kind,
            blocks,
            rounds,
        };
        op.session(cuda, dtype, shape)
    };
    let seconds = |kind, dtype, shape| time(session(kind, dtype, shape)?);
    let mut warm = session(Kind::MultiplyAdd, DType::F32, [threads].into())?;
    warm_up(&Device::Cuda(cuda.clone()), 0, || warm.run())?;
    // Larger than any cache, from a certain effort on.
    let copied = (effort << 18).next_multiple_of(8);
    let copy = seconds(Kind::Copy, DType::F32, [copied].into())?;
    let ffma = seconds(Kind::MultiplyAdd, DType::F32, [threads].into())?;
    let tensor = match cuda.card().tensor_cores() {
        true => Some(seconds(Kind::TensorCore, DType::F16, [threads].into())?),
        false => None,
    };
    let rounds = rounds as f64;
    Ok(Ceilings {
        copy_gb_per_s: 8.0 * copied as f64 / copy / 1e9,
        f32_tflop_per_s: 2.0 * 16.0 * rounds * threads as f64 / ffma / 1e12,
        f16_tflop_per_s: tensor
            .map(|s| 2.0 * 2048.0 * 8.0 * rounds * (threads / 32) as f64 / s / 1e12),
    })
}

/// Median seconds of a run.
fn time(mut session: Session) -> Result<f64> {
    let timing = Timing::of(2, 5, || {
        session.run()?;
        Ok(session.times().map(|(_, t)| t.as_secs_f64()).sum())
    })?;
    Ok(timing.median_ms / 1e3)
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Copy,
    MultiplyAdd,
    TensorCore,
    /// One thread that waits for `rounds` cycles and gives how many passed.
    Clock,
}

/// Work without a purpose; the output has the input's shape.
#[derive(Debug)]
pub struct Ceiling {
    pub kind: Kind,
    pub blocks: usize,
    pub rounds: usize,
}

impl Ceiling {
    /// A session that runs and times it: from `x` of this shape to `y`.
    pub fn session(self, cuda: &Arc<Cuda>, dtype: DType, shape: Shape) -> Result<Session> {
        let mut t = Tape::new(dtype);
        let x = t.input("x", shape)?;
        let y = t.record(self, &[x])?;
        t.output("y", y)?;
        let options = SessionOptions {
            profile: true,
            ..SessionOptions::default()
        };
        let store = ParamStore::on(&Device::Cuda(cuda.clone()));
        let mut session = Session::with_options(&t, &store, options)?;
        session.set("x", &Tensor::full(shape, dtype, 0.5))?;
        Ok(session)
    }
}

/// `Copy` of `kernels/ceiling.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct CopyParams {
    x: DevicePtr,
    y: DevicePtr,
    n: i32,
    unused: i32,
}

/// `Loop` of `kernels/ceiling.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LoopParams {
    y: DevicePtr,
    rounds: i32,
    unused: i32,
}

impl Operator for Ceiling {
    fn name(&self) -> &'static str {
        "ceiling"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        Ok(inputs[0])
    }

    fn vjp(&self, _: &mut Tape, _: Var, _: Var) -> Result<Vec<Option<Var>>> {
        Err(Error::NotDifferentiable {
            op: "ceiling",
            detail: "it measures".into(),
        })
    }

    fn cpu(&self, _: CpuIo<'_>) -> Result<()> {
        Err(Error::Internal("ceilings are those of a card".into()))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let rounds = io.int(self.rounds)?;
        let looped = LoopParams {
            y: io.output(),
            rounds,
            unused: 0,
        };
        match self.kind {
            Kind::Copy => {
                let n = io.output_shape().len();
                let params = CopyParams {
                    x: io.input(0),
                    y: io.output(),
                    n: io.int(n)?,
                    unused: 0,
                };
                let blocks = io.blocks_for(n / 4);
                io.launch("ceiling", "ceiling_copy", blocks, THREADS, params)
            }
            Kind::MultiplyAdd => io.launch(
                "ceiling",
                "ceiling_multiply_add",
                self.blocks,
                THREADS,
                looped,
            ),
            Kind::TensorCore => io.launch(
                "ceiling",
                "ceiling_tensor_core",
                self.blocks,
                THREADS,
                looped,
            ),
            Kind::Clock => io.launch("ceiling", "ceiling_clock", self.blocks, 32, looped),
        }
    }

    fn flops(&self, _: &[Meta], _: Meta) -> u64 {
        0
    }
}
