//! The training configuration file.

use crate::data::{AUGMENT_MIF, Augment, Folders, PairDataset};
use crate::loss::ExposureOptions;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The commented defaults, as TOML.
pub const DEFAULT_CONFIG: &str = concat!(
    include_str!("default.toml"),
    include_str!("../data/augment/augment.toml")
);

/// What the two sources are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A infrared, B visible (section 2.3.4).
    Ivif,
    /// A MRI, B PET (section 3.3.1).
    Mif,
}

impl Task {
    /// As in a configuration and in names of files.
    pub fn name(self) -> &'static str {
        match self {
            Task::Ivif => "ivif",
            Task::Mif => "mif",
        }
    }
}

/// Where perceptual loss and adaptive weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Perceptual {
    /// The feature network that `features` names.
    Vgg,
    /// No perceptual term, and equal weights.
    None,
}

/// What turns gradients into updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adaptive moments, without weight decay.
    Adam,
    /// With momentum 0.9.
    Sgd,
}

/// Learning rate over a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// `lr` to the end.
    Constant,
    /// `lr (1 + cos(pi step / steps)) / 2`.
    Cosine,
}

/// See `default.toml` for the meaning of every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// What the two sources are.
    pub task: Task,
    /// Architecture: the name of a built-in model or a genotype file (`*.json`).
    pub genotype: String,
    /// Folder of checkpoints, `metrics.jsonl`, previews and the trained model.
    pub out: PathBuf,
    /// Seed of initial weights, order of pairs, crops and flips.
    pub seed: u64,
    /// Pairs in a step.
    pub batch: usize,
    /// Side of the square patches cut from them, in pixels.
    pub patch: usize,
    /// What turns gradients into updates.
    pub optimizer: Optimizer,
    /// Where perceptual loss and adaptive weights come from.
    pub perceptual: Perceptual,
    /// File of VGG-16 or VGG-19, safetensors with torchvision's names; empty: none given.
    pub features: PathBuf,
    /// Model or checkpoint of the same genotype to start from; empty: random weights.
    pub init: PathBuf,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between previews.
    pub preview_every: u64,
    /// Steps between lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Steps between measurements of the loss on what is held out.
    pub validate_every: u64,
    /// Folders of both sources, and which of their pairs are trained on.
    pub data: DataConfig,
    /// Stage that trains the feature-level module alone.
    pub stage1: StageConfig,
    /// Stage that trains the whole network.
    pub stage2: StageConfig,
    /// Terms of the loss, and their weights.
    pub loss: LossConfig,
    /// Changes that patches go through.
    pub augment: Augment,
}

/// Keys below `data`: folders, and which of their pairs are used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folders of source A; the first goes with the first of B.
    pub a: Folders,
    /// Folders of source B.
    pub b: Folders,
    /// Patterns of names (`*`, `?`) without extension of pairs that are left out.
    pub exclude: Vec<String>,
    /// Pairs of patches drawn, on average, from each picture in an epoch.
    pub patches_per_pair: usize,
    /// Exponent of the share n^balance of a set of n pairs: 1 evens out pairs, 0 sets.
    pub balance: f64,
    /// Patterns of pairs that are never trained on; their scenes are held out whole.
    pub hold_out: Vec<String>,
    /// Share of the other scenes that is held out as well, drawn by the seed.
    pub validation: f64,
    /// Largest step between numbers in the names of one scene; 0: each is its own.
    pub scene_gap: u64,
}

impl DataConfig {
    /// What is trained on, balanced, and what is held out for validation.
    ///
    /// # Errors
    /// [`Error::Config`] if a pattern of `hold_out` matches nothing or nothing is left to train on.
    pub fn parts(
        &self,
        data: &PairDataset,
        seed: u64,
    ) -> Result<(PairDataset, Option<PairDataset>)> {
        let (train, held) = data.hold_out(&self.hold_out, self.validation, self.scene_gap, seed)?;
        let balanced = |d: PairDataset| d.balanced(self.balance);
        Ok((balanced(train), held.map(balanced)))
    }
}

/// Keys below `stage1` and `stage2`: length and learning rate (section 3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Passes over the pairs.
    pub epochs: u64,
    /// Learning rate at the beginning.
    pub lr: f64,
    /// Learning rate over the stage.
    pub schedule: Schedule,
}

/// Which terms are on, and their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// Terms of ours, see `default.toml`.
    Fusion,
    /// The paper's terms alone, weighted so that each counts.
    Paper,
    /// The paper's terms alone, each with weight 1.
    PaperUnit,
}

