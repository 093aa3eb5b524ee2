//! What training and search share: a run in a folder, its data and its checkpoint.

use super::device::DeviceArg;
use super::terminal;
use crate::data::{Folders, PairDataset};
use crate::loss::FeatureNet;
use crate::output;
use crate::search::SearchConfig;
use crate::train::{Checkpoint, DataConfig, Perceptual, Position, TrainConfig};
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

/// The options of the feature network.
#[derive(clap::Args, Clone, Debug)]
pub struct FeatureArgs {
    /// Feature network (a VGG-16 or VGG-19 as safetensors), key `features`
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// Whether a feature network gives perceptual loss and weights, key `perceptual`
    #[arg(long, value_enum)]
    pub perceptual: Option<PerceptualArg>,
}

impl FeatureArgs {
    /// Overwrites the keys `features` and `perceptual` by the options that were given.
    pub fn apply(&self, features: &mut PathBuf, perceptual: &mut Perceptual) -> Result<()> {
        set_path(features, self.features.as_deref())?;
        *perceptual = self.perceptual.map_or(*perceptual, Into::into);
        Ok(())
    }
}

/// What both commands take.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// Configuration; without one all defaults hold
    #[arg(value_name = "CONFIG.toml")]
    pub config: Option<PathBuf>,
    /// Set one key, as in --set batch=4; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub features: FeatureArgs,
    /// Folder of infrared or MRI pictures, key `data.a`; may be repeated
    #[arg(long, value_name = "DIR")]
    pub a: Vec<PathBuf>,
    /// Folder of visible or PET pictures, key `data.b`; as often as --a, the first goes with the first
    #[arg(long, value_name = "DIR")]
    pub b: Vec<PathBuf>,
    /// Folder that the run writes into, key `out`
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of initial values, order and crops, key `seed`
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Go on from the checkpoint in the folder of the run
    #[arg(long)]
    pub resume: bool,
    /// Print the configuration that would be used (alone: the commented defaults) and exit
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// The keys that [`RunArgs`] names.
pub struct Keys<'a> {
    pub features: &'a mut PathBuf,
    pub data: &'a mut DataConfig,
    pub out: &'a mut PathBuf,
    pub perceptual: &'a mut Perceptual,
    pub seed: &'a mut u64,
}

macro_rules! keys_of {
    ($($config:ty)*) => {$(
        impl<'a> From<&'a mut $config> for Keys<'a> {
            fn from(config: &'a mut $config) -> Self {
                Self {
                    features: &mut config.features,
                    data: &mut config.data,
                    out: &mut config.out,
                    perceptual: &mut config.perceptual,
                    seed: &mut config.seed,
                }
            }
        }
    )*};
}
keys_of!(TrainConfig SearchConfig);

impl RunArgs {
    /// Overwrites keys by the options that were given.
    pub fn apply(&self, keys: Keys<'_>) -> Result<()> {
        self.features.apply(keys.features, keys.perceptual)?;
        set_folders(&mut keys.data.a, &self.a)?;
        set_folders(&mut keys.data.b, &self.b)?;
        set_path(keys.out, self.out.as_deref())?;
        *keys.seed = self.seed.unwrap_or(*keys.seed);
        Ok(())
    }
}

/// Overwrites a key by a path, if one was given.
pub fn set_path(key: &mut PathBuf, given: Option<&Path>) -> Result<()> {
    let Some(path) = given else { return Ok(()) };
    if path.to_str().is_none() {
        return Err(Error::config(
            "configuration",
            format!(
                "{} is not UTF-8, so config.toml cannot hold it; rename it",
                path.display()
            ),
        ));
    }
    *key = path.to_path_buf();
    Ok(())
}

/// Overwrites a key by folders, if any were given.
fn set_folders(key: &mut Folders, given: &[PathBuf]) -> Result<()> {
    if given.is_empty() {
        return Ok(());
    }
    let mut folders = vec![PathBuf::new(); given.len()];
    for (folder, path) in folders.iter_mut().zip(given) {
        set_path(folder, Some(path))?;
    }
    *key = Folders::from(folders);
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
        ("data.a", "--a", data.a.is_empty()),
        ("data.b", "--b", data.b.is_empty()),
        ("out", "--out", out.as_os_str().is_empty()),
    ];
    for (key, option, missing) in folders {
        if missing {
            return Err(Error::config(
                key,
                format!("names no folder; set it in the configuration or give {option} DIR"),
            ));
        }
    }
    check_features(perceptual, features)
}

/// A feature network is named, if it is needed.
pub fn check_features(perceptual: Perceptual, features: &Path) -> Result<()> {
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

/// The folder of a run is there or can be made, and is none of those of the data.
pub fn check_out(out: &Path, data: &DataConfig) -> Result<()> {
    let inputs = data.a.iter().chain(data.b.iter());
    let inputs: Vec<&Path> = inputs.map(PathBuf::as_path).collect();
    output::check_folder(out, &inputs)
}

/// All pairs of the folders but those that are excluded; what has no partner is named in a line.
pub fn load_pairs(data: &DataConfig, patch: usize) -> Result<PairDataset> {
    let pairs = PairDataset::load(&data.a, &data.b, &data.exclude, patch)?;
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

/// Whether a run of the configuration `ours` ended in `folder` with the file `last`. `said`: what was done there, and who asks.
///
/// # Errors
/// [`Error::Config`] if the folder holds a run of another configuration.
pub fn finished(folder: &Path, last: &str, ours: &str, (done, who): (&str, &str)) -> Result<bool> {
    let Ok(theirs) = std::fs::read_to_string(folder.join("config.toml")) else {
        return Ok(false);
    };
    if let Some((here, there)) = differing_line(ours, &theirs) {
        let detail = format!(
            "{} was {done} with `{there}`, {who} has `{here}`; name another folder with --out",
            folder.display()
        );
        return Err(Error::config("out", detail));
    }
    Ok(folder.join(last).exists())
}

/// The first line in which two configurations differ.
fn differing_line<'a>(ours: &'a str, theirs: &'a str) -> Option<(&'a str, &'a str)> {
    ours.lines().zip(theirs.lines()).find(|(x, y)| x != y)
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
            if let Some((here, there)) = differing_line(ours, &checkpoint.config) {
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
