//! Launches of `kernels/separable.cu`.

use super::SeparableConv2d;
use crate::Result;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use bytemuck::{Pod, Zeroable};

/// Tile of a block: `TILE_H` and `TILE_W` of the kernels.
const TILE: (usize, usize) = (8, 16);

/// `Separable` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    x: DevicePtr,
    w1: DevicePtr,
    b1: DevicePtr,
    w2: DevicePtr,
    b2: DevicePtr,
    residual: DevicePtr,
    y: DevicePtr,
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    cout: i32,
    k: i32,
    dilation: i32,
    tiles_y: i32,
    tiles_x: i32,
    slope: f32,
    activation: i32,
    activation_slope: f32,
}

pub(super) fn forward(op: &SeparableConv2d, io: &mut CudaIo<'_>) -> Result<()> {
    let [n, h, w, c] = io.shape(0).padded4();
    let k = io.shape(1).padded4()[0];
    let cout = io.shape(3).padded4()[3];
    for len in [io.shape(0).len(), io.output_shape().len(), c * cout] {
        io.int(len)?;
    }
    let (tiles_y, tiles_x) = (h.div_ceil(TILE.0), w.div_ceil(TILE.1));
    let (activation, activation_slope) = op.options.activation.code();
    let params = Params {
        x: io.input(0),
        w1: io.input(1),
        b1: io.input(2),
        w2: io.input(3),
        b2: io.input(4),
        residual: io.optional(op.residual.then_some(5)),
        y: io.output(),
        n: io.int(n)?,
        h: io.int(h)?,
        w: io.int(w)?,
        c: io.int(c)?,
        cout: io.int(cout)?,
        k: io.int(k)?,
        dilation: io.int(op.options.dilation)?,
        tiles_y: io.int(tiles_y)?,
        tiles_x: io.int(tiles_x)?,
        slope: op.options.slope.unwrap_or(1.0),
        activation,
        activation_slope,
    };
    if op.naive {
        let blocks = io.blocks_for(io.output_shape().len());
        return io.launch("separable", "separable_naive_fwd", blocks, THREADS, params);
    }
    let fits = c.is_multiple_of(16) && cout.is_multiple_of(8);
    // Output channels of a block: the depthwise part is done once for each.
    let couts = if cout <= 32 { 32 } else { 64 };
    let blocks = n * tiles_y * tiles_x * cout.div_ceil(couts);
    let kind = if fits && io.tensor_cores() {
        "mma_fwd"
    } else {
        "fwd"
    };
    let kernel = format!("separable_{kind}_k{k}_o{couts}");
    io.launch("separable", &kernel, blocks, THREADS, params)
}
