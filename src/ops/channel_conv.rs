//! One-dimensional convolution over channels.

use super::registry::{Case, CaseInput};
use crate::device::cpu::CpuIo;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tape::{Meta, Operator, check_inputs};
use crate::tensor::{Real, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};
use bytemuck::{Pod, Zeroable};

const NAME: &str = "channel_conv1d";

/// Convolution over neighbouring channels, zero padded, as in ECA attention (Wang et al., CVPR
/// 2020): `y[n, c] = sum over j of w[j] x[n, c + j - (k - 1) / 2]`.
///
/// `x` is `[N, 1, 1, C]`, `w` is `[k]` with k odd, the result is `[N, 1, 1, C]`. Differentiable in
/// both, any number of times.
///
/// # Errors
/// [`Error::Shape`] if the shapes are not of this form.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 1, 1, 4])?;
/// let w = t.constant(&Tensor::from_vec([3], vec![1.0f32, 10.0, 100.0])?)?;
/// let y = ops::channel_conv1d(&mut t, x, w)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 1, 1, 4], vec![1.0f32, 2.0, 3.0, 4.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [210.0, 321.0, 432.0, 43.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn channel_conv1d(t: &mut Tape, x: Var, w: Var) -> Result<Var> {
    t.record(ChannelConv::forward(), &[x, w])
}

fn check(x: Shape, w: Shape) -> Result<()> {
    let [_, h, width, _] = x.dims4(NAME)?;
    if h != 1 || width != 1 || w.rank() != 1 || w.len().is_multiple_of(2) {
        return Err(Error::shape(
            NAME,
            format!("needs x [N, 1, 1, C] and w [k] with k odd, found {x} and {w}"),
        ));
    }
    Ok(())
}

/// `y[c] = sum of w[j] x[c + j - p]`; transposed, the adjoint in x: `y[c] = sum of w[j] x[c + p - j]`.
/// Inputs x, w.
#[derive(Debug)]
pub(super) struct ChannelConv {
    transposed: bool,
}

impl ChannelConv {
    /// The operator of [`channel_conv1d`].
    pub fn forward() -> Self {
        Self { transposed: false }
    }
}

