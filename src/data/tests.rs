//! Pictures through files: formats, damaged files, orientation, colour.

use super::color::ycbcr_to_rgb;
use super::{Folders, PairDataset, Picture, WriteOptions, check_output_path};
use crate::Error;
use image::{DynamicImage, ImageFormat};
use std::io::Cursor;
use std::path::{Path, PathBuf};

const SUPPORTED: [ImageFormat; 4] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// A coloured gradient, busy enough that a cut in the file cuts pixels.
fn colours(w: u32, h: u32) -> DynamicImage {
    let pixel = |x, y| image::Rgb([(x * 37 + y) as u8, (y * 29) as u8, (x * y + 90) as u8]);
    image::RgbImage::from_fn(w, h, pixel).into()
}

fn file(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read(bytes: &[u8]) -> Picture {
    let dir = tempfile::tempdir().unwrap();
    Picture::read(file(&dir, "x", bytes)).unwrap()
}

/// Reads a file that must not be readable; gives the message.
fn refused(name: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let err = Picture::read(file(&dir, name, bytes)).unwrap_err();
    assert!(matches!(err, Error::Input { .. }), "{err:?}");
    let text = err.to_string();
    assert!(text.contains(name) && !text.contains('\n'), "{text}");
    text
}

fn close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tolerance, "{x} and {y}");
    }
}

#[test]
fn lossless_formats_keep_every_pixel_whatever_the_name() {
    let image = colours(13, 7);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff] {
        let dir = tempfile::tempdir().unwrap();
        let picture = Picture::read(file(&dir, "x.jpg", &encoded(&image, format))).unwrap();
        assert_eq!((picture.width, picture.height), (13, 7));
        assert_eq!((picture.bit_depth, picture.oriented), (8, false));
        let chroma = picture.chroma.as_ref().unwrap();
        for (i, p) in image.to_rgb8().pixels().enumerate() {
            let rgb = ycbcr_to_rgb([picture.luma[i], chroma.cb[i], chroma.cr[i]]);
            close(&rgb, &p.0.map(|v| f32::from(v) / 255.0), 1e-6);
        }
    }
}

#[test]
fn written_pictures_read_back_to_the_last_bit() {
    let dir = tempfile::tempdir().unwrap();
    let wide = image::ImageBuffer::from_fn(300, 240, |x, y| {
        image::Rgba([
            (x * 217) as u16,
            (y * 273) as u16,
            (x * y) as u16,
            (x * 3) as u16,
        ])
    });
    let wide = DynamicImage::ImageRgba16(wide);
    let sources = [
        DynamicImage::ImageRgb16(wide.to_rgb16()),
        DynamicImage::ImageLuma16(wide.to_luma16()),
        DynamicImage::ImageLumaA16(wide.to_luma_alpha16()),
        DynamicImage::ImageRgba8(wide.to_rgba8()),
        DynamicImage::ImageLumaA8(wide.to_luma_alpha8()),
        DynamicImage::ImageLuma8(wide.to_luma8()),
        wide,
    ];
    for source in sources {
        let first = read(&encoded(&source, ImageFormat::Png));
        assert_eq!(first.alpha.is_some(), source.color().has_alpha());
        assert_eq!(first.chroma.is_some(), source.color().has_color());
        let bytes = source.color().bytes_per_pixel() / source.color().channel_count();
        assert_eq!(first.bit_depth, bytes * 8);
        for name in ["x.png", "x.tif", "X.TIFF"] {
            let path = dir.path().join(name);
            first.write(&path, WriteOptions::default()).unwrap();
            let back = Picture::read(&path).unwrap();
            assert_eq!(back, first, "{name} {:?}", source.color());
            let options = WriteOptions {
                bits: Some(8),
                ..WriteOptions::default()
            };
            first.write(&path, options).unwrap();
            let back = Picture::read(&path).unwrap();
            assert_eq!(back.bit_depth, 8);
            close(&back.luma, &first.luma, 0.5 / 255.0 + 1e-6);
        }
    }
}

#[test]
fn sixteen_bits_are_exact() {
    let image = image::ImageBuffer::from_fn(256, 256, |x, y| image::Luma([(y * 256 + x) as u16]));
    let picture = read(&encoded(
        &DynamicImage::ImageLuma16(image),
        ImageFormat::Png,
    ));
    for (i, &v) in picture.luma.iter().enumerate() {
        assert_eq!((v * 65535.0).round() as usize, i);
    }
    close(&picture.luma[..2], &[0.0, 1.0 / 65535.0], 0.0);
}

