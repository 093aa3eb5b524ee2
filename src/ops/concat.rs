//! Joining and slicing of channels; each is the other's gradient.

use super::registry::{Case, CaseInput};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Attribute, Graph, Operand, Value};
use crate::tape::{Banded, Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{Real, Shape};
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};

/// Most inputs of one [`concat()`].
pub const MAX_CONCAT: usize = 16;

/// Elements of one unit of work, about.
const CHUNK: usize = 4096;

/// Joins arrays along the last dimension, the channels.
///
/// # Shapes
/// Up to [`MAX_CONCAT`] arrays of the same shape but for the last dimension: `[N, H, W, C1]`,
/// `[N, H, W, C2]`, ... give `[N, H, W, C1 + C2 + ...]`. Any rank from 1.
///
/// # Gradient
/// With respect to all inputs: [`slice_channels`] of the cotangent.
///
/// # Errors
/// [`Error::Shape`] if other dimensions differ.
///
/// ```
/// use hafuse::{ops, DType, Tape};
/// let mut t = Tape::new(DType::F32);
/// let (a, b) = (t.input("a", [1, 5, 7, 3])?, t.input("b", [1, 5, 7, 2])?);
/// let y = ops::concat(&mut t, &[a, b])?;
/// assert_eq!(t.shape(y).dims(), [1, 5, 7, 5]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn concat(t: &mut Tape, xs: &[Var]) -> Result<Var> {
    t.record(Concat, xs)
}

/// Channels `from..from + len` of `x`, the last dimension.
///
/// # Shapes
/// `x: [.., C]` of any rank from 1 gives `[.., len]`.
///
/// # Gradient
/// The cotangent, surrounded by zero channels.
///
/// # Errors
/// [`Error::Shape`] if the channels are not there or `len` is 0.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.constant(&Tensor::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?)?;
/// let y = ops::slice_channels(&mut t, x, 1, 2)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [2.0, 3.0, 5.0, 6.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn slice_channels(t: &mut Tape, x: Var, from: usize, len: usize) -> Result<Var> {
    t.record(SliceChannels { from, len }, &[x])
}

/// `Concat` of `kernels/concat.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ConcatParams {
    x: [DevicePtr; MAX_CONCAT],
    y: DevicePtr,
    channels: [i32; MAX_CONCAT],
    count: i32,
    n: i32,
    total: i32,
    unused: i32,
}

/// `CopyChannels` of `kernels/concat.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct CopyChannelsParams {
    x: DevicePtr,
    y: DevicePtr,
    n: i32,
    from_total: i32,
    to_total: i32,
    shift: i32,
}

/// Launches `y[c] = x[c + shift]`, 0 where `x` has no such channel.
fn copy_channels(io: &mut CudaIo<'_>, shift: i32) -> Result<()> {
    let n = io.output_shape().len();
    let params = CopyChannelsParams {
        x: io.input(0),
        y: io.output(),
        n: io.int(n)?,
        from_total: io.int(channels(io.shape(0)))?,
        to_total: io.int(channels(io.output_shape()))?,
        shift,
    };
    let blocks = io.blocks_for(n);
    io.launch("concat", "copy_channels_fwd", blocks, THREADS, params)
}

/// See [`concat`].
#[derive(Clone, Debug)]
pub struct Concat;

/// See [`slice_channels`].
#[derive(Clone, Debug)]
pub struct SliceChannels {
    pub from: usize,
    pub len: usize,
}

/// Puts `x` into channels `from..` of an array of zeros with `channels` channels.
#[derive(Clone, Debug)]
pub(super) struct PlaceChannels {
    pub from: usize,
    pub channels: usize,
}

/// Last dimension; 0 for a scalar.
fn channels(shape: Shape) -> usize {
    shape.dims().last().copied().unwrap_or(0)
}

/// `shape` with another last dimension.
fn with_channels(shape: Shape, channels: usize) -> Result<Shape> {
    let mut dims = [1; 4];
    let rank = shape.rank();
    dims[..rank].copy_from_slice(shape.dims());
    dims[rank.max(1) - 1] = channels;
    Shape::new(&dims[..rank])
}

