//! The decoded picture: luma, chroma and alpha planes of unit floats.

use super::color::{PART, RUN, run_to_gamut, run_to_levels};
use super::decode;
use crate::device::cpu::for_chunks;
use crate::tensor::io::write_atomic;
use crate::{Error, Result};
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, tiff::TiffEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageResult};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

/// Files longer than this are refused: more than the largest picture takes without compression.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Cb and Cr planes, row-major, in \[-0.5, 0.5\] with 0 meaning grey.
#[derive(Clone, Debug, PartialEq)]
pub struct Chroma {
    /// Difference of blue from luma, `height * width` values.
    pub cb: Vec<f32>,
    /// Difference of red from luma, `height * width` values.
    pub cr: Vec<f32>,
}

/// A decoded picture; all planes are row-major with `width * height` values.
///
/// Colour is held as full-range BT.601 YCbCr, as JPEG has it. Embedded colour
/// profiles and gamma values are not applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Y in \[0, 1\] (0 black, 1 white).
    pub luma: Vec<f32>,
    /// `None` for a grey picture, also for one stored as RGB with R = G = B everywhere.
    pub chroma: Option<Chroma>,
    /// Opacity in \[0, 1\]; `None` if every pixel is opaque.
    pub alpha: Option<Vec<f32>>,
    /// Bits per channel of the file that it came from: 8 or 16.
    pub bit_depth: u8,
    /// Whether the file asked (by its EXIF or TIFF orientation) to be turned or mirrored; the
    /// planes are upright already and files are written without such a request.
    pub oriented: bool,
}

/// How to write a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// JPEG quality, 1 to 100; the other formats are lossless.
    pub quality: u8,
    /// Bits per channel, 8 or 16; `None` takes the picture's own (JPEG: always 8).
    pub bits: Option<u8>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            quality: 95,
            bits: None,
        }
    }
}

/// Formats that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// PNG, lossless.
    Png,
    /// JPEG, lossy.
    Jpeg,
    /// TIFF, lossless.
    Tiff,
}

impl Format {
    /// The usual one of a file name.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpg",
            Format::Tiff => "tif",
        }
    }
}

fn output_format(path: &Path) -> Result<Format> {
    let ext = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    match ext.as_deref() {
        Some("png") => Ok(Format::Png),
        Some("jpg" | "jpeg") => Ok(Format::Jpeg),
        Some("tif" | "tiff") => Ok(Format::Tiff),
        other => Err(Error::config(
            format!("output {}", path.display()),
            format!(
                "{} is not a format that can be written; use .png, .jpg, .jpeg, .tif or .tiff",
                other.map_or("a name without extension".into(), |e| format!(".{e}"))
            ),
        )),
    }
}

/// Checks, before anything is computed, that a picture can be written under this name.
///
/// # Errors
/// [`Error::Config`] that names the supported extensions.
pub(crate) fn check_output_path(path: &Path) -> Result<()> {
    output_format(path).map(|_| ())
}

impl WriteOptions {
    /// That the name is of a format that can be written, and that these options fit it.
    ///
    /// # Errors
    /// [`Error::Config`] that names the option and its range.
    pub fn check(self, path: &Path) -> Result<()> {
        let format = output_format(path)?;
        if !(1..=100).contains(&self.quality) {
            return Err(Error::config(
                "JPEG quality",
                format!("{} is out of range; give 1 to 100", self.quality),
            ));
        }
        match self.bits {
            None | Some(8) => Ok(()),
            Some(16) if format != Format::Jpeg => Ok(()),
            Some(16) => Err(Error::config(
                format!("output {}", path.display()),
                "JPEG holds 8 bits per channel, 16 were asked for; use .png or .tif",
            )),
            Some(n) => Err(Error::config(
                "bits per channel",
                format!("{n} is not supported; give 8 or 16"),
            )),
        }
    }
}