#[test]
fn jpeg_is_close_and_drops_alpha() {
    let dir = tempfile::tempdir().unwrap();
    let n = 64 * 48;
    let luma: Vec<f32> = (0..n).map(|i| (i % 64) as f32 / 64.0).collect();
    let mut picture = Picture::from_luma(64, 48, luma.clone()).unwrap();
    picture.alpha = Some(vec![0.5; n]);
    picture.bit_depth = 16;
    let path = dir.path().join("x.jpeg");
    picture.write(&path, WriteOptions::default()).unwrap();
    let back = Picture::read(&path).unwrap();
    assert_eq!((back.alpha, back.chroma, back.bit_depth), (None, None, 8));
    close(&back.luma, &luma, 3.0 / 255.0);
    let size = |quality| {
        let options = WriteOptions {
            quality,
            bits: None,
        };
        picture.write(&path, options).unwrap();
        std::fs::metadata(&path).unwrap().len()
    };
    assert!(size(20) < size(100));
}

#[test]
fn grey_stored_as_colour_is_grey_and_opaque_alpha_is_none() {
    let image = image::RgbaImage::from_fn(5, 4, |x, y| image::Rgba([(x * y) as u8; 4]));
    let mut opaque = image.clone();
    opaque.pixels_mut().for_each(|p| p.0[3] = 255);
    let (some, none) = (DynamicImage::from(image), DynamicImage::from(opaque));
    assert!(read(&encoded(&some, ImageFormat::Png)).alpha.is_some());
    let picture = read(&encoded(&none, ImageFormat::Png));
    assert_eq!((picture.chroma, picture.alpha), (None, None));
    assert_eq!(picture.luma[6], 1.0 / 255.0);
}

#[test]
fn palettes_and_one_bit_pictures_are_expanded() {
    // 2x1, two colours; the BMP is written by hand as the encoder has no palettes.
    let mut bmp = b"BM".to_vec();
    let pixels_at = 14 + 40 + 8;
    for v in [
        pixels_at + 4,
        0,
        pixels_at,
        40,
        2,
        1,
        1 | 8 << 16,
        0,
        4,
        0,
        0,
        2,
        0,
    ] {
        bmp.extend(u32::to_le_bytes(v));
    }
    bmp.extend([0, 0, 255, 0, 255, 0, 0, 0]); // red, blue (as BGR0)
    bmp.extend([0, 1, 0, 0]);
    let picture = read(&bmp);
    close(&picture.luma, &[0.299, 0.114], 1e-6);
    assert!(picture.chroma.is_some());
}

#[test]
fn single_rows_columns_and_pixels_pass() {
    let dir = tempfile::tempdir().unwrap();
    for (w, h) in [(1, 1), (1, 9), (9, 1)] {
        for format in SUPPORTED {
            let picture = read(&encoded(&colours(w, h), format));
            assert_eq!((picture.width, picture.height), (w as usize, h as usize));
            for name in ["x.png", "x.jpg", "x.tif"] {
                let path = dir.path().join(name);
                picture.write(&path, WriteOptions::default()).unwrap();
                assert_eq!(Picture::read(&path).unwrap().luma.len(), picture.luma.len());
            }
        }
    }
}

/// A JPEG that asks for `orientation` in an APP1 segment behind the start marker.
fn oriented_jpeg(image: &DynamicImage, orientation: u8) -> Vec<u8> {
    let jpeg = encoded(image, ImageFormat::Jpeg);
    let mut out = jpeg[..2].to_vec();
    let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    out.extend([0xFF, 0xE1]);
    out.extend((exif.len() as u16 + 2).to_be_bytes());
    out.extend(exif);
    out.extend(&jpeg[2..]);
    out
}

#[test]
fn orientation_is_applied_and_remembered() {
    // Dark at the left, bright at the right, 16x8.
    let image = image::GrayImage::from_fn(16, 8, |x, _| image::Luma([if x < 8 { 0 } else { 255 }]));
    let image = DynamicImage::from(image);
    let plain = read(&oriented_jpeg(&image, 1));
    assert!(!plain.oriented && plain.width == 16 && plain.luma[0] < 0.1);
    let mirrored = read(&oriented_jpeg(&image, 2));
    assert!(mirrored.oriented && mirrored.luma[0] > 0.9 && mirrored.luma[15] < 0.1);
    // 6: turn by 90 degrees clockwise, so left becomes top.
    let turned = read(&oriented_jpeg(&image, 6));
    assert_eq!(
        (turned.oriented, turned.width, turned.height),
        (true, 8, 16)
    );
    assert!(turned.luma[0] < 0.1 && turned.luma[8 * 15] > 0.9);
    // Written files are upright and do not ask again.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.jpg");
    turned.write(&path, WriteOptions::default()).unwrap();
    let back = Picture::read(&path).unwrap();
    assert_eq!((back.oriented, back.width), (false, 8));
    assert!(!read(&oriented_jpeg(&image, 99)).oriented);
}

