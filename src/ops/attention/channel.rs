//! Channel attention.

use super::{run, take, words};
use crate::device::cpu::CpuIo;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Attribute, Graph, Operand, Value};
use crate::ops::broadcast::Repeat;
use crate::ops::channel_conv::{ChannelConv, channel_conv1d};
use crate::ops::gate::{Gate, gate};
use crate::ops::lanes::{Columns, ColumnsParams, pack};
use crate::ops::reduce::{SumTo, mean_positions};
use crate::ops::unary::{sigmoid, sigmoid_of};
use crate::tape::{Band, Banded, Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{Element, Shape};
use crate::{DType, Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};

const NAME: &str = "channel_attention";

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

/// Inputs u, w, x.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelAttention {
    /// On CUDA, one thread for an output.
    pub naive: bool,
}

/// Taps that a block has room for beside the channels it gates.
const MAX_K: usize = 31;
/// Channels of a block of the gate where there are more than threads; whole loads of 16 bytes.
const WIDE: usize = (THREADS - MAX_K + 1) / 8 * 8;
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
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(NAME, inputs, 3..=3)?;
        let [u, w, x] = [0, 1, 2].map(|i| inputs[i].shape);
        let [n, h, width, c] = u.dims4(NAME)?;
        if n * h * width * c == 0 || x != u {
            let detail = format!("u {u} needs elements and a residual {u}, found {x}");
            return Err(Error::shape(NAME, detail));
        }
        if w.rank() != 1 || w.len().is_multiple_of(2) || w.len() > MAX_K {
            let detail = format!("weights {w}; needs [k] with k odd and at most {MAX_K}");
            return Err(Error::shape(NAME, detail));
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
        dispatch_real!(io.dtype(), NAME, T => {
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

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let u = inputs[0].value(NAME)?;
        let k = inputs[1].tensor(NAME)?.1.shape().len();
        let means = g.node("GlobalAveragePool", &[u], &[]);
        // The channels become rows of a picture of one column, which a convolution slides over.
        let rows = g.ints("channels_as_rows", &[0, 1, -1, 1])?;
        let back = g.ints("rows_as_channels", &[0, -1, 1, 1])?;
        let means = g.node("Reshape", &[&means, &rows], &[]);
        let kernel = g.weights(NAME, &inputs[1], &[1, 1, k, 1])?;
        let (k, pad) = (k as i64, k as i64 / 2);
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![k, 1])),
            ("pads", Attribute::Ints(vec![pad, 0, pad, 0])),
        ];
        let weights = g.node("Conv", &[&means, &kernel], &attributes);
        let weights = g.node("Reshape", &[&weights, &back], &[]);
        let weights = g.node("Sigmoid", &[&weights], &[]);
        let [u, x] = [&inputs[0], &inputs[2]].map(Operand::clone);
        Gate::default().onnx(g, &[u, Operand::Computed(weights), x])
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

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for ChannelAttention {
    fn statistic(&self, whole: &[Meta]) -> usize {
        whole[0].shape.padded4()[3]
    }

    /// Sums of channels; each row in f32 lanes of its own would lose digits in pictures of many megapixels.
    fn gather(&self, x: &[f32], statistic: &mut [f64]) {
        for pixel in x.chunks_exact(statistic.len()) {
            for (s, &v) in statistic.iter_mut().zip(pixel) {
                *s += f64::from(v);
            }
        }
    }

    fn scratch(&self, inputs: &[Meta], _: Meta) -> usize {
        2 * 8 * words(inputs[0].shape.padded4()[3], 4)
    }

    fn run(&self, mut io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let (shape, w_shape) = (io.shape(0), io.shape(1));
        let [_, h, w, c] = band.whole[0].shape.padded4();
        let mut scratch = io.scratch::<f64>()?;
        let channels = Shape::from([1, 1, 1, c]);
        let mean = take::<f32>(&mut scratch, c);
        let weights = take::<f32>(&mut scratch, c);
        for (m, &sum) in mean.iter_mut().zip(band.statistic) {
            *m = (sum / (h * w) as f64) as f32;
        }
        let from = [(&*mean, channels), (io.input(1)?, w_shape)];
        run(&ChannelConv::forward(), from, (weights, channels), &mut [])?;
        sigmoid_of(weights, mean);
        let from = [
            (io.input(0)?, shape),
            (&*mean, channels),
            (io.input(2)?, shape),
        ];
        run(
            &Gate::default(),
            from,
            (io.output::<f32>()?, shape),
            &mut [],
        )
    }
}
