//! The two attention blocks of the paper's search space, from weights to gate and residual in one
//! operator each.

use super::broadcast::Repeat;
use super::channel_conv::{ChannelConv, channel_conv1d};
use super::channel_stats::{Stats, channel_stats};
use super::conv::{Conv2d, ConvOptions, Kernels, conv2d};
use super::gate::{Gate, gate};
use super::lanes::{Columns, ColumnsParams, group, pack};
use super::reduce::{SumTo, mean_positions};
use super::registry::{Case, CaseInput, Fill};
use super::unary::{sigmoid, sigmoid_of};
use super::{Activation, Padding};
use crate::device::cpu::{CpuIo, RawView};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tape::{Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{Element, Shape};
use crate::{DType, Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};

const SPATIAL: &str = "spatial_attention";
const CHANNEL: &str = "channel_attention";

/// Spatial attention (Woo et al., "CBAM", ECCV 2018, eq. 3) with its gate and a residual:
///
/// `y = u sigmoid(b + conv k x k([max_c u, mean_c u]; w)) + x`
///
/// with zeros around the picture. One operator for [`channel_stats`], [`conv2d`] and [`gate`].
///
/// # Shapes
/// `u`, `x` and the result `[N, H, W, C]`; `w` `[k, k, 2, 1]` with k of 3, 5 or 7; `b` `[1]`.
///
/// # Gradient
/// With respect to all inputs; statistics and map are computed again. That of the maximum goes to the
/// first channel that attains it.
///
/// # Errors
/// [`Error::Shape`] if shapes do not fit.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let u = t.input("u", [1, 1, 1, 2])?;
/// let w = t.constant(&Tensor::full([3, 3, 2, 1], DType::F32, 0.5))?;
/// let b = t.constant(&Tensor::full([1], DType::F32, -3.5))?;
/// let y = ops::spatial_attention(&mut t, u, w, b, u)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("u", &Tensor::from_vec([1, 1, 1, 2], vec![4.0f32, 2.0])?)?;   // maximum 4, mean 3
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [6.0, 3.0]);                       // u * 0.5 + u
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn spatial_attention(t: &mut Tape, u: Var, w: Var, b: Var, x: Var) -> Result<Var> {
    t.record(SpatialAttention::default(), &[u, w, b, x])
}

/// Channel attention (Wang et al., "ECA-Net", CVPR 2020) with its gate and a residual:
///
/// `y = u sigmoid(conv1d over channels(mean over positions of u; w)) + x`
///
/// with zeros around the channels. One operator for [`mean_positions`], [`channel_conv1d`],
/// [`sigmoid`] and [`gate`].
///
/// # Shapes
/// `u`, `x` and the result `[N, H, W, C]`; `w` `[k]` with k odd and at most 31.
///
/// # Gradient
/// With respect to all inputs; means and weights of channels are computed again.
///
/// # Errors
/// [`Error::Shape`] if shapes do not fit.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let u = t.input("u", [1, 1, 2, 1])?;
/// let w = t.constant(&Tensor::from_vec([3], vec![9.0f32, 0.0, 9.0])?)?;
/// let y = ops::channel_attention(&mut t, u, w, u)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("u", &Tensor::from_vec([1, 1, 2, 1], vec![4.0f32, 2.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [6.0, 3.0]);                       // no neighbours: sigmoid(0)
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn channel_attention(t: &mut Tape, u: Var, w: Var, x: Var) -> Result<Var> {
    t.record(ChannelAttention::default(), &[u, w, x])
}

/// Runs `op` on slices, as a part of another operator.
fn run<T: Element, const N: usize>(
    op: &dyn Operator,
    inputs: [(&[T], Shape); N],
    output: (&mut [T], Shape),
    scratch: &mut [f64],
) -> Result<()> {
    let fits = |len: usize, shape: Shape| len == shape.len();
    if !inputs.iter().all(|(v, s)| fits(v.len(), *s)) || !fits(output.0.len(), output.1) {
        return Err(Error::Internal(format!("{} on slices", op.name())));
    }
    let dtype = T::DTYPE;
    let views = inputs.map(|(v, shape)| RawView {
        ptr: v.as_ptr().cast_mut().cast(),
        shape,
        dtype,
    });
    let to = RawView {
        ptr: output.0.as_mut_ptr().cast(),
        shape: output.1,
        dtype,
    };
    let room = (scratch.as_mut_ptr().cast(), size_of_val(scratch));
    // SAFETY: the views are borrowed slices of the lengths that their shapes say; output and scratch
    // are borrowed mutably, so nothing overlaps them; no input is updated in place.
    op.cpu(unsafe { CpuIo::new(&views, &[], to, room) })
}

