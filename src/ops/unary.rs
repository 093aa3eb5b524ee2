//! Functions of one value, element by element.

use super::registry::{Case, CaseInput, Fill};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Graph, Operand, Value};
use crate::tape::{Banded, Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::Real;
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};

/// `y = x` for `x > 0`, else `slope * x`. At 0 the gradient is that of the left side.
pub fn leaky_relu(t: &mut Tape, x: Var, slope: f64) -> Result<Var> {
    unary(t, Kind::LeakyRelu(slope), x)
}

/// `y = max(x, 0)`. The gradient at 0 is 0.
pub fn relu(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::LeakyRelu(0.0), x)
}

/// `y = 1 / (1 + exp(-x))`, without overflow for any finite `x`. The gradient is `y (1 - y)`.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [3])?;
/// let y = ops::sigmoid(&mut t, x)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([3], vec![-1e30f32, 0.0, 1e30])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [0.0, 0.5, 1.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn sigmoid(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Sigmoid, x)
}

/// `y = tanh(x)`. The gradient is `1 - y^2`.
pub fn tanh(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Tanh, x)
}

/// `y = exp(x)`. The gradient is `y`.
pub fn exp(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Exp, x)
}

/// `y = ln(x)`. The gradient is `1 / x`.
pub fn log(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Log, x)
}

/// `y = sqrt(x)`. The gradient is `1 / (2 y)`, infinite at 0.
pub fn sqrt(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Sqrt, x)
}

/// `y = x^2`. The gradient is `2 x`.
pub fn square(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Square, x)
}

/// `y = |x|`. The gradient is the sign of `x`, and 0 at 0.
pub fn abs(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Abs, x)
}

/// `y = -x`.
pub fn neg(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Scale(-1.0), x)
}

/// `y = 1 / x`. The gradient is `-y^2`.
pub fn recip(t: &mut Tape, x: Var) -> Result<Var> {
    unary(t, Kind::Recip, x)
}

/// `y = s * x`.
pub fn scale(t: &mut Tape, x: Var, s: f64) -> Result<Var> {
    unary(t, Kind::Scale(s), x)
}

/// `y = x + s`.
pub fn offset(t: &mut Tape, x: Var, s: f64) -> Result<Var> {
    unary(t, Kind::Offset(s), x)
}

/// `y = min(max(x, lo), hi)`. The gradient is 1 where `lo <= x <= hi`, else 0.
///
/// # Errors
/// [`Error::Config`] unless `lo <= hi`.
pub fn clamp(t: &mut Tape, x: Var, lo: f64, hi: f64) -> Result<Var> {
    if lo.is_nan() || hi.is_nan() || lo > hi {
        return Err(Error::config(
            "clamp",
            format!("no values from {lo} to {hi}"),
        ));
    }
    unary(t, Kind::Clamp(lo, hi), x)
}

/// The identity between `end` and `1 - end`; beyond, values approach 0 and 1 and never leave them:
/// `y = end exp(x / end - 1)` below `end`, and `1 - y(1 - x)` above `1 - end`.
///
/// Value and slope agree where the parts meet. The gradient is `y / end` below, `(1 - y) / end` above.
///
/// # Errors
/// [`Error::Config`] unless `0 < end <= 0.5`.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [3])?;
/// let y = ops::soft_clamp(&mut t, x, 0.05)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([3], vec![-0.1f32, 0.3, 1.1])?)?;
/// s.run()?;
/// let y = s.output::<f32>("y")?;
/// assert!(y[0] > 0.0 && y[1] == 0.3 && y[2] < 1.0);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn soft_clamp(t: &mut Tape, x: Var, end: f64) -> Result<Var> {
    if !(end > 0.0 && end <= 0.5) {
        return Err(Error::config(
            "soft_clamp",
            format!("an end of {end}; give one above 0, at most 0.5"),
        ));
    }
    unary(t, Kind::SoftClamp(end), x)
}

/// [`sigmoid`] of slices.
pub(super) fn sigmoid_of<T: Real>(x: &[T], out: &mut [T]) {
    Kind::Sigmoid.apply(x, out);
}

fn unary(t: &mut Tape, kind: Kind, x: Var) -> Result<Var> {
    t.record(Unary { kind }, &[x])
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    LeakyRelu(f64),
    Sigmoid,
    Tanh,
    Exp,
    Log,
    Sqrt,
    Square,
    Abs,
    Recip,
    Scale(f64),
    Offset(f64),
    Clamp(f64, f64),
    SoftClamp(f64),
}

