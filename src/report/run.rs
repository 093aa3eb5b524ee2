//! What the folder of a search holds.

use crate::net::Genotype;
use crate::search::{LatencyTable, LayerWeights, Phase};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A line of metrics.jsonl.
#[derive(Clone, Debug, Deserialize)]
pub struct Epoch {
    pub stage: u8,
    pub epoch: u64,
    pub phase: Phase,
    pub train: f64,
    pub val: f64,
    pub lat: f64,
    pub alpha_entropy: f64,
    pub beta_entropy: f64,
    pub layers: Vec<LayerWeights>,
}

/// A search, ended or not.
pub struct Run {
    /// config.toml, as text and as values.
    pub config_text: String,
    pub config: toml::Table,
    pub epochs: Vec<Epoch>,
    /// `None` while the search goes on.
    pub genotype: Option<Genotype>,
    /// search.json, with the genotype.
    pub record: Option<Value>,
    pub table: Option<LatencyTable>,
    /// What was passed over.
    pub notes: Vec<String>,
}

impl Run {
    /// Reads the folder of a search.
    ///
    /// # Errors
    /// [`Error::Input`] if it is none, or if no inner epoch has ended yet.
    pub fn load(dir: &Path) -> Result<Self> {
        let file = |name: &str| dir.join(name);
        let read = |name: &str| std::fs::read_to_string(file(name));
        let config_text = read("config.toml").map_err(|_| {
            Error::input(
                dir,
                "is no folder of `hafuse search`: it has no config.toml",
            )
        })?;
        let config: toml::Table = config_text
            .parse()
            .map_err(|e| Error::input(file("config.toml"), e))?;
        let text = read("metrics.jsonl").map_err(|_| {
            let detail = "has no metrics.jsonl: it is no folder of `hafuse search`, or no inner epoch has ended yet";
            Error::input(dir, detail)
        })?;
        let mut notes = Vec::new();
        let mut epochs: Vec<Epoch> = Vec::new();
        let count = text.lines().count();
        for (i, line) in text.lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(epoch) => epochs.push(epoch),
                // A line that is being written, or that a kill cut off.
                Err(_) if i + 1 == count && !text.ends_with('\n') => {
                    notes.push(
                        "The last line of metrics.jsonl is not whole; it was passed over.".into(),
                    );
                }
                Err(e) => {
                    let detail = format!("line {} is no epoch of a search: {e}", i + 1);
                    return Err(Error::input(file("metrics.jsonl"), detail));
                }
            }
        }
        if epochs.is_empty() {
            return Err(Error::input(
                file("metrics.jsonl"),
                "no inner epoch has ended yet",
            ));
        }
        let genotype = match file("genotype.json").exists() {
            true => Some(Genotype::load(&file("genotype.json"))?),
            false => None,
        };
        let record = match &genotype {
            None => {
                notes.push("The search has not ended; this is how far it got.".into());
                None
            }
            Some(_) => {
                let path = file("search.json");
                let text = std::fs::read_to_string(&path).map_err(|e| Error::input(&path, e))?;
                Some(serde_json::from_str(&text).map_err(|e| Error::input(&path, e))?)
            }
        };
        let table = match file("latency.json").exists() {
            true => Some(LatencyTable::load(&file("latency.json"))?),
            false => None,
        };
        Ok(Self {
            config_text,
            config,
            epochs,
            genotype,
            record,
            table,
            notes,
        })
    }

    /// A key of the configuration as text, `latency.lambda` say.
    pub fn key(&self, path: &str) -> String {
        let mut words = path.split('.');
        let first = words.next().and_then(|w| self.config.get(w));
        let value = words.fold(first, |v, w| v.and_then(|v| v.get(w)));
        match value {
            None => "-".into(),
            Some(toml::Value::String(s)) => s.clone(),
            Some(v) => v.to_string(),
        }
    }

    /// The layers as they are now: those of the end, else of the last inner epoch.
    pub fn layers(&self) -> &[LayerWeights] {
        self.epochs.last().map_or(&[], |e| &e.layers)
    }
}
