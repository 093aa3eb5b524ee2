//! The contact sheet of a training run.

use crate::data::{PairDataset, Picture, WriteOptions};
use crate::net::{PARTS, parts_tape};
use crate::output;
use crate::tape::Session;
use crate::tensor::DType;
use crate::train::Trainer;
use crate::{Error, Result};
use std::path::Path;

const ROWS: usize = 3;
/// Larger pictures are cut to their middle.
const MAX_SIDE: usize = 256;
const GAP: usize = 4;

/// Draws what the network makes of the first pairs. Columns: A, B, I_f, I_t, I_d, M, result.
pub fn draw(trainer: &Trainer, data: &PairDataset, path: &Path) -> Result<()> {
    let scenes = || data.scenes().take(ROWS);
    let side = |f: fn(&crate::data::dataset::Scene) -> usize| {
        scenes().map(f).min().unwrap_or(1).min(MAX_SIDE)
    };
    let (w, h) = (side(|s| s.width), side(|s| s.height));
    let tape = parts_tape(trainer.genotype(), [1, h, w], DType::F32)?;
    let mut session = Session::new(&tape, trainer.store())?;
    let mut sheet = Sheet::new(w, h, PARTS.len() + 2, scenes().count());
    for (row, scene) in scenes().enumerate() {
        for (column, (name, plane)) in [("a", &scene.a), ("b", &scene.b)].into_iter().enumerate() {
            let cell = middle(plane, scene.width, scene.height, w, h);
            sheet.place(row, column, &cell);
            session.input_mut::<f32>(name)?.copy_from_slice(&cell);
        }
        session.run()?;
        for (i, name) in PARTS.iter().enumerate() {
            sheet.place(row, i + 2, session.output::<f32>(name)?);
        }
    }
    output::make_parent(path)?;
    Picture::from_luma(sheet.width, sheet.height, sheet.pixels)
        .map_err(|e| Error::Internal(format!("preview: {e}")))?
        .write(path, WriteOptions::default())
}

/// The middle `w` x `h` pixels of a plane.
fn middle(plane: &[f32], width: usize, height: usize, w: usize, h: usize) -> Vec<f32> {
    let (x, y) = ((width - w) / 2, (height - h) / 2);
    plane
        .chunks_exact(width)
        .skip(y)
        .take(h)
        .flat_map(|row| &row[x..x + w])
        .copied()
        .collect()
}

/// Cells of one size in rows and columns, white between them.
struct Sheet {
    cell: (usize, usize),
    width: usize,
    height: usize,
    pixels: Vec<f32>,
}

impl Sheet {
    fn new(w: usize, h: usize, columns: usize, rows: usize) -> Self {
        let width = columns * (w + GAP) - GAP;
        let height = rows * (h + GAP) - GAP;
        Self {
            cell: (w, h),
            width,
            height,
            pixels: vec![1.0; width * height],
        }
    }

    /// Early in training outputs may be anything; what is no number becomes black.
    fn place(&mut self, row: usize, column: usize, cell: &[f32]) {
        let (w, h) = self.cell;
        let (x, y) = (column * (w + GAP), row * (h + GAP));
        for (i, line) in cell.chunks_exact(w).enumerate() {
            let start = (y + i) * self.width + x;
            for (out, &v) in self.pixels[start..start + w].iter_mut().zip(line) {
                *out = if v.is_finite() {
                    v.clamp(0.0, 1.0)
                } else {
                    0.0
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_land_in_their_place() {
        assert_eq!(
            middle(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 3, 2, 1, 2),
            [1.0, 4.0]
        );
        let mut sheet = Sheet::new(2, 1, 2, 2);
        assert_eq!((sheet.width, sheet.height), (8, 6));
        sheet.place(1, 1, &[0.5, f32::NAN]);
        assert_eq!(sheet.pixels[5 * 8 + 6..], [0.5, 0.0]);
        assert!(sheet.pixels[..5 * 8 + 6].iter().all(|&v| v == 1.0));
    }
}
