//! Sums and means over axes, and their adjoint, broadcasting.

use super::broadcast::{Piece, Repeat, broadcasts, for_pieces, halfway};
use super::registry::{Case, CaseInput};
use super::sum;
use crate::device::cpu::CpuIo;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tape::{Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::Shape;
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};

/// `y = sum of x over the axes that shape lacks or has as 1`: the adjoint of [`broadcast_to`].
///
/// # Shapes
/// `shape` must broadcast to that of `x` (NumPy's rule, right-aligned). If they are equal, `x`
/// itself is returned.
///
/// # Gradient
/// The cotangent, broadcast to the shape of `x`.
///
/// # Errors
/// [`Error::Shape`] if `shape` does not broadcast to that of `x`.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [2, 3])?;
/// let y = ops::sum_to(&mut t, x, [3])?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 10.0, 20.0, 30.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [11.0, 22.0, 33.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn sum_to(t: &mut Tape, x: Var, shape: impl Into<Shape>) -> Result<Var> {
    scaled_sum(t, x, shape.into(), 1.0)
}

/// `y = x`, repeated along the axes that `x` lacks or has as 1.
///
/// # Shapes
/// That of `x` must broadcast to `shape`. If they are equal, `x` itself is returned.
///
/// # Gradient
/// The sum over the repeated axes, [`sum_to`].
///
/// # Errors
/// [`Error::Shape`] if the shape of `x` does not broadcast to `shape`.
///
/// ```
/// use hafuse::{ops, DType, Tape};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [2, 1, 1, 3])?;
/// let y = ops::broadcast_to(&mut t, x, [2, 5, 7, 3])?;
/// assert_eq!(t.shape(y).dims(), [2, 5, 7, 3]);
/// assert!(ops::broadcast_to(&mut t, x, [2, 5, 7, 4]).is_err());
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn broadcast_to(t: &mut Tape, x: Var, shape: impl Into<Shape>) -> Result<Var> {
    scaled_broadcast(t, x, shape.into(), 1.0)
}

/// `y = sum of all x`, shape `[]`. The gradient is the cotangent everywhere.
pub fn sum_all(t: &mut Tape, x: Var) -> Result<Var> {
    scaled_sum(t, x, Shape::from([]), 1.0)
}

/// `y = sum of all x / number of elements`, shape `[]`.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [4])?;
/// let y = ops::mean_all(&mut t, x)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([4], vec![1.0f32, 2.0, 3.0, 6.0])?)?;
/// s.run()?;
/// assert_eq!(s.scalar("y")?, 3.0);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn mean_all(t: &mut Tape, x: Var) -> Result<Var> {
    let scale = 1.0 / t.shape(x).len() as f64;
    scaled_sum(t, x, Shape::from([]), scale)
}

/// Mean over all positions of a picture, for each channel: `x [N, H, W, C]` to `[N, 1, 1, C]`
/// (global average pooling). The gradient spreads the cotangent evenly.
///
/// # Errors
/// [`Error::Shape`] if `x` does not have four dimensions.
pub fn mean_positions(t: &mut Tape, x: Var) -> Result<Var> {
    let [n, h, w, c] = t.shape(x).dims4("mean_positions")?;
    scaled_sum(t, x, Shape::from([n, 1, 1, c]), 1.0 / (h * w) as f64)
}

/// Mean of each sample of a batch: `x [N, H, W, C]` to `[N, 1, 1, 1]`. The gradient spreads the
/// cotangent evenly.
///
/// # Errors
/// [`Error::Shape`] if `x` does not have four dimensions.
pub fn mean_samples(t: &mut Tape, x: Var) -> Result<Var> {
    let [n, h, w, c] = t.shape(x).dims4("mean_samples")?;
    scaled_sum(t, x, Shape::from([n, 1, 1, 1]), 1.0 / (h * w * c) as f64)
}

fn scaled_sum(t: &mut Tape, x: Var, shape: Shape, scale: f64) -> Result<Var> {
    let from = t.shape(x);
    if from == shape && scale == 1.0 {
        return Ok(x);
    }
    let mut x = x;
    if broadcasts(from, shape) && Repeat::new(from, shape).is_none() {
        let shape = halfway(from, shape)?;
        x = t.record(SumTo { shape, scale: 1.0 }, &[x])?;
    }
    t.record(SumTo { shape, scale }, &[x])
}