/// Words of scratch for `len` elements of `size` bytes; whole cache lines.
fn words(len: usize, size: usize) -> usize {
    (len * size).div_ceil(64) * 8
}

/// Takes `len` elements from the front of scratch.
fn take<'a, T: Element>(scratch: &mut &'a mut [f64], len: usize) -> &'a mut [T] {
    let (front, rest) = std::mem::take(scratch).split_at_mut(words(len, size_of::<T>()));
    *scratch = rest;
    &mut bytemuck::cast_slice_mut(front)[..len]
}

/// Inputs u, w, b, x.
#[derive(Clone, Debug, Default)]
struct SpatialAttention {
    /// On CUDA, one thread for an output.
    naive: bool,
}

/// Largest kernel; `MAX_K` of `kernels/attention.cu`.
const MAX_SPATIAL_K: usize = 7;
/// `SIDE` of `kernels/attention.cu`.
const TILE: usize = 16;

/// `Spatial` of `kernels/attention.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SpatialParams {
    u: DevicePtr,
    weight: DevicePtr,
    bias: DevicePtr,
    x: DevicePtr,
    y: DevicePtr,
    stats: DevicePtr,
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    k: i32,
    group: i32,
    rows: i32,
    columns: i32,
}

const MAP_OPTIONS: ConvOptions = ConvOptions {
    stride: 1,
    dilation: 1,
    padding: Padding::Same,
    activation: Activation::Sigmoid,
};

/// The operator that makes the map from the statistics.
const MAP: Conv2d = Conv2d {
    options: MAP_OPTIONS,
    bias: true,
    residual: false,
    kernels: Kernels::Auto,
};

impl SpatialAttention {
    /// Shapes of the statistics and of the map.
    fn shapes(u: Shape) -> (Shape, Shape) {
        let [n, h, w, _] = u.padded4();
        ([n, h, w, 2].into(), [n, h, w, 1].into())
    }

    /// Input and output of the convolution.
    fn map_metas(inputs: &[Meta]) -> ([Meta; 3], Meta) {
        let (stats, map) = Self::shapes(inputs[0].shape);
        let dtype = inputs[0].dtype;
        let stats = Meta::new(stats, dtype);
        ([stats, inputs[1], inputs[2]], Meta::new(map, dtype))
    }
}

