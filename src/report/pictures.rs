//! Pictures that a network fuses, side by side.

use crate::data::{Chroma, Picture};

/// Larger pictures are shown reduced.
pub const MAX_SIDE: usize = 640;
const GAP: usize = 6;

/// Two sources and what was made of them.
#[derive(Clone, Debug)]
pub struct Triple {
    pub name: String,
    pub a: Picture,
    pub b: Picture,
    pub fused: Picture,
}

/// At most [`MAX_SIDE`] a side, by means of whole squares of pixels; 8 bits, without alpha.
pub fn reduced(picture: &Picture) -> Picture {
    reduced_to(MAX_SIDE, picture)
}

/// [`reduced`] with a longest side of its own.
pub fn reduced_to(side: usize, picture: &Picture) -> Picture {
    let (w, h) = (picture.width, picture.height);
    let k = w.max(h).div_ceil(side).max(1);
    let shrink = |plane: &[f32]| shrink(plane, w, h, k);
    Picture {
        width: w.div_ceil(k),
        height: h.div_ceil(k),
        luma: shrink(&picture.luma),
        chroma: picture.chroma.as_ref().map(|c| Chroma {
            cb: shrink(&c.cb),
            cr: shrink(&c.cr),
        }),
        alpha: None,
        bit_depth: 8,
        oriented: false,
    }
}

/// The means of squares of `k` x `k` pixels, smaller ones at the right and lower border.
fn shrink(plane: &[f32], w: usize, h: usize, k: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(w.div_ceil(k) * h.div_ceil(k));
    for y in (0..h).step_by(k) {
        let rows = y..(y + k).min(h);
        for x in (0..w).step_by(k) {
            let columns = x..(x + k).min(w);
            let count = rows.len() * columns.len();
            let sum: f32 = rows
                .clone()
                .map(|y| plane[y * w..][columns.clone()].iter().sum::<f32>())
                .sum();
            out.push(sum / count as f32);
        }
    }
    out
}

/// A contact sheet: a row A, B, fused for each pair, white between them, larger ones reduced.
pub fn sheet(triples: &[Triple]) -> Picture {
    let rows: Vec<[Picture; 3]> = triples
        .iter()
        .map(|t| [&t.a, &t.b, &t.fused].map(reduced))
        .collect();
    let across = |r: &[Picture; 3]| 3 * (r[0].width + GAP) - GAP;
    let width = rows.iter().map(across).max().unwrap_or(1);
    let height = rows.iter().map(|r| r[0].height + GAP).sum::<usize>();
    let height = height.saturating_sub(GAP).max(1);
    let coloured = rows.iter().flatten().any(|p| p.chroma.is_some());
    let mut planes = [1.0, 0.0, 0.0].map(|v| vec![v; width * height]);
    let mut top = 0;
    for row in &rows {
        for (i, picture) in row.iter().enumerate() {
            let chroma = picture.chroma.as_ref();
            let from = [
                Some(&picture.luma),
                chroma.map(|c| &c.cb),
                chroma.map(|c| &c.cr),
            ];
            let left = i * (picture.width + GAP);
            for (to, from) in planes.iter_mut().zip(from) {
                let lines = from.iter().flat_map(|p| p.chunks_exact(picture.width));
                for (y, line) in lines.enumerate() {
                    let at = (top + y) * width + left;
                    to[at..at + line.len()].copy_from_slice(line);
                }
            }
        }
        top += row[0].height + GAP;
    }
    let [luma, cb, cr] = planes;
    Picture {
        width,
        height,
        luma,
        chroma: coloured.then_some(Chroma { cb, cr }),
        alpha: None,
        bit_depth: 8,
        oriented: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::grey;

    #[test]
    fn means_of_squares_reduce_a_picture() {
        assert_eq!(shrink(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 3, 2, 2), [2.0, 3.5]);
        let small = reduced(&grey(2 * MAX_SIDE, 10, 0.5));
        assert_eq!((small.width, small.height), (MAX_SIDE, 5));
        assert!(small.luma.iter().all(|v| (v - 0.5).abs() < 1e-6));
        assert_eq!(reduced(&grey(3, 4, 0.5)), grey(3, 4, 0.5));
    }

    #[test]
    fn a_sheet_has_a_row_for_each_pair() {
        let mut b = grey(2, 3, 0.2);
        let chroma = vec![0.1; 6];
        b.chroma = Some(Chroma {
            cb: chroma.clone(),
            cr: chroma,
        });
        let triple = |a: Picture, b: Picture| Triple {
            name: "x".into(),
            fused: a.clone(),
            a,
            b,
        };
        let sheet = sheet(&[
            triple(grey(2, 3, 0.1), b),
            triple(grey(4, 1, 0.3), grey(4, 1, 0.4)),
        ]);
        assert_eq!((sheet.width, sheet.height), (3 * 4 + 2 * GAP, 3 + GAP + 1));
        let at = |x: usize, y: usize| sheet.luma[y * sheet.width + x];
        assert_eq!([at(0, 0), at(2, 0), at(2 + GAP, 2)], [0.1, 1.0, 0.2]);
        assert_eq!(at(4 + GAP, 3 + GAP), 0.4);
        let cb = &sheet.chroma.as_ref().unwrap().cb;
        assert_eq!([cb[0], cb[2 + GAP]], [0.0, 0.1]);
    }
}
