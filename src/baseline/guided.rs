//! Guided-filter fusion: S. Li, X. Kang and J. Hu, "Image fusion with guided filtering", IEEE Trans. Image
//! Processing 22(7), 2013 (the paper's \[21\]).
//!
//! 1. Two layers of each source: the base `B`, its mean over 31 x 31 pixels, and the detail `D = I - B`.
//! 2. Saliency `S = |I * L| * g`: magnitude of the Laplacian (4 neighbours), blurred by a Gaussian of 11 x 11, sigma 5.
//! 3. `P = 1` where a source has the largest saliency, else 0; 1/2 for both where they are equal.
//! 4. Weights `W_B = G(P, I; r = 45, eps = 0.3)` and `W_D = G(P, I; r = 7, eps = 1e-6)`: the
//!    [guided filter](crate::ops::guided_filter) with the source as its guide; clamped to \[0, 1\] and divided by their sum.
//! 5. `F = sum W_B B + sum W_D D`.
//!
//! The paper leaves borders open: here the mean counts the pixels inside, Laplacian and Gaussian repeat the nearest pixel.

use crate::tape::{ParamStore, Session, Tape};
use crate::tensor::DType;
use crate::{Result, ops};

/// Half the side of the mean that makes the base.
const BASE_RADIUS: usize = 15;
/// Radius and sigma of the Gaussian.
const BLUR_RADIUS: usize = 5;
/// Radius and eps for bases and details.
const SMOOTH: [(usize, f64); 2] = [(45, 0.3), (7, 1e-6)];

/// Planes of `height * width` values. The result may leave \[0, 1\].
pub(super) fn fuse(height: usize, width: usize, a: &[f32], b: &[f32]) -> Result<Vec<f32>> {
    let sources = [a, b];
    let salient = sources.map(|s| saliency(height, width, s));
    let [s, t] = &salient;
    let mask = |s: &[f32], t: &[f32]| -> Vec<f32> {
        let one = |(s, t): (&f32, &f32)| match s.total_cmp(t) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        };
        s.iter().zip(t).map(one).collect()
    };
    let masks = [mask(s, t), mask(t, s)];
    let mut layers = Vec::with_capacity(2);
    let mut session = Session::new(&tape(height, width)?, &ParamStore::default())?;
    for (source, mask) in sources.iter().zip(&masks) {
        session.input_mut::<f32>("source")?.copy_from_slice(source);
        session.input_mut::<f32>("mask")?.copy_from_slice(mask);
        session.run()?;
        let read = |name| -> Result<Vec<f32>> { Ok(session.output::<f32>(name)?.to_vec()) };
        layers.push([read("base")?, read("weight_base")?, read("weight_detail")?]);
    }
    let mean = |i: usize, k: usize, values: [f32; 2]| {
        let [p, q] = [0, 1].map(|n: usize| layers[n][k][i].clamp(0.0, 1.0));
        // Neither wants the pixel: half of each.
        let [p, q] = if p + q > 0.0 { [p, q] } else { [0.5, 0.5] };
        (p * values[0] + q * values[1]) / (p + q)
    };
    let pixel = |i: usize| {
        let bases = [0, 1].map(|n: usize| layers[n][0][i]);
        let details = [0, 1].map(|n: usize| sources[n][i] - bases[n]);
        mean(i, 1, bases) + mean(i, 2, details)
    };
    Ok((0..height * width).map(pixel).collect())
}

/// Arena of the filters.
pub(super) fn planned_bytes(height: usize, width: usize) -> Result<usize> {
    Ok(Session::planned_bytes(&tape(height, width)?))
}

/// Base and both weights of one source.
fn tape(height: usize, width: usize) -> Result<Tape> {
    let mut t = Tape::new(DType::F32);
    let source = t.input("source", [1, height, width, 1])?;
    let mask = t.input("mask", [1, height, width, 1])?;
    let base = ops::box_filter(&mut t, source, BASE_RADIUS)?;
    t.output("base", base)?;
    for (name, (radius, eps)) in ["weight_base", "weight_detail"].into_iter().zip(SMOOTH) {
        let weight = ops::guided_filter(&mut t, source, mask, radius, eps)?;
        t.output(name, weight)?;
    }
    Ok(t)
}

/// Step 2.
fn saliency(height: usize, width: usize, plane: &[f32]) -> Vec<f32> {
    let mut edges = Vec::with_capacity(plane.len());
    for y in 0..height {
        let row = |y: usize| &plane[y * width..][..width];
        let (above, here, below) = (
            row(y.saturating_sub(1)),
            row(y),
            row((y + 1).min(height - 1)),
        );
        for x in 0..width {
            let (left, right) = (here[x.saturating_sub(1)], here[(x + 1).min(width - 1)]);
            edges.push((left + right + above[x] + below[x] - 4.0 * here[x]).abs());
        }
    }
    blur(height, width, &edges)
}

/// A Gaussian along both axes.
fn blur(height: usize, width: usize, plane: &[f32]) -> Vec<f32> {
    let sigma = BLUR_RADIUS as f32;
    let side = 2 * BLUR_RADIUS + 1;
    let mut kernel: Vec<f32> = (0..side)
        .map(|k| (k as f32 - sigma) / sigma)
        .map(|d| (-0.5 * d * d).exp())
        .collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|w| *w /= sum);
    let at = |i: usize, k: usize, n: usize| (i + k).saturating_sub(BLUR_RADIUS).min(n - 1);
    let mut rows = vec![0.0; plane.len()];
    for (out, line) in rows.chunks_exact_mut(width).zip(plane.chunks_exact(width)) {
        for (x, v) in out.iter_mut().enumerate() {
            *v = (0..side).map(|k| kernel[k] * line[at(x, k, width)]).sum();
        }
    }
    let mut out = vec![0.0; plane.len()];
    for (y, line) in out.chunks_exact_mut(width).enumerate() {
        for (k, w) in kernel.iter().enumerate() {
            let from = &rows[at(y, k, height) * width..][..width];
            line.iter_mut().zip(from).for_each(|(v, x)| *v += w * x);
        }
    }
    out
}
