//! A training run on disk: one safetensors file that is either the old or the new whole.

use crate::data::EpochSampler;
use crate::loss::is_feature_param;
use crate::tape::ParamStore;
use crate::tensor::io::{self, TensorMap};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 1 or 2.
    pub stage: u8,
    /// Steps done in this stage.
    pub step: u64,
    /// State of the sampler of this stage.
    pub sampler: EpochSampler,
}

/// A place in a run that a checkpoint can hold.
pub trait Position: Clone + Serialize + DeserializeOwned {
    /// Key of the file's metadata, and the kind of run in messages.
    const KEY: &'static str;
    /// Kind of run in messages, e.g. `training`.
    const KIND: &'static str;
}

impl Position for Progress {
    const KEY: &'static str = "hafuse_checkpoint";
    const KIND: &'static str = "training";
}

/// Everything that a resumed run needs to go on as if it had not stopped.
#[derive(Clone, Debug)]
pub struct Checkpoint<P = Progress> {
    /// Where the run stood.
    pub progress: P,
    /// The configuration as TOML; resuming with another one is refused.
    pub config: String,
    /// Parameters and state of the optimisers, by name, in f32.
    pub tensors: TensorMap,
}

#[derive(Serialize, Deserialize)]
struct Header<P> {
    version: u32,
    progress: P,
    config: String,
}

impl<P: Position> Checkpoint<P> {
    /// Collects parameters and optimiser state (all but the feature network) from `store`.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a value is not finite: it must not replace a good checkpoint.
    pub fn capture(store: &ParamStore, progress: P, config: String) -> Result<Self> {
        let tensors = store.export(|name| !is_feature_param(name))?;
        for (name, tensor) in &tensors {
            if !tensor.as_slice::<f32>()?.iter().all(|v| v.is_finite()) {
                return Err(Error::Diverged(format!(
                    "`{name}` is no longer finite; start another run with a lower learning rate"
                )));
            }
        }
        Ok(Self {
            progress,
            config,
            tensors,
        })
    }

    /// Writes to a temporary file and renames it over `path`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = Header {
            version: 1,
            progress: self.progress.clone(),
            config: self.config.clone(),
        };
        let json = serde_json::to_string(&header)
            .map_err(|e| Error::Internal(format!("checkpoint: {e}")))?;
        io::save(
            path,
            &self.tensors,
            &BTreeMap::from([(P::KEY.to_string(), json)]),
        )
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`Error::Input`] if it is missing, cut short or no checkpoint of this version.
    pub fn load(path: &Path) -> Result<Self> {
        let (tensors, meta) = io::load(path)?;
        let json = meta
            .get(P::KEY)
            .ok_or_else(|| Error::input(path, format!("is no {} checkpoint of hafuse", P::KIND)))?;
        let header: Header<P> = serde_json::from_str(json).map_err(|e| Error::input(path, e))?;
        if header.version != 1 {
            return Err(Error::input(
                path,
                format!(
                    "checkpoint version {} is not 1; use the hafuse that wrote it",
                    header.version
                ),
            ));
        }
        Ok(Self {
            progress: header.progress,
            config: header.config,
            tensors,
        })
    }
}