/// What the derivative is read from.
enum Needs {
    X,
    Y,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::LeakyRelu(0.0) => "relu",
            Kind::LeakyRelu(_) => "leaky_relu",
            Kind::Sigmoid => "sigmoid",
            Kind::Tanh => "tanh",
            Kind::Exp => "exp",
            Kind::Log => "log",
            Kind::Sqrt => "sqrt",
            Kind::Square => "square",
            Kind::Abs => "abs",
            Kind::Recip => "recip",
            Kind::Scale(-1.0) => "neg",
            Kind::Scale(_) => "scale",
            Kind::Offset(_) => "offset",
            Kind::Clamp(..) => "clamp",
            Kind::SoftClamp(_) => "soft_clamp",
        }
    }

    /// Number and constants in `kernels/unary.cu`.
    fn code(self) -> (i32, f32, f32) {
        match self {
            Kind::LeakyRelu(slope) => (0, slope as f32, 0.0),
            Kind::Sigmoid => (1, 0.0, 0.0),
            Kind::Tanh => (2, 0.0, 0.0),
            Kind::Exp => (3, 0.0, 0.0),
            Kind::Log => (4, 0.0, 0.0),
            Kind::Sqrt => (5, 0.0, 0.0),
            Kind::Square => (6, 0.0, 0.0),
            Kind::Abs => (7, 0.0, 0.0),
            Kind::Recip => (8, 0.0, 0.0),
            Kind::Scale(s) => (9, s as f32, 0.0),
            Kind::Offset(s) => (10, s as f32, 0.0),
            Kind::Clamp(lo, hi) => (11, lo as f32, hi as f32),
            Kind::SoftClamp(end) => (12, end as f32, 0.0),
        }
    }

    fn needs(self) -> Needs {
        match self {
            Kind::Sigmoid | Kind::Tanh | Kind::Exp | Kind::Sqrt | Kind::Recip => Needs::Y,
            Kind::SoftClamp(_) => Needs::Y,
            _ => Needs::X,
        }
    }

    /// `f(x)`.
    fn apply<T: Real>(self, x: &[T], out: &mut [T]) {
        let one = T::one();
        match self {
            Kind::LeakyRelu(slope) => {
                let slope = T::lit(slope);
                map(x, out, |x| if x > T::zero() { x } else { slope * x });
            }
            Kind::Sigmoid => map(x, out, |x| {
                let e = (-x.abs()).exp(); // at most 1
                (if x < T::zero() { e } else { one }) / (one + e)
            }),
            Kind::Tanh => map(x, out, T::tanh),
            Kind::Exp => map(x, out, T::exp),
            Kind::Log => map(x, out, T::ln),
            Kind::Sqrt => map(x, out, T::sqrt),
            Kind::Square => map(x, out, |x| x * x),
            Kind::Abs => map(x, out, T::abs),
            Kind::Recip => map(x, out, T::recip),
            Kind::Scale(s) => {
                let s = T::lit(s);
                map(x, out, |x| s * x);
            }
            Kind::Offset(s) => {
                let s = T::lit(s);
                map(x, out, |x| x + s);
            }
            Kind::Clamp(lo, hi) => {
                let (lo, hi) = (T::lit(lo), T::lit(hi));
                // NaN stays.
                map(x, out, |x| {
                    let x = if x < lo { lo } else { x };
                    if x > hi { hi } else { x }
                });
            }
            Kind::SoftClamp(end) => {
                let end = T::lit(end);
                let soft = |x: T| end * (x / end - one).exp();
                map(x, out, |x| {
                    if x < end {
                        soft(x)
                    } else if x > one - end {
                        one - soft(one - x)
                    } else {
                        x
                    }
                });
            }
        }
    }

    /// `g * f'`, with `f'` read from `v`, which is `x` or `y` as [`Kind::needs`] says.
    fn derive<T: Real>(self, v: &[T], g: &[T], out: &mut [T]) {
        let (zero, one, two) = (T::zero(), T::one(), T::lit(2.0));
        match self {
            Kind::LeakyRelu(slope) => {
                let slope = T::lit(slope);
                map2(v, g, out, |x, g| if x > zero { g } else { slope * g });
            }
            Kind::Sigmoid => map2(v, g, out, |y, g| g * (y * (one - y))),
            Kind::Tanh => map2(v, g, out, |y, g| g * (one - y * y)),
            Kind::Exp => map2(v, g, out, |y, g| g * y),
            Kind::Log => map2(v, g, out, |x, g| g / x),
            Kind::Sqrt => map2(v, g, out, |y, g| g / (two * y)),
            Kind::Square => map2(v, g, out, |x, g| g * (two * x)),
            Kind::Abs => map2(v, g, out, |x, g| {
                let positive = if x > zero { g } else { zero };
                if x < zero { -g } else { positive }
            }),
            Kind::Recip => map2(v, g, out, |y, g| -g * (y * y)),
            Kind::Scale(s) => {
                let s = T::lit(s);
                map(g, out, |g| s * g);
            }
            Kind::Offset(_) => out.copy_from_slice(g),
            Kind::Clamp(lo, hi) => {
                let (lo, hi) = (T::lit(lo), T::lit(hi));
                map2(v, g, out, |x, g| if x >= lo && x <= hi { g } else { zero });
            }
            Kind::SoftClamp(end) => {
                let inverse = T::lit(1.0 / end);
                map2(v, g, out, |y, g| {
                    g * (y * inverse).min((one - y) * inverse).min(one)
                });
            }
        }
    }
}

