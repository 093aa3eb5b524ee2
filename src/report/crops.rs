//! Parts of a picture, and where methods differ most.

use super::sheet::{Cell, Scene, scaled, slot};
use crate::{Error, Result};
use std::fmt;

/// A part of a picture, in pixels from its upper left corner; printed as `x,y,width,height`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

impl Crop {
    /// Whether it lies within a picture of this size.
    ///
    /// # Errors
    /// [`Error::Config`] that names crop, scene and what fits.
    pub fn check(&self, scene: &str, (w, h): (usize, usize)) -> Result<()> {
        let inside = |start: usize, length: usize, all: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= all)
        };
        if inside(self.x, self.width, w) && inside(self.y, self.height, h) {
            return Ok(());
        }
        Err(Error::config(
            format!("crop {self} (x,y,width,height)"),
            format!(
                "is not within {scene}, which has {w}x{h} pixels; give 1 or more pixels a side, x + width up to {w} \
                 and y + height up to {h}"
            ),
        ))
    }

    fn overlaps(&self, other: &Crop) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// Two windows where the methods differ most, which do not overlap; the same ones for the same pictures.
///
/// A window is about a sixth of the picture's width, so that a whole factor fills its place on a
/// [`sheet`](super::sheet::sheet), and of the picture's shape. It is rated by
///
/// ```text
/// mean over i of Var_window(P_i - R)
/// ```
///
/// of luma: P_i are the methods' pictures and R is their mean. With one method P_i are the sources and R is its
/// picture; with none A is compared with B. The variance is taken within the window, so that a picture that is only
/// brighter everywhere does not count. Windows lie on a grid of an eighth of their shorter side; the best is taken,
/// then the best that does not overlap it. There is one window only where no second one fits.
pub fn default_crops(scene: &Scene) -> Vec<Crop> {
    let (w, h) = (scene.a.width, scene.a.height);
    let slot = slot(Cell::of(w, h).width, 2);
    let times = ((6 * slot) as f64 / w as f64).round().max(1.0) as usize;
    let width = (slot / times).clamp(1, w);
    let height = scaled(h, width, w).min(h);
    let step = (width.min(height) / 8).max(1);
    let mut windows = Vec::new();
    for y in (0..=h - height).step_by(step) {
        for x in (0..=w - width).step_by(step) {
            let crop = Crop {
                x,
                y,
                width,
                height,
            };
            windows.push((crop, 0.0));
        }
    }
    let fused: Vec<&[f32]> = scene.fused.iter().flatten().map(|p| &p.luma[..]).collect();
    let (a, b) = (&scene.a.luma[..], &scene.b.luma[..]);
    let mean: Vec<f32>;
    let (pictures, reference) = match fused[..] {
        [] => (vec![a], b),
        [one] => (vec![a, b], one),
        _ => {
            let sum = |i: usize| fused.iter().map(|p| p[i]).sum::<f32>();
            mean = (0..w * h).map(|i| sum(i) / fused.len() as f32).collect();
            (fused, &mean[..])
        }
    };
    for picture in pictures {
        let sums = Sums::new(w, picture, reference);
        for (crop, rating) in &mut windows {
            *rating += sums.variance(crop);
        }
    }
    let mut crops: Vec<Crop> = Vec::new();
    for _ in 0..2 {
        let free = { windows.iter() }.filter(|(c, _)| !crops.iter().any(|d| c.overlaps(d)));
        // Of equal ones the first.
        let best = free.reduce(|best, next| if next.1 > best.1 { next } else { best });
        crops.extend(best.map(|b| b.0));
    }
    crops
}

/// Sums of a difference and of its square over all that lies above and left of a corner.
struct Sums {
    stride: usize,
    sums: Vec<[f64; 2]>,
}

impl Sums {
    fn new(width: usize, picture: &[f32], reference: &[f32]) -> Self {
        let stride = width + 1;
        let mut sums = vec![[0.0; 2]; stride];
        for (p, r) in picture
            .chunks_exact(width)
            .zip(reference.chunks_exact(width))
        {
            let mut row = [0.0; 2];
            let above = sums.len() - stride;
            sums.push(row);
            for x in 0..width {
                let d = f64::from(p[x]) - f64::from(r[x]);
                row = [row[0] + d, row[1] + d * d];
                let [s, q] = sums[above + x + 1];
                sums.push([s + row[0], q + row[1]]);
            }
        }
        Self { stride, sums }
    }

    fn variance(&self, c: &Crop) -> f64 {
        let at = |x: usize, y: usize| self.sums[y * self.stride + x];
        let (right, bottom) = (c.x + c.width, c.y + c.height);
        let corners = [
            at(right, bottom),
            at(c.x, c.y),
            at(right, c.y),
            at(c.x, bottom),
        ];
        let n = (c.width * c.height) as f64;
        let [s, q] =
            [0, 1].map(|k| (corners[0][k] + corners[1][k] - corners[2][k] - corners[3][k]) / n);
        (q - s * s).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{grey, scene};

    #[test]
    fn crops_go_where_the_methods_differ() {
        let (w, h) = (240, 120);
        let base = grey(w, h, 0.5);
        let (mut x, mut y) = (base.clone(), base.clone());
        // Brighter everywhere: no place is better than another.
        x.luma.iter_mut().for_each(|v| *v += 0.2);
        for (i, v) in y.luma.iter_mut().enumerate() {
            let (column, row) = (i % w, i / w);
            if (column / 4 + row / 4) % 2 == 0 {
                match (column, row) {
                    (180..220, 80..110) => *v = 0.0,
                    (20..50, 10..30) => *v = 0.2,
                    _ => {}
                }
            }
        }
        for fused in [vec![Some(x), None, Some(y.clone())], vec![Some(y)]] {
            let scene = scene(w, h, fused, vec![]);
            let crops = default_crops(&scene);
            let [first, second] = crops[..] else {
                panic!("{crops:?}");
            };
            assert!((160..=200).contains(&first.x) && first.y >= 70, "{first:?}");
            assert!((0..=30).contains(&second.x) && second.y <= 20, "{second:?}");
            assert!(!first.overlaps(&second));
            assert!((w / 7..=w / 5).contains(&first.width), "{first:?}");
            assert_eq!(default_crops(&scene), crops);
        }
        let tiny = scene(1, 1, vec![], vec![]);
        assert_eq!(default_crops(&tiny).len(), 1);
        // Flat pictures too have their windows.
        assert_eq!(default_crops(&scene(64, 64, vec![], vec![])).len(), 2);
    }
}
