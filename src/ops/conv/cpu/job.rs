//! A convolution as the CPU's code takes it, and what it does with a sum before it is stored.

#![allow(clippy::needless_range_loop)] // indices are register numbers here

use crate::device::cpu::SendPtr;
use crate::device::simd::{LANES, Lanes};
use crate::ops::Activation;
use crate::ops::conv::geometry::AxisSize;

/// What happens to a sum before it is stored: `act(sum + bias) + residual`.
#[derive(Clone, Copy)]
pub(in crate::ops::conv) struct Epilogue<'a> {
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// The value of `N` whole channels from `channel`, the first of which is output element `at`.
    #[inline(always)]
    pub fn whole<const N: usize>(&self, mut v: [f32; N], channel: usize, at: usize) -> [f32; N] {
        if let Some(bias) = self.bias {
            let bias = &bias[channel..][..N];
            for n in 0..N {
                v[n] += bias[n];
            }
        }
        self.activation.apply(&mut v);
        if let Some(residual) = self.residual {
            let residual = &residual[at..][..N];
            for n in 0..N {
                v[n] += residual[n];
            }
        }
        v
    }

    /// [`Epilogue::whole`] of sums in registers, those of eight channels at `M` positions `pitch` elements apart, stored.
    ///
    /// # Safety
    /// Eight outputs from `at` at each position must be in range and this thread's own, the eight from `channel` channels
    /// of the output, and `L`'s instruction set available.
    #[inline(always)]
    pub unsafe fn store_lanes<L: Lanes, const M: usize>(
        self,
        mut sums: [L; M],
        channel: usize,
        (at, pitch): (usize, usize),
        out: SendPtr,
    ) {
        // SAFETY: the caller's contract; `check` made sure of a bias for each channel and of a residual as large as the
        // output.
        unsafe {
            // No closures: they are compiled without the instruction set, and nothing in them is inlined.
            if let Some(bias) = self.bias {
                let bias = L::load(bias.as_ptr().add(channel));
                for v in &mut sums {
                    *v = v.add(bias);
                }
            }
            match self.activation {
                Activation::None => {}
                Activation::LeakyRelu(slope) => {
                    let slope = L::splat(slope);
                    for v in &mut sums {
                        *v = v.leaky(slope);
                    }
                }
                Activation::Sigmoid => {
                    for v in &mut sums {
                        let mut values = [0.0f32; LANES];
                        v.store(values.as_mut_ptr());
                        Activation::Sigmoid.apply(&mut values);
                        *v = L::load(values.as_ptr());
                    }
                }
            }
            if let Some(residual) = self.residual {
                for (m, v) in sums.iter_mut().enumerate() {
                    *v = v.add(L::load(residual.as_ptr().add(at + m * pitch)));
                }
            }
            for (m, v) in sums.into_iter().enumerate() {
                v.store(out.at(at + m * pitch));
            }
        }
    }
}

/// A convolution ready to run; channels are those of the side that is read (`cin`) and written.
pub(in crate::ops::conv) struct Job<'a> {
    pub input: &'a [f32],
    pub batch: usize,
    pub rows: AxisSize,
    pub cols: AxisSize,
    pub cin: usize,
    pub cout: usize,
    pub epilogue: Epilogue<'a>,
    /// Forward, or the gradient with respect to the input.
    pub transposed: bool,
}

/// What the addresses of a job rely on.
pub(in crate::ops::conv) fn check(job: &Job<'_>, out: &[f32]) {
    let (r, c) = (job.rows, job.cols);
    let (from, to) = if job.transposed {
        (r.y * c.y, r.x * c.x)
    } else {
        (r.x * c.x, r.y * c.y)
    };
    let e = &job.epilogue;
    assert!(
        job.input.len() >= job.batch * from * job.cin
            && out.len() == job.batch * to * job.cout
            && e.bias.is_none_or(|b| b.len() == job.cout)
            && e.residual.is_none_or(|r| r.len() == out.len()),
        "slices of a convolution"
    );
}
