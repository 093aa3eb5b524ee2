//! Gates: a tensor weighted by a map or by channel weights.

use super::binary::{mul, sub};
use super::broadcast::{Piece, Repeat, broadcast_rows, for_pieces};
use super::lanes::pack;
use super::reduce::{repeat, sum_to};
use super::registry::{Case, CaseInput};
use super::sum;
use crate::device::cpu::CpuIo;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Graph, Operand, Value};
use crate::tape::{Banded, Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{DType, Real, Shape};
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// `y = u * m (+ x)`: an attention weight `m` applied to `u`, with an optional residual.
///
/// # Shapes
/// `u` and `x` `[N, H, W, C]`; `m` `[N, H, W, 1]` (spatial) or `[N, 1, 1, C]` (channels).
///
/// # Gradient
/// `du = g * m`, `dm = sum of g * u` over the axes where `m` is 1 (one pass), `dx = g`.
///
/// # Errors
/// [`Error::Shape`] if shapes do not fit.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let (u, m) = (t.input("u", [1, 1, 2, 2])?, t.input("m", [1, 1, 2, 1])?);
/// let y = ops::gate(&mut t, u, m, None)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("u", &Tensor::from_vec([1, 1, 2, 2], vec![1.0f32, 2.0, 3.0, 4.0])?)?;
/// s.set("m", &Tensor::from_vec([1, 1, 2, 1], vec![0.5f32, 2.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [0.5, 1.0, 6.0, 8.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn gate(t: &mut Tape, u: Var, m: Var, x: Option<Var>) -> Result<Var> {
    match x {
        None => t.record(Gate::default(), &[u, m]),
        Some(x) => t.record(Gate::default(), &[u, m, x]),
    }
}

/// `y = m * a + (1 - m) * b`, computed as `(a - b) * m + b`; shapes of `a`, `b` and `m` as for
/// `u`, `x` and `m` of [`gate`], and so are gradients and errors.
pub fn lerp(t: &mut Tape, a: Var, b: Var, m: Var) -> Result<Var> {
    let difference = sub(t, a, b)?;
    gate(t, difference, m, Some(b))
}

/// `sum_to(a * b, shape)` without the product in memory where both have one shape.
pub(crate) fn sum_product_to(t: &mut Tape, a: Var, b: Var, shape: Shape) -> Result<Var> {
    let full = t.shape(a);
    if full == t.shape(b) && full != shape && Repeat::new(full, shape).is_some() {
        let naive = false;
        return t.record(GateReduce { shape, naive }, &[a, b]);
    }
    let product = mul(t, a, b)?;
    sum_to(t, product, shape)
}

#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    /// On CUDA, one element at a time for any shape.
    naive: bool,
}

/// `Gate` of `kernels/gate.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct GateParams {
    u: DevicePtr,
    m: DevicePtr,
    x: DevicePtr,
    y: DevicePtr,
    n: i32,
    rep: i32,
    inner: i32,
    padding: i32,
}

/// Whether a load of 16 bytes meets one weight or a load of weights.
fn whole_packs(r: Repeat, dtype: DType) -> bool {
    let n = if r.inner == 1 { r.rep } else { r.inner };
    pack(dtype, n) > 1
}

