//! Float planes: supersampled drawing, blur (optics, glare, scanner resolution) and quantising.

use rayon::prelude::*;

/// One channel of linear light, temperature or activity, row by row.
#[derive(Clone)]
pub struct Plane {
    pub width: usize,
    pub height: usize,
    pub data: Vec<f32>,
}

/// Draws `N` registered channels; `shade` gets a position in pixels.
///
/// Every pixel is looked at once. Where it differs from a neighbour by more than `contrast`, there
/// is an edge, and the pixel becomes the mean of `grid` x `grid` looks; the same looks serve all
/// channels, so an edge falls between pixels alike in each of them.
pub fn supersample<const N: usize>(
    width: usize,
    height: usize,
    grid: usize,
    contrast: [f32; N],
    shade: impl Fn(f32, f32) -> [f32; N] + Sync,
) -> [Plane; N] {
    let each = |f: &(dyn Fn(usize, usize, usize) -> [f32; N] + Sync)| -> Vec<[f32; N]> {
        (0..width * height)
            .into_par_iter()
            .with_min_len(width)
            .map(|i| f(i, i % width, i / width))
            .collect()
    };
    let once = each(&|_, x, y| shade(x as f32 + 0.5, y as f32 + 0.5));
    let step = 1.0 / grid as f32;
    let pixels = each(&|i, x, y| {
        let edge = |near: bool, j: usize| {
            near && (0..N).any(|c| (once[i][c] - once[j][c]).abs() > contrast[c])
        };
        let smooth = !(edge(x > 0, i.wrapping_sub(1))
            || edge(x + 1 < width, i + 1)
            || edge(y > 0, i.wrapping_sub(width))
            || edge(y + 1 < height, i + width));
        if smooth {
            return once[i];
        }
        let mut sum = [0.0; N];
        for j in 0..grid {
            for k in 0..grid {
                let px = x as f32 + (k as f32 + 0.5) * step;
                let py = y as f32 + (j as f32 + 0.5) * step;
                for (s, v) in sum.iter_mut().zip(shade(px, py)) {
                    *s += v;
                }
            }
        }
        sum.map(|s| s * step * step)
    });
    std::array::from_fn(|c| Plane {
        width,
        height,
        data: pixels.iter().map(|p| p[c]).collect(),
    })
}

impl Plane {
    /// Gaussian blur with borders repeated; three box passes where the kernel would be long.
    pub fn blur(&self, sigma: f32) -> Plane {
        if sigma < 0.05 {
            return self.clone();
        }
        let mut out = self.clone();
        if sigma < 2.0 {
            let kernel = gaussian(sigma);
            out = out.rows(|src, dst| convolve(src, dst, &kernel)).turned();
            return out.rows(|src, dst| convolve(src, dst, &kernel)).turned();
        }
        // Three boxes of half-width r have variance r (r + 1); a fractional r is blended in below.
        let r = ((1.0 + 4.0 * sigma * sigma).sqrt() - 1.0) * 0.5;
        for _ in 0..2 {
            for _ in 0..3 {
                out = out.rows(|src, dst| box_pass(src, dst, r));
            }
            out = out.turned();
        }
        out
    }

    fn rows(&self, f: impl Fn(&[f32], &mut [f32]) + Sync) -> Plane {
        let mut out = self.clone();
        out.data
            .par_chunks_mut(self.width)
            .zip(self.data.par_chunks(self.width))
            .for_each(|(dst, src)| f(src, dst));
        out
    }

    fn turned(&self) -> Plane {
        let (w, h) = (self.width, self.height);
        Plane {
            width: h,
            height: w,
            data: (0..w * h).map(|i| self.data[(i % h) * w + i / h]).collect(),
        }
    }
}

fn gaussian(sigma: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as i32;
    let taps: Vec<f32> = (-radius..=radius)
        .map(|i| super::noise::exp(-((i * i) as f32) / (2.0 * sigma * sigma)))
        .collect();
    let total: f32 = taps.iter().sum();
    taps.iter().map(|t| t / total).collect()
}

fn convolve(src: &[f32], dst: &mut [f32], kernel: &[f32]) {
    let (last, radius) = (src.len() as isize - 1, kernel.len() as isize / 2);
    for (i, d) in dst.iter_mut().enumerate() {
        *d = kernel
            .iter()
            .zip(i as isize - radius..)
            .map(|(k, j)| k * src[j.clamp(0, last) as usize])
            .sum();
    }
}

/// Mean over a window of half-width `r`; the two outermost samples count by the fraction of `r`.
fn box_pass(src: &[f32], dst: &mut [f32], r: f32) {
    let (whole, part) = (r.floor() as isize, r - r.floor());
    let last = src.len() as isize - 1;
    let at = |j: isize| src[j.clamp(0, last) as usize];
    let mut sum: f64 = (-whole..=whole).map(|j| f64::from(at(j))).sum();
    let norm = 1.0 / (2.0 * r + 1.0);
    for (i, d) in dst.iter_mut().enumerate() {
        let i = i as isize;
        let ends = part * (at(i - whole - 1) + at(i + whole + 1));
        *d = (sum as f32 + ends) * norm;
        sum += f64::from(at(i + whole + 1)) - f64::from(at(i - whole));
    }
}

/// A brightness in [0, 1] as a byte, rounded and clipped.
pub fn byte(v: f32) -> u8 {
    (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_the_mean_and_has_the_asked_width() {
        for sigma in [0.7, 1.5, 3.0, 6.3] {
            let mut p = Plane {
                width: 65,
                height: 61,
                data: vec![0.0; 65 * 61],
            };
            p.data[30 * 65 + 32] = 1.0;
            let b = p.blur(sigma);
            let total: f32 = b.data.iter().sum();
            assert!((total - 1.0).abs() < 1e-3, "sum {total} at {sigma}");
            let var: f32 = (0..b.data.len())
                .map(|i| b.data[i] * ((i % 65) as f32 - 32.0).powi(2))
                .sum();
            assert!((var.sqrt() / sigma - 1.0).abs() < 0.05, "{var} at {sigma}");
        }
    }
}
