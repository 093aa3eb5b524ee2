//! How bright a picture is and how much it varies, and two pictures of a scene brought to equal contrast.

use super::registry::{Case, CaseInput, Fill};
use super::sum;
use super::{broadcast::Repeat, sqrt, square, sub};
use super::{clamp, concat, div, exp, log, mean_samples, mul, offset, scale, slice_channels};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Attribute, Graph, Operand, Value};
use crate::tape::{Banded, Meta, Operator, Tape, Var, check_inputs, expect_shape};
use crate::tensor::{Element, Real, Shape};
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// Added to a variance, in squared grey values: a quarter of an 8-bit level counts as flat.
pub(crate) const FLAT: f64 = 1e-6;
/// Exponent of the ratio of deviations, and the most that contrast is raised or lowered.
const POWER: f64 = 0.25;
const MOST: f64 = 1.5;
/// Most blocks of a picture on a card.
const MAX_PARTS: usize = 256;

/// Mean and standard deviation of each whole picture: `x [N, H, W, 1]` to `[N, 1, 1, 2]`,
/// `(m, sqrt(mean of x^2 - m^2 + 1e-6))`.
///
/// # Gradient
/// Spread over all pixels: `(g_m + g_s (x - m) / s) / (H W)`.
///
/// # Errors
/// [`Error::Shape`] if `x` is not `[N, H, W, 1]`.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 1, 4, 1])?;
/// let y = ops::picture_levels(&mut t, x)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 1, 4, 1], vec![0.25f32, 0.75, 0.25, 0.75])?)?;
/// s.run()?;
/// let y = s.output::<f32>("y")?;
/// assert!(y[0] == 0.5 && (y[1] - 0.25).abs() < 1e-5);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn picture_levels(t: &mut Tape, x: Var) -> Result<Var> {
    t.record(PictureLevels, &[x])
}

/// Two pictures of a scene as they are, and without their means at contrasts brought closer:
///
/// `y = (a, b, r (a - m_a), (b - m_b) / r)`, `r = (s_b / s_a)^(1/4)`, at least 1 / 1.5 and at most 1.5
///
/// with means `m` and deviations `s` of the whole pictures, see [`picture_levels`]. The sum of the last two is
/// half-way, on a logarithmic scale, from the sum of both sources to the sum of both at equal deviations.
///
/// # Shapes
/// `a` and `b` `[N, H, W, 1]`, `levels` `[N, 1, 1, 2]` each; the result is `[N, H, W, 4]`.
///
/// # Gradient
/// With respect to all inputs.
///
/// # Errors
/// [`Error::Shape`] if shapes do not fit.
pub fn balance(t: &mut Tape, a: Var, b: Var, levels: [Var; 2]) -> Result<Var> {
    t.record(Balance, &[a, b, levels[0], levels[1]])
}

/// The factor `r` of [`balance`] on the contrast of A, `[N, 1, 1, 1]`.
pub(crate) fn balance_factor(t: &mut Tape, levels: [Var; 2]) -> Result<Var> {
    let [sa, sb] = levels.map(|l| slice_channels(t, l, 1, 1));
    let ratio = div(t, sb?, sa?)?;
    let ratio = log(t, ratio)?;
    let ratio = scale(t, ratio, POWER)?;
    let ratio = clamp(t, ratio, -MOST.ln(), MOST.ln())?;
    exp(t, ratio)
}

#[derive(Debug)]
struct PictureLevels;

/// `Levels` of `kernels/levels.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LevelsParams {
    x: DevicePtr,
    y: DevicePtr,
    partials: DevicePtr,
    n: i32,
    size: i32,
    parts: i32,
    rows: i32,
}

/// Parts of a picture of so many pixels, and pixels of a part.
fn parts(size: usize) -> [usize; 2] {
    let rows = size.div_ceil(MAX_PARTS).max(8 * THREADS);
    [size.div_ceil(rows), rows]
}

/// Samples and pixels of `x`.
fn pixels(x: Shape) -> [usize; 2] {
    let [n, h, w, _] = x.padded4();
    [n, h * w]
}

