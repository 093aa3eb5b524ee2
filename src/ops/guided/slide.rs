//! Sums over windows that slide along an axis, of `K` maps at once, at a cost that does not depend on the window.
//!
//! An axis is cut into blocks as long as a window. A window ends in one block and begins in the one before, so its sum
//! is the sum of the first values of the one and of the last values of the other (after van Herk, 1992, and Gil, Werman,
//! 1993, who take minima). Nothing is ever subtracted, so nothing cancels, and where one begins makes no difference to
//! any bit. What lies outside the axis counts as zero.

use crate::ops::box_filter::around;

/// An axis and the windows along it.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub len: usize,
    pub radius: usize,
}

impl Axis {
    pub fn new(len: usize, radius: usize) -> Self {
        Self {
            len,
            radius: radius.min(len.saturating_sub(1)),
        }
    }

    /// Positions of a window.
    pub fn side(self) -> usize {
        2 * self.radius + 1
    }

    /// Positions of the window around `i` that are on the axis.
    #[inline(always)]
    pub fn count(self, i: usize) -> usize {
        around(i, self.radius, self.len).len()
    }
}

/// Sums of columns of pixels: rows go in one after the other.
pub(super) struct Down<'a, const K: usize> {
    side: usize,
    /// Sum of this block's rows so far.
    head: &'a mut [[f64; K]],
    /// A row for each place in a block: of this block as it came, of the block before the sum from there to its end; then
    /// a row of zeros.
    tail: &'a mut [[f64; K]],
    /// Whether there is a block before.
    begun: bool,
}

/// A row on its way into [`Down`].
pub(super) struct Row<'a, const K: usize> {
    head: &'a mut [[f64; K]],
    own: &'a mut [[f64; K]],
    rest: &'a [[f64; K]],
}

impl<const K: usize> Row<'_, K> {
    /// Takes in pixel `p`; the sum of the window that ends with this row.
    #[inline(always)]
    pub fn put(&mut self, p: usize, values: [f64; K]) -> [f64; K] {
        self.own[p] = values;
        let (head, rest) = (&mut self.head[p], &self.rest[p]);
        let mut sums = [0.0; K];
        for k in 0..K {
            head[k] += values[k];
            sums[k] = head[k] + rest[k];
        }
        sums
    }
}

impl<'a, const K: usize> Down<'a, K> {
    /// Rows of memory that [`Down::new`] wants.
    pub fn memory(axis: Axis) -> usize {
        axis.side() + 2
    }

    pub fn new(axis: Axis, width: usize, memory: &'a mut [[f64; K]]) -> Self {
        let (head, tail) = memory.split_at_mut(width);
        let tail = &mut tail[..(axis.side() + 1) * width];
        head.fill([0.0; K]);
        tail[axis.side() * width..].fill([0.0; K]);
        Self {
            side: axis.side(),
            head,
            tail,
            begun: false,
        }
    }

    /// Row `e` of the picture, or below it; the sums of its windows are right once all rows of the window went in.
    #[inline(always)]
    pub fn row(&mut self, e: usize) -> Row<'_, K> {
        let (place, width) = (e % self.side, self.head.len());
        if place == 0 {
            self.head.fill([0.0; K]);
        }
        let next = if self.begun { place + 1 } else { self.side };
        let (before, rest) = self.tail.split_at_mut(next * width);
        Row {
            head: self.head,
            own: &mut before[place * width..][..width],
            rest: &rest[..width],
        }
    }

    /// Ends row `e`.
    #[inline(always)]
    pub fn close(&mut self, e: usize) {
        if e % self.side + 1 < self.side {
            return;
        }
        let width = self.head.len();
        for place in (0..self.side - 1).rev() {
            let (own, below) = self.tail[place * width..][..2 * width].split_at_mut(width);
            for (own, below) in own.iter_mut().zip(below) {
                for k in 0..K {
                    own[k] += below[k];
                }
            }
        }
        self.begun = true;
    }
}

/// What becomes of the sum of the window around position `p`. Not a closure: those are not compiled for the instruction set
/// of the loop around them.
pub(super) trait Take<const K: usize> {
    fn take(&mut self, p: usize, sums: [f64; K]);
}

/// Gives `to` the sum of the window around each position of a row; `tail` has room for a window and one more.
#[inline(always)]
pub(super) fn across<const K: usize>(
    axis: Axis,
    row: &[[f64; K]],
    tail: &mut [[f64; K]],
    mut to: impl Take<K>,
) {
    let (side, row) = (axis.side(), &row[..axis.len]);
    let tail = &mut tail[..side + 1];
    tail.fill([0.0; K]);
    for from in (0..axis.len + axis.radius).step_by(side) {
        let mut head = [0.0; K];
        for place in 0..side.min(axis.len + axis.radius - from) {
            let e = from + place;
            if let Some(values) = row.get(e) {
                for k in 0..K {
                    head[k] += values[k];
                }
            }
            if let Some(p) = e.checked_sub(axis.radius) {
                let rest = &tail[place + 1];
                let mut sums = [0.0; K];
                for k in 0..K {
                    sums[k] = head[k] + rest[k];
                }
                to.take(p, sums);
            }
        }
        let mut sums = [0.0; K];
        for place in (0..side).rev() {
            if let Some(values) = row.get(from + place) {
                for k in 0..K {
                    sums[k] += values[k];
                }
            }
            tail[place] = sums;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Found<'a>(&'a mut [f64]);

    impl Take<1> for Found<'_> {
        fn take(&mut self, p: usize, [sum]: [f64; 1]) {
            self.0[p] = sum;
        }
    }

    /// Sums of all windows, by the definition.
    #[test]
    fn windows_add_up_wherever_one_begins() {
        for (height, width, radius) in [(1, 1, 0), (7, 5, 1), (23, 9, 2), (20, 31, 4), (5, 3, 9)] {
            let value = |y: usize, x: usize| ((y * 31 + x * 17) % 23) as f64;
            let (rows, cols) = (Axis::new(height, radius), Axis::new(width, radius));
            for start in 0..height.min(12) {
                let mut memory = vec![[f64::NAN]; Down::<1>::memory(rows) * width];
                let mut down = Down::new(rows, width, &mut memory);
                let mut tail = vec![[f64::NAN]; cols.side() + 1];
                for e in start.saturating_sub(rows.radius)..height + rows.radius {
                    let mut row = down.row(e);
                    let mut sums = vec![[0.0]; width];
                    for (x, sum) in sums.iter_mut().enumerate() {
                        *sum = row.put(x, [if e < height { value(e, x) } else { 0.0 }]);
                    }
                    down.close(e);
                    let Some(y) = e.checked_sub(rows.radius).filter(|&y| y >= start) else {
                        continue;
                    };
                    let mut found = vec![0.0; width];
                    across(cols, &sums, &mut tail, Found(&mut found));
                    for (x, found) in found.into_iter().enumerate() {
                        let near = |i: usize, axis: Axis| {
                            i.saturating_sub(axis.radius)..(i + axis.radius + 1).min(axis.len)
                        };
                        let sum: f64 = near(y, rows)
                            .flat_map(|y| near(x, cols).map(move |x| value(y, x)))
                            .sum();
                        assert_eq!(
                            found, sum,
                            "{height} x {width}, radius {radius}, ({y}, {x})"
                        );
                        assert_eq!(near(x, cols).len(), cols.count(x));
                    }
                }
            }
        }
    }
}
