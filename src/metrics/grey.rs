//! The 8-bit grey picture that every metric takes.

use crate::data::color::ycbcr_to_gamut;
use crate::data::{Chroma, Picture};
use crate::{Error, Result};

/// An 8-bit grey picture, row by row.
///
/// The tables of the field are made from 8-bit files, so that is what the metrics measure: a
/// picture is judged as it would be after it was written and read again.
///
/// ```
/// use hafuse::metrics::Grey;
///
/// let ramp = Grey::from_luma(3, 1, &[0.0, 0.5, 1.0])?;
/// assert_eq!(ramp.values(), [0, 128, 255]);
/// # Ok::<(), hafuse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grey {
    width: usize,
    height: usize,
    values: Vec<u8>,
}

impl Grey {
    /// A picture of these grey levels, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] if a side is 0 or `values` does not hold `width * height` levels.
    pub fn new(width: usize, height: usize, values: Vec<u8>) -> Result<Self> {
        check(width, height, values.len())?;
        Ok(Self {
            width,
            height,
            values,
        })
    }

    /// A picture of the levels `f(x, y)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a side is 0.
    pub fn from_fn(width: usize, height: usize, f: impl Fn(usize, usize) -> u8) -> Result<Self> {
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self::new(width, height, rows.map(|(x, y)| f(x, y)).collect())
    }

    /// From luma in \[0, 1\]: clamped, times 255, rounded to nearest (a half goes up).
    ///
    /// # Errors
    /// [`Error::Shape`] if the sizes do not fit or a value is NaN or infinite.
    pub fn from_luma(width: usize, height: usize, luma: &[f32]) -> Result<Self> {
        check(width, height, luma.len())?;
        if let Some(i) = luma.iter().position(|v| !v.is_finite()) {
            return Err(Error::shape(
                "grey picture",
                format!(
                    "the luma at row {}, column {} is {}; give finite values",
                    i / width,
                    i % width,
                    luma[i]
                ),
            ));
        }
        Self::new(width, height, luma.iter().map(|&v| level(v)).collect())
    }

    /// From a decoded picture; opacity is ignored.
    ///
    /// Of a colour picture the three channels are rounded to 8 bits first (which for an 8-bit file gives back
    /// its own values) and weighed by BT.601 in the integers that the field's Python tools use:
    /// `(19595 R + 38470 G + 7471 B + 32768) >> 16`. A grey picture is rounded as in
    /// [`from_luma`](Self::from_luma), also one of 16 bits.
    ///
    /// # Errors
    /// As [`from_luma`](Self::from_luma).
    pub fn from_picture(picture: &Picture) -> Result<Self> {
        let (w, h) = (picture.width, picture.height);
        let grey = Self::from_luma(w, h, &picture.luma)?;
        let Some(Chroma { cb, cr }) = &picture.chroma else {
            return Ok(grey);
        };
        check(w, h, cb.len())?;
        check(w, h, cr.len())?;
        let planes = picture.luma.iter().zip(cb).zip(cr);
        let values = planes.map(|((&y, &cb), &cr)| {
            let [r, g, b] = ycbcr_to_gamut([y, cb, cr]).map(|v| u32::from(level(v)));
            ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) as u8
        });
        Self::new(w, h, values.collect())
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The grey levels, row by row.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.values[y * self.width..][..self.width]
    }

    /// Number of pixels, at least 1.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// A NaN becomes 0; `from_luma` has refused it before.
fn level(v: f32) -> u8 {
    (v.clamp(0.0, 1.0) * 255.0).round() as u8
}

fn check(width: usize, height: usize, found: usize) -> Result<()> {
    match width.checked_mul(height) {
        Some(n @ 1..) if n == found => Ok(()),
        _ => Err(Error::shape(
            "grey picture",
            format!("{width}x{height} pixels but {found} values; give one for each pixel"),
        )),
    }
}
