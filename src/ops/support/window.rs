//! Windows and tiles as kernels take them: the Rust side of `kernels/common/window.cuh`.

use crate::Result;
use crate::device::launch::CudaIo;
use bytemuck::{Pod, Zeroable};

/// `Window` of `kernels/common/window.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct WindowParams {
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    rh: i32,
    rw: i32,
}

/// A picture and the height and width it becomes, as kernels of pooling and resizing take them.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Sizes {
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    ho: i32,
    wo: i32,
}

impl Sizes {
    pub fn new(
        io: &CudaIo<'_>,
        [n, h, w, c]: [usize; 4],
        (ho, wo): (usize, usize),
    ) -> Result<Self> {
        // Variant index all elements with an int.
        io.int(n * h * w * c)?;
        io.int(n * ho * wo * c)?;
        Ok(Self {
            n: io.int(n)?,
            h: io.int(h)?,
            w: io.int(w)?,
            c: io.int(c)?,
            ho: io.int(ho)?,
            wo: io.int(wo)?,
        })
    }
}

/// `Tiling` of `kernels/common/window.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TilingParams {
    shift: i32,
    channels: i32,
    rows: i32,
    columns: i32,
    channel_blocks: i32,
}

/// Pictures `[n, h, w, c]` under windows that reach `rh` rows and `rw` columns, no further than the
/// picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    shape: [usize; 4],
    rh: usize,
    rw: usize,
}

/// Windows that reach further are summed in several steps through global memory.
const MAX_REACH: usize = 8;

/// Square tiles of `side` with some channels at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    pub side: usize,
    pub channels: usize,
    rows: usize,
    columns: usize,
    channel_blocks: usize,
    n: usize,
}

/// Sizes of a tile: its side, rows and columns with their surroundings, channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileSizes {
    pub side: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Reach {
    pub fn new(shape: [usize; 4], radius: usize) -> Self {
        let [_, h, w, _] = shape;
        Self {
            shape,
            rh: radius.min(h.saturating_sub(1)),
            rw: radius.min(w.saturating_sub(1)),
        }
    }

    pub fn params(&self, io: &CudaIo<'_>) -> Result<WindowParams> {
        let [n, h, w, c] = self.shape;
        // Variant index all elements with an int.
        io.int(n * h * w * c)?;
        Ok(WindowParams {
            n: io.int(n)?,
            h: io.int(h)?,
            w: io.int(w)?,
            c: io.int(c)?,
            rh: io.int(self.rh)?,
            rw: io.int(self.rw)?,
        })
    }

    /// The largest tile of which a block's shared memory holds all `floats`; `None` for wide windows.
    pub fn tiling(&self, pool: usize, floats: impl Fn(TileSizes) -> usize) -> Option<Tiling> {
        let [n, h, w, c] = self.shape;
        if self.rh.max(self.rw) > MAX_REACH {
            return None;
        }
        [(16, 8), (8, 8), (8, 4)]
            .map(|(side, channels)| TileSizes {
                side,
                height: side + 2 * self.rh,
                width: side + 2 * self.rw,
                channels: channels.min(c),
            })
            .into_iter()
            .find(|&t| floats(t) <= pool)
            .map(|t| Tiling {
                side: t.side,
                channels: t.channels,
                rows: h.div_ceil(t.side),
                columns: w.div_ceil(t.side),
                channel_blocks: c.div_ceil(t.channels),
                n,
            })
    }
}

impl Tiling {
    /// One block for each tile and its channels.
    pub fn blocks(&self) -> usize {
        self.n * self.rows * self.columns * self.channel_blocks
    }

    pub fn params(&self, io: &CudaIo<'_>) -> Result<TilingParams> {
        Ok(TilingParams {
            shift: self.side.ilog2() as i32,
            channels: io.int(self.channels)?,
            rows: io.int(self.rows)?,
            columns: io.int(self.columns)?,
            channel_blocks: io.int(self.channel_blocks)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every narrow window has a tile that fits, every wide one has none.
    pub fn check_pool(pool: usize, floats: fn(TileSizes) -> usize) {
        for radius in 0..=MAX_REACH {
            for c in 1..40 {
                let reach = Reach::new([2, 50, 70, c], radius);
                let t = reach.tiling(pool, floats);
                let t = t.unwrap_or_else(|| panic!("radius {radius}, {c} channels: no tile"));
                assert!(t.channels <= c && t.channels * t.channel_blocks >= c);
                assert!(t.rows * t.side >= 50 && t.columns * t.side >= 70);
            }
        }
        assert!(Reach::new([1, 50, 70, 1], 9).tiling(pool, floats).is_none());
        // A picture that is smaller than the window cuts its reach.
        assert!(Reach::new([1, 9, 8, 1], 9).tiling(pool, floats).is_some());
    }
}