impl Picture {
    /// Reads a PNG, JPEG, BMP or TIFF file (8 or 16 bit), the format taken from its content.
    ///
    /// Palettes are expanded and the orientation that the file asks for is applied. Of an animated
    /// or multi-page file the first picture is read.
    ///
    /// # Errors
    /// [`Error::Input`] if the file is missing, empty, cut short, not a picture, of float samples
    /// or larger than 400 megapixels.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_bytes(path)?;
        decode::decode(bytes).map_err(|detail| Error::input(path, detail))
    }

    /// Width and height of the picture in a file, upright as [`Picture::read`] gives it, by its header alone.
    ///
    /// # Errors
    /// As [`Picture::read`], but damage behind the header is not seen.
    pub fn size(path: impl AsRef<Path>) -> Result<(usize, usize)> {
        let path = path.as_ref();
        let file = BufReader::new(open_file(path)?);
        decode::size(file).map_err(|detail| Error::input(path, detail))
    }

    /// A grey 8-bit picture.
    ///
    /// # Errors
    /// [`Error::Shape`] if `luma` does not hold `width * height` values.
    pub fn from_luma(width: usize, height: usize, luma: Vec<f32>) -> Result<Self> {
        let picture = Self {
            width,
            height,
            luma,
            chroma: None,
            alpha: None,
            bit_depth: 8,
            oriented: false,
        };
        picture.check_planes()?;
        Ok(picture)
    }

    /// The fused picture: `fused_luma` as Y; chroma, alpha and bit depth of `colour`.
    ///
    /// The chroma is kept as it is; where it does not fit the new Y, writing scales it toward grey
    /// so that Y and hue stay.
    ///
    /// # Errors
    /// [`Error::Shape`] if `fused_luma` does not have as many values as `colour` has pixels.
    pub fn with_chroma_of(fused_luma: Vec<f32>, colour: &Picture) -> Result<Self> {
        let picture = Self {
            width: colour.width,
            height: colour.height,
            luma: fused_luma,
            chroma: colour.chroma.clone(),
            alpha: colour.alpha.clone(),
            bit_depth: colour.bit_depth,
            oriented: colour.oriented,
        };
        picture.check_planes()?;
        Ok(picture)
    }

    /// [`Picture::with_chroma_of`] a picture that is not needed any more.
    ///
    /// # Errors
    /// [`Error::Shape`] if `fused_luma` does not have as many values as it has pixels.
    pub fn with_luma(mut self, fused_luma: Vec<f32>) -> Result<Self> {
        self.luma = fused_luma;
        self.check_planes()?;
        Ok(self)
    }

    /// Whether a fusion of two pictures takes its colour from the first: it is coloured and the second is grey.
    pub fn colour_is_of_first(a: &Picture, b: &Picture) -> bool {
        a.chroma.is_some() && b.chroma.is_none()
    }

    /// [`Picture::with_chroma_of`] that one of both sources which [gives the colour](Picture::colour_is_of_first), in the bit depth of the deeper one.
    ///
    /// # Errors
    /// [`Error::Shape`] if `fused_luma` does not have as many values as that one has pixels.
    pub fn with_chroma_of_either(fused_luma: Vec<f32>, a: &Picture, b: &Picture) -> Result<Self> {
        let colour = match Self::colour_is_of_first(a, b) {
            true => a,
            false => b,
        };
        let mut fused = Self::with_chroma_of(fused_luma, colour)?;
        fused.bit_depth = a.bit_depth.max(b.bit_depth);
        Ok(fused)
    }

    /// [`Picture::write`] with the default options.
    ///
    /// # Errors
    /// As there.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(path, WriteOptions::default())
    }

    /// Writes the picture in the format that the extension names; `path` holds either its old
    /// content or the whole new file.
    ///
    /// Values are clamped to \[0, 1\] and rounded to nearest. JPEG has no alpha: it is left out
    /// there. Grey with alpha becomes RGBA in TIFF.
    ///
    /// # Errors
    /// [`Error::Config`] as from [`WriteOptions::check`]; [`Error::Output`] if the file cannot be
    /// written or a value is NaN or infinite.
    pub fn write(&self, path: impl AsRef<Path>, options: WriteOptions) -> Result<()> {
        let path = path.as_ref();
        options.check(path)?;
        self.check_planes()?;
        self.check_finite(path)?;
        let bytes = self
            .encode(output_format(path)?, options)
            .map_err(|e| Error::output(path, one_line(&e)))?;
        write_atomic(path, &bytes)
    }

    /// The bytes of a PNG file, in the picture's own bit depth.
    ///
    /// # Errors
    /// [`Error::Shape`] if a plane has another size; [`Error::Internal`] if it cannot be encoded.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        self.check_planes()?;
        self.encode(Format::Png, WriteOptions::default())
            .map_err(|e| Error::Internal(format!("PNG: {}", one_line(&e))))
    }

    fn encode(&self, format: Format, options: WriteOptions) -> ImageResult<Vec<u8>> {
        let alpha = self.alpha.as_deref().filter(|_| format != Format::Jpeg);
        let colour = self.chroma.is_some() || (alpha.is_some() && format == Format::Tiff);
        let wide = format != Format::Jpeg && options.bits.unwrap_or(self.bit_depth) == 16;
        let (wide_samples, narrow_samples);
        let (samples, kind): (&[u8], _) = if wide {
            wide_samples = self.interleave(colour, alpha, 65535.0, |v| v as u16);
            let kind = match (colour, alpha.is_some()) {
                (false, false) => ExtendedColorType::L16,
                (false, true) => ExtendedColorType::La16,
                (true, false) => ExtendedColorType::Rgb16,
                (true, true) => ExtendedColorType::Rgba16,
            };
            // The encoders take samples of any width as bytes in native order.
            (bytemuck::cast_slice(&wide_samples), kind)
        } else {
            narrow_samples = self.interleave(colour, alpha, 255.0, |v| v as u8);
            let kind = match (colour, alpha.is_some()) {
                (false, false) => ExtendedColorType::L8,
                (false, true) => ExtendedColorType::La8,
                (true, false) => ExtendedColorType::Rgb8,
                (true, true) => ExtendedColorType::Rgba8,
            };
            (&narrow_samples, kind)
        };
        let too_large = |e| ImageError::IoError(std::io::Error::other(e));
        let side = |n: usize| {
            u32::try_from(n)
                .map_err(|_| too_large(format!("a side of {n} pixels is too long; tile it")))
        };
        let (w, h) = (side(self.width)?, side(self.height)?);
        if format == Format::Jpeg && w.max(h) > 65535 {
            return Err(too_large(format!(
                "{w}x{h} is too large, a JPEG has at most 65535 pixels a side; use .png or .tif"
            )));
        }
        let mut out = Cursor::new(Vec::new());
        match format {
            Format::Png => PngEncoder::new(&mut out).write_image(samples, w, h, kind),
            Format::Tiff => TiffEncoder::new(&mut out).write_image(samples, w, h, kind),
            Format::Jpeg => JpegEncoder::new_with_quality(&mut out, options.quality)
                .write_image(samples, w, h, kind),
        }?;
        Ok(out.into_inner())
    }

    /// Samples of all pixels side by side, from 0 to `max`; `cast` takes whole numbers in that range.
    fn interleave<T: Clone + Default + Send>(
        &self,
        colour: bool,
        alpha: Option<&[f32]>,
        max: f32,
        cast: impl Fn(f32) -> T + Sync + Send,
    ) -> Vec<T> {
        let channels = if colour { 3 } else { 1 } + usize::from(alpha.is_some());
        let mut out = vec![T::default(); self.luma.len() * channels];
        let run = |first: usize, out: &mut [T]| {
            let len = out.len() / channels;
            let copy = |plane: &[f32]| {
                let mut run = [0.0f32; RUN];
                run[..len].copy_from_slice(&plane[first..first + len]);
                run
            };
            let mut put = |channel: usize, mut run: [f32; RUN]| {
                run_to_levels(&mut run, max);
                for (pixel, &v) in out.chunks_exact_mut(channels).zip(&run) {
                    pixel[channel] = cast(v);
                }
            };
            let mut planes = [copy(&self.luma); 3];
            if let Some(c) = &self.chroma {
                planes[1..].copy_from_slice(&[copy(&c.cb), copy(&c.cr)]);
                run_to_gamut(&mut planes);
            }
            for (channel, run) in planes
                .into_iter()
                .take(if colour { 3 } else { 1 })
                .enumerate()
            {
                put(channel, run);
            }
            if let Some(alpha) = alpha {
                put(channels - 1, copy(alpha));
            }
        };
        for_chunks(&mut out, PART * channels, |i, out| {
            for (j, out) in out.chunks_mut(RUN * channels).enumerate() {
                run(i * PART + j * RUN, out);
            }
        });
        out
    }

    fn planes(&self) -> impl Iterator<Item = &[f32]> {
        let chroma = self.chroma.iter().flat_map(|c| [&c.cb[..], &c.cr[..]]);
        std::iter::once(&self.luma[..])
            .chain(chroma)
            .chain(self.alpha.as_deref())
    }

    fn check_planes(&self) -> Result<()> {
        let (w, h) = (self.width, self.height);
        let found = self.planes().map(<[f32]>::len);
        match (
            w.checked_mul(h),
            { found }.find(|&n| Some(n) != w.checked_mul(h)),
        ) {
            (Some(1..), None) => Ok(()),
            (_, found) => Err(Error::shape(
                "picture",
                format!(
                    "{w}x{h} pixels but a plane holds {} values",
                    found.unwrap_or(0)
                ),
            )),
        }
    }

    /// A NaN would be stored as black without a word.
    fn check_finite(&self, path: &Path) -> Result<()> {
        for plane in self.planes() {
            if let Some(i) = plane.iter().position(|v| !v.is_finite()) {
                return Err(Error::output(
                    path,
                    format!(
                        "pixel at row {}, column {} is {}; check the weights and the sources",
                        i / self.width,
                        i % self.width,
                        plane[i]
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Decoder and encoder messages may have several lines; ours have one.
pub(super) fn one_line(e: &dyn std::fmt::Display) -> String {
    let text = e.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn open_file(path: &Path) -> Result<File> {
    let fail = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::input(path, "no such file; check the path"),
        _ => Error::input(path, e),
    };
    let file = File::open(path).map_err(fail)?;
    match file.metadata().map_err(fail)?.is_dir() {
        true => Err(Error::input(path, "is a folder; name a picture in it")),
        false => Ok(file),
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let file = open_file(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::input(path, e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::input(
            path,
            "is longer than 4 GiB; tile or downscale the picture",
        ));
    }
    Ok(bytes)
}
