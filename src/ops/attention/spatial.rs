//! Spatial attention.

use super::{run, take, words};
use crate::device::cpu::CpuIo;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Graph, Operand, Value};
use crate::ops::channel_stats::{Stats, channel_stats};
use crate::ops::conv::{Conv2d, ConvOptions, Convolve, Forward, Variant, conv2d, rows_read};
use crate::ops::gate::{Gate, gate};
use crate::ops::lanes::group;
use crate::ops::{Activation, Padding};
use crate::tape::{Band, Banded, Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::Shape;
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

const NAME: &str = "spatial_attention";

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

/// Inputs u, w, b, x.
#[derive(Clone, Debug, Default)]
pub(super) struct SpatialAttention {
    /// On CUDA, one thread for an output.
    pub naive: bool,
}

/// Largest kernel; `MAX_K` of `kernels/attention.cu`.
const MAX_K: usize = 7;
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

pub(super) const MAP_OPTIONS: ConvOptions = ConvOptions {
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
    variant: Variant::Auto,
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
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(NAME, inputs, 4..=4)?;
        let [u, w, b, x] = [0, 1, 2, 3].map(|i| inputs[i].shape);
        u.dims4(NAME)?;
        let k = w.padded4()[0];
        if w != [k, k, 2, 1].into() || ![3, 5, MAX_K].contains(&k) {
            let detail = format!("weights {w}; needs [k, k, 2, 1] with k of 3, 5 or 7");
            return Err(Error::shape(NAME, detail));
        }
        if b.dims() != [1] || x != u {
            let detail = format!("u {u} needs a bias [1] and a residual {u}, found {b} and {x}");
            return Err(Error::shape(NAME, detail));
        }
        Stats::max_mean().output(&inputs[..1])?;
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
        dispatch_real!(io.dtype(), NAME, T => {
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

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let stats = Stats::max_mean().onnx(g, &inputs[..1])?;
        let map = [&[Operand::Computed(stats)], &inputs[1..3]].concat();
        let map = MAP.onnx(g, &map)?;
        let [u, x] = [&inputs[0], &inputs[3]].map(Operand::clone);
        Gate::default().onnx(g, &[u, Operand::Computed(map), x])
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

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for SpatialAttention {
    fn reads(&self, i: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        let k = whole[1].shape.padded4()[0];
        match i {
            0 => rows_read(&MAP_OPTIONS, whole[0].shape.padded4(), k, &rows),
            _ => rows,
        }
    }

    fn prepared(&self, whole: &[Meta]) -> usize {
        f32::packed_len(whole[1].shape.padded4())
    }

    fn prepare(&self, mut io: CpuIo<'_>, whole: &[Meta]) -> Result<()> {
        let packed = io.output()?;
        let stats = Self::shapes(whole[0].shape).0;
        f32::pack(NAME, &MAP_OPTIONS, &self.map(&io, &[], stats)?, packed)
    }

    fn scratch(&self, inputs: &[Meta], output: Meta) -> usize {
        let stats = Self::shapes(inputs[0].shape).0.len();
        let map = Self::shapes(output.shape).1.len();
        8 * (words(stats, 4) + words(map, 4))
    }

    fn run(&self, mut io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let (u_shape, y_shape) = (io.shape(0), io.output_shape()?);
        let (stats_shape, map_shape) = (Self::shapes(u_shape).0, Self::shapes(y_shape).1);
        let mut scratch = io.scratch::<f64>()?;
        let (u, x) = (io.input::<f32>(0)?, io.input::<f32>(3)?);
        let stats = take::<f32>(&mut scratch, stats_shape.len());
        let map = take::<f32>(&mut scratch, map_shape.len());
        run(
            &Stats::max_mean(),
            [(u, u_shape)],
            (stats, stats_shape),
            &mut [],
        )?;
        let whole = Self::shapes(band.whole[0].shape).0;
        let at = (&band.rows, band.first[0]);
        let f = self.map(&io, stats, whole)?;
        f32::convolve_rows(NAME, &MAP_OPTIONS, &f, at, band.prepared, map, &mut [])?;
        let [.., w, c] = y_shape.padded4();
        let u = &u[(band.rows.start - band.first[0]) * w * c..][..y_shape.len()];
        let from = [(u, y_shape), (&*map, map_shape), (x, y_shape)];
        run(
            &Gate::default(),
            from,
            (io.output::<f32>()?, y_shape),
            &mut [],
        )
    }
}

impl SpatialAttention {
    /// The convolution that makes the map, of whole statistics of this shape.
    fn map<'a>(&self, io: &CpuIo<'a>, stats: &'a [f32], whole: Shape) -> Result<Forward<'a, f32>> {
        Ok(Forward {
            x: stats,
            x_shape: whole.padded4(),
            w: io.input(1)?,
            w_shape: io.shape(1).padded4(),
            bias: Some(io.input(2)?),
            residual: None,
        })
    }
}
