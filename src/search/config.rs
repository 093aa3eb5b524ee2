//! The search configuration file.

use super::latency::MAX_SIDE;
use super::schedule::{Phase, Schedule};
use crate::data::Augment;
use crate::net::{CellKind, FrameGene, OpKind, SearchSpace};
use crate::train::{
    DataConfig, LossConfig, Optimizer, Perceptual, Task, at_most, check_patches, load_toml, require,
};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The commented defaults, as TOML.
pub const DEFAULT_CONFIG: &str = concat!(
    include_str!("default.toml"),
    include_str!("../data/augment/augment.toml")
);

/// In which order things are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Algorithm 1.
    Collaborative,
    /// Both modules at once, alpha and beta together.
    Naive,
}

impl Strategy {
    /// As in a configuration and in names of files.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Collaborative => "collaborative",
            Strategy::Naive => "naive",
        }
    }
}

/// Element type that a latency table is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatencyPrecision {
    /// What `hafuse fuse` uses on the device.
    Auto,
    /// Single precision.
    F32,
    /// Half precision storage.
    F16,
}

/// What L_train trains and L_val judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Estimator {
    /// The mix of all candidates (Eq. 1).
    Relaxed,
    /// Networks drawn by the softmax of alpha and beta.
    Sampled,
}

/// What `lambda` charges for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatencyUnit {
    /// LAT of the whole supernet with equal weights.
    Uniform,
    /// A millisecond.
    Ms,
}

/// See `default.toml` for the meaning of every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// What the two sources are.
    pub task: Task,
    /// Order in which the modules, alpha and beta are searched.
    pub strategy: Strategy,
    /// Folder of the genotype, `search.json`, `metrics.jsonl`, latency table and checkpoints.
    pub out: PathBuf,
    /// Seed of initial values, drawn networks, order, crops and flips.
    pub seed: u64,
    /// Seed of the split into two halves, apart from that of the search.
    pub split: u64,
    /// Pairs in a step.
    pub batch: usize,
    /// Side of the square patches cut from them, in pixels.
    pub patch: usize,
    /// Where perceptual loss and adaptive weights come from.
    pub perceptual: Perceptual,
    /// File of VGG-16 or VGG-19, safetensors with torchvision's names; empty: none given.
    pub features: PathBuf,
    /// Inner epochs between checkpoints.
    pub checkpoint_every: u64,
    /// Folders of both sources, and which of their pairs are searched with.
    pub data: DataConfig,
    /// Numbers of rounds and of inner epochs.
    pub epochs: EpochsConfig,
    /// Size of the supernet, and its candidates.
    pub space: SpaceConfig,
    /// Optimiser of the network weights.
    pub weights: WeightsConfig,
    /// Optimiser of alpha and beta.
    pub architecture: ArchitectureConfig,
    /// Price of LAT, and what it is measured on.
    pub latency: LatencyConfig,
    /// Terms of L_train and L_val.
    pub loss: LossConfig,
    /// Changes that patches go through.
    pub augment: Augment,
}

/// The numbers of Algorithm 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochsConfig {
    /// Rounds of both stages; `n - m` of them search the object-level module.
    pub n: u64,
    /// Rounds that search the feature-level module.
    pub m: u64,
    /// Inner epochs of weights and beta in a round.
    pub t: u64,
    /// Inner epochs of weights and alpha in a round.
    pub s: u64,
    /// Inner epochs of the weights alone before the first round of each stage; 0 is the paper.
    pub warmup: u64,
}

/// Keys below `space`: size of the supernet, and its candidates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceConfig {
    /// Feature channels C at full resolution.
    pub channels: usize,
    /// Cells of the feature-level module.
    pub cells: usize,
    /// Blocks of each row of a cell.
    pub blocks: usize,
    /// Candidate cells.
    pub kinds: Vec<CellKind>,
    /// Candidate operators.
    pub operators: Vec<OpKind>,
    /// Whether candidate cells are computed again for their gradients: less memory, more time.
    pub recompute: bool,
    /// What surrounds the cells.
    pub frame: FrameGene,
}

/// Keys below `weights`: optimiser of the network weights, cosine to zero over each stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsConfig {
    /// What updates the weights; SGD is the paper's.
    pub optimizer: Optimizer,
    /// Learning rate at the beginning of a stage.
    pub lr: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Length that the gradients of all weights together are shortened to.
    pub clip: f64,
}

