//! Softmax of a short vector and the weighted sum of candidates: the mixed operator of the search.

mod cuda;

use self::cuda::{DotsParams, ScaleByElementParams, dot_parts, launch_softmax};
use super::concat::PlaceChannels;
use super::registry::{Case, CaseInput, Fill};
use crate::device::cpu::{CpuIo, for_chunks, for_chunks_of_work};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tape::{MAX_TERMS, Meta, Operator, Tape, Var, check_inputs, launch_sum};
use crate::tensor::Real;
use crate::{Error, Result, dispatch_real};
use bytemuck::Zeroable;

/// Elements of one unit of work: its part of the result stays in the first-level cache.
const CHUNK: usize = 4096;

/// `y_k = exp(v_k) / sum over j of exp(v_j)`, over the last dimension.
///
/// The largest entry is subtracted first, so no exponential overflows.
///
/// # Shapes
/// `[K]`, `[N, K]` or any `[.., K]` with small `K`; the output has the same shape.
///
/// # Gradient
/// `dv_k = y_k (sum over j of y_j (g_k - g_j))`.
///
/// # Errors
/// [`Error::Shape`] for a scalar or if there are no entries.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let v = t.constant(&Tensor::from_vec([2], vec![0.0f32, 3.0f32.ln()])?)?;
/// let y = ops::softmax(&mut t, v)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.run()?;
/// assert!((s.output::<f32>("y")?[1] - 0.75).abs() < 1e-6);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn softmax(t: &mut Tape, v: Var) -> Result<Var> {
    t.record(Softmax, &[v])
}

/// The mixed operator (Eq. 1 of the paper) `y = sum over i of w_i x_i`, where `w` is the
/// [`softmax`] of the architecture parameters and `x_i` the outputs of the candidates.
///
/// # Shapes
/// `w: [K]`, `K` arrays of one shape, which is that of the output; `K` is 1 to [`MAX_TERMS`].
///
/// # Gradient
/// `dx_i = w_i g` and `dw_i = <x_i, g>`, all `K` products in one pass.
///
/// # Errors
/// [`Error::Shape`] if the shapes of the terms differ or `w` has another number of entries.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let w = t.constant(&Tensor::from_vec([2], vec![0.25f32, 0.75])?)?;
/// let (a, b) = (t.input("a", [1, 2, 2, 1])?, t.input("b", [1, 2, 2, 1])?);
/// let y = ops::weighted_sum(&mut t, w, &[a, b])?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("a", &Tensor::full([1, 2, 2, 1], DType::F32, 4.0))?;
/// s.set("b", &Tensor::full([1, 2, 2, 1], DType::F32, 8.0))?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [7.0; 4]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn weighted_sum(t: &mut Tape, w: Var, xs: &[Var]) -> Result<Var> {
    let inputs: Vec<Var> = std::iter::once(w).chain(xs.iter().copied()).collect();
    t.record(WeightedSum, &inputs)
}

/// See [`softmax`].
#[derive(Clone, Debug)]
pub struct Softmax;

/// Gradient of [`softmax`]. Inputs: its output, cotangent.
#[derive(Debug)]
struct SoftmaxGrad;

/// See [`weighted_sum`]. Inputs: weights, then the terms.
#[derive(Clone, Debug)]
pub struct WeightedSum;

/// `y = w_i x` with one element `i` of `w`. Inputs: `w`, `x`.
#[derive(Debug)]
struct ScaleByElement {
    index: usize,
}

/// `d_i = <x_i, g>`. Inputs: `g`, then the `x_i`.
#[derive(Debug)]
pub(super) struct Dots;

/// Length of the last dimension.
fn row_len(op: &'static str, m: Meta) -> Result<usize> {
    match m.shape.dims().last() {
        Some(&k) if k > 0 => Ok(k),
        _ => Err(Error::shape(
            op,
            format!("needs entries in the last dimension, found {}", m.shape),
        )),
    }
}

