//! Arithmetic of two operands with broadcasting.

use super::broadcast::{Piece, Repeat, broadcast_rows, broadcast_shape, for_pieces};
use super::gate::sum_product_to;
use super::reduce::{broadcast_to, repeat, sum_to};
use super::registry::{Case, CaseInput, Fill};
use super::unary::neg;
use crate::device::cpu::CpuIo;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Graph, Operand, Value};
use crate::tape::{Banded, Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{Real, Shape};
use crate::{Result, dispatch_real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// `y = a + b` with broadcasting.
///
/// # Shapes
/// NumPy's rule: aligned at the last axis, axes are equal or one of them is 1.
///
/// # Gradient
/// The cotangent, summed to the shape of each operand.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let (a, b) = (t.input("a", [2, 2])?, t.input("b", [2])?);
/// let y = ops::add(&mut t, a, b)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("a", &Tensor::from_vec([2, 2], vec![1.0f32, 2.0, 3.0, 4.0])?)?;
/// s.set("b", &Tensor::from_vec([2], vec![10.0f32, 20.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [11.0, 22.0, 13.0, 24.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn add(t: &mut Tape, a: Var, b: Var) -> Result<Var> {
    binary(t, Kind::Add, a, b)
}

/// `y = a - b` with broadcasting; shapes and errors as for [`add`]. The gradient of `b` is the
/// negated cotangent, summed to its shape.
pub fn sub(t: &mut Tape, a: Var, b: Var) -> Result<Var> {
    binary(t, Kind::Sub, a, b)
}

/// `y = a * b`, element by element, with broadcasting; shapes and errors as for [`add`].
///
/// # Gradient
/// `da = g * b` and `db = g * a`, summed to the shape of the operand.
pub fn mul(t: &mut Tape, a: Var, b: Var) -> Result<Var> {
    binary(t, Kind::Mul, a, b)
}

/// `y = a / b` with broadcasting; shapes and errors as for [`add`]. Division by zero follows IEEE.
///
/// # Gradient
/// `da = g / b` and `db = -g * y / b`, summed to the shape of the operand.
pub fn div(t: &mut Tape, a: Var, b: Var) -> Result<Var> {
    binary(t, Kind::Div, a, b)
}

/// `y = max(a, b)` with broadcasting, as `a + max(b - a, 0)`. The gradient goes to the larger, to `a`
/// where they are equal.
pub fn maximum(t: &mut Tape, a: Var, b: Var) -> Result<Var> {
    let d = sub(t, b, a)?;
    let excess = super::relu(t, d)?;
    add(t, a, excess)
}

fn binary(t: &mut Tape, kind: Kind, a: Var, b: Var) -> Result<Var> {
    let full = broadcast_shape(kind.name(), t.shape(a), t.shape(b))?;
    // One operand must be full, the other repeat along one group of axes.
    let fit = |t: &mut Tape, v: Var| match Repeat::new(full, t.shape(v)) {
        Some(_) => Ok(v),
        None => broadcast_to(t, v, full),
    };
    let (mut a, b) = (fit(t, a)?, fit(t, b)?);
    if t.shape(a).len() < full.len() && t.shape(b).len() < full.len() {
        a = broadcast_to(t, a, full)?;
    }
    t.record(Binary { kind }, &[a, b])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Add,
    Sub,
    Mul,
    Div,
}

impl Kind {
    /// Number in `kernels/binary.cu`.
    fn code(self) -> i32 {
        match self {
            Kind::Add => 0,
            Kind::Sub => 1,
            Kind::Mul => 2,
            Kind::Div => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Add => "add",
            Kind::Sub => "sub",
            Kind::Mul => "mul",
            Kind::Div => "div",
        }
    }
}

/// `Binary` of `kernels/binary.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct BinaryParams {
    full: DevicePtr,
    part: DevicePtr,
    y: DevicePtr,
    n: i32,
    rep: i32,
    inner: i32,
    kind: i32,
    swapped: i32,
    unused: i32,
}