/// Keys below `loss`: terms of the loss, and their weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Which terms are on; what is set by file or command line goes before it.
    pub recipe: Recipe,
    /// Divisor of the structure measure in the adaptive weights; it grows with the patch.
    pub adaptive_scale: f64,
    /// Whether the losses see pictures clamped to \[0, 1\], as they will be written.
    pub clamp: bool,
    /// Price of what the clamp cut off.
    pub range: f64,
    /// Exposure-aware target T of (A, B).
    pub exposure: ExposureOptions,
    /// Terms of L^F, on I_f.
    pub feature: FeatureLoss,
    /// Terms of L^O, on I_t, I_d and I_o.
    pub object: ObjectLoss,
}

/// Keys below `loss.feature`: weights of the terms of L^F, on I_f.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureLoss {
    /// 1 - SSIM with each source, by the adaptive weights.
    pub ssim: f64,
    /// Eq. 4 with each source, by the adaptive weights.
    pub intensity: f64,
    /// L1 of (I_f, T).
    pub target: f64,
    /// L1 of the derivatives of I_f to those of T.
    pub edges: f64,
}

/// Keys below `loss.object`: weights of the terms of L^O, on I_t, I_d and I_o; 0 turns one off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectLoss {
    /// Eq. 5 of (I_t, A); task "mif" adds (I_t, B).
    pub perceptual: f64,
    /// Eq. 6 of (I_d, B); (I_d, A) for task "mif".
    pub gradient: f64,
    /// sigma_1 Eq. 4 of (I_o, A); task "mif": also of the other source, by its weight.
    pub intensity: f64,
    /// sigma_2 (1 - SSIM(I_o, B)); task "ivif" only.
    pub ssim: f64,
    /// L^F, kept alive in stage 2 so that I_f stays a picture.
    pub feature: f64,
    /// L1 of (I_o, T).
    pub target: f64,
    /// L1 of the derivatives of I_o to those of T.
    pub edges: f64,
    /// L1 of I_t and I_d to T with the fine details of A alone, and of B alone.
    pub rows: f64,
    /// Cross-entropy of the mask and the share of A in the fine details of T.
    pub mask: f64,
    /// 1 - (SSIM(I_o, A) + SSIM(I_o, B)) / 2.
    pub structure: f64,
    /// L1 of gradient magnitudes of I_o against the larger of both sources'.
    pub joint_gradient: f64,
    /// L1 of (I_o, max(A, B)).
    pub maximum: f64,
    /// Eq. 5 of I_o, against the maximum of both sources' features.
    pub features: f64,
    /// 1 - (r(I_o, A) + r(I_o, B)) / 2 of each patch, as CC rewards.
    pub correlation: f64,
    /// 1 - (r(I_o - B, A) + r(I_o - A, B)) / 2 of each patch, as SCD rewards.
    pub differences: f64,
}

impl TrainConfig {
    /// Defaults, overlaid by the file at `path` (if any), overlaid by `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// [`Error::Input`] for a missing file, [`Error::Config`] for an unknown key or a bad value.
    pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Self> {
        let config: Self = load_toml("training configuration", DEFAULT_CONFIG, path, overrides)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let positive = [
            ("checkpoint_every", self.checkpoint_every as f64),
            ("preview_every", self.preview_every as f64),
            ("log_every", self.log_every as f64),
            ("validate_every", self.validate_every as f64),
            ("stage1.lr", self.stage1.lr),
            ("stage2.lr", self.stage2.lr),
        ];
        require("above 0", |v| v > 0.0, positive)?;
        let epochs = [
            ("stage1.epochs", self.stage1.epochs as f64),
            ("stage2.epochs", self.stage2.epochs as f64),
        ];
        // So many patches can be counted.
        at_most(epochs.map(|(key, value)| (key, value, 1e6)))?;
        self.loss.check()?;
        self.augment.check()?;
        check_patches(self.batch, self.patch, &self.data)
    }

    /// As TOML, for the record in the output folder.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Internal(format!("configuration: {e}")))
    }
}