/// All `terms` must have one shape.
fn check_terms(op: &'static str, terms: &[Meta]) -> Result<()> {
    match terms.iter().find(|m| m.shape != terms[0].shape) {
        Some(other) => Err(Error::shape(
            op,
            format!("shapes {} and {} differ", terms[0].shape, other.shape),
        )),
        None => Ok(()),
    }
}

/// Inputs `1..` of an operator.
fn terms<'a, T: Real>(io: &CpuIo<'a>) -> Result<([&'a [T]; MAX_TERMS], usize)> {
    let mut xs: [&[T]; MAX_TERMS] = [&[]; MAX_TERMS];
    let k = io.len() - 1;
    for (i, x) in xs[..k].iter_mut().enumerate() {
        *x = io.input(i + 1)?;
    }
    Ok((xs, k))
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs("softmax", inputs, 1..=1)?;
        row_len("softmax", inputs[0])?;
        Ok(inputs[0])
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        Ok(vec![Some(t.record(SoftmaxGrad, &[node, cotangent])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(k: usize, io: &mut CpuIo<'_>) -> Result<()> {
            let v = io.input::<T>(0)?;
            let rows = CHUNK.div_ceil(k);
            for_chunks(io.output::<T>()?, rows * k, |i, out| {
                let v = &v[i * rows * k..];
                for (y, v) in out.chunks_exact_mut(k).zip(v.chunks_exact(k)) {
                    let max = v.iter().fold(T::neg_infinity(), |m, &v| m.max(v));
                    let mut sum = T::zero();
                    for (y, &v) in y.iter_mut().zip(v) {
                        *y = (v - max).exp();
                        sum += *y;
                    }
                    for y in y {
                        *y = *y / sum;
                    }
                }
            });
            Ok(())
        }
        let k = row_len("softmax", Meta::new(io.shape(0), io.dtype()))?;
        dispatch_real!(io.dtype(), "softmax", T => run::<T>(k, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        launch_softmax(io, "softmax_fwd", DevicePtr::NULL)
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        4 * output.shape.len() as u64
    }
}

impl Operator for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs("softmax_grad", inputs, 2..=2)?;
        check_terms("softmax_grad", inputs)?;
        row_len("softmax_grad", inputs[0])?;
        Ok(inputs[0])
    }

    fn vjp(&self, _: &mut Tape, _: Var, _: Var) -> Result<Vec<Option<Var>>> {
        Err(Error::NotDifferentiable {
            op: "softmax_grad",
            detail: "second derivatives are not supported".into(),
        })
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(k: usize, io: &mut CpuIo<'_>) -> Result<()> {
            let (y, g) = (io.input::<T>(0)?, io.input::<T>(1)?);
            let rows = CHUNK.div_ceil(k);
            for_chunks(io.output::<T>()?, rows * k, |i, out| {
                let (y, g) = (&y[i * rows * k..], &g[i * rows * k..]);
                let parts = y.chunks_exact(k).zip(g.chunks_exact(k));
                for (out, (y, g)) in out.chunks_exact_mut(k).zip(parts) {
                    // Differences first: where one entry is close to 1, `g_k - <g, y>` cancels.
                    for ((o, &yk), &gk) in out.iter_mut().zip(y).zip(g) {
                        let sum: T = y.iter().zip(g).map(|(&y, &g)| y * (gk - g)).sum();
                        *o = yk * sum;
                    }
                }
            });
            Ok(())
        }
        let k = row_len("softmax_grad", Meta::new(io.shape(0), io.dtype()))?;
        dispatch_real!(io.dtype(), "softmax_grad", T => run::<T>(k, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let g = io.input(1);
        launch_softmax(io, "softmax_bwd_input", g)
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        3 * row_len("softmax_grad", output).unwrap_or(0) as u64 * output.shape.len() as u64
    }
}

impl Operator for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs("weighted_sum", inputs, 2..=MAX_TERMS + 1)?;
        let terms = &inputs[1..];
        if inputs[0].shape.dims() != [terms.len()] {
            return Err(Error::shape(
                "weighted_sum",
                format!("weights {} for {} terms", inputs[0].shape, terms.len()),
            ));
        }
        check_terms("weighted_sum", terms)?;
        Ok(terms[0])
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let mut inputs = t.inputs_of(node).to_vec();
        let w = std::mem::replace(&mut inputs[0], cotangent);
        let mut out = vec![Some(t.record(Dots, &inputs)?)];
        for index in 0..inputs.len() - 1 {
            out.push(Some(t.record(ScaleByElement { index }, &[w, cotangent])?));
        }
        Ok(out)
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(io: &mut CpuIo<'_>) -> Result<()> {
            let w = io.input::<T>(0)?;
            let (xs, k) = terms::<T>(io)?;
            for_chunks(io.output::<T>()?, CHUNK, |i, out| {
                let at = i * CHUNK..i * CHUNK + out.len();
                for (o, &x) in out.iter_mut().zip(&xs[0][at.clone()]) {
                    *o = w[0] * x;
                }
                for (&w, x) in w[1..].iter().zip(&xs[1..k]) {
                    for (o, &x) in out.iter_mut().zip(&x[at.clone()]) {
                        *o += w * x;
                    }
                }
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), "weighted_sum", T => run::<T>(&mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let terms: Vec<DevicePtr> = (1..io.len()).map(|i| io.input(i)).collect();
        let w = io.input(0);
        launch_sum(io, w, &terms, false)
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        2 * (inputs.len() as u64 - 1) * output.shape.len() as u64
    }
}

impl Operator for ScaleByElement {
    fn name(&self) -> &'static str {
        "scale_by_element"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs("scale_by_element", inputs, 2..=2)?;
        let w = inputs[0].shape;
        if w.rank() != 1 || self.index >= w.len() {
            return Err(Error::shape(
                "scale_by_element",
                format!("weights {w} have no element {}", self.index),
            ));
        }
        Ok(inputs[1])
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let (w, x) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let place = PlaceChannels {
            from: self.index,
            channels: t.shape(w).len(),
        };
        let dot = t.record(Dots, &[cotangent, x])?;
        let dw = t.record(place, &[dot])?;
        let index = self.index;
        let dx = t.record(ScaleByElement { index }, &[w, cotangent])?;
        Ok(vec![Some(dw), Some(dx)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(index: usize, io: &mut CpuIo<'_>) -> Result<()> {
            let (w, x) = (io.input::<T>(0)?[index], io.input::<T>(1)?);
            for_chunks(io.output::<T>()?, CHUNK, |i, out| {
                for (o, &x) in out.iter_mut().zip(&x[i * CHUNK..]) {
                    *o = w * x;
                }
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), "scale_by_element", T => run::<T>(self.index, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let n = io.output_shape().len();
        let params = ScaleByElementParams {
            w: io.input(0),
            x: io.input(1),
            y: io.output(),
            n: io.int(n)?,
            index: io.int(self.index)?,
        };
        let blocks = io.blocks_for(n);
        io.launch("mixed", "scale_by_element_fwd", blocks, THREADS, params)
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        output.shape.len() as u64
    }
}

/// `<a, b>`: lanes that the compiler keeps in vector registers, added up in f64.
fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    const LANES: usize = 16;
    let mut lanes = [T::zero(); LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f64 = rest.map(|(&a, &b)| a.to_f64() * b.to_f64()).sum();
    for (a, b) in a.zip(b) {
        for ((l, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *l += a * b;
        }
    }
    lanes.into_iter().map(Real::to_f64).sum::<f64>() + rest
}

impl Operator for Dots {
    fn name(&self) -> &'static str {
        "dots"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("dots", inputs, 2..=MAX_TERMS + 1)?;
        check_terms("dots", inputs)?;
        Ok(Meta::new([inputs.len() - 1], dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        // Bilinear in g and the x_i.
        let inputs = t.inputs_of(node).to_vec();
        let (g, xs) = (inputs[0], &inputs[1..]);
        let mut out = vec![Some(weighted_sum(t, cotangent, xs)?)];
        for index in 0..xs.len() {
            out.push(Some(t.record(ScaleByElement { index }, &[cotangent, g])?));
        }
        Ok(out)
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(io: &mut CpuIo<'_>) -> Result<()> {
            let g = io.input::<T>(0)?;
            let (xs, k) = terms::<T>(io)?;
            let parts = g.len().div_ceil(CHUNK);
            let partial = &mut io.scratch::<f64>()?[..parts * k];
            let part = |i: usize, sums: &mut [f64]| {
                let at = i * CHUNK..g.len().min((i + 1) * CHUNK);
                for (s, x) in sums.iter_mut().zip(&xs) {
                    *s = dot(&g[at.clone()], &x[at.clone()]);
                }
            };
            for_chunks_of_work(g.len(), partial, k, part);
            for (i, d) in io.output::<T>()?.iter_mut().enumerate() {
                *d = T::lit(partial.iter().skip(i).step_by(k).sum());
            }
            Ok(())
        }
        dispatch_real!(io.dtype(), "dots", T => run::<T>(&mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let (n, count) = (io.shape(0).len(), io.len() - 1);
        let parts = dot_parts(n);
        let mut params = DotsParams::zeroed();
        for k in 0..count {
            params.x[k] = io.input(k + 1);
        }
        params.g = io.input(0);
        params.partials = io.scratch().0;
        params.y = io.output();
        params.n = io.int(n)?;
        params.count = io.int(count)?;
        params.parts = io.int(parts)?;
        io.launch("mixed", "dots_partial", count * parts, THREADS, params)?;
        io.launch("mixed", "dots_finish", count, THREADS, params)
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        4 * dot_parts(inputs[0].shape.len()) * (inputs.len() - 1)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        2 * (inputs.len() as u64 - 1) * inputs[0].shape.len() as u64
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let parts = inputs[0].shape.len().div_ceil(CHUNK);
        parts * (inputs.len() - 1) * size_of::<f64>()
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    let mut softmax = |label: &str, input| {
        out.push(Case::new(
            format!("softmax {label}"),
            Softmax,
            vec![input],
            8,
        ));
    };
    softmax("[1]", CaseInput::any([1]));
    softmax("[7]", CaseInput::any([7]));
    softmax(
        "far apart",
        CaseInput::new([3, 2], Fill::Uniform(-9.0, 9.0)),
    );
    softmax("[2, 1, 1, 8]", CaseInput::any([2, 1, 1, 8]));
    softmax("large", CaseInput::any([9001, 3]));
    let with = |shape, k: usize| {
        let mut inputs = vec![CaseInput::any([k])];
        inputs.resize(k + 1, CaseInput::any(shape));
        inputs
    };
    let mut add = |label: &str, shape: [usize; 4], k: usize| {
        let terms = k.max(shape.iter().product());
        let label = format!("weighted_sum {label}");
        out.push(Case::new(label, WeightedSum, with(shape, k), terms));
    };
    add("one term", [2, 3, 1, 5], 1);
    add("two terms", [1, 5, 2, 13], 2);
    add("16 terms", [1, 2, 3, 3], 16);
    add("large", [2, 61, 53, 4], 3);
    let shape = [1, 3, 5, 3];
    let scale = ScaleByElement { index: 1 };
    let inputs = vec![CaseInput::any([3]), CaseInput::any(shape)];
    out.push(Case::new("scale_by_element", scale, inputs, 45));
    let inputs = vec![CaseInput::any(shape); 4];
    out.push(Case::new("dots", Dots, inputs, 45));
    out
}
