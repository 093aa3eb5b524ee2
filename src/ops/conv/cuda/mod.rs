//! The convolution's kernels on a CUDA card: their parameters, and which one fits which shape.

use super::Sizes;
use super::geometry::AxisSize;
use crate::Result;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::ops::Activation;
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

/// Which kernels a convolution and its gradients run; only tests want other than `Auto`.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// The largest tile that gives every multiprocessor work.
    #[default]
    Auto,
    /// The largest tile that fits, however few blocks there are.
    Large,
    /// One thread for each output: the oracle of the others.
    Naive,
}

/// The sizes that `Conv` and `ConvWeight` of `kernels/common/conv.cuh` have in common.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Dims {
    n: i32,
    h: i32,
    width: i32,
    oh: i32,
    ow: i32,
    cin: i32,
    cout: i32,
    kh: i32,
    kw: i32,
    stride: i32,
    dilation: i32,
    pad_y: i32,
    pad_x: i32,
}

/// `Conv` of `kernels/common/conv.cuh`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ConvParams {
    input: DevicePtr,
    w: DevicePtr,
    bias: DevicePtr,
    residual: DevicePtr,
    out: DevicePtr,
    dims: Dims,
    phases: i32,
    activation: i32,
    slope: f32,
}

/// `ConvWeight` of `kernels/common/conv.cuh`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WeightParams {
    x: DevicePtr,
    g: DevicePtr,
    parts: DevicePtr,
    dw: DevicePtr,
    dims: Dims,
    part_count: i32,
}

/// `ActivationGrad` of `kernels/conv_grad.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ActivationGradParams {
    y: DevicePtr,
    g: DevicePtr,
    residual: DevicePtr,
    dz: DevicePtr,
    n: i32,
    activation: i32,
    slope: f32,
    unused: i32,
}

/// A convolution as kernels see it: sizes of the forward direction, and the channels of the kernel.
#[derive(Clone, Copy)]
pub(super) struct Job {
    pub sizes: Sizes,
    pub channels: (usize, usize),
    pub variant: Variant,
}

impl Job {
    fn dims(&self, io: &CudaIo<'_>) -> Result<Dims> {
        let (n, rows, cols) = (self.sizes.n, self.sizes.rows, self.sizes.cols);
        let (cin, cout) = self.channels;
        // Kernels index every array in 32 bits.
        for len in [
            n * rows.x * cols.x * cin,
            n * rows.y * cols.y * cout,
            rows.k * cols.k * cin * cout,
        ] {
            io.int(len)?;
        }
        Ok(Dims {
            n: io.int(n)?,
            h: io.int(rows.x)?,
            width: io.int(cols.x)?,
            oh: io.int(rows.y)?,
            ow: io.int(cols.y)?,
            cin: io.int(cin)?,
            cout: io.int(cout)?,
            kh: io.int(rows.k)?,
            kw: io.int(cols.k)?,
            stride: io.int(rows.stride)?,
            dilation: io.int(rows.dilation)?,
            pad_y: io.int(rows.pad)?,
            pad_x: io.int(cols.pad)?,
        })
    }
}

/// What a launch needs besides its parameters.
struct Choice {
    module: &'static str,
    kernel: String,
    blocks: usize,
    threads: usize,
}

/// Threads of a tile kernel's block, whatever the tile.
const TILE_THREADS: usize = 128;

/// A tile of `TILE` in `kernels/conv.cu` or `MMA` in `kernels/conv_mma.cu`: pixels and channels.
type Tile = (usize, usize);

/// The tiles for this many channels: a large one, and a small one for small pictures.
fn tiles(channels: usize, narrowest: Tile, small: [Tile; 2]) -> [Tile; 2] {
    if channels <= narrowest.1 {
        [narrowest, small[0]]
    } else if channels.next_multiple_of(64) == channels.next_multiple_of(32) {
        [(128, 64), small[1]]
    } else {
        [(256, 32), small[0]]
    }
}

/// Of those tiles that give a number of blocks, the first with two for each multiprocessor, or else
/// the last.
fn choose(
    tiles: [Tile; 2],
    variant: Variant,
    multiprocessors: u32,
    blocks: impl Fn(Tile) -> Option<usize>,
) -> Option<(Tile, usize)> {
    let enough = match variant {
        Variant::Large => 0,
        _ => 2 * multiprocessors as usize,
    };
    let counted = tiles.map(|t| blocks(t).map(|n| (t, n)));
    let mut fitting = counted.into_iter().flatten();
    let first = fitting.next()?;
    if first.1 >= enough {
        return Some(first);
    }
    fitting.next().or(Some(first))
}