impl LossConfig {
    /// Weights are 0 or above, scales above 0.
    pub(crate) fn check(&self) -> Result<()> {
        let (f, o, e) = (self.feature, self.object, self.exposure);
        let scales = [
            ("loss.adaptive_scale", self.adaptive_scale),
            ("loss.exposure.day - loss.exposure.night", e.day - e.night),
        ];
        require("above 0", |v| v > 0.0, scales)?;
        let shares = [
            ("loss.exposure.overlap_night", e.overlap_night),
            ("loss.exposure.overlap_day", e.overlap_day),
            ("loss.exposure.centre", e.centre),
        ];
        require("0 to 1", |v| (0.0..=1.0).contains(&v), shares)?;
        let shoulder = [("loss.exposure.shoulder", e.shoulder)];
        require("0 to 0.99", |v| (0.0..=0.99).contains(&v), shoulder)?;
        let weights = [
            ("loss.range", self.range),
            ("loss.exposure.night", e.night),
            ("loss.exposure.fine_night", e.fine_night),
            ("loss.exposure.fine_day", e.fine_day),
            ("loss.exposure.detail_night", e.detail_night),
            ("loss.exposure.detail_day", e.detail_day),
            ("loss.feature.target", f.target),
            ("loss.feature.edges", f.edges),
            ("loss.feature.ssim", f.ssim),
            ("loss.feature.intensity", f.intensity),
            ("loss.object.perceptual", o.perceptual),
            ("loss.object.gradient", o.gradient),
            ("loss.object.intensity", o.intensity),
            ("loss.object.ssim", o.ssim),
            ("loss.object.feature", o.feature),
            ("loss.object.target", o.target),
            ("loss.object.edges", o.edges),
            ("loss.object.rows", o.rows),
            ("loss.object.mask", o.mask),
            ("loss.object.structure", o.structure),
            ("loss.object.maximum", o.maximum),
            ("loss.object.features", o.features),
            ("loss.object.joint_gradient", o.joint_gradient),
            ("loss.object.correlation", o.correlation),
            ("loss.object.differences", o.differences),
        ];
        require("0 or above", |v| v >= 0.0, weights)
    }
}

/// What a step is made of. The SSIM window is 11 pixels wide, and the multi-scale cell divides by 4.
pub(crate) fn check_patches(batch: usize, patch: usize, data: &DataConfig) -> Result<()> {
    require("at least 16", |v| v >= 16.0, [("patch", patch as f64)])?;
    let counts = [
        ("batch", batch as f64),
        ("data.patches_per_pair", data.patches_per_pair as f64),
    ];
    require("above 0", |v| v > 0.0, counts)?;
    let shares = [
        ("data.balance", data.balance),
        ("data.validation", data.validation),
    ];
    require("in [0, 1]", |v| (0.0..=1.0).contains(&v), shares)?;
    let all = counts.into_iter().chain([("patch", patch as f64)]);
    at_most(all.map(|(key, value)| (key, value, 65_536.0)))
}

/// No value may be above its bound.
pub(crate) fn at_most<'a>(values: impl IntoIterator<Item = (&'a str, f64, f64)>) -> Result<()> {
    for (key, value, bound) in values {
        require(&format!("{bound} or below"), |v| v <= bound, [(key, value)])?;
    }
    Ok(())
}

/// Every value must be finite and fulfil `holds`, which `must_be` says in words.
pub(crate) fn require<'a>(
    must_be: &str,
    holds: impl Fn(f64) -> bool,
    values: impl IntoIterator<Item = (&'a str, f64)>,
) -> Result<()> {
    for (key, value) in values {
        if !(holds(value) && value.is_finite()) {
            return Err(Error::config(
                key,
                format!("must be {must_be}, found {value}"),
            ));
        }
    }
    Ok(())
}

/// `defaults`, overlaid by the recipe of the losses, by the file at `path` (if any) and by `overrides` (`key.path=value`).
pub(crate) fn load_toml<C: DeserializeOwned>(
    what: &str,
    defaults: &str,
    path: Option<&Path>,
    overrides: &[String],
) -> Result<C> {
    let mut source = what.to_string();
    let mut given = toml::Table::new();
    if let Some(path) = path {
        let text = std::fs::read_to_string(path).map_err(|e| Error::input(path, e))?;
        source = path.display().to_string();
        given = parse(&source, &text)?;
    }
    for item in overrides {
        let (key, text) = item
            .split_once('=')
            .ok_or_else(|| Error::config("--set", format!("`{item}` is not KEY=VALUE")))?;
        overlay(&mut given, override_table(key.trim(), text.trim()));
    }
    let mut value = parse("built-in defaults", defaults)?;
    let mif = given.get("task").and_then(|t| t.as_str()) == Some(Task::Mif.name());
    if mif && value.contains_key("augment") {
        overlay(&mut value, parse("built-in defaults", AUGMENT_MIF)?);
    }
    for recipe in recipe_of(&given) {
        overlay(&mut value, parse("built-in recipe", recipe)?);
    }
    overlay(&mut value, given);
    toml::Value::Table(value)
        .try_into()
        .map_err(|e: toml::de::Error| Error::config(source, one_line(&e.to_string())))
}