impl Operator for PictureLevels {
    fn name(&self) -> &'static str {
        "picture_levels"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 1..=1)?;
        let [n, h, w, _] = inputs[0].shape.dims4(self.name())?;
        expect_shape(self.name(), "x", inputs[0].shape, [n, h, w, 1].into())?;
        Ok(Meta::new([n, 1, 1, 2], dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let x = t.inputs_of(node)[0];
        let mean = mean_samples(t, x)?;
        let centred = sub(t, x, mean)?;
        let squares = square(t, centred)?;
        let variance = mean_samples(t, squares)?;
        let variance = offset(t, variance, FLAT)?;
        let deviation = sqrt(t, variance)?;
        let y = concat(t, &[mean, deviation])?;
        Ok(t.vjp_local(y, g, &[x])?.into_iter().map(Some).collect())
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let [n, size] = pixels(io.shape(0));
        let r = Repeat::new([n, size].into(), [n, 1].into());
        let r = r.ok_or_else(|| Error::shape(self.name(), "no pixels"))?;
        dispatch_real!(io.dtype(), "picture_levels", T => {
            let x = io.input::<T>(0)?;
            let scratch = io.scratch::<f64>()?;
            let (sums, scratch) = scratch.split_at_mut(2 * n);
            let sums: &mut [T] = bytemuck::cast_slice_mut(sums);
            let (means, squares) = sums.split_at_mut(n);
            let one = 1.0 / size as f64;
            sum::sum(r, (x, x), |x, _| x, one, means, scratch);
            sum::sum(r, (x, x), |a, b| a * b, one, &mut squares[..n], scratch);
            let pairs = means.iter().zip(&*squares);
            for (y, (&m, &q)) in io.output::<T>()?.chunks_exact_mut(2).zip(pairs) {
                let variance = (q - m * m).max(T::lit(0.0)) + T::lit(FLAT);
                (y[0], y[1]) = (m, variance.sqrt());
            }
            Ok(())
        })
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let [n, size] = pixels(inputs[0].shape);
        let r = Repeat::new([n, size].into(), [n, 1].into());
        8 * (2 * n + r.map_or(0, Repeat::sum_scratch))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let [n, size] = pixels(io.shape(0));
        let [parts, rows] = parts(size);
        let params = LevelsParams {
            x: io.input(0),
            y: io.output(),
            partials: io.scratch().0,
            n: io.int(n)?,
            size: io.int(n * size).and(io.int(size))?,
            parts: io.int(parts)?,
            rows: io.int(rows)?,
        };
        io.launch("levels", "levels_parts", n * parts, THREADS, params)?;
        io.launch("levels", "levels_fwd", n, THREADS, params)
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let [n, size] = pixels(inputs[0].shape);
        2 * size_of::<f32>() * n * parts(size)[0]
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let x = inputs[0].value(self.name())?;
        let axes = || [("axes", Attribute::Ints(vec![1, 2, 3]))];
        let mean = g.node("ReduceMean", &[x], &axes());
        let centred = g.node("Sub", &[x, &mean], &[]);
        let squares = g.node("Mul", &[&centred, &centred], &[]);
        let variance = g.node("ReduceMean", &[&squares], &axes());
        let flat = g.floats("flat", &[], &[FLAT as f32])?;
        let variance = g.node("Add", &[&variance, &flat], &[]);
        let deviation = g.node("Sqrt", &[&variance], &[]);
        Ok(g.node(
            "Concat",
            &[&mean, &deviation],
            &[("axis", Attribute::Int(1))],
        ))
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        3 * inputs[0].shape.len() as u64
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for PictureLevels {
    /// The one row of the output needs all rows of the picture, which should be an input: those lie in memory whole.
    fn reads(&self, _i: usize, whole: &[Meta], _rows: Range<usize>) -> Range<usize> {
        0..whole[0].shape.padded4()[1]
    }
}

#[derive(Debug)]
struct Balance;

/// `Balance` of `kernels/levels.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct BalanceParams {
    a: DevicePtr,
    b: DevicePtr,
    of_a: DevicePtr,
    of_b: DevicePtr,
    y: DevicePtr,
    n: i32,
    size: i32,
    power: f32,
    most: f32,
}

impl Operator for Balance {
    fn name(&self) -> &'static str {
        "balance"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 4..=4)?;
        let [n, h, w, _] = inputs[0].shape.dims4(self.name())?;
        for (what, input, wanted) in [
            ("a", 0, [n, h, w, 1]),
            ("b", 1, [n, h, w, 1]),
            ("levels of a", 2, [n, 1, 1, 2]),
            ("levels of b", 3, [n, 1, 1, 2]),
        ] {
            expect_shape(self.name(), what, inputs[input].shape, wanted.into())?;
        }
        Ok(Meta::new([n, h, w, 4], dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let &[a, b, la, lb] = t.inputs_of(node) else {
            return Err(Error::Internal("balance of other than 4 inputs".into()));
        };
        let r = balance_factor(t, [la, lb])?;
        let means = [la, lb].map(|l| slice_channels(t, l, 0, 1));
        let [ma, mb] = means;
        let centred = sub(t, a, ma?)?;
        let of_a = mul(t, centred, r)?;
        let centred = sub(t, b, mb?)?;
        let of_b = div(t, centred, r)?;
        let y = concat(t, &[a, b, of_a, of_b])?;
        let gradients = t.vjp_local(y, g, &[a, b, la, lb])?;
        Ok(gradients.into_iter().map(Some).collect())
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let [_, size] = pixels(io.shape(0));
        dispatch_real!(io.dtype(), "balance", T => run::<T>(size, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let [n, size] = pixels(io.shape(0));
        let params = BalanceParams {
            a: io.input(0),
            b: io.input(1),
            of_a: io.input(2),
            of_b: io.input(3),
            y: io.output(),
            n: io.int(4 * n * size).and(io.int(n * size))?,
            size: io.int(size)?,
            power: POWER as f32,
            most: MOST as f32,
        };
        let blocks = io.blocks_for(n * size);
        io.launch("levels", "balance_fwd", blocks, THREADS, params)
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let values = inputs.iter().map(|x| x.value(self.name()));
        let values: Vec<Value> = values.map(|v| v.cloned()).collect::<Result<_>>()?;
        let mut part = |x: &Value, from: i64| -> Result<Value> {
            let starts = g.ints(&format!("channel{from}"), &[from])?;
            let ends = g.ints(&format!("channel{}", from + 1), &[from + 1])?;
            let axes = g.ints("channel_axis", &[1])?;
            Ok(g.node("Slice", &[x, &starts, &ends, &axes], &[]))
        };
        let (ma, sa) = (part(&values[2], 0)?, part(&values[2], 1)?);
        let (mb, sb) = (part(&values[3], 0)?, part(&values[3], 1)?);
        let ratio = g.node("Div", &[&sb, &sa], &[]);
        let power = g.floats("balance_power", &[], &[POWER as f32])?;
        let ratio = g.node("Pow", &[&ratio, &power], &[]);
        let least = g.floats("balance_least", &[], &[(1.0 / MOST) as f32])?;
        let most = g.floats("balance_most", &[], &[MOST as f32])?;
        let r = g.node("Clip", &[&ratio, &least, &most], &[]);
        let a = g.node("Sub", &[&values[0], &ma], &[]);
        let a = g.node("Mul", &[&a, &r], &[]);
        let b = g.node("Sub", &[&values[1], &mb], &[]);
        let b = g.node("Div", &[&b, &r], &[]);
        let all = [&values[0], &values[1], &a, &b];
        Ok(g.node("Concat", &all, &[("axis", Attribute::Int(1))]))
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        4 * inputs[0].shape.len() as u64
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for Balance {
    fn reads(&self, i: usize, _whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        if i < 2 { rows } else { 0..1 }
    }
}

/// `size` pixels of each sample.
fn run<T: Real + Element>(size: usize, io: &mut CpuIo<'_>) -> Result<()> {
    let (a, b) = (io.input::<T>(0)?, io.input::<T>(1)?);
    let (of_a, of_b) = (io.input::<T>(2)?, io.input::<T>(3)?);
    const CHUNK: usize = 1024;
    let out = io.output::<T>()?;
    for (n, out) in out.chunks_exact_mut(4 * size).enumerate() {
        let (la, lb) = (&of_a[2 * n..], &of_b[2 * n..]);
        let bound = T::lit(MOST);
        let r = (lb[1] / la[1]).powf(T::lit(POWER));
        let r = r.max(T::one() / bound).min(bound);
        let inverse = T::one() / r;
        let (ma, mb) = (la[0], lb[0]);
        let (a, b) = (&a[n * size..][..size], &b[n * size..][..size]);
        for_chunks(out, 4 * CHUNK, |i, out| {
            let pairs = a[i * CHUNK..].iter().zip(&b[i * CHUNK..]);
            for (y, (&a, &b)) in out.chunks_exact_mut(4).zip(pairs) {
                (y[0], y[1], y[2], y[3]) = (a, b, (a - ma) * r, (b - mb) * inverse);
            }
        });
    }
    Ok(())
}

pub(crate) fn cases() -> Vec<Case> {
    let grey = |shape: [usize; 4]| CaseInput::new(shape, Fill::Uniform(0.0, 1.0));
    let mut out = Vec::new();
    for x in [
        [1, 1, 1, 1],
        [2, 5, 7, 1],
        [3, 1, 13, 1],
        [1, 8, 16, 1],
        [2, 97, 101, 1], // several parts on a card
    ] {
        let label = format!("picture_levels {x:?}");
        // The step of a difference is no longer small beside the deviation of a single pixel.
        let terms = x[1] * x[2];
        if terms > 1 {
            out.push(Case::new(label, PictureLevels, vec![grey(x)], terms));
        }
        let levels = |lo, hi| CaseInput::new([x[0], 1, 1, 2], Fill::Uniform(lo, hi));
        for (kind, lo, hi) in [("near", 0.2, 0.3), ("far", 0.9, 0.99)] {
            let inputs = vec![grey(x), grey(x), levels(0.1, 0.15), levels(lo, hi)];
            out.push(Case::new(
                format!("balance {kind} {x:?}"),
                Balance,
                inputs,
                4,
            ));
        }
    }
    out
}
