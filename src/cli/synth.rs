//! `hafuse synth`: draws registered pairs to try things on.

use crate::synth::{MAX_SIDE, MIN_SIDE, Scene, SynthPair, render};
use crate::tensor::io::write_atomic;
use crate::{Error, Result};
use clap::ValueEnum;
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Draw registered image pairs of made-up scenes, to try training and fusion without a data set
///
/// Both images of a pair are drawn from one description of the scene, so they are aligned pixel for
/// pixel. What is written, for `hafuse synth data --scene street --count 2`:
///
///   data/ir/street_0001.png  data/vi/street_0001.png
///   data/ir/street_0002.png  data/vi/street_0002.png
///
/// `--scene brain` writes data/mri and data/pet instead. Files of the same name are replaced.
///
/// The scenes of a street differ in hour and weather: with one seed and size it is the same street.
/// `hafuse eval data/ir data/vi --model ivif --gates --sets` judges each scene by itself.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct SynthArgs {
    /// Folder to write into; it and one folder per sensor are made if they are missing
    pub out_dir: PathBuf,
    /// What to draw
    #[arg(long, value_enum, default_value_t = SceneArg::Street)]
    pub scene: SceneArg,
    /// How many pairs to draw
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Seed of the first pair, each further pair takes the next one; same seed and size, same pixels
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Width and height in pixels, e.g. 480x360; both sides at least 8
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = parse_size)]
    pub size: (u32, u32),
}

/// A scene as a command line value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SceneArg {
    /// A street in the evening: infrared in ir/ (grey), visible light in vi/ (colour)
    Street,
    /// The same by day: sun and shadows, bright sky, warm road
    StreetDay,
    /// The same at dusk: pale sky, first lamps
    StreetDusk,
    /// The same at night: dim walls, glowing lamps, a dark infrared with bright people
    StreetNight,
    /// The same in fog: low contrast
    StreetFog,
    /// A slice through a head: MRI in mri/ (grey), PET in pet/ (colour)
    Brain,
}

impl From<SceneArg> for Scene {
    fn from(arg: SceneArg) -> Self {
        match arg {
            SceneArg::Street => Scene::Street,
            SceneArg::StreetDay => Scene::StreetDay,
            SceneArg::StreetDusk => Scene::StreetDusk,
            SceneArg::StreetNight => Scene::StreetNight,
            SceneArg::StreetFog => Scene::StreetFog,
            SceneArg::Brain => Scene::Brain,
        }
    }
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let wrong = || {
        format!(
            "must be WIDTHxHEIGHT with both sides {MIN_SIDE} to {MAX_SIDE}, for example 640x480"
        )
    };
    let (w, h) = text.split_once(['x', 'X']).ok_or_else(wrong)?;
    let side = |s: &str| {
        let n: u32 = s.trim().parse().ok()?;
        (MIN_SIDE..=MAX_SIDE).contains(&n).then_some(n)
    };
    side(w).zip(side(h)).ok_or_else(wrong)
}

/// Draws and writes the pairs.
///
/// # Errors
/// [`Error::Config`] for an impossible size or a seed too near the end of its range,
/// [`Error::Output`] where a folder or file cannot be written.
pub fn run(args: &SynthArgs) -> Result<()> {
    let scene = Scene::from(args.scene);
    let (width, height) = args.size;
    let last = args
        .seed
        .checked_add(u64::from(args.count.saturating_sub(1)));
    if last.is_none() {
        return Err(Error::config(
            "--seed",
            format!(
                "{} plus --count {} passes the largest seed",
                args.seed, args.count
            ),
        ));
    }
    let [dir_a, dir_b] = scene.sensors().map(|s| args.out_dir.join(s));
    for dir in [&dir_a, &dir_b] {
        std::fs::create_dir_all(dir).map_err(|e| Error::output(dir, e))?;
    }
    let bar = if std::io::stderr().is_terminal() {
        indicatif::ProgressBar::new(u64::from(args.count)).with_message("pairs")
    } else {
        indicatif::ProgressBar::hidden()
    };
    for i in 0..args.count {
        let pair = render(scene, args.seed + u64::from(i), width, height)?;
        let name = format!("{}_{:04}.png", scene.name(), i + 1);
        write_pair(&pair, &dir_a.join(&name), &dir_b.join(&name))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

fn write_pair(pair: &SynthPair, a: &Path, b: &Path) -> Result<()> {
    let (w, h) = pair.a.dimensions();
    write_png(a, pair.a.as_raw(), w, h, image::ExtendedColorType::L8)?;
    write_png(b, pair.b.as_raw(), w, h, image::ExtendedColorType::Rgb8)
}

fn write_png(
    path: &Path,
    data: &[u8],
    w: u32,
    h: u32,
    kind: image::ExtendedColorType,
) -> Result<()> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive)
        .write_image(data, w, h, kind)
        .map_err(|e| Error::output(path, e))?;
    write_atomic(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_wrong_ones_explained() {
        assert_eq!(parse_size("480x360"), Ok((480, 360)));
        assert_eq!(parse_size("8X9"), Ok((8, 9)));
        for wrong in ["", "640", "7x8", "640x", "ax9", "-9x9", "8x99999"] {
            assert!(
                parse_size(wrong).unwrap_err().contains("640x480"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn scenes_have_one_name_here_and_in_file_names() {
        for arg in SceneArg::value_variants() {
            let value = arg.to_possible_value().unwrap();
            assert_eq!(value.get_name(), Scene::from(*arg).name());
        }
    }

    #[test]
    fn pairs_land_under_one_name_and_follow_their_own_seeds() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = SynthArgs {
            out_dir: dir.path().join("new"),
            scene: SceneArg::Brain,
            count: 2,
            seed: 3,
            size: (24, 16),
        };
        run(&args).unwrap();
        let second = render(Scene::Brain, 4, 24, 16).unwrap();
        let mri = image::open(args.out_dir.join("mri/brain_0002.png")).unwrap();
        let pet = image::open(args.out_dir.join("pet/brain_0002.png")).unwrap();
        assert_eq!(mri.into_luma8(), second.a);
        assert_eq!(pet.into_rgb8(), second.b);
        args.seed = u64::MAX;
        assert!(matches!(run(&args), Err(Error::Config { .. })));
        args.seed = 1;
        args.out_dir = dir.path().join("new/mri/brain_0001.png");
        assert!(matches!(run(&args), Err(Error::Output { .. })));
    }
}
