//! The sum of cotangents that meet at a node, and the launch that it shares with weighted sums.

use super::{Meta, Operator, Tape, Var, check_inputs};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tensor::Real;
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};

/// Most terms of a sum that one kernel takes.
pub const MAX_TERMS: usize = 16;

/// `y = x1 + x2 + ... + xk`, all of one shape, summed from left to right.
#[derive(Debug)]
pub(crate) struct Accumulate;

impl Operator for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs("accumulate", inputs, 1..=usize::MAX)?;
        if let Some(other) = inputs.iter().find(|m| m.shape != inputs[0].shape) {
            return Err(Error::shape(
                "accumulate",
                format!("shapes {} and {} differ", inputs[0].shape, other.shape),
            ));
        }
        Ok(inputs[0])
    }

    fn vjp(&self, tape: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        Ok(vec![Some(cotangent); tape.inputs_of(node).len()])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(io: &mut CpuIo<'_>) -> Result<()> {
            const CHUNK: usize = 4096;
            let out = io.output::<T>()?;
            // A chunk takes many terms while it is in the cache. No list is allocated in a run.
            for first in (0..io.len()).step_by(MAX_TERMS) {
                let mut terms: [&[T]; MAX_TERMS] = [&[]; MAX_TERMS];
                let count = MAX_TERMS.min(io.len() - first);
                for (k, term) in terms[..count].iter_mut().enumerate() {
                    *term = io.input(first + k)?;
                }
                for_chunks(out, CHUNK, |i, o| {
                    let at = i * CHUNK..i * CHUNK + o.len();
                    let mut terms = terms[..count].iter();
                    if first == 0
                        && let Some(x) = terms.next()
                    {
                        o.copy_from_slice(&x[at.clone()]);
                    }
                    for x in terms {
                        for (o, &a) in o.iter_mut().zip(&x[at.clone()]) {
                            *o += a;
                        }
                    }
                });
            }
            Ok(())
        }
        dispatch_real!(io.dtype(), "accumulate", T => run::<T>(&mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let terms: Vec<DevicePtr> = (0..io.len()).map(|i| io.input(i)).collect();
        for (i, terms) in terms.chunks(MAX_TERMS).enumerate() {
            launch_sum(io, DevicePtr::NULL, terms, i > 0)?;
        }
        Ok(())
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        (inputs.len() as u64 - 1) * output.shape.len() as u64
    }
}

/// `WeightedSum` of `kernels/mixed.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WeightedSumParams {
    x: [DevicePtr; MAX_TERMS],
    w: DevicePtr,
    y: DevicePtr,
    n: i32,
    count: i32,
    onto: i32,
    unused: i32,
}

/// Launches `y (+)= sum over terms of w_k x_k`, or the plain sum without `w`.
pub(crate) fn launch_sum(
    io: &mut CudaIo<'_>,
    w: DevicePtr,
    terms: &[DevicePtr],
    onto: bool,
) -> Result<()> {
    let n = io.output_shape().len();
    let mut params = WeightedSumParams::zeroed();
    params.x[..terms.len()].copy_from_slice(terms);
    params.w = w;
    params.y = io.output();
    params.n = io.int(n)?;
    params.count = io.int(terms.len())?;
    params.onto = i32::from(onto);
    let blocks = io.blocks_for(n);
    io.launch("mixed", "weighted_sum_fwd", blocks, THREADS, params)
}
