//! Text and frames in pixels, for pictures that leave as PNG.

use crate::data::color::{rgb_to_ycbcr, ycbcr_to_gamut};
use crate::data::{Chroma, Picture};
use image::RgbImage;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

pub type Rgb = [u8; 3];

const GLYPH: usize = get_raster_width(FontWeight::Regular, RasterHeight::Size20);

/// In 8 bit, without alpha.
pub fn rgb(picture: &Picture) -> RgbImage {
    let pixel = |i: usize| match &picture.chroma {
        Some(c) => ycbcr_to_gamut([picture.luma[i], c.cb[i], c.cr[i]]),
        None => [picture.luma[i]; 3],
    };
    RgbImage::from_fn(picture.width as u32, picture.height as u32, |x, y| {
        let values = pixel(y as usize * picture.width + x as usize);
        image::Rgb(values.map(|v| (255.0 * v.clamp(0.0, 1.0)).round() as u8))
    })
}

/// A grey picture if there is no colour in it.
pub fn to_picture(image: &RgbImage) -> Picture {
    let mut planes = [const { Vec::new() }; 3];
    for p in image.pixels() {
        let values = rgb_to_ycbcr(p.0.map(|v| f32::from(v) / 255.0));
        for (plane, v) in planes.iter_mut().zip(values) {
            plane.push(v);
        }
    }
    let coloured = image.pixels().any(|p| p.0 != [p.0[0]; 3]);
    let [luma, cb, cr] = planes;
    Picture {
        width: image.width() as usize,
        height: image.height() as usize,
        luma,
        chroma: coloured.then_some(Chroma { cb, cr }),
        alpha: None,
        bit_depth: 8,
        oriented: false,
    }
}

/// Width of a line in pixels; it is 20 high.
pub fn text_width(text: &str) -> usize {
    GLYPH * text.chars().count()
}

/// The text, or as much of it as this width takes, with two dots for the rest.
pub fn fit_text(text: &str, width: usize) -> String {
    let most = width / GLYPH;
    match text.chars().count() <= most {
        true => text.to_string(),
        false => {
            let kept = text.chars().take(most.saturating_sub(2));
            kept.chain("..".chars()).take(most).collect()
        }
    }
}

/// Black text with its upper left corner here; letters outside ASCII become `?`, what is outside the image is left out.
pub fn text(image: &mut RgbImage, (x, y): (usize, usize), text: &str) {
    for (i, c) in text.chars().enumerate() {
        let glyph = |c| get_raster(c, FontWeight::Regular, RasterHeight::Size20);
        let Some(glyph) = glyph(c).or_else(|| glyph('?')) else {
            continue;
        };
        for (dy, row) in glyph.rows().enumerate() {
            for (dx, &ink) in row.iter().enumerate() {
                let at = ((x + i * GLYPH + dx) as u32, (y + dy) as u32);
                if let Some(p) = image.get_pixel_mut_checked(at.0, at.1) {
                    let paper = u16::from(255 - ink);
                    p.0 = p.0.map(|v| (u16::from(v) * paper / 255) as u8);
                }
            }
        }
    }
}

/// A frame of this thickness around (left, top, right, bottom), which it leaves free as far as it can: at the border
/// of the image it moves inward.
pub fn frame(
    image: &mut RgbImage,
    (left, top, right, bottom): (usize, usize, usize, usize),
    thickness: usize,
    colour: Rgb,
) {
    let (w, h) = (image.width() as usize, image.height() as usize);
    let (x0, y0) = (
        left.saturating_sub(thickness),
        top.saturating_sub(thickness),
    );
    let (x1, y1) = ((right + thickness).min(w), (bottom + thickness).min(h));
    for y in y0..y1 {
        for x in x0..x1 {
            let edge =
                |v: usize, low: usize, high: usize| v < low + thickness || v + thickness >= high;
            if edge(x, x0, x1) || edge(y, y0, y1) {
                image.put_pixel(x as u32, y as u32, image::Rgb(colour));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_and_drawn_in_ink() {
        assert_eq!(fit_text("abc", 3 * GLYPH), "abc");
        assert_eq!(fit_text("abcdef", 4 * GLYPH), "ab..");
        assert_eq!(fit_text("abc", GLYPH), ".");
        let mut image = RgbImage::from_pixel(40, 20, image::Rgb([255; 3]));
        text(&mut image, (0, 0), "l\u{4e2d}\u{7}long");
        assert!(image.pixels().any(|p| p.0[0] < 60));
        let mut other = RgbImage::from_pixel(40, 20, image::Rgb([255; 3]));
        text(&mut other, (0, 0), "l??long");
        assert_eq!(image, other);
    }

    #[test]
    fn colours_survive_and_grey_stays_grey() {
        let mut image = RgbImage::from_pixel(5, 4, image::Rgb([7; 3]));
        assert!(to_picture(&image).chroma.is_none());
        let red = [200, 30, 90];
        frame(&mut image, (1, 1, 3, 4), 1, red);
        let back = rgb(&to_picture(&image));
        for (p, q) in image.pixels().zip(back.pixels()) {
            assert!(p.0.iter().zip(q.0).all(|(a, b)| a.abs_diff(b) <= 1));
        }
        // Below there is no room: the frame covers the lowest row.
        for (x, y, colour) in [
            (0, 0, red),
            (1, 1, [7; 3]),
            (3, 2, red),
            (1, 3, red),
            (4, 1, [7; 3]),
        ] {
            assert_eq!(image.get_pixel(x, y).0, colour, "{x} {y}");
        }
    }
}