#[test]
fn the_header_tells_the_upright_size() {
    let image = colours(16, 8);
    let dir = tempfile::tempdir().unwrap();
    let size = |bytes: &[u8]| Picture::size(file(&dir, "x", bytes)).unwrap();
    for format in SUPPORTED {
        assert_eq!(size(&encoded(&image, format)), (16, 8));
    }
    for orientation in 1..=8 {
        let bytes = oriented_jpeg(&image, orientation);
        let picture = read(&bytes);
        assert_eq!(size(&bytes), (picture.width, picture.height));
    }
    assert!(Picture::size(file(&dir, "x", b"no picture")).is_err());
}

#[test]
fn what_is_not_a_picture_is_said_in_one_line() {
    assert!(refused("empty.png", b"").contains("empty (0 bytes)"));
    assert!(refused("text.png", b"hello, I am a text").contains("not PNG, JPEG, BMP or TIFF"));
    assert!(refused("moving.png", b"GIF89a").contains("Gif"));
    refused("bm.bmp", b"BMW is a car");
    refused("short.png", b"\x89PNG\r\n\x1a\n");
    let dir = tempfile::tempdir().unwrap();
    let missing = Picture::read(dir.path().join("no.png")).unwrap_err();
    assert!(missing.to_string().contains("no such file"), "{missing}");
    let folder = Picture::read(dir.path()).unwrap_err();
    assert!(folder.to_string().contains("is a folder"), "{folder}");
}

#[test]
fn cut_files_are_refused_at_every_length() {
    for format in SUPPORTED {
        let whole = encoded(&colours(40, 30), format);
        read(&whole);
        // PNG: pixels are whole before the checksums and the end chunk, TIFF: before the directory.
        let last = if format == ImageFormat::Png {
            whole.len() - 20
        } else {
            whole.len() - 1
        };
        for len in (16..last).step_by(61).chain([last]) {
            let text = refused("cut.img", &whole[..len]);
            assert!(text.contains("save it"), "{format:?} {len}: {text}");
        }
    }
}

#[test]
fn an_exif_thumbnail_does_not_stand_for_the_end_of_a_jpeg() {
    let thumbnail = encoded(&colours(4, 4), ImageFormat::Jpeg);
    let jpeg = encoded(&colours(40, 30), ImageFormat::Jpeg);
    let mut with = jpeg[..2].to_vec();
    with.extend([0xFF, 0xE1]);
    with.extend((thumbnail.len() as u16 + 2).to_be_bytes());
    with.extend(thumbnail);
    with.extend(&jpeg[2..]);
    assert_eq!(read(&with), read(&jpeg));
    assert!(refused("cut.jpg", &with[..with.len() - 2]).contains("no end marker"));
}

#[test]
fn forged_headers_cost_no_memory() {
    let mut png = encoded(&colours(4, 4), ImageFormat::Png);
    let mut bmp = encoded(&colours(4, 4), ImageFormat::Bmp);
    for (side, sign) in [(60_000u32, "3600 megapixels"), (15_000, "has only")] {
        png[16..24].copy_from_slice(&[side.to_be_bytes(), side.to_be_bytes()].concat());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        bmp[18..26].copy_from_slice(&[side.to_le_bytes(), side.to_le_bytes()].concat());
        for bytes in [&png, &bmp] {
            let text = refused("forged.img", bytes);
            assert!(text.contains(sign), "{text}");
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| {
            (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg())
        })
    })
}

#[test]
fn damaged_bytes_never_panic() {
    let mut state = 1u64;
    let mut next = |n: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    for format in SUPPORTED {
        let whole = encoded(&colours(20, 15), format);
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..=next(4) {
                // Headers are where it hurts.
                let at = if next(2) == 0 {
                    next(bytes.len())
                } else {
                    next(80)
                };
                bytes[at] = next(256) as u8;
            }
            if let Err(e) = super::decode::decode(bytes) {
                assert!(!e.contains('\n'), "{e}");
            }
        }
    }
}

