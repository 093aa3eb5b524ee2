//! What training and search share: a run in a folder, its data and its checkpoint.

use super::terminal;
use crate::data::PairDataset;
use crate::loss::FeatureNet;
use crate::train::{Checkpoint, DataConfig, Perceptual, Position};
use crate::{Error, Result};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// [`Perceptual`] as a command line value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PerceptualArg {
    /// From the feature network that --features names
    Vgg,
    /// No perceptual term, equal weights
    None,
}

impl From<PerceptualArg> for Perceptual {
    fn from(arg: PerceptualArg) -> Self {
        match arg {
            PerceptualArg::Vgg => Perceptual::Vgg,
            PerceptualArg::None => Perceptual::None,
        }
    }
}

/// A configuration file that was named is there.
pub fn check_exists(path: Option<&Path>, command: &str) -> Result<()> {
    match path.filter(|p| !p.exists()) {
        Some(path) => Err(Error::input(
            path,
            format!(
                "no such configuration; `hafuse {command} --print-config` prints one to begin with"
            ),
        )),
        None => Ok(()),
    }
}

/// Overwrites keys by the options that were given.
pub fn set_paths<const N: usize>(paths: [(&mut PathBuf, &Option<PathBuf>); N]) -> Result<()> {
    for (key, given) in paths {
        if let Some(path) = given {
            if path.to_str().is_none() {
                return Err(Error::config(
                    "configuration",
                    format!(
                        "{} is not UTF-8, so config.toml cannot hold it; rename it",
                        path.display()
                    ),
                ));
            }
            key.clone_from(path);
        }
    }
    Ok(())
}

/// Folders and, if it is needed, a feature network are named.
pub fn check_named(
    data: &DataConfig,
    out: &Path,
    perceptual: Perceptual,
    features: &Path,
) -> Result<()> {
    let folders = [
        ("data.a", "--a", data.a.as_path()),
        ("data.b", "--b", &data.b),
        ("out", "--out", out),
    ];
    for (key, option, path) in folders {
        if path.as_os_str().is_empty() {
            return Err(Error::config(
                key,
                format!("names no folder; set it in the configuration or give {option} DIR"),
            ));
        }
    }
    if perceptual == Perceptual::Vgg && features.as_os_str().is_empty() {
        return Err(Error::config(
            "features",
            "perceptual = \"vgg\" needs a feature network; give --features FILE (a VGG-16 or \
             VGG-19 as safetensors), or say --perceptual none",
        ));
    }
    Ok(())
}

/// The feature network, if the configuration wants one.
pub fn open_features(perceptual: Perceptual, path: &Path) -> Result<Option<FeatureNet>> {
    if perceptual == Perceptual::None {
        return Ok(None);
    }
    if !path.exists() {
        return Err(Error::input(
            path,
            "no such feature network; give --features FILE (a VGG-16 or VGG-19 as safetensors), \
             or say --perceptual none",
        ));
    }
    FeatureNet::load(path).map(Some)
}

/// All pairs of the two folders; what has no partner is named in a line.
pub fn load_pairs(data: &DataConfig, patch: usize) -> Result<PairDataset> {
    let pairs = PairDataset::load(&data.a, &data.b, patch)?;
    let alone = pairs.unmatched().iter();
    let names: Vec<String> = alone.map(|p| p.display().to_string()).collect();
    if !names.is_empty() {
        terminal::say(&format!(
            "warning: no partner for {} pictures: {}",
            names.len(),
            terminal::few(&names)
        ));
    }
    Ok(pairs)
}

/// The checkpoint in `out` to go on from, made under the configuration `ours`; refuses to overwrite a
/// run that nobody asked to resume, or one that ended with the file `finished`.
pub fn open_checkpoint<P: Position>(
    resume: bool,
    out: &Path,
    ours: &str,
    finished: &str,
) -> Result<Option<Checkpoint<P>>> {
    let path = out.join("checkpoint.safetensors");
    let folder = out.display();
    match (resume, path.exists()) {
        (false, false) => {
            // A run killed before its first checkpoint may start over; nothing else is overwritten.
            let text = std::fs::read_to_string(out.join("config.toml"));
            if text.is_ok_and(|text| text != ours) || out.join(finished).exists() {
                return Err(Error::config(
                    "out",
                    format!("{folder} holds files of another run; give another --out"),
                ));
            }
            Ok(None)
        }
        (false, true) => Err(Error::config(
            "out",
            format!("{folder} already holds a run; go on with --resume or give another --out"),
        )),
        (true, false) => Err(Error::config(
            "--resume",
            format!("{folder} has no checkpoint.safetensors; start without --resume"),
        )),
        (true, true) => {
            let checkpoint = Checkpoint::load(&path)?;
            let theirs = checkpoint.config.lines();
            if let Some((here, there)) = ours.lines().zip(theirs).find(|(x, y)| x != y) {
                return Err(Error::config(
                    "--resume",
                    format!(
                        "`{here}` here but `{there}` in the checkpoint; resume with \
                         {folder}/config.toml alone, or give another --out"
                    ),
                ));
            }
            Ok(Some(checkpoint))
        }
    }
}
