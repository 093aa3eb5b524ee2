//! From the bytes of a picture file to its planes; every failure is one line that says the way out.

use super::color::{PART, RUN, run_to_ycbcr};
use super::image::{Chroma, Picture, one_line};
use crate::device::cpu::{SendPtr, for_ranges};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};

const MAX_PIXELS: u64 = 400_000_000;
/// Deflate packs at most 1032 bytes into one; at 1 bit per pixel, some 8000 pixels. A file that
/// claims more pixels per byte than this has a forged or damaged header.
const MAX_PIXELS_PER_BYTE: u64 = 16_384;
const DAMAGED: &str = "the file is damaged or cut short; fetch or save it again";

/// Decodes a whole picture file.
pub(super) fn decode(bytes: Vec<u8>) -> Result<Picture, String> {
    let format = format_of(&bytes)?;
    guarded(format, || {
        // The JPEG decoder fills what is missing with grey and says nothing.
        if format == ImageFormat::Jpeg && !has_end_marker(&bytes) {
            return Err(format!("the JPEG has no end marker: {DAMAGED}"));
        }
        decode_as(format, bytes)
    })
}

/// Width and height of the upright picture, by the file's header alone.
pub(super) fn size(mut file: BufReader<File>) -> Result<(usize, usize), String> {
    let len = file.get_ref().metadata().map_err(|e| e.to_string())?.len();
    let format = format_of(file.fill_buf().map_err(|e| e.to_string())?)?;
    guarded(format, || {
        let (decoder, orientation) = open(format, Box::new(file), len)?;
        let (w, h) = decoder.dimensions();
        let turned = matches!(
            orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        );
        let (w, h) = if turned { (h, w) } else { (w, h) };
        Ok((w as usize, h as usize))
    })
}

/// The format of a file that begins with these bytes.
fn format_of(bytes: &[u8]) -> Result<ImageFormat, String> {
    if bytes.is_empty() {
        return Err("the file is empty (0 bytes); fetch or save it again".into());
    }
    match image::guess_format(bytes) {
        Ok(f @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Tiff)) => {
            Ok(f)
        }
        Ok(other) => Err(format!(
            "its content is {other:?}, which is not supported; convert it to PNG, JPEG, BMP or TIFF"
        )),
        Err(_) => Err(
            "its content is not PNG, JPEG, BMP or TIFF, whatever the name says; convert it to one of these"
                .into(),
        ),
    }
}

/// Runs a decoder. A forged file may trip an assertion in it; that is the file's fault, not a crash.
fn guarded<T>(format: ImageFormat, run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(format!("the {format:?} decoder gave up: {DAMAGED}")))
}

fn explain(e: ImageError) -> String {
    match e {
        ImageError::Unsupported(e) => {
            format!("{}; save it as 8 or 16 bit PNG", one_line(&e))
        }
        ImageError::Limits(e) => format!("{}: {DAMAGED} or tile it", one_line(&e)),
        e => format!("{}: {DAMAGED}", one_line(&e)),
    }
}

/// A file, or its bytes. As a trait object, for decoders are compiled anew for each type that they read.
trait Source: BufRead + Seek {}
impl<T: BufRead + Seek> Source for T {}

/// A decoder that has read the header, and how the picture is to be turned.
fn open(
    format: ImageFormat,
    file: Box<dyn Source>,
    len: u64,
) -> Result<(impl ImageDecoder, Orientation), String> {
    let most = MAX_PIXELS.min(len.saturating_mul(MAX_PIXELS_PER_BYTE));
    let mut limits = Limits::no_limits();
    // Twice 8 bytes (RGBA of 16 bits), as decoders hold the packed and the unpacked rows.
    limits.max_alloc = Some(16 * most + (64 << 20));

    let mut reader = ImageReader::with_format(file, format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(explain)?;
    let (w, h) = decoder.dimensions();
    let pixels = u64::from(w) * u64::from(h);
    if pixels == 0 {
        return Err(format!("it is {w}x{h}, without any pixel: {DAMAGED}"));
    }
    if pixels > MAX_PIXELS {
        return Err(format!(
            "it is {w}x{h}, {} megapixels; the limit is {}, tile or downscale it",
            pixels.div_ceil(1_000_000),
            MAX_PIXELS / 1_000_000
        ));
    }
    if pixels > most {
        return Err(format!(
            "its header says {w}x{h} but the file has only {len} bytes: {DAMAGED}"
        ));
    }
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err(
            "it has float samples, whose black and white are not known; scale it and save it as 16 bit PNG or TIFF"
                .into(),
        );
    }
    // A picture with a broken EXIF block is still a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((decoder, orientation))
}

