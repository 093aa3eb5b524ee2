//! The tones of a picture: what its mean becomes under a map of its values.

/// Bins of a histogram.
const BINS: usize = 256;

/// How far a pixel is from the middle of its picture: 0 there, 1 in the corners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Radius {
    centre: (f32, f32),
    scale: f32,
}

impl Radius {
    pub fn of(width: usize, height: usize) -> Self {
        let centre = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
        let most = centre.0 * centre.0 + centre.1 * centre.1;
        Self {
            centre,
            scale: if most > 0.0 { 1.0 / most } else { 0.0 },
        }
    }

    /// Squared.
    #[inline(always)]
    pub fn squared(self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        (dx * dx + dy * dy) * self.scale
    }
}

/// Pixels of about the same value.
#[derive(Clone, Copy, Debug)]
struct Bin {
    /// Their mean.
    value: f32,
    /// Their share of the picture.
    share: f64,
    /// `share` times the mean of their squared radius.
    outward: f64,
}

/// A histogram of 256 bins, from dark to bright, without the empty ones: exact for 8-bit pictures, else as good as a map is
/// straight within a bin.
#[derive(Clone, Debug)]
pub(super) struct Tones {
    bins: Vec<Bin>,
}

impl Tones {
    pub fn of(plane: &[f32], width: usize) -> Self {
        let mut sums = [(0u32, 0.0f64, 0.0f64); BINS];
        let height = plane.len() / width.max(1);
        let radius = Radius::of(width, height);
        for (y, row) in plane.chunks_exact(width.max(1)).enumerate() {
            for (x, &v) in row.iter().enumerate() {
                // What is no number counts as 0.
                let bin = &mut sums[(v * (BINS - 1) as f32 + 0.5) as usize & (BINS - 1)];
                bin.0 += 1;
                bin.1 += f64::from(v);
                bin.2 += f64::from(radius.squared(x as f32, y as f32));
            }
        }
        let n = plane.len().max(1) as f64;
        let filled = sums.iter().filter(|s| s.0 > 0);
        Self {
            bins: filled
                .map(|&(count, sum, outward)| Bin {
                    value: (sum / f64::from(count)) as f32,
                    share: f64::from(count) / n,
                    outward: outward / n,
                })
                .collect(),
        }
    }

    /// The mean of `f` of the values, each darkened by `vignetting` times its squared radius.
    pub fn mean_of(&self, vignetting: f32, f: impl Fn(f32) -> f32) -> f32 {
        let s = f64::from(vignetting);
        let each = self.bins.iter();
        each.map(|b| f64::from(f(b.value)) * (b.share - s * b.outward))
            .sum::<f64>() as f32
    }

    /// Mean and standard deviation of the picture that [`Tones::mean_of`] is the mean of.
    pub fn levels(&self, vignetting: f32, f: impl Fn(f32) -> f32) -> (f32, f32) {
        let mean = self.mean_of(vignetting, &f);
        // The square of the darkening, without its smallest part.
        let squares = self.mean_of(2.0 * vignetting, |v| f(v) * f(v));
        (mean, (squares - mean * mean).max(0.0).sqrt())
    }

    /// The value of `f`, which rises or falls, that a `share` of the picture is above.
    pub fn upper(&self, share: f32, f: impl Fn(f32) -> f32) -> f32 {
        let (Some(first), Some(last)) = (self.bins.first(), self.bins.last()) else {
            return 0.0;
        };
        let mut left = f64::from(share);
        let mut reach = |b: &Bin| {
            left -= b.share;
            left <= 0.0
        };
        let bin = match f(first.value) <= f(last.value) {
            true => self.bins.iter().rev().find(|b| reach(b)),
            false => self.bins.iter().find(|b| reach(b)),
        };
        f(bin.unwrap_or(first).value)
    }
}
