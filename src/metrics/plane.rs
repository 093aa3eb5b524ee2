//! Plane R2: how much of a method's levels, over a set of pictures, a clipped plane of both sources' levels explains.
//!
//! ```text
//! U      = pixels of all pictures with 0 < F < 255
//! s t c  : sum over U of (F - s A - t B - c)^2 is least
//! P      = min(255, max(0, s A + t B + c))
//! R2     = 1 - sum over U (F - P)^2 / sum over U (F - mean of F over U)^2
//! ```
//!
//! At most 1, without unit; lower is better: 1 says that the whole set was fused by one constant weighted sum. Where the sources leave
//! the plane open (one is constant, or a multiple of the other) every best plane explains the same. A measure of hafuse's
//! own gates. The sums are kept for each pair of levels, so the pictures are read once and the result is exact.
//!
//! ```
//! use hafuse::metrics::{Grey, Undefined, plane::PlaneR2};
//!
//! let a = Grey::from_fn(16, 16, |x, y| (10 * x + y) as u8)?;
//! let b = Grey::from_fn(16, 16, |x, y| (x ^ 9 * y) as u8)?;
//! let sum = Grey::from_fn(16, 16, |x, y| (a.values()[16 * y + x] / 2) + b.values()[16 * y + x] / 4)?;
//! let mut plane = PlaneR2::default();
//! assert_eq!(plane.score(), Err(Undefined::Clipped));
//! plane.add(&a, &b, &sum)?;
//! assert!(plane.score()? > 0.999);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::cells::Cells;
use super::{Grey, Score, Undefined, same_size};
use crate::Result;

/// The plane's sums over a set of pictures.
#[derive(Clone, Debug)]
pub struct PlaneR2(Cells);

impl Default for PlaneR2 {
    /// Of no picture.
    fn default() -> Self {
        Self(Cells::new())
    }
}

impl PlaneR2 {
    /// Adds one fused picture and its sources.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the three differ in size.
    pub fn add(&mut self, a: &Grey, b: &Grey, fused: &Grey) -> Result<()> {
        same_size(a, b, fused)?;
        self.0.add(a, b, fused, |f| (1..255).contains(&f));
        Ok(())
    }

    /// R2 of the pictures so far; undefined if no pixel is unclipped or all that are have one level.
    pub fn score(&self) -> Score {
        let mut sums = Sums::default();
        for (a, b, cell) in self.0.visited() {
            let [a, b, n] = [u64::from(a), u64::from(b), cell.n].map(i128::from);
            let (f, ff) = (i128::from(cell.sum), i128::from(cell.squares));
            let terms = [
                n,
                n * a,
                n * b,
                f,
                n * a * a,
                n * b * b,
                ff,
                n * a * b,
                a * f,
                b * f,
            ];
            sums.0.iter_mut().zip(terms).for_each(|(sum, t)| *sum += t);
        }
        if sums.0[0] == 0 {
            return Err(Undefined::Clipped);
        }
        let all = sums.deviation(6, 3, 3);
        if all == 0.0 {
            return Err(Undefined::Constant);
        }
        let [s, t, c] = sums.plane();
        let rest: f64 = { self.0.visited() }
            .map(|(a, b, cell)| {
                let p = (s * f64::from(a) + t * f64::from(b) + c).clamp(0.0, 255.0);
                let (n, sum, squares) = (cell.n as f64, cell.sum as f64, cell.squares as f64);
                (squares - 2.0 * p * sum + p * p * n).max(0.0)
            })
            .sum();
        Ok(1.0 - rest / all)
    }
}

/// Sums of 1, A, B, F, AA, BB, FF, AB, AF, BF.
#[derive(Default)]
struct Sums([i128; 10]);

impl Sums {
    /// Sum of the product of two deviations from their means, of the sums of the product and of each.
    fn deviation(&self, product: usize, x: usize, y: usize) -> f64 {
        let n = self.0[0];
        (n * self.0[product] - self.0[x] * self.0[y]) as f64 / n as f64
    }

    /// Slopes along A and B, and the constant.
    fn plane(&self) -> [f64; 3] {
        let (aa, bb) = (self.deviation(4, 1, 1), self.deviation(5, 2, 2));
        let (ab, af) = (self.deviation(7, 1, 2), self.deviation(8, 1, 3));
        let bf = self.deviation(9, 2, 3);
        let determinant = aa * bb - ab * ab;
        let [s, t] = if determinant > 1e-12 * aa * bb {
            [
                (bb * af - ab * bf) / determinant,
                (aa * bf - ab * af) / determinant,
            ]
        } else if aa == 0.0 && bb == 0.0 {
            [0.0, 0.0]
        } else if aa >= bb {
            // One source tells what the other tells.
            [af / aa, 0.0]
        } else {
            [0.0, bf / bb]
        };
        let [a, b, f] = [1, 2, 3].map(|i| self.0[i] as f64 / self.0[0] as f64);
        [s, t, f - s * a - t * b]
    }
}