/// What the recipe that is asked for lays over the defaults, in order. An unknown name is refused with the other keys.
fn recipe_of(given: &toml::Table) -> &'static [&'static str] {
    const PAPER: &str = include_str!("paper.toml");
    const UNIT: &str = include_str!("paper-unit.toml");
    let recipe = given.get("loss").and_then(|l| l.get("recipe"));
    match recipe.and_then(toml::Value::as_str) {
        Some("paper") => &[PAPER],
        Some("paper-unit") => &[PAPER, UNIT],
        _ => &[],
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parse(source: &str, text: &str) -> Result<toml::Table> {
    text.parse::<toml::Table>().map_err(|e| {
        let line = e
            .span()
            .map_or(0, |s| text[..s.start].lines().count().max(1));
        Error::config(source, format!("line {line}: {}", one_line(e.message())))
    })
}

fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(b)), toml::Value::Table(o)) => overlay(b, o),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// `a.b=1` as the table `{a = {b = 1}}`; what is no TOML value is a string.
fn override_table(key: &str, text: &str) -> toml::Table {
    let value = format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(text.to_string()));
    let mut words = key.rsplit('.');
    let last = words.next().unwrap_or(key);
    let mut table = toml::Table::from_iter([(last.to_string(), value)]);
    for word in words {
        table = toml::Table::from_iter([(word.to_string(), toml::Value::Table(table))]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_papers() {
        let c = TrainConfig::load(None, &[]).unwrap();
        assert_eq!((c.batch, c.patch), (8, 64));
        assert_eq!((c.stage1.epochs, c.stage2.epochs), (100, 1000));
        assert_eq!(c.stage1.lr, 0.0005);
        assert_eq!(c.loss.exposure, ExposureOptions::default());
    }

    #[test]
    fn a_recipe_stands_between_defaults_and_what_is_given() {
        let load = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|k| k.to_string()).collect();
            TrainConfig::load(None, &keys)
        };
        let fusion = load(&[]).unwrap().loss;
        assert!(fusion.clamp && fusion.object.target > 0.0 && fusion.object.intensity == 0.0);
        let paper = load(&["loss.recipe=paper", "loss.object.gradient=7"])
            .unwrap()
            .loss;
        assert_eq!(paper.recipe, Recipe::Paper);
        assert!(!paper.clamp && paper.object.target == 0.0 && paper.feature.target == 0.0);
        assert_eq!((paper.object.intensity, paper.object.gradient), (20.0, 7.0));
        let unit = load(&["loss.recipe=paper-unit"]).unwrap().loss;
        assert_eq!((unit.object.intensity, unit.object.perceptual), (1.0, 1.0));
        assert_eq!(unit.object.rows, 0.0);
        assert!(load(&["loss.recipe=papier"]).is_err());
        // A saved configuration names every key, so its recipe changes nothing any more.
        let saved: TrainConfig =
            toml::from_str(&load(&["loss.recipe=paper"]).unwrap().to_toml().unwrap()).unwrap();
        assert_eq!(saved.loss.object.intensity, 20.0);
    }

    #[test]
    fn keys_are_overridden_and_unknown_ones_refused() {
        let set = |s: &str| TrainConfig::load(None, &[s.to_string()]);
        assert_eq!(set("stage2.epochs=7").unwrap().stage2.epochs, 7);
        assert_eq!(set("out=here/there").unwrap().out, Path::new("here/there"));
        assert_eq!(set("stage1.lr = 1e-3").unwrap().stage1.lr, 1e-3);
        for bad in [
            "stage2.epoch=7",
            "bathc=1",
            "batch=0",
            "batch=99999999999",
            "data.patches_per_pair=99999999999",
            "stage2.epochs=99999999999",
            "stage1.lr=nan",
            "loss.exposure.shoulder=1",
            "loss.exposure.night=0.8",
            "batch",
        ] {
            let e = set(bad).unwrap_err().to_string();
            assert!(!e.contains('\n'), "{bad}: {e}");
        }
        assert!(set("bathc=1").unwrap_err().to_string().contains("bathc"));
    }
}