impl Operator for SpatialAttention {
    fn name(&self) -> &'static str {
        SPATIAL
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(SPATIAL, inputs, 4..=4)?;
        let [u, w, b, x] = [0, 1, 2, 3].map(|i| inputs[i].shape);
        u.dims4(SPATIAL)?;
        let k = w.padded4()[0];
        if w != [k, k, 2, 1].into() || ![3, 5, MAX_SPATIAL_K].contains(&k) {
            let detail = format!("weights {w}; needs [k, k, 2, 1] with k of 3, 5 or 7");
            return Err(Error::shape(SPATIAL, detail));
        }
        if b.dims() != [1] || x != u {
            let detail = format!("u {u} needs a bias [1] and a residual {u}, found {b} and {x}");
            return Err(Error::shape(SPATIAL, detail));
        }
        Stats::max_mean().infer(&inputs[..1])?;
        Ok(inputs[0])
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let inputs = t.inputs_of(node);
        let (u, w, b) = (inputs[0], inputs[1], inputs[2]);
        let stats = channel_stats(t, u)?;
        let map = conv2d(t, stats, w, Some(b), None, MAP_OPTIONS)?;
        // Without the residual, which may be u.
        let y = gate(t, u, map, None)?;
        let gradients = t.vjp_local(y, g, &[u, w, b])?;
        Ok(gradients.into_iter().chain([g]).map(Some).collect())
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let (u_shape, w_shape, b_shape) = (io.shape(0), io.shape(1), io.shape(2));
        let (stats_shape, map_shape) = Self::shapes(u_shape);
        let mut scratch = io.scratch::<f64>()?;
        dispatch_real!(io.dtype(), SPATIAL, T => {
            let [u, w, b, x] = [io.input::<T>(0)?, io.input(1)?, io.input(2)?, io.input(3)?];
            let stats = take::<T>(&mut scratch, stats_shape.len());
            let map = take::<T>(&mut scratch, map_shape.len());
            run(&Stats::max_mean(), [(u, u_shape)], (stats, stats_shape), &mut [])?;
            let from = [(&*stats, stats_shape), (w, w_shape), (b, b_shape)];
            run(&MAP, from, (map, map_shape), scratch)?;
            let from = [(u, u_shape), (&*map, map_shape), (x, u_shape)];
            run(&Gate::default(), from, (io.output::<T>()?, u_shape), &mut [])
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let u = io.shape(0);
        let [n, h, w, c] = u.padded4();
        io.int(u.len().max(2 * n * h * w))?;
        let group = group(io.dtype(), c);
        let (rows, columns) = (h.div_ceil(TILE), w.div_ceil(TILE));
        let params = SpatialParams {
            u: io.input(0),
            weight: io.input(1),
            bias: io.input(2),
            x: io.input(3),
            y: io.output(),
            stats: io.scratch().0,
            n: io.int(n)?,
            h: io.int(h)?,
            w: io.int(w)?,
            c: io.int(c)?,
            k: io.int(io.shape(1).padded4()[0])?,
            group: io.int(group)?,
            rows: io.int(rows)?,
            columns: io.int(columns)?,
        };
        if self.naive {
            let blocks = io.blocks_for(u.len());
            return io.launch(
                "attention",
                "spatial_attention_naive_fwd",
                blocks,
                THREADS,
                params,
            );
        }
        let blocks = io.blocks_for(n * h * w * group);
        io.launch(
            "attention",
            "spatial_attention_stats_fwd",
            blocks,
            THREADS,
            params,
        )?;
        let tiles = n * rows * columns;
        io.launch("attention", "spatial_attention_fwd", tiles, THREADS, params)
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        4 * Self::shapes(inputs[0].shape).0.len()
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        let (from, map) = Self::map_metas(inputs);
        let stats = Stats::max_mean().flops(inputs, from[0]);
        stats + MAP.flops(&from, map) + 2 * output.shape.len() as u64
    }

    fn multiply_adds(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let (from, map) = Self::map_metas(inputs);
        MAP.multiply_adds(&from, map)
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let (from, map) = Self::map_metas(inputs);
        let size = inputs[0].dtype.size();
        let maps = words(from[0].shape.len(), size) + words(map.shape.len(), size);
        8 * maps + MAP.workspace(&from, map).next_multiple_of(8)
    }
}

/// Inputs u, w, x.
#[derive(Clone, Debug, Default)]
struct ChannelAttention {
    /// On CUDA, one thread for an output.
    naive: bool,
}

/// Taps that a block has room for beside the channels it gates.
const MAX_CHANNEL_K: usize = 31;
/// Channels of a block of the gate where there are more than threads; whole loads of 16 bytes.
const WIDE: usize = (THREADS - MAX_CHANNEL_K + 1) / 8 * 8;
/// Every block adds the parts of a sum again, so there are few.
const MAX_PARTS: usize = 128;

/// `Channel` of `kernels/attention.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ChannelParams {
    u: DevicePtr,
    weight: DevicePtr,
    x: DevicePtr,
    y: DevicePtr,
    partials: DevicePtr,
    columns: ColumnsParams,
    width: i32,
    blocks: i32,
    rows: i32,
    chunks: i32,
    k: i32,
}

impl ChannelAttention {
    fn columns(u: Shape, dtype: DType) -> Columns {
        let [n, h, w, c] = u.padded4();
        let r = Repeat {
            outer: n,
            rep: h * w,
            inner: c,
        };
        Columns::new(r, dtype, MAX_PARTS)
    }

    /// What the means and the channels' weights look like, and the means' operator.
    fn mean(inputs: &[Meta]) -> (SumTo, Meta) {
        let [n, h, w, c] = inputs[0].shape.padded4();
        let mean = Meta::new([n, 1, 1, c], inputs[0].dtype);
        (SumTo::mean_of_positions([n, h, w, c]), mean)
    }
}

