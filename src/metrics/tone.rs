//! Tone detail: how much of the fused picture's fine detail a table of both sources' levels explains.
//!
//! ```text
//! T           = 17 x 17 values, P(a, b) = bilinear in T at (16 a / 255, 16 b / 255)
//!               sum over pixels of (F - P(A, B))^2 + 1e-6 sum T^2 is least
//! H(X)        = X - G X,   G a Gaussian of sigma 2
//! tone_detail = 1 - sum (H(F) - H(P))^2 / sum (H(F) - mean H(F))^2
//! ```
//!
//! At most 1, without unit; below 0 where the table's detail is not F's. Lower is better: 1 says that F is a tone curve of the two levels
//! at each pixel and takes nothing from their surroundings. A measure of hafuse's own gates. The Gaussian has 17 taps along each
//! axis; beyond the border the picture is mirrored with its outermost pixels repeated (`dcba | abcd | dcba`), as by SciPy's `gaussian_filter`. The
//! ridge 1e-6 (in squared levels for each value of T) decides about values that no pixel needs. Undefined for a picture of one level.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, Undefined, measure};
//!
//! let a = Grey::from_fn(32, 32, |x, y| (8 * x ^ 3 * y) as u8)?;
//! let b = Grey::from_fn(32, 32, |x, y| (5 * x + 3 * y * y / 32) as u8)?;
//! let average = Grey::from_fn(32, 32, |x, y| {
//!     let at = 32 * y + x;
//!     (a.values()[at] / 2) + (b.values()[at] / 2)
//! })?;
//! let of = |f: &Grey| measure(&a, &b, f, &[Metric::ToneDetail]).map(|scores| scores[0]);
//! assert!(of(&average)?? > 0.999);
//! let flat = Grey::from_fn(32, 32, |_, _| 90)?;
//! assert_eq!(of(&flat)?, Err(Undefined::Constant));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::cells::{Cells, index};
use super::window::{Plane, gaussian};
use super::{Grey, Score, Undefined};

/// Values of the table along each axis.
const SIDE: usize = 17;
const KNOTS: usize = SIDE * SIDE;
/// Farthest apart, in the order of the table, that two values of one pixel lie.
const BAND: usize = SIDE + 1;
const RIDGE: f64 = 1e-6;
const SIGMA: f64 = 2.0;
/// Taps of the Gaussian to each side: four sigma.
const RADIUS: usize = 8;

pub(super) fn tone_detail(a: &Grey, b: &Grey, f: &Grey) -> Score {
    let first = f.values()[0];
    if f.values().iter().all(|&v| v == first) {
        return Err(Undefined::Constant);
    }
    let mut cells = Cells::new();
    cells.add(a, b, f, |_| true);
    let tones = fit(&cells);
    let levels: Vec<f64> = f.values().iter().map(|&v| f64::from(v)).collect();
    let pixels = a.values().iter().zip(b.values()).zip(&levels);
    // H is linear: H(F) - H(P) = H(F - P).
    let rest: Vec<f64> = pixels.map(|((&a, &b), f)| f - tones[index(a, b)]).collect();
    let [sum, squares] = high_sums(f.width(), f.height(), &levels);
    let [_, unexplained] = high_sums(f.width(), f.height(), &rest);
    Ok(1.0 - unexplained / (squares - sum * sum / f.len() as f64))
}

/// P for each pair of levels that occurs.
fn fit(cells: &Cells) -> Vec<f64> {
    let mut normal = Banded::new();
    let mut right = [0.0; KNOTS];
    for (a, b, cell) in cells.visited() {
        let corners = corners(a, b);
        for &(i, w) in &corners {
            right[i] += w * cell.sum as f64;
            for &(j, v) in corners.iter().filter(|c| c.0 <= i) {
                normal.0[i][i - j] += cell.n as f64 * w * v;
            }
        }
    }
    let table = normal.solve(right);
    let mut tones = vec![0.0; 256 * 256];
    for (a, b, _) in cells.visited() {
        tones[index(a, b)] = corners(a, b).iter().map(|&(i, w)| w * table[i]).sum();
    }
    tones
}