fn scaled_broadcast(t: &mut Tape, x: Var, shape: Shape, scale: f64) -> Result<Var> {
    let from = t.shape(x);
    if from == shape && scale == 1.0 {
        return Ok(x);
    }
    let mut x = x;
    if broadcasts(shape, from) && Repeat::new(shape, from).is_none() {
        let shape = halfway(shape, from)?;
        x = t.record(BroadcastTo { shape, scale: 1.0 }, &[x])?;
    }
    t.record(BroadcastTo { shape, scale }, &[x])
}

/// `Broadcast` of `kernels/reduce.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct BroadcastParams {
    x: DevicePtr,
    y: DevicePtr,
    n: i32,
    rep: i32,
    inner: i32,
    scale: f32,
}

/// `scale` times the sum over one group of axes.
#[derive(Clone, Debug)]
pub(super) struct SumTo {
    shape: Shape,
    scale: f64,
}

impl SumTo {
    /// The operator of [`mean_positions`] for pictures `[n, h, w, c]`.
    pub fn mean_of_positions([n, h, w, c]: [usize; 4]) -> Self {
        Self {
            shape: Shape::from([n, 1, 1, c]),
            scale: 1.0 / (h * w) as f64,
        }
    }
}

impl Operator for SumTo {
    fn name(&self) -> &'static str {
        "sum_to"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("sum_to", inputs, 1..=1)?;
        repeat("sum_to", inputs[0].shape, self.shape)?;
        Ok(Meta::new(self.shape, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let shape = t.shape(t.inputs_of(node)[0]);
        Ok(vec![Some(scaled_broadcast(
            t, cotangent, shape, self.scale,
        )?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let r = repeat("sum_to", io.shape(0), self.shape)?;
        dispatch_real!(io.dtype(), "sum_to", T => {
            let x = io.input::<T>(0)?;
            sum::sum(r, (x, x), |x, _| x, self.scale, io.output::<T>()?, io.scratch()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let r = repeat("sum_to", io.shape(0), self.shape)?;
        sum::launch(io, r, self.scale, false)
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let r = Repeat::new(inputs[0].shape, self.shape);
        sum::cuda_workspace(r, inputs[0].dtype, false)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        inputs[0].shape.len() as u64
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        8 * Repeat::new(inputs[0].shape, self.shape).map_or(0, Repeat::sum_scratch)
    }
}

/// `scale` times the input, repeated along one group of axes.
#[derive(Clone, Debug)]
struct BroadcastTo {
    shape: Shape,
    scale: f64,
}

impl Operator for BroadcastTo {
    fn name(&self) -> &'static str {
        "broadcast_to"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("broadcast_to", inputs, 1..=1)?;
        repeat("broadcast_to", self.shape, inputs[0].shape)?;
        Ok(Meta::new(self.shape, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let shape = t.shape(t.inputs_of(node)[0]);
        Ok(vec![Some(scaled_sum(t, cotangent, shape, self.scale)?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let r = repeat("broadcast_to", self.shape, io.shape(0))?;
        dispatch_real!(io.dtype(), "broadcast_to", T => {
            let scale = self.scale as T;
            for_pieces(r, io.input::<T>(0)?, io.output::<T>()?, |_, out, piece| match piece {
                Piece::One(v) => out.fill(v * scale),
                Piece::Row(row) => {
                    for (o, &v) in out.iter_mut().zip(row) {
                        *o = v * scale;
                    }
                }
            });
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let r = repeat("broadcast_to", self.shape, io.shape(0))?;
        let n = self.shape.len();
        let params = BroadcastParams {
            x: io.input(0),
            y: io.output(),
            n: io.int(n)?,
            rep: io.int(r.rep)?,
            inner: io.int(r.inner)?,
            scale: self.scale as f32,
        };
        io.launch("reduce", "broadcast_fwd", io.blocks_for(n), THREADS, params)
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        output.shape.len() as u64
    }
}

pub(super) fn repeat(op: &'static str, full: Shape, part: Shape) -> Result<Repeat> {
    Repeat::new(full, part)
        .ok_or_else(|| Error::shape(op, format!("shape {part} does not broadcast to {full}")))
}

pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    let mut add = |label: &str, full: Shape, shape: Shape, scale: f64| {
        let terms = full.len() / shape.len();
        out.push(Case::new(
            format!("sum_to {label}"),
            SumTo { shape, scale },
            vec![CaseInput::any(full)],
            terms,
        ));
        out.push(Case::new(
            format!("broadcast_to {label}"),
            BroadcastTo { shape: full, scale },
            vec![CaseInput::any(shape)],
            1,
        ));
    };
    let small = Shape::from([2, 5, 7, 3]);
    let row = Shape::from([1, 1, 11, 19]);
    add("one pixel", [1, 1, 1, 1].into(), [].into(), 1.0);
    add("all", small, [].into(), 1.0);
    add("channels", small, [3].into(), 1.0);
    add("mean of positions", small, [2, 1, 1, 3].into(), 1.0 / 35.0);
    add("mean of samples", small, [2, 1, 1, 1].into(), 1.0 / 105.0);
    add("one map", small, [2, 5, 7, 1].into(), 1.0);
    add("rows", small, [2, 1, 7, 3].into(), 1.0);
    add("batch", small, [1, 5, 7, 3].into(), 1.0);
    add("same elements", [1, 1, 1, 9].into(), [9].into(), 0.5);
    add("one row, 19 channels", row, [19].into(), 1.0);
    add("one row to a map", row, [1, 1, 11, 1].into(), 1.0);
    add("one column", [2, 9, 1, 8].into(), [2, 1, 1, 8].into(), 1.0);
    // Several parts and several threads.
    let large = Shape::from([2, 61, 67, 20]);
    add("large, channels", large, [20].into(), 1.0);
    add(
        "large, positions",
        large,
        [2, 1, 1, 20].into(),
        1.0 / 4087.0,
    );
    add("large, one map", large, [2, 61, 67, 1].into(), 1.0);
    add("large, samples", large, [2, 1, 1, 1].into(), 1.0);
    add("large, batch", large, [1, 61, 67, 20].into(), 1.0);
    let three = Shape::from([1, 97, 101, 3]);
    add("large, three channels", three, [3].into(), 1.0);
    add("large, all of three channels", three, [].into(), 1.0);
    let wide = Shape::from([1, 9, 11, 301]);
    add("wide map", wide, [1, 9, 11, 1].into(), 1.0);
    add("wide channels", wide, [301].into(), 1.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, ParamStore, Session, Tensor};

    #[test]
    fn separate_groups_of_axes_take_two_steps() -> Result<()> {
        let mut t = Tape::new(DType::F64);
        let x = t.input("x", [2, 3, 4, 5])?;
        let y = sum_to(&mut t, x, [3, 1, 5])?;
        let g = t.input("g", t.shape(y))?;
        let dx = t.vjp(y, g, &[x])?[0];
        t.output("y", y)?;
        t.output("dx", dx)?;
        let mut s = Session::new(&t, &ParamStore::default())?;
        let xs: Vec<f64> = (0..120).map(f64::from).collect();
        let gs: Vec<f64> = (0..15).map(f64::from).collect();
        s.set("x", &Tensor::from_vec([2, 3, 4, 5], xs.clone())?)?;
        s.set("g", &Tensor::from_vec([3, 1, 5], gs)?)?;
        s.run()?;
        let mut expected = [0.0; 15];
        let dx = s.output::<f64>("dx")?;
        for (i, x) in xs.iter().enumerate() {
            let at = i / 20 % 3 * 5 + i % 5;
            expected[at] += x;
            assert_eq!(dx[i], at as f64);
        }
        assert_eq!(s.output::<f64>("y")?, expected);
        Ok(())
    }

    #[test]
    fn a_long_f32_sum_keeps_its_digits() -> Result<()> {
        let mut t = Tape::new(DType::F32);
        let x = t.input("x", [1 << 22])?;
        let y = sum_all(&mut t, x)?;
        t.output("y", y)?;
        let mut s = Session::new(&t, &ParamStore::default())?;
        s.input_mut::<f32>("x")?.fill(0.1);
        s.run()?;
        let expected = f64::from(0.1f32) * f64::from(1 << 22);
        assert!((s.scalar("y")? / expected - 1.0).abs() < 1e-5);
        Ok(())
    }
}
