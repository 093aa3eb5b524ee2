//! A square crop of a picture under one of the 8 symmetries of the square.

use super::dataset::Scene;
use crate::{Error, Result};
use rand::Rng;
use rand_pcg::Pcg64Mcg;

/// Output (i, j) is the pixel `start + i * row + j * col`, each as (x, y).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crop {
    start: (isize, isize),
    row: (isize, isize),
    col: (isize, isize),
}

impl Crop {
    /// Any place in the scene, any symmetry.
    ///
    /// # Errors
    /// [`Error::Config`] if the patch is larger than the scene.
    pub fn random(scene: &Scene, patch: usize, rng: &mut Pcg64Mcg) -> Result<Self> {
        let (w, h) = (scene.width, scene.height);
        if patch > w.min(h) {
            return Err(Error::config(
                "patch size",
                format!(
                    "{patch} is larger than pair {} of {w}x{h}; lower it or leave the pair out",
                    scene.name
                ),
            ));
        }
        // u64 rather than usize, whose random sequence depends on the machine.
        let x = rng.random_range(0..=(w - patch) as u64) as usize;
        let y = rng.random_range(0..=(h - patch) as u64) as usize;
        Ok(Self::new(x, y, patch, rng.random_range(0..8u32)))
    }

    /// Bits of `symmetry`: 1 mirrors left and right, 2 mirrors up and down, 4 then transposes.
    pub fn new(x: usize, y: usize, patch: usize, symmetry: u32) -> Self {
        let last = patch as isize - 1;
        let (mut start, mut row, mut col) = ((x as isize, y as isize), (0, 1), (1, 0));
        if symmetry & 1 != 0 {
            start.0 += last;
            col.0 = -1;
        }
        if symmetry & 2 != 0 {
            start.1 += last;
            row.1 = -1;
        }
        if symmetry & 4 != 0 {
            (row, col) = (col, row);
        }
        Self { start, row, col }
    }

    /// The crop moved by `by` pixels, or as far as the picture goes.
    pub fn moved(self, by: (isize, isize), patch: usize, width: usize, height: usize) -> Self {
        let last = patch as isize - 1;
        let shift = |start: isize, step: isize, by: isize, size: usize| {
            // Least and greatest coordinate of the crop.
            let (low, high) = (start + (step * last).min(0), start + (step * last).max(0));
            start + by.clamp(-low, (size as isize - 1 - high).max(-low))
        };
        let step = (self.row.0 + self.col.0, self.row.1 + self.col.1);
        Self {
            start: (
                shift(self.start.0, step.0, by.0, width),
                shift(self.start.1, step.1, by.1, height),
            ),
            ..self
        }
    }

    /// Copies the crop of a plane that is `width` wide.
    pub fn copy(self, plane: &[f32], width: usize, patch: usize, out: &mut [f32]) {
        let w = width as isize;
        let at = |(x, y): (isize, isize)| y * w + x;
        let (row, col) = (at(self.row), at(self.col));
        let mut line = at(self.start);
        for out_row in out.chunks_exact_mut(patch) {
            let mut at = line;
            for v in out_row {
                *v = plane[at as usize];
                at += col;
            }
            line += row;
        }
    }

    /// Multiplies a patch by a factor of the pixel's place (x, y) in the picture.
    pub fn scale_by_place(self, patch: usize, out: &mut [f32], factor: impl Fn(f32, f32) -> f32) {
        let f = |(x, y): (isize, isize)| (x as f32, y as f32);
        let (start, row, col) = (f(self.start), f(self.row), f(self.col));
        for (i, out_row) in out.chunks_exact_mut(patch).enumerate() {
            let line = (start.0 + i as f32 * row.0, start.1 + i as f32 * row.1);
            for (j, v) in out_row.iter_mut().enumerate() {
                *v *= factor(line.0 + j as f32 * col.0, line.1 + j as f32 * col.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn copied(crop: Crop, plane: &[f32], width: usize, patch: usize) -> Vec<f32> {
        let mut out = vec![0.0; patch * patch];
        crop.copy(plane, width, patch, &mut out);
        out
    }

    #[test]
    fn the_eight_symmetries_are_distinct_and_square() {
        let plane: Vec<f32> = (0..30).map(|i| i as f32).collect();
        let mut seen = HashSet::new();
        for symmetry in 0..8 {
            let out = copied(Crop::new(2, 1, 3, symmetry), &plane, 6, 3);
            let mut sorted: Vec<u32> = out.iter().map(|&v| v as u32).collect();
            assert!(seen.insert(sorted.clone()));
            sorted.sort_unstable();
            assert_eq!(sorted, [8, 9, 10, 14, 15, 16, 20, 21, 22]);
        }
        let get = |symmetry| copied(Crop::new(0, 0, 2, symmetry), &[1.0, 2.0, 3.0, 4.0], 2, 2);
        assert_eq!(get(0), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(get(1), [2.0, 1.0, 4.0, 3.0]);
        assert_eq!(get(2), [3.0, 4.0, 1.0, 2.0]);
        assert_eq!(get(4), [1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn a_moved_crop_stays_within_the_picture() {
        let plane: Vec<f32> = (0..6 * 5).map(|i| i as f32).collect();
        for symmetry in 0..8 {
            let crop = Crop::new(2, 1, 3, symmetry);
            let still = copied(crop, &plane, 6, 3);
            let right = copied(crop.moved((1, 0), 3, 6, 5), &plane, 6, 3);
            assert!(right.iter().zip(&still).all(|(m, s)| *m == s + 1.0));
            let up = copied(crop.moved((0, -1), 3, 6, 5), &plane, 6, 3);
            assert!(up.iter().zip(&still).all(|(m, s)| *m == s - 6.0));
            // Two columns are left of it, one at the right, one above and one below.
            for (by, most) in [
                ((-9, 0), -2.0),
                ((9, 0), 1.0),
                ((0, -9), -6.0),
                ((0, 9), 6.0),
            ] {
                let far = copied(crop.moved(by, 3, 6, 5), &plane, 6, 3);
                assert!(
                    far.iter().zip(&still).all(|(m, s)| *m == s + most),
                    "{by:?}"
                );
            }
        }
    }

    #[test]
    fn a_factor_knows_its_place() {
        let plane: Vec<f32> = (0..6 * 5).map(|i| i as f32).collect();
        for symmetry in 0..8 {
            let crop = Crop::new(2, 1, 3, symmetry);
            let mut ones = vec![1.0; 9];
            crop.scale_by_place(3, &mut ones, |x, y| y * 6.0 + x);
            assert_eq!(ones, copied(crop, &plane, 6, 3));
        }
    }
}
