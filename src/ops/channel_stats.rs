//! Maximum, mean and range over the channels of each position.

use super::lanes::group;
use super::registry::{Case, CaseInput, Fill};
use crate::device::cpu::{CpuIo, for_chunks, for_chunks_of_work};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Attribute, Graph, Operand, Value};
use crate::tape::{Banded, Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::Real;
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};

/// `y = (max over c of x[.., c], mean over c of x[.., c])` in one pass, the input of spatial
/// attention (Woo et al., "CBAM", ECCV 2018, eq. 3).
///
/// # Shapes
/// `x [N, H, W, C]` to `[N, H, W, 2]`.
///
/// # Gradient
/// That of the maximum goes to the first channel that attains it.
///
/// # Errors
/// [`Error::Shape`] if `x` does not have four dimensions.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 1, 1, 3])?;
/// let y = ops::channel_stats(&mut t, x)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 1, 1, 3], vec![1.0f32, 6.0, 2.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [6.0, 3.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn channel_stats(t: &mut Tape, x: Var) -> Result<Var> {
    t.record(Stats::new(Kind::MaxMean), &[x])
}

/// `y = max over c of x[.., c] - min over c of x[.., c]`.
///
/// # Shapes
/// `x [N, H, W, C]` to `[N, H, W, 1]`.
///
/// # Gradient
/// Plus the cotangent at the first maximum, minus it at the first minimum.
///
/// # Errors
/// [`Error::Shape`] if `x` does not have four dimensions.
pub fn channel_range(t: &mut Tape, x: Var) -> Result<Var> {
    t.record(Stats::new(Kind::Range), &[x])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MaxMean,
    Range,
}