/// Copies `len` of the `src_step` elements of each row of `src` into each row of `dst`.
fn copy_rows<T: Real>(dst: &mut [T], dst_step: usize, src: &[T], src_step: usize, len: usize) {
    // A length known to the compiler becomes a few moves, where `memcpy` would cost a call a row.
    fn fixed<T: Real, const N: usize>(dst: &mut [T], dst_step: usize, src: &[T], src_step: usize) {
        let (mut d, mut s) = (0, 0);
        while d < dst.len() && s < src.len() {
            dst[d..][..N].copy_from_slice(&src[s..][..N]);
            (d, s) = (d + dst_step, s + src_step);
        }
    }
    match len {
        1 => fixed::<T, 1>(dst, dst_step, src, src_step),
        2 => fixed::<T, 2>(dst, dst_step, src, src_step),
        3 => fixed::<T, 3>(dst, dst_step, src, src_step),
        4 => fixed::<T, 4>(dst, dst_step, src, src_step),
        8 => fixed::<T, 8>(dst, dst_step, src, src_step),
        16 => fixed::<T, 16>(dst, dst_step, src, src_step),
        32 => fixed::<T, 32>(dst, dst_step, src, src_step),
        64 => fixed::<T, 64>(dst, dst_step, src, src_step),
        _ => {
            for (d, s) in dst.chunks_mut(dst_step).zip(src.chunks(src_step)) {
                d[..len].copy_from_slice(&s[..len]);
            }
        }
    }
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("concat", inputs, 1..=MAX_CONCAT)?;
        let first = inputs[0].shape;
        let mut total = 0;
        for m in inputs {
            let (a, b) = (first.dims(), m.shape.dims());
            if a.is_empty() || b.is_empty() || a[..a.len() - 1] != b[..b.len() - 1] {
                return Err(Error::shape(
                    "concat",
                    format!("{first} and {} differ before the last dimension", m.shape),
                ));
            }
            total += channels(m.shape);
        }
        Ok(Meta::new(with_channels(first, total)?, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let mut from = 0;
        let mut out = Vec::new();
        for m in t.input_metas(node) {
            let len = channels(m.shape);
            out.push(Some(slice_channels(t, cotangent, from, len)?));
            from += len;
        }
        Ok(out)
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(io: &mut CpuIo<'_>) -> Result<()> {
            let total = channels(io.output_shape()?);
            let mut xs: [(&[T], usize); MAX_CONCAT] = [(&[], 0); MAX_CONCAT];
            let n = io.len();
            for (i, x) in xs[..n].iter_mut().enumerate() {
                *x = (io.input(i)?, channels(io.shape(i)));
            }
            let rows = (CHUNK / total.max(1)).max(1);
            for_chunks(io.output::<T>()?, rows * total, |i, out| {
                let mut from = 0;
                for &(x, c) in xs[..n].iter().filter(|x| x.1 > 0) {
                    copy_rows(&mut out[from..], total, &x[i * rows * c..], c, c);
                    from += c;
                }
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), "concat", T => run::<T>(&mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let (shape, mut params) = (io.output_shape(), ConcatParams::zeroed());
        for i in 0..io.len() {
            params.x[i] = io.input(i);
            params.channels[i] = io.int(channels(io.shape(i)))?;
        }
        params.y = io.output();
        params.count = io.int(io.len())?;
        params.n = io.int(shape.len())?;
        params.total = io.int(channels(shape))?;
        let blocks = io.blocks_for(shape.len());
        io.launch("concat", "concat_fwd", blocks, THREADS, params)
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let xs = inputs.iter().map(|x| x.value(self.name()));
        let xs = xs.collect::<Result<Vec<_>>>()?;
        Ok(g.node("Concat", &xs, &[("axis", Attribute::Int(1))]))
    }

    fn flops(&self, _inputs: &[Meta], _output: Meta) -> u64 {
        0
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for Concat {}

impl Operator for SliceChannels {
    fn name(&self) -> &'static str {
        "slice_channels"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("slice_channels", inputs, 1..=1)?;
        let shape = inputs[0].shape;
        let c = channels(shape);
        if self.len == 0 || self.from > c || self.len > c - self.from {
            return Err(Error::shape(
                "slice_channels",
                format!(
                    "{shape} has no {} channels from channel {}",
                    self.len, self.from
                ),
            ));
        }
        Ok(Meta::new(with_channels(shape, self.len)?, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let op = PlaceChannels {
            from: self.from,
            channels: channels(t.shape(t.inputs_of(node)[0])),
        };
        Ok(vec![Some(t.record(op, &[cotangent])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(from: usize, len: usize, io: &mut CpuIo<'_>) -> Result<()> {
            let (x, c) = (io.input::<T>(0)?, channels(io.shape(0)));
            let rows = (CHUNK / len).max(1);
            for_chunks(io.output::<T>()?, rows * len, |i, out| {
                copy_rows(out, len, &x[i * rows * c + from..], c, len);
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), "slice_channels", T => run::<T>(self.from, self.len, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let shift = io.int(self.from)?;
        copy_channels(io, shift)
    }

    fn flops(&self, _inputs: &[Meta], _output: Meta) -> u64 {
        0
    }
}

impl Operator for PlaceChannels {
    fn name(&self) -> &'static str {
        "place_channels"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("place_channels", inputs, 1..=1)?;
        let shape = inputs[0].shape;
        let len = channels(shape);
        if len == 0 || self.from + len > self.channels {
            return Err(Error::shape(
                "place_channels",
                format!(
                    "{shape} does not fit into {} channels from channel {}",
                    self.channels, self.from
                ),
            ));
        }
        Ok(Meta::new(with_channels(shape, self.channels)?, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let len = channels(t.shape(t.inputs_of(node)[0]));
        Ok(vec![Some(slice_channels(t, cotangent, self.from, len)?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(from: usize, total: usize, io: &mut CpuIo<'_>) -> Result<()> {
            let (x, c) = (io.input::<T>(0)?, channels(io.shape(0)));
            let rows = (CHUNK / total).max(1);
            for_chunks(io.output::<T>()?, rows * total, |i, out| {
                out.fill(T::zero());
                copy_rows(&mut out[from..], total, &x[i * rows * c..], c, c);
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), "place_channels", T => run::<T>(self.from, self.channels, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let shift = -io.int(self.from)?;
        copy_channels(io, shift)
    }

    fn flops(&self, _inputs: &[Meta], _output: Meta) -> u64 {
        0
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let any = |shape: [usize; 4]| CaseInput::any(shape);
    let slice = |from, len| SliceChannels { from, len };
    let place = |from, channels| PlaceChannels { from, channels };
    vec![
        Case::new("concat one", Concat, vec![any([2, 3, 1, 5])], 1),
        Case::new(
            "concat 1 + 1",
            Concat,
            vec![any([2, 3, 5, 1]), any([2, 3, 5, 1])],
            1,
        ),
        Case::new(
            "concat 3 + 5 + 2",
            Concat,
            vec![any([1, 3, 2, 3]), any([1, 3, 2, 5]), any([1, 3, 2, 2])],
            1,
        ),
        Case::new(
            "concat vectors",
            Concat,
            vec![CaseInput::any([4]), CaseInput::any([3])],
            1,
        ),
        Case::new(
            "concat 16 + 7 large",
            Concat,
            vec![any([2, 31, 29, 16]), any([2, 31, 29, 7])],
            1,
        ),
        Case::new("slice first", slice(0, 2), vec![any([2, 3, 2, 5])], 1),
        Case::new("slice middle", slice(1, 3), vec![any([2, 1, 3, 5])], 1),
        Case::new("slice all", slice(0, 5), vec![any([1, 3, 3, 5])], 1),
        Case::new("slice vector", slice(2, 1), vec![CaseInput::any([3])], 1),
        Case::new("slice large", slice(3, 8), vec![any([2, 53, 47, 12])], 1),
        Case::new("place last", place(3, 5), vec![any([2, 1, 3, 2])], 1),
        Case::new("place large", place(1, 9), vec![any([1, 53, 47, 8])], 1),
    ]
}