/// Elements of the kernel that `conv_narrow` holds; `NARROW_WEIGHTS` in `kernels/conv.cu`.
const NARROW_WEIGHTS: usize = 3200;
/// Pixels of its blocks.
const NARROW_TILE: usize = 128;

/// The FFMA kernel that writes `written` channels, summing over `summed` of them, at `positions`
/// pixels in each of `phases` grids.
fn ffma(
    io: &CudaIo<'_>,
    job: &Job,
    op: &str,
    (summed, written): (usize, usize),
    (positions, phases): (usize, usize),
) -> Choice {
    let weights = job.sizes.rows.k * job.sizes.cols.k * summed * written;
    if written <= 2 && weights <= NARROW_WEIGHTS {
        return Choice {
            module: "conv",
            kernel: format!("{op}_narrow{written}"),
            blocks: positions.div_ceil(NARROW_TILE) * phases,
            threads: THREADS,
        };
    }
    const SMALL: Tile = (64, 32);
    let tiles = match io.dtype() {
        // Training is in f32; f16 comes here only where tensor cores do not apply.
        DType::F16 => [SMALL; 2],
        _ => tiles(written, (128, 16), [SMALL; 2]),
    };
    let blocks = |(m, n): Tile| positions.div_ceil(m) * phases * written.div_ceil(n);
    let sms = io.card().multiprocessors;
    let ((m, n), blocks) =
        choose(tiles, job.variant, sms, |t| Some(blocks(t))).unwrap_or((SMALL, blocks(SMALL)));
    Choice {
        module: "conv",
        kernel: format!("{op}_m{m}n{n}"),
        blocks,
        threads: TILE_THREADS,
    }
}

/// Columns of a tile on tensor cores; `COLUMNS` in `kernels/conv_mma.cu`.
const MMA_COLUMNS: usize = 16;
/// Most pixels that such a tile may read; `CAPACITY` there.
const PATCH: usize = 400;

/// Pixels of the input under a tile of `rows` by [`MMA_COLUMNS`]; `Patch` in `kernels/conv_mma.cu`.
fn patch(sizes: &Sizes, rows: usize) -> usize {
    let reach = |s: AxisSize, n: usize| (n - 1) * s.stride + (s.k - 1) * s.dilation + 1;
    let columns = reach(sizes.cols, MMA_COLUMNS).next_multiple_of(sizes.cols.stride);
    reach(sizes.rows, rows) * columns
}

/// The tensor-core kernel, where there is one for the card and the shape.
fn mma(io: &CudaIo<'_>, job: &Job) -> Option<Choice> {
    let (cin, cout) = job.channels;
    if !io.tensor_cores() || !cin.is_multiple_of(8) {
        return None;
    }
    let blocks = |(m, n): Tile| {
        let rows = m / MMA_COLUMNS;
        let s = &job.sizes;
        let pixels = s.n * s.rows.y.div_ceil(rows) * s.cols.y.div_ceil(MMA_COLUMNS);
        (patch(s, rows) <= PATCH).then(|| pixels * cout.div_ceil(n))
    };
    let tiles = tiles(cout, (128, 16), [(64, 32), (64, 64)]);
    let sms = io.card().multiprocessors;
    let ((m, n), blocks) = choose(tiles, job.variant, sms, blocks)?;
    Some(Choice {
        module: "conv_mma",
        kernel: format!("conv2d_fwd_mma_m{m}n{n}"),
        blocks,
        threads: TILE_THREADS,
    })
}

fn naive(io: &CudaIo<'_>, op: &str) -> Choice {
    Choice {
        module: "conv_naive",
        kernel: format!("conv2d_naive_{op}"),
        blocks: io.blocks_for(io.output_shape().len()),
        threads: THREADS,
    }
}

fn launch<P: Pod>(io: &mut CudaIo<'_>, choice: &Choice, params: P) -> Result<()> {
    let c = choice;
    io.launch(c.module, &c.kernel, c.blocks, c.threads, params)
}

/// Inputs x, kernel, and the bias and the residual where they have a number.
pub(super) fn forward(
    io: &mut CudaIo<'_>,
    job: &Job,
    bias: Option<usize>,
    residual: Option<usize>,
    activation: Activation,
) -> Result<()> {
    let (activation, slope) = activation.code();
    let params = ConvParams {
        input: io.input(0),
        w: io.input(1),
        bias: io.optional(bias),
        residual: io.optional(residual),
        out: io.output(),
        dims: job.dims(io)?,
        phases: 1,
        activation,
        slope,
    };
    let positions = job.sizes.n * job.sizes.rows.y * job.sizes.cols.y;
    let choice = match job.variant {
        Variant::Naive => naive(io, "fwd"),
        _ => mma(io, job)
            .unwrap_or_else(|| ffma(io, job, "conv2d_fwd", job.channels, (positions, 1))),
    };
    launch(io, &choice, params)
}