impl Operator for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs("gate", inputs, 2..=3)?;
        let (u, m) = (inputs[0].shape, inputs[1].shape);
        let [n, h, w, c] = u.dims4("gate")?;
        if m != [n, h, w, 1].into() && m != [n, 1, 1, c].into() {
            let detail =
                format!("weights {m} for {u}; needs [{n}, {h}, {w}, 1] or [{n}, 1, 1, {c}]");
            return Err(Error::shape("gate", detail));
        }
        if let Some(x) = inputs.get(2).filter(|x| x.shape != u) {
            return Err(Error::shape(
                "gate",
                format!("residual {} for {u}", x.shape),
            ));
        }
        repeat("gate", u, m)?;
        Ok(inputs[0])
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let inputs = t.inputs_of(node);
        let (u, m, count) = (inputs[0], inputs[1], inputs.len());
        let shape = t.shape(m);
        let mut out = vec![
            Some(gate(t, g, m, None)?),
            Some(sum_product_to(t, g, u, shape)?),
        ];
        if count == 3 {
            out.push(Some(g));
        }
        Ok(out)
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        dispatch_real!(io.dtype(), "gate", T => {
            if io.len() == 3 {
                let x = io.input::<T>(2)?;
                run::<T>(&mut io, x, |u, m, x| u * m + x)
            } else {
                let u = io.input::<T>(0)?;
                run::<T>(&mut io, u, |u, m, _| u * m)
            }
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let (n, dtype) = (io.shape(0).len(), io.dtype());
        let r = repeat("gate", io.shape(0), io.shape(1))?;
        let params = GateParams {
            u: io.input(0),
            m: io.input(1),
            x: io.optional((io.len() == 3).then_some(2)),
            y: io.output(),
            n: io.int(n)?,
            rep: io.int(r.rep)?,
            inner: io.int(r.inner)?,
            padding: 0,
        };
        if self.naive || !whole_packs(r, dtype) {
            return io.launch("gate", "gate_naive_fwd", io.blocks_for(n), THREADS, params);
        }
        let blocks = io.blocks_for(n * dtype.size() / 16);
        io.launch("gate", "gate_fwd", blocks, THREADS, params)
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let values = inputs.iter().map(|v| v.value(self.name()));
        let values = values.collect::<Result<Vec<_>>>()?;
        let y = g.node("Mul", &values[..2], &[]);
        Ok(match values.get(2) {
            Some(x) => g.node("Add", &[&y, x], &[]),
            None => y,
        })
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        (inputs.len() as u64 - 1) * output.shape.len() as u64
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for Gate {
    fn reads(&self, i: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        broadcast_rows(i, whole, rows)
    }
}

/// `out = f(u, m, x)`.
fn run<T: Real>(io: &mut CpuIo<'_>, x: &[T], f: impl Fn(T, T, T) -> T + Sync + Send) -> Result<()> {
    let r = repeat("gate", io.shape(0), io.shape(1))?;
    let (u, m) = (io.input::<T>(0)?, io.input::<T>(1)?);
    for_pieces(r, m, io.output()?, |at, out, piece| {
        let (u, x) = (&u[at..at + out.len()], &x[at..at + out.len()]);
        match piece {
            Piece::One(m) => {
                for ((o, &u), &x) in out.iter_mut().zip(u).zip(x) {
                    *o = f(u, m, x);
                }
            }
            Piece::Row(m) => {
                for (((o, &u), &x), &m) in out.iter_mut().zip(u).zip(x).zip(m) {
                    *o = f(u, m, x);
                }
            }
        }
    });
    Ok(())
}

/// `y = sum of a * b` over one group of axes; `a` and `b` of one shape.
#[derive(Clone, Debug)]
struct GateReduce {
    shape: Shape,
    /// On CUDA, one thread for each sum.
    naive: bool,
}

impl Operator for GateReduce {
    fn name(&self) -> &'static str {
        "gate_reduce"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("gate_reduce", inputs, 2..=2)?;
        let (a, b) = (inputs[0].shape, inputs[1].shape);
        if a != b {
            return Err(Error::shape(
                "gate_reduce",
                format!("shapes {a} and {b} differ"),
            ));
        }
        repeat("gate_reduce", a, self.shape)?;
        Ok(Meta::new(self.shape, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let (a, b) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        Ok(vec![Some(mul(t, b, g)?), Some(mul(t, a, g)?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let r = repeat("gate_reduce", io.shape(0), self.shape)?;
        dispatch_real!(io.dtype(), "gate_reduce", T => {
            let pair = (io.input::<T>(0)?, io.input::<T>(1)?);
            sum::sum(r, pair, |a, b| a * b, 1.0, io.output::<T>()?, io.scratch()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let r = repeat("gate_reduce", io.shape(0), self.shape)?;
        sum::launch(io, r, 1.0, self.naive)
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let r = Repeat::new(inputs[0].shape, self.shape);
        sum::cuda_workspace(r, inputs[0].dtype, self.naive)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        2 * inputs[0].shape.len() as u64
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        8 * Repeat::new(inputs[0].shape, self.shape).map_or(0, Repeat::sum_scratch)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for (label, u) in [
        ("one pixel", [1, 1, 1, 1]),
        ("one channel", [2, 5, 3, 1]),
        ("three channels", [2, 5, 3, 3]),
        ("one row, 8 channels", [2, 1, 7, 8]),
        ("one column, 37 channels", [1, 5, 1, 37]),
        ("large, 3 channels", [1, 97, 101, 3]),
        ("large, 20 channels", [2, 61, 67, 20]),
        ("large, 32 channels", [1, 31, 43, 32]),
        ("large, one channel", [1, 59, 71, 1]),
        ("wide", [1, 2, 9, 304]),
    ] {
        let map = [u[0], u[1], u[2], 1];
        let channels = [u[0], 1, 1, u[3]];
        for (kind, m) in [("map", map), ("channels", channels)] {
            let two = vec![CaseInput::any(u), CaseInput::any(m)];
            let mut three = two.clone();
            three.push(CaseInput::any(u));
            let both = vec![CaseInput::any(u), CaseInput::any(u)];
            let terms = u.iter().product::<usize>() / m.iter().product::<usize>();
            for naive in [false, true] {
                if naive && u[1] * u[2] > 100 {
                    continue;
                }
                let label = if naive {
                    format!("{kind}, {label}, naive")
                } else {
                    format!("{kind}, {label}")
                };
                let gate = Gate { naive };
                let reduce = GateReduce {
                    shape: m.into(),
                    naive,
                };
                let (two, three, both) = (two.clone(), three.clone(), both.clone());
                out.push(Case::new(format!("gate {label}"), gate.clone(), two, 1));
                out.push(Case::new(
                    format!("gate, residual, {label}"),
                    gate,
                    three,
                    1,
                ));
                out.push(Case::new(
                    format!("gate_reduce {label}"),
                    reduce,
                    both,
                    terms,
                ));
            }
        }
    }
    out
}
