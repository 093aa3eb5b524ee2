//! The fused levels met wherever the sources have a pair of levels: exact sums, shared by the fits of F to (A, B).

use super::Grey;

const LEVELS: usize = 256;

/// Sums over the pixels of one pair of levels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    pub n: u64,
    /// Of F and of its square.
    pub sum: u64,
    pub squares: u64,
}

/// A cell for each pair of levels of A and B.
#[derive(Clone, Debug)]
pub(super) struct Cells(Vec<Cell>);

impl Cells {
    pub fn new() -> Self {
        Self(vec![Cell::default(); LEVELS * LEVELS])
    }

    /// Adds the pixels of three pictures of one size whose fused level is to be kept.
    pub fn add(&mut self, a: &Grey, b: &Grey, f: &Grey, keep: impl Fn(u8) -> bool) {
        for ((&a, &b), &f) in a.values().iter().zip(b.values()).zip(f.values()) {
            if keep(f) {
                let cell = &mut self.0[index(a, b)];
                let f = u64::from(f);
                cell.n += 1;
                cell.sum += f;
                cell.squares += f * f;
            }
        }
    }

    /// Levels a, b and their cell, for each pair that occurs.
    pub fn visited(&self) -> impl Iterator<Item = (u8, u8, &Cell)> {
        let levels = |i: usize| ((i / LEVELS) as u8, (i % LEVELS) as u8);
        let all = self.0.iter().enumerate();
        all.filter(|(_, cell)| cell.n > 0)
            .map(move |(i, cell)| (levels(i).0, levels(i).1, cell))
    }
}

/// Place of a pair of levels in a table.
pub(super) fn index(a: u8, b: u8) -> usize {
    LEVELS * usize::from(a) + usize::from(b)
}
