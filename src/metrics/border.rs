//! Border error: how far a fusion's outermost pixels depend on what it takes to lie beyond them.
//!
//! ```text
//! F'           = the fusion of both sources continued by 32 pixels of reflection (dcb | abcd | cba), without that margin
//! frame        = pixels less than 2 from an edge of the picture
//! shift        = mean of F - F' inside the frame, in whole levels
//! border_error = mean over the frame of |F - F' - shift|, and its maximum
//! ```
//!
//! The shift is no fault of the border: what a network is told of the whole picture, its mean and deviation, changes with the margin.
//!
//! In grey levels, 0 to 255; lower is better. A measure of hafuse's own gates: a network that pads its inner pictures with zeros
//! draws a dark or bright frame. It needs the fusion itself, so pictures in a folder have none.
//!
//! ```
//! use hafuse::metrics::{Grey, border};
//!
//! let line = border::reflect(4, 1, &[1.0, 2.0, 3.0, 4.0], 2)?;
//! assert_eq!(line[2 * 8..3 * 8], [3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0]);
//! assert_eq!(border::crop(8, 5, &line, 2)?, [1.0, 2.0, 3.0, 4.0]);
//!
//! let fused = Grey::from_fn(9, 9, |x, _| if x == 0 { 40 } else { 100 })?;
//! let padded = Grey::from_fn(9, 9, |_, _| 100)?;
//! let error = border::border_error(&fused, &padded)?;
//! assert_eq!((error.mean, error.maximum), (60.0 * 9.0 / 56.0, 60));
//! # Ok::<(), hafuse::Error>(())
//! ```

use super::{Grey, same_size};
use crate::ops::mirrored;
use crate::{Error, Result};

/// Pixels by which the sources are continued at each side.
pub const MARGIN: usize = 32;
/// Width of the frame that is compared.
const FRAME: usize = 2;

/// Absolute differences over the frame of a picture, in grey levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BorderError {
    /// Mean over the frame, 0 to 255.
    pub mean: f64,
    /// Largest of the frame.
    pub maximum: u8,
}

/// The border error of a fused picture beside that of continued sources, cropped to its size.
///
/// # Errors
/// [`Error::Shape`] if the two differ in size.
pub fn border_error(fused: &Grey, of_continued: &Grey) -> Result<BorderError> {
    same_size(fused, fused, of_continued)?;
    let (w, h) = (fused.width(), fused.height());
    let near = |i: usize, n: usize| i < FRAME || i + FRAME >= n;
    let differences = |frame: bool| {
        let rows = (0..h).flat_map(|y| {
            let row = fused.row(y).iter().zip(of_continued.row(y)).enumerate();
            row.map(move |(x, (&f, &g))| (near(y, h) || near(x, w), i32::from(f) - i32::from(g)))
        });
        rows.filter(move |(near, _)| *near == frame).map(|(_, d)| d)
    };
    let mean = |sum: i64, count: i64| sum as f64 / count.max(1) as f64;
    let (sum, count) = differences(false).fold((0, 0), |(s, n), d| (s + i64::from(d), n + 1));
    let shift = mean(sum, count).round() as i32;
    let (mut sum, mut count, mut maximum) = (0, 0, 0);
    for difference in differences(true).map(|d| (d - shift).unsigned_abs()) {
        sum += i64::from(difference);
        count += 1;
        maximum = maximum.max(difference);
    }
    Ok(BorderError {
        mean: mean(sum, count),
        maximum: maximum.min(255) as u8,
    })
}

