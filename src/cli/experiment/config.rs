//! The configuration of the experiments.

use crate::cli::folder::Keys;
use crate::data;
use crate::net::OpKind;
use crate::search::SearchConfig;
use crate::search::latency::MAX_SIDE;
use crate::train::{Perceptual, Task, TrainConfig, at_most, load_toml, require};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The commented defaults, as TOML.
pub const DEFAULT_CONFIG: &str = include_str!("default.toml");

/// See `default.toml` for the meaning of every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    pub out: PathBuf,
    pub seeds: Vec<u64>,
    pub channels: usize,
    pub perceptual: Perceptual,
    pub features: PathBuf,
    pub genotype: String,
    pub peers: PathBuf,
    pub ivif: Folders,
    pub mif: Folders,
    pub measure: Measure,
    pub table2: Table2,
    pub table3: Table3,
    pub target: Target,
    pub fig4: Fig4,
    pub latency: Latency,
    pub search: toml::Table,
    pub train: toml::Table,
}

/// The data of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folders {
    pub train_a: data::Folders,
    pub train_b: data::Folders,
    pub test_a: PathBuf,
    pub test_b: PathBuf,
    pub search: toml::Table,
    pub train: toml::Table,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    pub width: usize,
    pub height: usize,
    pub runs: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table2 {
    pub searched: bool,
    pub models: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table3 {
    pub lambdas: Vec<f64>,
    pub factor: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fig4 {
    pub operators: Vec<OpKind>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub ms: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    pub networks: usize,
}

impl ExperimentConfig {
    /// Defaults, overlaid by the file at `path` (if any), overlaid by `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// [`Error::Input`] for a missing file, [`Error::Config`] for an unknown key or a bad value, also in
    /// `[search]` and `[train]`.
    pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Self> {
        let what = "experiment configuration";
        let config: Self = load_toml(what, DEFAULT_CONFIG, path, overrides)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let m = self.measure;
        let positive = [
            ("measure.width", m.width as f64),
            ("measure.height", m.height as f64),
            ("measure.runs", m.runs as f64),
            ("table3.factor", self.table3.factor),
        ];
        require("above 0", |v| v > 0.0, positive)?;
        at_most([
            ("measure.width", m.width as f64, MAX_SIDE as f64),
            ("measure.height", m.height as f64, MAX_SIDE as f64),
            ("measure.runs", m.runs as f64, 65_536.0),
            ("latency.networks", self.latency.networks as f64, 65_536.0),
            ("channels", self.channels as f64, 512.0),
        ])?;
        let lambdas = self.table3.lambdas.iter().map(|&l| ("table3.lambdas", l));
        require("0 or above", |v| v >= 0.0, lambdas)?;
        let targets = self.target.ms.iter().map(|&ms| ("target.ms", ms));
        require("above 0", |v| v > 0.0, targets)?;
        let networks = [("latency.networks", self.latency.networks as f64)];
        require("3 or above", |v| v >= 3.0, networks)?;
        let seeds = [("number of seeds", self.seeds.len() as f64)];
        require("1 or above", |v| v >= 1.0, seeds)?;
        let mut once = self.seeds.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() < self.seeds.len() {
            let detail = format!("{:?} names one twice; give each once", self.seeds);
            return Err(Error::config("seeds", detail));
        }
        for task in [Task::Ivif, Task::Mif] {
            let f = self.folders(task);
            // One that is not named is missed by those experiments alone that read it.
            let named = !f.train_a.is_empty() && !f.train_b.is_empty();
            if named && f.train_a.len() != f.train_b.len() {
                let detail = format!(
                    "{} folders but {} in train_b; name as many, the first of A with the first of B",
                    f.train_a.len(),
                    f.train_b.len()
                );
                return Err(Error::config(format!("{}.train_a", task.name()), detail));
            }
        }
        for task in [Task::Ivif, Task::Mif] {
            self.search_config(task)?;
            self.train_config(task, &[])?;
        }
        Ok(())
    }

    pub fn folders(&self, task: Task) -> &Folders {
        match task {
            Task::Ivif => &self.ivif,
            Task::Mif => &self.mif,
        }
    }

    /// Channels that a network found with so many is trained with.
    pub fn channels_of(&self, found: usize) -> usize {
        match self.channels {
            0 => found,
            channels => channels,
        }
    }

    /// `[search]` on the search's own defaults, that of the task on top.
    pub fn search_config(&self, task: Task) -> Result<SearchConfig> {
        let mut set = overrides("search", &self.search)?;
        set.extend(overrides("search", &self.folders(task).search)?);
        // Some defaults depend on the task.
        set.push(format!("task={}", task.name()));
        let mut config = SearchConfig::load(None, &set)?;
        self.fill(task, Keys::from(&mut config));
        Ok(config)
    }

    /// `[train]` on training's own defaults, that of the task and `extra` (`key=value`) on top.
    pub fn train_config(&self, task: Task, extra: &[&str]) -> Result<TrainConfig> {
        let mut set = overrides("train", &self.train)?;
        set.extend(overrides("train", &self.folders(task).train)?);
        set.extend(extra.iter().map(|s| s.to_string()));
        set.push(format!("task={}", task.name()));
        let mut config = TrainConfig::load(None, &set)?;
        self.fill(task, Keys::from(&mut config));
        Ok(config)
    }

    /// Keys that the experiment decides; folder and seed of the run are left to [`Lab`](super::runs::Lab).
    fn fill(&self, task: Task, keys: Keys<'_>) {
        let folders = self.folders(task);
        keys.features.clone_from(&self.features);
        keys.data.a = folders.train_a.clone();
        keys.data.b = folders.train_b.clone();
        *keys.perceptual = self.perceptual;
    }

    /// As TOML, for the record in the output folder.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Internal(format!("configuration: {e}")))
    }
}

/// What `[search]` or `[train]` sets, as `key=value`; refuses what the experiment decides itself.
fn overrides(section: &str, table: &toml::Table) -> Result<Vec<String>> {
    let mut set = Vec::new();
    flatten("", table, &mut set);
    let ours = [
        "task",
        "out",
        "seed",
        "perceptual",
        "features",
        "genotype",
        "data.a",
        "data.b",
    ];
    for key in ours {
        if set.iter().any(|s| s.split('=').next() == Some(key)) {
            let detail = "is decided by the experiment; set the key of the same name outside [search] and [train], \
                          or the folders in [ivif] and [mif]";
            return Err(Error::config(format!("{section}.{key}"), detail));
        }
    }
    Ok(set)
}

/// The leaves of a table as `a.b=value`.
fn flatten(prefix: &str, table: &toml::Table, out: &mut Vec<String>) {
    for (key, value) in table {
        let path = match prefix {
            "" => key.clone(),
            _ => format!("{prefix}.{key}"),
        };
        match value {
            toml::Value::Table(inner) => flatten(&path, inner, out),
            value => out.push(format!("{path}={value}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_reach_search_and_training() {
        let set = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|k| k.to_string()).collect();
            ExperimentConfig::load(None, &keys)
        };
        let c = set(&[
            "search.space.channels=8",
            "search.latency.lambda=0.5",
            "train.stage2.epochs=3",
        ])
        .unwrap();
        let s = c.search_config(Task::Mif).unwrap();
        assert_eq!(
            (s.space.channels, s.latency.lambda, s.task),
            (8, 0.5, Task::Mif)
        );
        assert_eq!(c.train_config(Task::Ivif, &[]).unwrap().stage2.epochs, 3);
        for bad in [
            "search.space.chanels=8",
            "train.seed=3",
            "mif.search.seed=3",
            "seeds=[]",
            "seeds=[1,1]",
            "table3.lambdas=[-1.0]",
            "fig4.operators=[\"7-XX\"]",
            "tabel3.factor=1",
            "latency.networks=2",
            "measure.runs=9223372036854775807",
            "measure.width=65537",
            "search.latency.height=65537",
        ] {
            let e = set(&[bad]).unwrap_err().to_string();
            assert!(!e.contains('\n'), "{bad}: {e}");
        }
        let unequal = ["ivif.train_a=[\"one\", \"two\"]", "ivif.train_b=three"];
        let e = set(&unequal).unwrap_err().to_string();
        assert!(e.contains("ivif.train_a: 2 folders but 1"), "{e}");
        let e = set(&["search.space.chanels=8"]).unwrap_err().to_string();
        assert!(e.contains("chanels"), "{e}");
    }
}