#[derive(Clone, Debug)]
struct Binary {
    kind: Kind,
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let name = self.kind.name();
        let dtype = check_inputs(name, inputs, 2..=2)?;
        let (a, b) = (inputs[0].shape, inputs[1].shape);
        let full = broadcast_shape(name, a, b)?;
        repeat(name, full, if a.len() == full.len() { b } else { a })?;
        Ok(Meta::new(full, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let (a, b) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let (a_shape, b_shape) = (t.shape(a), t.shape(b));
        let (da, db) = match self.kind {
            Kind::Add => (sum_to(t, g, a_shape)?, sum_to(t, g, b_shape)?),
            Kind::Sub => {
                let db = sum_to(t, g, b_shape)?;
                (sum_to(t, g, a_shape)?, neg(t, db)?)
            }
            Kind::Mul => (
                sum_product_to(t, g, b, a_shape)?,
                sum_product_to(t, g, a, b_shape)?,
            ),
            Kind::Div => {
                let q = div(t, g, b)?;
                let db = sum_product_to(t, q, node, b_shape)?;
                (sum_to(t, q, a_shape)?, neg(t, db)?)
            }
        };
        Ok(vec![Some(da), Some(db)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        dispatch_real!(io.dtype(), self.name(), T => match self.kind {
            Kind::Add => run::<T>(&mut io, |a, b| a + b),
            Kind::Sub => run::<T>(&mut io, |a, b| a - b),
            Kind::Mul => run::<T>(&mut io, |a, b| a * b),
            Kind::Div => run::<T>(&mut io, |a, b| a / b),
        })
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let name = self.name();
        let [a, b] = [inputs[0].value(name)?, inputs[1].value(name)?];
        let op = match self.kind {
            Kind::Add => "Add",
            Kind::Sub => "Sub",
            Kind::Mul => "Mul",
            Kind::Div => "Div",
        };
        Ok(g.node(op, &[a, b], &[]))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let shape = io.output_shape();
        let swapped = usize::from(io.shape(0).len() != shape.len());
        let (full, part) = (swapped, 1 - swapped);
        let r = repeat(self.kind.name(), shape, io.shape(part))?;
        let params = BinaryParams {
            full: io.input(full),
            part: io.input(part),
            y: io.output(),
            n: io.int(shape.len())?,
            rep: io.int(r.rep)?,
            inner: io.int(r.inner)?,
            kind: self.kind.code(),
            swapped: swapped as i32,
            unused: 0,
        };
        let blocks = io.blocks_for(shape.len());
        io.launch("binary", "binary_fwd", blocks, THREADS, params)
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        output.shape.len() as u64
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for Binary {
    fn reads(&self, i: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        broadcast_rows(i, whole, rows)
    }
}

fn run<T: Real>(io: &mut CpuIo<'_>, f: impl Fn(T, T) -> T + Sync + Send) -> Result<()> {
    let full = io.output_shape()?;
    let (a, b, out) = (io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>()?);
    if a.len() == full.len() {
        zip(repeat("binary", full, io.shape(1))?, a, b, out, f);
    } else {
        let r = repeat("binary", full, io.shape(0))?;
        zip(r, b, a, out, move |b, a| f(a, b));
    }
    Ok(())
}

/// `out = f(full, part)` with `part` repeated.
fn zip<T: Real>(
    r: Repeat,
    full: &[T],
    part: &[T],
    out: &mut [T],
    f: impl Fn(T, T) -> T + Sync + Send,
) {
    for_pieces(r, part, out, |at, out, piece| {
        let full = &full[at..at + out.len()];
        match piece {
            Piece::One(p) => {
                for (o, &x) in out.iter_mut().zip(full) {
                    *o = f(x, p);
                }
            }
            Piece::Row(row) => {
                for ((o, &x), &p) in out.iter_mut().zip(full).zip(row) {
                    *o = f(x, p);
                }
            }
        }
    });
}

pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    let shapes: [(&str, Shape, Shape); 14] = [
        ("scalars", [].into(), [].into()),
        ("one pixel", [1, 1, 1, 1].into(), [1].into()),
        ("same", [2, 5, 3, 3].into(), [2, 5, 3, 3].into()),
        ("channels", [2, 5, 3, 3].into(), [3].into()),
        (
            "samples and channels",
            [2, 5, 3, 9].into(),
            [2, 1, 1, 9].into(),
        ),
        ("one map", [2, 3, 7, 5].into(), [2, 3, 7, 1].into()),
        ("map on the left", [2, 3, 7, 1].into(), [2, 3, 7, 5].into()),
        ("scalar on the left", [].into(), [1, 3, 4, 2].into()),
        ("rows", [2, 3, 4, 2].into(), [2, 1, 4, 2].into()),
        ("one row, 35 channels", [1, 1, 5, 35].into(), [35].into()),
        ("one column", [1, 7, 1, 6].into(), [1, 7, 1, 1].into()),
        (
            "large, channels",
            [2, 41, 43, 20].into(),
            [2, 1, 1, 20].into(),
        ),
        ("large, 33 channels", [1, 41, 43, 33].into(), [33].into()),
        (
            "large, one map",
            [2, 41, 43, 17].into(),
            [2, 41, 43, 1].into(),
        ),
    ];
    for kind in [Kind::Add, Kind::Sub, Kind::Mul, Kind::Div] {
        for (label, a, b) in shapes {
            let divisor = match kind {
                Kind::Div => Fill::AwayFromZero(0.5, 1.5),
                _ => Fill::Uniform(-1.0, 1.0),
            };
            let inputs = vec![CaseInput::any(a), CaseInput::new(b, divisor)];
            let label = format!("{} {label}", kind.name());
            out.push(Case::new(label, Binary { kind }, inputs, 1));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, ParamStore, Session, Tensor};

    #[test]
    fn both_operands_may_repeat() -> Result<()> {
        let mut t = Tape::new(DType::F64);
        let a = t.input("a", [1, 2, 3, 1])?;
        let b = t.input("b", [1, 2, 1, 2])?;
        let y = sub(&mut t, a, b)?;
        let g = t.constant(&Tensor::full(t.shape(y), DType::F64, 1.0))?;
        let d = t.vjp(y, g, &[a, b])?;
        t.output("y", y)?;
        t.output("da", d[0])?;
        t.output("db", d[1])?;
        let mut s = Session::new(&t, &ParamStore::default())?;
        let six: Vec<f64> = (0..6).map(|i| f64::from(10 * i)).collect();
        s.set("a", &Tensor::from_vec([1, 2, 3, 1], six)?)?;
        s.set(
            "b",
            &Tensor::from_vec([1, 2, 1, 2], vec![1.0, 2.0, 3.0, 4.0])?,
        )?;
        s.run()?;
        let y = [-1., -2., 9., 8., 19., 18., 27., 26., 37., 36., 47., 46.];
        assert_eq!(s.output::<f64>("y")?, y);
        assert_eq!(s.output::<f64>("da")?, [2.0; 6]);
        assert_eq!(s.output::<f64>("db")?, [-3.0; 4]);
        Ok(())
    }

    #[test]
    fn unfit_shapes_are_named() -> Result<()> {
        let mut t = Tape::new(DType::F32);
        let (a, b) = (t.input("a", [2, 3])?, t.input("b", [2])?);
        let message = add(&mut t, a, b).map_err(|e| e.to_string());
        assert_eq!(
            message,
            Err("add: shapes [2, 3] and [2] do not broadcast".into())
        );
        Ok(())
    }
}