/// A plane continued by `margin` pixels at each side; the outermost pixels are the mirror. A plane smaller than the margin is mirrored
/// at both ends in turn.
///
/// # Errors
/// [`Error::Shape`] if a side is 0 or `values` does not hold `width * height` values.
pub fn reflect(width: usize, height: usize, values: &[f32], margin: usize) -> Result<Vec<f32>> {
    check(width, height, values)?;
    let line = |n: usize| (0..n + 2 * margin).map(move |i| mirrored(i, margin, n));
    let columns: Vec<usize> = line(width).collect();
    let mut out = Vec::with_capacity(columns.len() * (height + 2 * margin));
    for y in line(height) {
        let row = &values[y * width..][..width];
        out.extend(columns.iter().map(|&x| row[x]));
    }
    Ok(out)
}

/// A plane of `width` x `height` without `margin` pixels at each side.
///
/// # Errors
/// [`Error::Shape`] if nothing is left or `values` does not hold `width * height` values.
pub fn crop(width: usize, height: usize, values: &[f32], margin: usize) -> Result<Vec<f32>> {
    check(width, height, values)?;
    if width.min(height) <= 2 * margin {
        return Err(Error::shape(
            "border",
            format!(
                "{width}x{height} pixels have no inside {margin} from each edge; give a larger plane"
            ),
        ));
    }
    let rows = values.chunks(width).skip(margin).take(height - 2 * margin);
    Ok(rows
        .flat_map(|row| &row[margin..width - margin])
        .copied()
        .collect())
}

fn check(width: usize, height: usize, values: &[f32]) -> Result<()> {
    match width.checked_mul(height) {
        Some(n @ 1..) if n == values.len() => Ok(()),
        _ => Err(Error::shape(
            "border",
            format!(
                "{width}x{height} pixels but {} values; give one for each pixel",
                values.len()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_planes_are_mirrored_over_and_over() {
        let line = |n: usize, margin| {
            let values: Vec<f32> = (0..n).map(|v| v as f32).collect();
            let all = reflect(n, 1, &values, margin).unwrap();
            all[..n + 2 * margin].to_vec()
        };
        assert_eq!(line(2, 3), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(line(3, 3), [1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0]);
        assert_eq!(line(1, 2), [0.0; 5]);
        let column = reflect(1, 3, &[5.0, 6.0, 7.0], 1).unwrap();
        assert_eq!(
            column.chunks(3).map(|r| r[0]).collect::<Vec<_>>(),
            [6.0, 5.0, 6.0, 7.0, 6.0]
        );
    }

    #[test]
    fn another_level_of_the_whole_picture_does_not_count() {
        let base = Grey::from_fn(8, 9, |x, y| (10 * x + y) as u8).unwrap();
        let other = Grey::from_fn(8, 9, |x, y| (10 * x + y + 3) as u8).unwrap();
        let error = border_error(&base, &other).unwrap();
        assert_eq!((error.mean, error.maximum), (0.0, 0));
    }

    #[test]
    fn a_difference_inside_the_frame_only_counts() {
        let base = Grey::from_fn(7, 6, |_, _| 100).unwrap();
        // As much above as below, so that nothing shifts.
        let inside = Grey::from_fn(7, 6, |x, y| match (x, y) {
            (2..5, 2) => 0,
            (2..5, 3) => 200,
            _ => 100,
        });
        let error = border_error(&base, &inside.unwrap()).unwrap();
        assert_eq!((error.mean, error.maximum), (0.0, 0));
        let corner = Grey::from_fn(7, 6, |x, y| if x + y == 0 { 64 } else { 100 }).unwrap();
        let error = border_error(&base, &corner).unwrap();
        assert_eq!((error.mean, error.maximum), (1.0, 36));
        let other = Grey::from_fn(6, 7, |_, _| 0).unwrap();
        assert!(border_error(&base, &other).is_err());
    }

    #[test]
    fn planes_that_do_not_fit_are_refused() {
        let text = |r: Result<Vec<f32>>| r.unwrap_err().to_string();
        assert!(text(reflect(0, 3, &[], 1)).contains("0x3 pixels but 0 values"));
        assert!(text(crop(4, 2, &[0.0; 8], 1)).contains("no inside 1 from each edge"));
    }
}
