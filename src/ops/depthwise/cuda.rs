//! Launches of `kernels/depthwise.cu`.

use super::cpu::{Axis, Geometry};
use crate::Result;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tensor::Shape;
use bytemuck::{Pod, Zeroable};

/// `RUN` of the kernels: outputs of one thread.
const RUN: usize = 4;
/// `WARP` of the kernels.
const WARP: usize = 32;
/// Most partial sums of a kernel gradient.
const MAX_PARTS: usize = 256;

/// `Sizes` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Sizes {
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    ho: i32,
    wo: i32,
    kh: i32,
    kw: i32,
    stride: i32,
    dilation: i32,
    pad_h: i32,
    pad_w: i32,
}

/// `Depthwise` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Forward {
    x: DevicePtr,
    w: DevicePtr,
    bias: DevicePtr,
    y: DevicePtr,
    sizes: Sizes,
    runs: i32,
    unused: i32,
}

/// `DepthwiseInputGrad` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct InputGrad {
    g: DevicePtr,
    w: DevicePtr,
    dx: DevicePtr,
    sizes: Sizes,
}

/// `DepthwiseWeightGrad` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WeightGrad {
    x: DevicePtr,
    g: DevicePtr,
    parts: DevicePtr,
    dw: DevicePtr,
    sizes: Sizes,
    runs: i32,
    parts_count: i32,
    lanes: i32,
    per_part: i32,
}

/// Sizes of the forward map, checked against what a kernel counts to.
fn sizes(io: &CudaIo<'_>, n: usize, g: &Geometry) -> Result<Sizes> {
    io.int(n * g.h.input * g.w.input * g.c)?;
    io.int(n * g.h.output * g.w.output * g.c)?;
    // Positions reach this far beyond either side.
    io.int(g.h.input + g.h.output + g.h.dilation * g.h.k)?;
    io.int(g.w.input + g.w.output + g.w.dilation * g.w.k)?;
    Ok(Sizes {
        n: io.int(n)?,
        h: io.int(g.h.input)?,
        w: io.int(g.w.input)?,
        c: io.int(g.c)?,
        ho: io.int(g.h.output)?,
        wo: io.int(g.w.output)?,
        kh: io.int(g.h.k)?,
        kw: io.int(g.w.k)?,
        stride: io.int(g.h.stride)?,
        dilation: io.int(g.h.dilation)?,
        pad_h: io.int(g.h.pad)?,
        pad_w: io.int(g.w.pad)?,
    })
}

/// Runs in a row of `width` outputs.
fn runs(width: usize, dilation: usize) -> usize {
    width.div_ceil(RUN * dilation) * dilation
}

/// The kernel side that has a fast kernel, if this is one.
fn fast_side(g: &Geometry) -> Option<&'static str> {
    match (g.h.k, g.w.k, g.h.stride) {
        (3, 3, 1) => Some("k3"),
        (5, 5, 1) => Some("k5"),
        _ => None,
    }
}

/// Elements of a 16-byte vector, or 1 where they do not divide the channels.
fn vector(io: &CudaIo<'_>, c: usize) -> usize {
    let pack = 16 / io.dtype().size();
    if c.is_multiple_of(pack) { pack } else { 1 }
}

/// `y = b + w * x`; `n` pictures.
pub(super) fn forward(io: &mut CudaIo<'_>, n: usize, g: &Geometry, naive: bool) -> Result<()> {
    let bias = io.optional((io.len() == 3).then_some(2));
    if let Some(side) = fast_side(g).filter(|_| !naive) {
        return stride_1(io, &format!("depthwise_fwd_{side}"), n, g, bias);
    }
    let params = Forward {
        x: io.input(0),
        w: io.input(1),
        bias,
        y: io.output(),
        sizes: sizes(io, n, g)?,
        runs: 0,
        unused: 0,
    };
    let blocks = io.blocks_for(io.output_shape().len());
    io.launch("depthwise", "depthwise_naive_fwd", blocks, THREADS, params)
}

/// The gradient of the input. `g` is the forward map; inputs are the cotangent and the kernel.
pub(super) fn input_grad(io: &mut CudaIo<'_>, n: usize, g: &Geometry, naive: bool) -> Result<()> {
    if let Some(side) = fast_side(g).filter(|_| !naive) {
        // A convolution of the cotangent with the turned kernel.
        let turn = |a: Axis| Axis {
            input: a.output,
            output: a.input,
            pad: a.dilation * (a.k - 1) - a.pad,
            ..a
        };
        let turned = Geometry {
            h: turn(g.h),
            w: turn(g.w),
            c: g.c,
        };
        let kernel = format!("depthwise_bwd_input_{side}");
        return stride_1(io, &kernel, n, &turned, DevicePtr::NULL);
    }
    let params = InputGrad {
        g: io.input(0),
        w: io.input(1),
        dx: io.output(),
        sizes: sizes(io, n, g)?,
    };
    let blocks = io.blocks_for(io.output_shape().len());
    let kernel = "depthwise_naive_bwd_input";
    io.launch("depthwise", kernel, blocks, THREADS, params)
}

