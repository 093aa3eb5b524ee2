//! Qabf: how much of the sources' edges reaches the fused picture.
//!
//! ```text
//! g, t   strength sqrt(sx^2 + sy^2) and direction atan(sy / sx) of Sobel's differences (pi/2 where sx = 0)
//! G(X)   = min(gX, gF) / max(gX, gF);   gF itself where gX = gF
//! A(X)   = 1 - |tX - tF| / (pi/2)
//! Q(X)   = 0.9994 / (1 + exp(-15 (G - 0.5))) * 0.9879 / (1 + exp(-22 (A - 0.8)))
//! Qabf   = sum (Q(A) gA + Q(B) gB) / sum (gA + gB)
//! ```
//!
//! 0 to 0.987, without unit. Xydeas and Petrovic 2000. Beyond the border the pictures are taken as black. Equal strengths should
//! give G = 1; the code that everyone copied gives gF, and so does this. With levels 0..255 (`qabf`: Evaluation-for-Image-Fusion
//! since March 2023, MMIF-CDDFuse) that counts as a perfect edge, with levels 0..1 (`qabf_unit`: the former before, and
//! hli1221's collection) mostly as a lost one. So the two differ where F copies a source. Undefined if neither
//! source has an edge.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let a = Grey::from_fn(16, 16, |x, y| (5 * x + 9 * y) as u8)?;
//! let score = measure(&a, &a, &a, &[Metric::Qabf])?[0]?;
//! assert!((score - 0.9752).abs() < 1e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::approx::{exp, line_angle};
use super::sobel::{Border, Bordered, Sobel};
use super::window::sum_in_lanes;
use super::{Grey, Score, Undefined};
use crate::device::simd::simd_fn;
use std::f64::consts::FRAC_PI_2;

pub(super) struct Qabf {
    pub levels: Score,
    pub unit: Score,
}

/// Strength and direction of the differences in one row.
#[derive(Clone, Default)]
struct Edges {
    strength: Vec<f64>,
    direction: Vec<f64>,
}

/// Sums over pixels and sources.
#[derive(Default)]
struct Sums {
    kept: f64,
    kept_unit: f64,
    all: f64,
}

pub(super) fn qabf(a: &Grey, b: &Grey, f: &Grey) -> Qabf {
    let from = [a, b, f].map(|x| Bordered::new(x, Border::Zero));
    let row = Edges {
        strength: vec![0.0; f.width()],
        direction: vec![0.0; f.width()],
    };
    // The last is room for the products.
    let mut edges: [Edges; 4] = std::array::from_fn(|_| row.clone());
    let mut sobel = Sobel::default();
    let mut sums = Sums::default();
    for y in 0..f.height() {
        for (edges, from) in edges.iter_mut().zip(&from) {
            from.sobel(y, &mut sobel);
            find_edges(&sobel, edges);
        }
        let [a, b, f, room] = &mut edges;
        add_kept(a, f, room, &mut sums);
        add_kept(b, f, room, &mut sums);
    }
    let score = |kept: f64| {
        if sums.all > 0.0 {
            Ok(kept / sums.all)
        } else {
            Err(Undefined::NoEdges)
        }
    };
    Qabf {
        levels: score(sums.kept),
        unit: score(sums.kept_unit),
    }
}

simd_fn! {
    fn find_edges(sobel: &Sobel, to: &mut Edges) {
        let n = to.strength.len();
        let (dx, dy) = (&sobel.dx[..n], &sobel.dy[..n]);
        let strength = &mut to.strength[..n];
        for x in 0..n {
            strength[x] = f64::from(dx[x] * dx[x] + dy[x] * dy[x]).sqrt();
        }
        let direction = &mut to.direction[..n];
        for x in 0..n {
            // The convolution turns the kernel about: its x points left.
            direction[x] = line_angle(f64::from(dy[x]), f64::from(-dx[x]));
        }
    }
}

simd_fn! {
    fn add_kept(source: &Edges, fused: &Edges, room: &mut Edges, sums: &mut Sums) {
        let n = source.strength.len();
        let (g, t) = (&source.strength[..n], &source.direction[..n]);
        let (gf, tf) = (&fused.strength[..n], &fused.direction[..n]);
        let (kept, kept_unit) = (&mut room.strength[..n], &mut room.direction[..n]);
        for x in 0..n {
            let (g, gf) = (g[x], gf[x]);
            let aligned = 1.0 - (t[x] - tf[x]).abs() / FRAC_PI_2;
            let kept_here = g * sigmoid(0.9879, 22.0, aligned - 0.8);
            let (least, most) = if g < gf { (g, gf) } else { (gf, g) };
            let ratio = least / if most > 0.0 { most } else { 1.0 };
            let equal = g == gf;
            let of_levels = if equal { gf } else { ratio };
            let of_unit = if equal { gf / 255.0 } else { ratio };
            kept[x] = kept_here * sigmoid(0.9994, 15.0, of_levels - 0.5);
            kept_unit[x] = kept_here * sigmoid(0.9994, 15.0, of_unit - 0.5);
        }
        sums.kept += sum_in_lanes(kept);
        sums.kept_unit += sum_in_lanes(kept_unit);
        sums.all += sum_in_lanes(g);
    }
}

#[inline(always)]
fn sigmoid(most: f64, slope: f64, x: f64) -> f64 {
    most / (1.0 + exp(-slope * x))
}
