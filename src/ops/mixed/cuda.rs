//! Parameters and launches of `kernels/mixed.cu`.

use super::row_len;
use crate::Result;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tape::{MAX_TERMS, Meta};
use bytemuck::{Pod, Zeroable};

/// `Softmax` of `kernels/mixed.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct SoftmaxParams {
    pub v: DevicePtr,
    pub g: DevicePtr,
    pub y: DevicePtr,
    pub rows: i32,
    pub k: i32,
}

/// `ScaleByElement` of `kernels/mixed.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ScaleByElementParams {
    pub w: DevicePtr,
    pub x: DevicePtr,
    pub y: DevicePtr,
    pub n: i32,
    pub index: i32,
}

/// `Dots` of `kernels/mixed.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct DotsParams {
    pub x: [DevicePtr; MAX_TERMS],
    pub g: DevicePtr,
    pub partials: DevicePtr,
    pub y: DevicePtr,
    pub n: i32,
    pub count: i32,
    pub parts: i32,
    pub unused: i32,
}

/// Parts of each dot product on CUDA, from the shape alone.
pub(super) fn dot_parts(n: usize) -> usize {
    n.div_ceil(16 * THREADS).clamp(1, 256)
}

/// Launches a softmax or, with a cotangent, its gradient.
pub(super) fn launch_softmax(io: &mut CudaIo<'_>, kernel: &str, g: DevicePtr) -> Result<()> {
    let k = row_len("softmax", Meta::new(io.output_shape(), io.dtype()))?;
    let rows = io.output_shape().len() / k;
    let params = SoftmaxParams {
        v: io.input(0),
        g,
        y: io.output(),
        rows: io.int(rows)?,
        k: io.int(k)?,
    };
    io.launch("mixed", kernel, io.blocks_for(rows), THREADS, params)
}
