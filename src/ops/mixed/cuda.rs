//! Parameters and launches of `kernels/mixed.cu`.

use super::{MAX_TERMS, row_len};
use crate::Result;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tape::Meta;
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

/// `WeightedSum` of `kernels/mixed.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct WeightedSumParams {
    pub x: [DevicePtr; MAX_TERMS],
    pub w: DevicePtr,
    pub y: DevicePtr,
    pub n: i32,
    pub count: i32,
    pub onto: i32,
    pub unused: i32,
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

/// Launches `y (+)= sum over terms of w_k x_k`, or the plain sum without `w`.
pub(crate) fn launch_sum(
    io: &mut CudaIo<'_>,
    w: DevicePtr,
    terms: &[DevicePtr],
    onto: bool,
) -> Result<()> {
    let n = io.output_shape().len();
    let mut params = WeightedSumParams::zeroed();
    params.x[..terms.len()].copy_from_slice(terms);
    params.w = w;
    params.y = io.output();
    params.n = io.int(n)?;
    params.count = io.int(terms.len())?;
    params.onto = i32::from(onto);
    let blocks = io.blocks_for(n);
    io.launch("mixed", "weighted_sum_fwd", blocks, THREADS, params)
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