impl Kind {
    fn outputs(self) -> usize {
        match self {
            Kind::MaxMean => 2,
            Kind::Range => 1,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Stats {
    kind: Kind,
    /// On CUDA, one thread for a pixel.
    naive: bool,
}

impl Stats {
    fn new(kind: Kind) -> Self {
        Self { kind, naive: false }
    }

    /// The operator of [`channel_stats`].
    pub fn max_mean() -> Self {
        Self::new(Kind::MaxMean)
    }
}

/// `Stats` of `kernels/channel_stats.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct StatsParams {
    x: DevicePtr,
    y: DevicePtr,
    pixels: i32,
    channels: i32,
    group: i32,
    range: i32,
}

/// `StatsGrad` of `kernels/channel_stats.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct StatsGradParams {
    x: DevicePtr,
    g: DevicePtr,
    dx: DevicePtr,
    pixels: i32,
    channels: i32,
    group: i32,
    range: i32,
}

/// Channels that a kernel can number: it keeps the place of a maximum in an f32.
const MAX_CHANNELS: usize = 1 << 24;

impl Operator for Stats {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::MaxMean => "channel_stats",
            Kind::Range => "channel_range",
        }
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 1..=1)?;
        let [n, h, w, c] = inputs[0].shape.dims4(self.name())?;
        if c == 0 {
            let detail = format!("{} has no channels", inputs[0].shape);
            return Err(Error::shape(self.name(), detail));
        }
        Ok(Meta::new([n, h, w, self.kind.outputs()], dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let x = t.inputs_of(node)[0];
        let op = StatsVjp(self.clone());
        Ok(vec![Some(t.record(op, &[x, cotangent])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let [.., c] = io.shape(0).padded4();
        dispatch_real!(io.dtype(), self.name(), T => {
            let (x, out) = (io.input::<T>(0)?, io.output::<T>()?);
            match self.kind {
                Kind::MaxMean => {
                    let share = T::lit(1.0 / c as f64);
                    for_positions(x, c, out, 2, |x, out| {
                        let (max, sum) = max_and_sum(x);
                        out[0] = max;
                        out[1] = sum * share;
                    });
                }
                Kind::Range => for_positions(x, c, out, 1, |x, out| {
                    let (max, min) = max_and_min(x);
                    out[0] = max - min;
                }),
            }
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let (pixels, c, group) = self.sizes(io)?;
        let params = StatsParams {
            x: io.input(0),
            y: io.output(),
            pixels: io.int(pixels)?,
            channels: io.int(c)?,
            group: io.int(group)?,
            range: (self.kind == Kind::Range).into(),
        };
        let kernel = match self.naive {
            true => "channel_stats_naive_fwd",
            false => "channel_stats_fwd",
        };
        let blocks = io.blocks_for(pixels * group);
        io.launch("channel_stats", kernel, blocks, THREADS, params)
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let x = inputs[0].value(self.name())?;
        let channels = [("axes", Attribute::Ints(vec![1]))];
        let max = g.node("ReduceMax", &[x], &channels);
        Ok(match self.kind {
            Kind::MaxMean => {
                let mean = g.node("ReduceMean", &[x], &channels);
                g.node("Concat", &[&max, &mean], &[("axis", Attribute::Int(1))])
            }
            Kind::Range => {
                let min = g.node("ReduceMin", &[x], &channels);
                g.node("Sub", &[&max, &min], &[])
            }
        })
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        2 * inputs[0].shape.len() as u64
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for Stats {}

impl Stats {
    /// Pixels, channels and lanes of a pixel.
    fn sizes(&self, io: &CudaIo<'_>) -> Result<(usize, usize, usize)> {
        let shape = io.shape(0);
        let c = shape.padded4()[3];
        io.int(shape.len())?;
        if c > MAX_CHANNELS {
            return Err(Error::shape(
                self.name(),
                format!("{c} channels; on CUDA at most {MAX_CHANNELS} are supported"),
            ));
        }
        Ok((shape.len() / c, c, group(io.dtype(), c)))
    }
}

/// Inputs: `x`, cotangent.
#[derive(Debug)]
struct StatsVjp(Stats);

impl Operator for StatsVjp {
    fn name(&self) -> &'static str {
        match self.0.kind {
            Kind::MaxMean => "channel_stats_vjp",
            Kind::Range => "channel_range_vjp",
        }
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(self.name(), inputs, 2..=2)?;
        Ok(inputs[0])
    }

    fn vjp(&self, _: &mut Tape, _: Var, _: Var) -> Result<Vec<Option<Var>>> {
        Err(Error::NotDifferentiable {
            op: self.name(),
            detail: "second derivatives are not supported".into(),
        })
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(kind: Kind, io: &mut CpuIo<'_>) -> Result<()> {
            let [.., c] = io.shape(0).padded4();
            let (x, g, out) = (io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>()?);
            let (rows, k) = (block(c), kind.outputs());
            let share = T::lit(1.0 / c as f64);
            for_chunks(out, rows * c, |i, out| {
                let x = &x[i * rows * c..][..out.len()];
                let g = &g[i * rows * k..][..out.len() / c * k];
                let positions = out.chunks_exact_mut(c).zip(x.chunks_exact(c));
                for ((out, x), g) in positions.zip(g.chunks_exact(k)) {
                    match kind {
                        Kind::MaxMean => {
                            out.fill(g[1] * share);
                            add_at_first(x, max_and_sum(x).0, g[0], out);
                        }
                        Kind::Range => {
                            let (max, min) = max_and_min(x);
                            out.fill(T::zero());
                            add_at_first(x, max, g[0], out);
                            add_at_first(x, min, -g[0], out);
                        }
                    }
                }
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), self.name(), T => run::<T>(self.0.kind, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let (pixels, c, group) = self.0.sizes(io)?;
        let params = StatsGradParams {
            x: io.input(0),
            g: io.input(1),
            dx: io.output(),
            pixels: io.int(pixels)?,
            channels: io.int(c)?,
            group: io.int(group)?,
            range: (self.0.kind == Kind::Range).into(),
        };
        let kernel = match self.0.naive {
            true => "channel_stats_naive_bwd_input",
            false => "channel_stats_bwd_input",
        };
        let blocks = io.blocks_for(pixels * group);
        io.launch("channel_stats", kernel, blocks, THREADS, params)
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        2 * output.shape.len() as u64
    }
}

/// Positions that one task handles.
fn block(c: usize) -> usize {
    (4096 / c).max(1)
}

/// Calls `f(channels of x, k values of out)` at each position.
fn for_positions<T: Real>(
    x: &[T],
    c: usize,
    out: &mut [T],
    k: usize,
    f: impl Fn(&[T], &mut [T]) + Sync + Send,
) {
    let rows = block(c);
    for_chunks_of_work(x.len(), out, rows * k, |i, out| {
        let x = &x[i * rows * c..][..out.len() / k * c];
        for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(k)) {
            f(x, out);
        }
    });
}

fn add_at_first<T: Real>(x: &[T], value: T, g: T, out: &mut [T]) {
    // NaN equals nothing: then no channel gets the gradient.
    if let Some(i) = x.iter().position(|&v| v == value) {
        out[i] += g;
    }
}

const LANES: usize = 8;

/// Folds the values of one position into two accumulators, in lanes.
#[inline(always)]
fn fold<T: Real>(x: &[T], start: (T, T), f: impl Fn(T, T) -> T, g: impl Fn(T, T) -> T) -> (T, T) {
    let (mut a, mut b) = ([start.0; LANES], [start.1; LANES]);
    let chunks = x.chunks_exact(LANES);
    let tail = chunks.remainder();
    for x in chunks {
        for ((a, b), &v) in a.iter_mut().zip(&mut b).zip(x) {
            *a = f(*a, v);
            *b = g(*b, v);
        }
    }
    for ((a, b), &v) in a.iter_mut().zip(&mut b).zip(tail) {
        *a = f(*a, v);
        *b = g(*b, v);
    }
    let both = a.into_iter().zip(b);
    both.fold(start, |(a, b), (x, y)| (f(a, x), g(b, y)))
}

fn larger<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

fn smaller<T: Real>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

fn max_and_sum<T: Real>(x: &[T]) -> (T, T) {
    fold(x, (T::neg_infinity(), T::zero()), larger, |a, b| a + b)
}

fn max_and_min<T: Real>(x: &[T]) -> (T, T) {
    fold(x, (T::neg_infinity(), T::infinity()), larger, smaller)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for kind in [Kind::MaxMean, Kind::Range] {
        for (label, shape) in [
            ("one pixel, one channel", [1, 1, 1, 1]),
            ("two channels", [2, 5, 3, 2]),
            ("three channels", [1, 4, 5, 3]),
            ("8 channels, one row", [2, 1, 7, 8]),
            ("19 channels, one column", [1, 9, 1, 19]),
            ("large", [2, 41, 43, 20]),
            // Several packs for a lane, with and without a remainder.
            ("304 channels", [1, 3, 5, 304]),
            ("73 channels", [1, 5, 3, 73]),
        ] {
            for naive in [false, true] {
                let op = Stats { kind, naive };
                let suffix = if naive { ", naive" } else { "" };
                let label = format!("{} {label}{suffix}", op.name());
                let inputs = vec![CaseInput::new(shape, Fill::Distinct)];
                out.push(Case::new(label, op, inputs, shape[3]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, ParamStore, Session, Tensor};

    #[test]
    fn equal_values_give_the_gradient_to_the_first() -> Result<()> {
        let mut t = Tape::new(DType::F32);
        let x = t.input("x", [1, 1, 1, 4])?;
        let y = channel_range(&mut t, x)?;
        let loss = crate::ops::sum_all(&mut t, y)?;
        let dx = t.grad(loss, &[x])?[0];
        t.output("dx", dx)?;
        let mut s = Session::new(&t, &ParamStore::default())?;
        s.set(
            "x",
            &Tensor::from_vec([1, 1, 1, 4], vec![0.0f32, 2.0, 2.0, 0.0])?,
        )?;
        s.run()?;
        assert_eq!(s.output::<f32>("dx")?, [-1.0, 1.0, 0.0, 0.0]);
        Ok(())
    }
}
