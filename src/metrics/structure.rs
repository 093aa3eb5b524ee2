//! The pass over windows and scales that SSIM, MS-SSIM and MEF-SSIM share.

use super::Grey;
use super::mef_ssim::{BoxSums, mef_ms_ssim};
use super::ms_ssim::ms_ssim;
use super::ssim::{PairSums, SIGMA, TAPS, add_contrast, add_similarity, constants};
use super::window::{Plane, Product, gaussian, scan};

/// Scales of MEF-SSIM and of MS-SSIM.
const MEF_SCALES: usize = 3;
const MS_SCALES: usize = 5;

#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    pub ssim: bool,
    pub ssim_lt: bool,
    pub ms_ssim: bool,
    pub mef_ms_ssim: bool,
}

/// What was wanted; the rest is 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Structure {
    pub ssim: f64,
    pub ssim_lt: f64,
    pub ms_ssim: f64,
    pub mef_ms_ssim: f64,
}

/// All four from one pyramid. The caller wants nothing for which the pictures are too small.
pub(super) fn structure(a: &Grey, b: &Grey, f: &Grey, wanted: Wanted) -> Structure {
    let taps = gaussian(TAPS, SIGMA);
    let (wide, narrow) = (constants(255.0), constants(1.0));
    let scales = if wanted.ms_ssim {
        MS_SCALES
    } else if wanted.mef_ms_ssim {
        MEF_SCALES
    } else {
        1
    };
    // SSIM alone goes on beyond the border; the windows inside are the same for all.
    let bordered = wanted.ssim || wanted.ssim_lt;
    let mut border = if bordered { TAPS / 2 } else { 0 };
    let mut planes = [a, b, f].map(|x| Plane::new(x, border));
    // MS-SSIM drops an odd last row or column, MEF-SSIM keeps it.
    let (mut ms_width, mut ms_height) = (f.width(), f.height());

    let (mut ssim, mut ssim_lt): (PairSums, PairSums) = Default::default();
    let mut ms_means = [[0.0; 2]; MS_SCALES];
    let mut mef_means = [0.0; MEF_SCALES];
    for scale in 0..scales {
        if scale > 0 {
            planes = planes.map(|p| halved(&p, border));
            border = 0;
            ms_width /= 2;
            ms_height /= 2;
        }
        let columns = planes[0].width + 1 - TAPS;
        let rows = planes[0].height + 1 - TAPS;
        let inside = border..rows.saturating_sub(border);
        let mef = wanted.mef_ms_ssim && scale < MEF_SCALES;
        let mut room = vec![0.0; columns];
        let mut boxes = BoxSums::new(&planes[0], &planes[1]);
        let (mut ms, mut mef_sum): (PairSums, f64) = Default::default();
        let mut each = |y: usize, row: &[Vec<f64>]| {
            if wanted.ssim && scale == 0 {
                add_similarity(row, 0, columns, wide, &mut room, &mut ssim);
            }
            if wanted.ssim_lt && scale == 0 {
                add_similarity(row, 0, columns, narrow, &mut room, &mut ssim_lt);
            }
            if !inside.contains(&y) {
                return;
            }
            if wanted.ms_ssim && y - border + TAPS <= ms_height {
                let end = border + ms_width + 1 - TAPS;
                if scale + 1 < MS_SCALES {
                    add_contrast(row, border, end, wide, &mut room, &mut ms);
                } else {
                    add_similarity(row, border, end, wide, &mut room, &mut ms);
                }
            }
            if mef {
                mef_sum += boxes.add_row(y, row, border, columns - border);
            }
        };
        if mef {
            scan::<9>(planes.each_ref(), &taps, Product::Exact, |y, row| {
                each(y, row)
            });
        } else {
            scan::<8>(planes.each_ref(), &taps, Product::Exact, |y, row| {
                each(y, row)
            });
        }
        if wanted.ms_ssim {
            let windows = (ms_width + 1 - TAPS) * (ms_height + 1 - TAPS);
            ms_means[scale] = ms.map(|sum| sum / windows as f64);
        }
        if mef {
            mef_means[scale] = mef_sum / ((columns - 2 * border) * inside.len()) as f64;
        }
    }
    let mean = |sums: PairSums| (sums[0] + sums[1]) / (2 * f.len()) as f64;
    Structure {
        ssim: mean(ssim),
        ssim_lt: mean(ssim_lt),
        ms_ssim: ms_ssim(&ms_means),
        mef_ms_ssim: mef_ms_ssim(&mef_means),
    }
}

/// Means of 2 x 2 pixels, without the border; an odd last row or column is repeated.
fn halved(p: &Plane, border: usize) -> Plane {
    let (w, h) = (p.width - 2 * border, p.height - 2 * border);
    let (width, height) = (w.div_ceil(2), h.div_ceil(2));
    let mut values = Vec::with_capacity(width * height);
    for y in (0..h).step_by(2) {
        let rows = [y, (y + 1).min(h - 1)].map(|y| &p.row(y + border)[border..][..w]);
        for x in (0..w).step_by(2) {
            let next = (x + 1).min(w - 1);
            values.push((rows[0][x] + rows[1][x] + rows[0][next] + rows[1][next]) / 4.0);
        }
    }
    Plane {
        width,
        height,
        values,
    }
}
