//! Nabf: edges of the fused picture that neither source has.
//!
//! ```text
//! g      = sqrt(sx^2 + sy^2) / 8 of Sobel's differences, t = atan(sx / sy) (0 without an edge)
//! G(X)   = min(gX, gF) / max(gX, gF)
//! A(X)   = | |tX - tF| - pi/2 | / (pi/2)
//! Q(X)   = sqrt(0.9999 / (1 + exp(-19 (G - 0.5))) * 0.9995 / (1 + exp(-22 (A - 0.5))))
//! w(X)   = gX^1.5 where gX >= 2, else 0.001
//! Nabf   = sum over pixels with gF > gA and gF > gB of ((1 - Q(A)) w(A) + (1 - Q(B)) w(B)) / sum (w(A) + w(B))
//! ```
//!
//! 0 (none) to 1, without unit; lower is better. Petrovic's artefact measure in the form of Shreyamsha Kumar 2013. The pictures are
//! mirrored at the border. `nabf` takes levels 0..255 (IVIF_ZOO), `nabf_unit` levels 0..1 (hli1221; the papers of
//! DenseFuse, NestFuse and RFN-Nest): there no strength reaches 2, so all pixels weigh the same. Evaluation-for-Image-Fusion
//! since March 2023 hands over the pictures in a wrong order; that number is not offered.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let (flat, edge) = (Grey::from_fn(8, 8, |_, _| 9)?, Grey::from_fn(8, 8, |x, _| 40 * (x as u8 / 4))?);
//! assert_eq!(measure(&flat, &edge, &edge, &[Metric::Nabf])?, [Ok(0.0)]);
//! assert!(measure(&flat, &flat, &edge, &[Metric::Nabf])?[0]? > 0.2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::Grey;
use super::sobel::{Border, Bordered, Sobel};
use std::f64::consts::FRAC_PI_2;

/// A strength below this has the least weight.
const THRESHOLD: f64 = 2.0;
const LEAST_WEIGHT: f64 = 1e-3;

pub(super) struct Nabf {
    pub levels: f64,
    pub unit: f64,
}

pub(super) fn nabf(a: &Grey, b: &Grey, f: &Grey) -> Nabf {
    let from = [a, b, f].map(|x| Bordered::new(x, Border::Mirror));
    let mut rows: [Sobel; 3] = Default::default();
    // Lost quality and weights, for levels 0..255; in 0..1 every weight is the least.
    let (mut lost, mut lost_unit, mut all) = (0.0, 0.0, 0.0);
    for y in 0..f.height() {
        for (row, from) in rows.iter_mut().zip(&from) {
            from.sobel(y, row);
        }
        let [sources @ .., fused] = &rows;
        for x in 0..f.width() {
            let nf = fused.square(x);
            let squares = [0, 1].map(|i| sources[i].square(x));
            let weights = squares.map(weight);
            all += weights[0] + weights[1];
            if nf > squares[0] && nf > squares[1] {
                let tf = direction(fused, x);
                for (i, source) in sources.iter().enumerate() {
                    let ratio = (f64::from(squares[i]) / f64::from(nf)).sqrt();
                    let turned = (direction(source, x) - tf).abs();
                    let lost_here = 1.0 - quality(ratio, (turned - FRAC_PI_2).abs() / FRAC_PI_2);
                    lost += weights[i] * lost_here;
                    lost_unit += lost_here;
                }
            }
        }
    }
    Nabf {
        levels: lost / all,
        unit: lost_unit / (2 * f.len()) as f64,
    }
}

/// Weight of an edge of 8 times this strength, squared.
fn weight(square: i32) -> f64 {
    if f64::from(square) < 64.0 * THRESHOLD * THRESHOLD {
        return LEAST_WEIGHT;
    }
    let strength = f64::from(square).sqrt() / 8.0;
    strength * strength.sqrt()
}

fn direction(row: &Sobel, x: usize) -> f64 {
    match (row.dx[x], row.dy[x]) {
        (0, 0) => 0.0,
        (dx, dy) => (f64::from(dx) / f64::from(dy)).atan(),
    }
}

fn quality(ratio: f64, alignment: f64) -> f64 {
    let sigmoid = |most: f64, slope: f64, x: f64| most / (1.0 + (-slope * (x - 0.5)).exp());
    (sigmoid(0.9999, 19.0, ratio) * sigmoid(0.9995, 22.0, alignment)).sqrt()
}
