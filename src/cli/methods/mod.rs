//! The methods that `hafuse eval` and `hafuse compare` set side by side.

mod grey;
mod judge;

pub use grey::grey;
pub use judge::Sets;

use super::device::{DeviceArg, PrecisionArg};
use super::terminal;
use crate::baseline::Baseline;
use crate::data::{Pair, Picture, list_pairs, match_names, sample_names};
use crate::report::scores::Scores;
use crate::tone::Tone;
use crate::{Error, Fuser, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `--method`, `--model`, `--tone` and where models run.
#[derive(clap::Args, Clone, Debug)]
pub struct MethodArgs {
    /// A folder of fused pictures, or a rule (average, maximum, laplacian, gff); may be repeated
    #[arg(long, value_name = "NAME=DIR|RULE")]
    pub method: Vec<String>,
    /// A built-in model by name or a model file, fused on the fly, under a name of its own if given; may be repeated
    #[arg(long, value_name = "[NAME=]MODEL|FILE")]
    pub model: Vec<String>,
    /// Contrast of all methods, as in `hafuse fuse` [default: its default, but folders as they are]
    #[arg(long, value_name = "none|auto|LOW,HIGH")]
    pub tone: Option<Tone>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

/// Where fused pictures come from.
enum Fused {
    /// By the path of source A.
    Folder(PathBuf, BTreeMap<PathBuf, PathBuf>),
    Fuser(Fuser),
}

/// One method.
pub struct Method {
    pub name: String,
    origin: String,
    tone: Tone,
    fused: Fused,
}

/// Pairs of sources and the methods that fuse them.
pub struct Methods {
    folders: [PathBuf; 2],
    pub sources: Vec<Pair>,
    pub methods: Vec<Method>,
    /// Sources without a partner.
    unpaired: usize,
    /// What has no partner or counterpart.
    problems: Vec<String>,
}

impl MethodArgs {
    /// Finds the pairs of two folders, the methods' folders and models.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no method, a name twice or of no meaning; those of folders and models.
    pub fn open(&self, dir_a: &Path, dir_b: &Path) -> Result<Methods> {
        if self.method.is_empty() && self.model.is_empty() {
            return Err(Error::config(
                "--method",
                "nothing to judge; give --method NAME=DIR for a folder of fused pictures, --method gff or --model ivif",
            ));
        }
        let list = list_pairs(dir_a, dir_b)?;
        let mut problems = Vec::new();
        for (dir, alone) in [(dir_a, &list.only_a), (dir_b, &list.only_b)] {
            if !alone.is_empty() {
                problems.push(format!(
                    "no partner for {} of the pictures in {}: {}",
                    alone.len(),
                    dir.display(),
                    sample_names(alone)
                ));
            }
        }
        // Beside models, which they are for, rules run where they can.
        let (device, precision) = match self.model.is_empty() {
            true => (self.device.clone(), self.precision),
            false => {
                let device = "auto".into();
                (DeviceArg { device }, PrecisionArg { precision: None })
            }
        };
        let tone = self.tone.unwrap_or_default();
        let mut methods = Vec::new();
        for text in &self.method {
            let method = match split(text)? {
                Named::Rule(rule) => {
                    Method::of(precision.of_rule(rule, &device)?.tone(tone).build()?)?
                }
                Named::Folder(name, dir) => Method {
                    // The pictures have had theirs unless another one is asked for.
                    tone: self.tone.unwrap_or(Tone::None),
                    ..folder(name, dir, dir_a, &list.pairs, &mut problems)?
                },
            };
            methods.push(method);
        }
        if !self.model.is_empty() {
            let device = self.device.open()?;
            for text in &self.model {
                let (name, model) = split_model(text);
                let builder = Fuser::builder().model(model).device(device.clone());
                let fuser = self.precision.of(builder).tone(tone).build()?;
                let mut method = Method::of(fuser)?;
                if let Some(name) = name {
                    method.name = name.to_string();
                }
                methods.push(method);
            }
        }
        let mut names: Vec<&str> = methods.iter().map(|m| m.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::config(
                "--method and --model",
                format!(
                    "two methods are called `{}`; give each a name of its own, as in --method NAME=DIR or --model NAME=FILE",
                    twice[0]
                ),
            ));
        }
        Ok(Methods {
            folders: [dir_a.to_path_buf(), dir_b.to_path_buf()],
            sources: list.pairs,
            methods,
            unpaired: list.only_a.len() + list.only_b.len(),
            problems,
        })
    }
}

/// What `--method` names.
enum Named {
    Rule(Baseline),
    Folder(String, PathBuf),
}

fn split(method: &str) -> Result<Named> {
    match (method.split_once('='), method.parse::<Baseline>()) {
        (Some((name, dir)), _) if !name.is_empty() && !dir.is_empty() => {
            Ok(Named::Folder(name.to_string(), PathBuf::from(dir)))
        }
        (None, Ok(rule)) => Ok(Named::Rule(rule)),
        _ => Err(Error::config(
            "--method",
            format!(
                "`{method}` is neither NAME=DIR, as in --method mine=fused/, nor one of {}",
                Baseline::ALL.map(Baseline::name).join(", ")
            ),
        )),
    }
}

/// A model and the name that it is given. `=` may also stand in the path of a file or above it.
fn split_model(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, model)) if !name.is_empty() && !name.contains('/') && !model.is_empty() => {
            match Path::new(text).exists() {
                true => (None, text),
                false => (Some(name), model),
            }
        }
        _ => (None, text),
    }
}

