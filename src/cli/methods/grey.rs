//! Fused pairs as the metrics take them.

use crate::data::{Pair, Picture, read_pair};
use crate::metrics::Grey;
use crate::metrics::border::{MARGIN, crop, reflect};
use crate::{Fuser, Result};

/// Both sources of a pair and the fused picture.
pub fn grey(fuser: &mut Fuser, pair: &Pair) -> Result<[Grey; 3]> {
    let (a, b) = read_pair(&pair.a, &pair.b)?;
    let fused = fuser.toned_luma(&a, &b).map_err(|e| e.of_file(&pair.a))?;
    Ok([
        Grey::from_picture(&a)?,
        Grey::from_picture(&b)?,
        Grey::from_luma(a.width, a.height, &fused)?,
    ])
}

/// Fused picture of a pair whose sources go on beyond their border, without that margin. It is toned after the margin
/// is gone, so that the same pixels set its range.
pub fn grey_of_continued(fuser: &mut Fuser, pair: &Pair) -> Result<Grey> {
    let (a, b) = read_pair(&pair.a, &pair.b)?;
    let (width, height) = (a.width + 2 * MARGIN, a.height + 2 * MARGIN);
    let continued = |p: &Picture| {
        let luma = reflect(p.width, p.height, &p.luma, MARGIN)?;
        Picture::from_luma(width, height, luma)
    };
    let (a, b) = (continued(&a)?, continued(&b)?);
    let fused = fuser.luma(&a, &b).map_err(|e| e.of_file(&pair.a))?;
    let mut fused = crop(width, height, &fused, MARGIN)?;
    fuser.tone().apply(&mut fused)?;
    Grey::from_luma(width - 2 * MARGIN, height - 2 * MARGIN, &fused)
}