/// Keys below `architecture`: how alpha and beta are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchitectureConfig {
    /// What L_train trains and L_val judges.
    pub estimator: Estimator,
    /// Drawn networks that L_val compares on the same patches.
    pub samples: usize,
    /// Share of each draw for L_train that is even over all candidates, 0 to 1.
    pub explore: f64,
    /// Farthest that a logit can go in a stage, which sets the rate; 0: the rate is `lr`.
    pub travel: f64,
    /// Constant learning rate; counts where `travel` is 0.
    pub lr: f64,
    /// Batches of L_val that a gradient is the mean of; 0: all of a round, 1: the paper.
    pub average: u64,
    /// Whether L_val sees the same patches in each inner epoch.
    pub fixed_patches: bool,
    /// Decay of Adam's mean of gradients.
    pub beta1: f64,
    /// Decay of Adam's mean of squared gradients.
    pub beta2: f64,
    /// Weight decay of alpha and beta; 0 is none.
    pub weight_decay: f64,
    /// Standard deviation of the initial alpha; 0 begins with equal weights.
    pub alpha_std: f64,
    /// Standard deviation of the initial beta; 0 begins with equal weights.
    pub beta_std: f64,
}

/// Keys below `latency`: L_val + lambda LAT (Eq. 2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyConfig {
    /// Price of LAT; where the search begins if there is a target.
    pub lambda: f64,
    /// What `lambda` charges for.
    pub unit: LatencyUnit,
    /// Most that the whole network may take by the table, as in `50 ms`; empty: no limit.
    pub target: String,
    /// Latency table of `hafuse bench ops --json`; empty: measured, and kept in the cache.
    pub table: PathBuf,
    /// Whether `table` may be of another device, size, dtype or version.
    pub foreign: bool,
    /// Pixels in a row of what is measured.
    pub width: usize,
    /// Rows of pixels of what is measured.
    pub height: usize,
    /// Timed runs of each entry.
    pub runs: usize,
    /// Element type that is measured.
    pub precision: LatencyPrecision,
}

impl SearchConfig {
    /// Defaults, overlaid by the file at `path` (if any), overlaid by `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// [`Error::Input`] for a missing file, [`Error::Config`] for an unknown key or a bad value.
    pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Self> {
        let config: Self = load_toml("search configuration", DEFAULT_CONFIG, path, overrides)?;
        config.check()?;
        Ok(config)
    }

    /// What [`SearchConfig::load`] refuses, of a configuration that was changed.
    ///
    /// # Errors
    /// [`Error::Config`] for a bad value.
    pub fn check(&self) -> Result<()> {
        let (e, s, a, l) = (self.epochs, &self.space, self.architecture, &self.latency);
        let positive = [
            ("checkpoint_every", self.checkpoint_every as f64),
            ("space.channels", s.channels as f64),
            ("space.cells", s.cells as f64),
            ("space.blocks", s.blocks as f64),
            ("weights.lr", self.weights.lr),
            ("weights.clip", self.weights.clip),
            ("architecture.lr", a.lr),
            ("latency.width", l.width as f64),
            ("latency.height", l.height as f64),
            ("latency.runs", l.runs as f64),
            ("epochs.t + epochs.s", e.t as f64 + e.s as f64),
            ("epochs.n", e.n as f64),
        ];
        require("above 0", |v| v > 0.0, positive)?;
        let not_negative = [
            ("architecture.travel", a.travel),
            ("latency.lambda", l.lambda),
            ("architecture.weight_decay", a.weight_decay),
            ("architecture.alpha_std", a.alpha_std),
            ("architecture.beta_std", a.beta_std),
        ];
        require("0 or above", |v| v >= 0.0, not_negative)?;
        let below_one = [
            ("weights.momentum", self.weights.momentum),
            ("architecture.beta1", a.beta1),
            ("architecture.beta2", a.beta2),
        ];
        require("in [0, 1)", |v| (0.0..1.0).contains(&v), below_one)?;
        let shares = [("architecture.explore", a.explore)];
        require("in [0, 1]", |v| (0.0..=1.0).contains(&v), shares)?;
        // No product of these numbers overflows.
        let bounded = [
            ("space.channels", s.channels as f64, 512.0),
            ("space.cells", s.cells as f64, 64.0),
            ("space.blocks", s.blocks as f64, 64.0),
            ("epochs.n", e.n as f64, 10_000.0),
            ("epochs.m", e.m as f64, 10_000.0),
            ("epochs.t", e.t as f64, 10_000.0),
            ("epochs.s", e.s as f64, 10_000.0),
            ("epochs.warmup", e.warmup as f64, 10_000.0),
            ("architecture.average", a.average as f64, 1e6),
            ("architecture.travel", a.travel, 1e3),
            ("latency.runs", l.runs as f64, 65_536.0),
            ("latency.width", l.width as f64, MAX_SIDE as f64),
            ("latency.height", l.height as f64, MAX_SIDE as f64),
            ("latency.lambda", l.lambda, 1e6),
        ];
        at_most(bounded)?;
        for (key, empty) in [
            ("space.kinds", s.kinds.is_empty()),
            ("space.operators", s.operators.is_empty()),
        ] {
            if empty {
                return Err(Error::config(key, "is empty; name at least one candidate"));
            }
        }
        if self.target_ms()?.is_some() && l.lambda == 0.0 {
            return Err(Error::config(
                "latency.lambda",
                "is 0, so latency.target cannot raise it; set it above 0, or leave the target out",
            ));
        }
        if !(2..=64).contains(&a.samples) {
            return Err(Error::config(
                "architecture.samples",
                format!("is {}; a comparison needs 2 to 64", a.samples),
            ));
        }
        if e.m > e.n {
            return Err(Error::config(
                "epochs.m",
                format!(
                    "{} rounds for the first stage of {} in all; lower m or raise n",
                    e.m, e.n
                ),
            ));
        }
        self.loss.check()?;
        self.augment.check()?;
        check_patches(self.batch, self.patch, &self.data)
    }