impl Operator for ChannelConv {
    fn name(&self) -> &'static str {
        if self.transposed {
            "channel_conv1d_dx"
        } else {
            NAME
        }
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(NAME, inputs, 2..=2)?;
        check(inputs[0].shape, inputs[1].shape)?;
        Ok(Meta::new(inputs[0].shape, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let (x, w) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let dx = ChannelConv {
            transposed: !self.transposed,
        };
        let dw = ChannelConvWeightGrad {
            k: t.shape(w).len(),
        };
        let pair = if self.transposed { [g, x] } else { [x, g] };
        Ok(vec![
            Some(t.record(dx, &[g, w])?),
            Some(t.record(dw, &pair)?),
        ])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let c = io.shape(0).padded4()[3];
        dispatch_real!(io.dtype(), NAME, T => {
            let (x, w, out) = (io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>()?);
            for (x, out) in x.chunks(c).zip(out.chunks_mut(c)) {
                convolve(x, w, self.transposed, out);
            }
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let (x, k) = (io.shape(0), io.shape(1).len());
        let c = x.padded4()[3];
        io.int(x.len())?;
        let params = ChannelConvParams {
            x: io.input(0),
            w: io.input(1),
            y: io.output(),
            n: io.int(x.len() / c)?,
            c: io.int(c)?,
            k: io.int(k)?,
            transposed: self.transposed.into(),
        };
        let blocks = io.blocks_for(x.len());
        io.launch(
            "channel_conv",
            "channel_conv1d_fwd",
            blocks,
            THREADS,
            params,
        )
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        2 * (inputs[1].shape.len() * output.shape.len()) as u64
    }

    fn multiply_adds(&self, inputs: &[Meta], output: Meta) -> u64 {
        self.flops(inputs, output) / 2
    }
}

/// `ChannelConv` of `kernels/channel_conv.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ChannelConvParams {
    x: DevicePtr,
    w: DevicePtr,
    y: DevicePtr,
    n: i32,
    c: i32,
    k: i32,
    transposed: i32,
}

/// `ChannelConvGrad` of `kernels/channel_conv.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ChannelConvGradParams {
    x: DevicePtr,
    g: DevicePtr,
    dw: DevicePtr,
    n: i32,
    c: i32,
    k: i32,
    padding: i32,
}

/// Channels `c` for which `c + j - p` is a channel too.
fn inside(c: usize, j: usize, p: usize) -> std::ops::Range<usize> {
    let from = p.saturating_sub(j).min(c);
    from..(c + p).saturating_sub(j).min(c).max(from)
}

fn convolve<T: Real>(x: &[T], w: &[T], transposed: bool, out: &mut [T]) {
    let p = w.len() / 2;
    out.fill(T::zero());
    for (j, &w) in w.iter().enumerate() {
        let j = if transposed { 2 * p - j } else { j };
        let at = inside(x.len(), j, p);
        if at.is_empty() {
            continue;
        }
        for (o, &x) in out[at.clone()].iter_mut().zip(&x[at.start + j - p..]) {
            *o += w * x;
        }
    }
}

/// `dw[j] = sum over n, c of g[n, c] x[n, c + j - p]`; inputs x, g.
#[derive(Debug)]
struct ChannelConvWeightGrad {
    k: usize,
}

impl Operator for ChannelConvWeightGrad {
    fn name(&self) -> &'static str {
        "channel_conv1d_dw"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 2..=2)?;
        check(inputs[0].shape, Shape::from([self.k]))?;
        if inputs[0].shape != inputs[1].shape {
            return Err(Error::shape(
                NAME,
                format!("cotangent {} must be {}", inputs[1].shape, inputs[0].shape),
            ));
        }
        Ok(Meta::new([self.k], dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, u: Var) -> Result<Vec<Option<Var>>> {
        let (x, g) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let dx = t.record(ChannelConv { transposed: true }, &[g, u])?;
        Ok(vec![Some(dx), Some(channel_conv1d(t, x, u)?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let c = io.shape(0).padded4()[3];
        dispatch_real!(io.dtype(), NAME, T => {
            weight_grad::<T>(c, io.input(0)?, io.input(1)?, io.output()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let x = io.shape(0);
        let c = x.padded4()[3];
        io.int(x.len())?;
        let params = ChannelConvGradParams {
            x: io.input(0),
            g: io.input(1),
            dw: io.output(),
            n: io.int(x.len() / c)?,
            c: io.int(c)?,
            k: io.int(self.k)?,
            padding: 0,
        };
        io.launch(
            "channel_conv",
            "channel_conv1d_bwd_weight",
            self.k,
            THREADS,
            params,
        )
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        2 * (self.k * inputs[0].shape.len()) as u64
    }
}

fn weight_grad<T: Real>(c: usize, x: &[T], g: &[T], out: &mut [T]) {
    let p = out.len() / 2;
    for (j, out) in out.iter_mut().enumerate() {
        *out = T::zero();
        let at = inside(c, j, p);
        if at.is_empty() {
            continue;
        }
        for (x, g) in x.chunks(c).zip(g.chunks(c)) {
            let pairs = g[at.clone()].iter().zip(&x[at.start + j - p..]);
            // Summed per image first: less rounding.
            *out += pairs.map(|(&g, &x)| g * x).sum::<T>();
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    [
        (2, 32, 3),
        (1, 1, 3),
        (3, 7, 5),
        (1, 2, 7),
        (2, 13, 1),
        (3, 200, 9),
    ]
    .into_iter()
    .map(|(n, c, k)| {
        Case::new(
            format!("channel_conv1d n {n} c {c} k {k}"),
            ChannelConv::forward(),
            vec![CaseInput::any([n, 1, 1, c]), CaseInput::any([k])],
            k,
        )
    })
    .collect()
}