/// A method by the folder of its results.
fn folder(
    name: String,
    dir: PathBuf,
    dir_a: &Path,
    sources: &[Pair],
    problems: &mut Vec<String>,
) -> Result<Method> {
    let found = match_names(dir_a, &dir)?;
    let (in_a, in_dir) = (sample_names(&found.only_a), sample_names(&found.only_b));
    let by_a: BTreeMap<PathBuf, PathBuf> = found.pairs.into_iter().map(|p| (p.a, p.b)).collect();
    if by_a.is_empty() {
        return Err(Error::input(
            dir,
            format!(
                "no name here ({in_dir}) matches a source in {} ({in_a}); name each fused picture as its source, as 01.png",
                dir_a.display()
            ),
        ));
    }
    let missing = sources.iter().filter(|s| !by_a.contains_key(&s.a));
    let missing: Vec<String> = missing.map(|s| s.stem.clone()).collect();
    if !missing.is_empty() {
        problems.push(format!(
            "{name} has no picture of {} in {}",
            terminal::few(&missing),
            dir.display()
        ));
    }
    Ok(Method {
        name,
        origin: dir.display().to_string(),
        tone: Tone::None,
        fused: Fused::Folder(dir, by_a),
    })
}

impl Methods {
    /// All folders that are read.
    pub fn inputs(&self) -> Vec<&Path> {
        let dirs = self.methods.iter().filter_map(|m| match &m.fused {
            Fused::Folder(dir, _) => Some(dir.as_path()),
            Fused::Fuser(_) => None,
        });
        self.folders
            .iter()
            .map(PathBuf::as_path)
            .chain(dirs)
            .collect()
    }
}

/// [`Error::Partial`] if something could not be judged.
pub fn report_problems(scores: &Scores) -> Result<()> {
    match scores.count() {
        (_, 0) => Ok(()),
        (total, failed) => Err(Error::Partial {
            failed,
            total,
            what: "pictures",
        }),
    }
}

impl Method {
    /// Fusion on the fly.
    fn of(fuser: Fuser) -> Result<Self> {
        Ok(Self {
            name: fuser.name().to_string(),
            origin: fuser.origin()?,
            tone: fuser.tone(),
            fused: Fused::Fuser(fuser),
        })
    }

    /// The fused picture, toned, of a pair whose sources are at hand; `None` if the folder has none.
    ///
    /// # Errors
    /// [`Error::Input`] if it cannot be read or has another size than the sources; those of a fusion.
    pub fn picture(&mut self, pair: &Pair, a: &Picture, b: &Picture) -> Result<Option<Picture>> {
        match &mut self.fused {
            Fused::Folder(_, by_a) => {
                let Some(path) = by_a.get(&pair.a) else {
                    return Ok(None);
                };
                let mut fused = Picture::read(path)?;
                if (fused.width, fused.height) != (a.width, a.height) {
                    return Err(Error::input(
                        path,
                        format!(
                            "is {}x{}, its sources are {}x{}; give pictures of one size",
                            fused.width, fused.height, a.width, a.height
                        ),
                    ));
                }
                self.tone.apply(&mut fused.luma)?;
                Ok(Some(fused))
            }
            Fused::Fuser(fuser) => {
                let fused = fuser.fuse(a, b).map_err(|e| e.of_file(&pair.a))?;
                Ok(Some(fused))
            }
        }
    }
}