    /// The loops that these keys describe.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            strategy: self.strategy,
            epochs: self.epochs,
        }
    }

    /// `latency.target` in milliseconds.
    ///
    /// # Errors
    /// [`Error::Config`] if it is neither empty nor as `50 ms`.
    pub fn target_ms(&self) -> Result<Option<f64>> {
        let text = self.latency.target.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let ms = text
            .strip_suffix("ms")
            .and_then(|n| n.trim().parse::<f64>().ok());
        match ms.filter(|ms| *ms > 0.0 && ms.is_finite()) {
            Some(ms) => Ok(Some(ms)),
            None => Err(Error::config(
                "latency.target",
                format!("is \"{text}\"; give milliseconds, as in \"50 ms\", or nothing"),
            )),
        }
    }

    /// Steps of the architecture in so many inner epochs of a phase, each of so many batches.
    pub fn architecture_steps(&self, phase: Phase, epochs: u64, batches: u64) -> u64 {
        match self.architecture.average {
            0 => epochs / self.schedule().in_a_round(phase).max(1),
            n => epochs * batches.div_ceil(n.min(batches)),
        }
    }

    /// Learning rate of alpha or beta in a stage that takes so many steps.
    pub fn architecture_rate(&self, steps: u64) -> f64 {
        match self.architecture.travel {
            0.0 => self.architecture.lr,
            travel => travel / steps.max(1) as f64,
        }
    }

    /// The supernet.
    pub fn space(&self) -> SearchSpace {
        SearchSpace {
            channels: self.space.channels,
            cells: self.space.cells,
            blocks: self.space.blocks,
            kinds: CellKind::ALL.map(|kind| self.space.kinds.contains(&kind)),
            operators: OpKind::ALL.map(|kind| self.space.operators.contains(&kind)),
            frame: self.space.frame,
            alpha_std: self.architecture.alpha_std,
            beta_std: self.architecture.beta_std,
            recompute: self.space.recompute,
        }
    }

    /// As TOML, for the record in the output folder.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Internal(format!("configuration: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_papers() {
        let c = SearchConfig::load(None, &[]).unwrap();
        let e = c.epochs;
        assert_eq!((e.n, e.m, e.t, e.s), (24, 12, 5, 5));
        assert_eq!((c.batch, c.patch, c.weights.lr), (8, 64, 0.001));
        assert_eq!((c.space.cells, c.space.blocks), (2, 2));
    }

    #[test]
    fn what_would_overflow_is_refused() {
        let most = u64::MAX >> 1;
        for key in [
            "batch",
            "patch",
            "data.patches_per_pair",
            "space.channels",
            "space.cells",
            "space.blocks",
            "epochs.n",
            "epochs.m",
            "epochs.t",
            "epochs.s",
            "epochs.warmup",
            "architecture.average",
            "latency.runs",
            "latency.width",
            "latency.height",
        ] {
            let e = SearchConfig::load(None, &[format!("{key}={most}")]).unwrap_err();
            let e = e.to_string();
            assert!(e.contains(key) && e.contains(" or below"), "{key}: {e}");
        }
        let e = SearchConfig::load(None, &["latency.lambda=2e6".into()]).unwrap_err();
        assert!(e.to_string().starts_with("latency.lambda"), "{e}");
    }
}