fn decode_as(format: ImageFormat, bytes: Vec<u8>) -> Result<Picture, String> {
    let len = bytes.len() as u64;
    let (decoder, orientation) = open(format, Box::new(Cursor::new(bytes)), len)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(explain)?;
    image.apply_orientation(orientation);
    let mut picture = planes(&image).ok_or("its sample type is not supported; save it as PNG")?;
    picture.oriented = orientation != Orientation::NoTransforms;
    Ok(picture)
}

/// Walks the segments of a JPEG to its end-of-image marker. A plain search would be fooled by the
/// thumbnail inside an EXIF segment, which is a whole JPEG itself.
fn has_end_marker(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let Some(rest) = bytes.get(at..) else {
            return false;
        };
        // Stuffed zeros, fill bytes and restart markers belong to the entropy-coded data.
        let is_marker =
            |w: &[u8]| w[0] == 0xFF && !matches!(w[1], 0x00 | 0x01 | 0xD0..=0xD8 | 0xFF);
        let Some(found) = rest.windows(2).position(is_marker) else {
            return false;
        };
        if rest[found + 1] == 0xD9 {
            return true;
        }
        let Some(&[hi, lo]) = rest.get(found + 2..found + 4) else {
            return false;
        };
        at += found + 2 + usize::from(u16::from_be_bytes([hi, lo]));
    }
}

fn planes(image: &DynamicImage) -> Option<Picture> {
    let (w, h) = (image.width() as usize, image.height() as usize);
    let channels = usize::from(image.color().channel_count());
    let picture = match image {
        DynamicImage::ImageLuma8(i) => split(w, h, i, channels),
        DynamicImage::ImageLumaA8(i) => split(w, h, i, channels),
        DynamicImage::ImageRgb8(i) => split(w, h, i, channels),
        DynamicImage::ImageRgba8(i) => split(w, h, i, channels),
        DynamicImage::ImageLuma16(i) => split(w, h, i, channels),
        DynamicImage::ImageLumaA16(i) => split(w, h, i, channels),
        DynamicImage::ImageRgb16(i) => split(w, h, i, channels),
        DynamicImage::ImageRgba16(i) => split(w, h, i, channels),
        _ => return None,
    };
    Some(picture)
}

trait Sample: Copy + PartialEq {
    const BITS: u8;
    const MAX: Self;
    fn unit(self) -> f32;
}

impl Sample for u8 {
    const BITS: u8 = 8;
    const MAX: Self = u8::MAX;
    fn unit(self) -> f32 {
        f32::from(self) / 255.0
    }
}

impl Sample for u16 {
    const BITS: u8 = 16;
    const MAX: Self = u16::MAX;
    fn unit(self) -> f32 {
        f32::from(self) / 65535.0
    }
}

fn split<T: Sample + Sync>(width: usize, height: usize, samples: &[T], channels: usize) -> Picture {
    let pixels = || samples.chunks_exact(channels);
    let coloured = channels >= 3 && pixels().any(|p| p[0] != p[1] || p[1] != p[2]);
    let (luma, chroma) = if coloured {
        let [luma, cb, cr] = split_colour(width * height, samples, channels);
        (luma, Some(Chroma { cb, cr }))
    } else if channels == 1 {
        // A loop that the compiler vectorises.
        (samples.iter().map(|v| v.unit()).collect(), None)
    } else {
        (pixels().map(|p| p[0].unit()).collect(), None)
    };
    let has_alpha = channels.is_multiple_of(2) && pixels().any(|p| p[channels - 1] != T::MAX);
    Picture {
        width,
        height,
        luma,
        chroma,
        alpha: has_alpha.then(|| pixels().map(|p| p[channels - 1].unit()).collect()),
        bit_depth: T::BITS,
        oriented: false,
    }
}

/// Planes of Y, Cb and Cr of `count` pixels.
fn split_colour<T: Sample + Sync>(count: usize, samples: &[T], channels: usize) -> [Vec<f32>; 3] {
    let mut planes = [(); 3].map(|()| vec![0.0f32; count]);
    let targets = planes.each_mut().map(|plane| SendPtr::new(plane));
    for_ranges(count.div_ceil(PART), &|range| {
        let to = count.min(range.end * PART);
        for first in (range.start * PART..to).step_by(RUN) {
            let len = RUN.min(count - first);
            let mut run = [[0.0f32; RUN]; 3];
            let pixels = samples[first * channels..][..len * channels].chunks_exact(channels);
            for (i, p) in pixels.enumerate() {
                for (plane, v) in run.iter_mut().zip(p) {
                    plane[i] = v.unit();
                }
            }
            run_to_ycbcr(&mut run);
            for (run, target) in run.iter().zip(targets) {
                // SAFETY: pixels `first` to `first + len` of a plane, each run of which is taken once.
                unsafe { target.slice(first, len) }.copy_from_slice(&run[..len]);
            }
        }
    });
    planes
}