impl Operator for ChannelAttention {
    fn name(&self) -> &'static str {
        CHANNEL
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(CHANNEL, inputs, 3..=3)?;
        let [u, w, x] = [0, 1, 2].map(|i| inputs[i].shape);
        let [n, h, width, c] = u.dims4(CHANNEL)?;
        if n * h * width * c == 0 || x != u {
            let detail = format!("u {u} needs elements and a residual {u}, found {x}");
            return Err(Error::shape(CHANNEL, detail));
        }
        if w.rank() != 1 || w.len().is_multiple_of(2) || w.len() > MAX_CHANNEL_K {
            let detail = format!("weights {w}; needs [k] with k odd and at most {MAX_CHANNEL_K}");
            return Err(Error::shape(CHANNEL, detail));
        }
        Ok(inputs[0])
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let (u, w) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let mean = mean_positions(t, u)?;
        let z = channel_conv1d(t, mean, w)?;
        let weights = sigmoid(t, z)?;
        // Without the residual, which may be u.
        let y = gate(t, u, weights, None)?;
        let gradients = t.vjp_local(y, g, &[u, w])?;
        Ok(gradients.into_iter().chain([g]).map(Some).collect())
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let (u_shape, w_shape) = (io.shape(0), io.shape(1));
        let mut scratch = io.scratch::<f64>()?;
        dispatch_real!(io.dtype(), CHANNEL, T => {
            let [u, w, x] = [io.input::<T>(0)?, io.input(1)?, io.input(2)?];
            let (sum, mean_meta) = Self::mean(&[Meta::new(u_shape, T::DTYPE)]);
            let shape = mean_meta.shape;
            let mean = take::<T>(&mut scratch, shape.len());
            let weights = take::<T>(&mut scratch, shape.len());
            run(&sum, [(u, u_shape)], (mean, shape), scratch)?;
            let from = [(&*mean, shape), (w, w_shape)];
            run(&ChannelConv::forward(), from, (weights, shape), &mut [])?;
            sigmoid_of(weights, mean);
            let from = [(u, u_shape), (&*mean, shape), (x, u_shape)];
            run(&Gate::default(), from, (io.output::<T>()?, u_shape), &mut [])
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let u = io.shape(0);
        let [n, h, w, c] = u.padded4();
        let dtype = io.dtype();
        let columns = Self::columns(u, dtype);
        let width = if c <= THREADS { c } else { WIDE };
        let blocks = c.div_ceil(width);
        // Enough blocks to fill the card, each with rows enough to be worth its sums.
        let lanes = THREADS / (width / pack(dtype, c));
        let wanted = io.card().multiprocessors as usize * 8 / (n * blocks);
        let rows = (h * w).div_ceil(wanted.max(1)).max(4 * lanes);
        let chunks = (h * w).div_ceil(rows);
        let params = ChannelParams {
            u: io.input(0),
            weight: io.input(1),
            x: io.input(2),
            y: io.output(),
            partials: io.scratch().0,
            columns: columns.params(io)?,
            width: io.int(width)?,
            blocks: io.int(blocks)?,
            rows: io.int(rows)?,
            chunks: io.int(chunks)?,
            k: io.int(io.shape(1).len())?,
        };
        let each = io.blocks_for(u.len());
        let mut launch = |kernel, blocks| io.launch("attention", kernel, blocks, THREADS, params);
        if self.naive {
            return launch("channel_attention_naive_fwd", each);
        }
        launch("channel_attention_sums_fwd", columns.blocks())?;
        launch("channel_attention_fwd", n * blocks * chunks)
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        Self::columns(inputs[0].shape, inputs[0].dtype).partial_bytes()
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        let (sum, mean) = Self::mean(inputs);
        let conv = ChannelConv::forward().flops(&[mean, inputs[1]], mean);
        sum.flops(inputs, mean) + conv + (mean.shape.len() + 2 * output.shape.len()) as u64
    }

    fn multiply_adds(&self, inputs: &[Meta], _output: Meta) -> u64 {
        let mean = Self::mean(inputs).1;
        ChannelConv::forward().multiply_adds(&[mean, inputs[1]], mean)
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let (sum, mean) = Self::mean(inputs);
        let maps = 2 * words(mean.shape.len(), mean.dtype.size());
        8 * maps + sum.workspace(&inputs[..1], mean)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    // The last ones span several tiles, parts of a sum and blocks of channels, with remainders.
    for (u, k, naive) in [
        ([2, 5, 7, 3], 5, true),
        ([1, 1, 1, 1], 3, true),
        ([1, 1, 9, 8], 3, true),
        ([1, 9, 1, 11], 7, true),
        ([1, 35, 18, 32], 5, false),
        ([2, 17, 33, 11], 7, false),
        ([1, 20, 17, 1], 3, false),
    ] {
        for naive in [false, true].into_iter().take(1 + usize::from(naive)) {
            let suffix = if naive { ", naive" } else { "" };
            let op = SpatialAttention { naive };
            let inputs = vec![
                // No two channels of a pixel are close: the maximum is unique.
                CaseInput::new(u, Fill::Distinct),
                CaseInput::any([k, k, 2, 1]),
                CaseInput::any([1]),
                CaseInput::any(u),
            ];
            let label = format!("{SPATIAL} {u:?} k {k}{suffix}");
            out.push(Case::new(label, op, inputs, 2 * k * k));
        }
    }
    for (u, k, naive) in [
        ([2, 5, 7, 3], 3, true),
        ([1, 1, 1, 1], 3, true),
        ([1, 1, 9, 8], 5, true),
        ([1, 9, 1, 11], 1, true),
        ([1, 2, 3, 37], 31, true),
        ([2, 40, 33, 32], 3, false),
        ([1, 67, 61, 3], 3, false),
        ([1, 2, 3, 300], 5, false),
        ([1, 3, 2, 304], 31, false),
    ] {
        for naive in [false, true].into_iter().take(1 + usize::from(naive)) {
            let suffix = if naive { ", naive" } else { "" };
            let op = ChannelAttention { naive };
            let inputs = vec![CaseInput::any(u), CaseInput::any([k]), CaseInput::any(u)];
            let label = format!("{CHANNEL} {u:?} k {k}{suffix}");
            out.push(Case::new(label, op, inputs, k));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParamStore, Session, Tensor};

    /// Values of `y0`, `y1`, and the gradients of both in all inputs.
    fn compare(
        record: impl Fn(&mut Tape, &[Var]) -> Result<[Var; 2]>,
        shapes: &[Shape],
    ) -> Result<()> {
        let mut t = Tape::new(DType::F32);
        let names: Vec<String> = (0..shapes.len()).map(|i| format!("x{i}")).collect();
        let xs = names.iter().zip(shapes).map(|(name, s)| t.input(name, *s));
        let xs: Vec<Var> = xs.collect::<Result<_>>()?;
        let ys = record(&mut t, &xs)?;
        let g = t.input("g", t.shape(ys[0]))?;
        for (y, name) in ys.into_iter().zip(["fused", "nodes"]) {
            t.output(name, y)?;
            for (i, d) in t.vjp(y, g, &xs)?.into_iter().enumerate() {
                t.output(&format!("{name} d{i}"), d)?;
            }
        }
        let mut s = Session::new(&t, &ParamStore::default())?;
        for (name, &shape) in names
            .iter()
            .chain([&"g".to_string()])
            .zip(shapes.iter().chain([&t.shape(g)]))
        {
            let values = (0..shape.len()).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0);
            s.set(name, &Tensor::from_vec(shape, values.collect::<Vec<_>>())?)?;
        }
        s.run()?;
        for i in std::iter::once(String::new()).chain((0..xs.len()).map(|i| format!(" d{i}"))) {
            let [a, b] = ["fused", "nodes"].map(|name| s.get(&format!("{name}{i}")));
            assert_eq!(a?, b?, "output{i}");
        }
        Ok(())
    }

    #[test]
    fn fused_spatial_attention_has_the_bits_of_its_nodes() -> Result<()> {
        let u = Shape::from([2, 21, 19, 12]);
        compare(
            |t, x| {
                let stats = channel_stats(t, x[0])?;
                let map = conv2d(t, stats, x[1], Some(x[2]), None, MAP_OPTIONS)?;
                let nodes = gate(t, x[0], map, Some(x[3]))?;
                Ok([spatial_attention(t, x[0], x[1], x[2], x[3])?, nodes])
            },
            &[u, [5, 5, 2, 1].into(), [1].into(), u],
        )
    }

    #[test]
    fn fused_channel_attention_has_the_bits_of_its_nodes() -> Result<()> {
        let u = Shape::from([2, 45, 49, 12]);
        compare(
            |t, x| {
                let mean = mean_positions(t, x[0])?;
                let z = channel_conv1d(t, mean, x[1])?;
                let weights = sigmoid(t, z)?;
                let nodes = gate(t, x[0], weights, Some(x[2]))?;
                Ok([channel_attention(t, x[0], x[1], x[2])?, nodes])
            },
            &[u, [3].into(), u],
        )
    }

    #[test]
    fn a_residual_that_is_the_input_counts_once() -> Result<()> {
        let mut t = Tape::new(DType::F64);
        let u = t.input("u", [1, 1, 1, 1])?;
        let w = t.constant(&Tensor::full([3], DType::F64, 0.0))?;
        let y = channel_attention(&mut t, u, w, u)?;
        let d = t.grad(y, &[u])?[0];
        t.output("d", d)?;
        let mut s = Session::new(&t, &ParamStore::default())?;
        s.set("u", &Tensor::full([1, 1, 1, 1], DType::F64, 3.0))?;
        s.run()?;
        assert_eq!(s.scalar("d")?, 1.5); // sigmoid(0) + 1
        Ok(())
    }
}
