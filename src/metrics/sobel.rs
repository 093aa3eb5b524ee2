//! Sobel differences in exact integers, for Qabf and Nabf.

use super::Grey;
use crate::device::simd::simd_fn;

/// What lies beyond the border.
#[derive(Clone, Copy)]
pub(super) enum Border {
    /// Black.
    Zero,
    /// The picture mirrored about its outermost pixels, which are not repeated.
    Mirror,
}

/// The differences of one row of pixels: weights 1, 2, 1 along the other axis, not divided by 8.
#[derive(Clone, Default)]
pub(super) struct Sobel {
    /// Right minus left.
    pub dx: Vec<i32>,
    /// Below minus above.
    pub dy: Vec<i32>,
}

impl Sobel {
    /// Squared strength at column x.
    pub fn square(&self, x: usize) -> i32 {
        self.dx[x] * self.dx[x] + self.dy[x] * self.dy[x]
    }
}

/// A picture with a border of one pixel.
pub(super) struct Bordered {
    width: usize,
    values: Vec<u8>,
}

impl Bordered {
    pub fn new(x: &Grey, border: Border) -> Self {
        let mut values = Vec::with_capacity((x.width() + 2) * (x.height() + 2));
        for y in 0..x.height() + 2 {
            match inside(y, x.height(), border) {
                Some(y) => {
                    let row = x.row(y);
                    let end = |at| inside(at, row.len(), border).map_or(0, |i| row[i]);
                    values.push(end(0));
                    values.extend(row);
                    values.push(end(row.len() + 1));
                }
                None => values.resize(values.len() + x.width() + 2, 0),
            }
        }
        Self {
            width: x.width() + 2,
            values,
        }
    }

    pub fn sobel(&self, y: usize, to: &mut Sobel) {
        to.dx.resize(self.width - 2, 0);
        to.dy.resize(self.width - 2, 0);
        let rows = [0, 1, 2].map(|k| &self.values[(y + k) * self.width..][..self.width]);
        differences(rows, &mut to.dx, &mut to.dy);
    }
}

/// The pixel that stands at `at` of a line of `n` with one more at each end.
fn inside(at: usize, n: usize, border: Border) -> Option<usize> {
    match (border, at) {
        (_, at) if (1..=n).contains(&at) => Some(at - 1),
        (Border::Zero, _) => None,
        (Border::Mirror, 0) => Some(1.min(n - 1)),
        (Border::Mirror, _) => Some(n.saturating_sub(2)),
    }
}

simd_fn! {
    fn differences(rows: [&[u8]; 3], dx: &mut [i32], dy: &mut [i32]) {
        let n = dx.len();
        let dy = &mut dy[..n];
        let shifted = |k: usize| rows.map(|row| &row[k..k + n]);
        let (left, middle, right) = (shifted(0), shifted(1), shifted(2));
        let at = |columns: &[&[u8]; 3], row: usize, x: usize| i32::from(columns[row][x]);
        for x in 0..n {
            let column = |c: &[&[u8]; 3]| at(c, 0, x) + 2 * at(c, 1, x) + at(c, 2, x);
            let line = |row| at(&left, row, x) + 2 * at(&middle, row, x) + at(&right, row, x);
            dx[x] = column(&right) - column(&left);
            dy[x] = line(2) - line(0);
        }
    }
}