#[test]
fn float_pictures_are_refused_with_the_way_out() {
    let image = DynamicImage::ImageRgb32F(image::ImageBuffer::new(3, 3));
    let text = refused("float.tif", &encoded(&image, ImageFormat::Tiff));
    assert!(
        text.contains("float samples") && text.contains("16 bit"),
        "{text}"
    );
}

#[test]
fn output_names_and_options_are_checked_first() {
    for good in ["a.png", "a.JPG", "a.jpeg", "a.tif", "b/a.Tiff"] {
        check_output_path(Path::new(good)).unwrap();
    }
    for bad in ["a.gif", "a", "a.bmp", ".png"] {
        let err = check_output_path(Path::new(bad)).unwrap_err();
        assert!(matches!(err, Error::Config { .. }));
        assert!(err.to_string().contains(".jpeg, .tif"), "{err}");
    }
    let check = |quality, bits, name| WriteOptions { quality, bits }.check(Path::new(name));
    assert!(check(95, Some(16), "a.png").is_ok());
    assert!(check(95, Some(16), "a.jpg").is_err());
    assert!(check(95, Some(12), "a.png").is_err());
    assert!(check(0, None, "a.jpg").is_err() && check(101, None, "a.jpg").is_err());
}

#[test]
fn writing_refuses_what_would_be_wrong_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.png");
    let nan = Picture::from_luma(2, 2, vec![0.0, 0.0, 0.0, f32::NAN]).unwrap();
    let err = nan
        .write(&path, WriteOptions::default())
        .unwrap_err()
        .to_string();
    assert!(err.contains("row 1, column 1 is NaN"), "{err}");
    let long = Picture::from_luma(65_536, 1, vec![0.0; 65_536]).unwrap();
    let err = long
        .write(dir.path().join("x.jpg"), WriteOptions::default())
        .unwrap_err();
    assert!(err.to_string().contains("65535"), "{err}");
    let gone = dir.path().join("no/x.png");
    assert!(matches!(
        long.write(&gone, WriteOptions::default()),
        Err(Error::Output { .. })
    ));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(Picture::from_luma(2, 2, vec![0.0; 3]).is_err());
    assert!(Picture::from_luma(0, 2, vec![]).is_err());
    assert!(Picture::with_chroma_of(vec![0.0; 3], &nan).is_err());
}

#[test]
fn a_fused_picture_has_its_own_luma_and_the_chroma_of_the_source() {
    let colour = read(&encoded(&colours(12, 9), ImageFormat::Png));
    let fused: Vec<f32> = (0..108).map(|i| i as f32 / 107.0).collect();
    let picture = Picture::with_chroma_of(fused.clone(), &colour).unwrap();
    assert_eq!(picture.chroma, colour.chroma);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.png");
    let options = WriteOptions {
        bits: Some(16),
        ..WriteOptions::default()
    };
    picture.write(&path, options).unwrap();
    // Luma survives also where the chroma had to give way.
    close(&Picture::read(&path).unwrap().luma, &fused, 2e-5);
}

#[test]
fn a_dataset_loads_pairs_and_names_what_does_not_fit() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let png = |w, h| encoded(&colours(w, h), ImageFormat::Png);
    file(&a, "2_ir.png", &png(12, 9));
    file(&b, "2_vi.png", &png(12, 9));
    file(&a, "10.png", &png(8, 8));
    file(&b, "10.bmp", &encoded(&colours(8, 8), ImageFormat::Bmp));
    file(&b, "spare.png", &png(8, 8));
    let (dir_a, dir_b) = (Folders::from(a.path()), Folders::from(b.path()));
    let load = |patch| PairDataset::load(&dir_a, &dir_b, &[], patch);
    let data = load(8).unwrap();
    let names: Vec<&str> = data.scenes().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["2", "10"]);
    assert!(
        data.scenes()
            .all(|s| s.a == s.b && s.a.len() == s.width * s.height)
    );
    assert!(data.unmatched()[0].ends_with("spare.png"));
    let text = load(9).unwrap_err().to_string();
    assert!(
        text.contains("10.png") && text.contains("8x8") && text.contains("9x9"),
        "{text}"
    );
    file(&a, "spare.png", &png(8, 7));
    let text = load(4).unwrap_err().to_string();
    assert!(
        text.contains("spare") && text.contains("8x7") && text.contains("8x8"),
        "{text}"
    );
    file(&a, "spare.png", b"");
    assert!(load(4).unwrap_err().to_string().contains("0 bytes"));
}