/// A fast kernel: a thread for each run and vector of channels.
fn stride_1(
    io: &mut CudaIo<'_>,
    kernel: &str,
    n: usize,
    g: &Geometry,
    bias: DevicePtr,
) -> Result<()> {
    let runs = runs(g.w.output, g.w.dilation);
    let threads = n * g.h.output * runs * (g.c / vector(io, g.c));
    io.int(threads)?;
    let params = Forward {
        x: io.input(0),
        w: io.input(1),
        bias,
        y: io.output(),
        sizes: sizes(io, n, g)?,
        runs: io.int(runs)?,
        unused: 0,
    };
    let blocks = io.blocks_for(threads);
    io.launch("depthwise", kernel, blocks, THREADS, params)
}

/// How the sum over all runs of `rows` rows is cut: threads along C, runs in a part, parts.
fn cut(rows: usize, runs: usize, c: usize) -> (usize, usize, usize) {
    let lanes = c.next_power_of_two().min(WARP);
    // At least four runs for each thread.
    let least = 4 * THREADS / lanes;
    let per_part = (rows * runs).div_ceil(MAX_PARTS).max(least);
    (lanes, per_part, (rows * runs).div_ceil(per_part))
}

/// Bytes of scratch that [`weight_grad`] wants for `n` pictures.
pub(super) fn weight_grad_bytes(n: usize, g: &Geometry) -> usize {
    let (_, _, parts) = cut(n * g.h.output, runs(g.w.output, g.w.dilation), g.c);
    4 * parts * g.h.k * g.w.k * g.c
}

/// The gradient of the kernel from `x` (null stands for ones) and the cotangent.
pub(super) fn weight_grad(
    io: &mut CudaIo<'_>,
    n: usize,
    g: &Geometry,
    (x, cotangent): (DevicePtr, DevicePtr),
    naive: bool,
) -> Result<()> {
    let runs = runs(g.w.output, g.w.dilation);
    let (lanes, per_part, parts) = cut(n * g.h.output, runs, g.c);
    let taps = g.h.k * g.w.k;
    io.int(n * g.h.output * runs + per_part)?;
    let params = WeightGrad {
        x,
        g: cotangent,
        parts: io.scratch().0,
        dw: io.output(),
        sizes: sizes(io, n, g)?,
        runs: io.int(runs)?,
        parts_count: io.int(parts)?,
        lanes: io.int(lanes)?,
        per_part: io.int(per_part)?,
    };
    if naive {
        let blocks = io.blocks_for(taps * g.c);
        let kernel = "depthwise_naive_bwd_weight";
        return io.launch("depthwise", kernel, blocks, THREADS, params);
    }
    let blocks = parts * g.c.div_ceil(lanes);
    match fast_side(g) {
        Some(side) => {
            let kernel = format!("depthwise_bwd_weight_{side}");
            io.launch("depthwise", &kernel, blocks, THREADS, params)?;
        }
        // One tap in each block.
        None => io.launch(
            "depthwise",
            "depthwise_bwd_weight",
            blocks * taps,
            THREADS,
            params,
        )?,
    }
    let blocks = (taps * g.c).div_ceil(WARP);
    io.launch(
        "depthwise",
        "depthwise_bwd_weight_sum",
        blocks,
        THREADS,
        params,
    )
}

/// The gradient of the bias: that of a 1 x 1 kernel on ones.
pub(super) fn bias_grad(io: &mut CudaIo<'_>, naive: bool) -> Result<()> {
    let [n, ..] = io.shape(0).padded4();
    let pair = (DevicePtr::NULL, io.input(0));
    weight_grad(io, n, &bias_geometry(io.shape(0)), pair, naive)
}

/// Bytes of scratch that [`bias_grad`] wants for a cotangent of shape `g`.
pub(super) fn bias_grad_bytes(g: Shape) -> usize {
    weight_grad_bytes(g.padded4()[0], &bias_geometry(g))
}

fn bias_geometry(g: Shape) -> Geometry {
    let [_, h, w, c] = g.padded4();
    let axis = |size| Axis {
        input: size,
        output: size,
        k: 1,
        stride: 1,
        dilation: 1,
        pad: 0,
        transposed: false,
    };
    Geometry {
        h: axis(h),
        w: axis(w),
        c,
    }
}
