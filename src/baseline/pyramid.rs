//! Laplacian pyramid fusion: P. J. Burt and E. H. Adelson, "The Laplacian pyramid as a compact image code",
//! IEEE Trans. Communications 31(4), 1983, and the merging rule that became usual with it.
//!
//! Each source is split into [`LEVELS`] bands `L_k = G_k - expand(G_(k+1))`, `G_(k+1) = reduce(G_k)`, by the kernel
//! (1, 4, 6, 4, 1) / 16 along both axes; beyond the border the nearest pixel is repeated. Of each band the
//! coefficient of larger magnitude is taken (the mean, if both are as large), of the rest the mean; then all is put
//! together again. A picture too small for a level has fewer.

/// Bands above the rest.
pub const LEVELS: usize = 4;

/// A plane and its size.
struct Plane {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

/// Planes of `height * width` values. The result may leave \[0, 1\].
pub(super) fn fuse(height: usize, width: usize, a: &[f32], b: &[f32]) -> Vec<f32> {
    let plane = |values: &[f32]| Plane {
        height,
        width,
        values: values.to_vec(),
    };
    merge(plane(a), plane(b), LEVELS).values
}

fn merge(a: Plane, b: Plane, levels: usize) -> Plane {
    let (height, width) = (a.height, a.width);
    if levels == 0 || height.max(width) == 1 {
        let values = a.values.iter().zip(&b.values);
        return Plane {
            height,
            width,
            values: values.map(|(a, b)| 0.5 * (a + b)).collect(),
        };
    }
    let (small_a, small_b) = (reduce(&a), reduce(&b));
    let (up_a, up_b) = (
        expand(&small_a, height, width),
        expand(&small_b, height, width),
    );
    let mut out = expand(&merge(small_a, small_b, levels - 1), height, width);
    for (i, v) in out.values.iter_mut().enumerate() {
        let (p, q) = (a.values[i] - up_a.values[i], b.values[i] - up_b.values[i]);
        *v += match p.abs().total_cmp(&q.abs()) {
            std::cmp::Ordering::Greater => p,
            std::cmp::Ordering::Less => q,
            std::cmp::Ordering::Equal => 0.5 * (p + q),
        };
    }
    out
}

/// Blurs and keeps every second pixel, the first one included.
fn reduce(p: &Plane) -> Plane {
    const KERNEL: [f32; 5] = [1.0 / 16.0, 0.25, 0.375, 0.25, 1.0 / 16.0];
    let taps = |i: usize, n: usize| {
        let at = move |k: usize| (2 * i + k).saturating_sub(2).min(n - 1);
        KERNEL.into_iter().enumerate().map(move |(k, w)| (at(k), w))
    };
    resample(p, p.height.div_ceil(2), p.width.div_ceil(2), taps)
}

/// Back to `height` x `width`: zeros between the pixels, then the kernel twice as strong along each axis.
fn expand(p: &Plane, height: usize, width: usize) -> Plane {
    let taps = |i: usize, n: usize| {
        let at = |k: usize| k.min(n - 1);
        let j = i / 2;
        let taps = match i % 2 {
            0 => [
                (at(j.saturating_sub(1)), 0.125),
                (at(j), 0.75),
                (at(j + 1), 0.125),
            ],
            _ => [(at(j), 0.5), (at(j + 1), 0.5), (at(j), 0.0)],
        };
        taps.into_iter()
    };
    resample(p, height, width, taps)
}

/// Both axes, one after the other: `taps(i, n)` are places and weights of output `i` on an axis of `n` pixels.
fn resample<I: Iterator<Item = (usize, f32)>>(
    p: &Plane,
    height: usize,
    width: usize,
    taps: impl Fn(usize, usize) -> I,
) -> Plane {
    let columns: Vec<Vec<(usize, f32)>> = (0..width).map(|x| taps(x, p.width).collect()).collect();
    let mut rows = Vec::with_capacity(p.height * width);
    for line in p.values.chunks_exact(p.width) {
        rows.extend(
            columns
                .iter()
                .map(|taps| taps.iter().map(|&(x, w)| w * line[x]).sum::<f32>()),
        );
    }
    let mut values = vec![0.0; height * width];
    for (y, line) in values.chunks_exact_mut(width).enumerate() {
        for (from, w) in taps(y, p.height) {
            for (v, x) in line.iter_mut().zip(&rows[from * width..]) {
                *v += w * x;
            }
        }
    }
    Plane {
        height,
        width,
        values,
    }
}