#[inline(always)]
fn map<T: Real>(x: &[T], out: &mut [T], f: impl Fn(T) -> T) {
    for (o, &x) in out.iter_mut().zip(x) {
        *o = f(x);
    }
}

#[inline(always)]
fn map2<T: Real>(v: &[T], g: &[T], out: &mut [T], f: impl Fn(T, T) -> T) {
    for ((o, &v), &g) in out.iter_mut().zip(v).zip(g) {
        *o = f(v, g);
    }
}

const CHUNK: usize = 4096;

/// `Unary` of `kernels/unary.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct UnaryParams {
    x: DevicePtr,
    y: DevicePtr,
    n: i32,
    kind: i32,
    a: f32,
    b: f32,
}

/// `UnaryGrad` of `kernels/unary.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct UnaryGradParams {
    v: DevicePtr,
    g: DevicePtr,
    dx: DevicePtr,
    n: i32,
    kind: i32,
    a: f32,
    b: f32,
}

#[derive(Clone, Debug)]
struct Unary {
    kind: Kind,
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(self.kind.name(), inputs, 1..=1)?;
        Ok(inputs[0])
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let x = t.inputs_of(node)[0];
        let dx = match (self.kind, self.kind.needs()) {
            (Kind::Offset(_), _) => g,
            (Kind::Scale(s), _) => scale(t, g, s)?,
            (kind, Needs::X) => t.record(UnaryVjp { kind }, &[x, g])?,
            (kind, Needs::Y) => t.record(UnaryVjp { kind }, &[node, g])?,
        };
        Ok(vec![Some(dx)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        dispatch_real!(io.dtype(), self.name(), T => {
            let x = io.input::<T>(0)?;
            for_chunks(io.output::<T>()?, CHUNK, |i, out| {
                self.kind.apply(&x[i * CHUNK..][..out.len()], out);
            });
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let n = io.output_shape().len();
        let (kind, a, b) = self.kind.code();
        let params = UnaryParams {
            x: io.input(0),
            y: io.output(),
            n: io.int(n)?,
            kind,
            a,
            b,
        };
        io.launch("unary", "unary_fwd", io.blocks_for(n), THREADS, params)
    }

    /// The one that inference records.
    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let Kind::SoftClamp(end) = self.kind else {
            let detail = format!("{} has no ONNX form", self.name());
            return Err(Error::config("export", detail));
        };
        let x = inputs[0].value(self.name())?;
        let one = g.floats("one", &[], &[1.0])?;
        let end = g.floats("soft_end", &[], &[end as f32])?;
        // max(x, end) + end (exp(min(x, end) / end - 1) - 1), and the same from above.
        let mut soft = |x: &Value| {
            let above = g.node("Max", &[x, &end], &[]);
            let below = g.node("Min", &[x, &end], &[]);
            let power = g.node("Div", &[&below, &end], &[]);
            let power = g.node("Sub", &[&power, &one], &[]);
            let power = g.node("Exp", &[&power], &[]);
            let rest = g.node("Sub", &[&power, &one], &[]);
            let rest = g.node("Mul", &[&rest, &end], &[]);
            let y = g.node("Add", &[&above, &rest], &[]);
            g.node("Sub", &[&one, &y], &[])
        };
        let mirrored = soft(x);
        Ok(soft(&mirrored))
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        output.shape.len() as u64
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for Unary {}

/// Inputs: `x` or `y`, cotangent.
#[derive(Debug)]
struct UnaryVjp {
    kind: Kind,
}

impl Operator for UnaryVjp {
    fn name(&self) -> &'static str {
        "unary_vjp"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs("unary_vjp", inputs, 2..=2)?;
        Ok(inputs[0])
    }

    fn vjp(&self, _: &mut Tape, _: Var, _: Var) -> Result<Vec<Option<Var>>> {
        Err(Error::NotDifferentiable {
            op: "unary_vjp",
            detail: format!("second derivative of {} is not supported", self.kind.name()),
        })
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        dispatch_real!(io.dtype(), "unary_vjp", T => {
            let (v, g) = (io.input::<T>(0)?, io.input::<T>(1)?);
            for_chunks(io.output::<T>()?, CHUNK, |i, out| {
                let at = i * CHUNK..i * CHUNK + out.len();
                self.kind.derive(&v[at.clone()], &g[at], out);
            });
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let n = io.output_shape().len();
        let (kind, a, b) = self.kind.code();
        let params = UnaryGradParams {
            v: io.input(0),
            g: io.input(1),
            dx: io.output(),
            n: io.int(n)?,
            kind,
            a,
            b,
        };
        io.launch(
            "unary",
            "unary_bwd_input",
            io.blocks_for(n),
            THREADS,
            params,
        )
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        2 * output.shape.len() as u64
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let any = Fill::Uniform(-3.0, 3.0);
    let kink = Fill::AwayFromZero(0.1, 2.0);
    let mut out = Vec::new();
    for (kind, fill) in [
        (Kind::LeakyRelu(0.2), kink),
        (Kind::LeakyRelu(0.0), kink),
        (Kind::Sigmoid, Fill::Uniform(-6.0, 6.0)),
        (Kind::Tanh, any),
        (Kind::Exp, any),
        (Kind::Log, Fill::Uniform(0.5, 3.0)),
        (Kind::Sqrt, Fill::Uniform(0.5, 3.0)),
        (Kind::Square, any),
        (Kind::Abs, kink),
        (Kind::Scale(-1.0), any),
        (Kind::Recip, Fill::AwayFromZero(0.5, 2.0)),
        (Kind::Scale(0.3), any),
        (Kind::Offset(0.7), any),
        // No value of `Distinct` comes near a bound of these shapes.
        (Kind::Clamp(-0.5, 0.5), Fill::Distinct),
        (Kind::SoftClamp(0.3), Fill::Uniform(-0.5, 1.5)),
    ] {
        for (label, shape) in [
            ("one pixel", [1, 1, 1, 1]),
            ("three channels", [1, 4, 5, 3]),
            ("one row, 5 channels", [1, 1, 7, 5]),
            ("large", [2, 41, 43, 20]),
        ] {
            let label = format!("{} {label}", kind.name());
            let inputs = vec![CaseInput::new(shape, fill)];
            out.push(Case::new(label, Unary { kind }, inputs, 1));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_derivatives_at_awkward_values() {
        let f = |kind: Kind, x: f32| {
            let mut y = [0.0];
            kind.apply(&[x], &mut y);
            y[0]
        };
        let d = |kind: Kind, v: f32| {
            let mut y = [0.0];
            kind.derive(&[v], &[1.0], &mut y);
            y[0]
        };
        assert_eq!(f(Kind::Sigmoid, f32::MIN), 0.0);
        assert_eq!(f(Kind::Sigmoid, f32::MAX), 1.0);
        assert!(f(Kind::Sigmoid, -100.0) > 0.0, "a subnormal, not 0");
        assert_eq!(d(Kind::Abs, 0.0), 0.0);
        assert_eq!(d(Kind::LeakyRelu(0.2), 0.0), 0.2);
        assert_eq!(d(Kind::Clamp(0.0, 1.0), 1.0), 1.0);
        assert!(f(Kind::Clamp(0.0, 1.0), f32::NAN).is_nan());
        assert!(f(Kind::Sigmoid, f32::NAN).is_nan());
    }
}
