//! The gradient of the guided filter on the CPU, in f64 between input and output.

use super::Wrt;
use crate::device::cpu::for_chunks;
use crate::ops::box_filter::Window;
use crate::tensor::{Real, Shape};

/// `var + eps` from means of values and of their squares; rounding may not make a variance negative.
#[inline(always)]
pub(super) fn spread(mean: f64, square: f64, eps: f64) -> f64 {
    (square - mean * mean).max(0.0) + eps
}

#[derive(Clone, Copy)]
pub(super) struct Filter {
    pub shape: [usize; 4],
    pub pixels: usize,
    pub c: usize,
    pub radius: usize,
    pub eps: f64,
}

impl Filter {
    pub fn new(x: Shape, radius: usize, eps: f64) -> Self {
        let shape @ [n, h, w, c] = x.padded4();
        Self {
            shape,
            pixels: n * h * w,
            c,
            radius,
            eps,
        }
    }

    /// Maps per pixel: I, I^2, x (C of them), I x (C of them).
    pub fn moments(&self) -> usize {
        2 + 2 * self.c
    }

    fn window(&self, maps: usize) -> Window {
        let [n, h, w, _] = self.shape;
        Window::new([n, h, w, maps], self.radius)
    }

    pub fn box_scratch(&self) -> usize {
        self.window(self.moments()).scratch_len()
    }

    /// Pixels per chunk of a parallel loop.
    fn chunk(&self) -> usize {
        self.shape[2].max(64)
    }

    /// Calls `f(pixel, maps of this pixel)` for every pixel of `out`.
    fn each<S: Send>(&self, out: &mut [S], maps: usize, f: impl Fn(usize, &mut [S]) + Sync + Send) {
        let chunk = self.chunk();
        for_chunks(out, chunk * maps, |i, out| {
            for (k, out) in out.chunks_exact_mut(maps).enumerate() {
                f(i * chunk + k, out);
            }
        });
    }

    /// Window means of I, I^2, x, I x into `means`, with `products` as scratch.
    fn means<T: Real>(
        &self,
        guide: &[T],
        x: &[T],
        products: &mut [f64],
        means: &mut [f64],
        box_scratch: &mut [f64],
    ) {
        let (c, k) = (self.c, self.moments());
        self.each(products, k, |p, m| {
            let i = guide[p].to_f64();
            m[0] = i;
            m[1] = i * i;
            for (j, &x) in x[p * c..(p + 1) * c].iter().enumerate() {
                m[2 + j] = x.to_f64();
                m[2 + c + j] = i * x.to_f64();
            }
        });
        self.window(k).mean(false, products, box_scratch, means);
    }

    /// `var(I) + eps` from the means of a pixel.
    #[inline(always)]
    fn spread(&self, m: &[f64]) -> f64 {
        spread(m[0], m[1], self.eps)
    }

    /// `a` of channel `j` from the means of a pixel.
    #[inline(always)]
    fn slope(&self, m: &[f64], j: usize) -> f64 {
        (m[2 + self.c + j] - m[0] * m[2 + j]) / self.spread(m)
    }
}

/// With B the box filter and B' its adjoint: da = B'(g I) - db mean(I), db = B'(g), then through
/// the quotient and the moments.
pub(super) fn backward<T: Real>(
    f: Filter,
    wrt: Wrt,
    guide: &[T],
    x: &[T],
    g: &[T],
    scratch: &mut [f64],
    out: &mut [T],
) {
    let (c, k) = (f.c, f.moments());
    let (first, rest) = scratch.split_at_mut(k * f.pixels);
    let (second, rest) = rest.split_at_mut(k * f.pixels);
    let (lines, rest) = rest.split_at_mut(2 * c * f.pixels);
    let (slopes, box_scratch) = rest.split_at_mut(c * f.pixels);
    f.means(guide, x, first, second, box_scratch);

    // mean(a), which multiplies the guide directly.
    if matches!(wrt, Wrt::Guide) {
        let a = &mut first[..c * f.pixels];
        f.each(a, c, |p, a| {
            let m = &second[p * k..(p + 1) * k];
            a.iter_mut()
                .enumerate()
                .for_each(|(j, a)| *a = f.slope(m, j));
        });
        f.window(c).mean(false, a, box_scratch, slopes);
    }

    // Cotangents of mean(a), mean(b), then of a and b.
    let ends = &mut first[..2 * c * f.pixels];
    f.each(ends, 2 * c, |p, d| {
        let i = guide[p].to_f64();
        for (j, &g) in g[p * c..(p + 1) * c].iter().enumerate() {
            d[j] = g.to_f64() * i;
            d[c + j] = g.to_f64();
        }
    });
    f.window(2 * c).mean(true, ends, box_scratch, lines);

    // Cotangents of the window means, then of I, I^2, x, I x.
    f.each(first, k, |p, d| {
        let m = &second[p * k..(p + 1) * k];
        let line = &lines[p * 2 * c..(p + 1) * 2 * c];
        let spread = f.spread(m);
        d[0] = 0.0;
        d[1] = 0.0;
        for j in 0..c {
            let (a, db) = (f.slope(m, j), line[c + j]);
            let dcov = (line[j] - db * m[0]) / spread;
            let dvar = -dcov * a;
            d[0] += -db * a - dcov * m[2 + j] - 2.0 * dvar * m[0];
            d[1] += dvar;
            d[2 + j] = db - dcov * m[0];
            d[2 + c + j] = dcov;
        }
    });
    f.window(k).mean(true, first, box_scratch, second);

    let maps = &*second;
    match wrt {
        Wrt::Guide => f.each(out, 1, |p, out| {
            let d = &maps[p * k..(p + 1) * k];
            let mut sum = d[0] + 2.0 * guide[p].to_f64() * d[1];
            for j in 0..c {
                let at = p * c + j;
                sum += x[at].to_f64() * d[2 + c + j] + g[at].to_f64() * slopes[at];
            }
            out[0] = T::lit(sum);
        }),
        Wrt::X => f.each(out, c, |p, out| {
            let (i, d) = (guide[p].to_f64(), &maps[p * k..(p + 1) * k]);
            for (j, out) in out.iter_mut().enumerate() {
                *out = T::lit(d[2 + j] + i * d[2 + c + j]);
            }
        }),
    }
}