/// The four values of the table about a pair of levels, and their weights.
fn corners(a: u8, b: u8) -> [(usize, f64); 4] {
    // Whole part and fraction of 16 x / 255; the last value is the upper one of its cell.
    let place = |x: u8| {
        let scaled = usize::from(x) * (SIDE - 1);
        let whole = (scaled / 255).min(SIDE - 2);
        (whole, (scaled - 255 * whole) as f64 / 255.0)
    };
    let ((i, s), (j, t)) = (place(a), place(b));
    let at = SIDE * i + j;
    [
        (at, (1.0 - s) * (1.0 - t)),
        (at + 1, (1.0 - s) * t),
        (at + SIDE, s * (1.0 - t)),
        (at + SIDE + 1, s * t),
    ]
}

/// The lower half of a symmetric matrix: row i holds the entries of columns i, i - 1, ... i - [`BAND`].
struct Banded(Vec<[f64; BAND + 1]>);

impl Banded {
    fn new() -> Self {
        Self(vec![[0.0; BAND + 1]; KNOTS])
    }

    /// Solves (this + ridge) x = `right` by Cholesky's decomposition.
    fn solve(mut self, mut right: [f64; KNOTS]) -> [f64; KNOTS] {
        let rows = &mut self.0;
        for i in 0..KNOTS {
            let first = i.saturating_sub(BAND);
            for j in first..=i {
                let mut sum = rows[i][i - j];
                for k in first..j {
                    // Beyond the band of row j there is nothing.
                    if j - k <= BAND {
                        sum -= rows[i][i - k] * rows[j][j - k];
                    }
                }
                rows[i][i - j] = match i == j {
                    // No pivot is below the ridge but by rounding.
                    true => (sum + RIDGE).max(RIDGE).sqrt(),
                    false => sum / rows[j][0],
                };
            }
        }
        for i in 0..KNOTS {
            for k in i.saturating_sub(BAND)..i {
                right[i] -= rows[i][i - k] * right[k];
            }
            right[i] /= rows[i][0];
        }
        for i in (0..KNOTS).rev() {
            right[i] /= rows[i][0];
            for k in i.saturating_sub(BAND)..i {
                right[k] -= rows[i][i - k] * right[i];
            }
        }
        right
    }
}

/// Sums of H(X) and of its square.
fn high_sums(width: usize, height: usize, x: &[f64]) -> [f64; 2] {
    let taps = gaussian(2 * RADIUS + 1, SIGMA);
    let columns: Vec<usize> = mirrored(width).collect();
    let mut values = Vec::with_capacity((width + 2 * RADIUS) * (height + 2 * RADIUS));
    for y in mirrored(height) {
        let row = &x[y * width..][..width];
        values.extend(columns.iter().map(|&c| row[c]));
    }
    let padded = Plane {
        width: width + 2 * RADIUS,
        height: height + 2 * RADIUS,
        values,
    };
    let mut sums = [0.0; 2];
    padded.scan_means(&taps, |y, low| {
        let row = &x[y * width..][..width];
        for (x, low) in row.iter().zip(low) {
            let high = x - low;
            sums[0] += high;
            sums[1] += high * high;
        }
    });
    sums
}

/// The places of a line of `n` pixels and of [`RADIUS`] to each side, mirrored with the outermost repeated.
fn mirrored(n: usize) -> impl Iterator<Item = usize> {
    let radius = RADIUS as isize;
    (-radius..n as isize + radius).map(move |i| {
        let at = i.rem_euclid(2 * n as isize) as usize;
        at.min(2 * n - 1 - at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_a_table_give_back_the_levels() {
        for a in 0..=255 {
            for b in [0, 15, 16, 128, 254, 255] {
                let corners = corners(a, b);
                let sum = |f: fn(usize) -> usize| -> f64 {
                    corners.iter().map(|&(i, w)| w * f(i) as f64).sum()
                };
                assert!((sum(|_| 1) - 1.0).abs() < 1e-12);
                assert!((sum(|i| i / SIDE) * 255.0 / 16.0 - f64::from(a)).abs() < 1e-9);
                assert!((sum(|i| i % SIDE) * 255.0 / 16.0 - f64::from(b)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn borders_mirror_also_beyond_the_other_border() {
        let line: Vec<usize> = mirrored(3).collect();
        assert_eq!(
            line[RADIUS - 4..RADIUS + 7],
            [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]
        );
        assert!(mirrored(1).all(|i| i == 0));
    }
}