/// Inputs cotangent and kernel.
pub(super) fn input_grad(io: &mut CudaIo<'_>, job: &Job) -> Result<()> {
    let (s, (cin, cout)) = (job.sizes, job.channels);
    // Pixels that meet the same taps make a phase; the first is the largest.
    let phases = s.rows.stride * s.cols.stride;
    let positions = s.n * s.rows.x.div_ceil(s.rows.stride) * s.cols.x.div_ceil(s.cols.stride);
    let params = ConvParams {
        input: io.input(0),
        w: io.input(1),
        bias: DevicePtr::NULL,
        residual: DevicePtr::NULL,
        out: io.output(),
        dims: job.dims(io)?,
        phases: io.int(phases)?,
        activation: 0,
        slope: 0.0,
    };
    let choice = match job.variant {
        Variant::Naive => naive(io, "bwd_input"),
        _ => ffma(
            io,
            job,
            "conv2d_bwd_input",
            (cout, cin),
            (positions, phases),
        ),
    };
    launch(io, &choice, params)
}

/// Warps of the weight gradient's block, each with [`WEIGHT_ROWS`] rows (tap and input channel), and
/// the parts that pixels are split into.
struct Split {
    warps: usize,
    tiles: usize,
    parts: usize,
}

const WEIGHT_ROWS: usize = 32;

impl Split {
    /// Fixed by the shapes, so that the order of summation is the same on every card.
    fn new(pixels: usize, rows: usize, cout: usize, dtype: DType) -> Self {
        // Warps that together keep a large card busy, and pixels that are worth a block.
        const WARPS: usize = 1536;
        const PIXELS: usize = 64;
        let wide = 3 * WEIGHT_ROWS;
        let fits = rows > 2 * wide || rows.next_multiple_of(wide) == rows.next_multiple_of(32);
        let warps = if fits && dtype == DType::F32 { 3 } else { 1 };
        let tiles = rows.div_ceil(warps * WEIGHT_ROWS) * cout.div_ceil(32);
        let parts = WARPS
            .div_ceil(warps * tiles)
            .min(pixels.div_ceil(PIXELS))
            .max(1);
        Self {
            warps,
            tiles,
            parts,
        }
    }

    fn of(job: &Job, dtype: DType) -> Self {
        let s = &job.sizes;
        let rows = s.rows.k * s.cols.k * job.channels.0;
        Self::new(s.n * s.rows.y * s.cols.y, rows, job.channels.1, dtype)
    }
}

/// Bytes of scratch that [`weight_grad`] wants.
pub(super) fn weight_grad_bytes(job: &Job, dtype: DType) -> usize {
    match job.variant {
        Variant::Naive => 0,
        _ => {
            let weights = job.sizes.rows.k * job.sizes.cols.k * job.channels.0 * job.channels.1;
            4 * Split::of(job, dtype).parts * weights
        }
    }
}

/// Inputs x and cotangent.
pub(super) fn weight_grad(io: &mut CudaIo<'_>, job: &Job) -> Result<()> {
    let split = Split::of(job, io.dtype());
    let weights = io.output_shape().len();
    io.int(split.parts * weights)?;
    let params = WeightParams {
        x: io.input(0),
        g: io.input(1),
        parts: io.scratch().0,
        dw: io.output(),
        dims: job.dims(io)?,
        part_count: io.int(split.parts)?,
    };
    if job.variant == Variant::Naive {
        let choice = naive(io, "bwd_weight");
        return launch(io, &choice, params);
    }
    let rows = split.warps * WEIGHT_ROWS;
    let kernel = format!("conv2d_bwd_weight_m{rows}");
    io.launch(
        "conv_grad",
        &kernel,
        split.tiles * split.parts,
        rows,
        params,
    )?;
    let blocks = weights.div_ceil(WEIGHT_ROWS);
    io.launch(
        "conv_grad",
        "conv2d_bwd_weight_sum",
        blocks,
        THREADS,
        params,
    )
}

/// Inputs y, cotangent and, if one was added, the residual.
pub(super) fn activation_grad(io: &mut CudaIo<'_>, activation: Activation) -> Result<()> {
    let n = io.output_shape().len();
    let (activation, slope) = activation.code();
    let params = ActivationGradParams {
        y: io.input(0),
        g: io.input(1),
        residual: io.optional((io.len() == 3).then_some(2)),
        dz: io.output(),
        n: io.int(n)?,
        activation,
        slope,
        unused: 0,
    };
    io.launch(
        "conv_grad",
        "activation_grad",
        io.blocks_for(n),
        THREADS,
        params,
    )
}

#[cfg(test)]
mod tests;
