//! How blocks share rows and columns: the Rust side of `kernels/common/rows.cuh` and `columns.cuh`.

use super::broadcast::Repeat;
use crate::Result;
use crate::device::launch::{CudaIo, THREADS};
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

const WARP: usize = 32;

/// Elements of a load of 16 bytes, if rows of `n` consist of such.
pub(crate) fn pack(dtype: DType, n: usize) -> usize {
    let elements = 16 / dtype.size();
    if n.is_multiple_of(elements) {
        elements
    } else {
        1
    }
}

/// Lanes of a warp that share a row of `n` elements, a power of two.
pub(crate) fn group(dtype: DType, n: usize) -> usize {
    (n / pack(dtype, n)).next_power_of_two().clamp(1, WARP)
}

/// `Columns` of `kernels/common/columns.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ColumnsParams {
    outer: i32,
    rep: i32,
    inner: i32,
    parts: i32,
    rows: i32,
    width: i32,
    blocks: i32,
}

/// Sums over the rows of `[outer, rep, inner]` in two stages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    r: Repeat,
    parts: usize,
    rows: usize,
    width: usize,
    blocks: usize,
}

impl Columns {
    /// Few parts are cheap to add, many keep a large card busy: at most `most`.
    pub fn new(r: Repeat, dtype: DType, most: usize) -> Self {
        let width = r.inner.min(WARP * pack(dtype, r.inner));
        let lanes = THREADS / (width / pack(dtype, r.inner));
        // Fewer rows for a lane are not worth another block.
        let rows = r.rep.div_ceil(most).max(8 * lanes);
        Self {
            r,
            parts: r.rep.div_ceil(rows),
            rows,
            width,
            blocks: r.inner.div_ceil(width),
        }
    }

    /// Blocks of the first stage.
    pub fn blocks(&self) -> usize {
        self.r.outer * self.parts * self.blocks
    }

    /// Bytes of the sums of all parts.
    pub fn partial_bytes(&self) -> usize {
        4 * self.r.outer * self.parts * self.r.inner
    }

    pub fn params(&self, io: &CudaIo<'_>) -> Result<ColumnsParams> {
        let Repeat { outer, rep, inner } = self.r;
        io.int(outer * rep * inner)?;
        Ok(ColumnsParams {
            outer: io.int(outer)?,
            rep: io.int(rep)?,
            inner: io.int(inner)?,
            parts: io.int(self.parts)?,
            rows: io.int(self.rows)?,
            width: io.int(self.width)?,
            blocks: io.int(self.blocks)?,
        })
    }
}
