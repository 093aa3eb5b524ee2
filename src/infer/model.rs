//! A trained network: genotype and weights in one file.

use crate::device::Device;
use crate::hash::Fnv1a;
use crate::net::{Genotype, param_specs};
use crate::tape::ParamStore;
use crate::tensor::io::{self, TensorMap};
use crate::tensor::{DType, Shape};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const KEY: &str = "hafuse_model";

/// Names and files of the models inside this binary.
pub const BUILTIN: &[(&str, &[u8])] = &[
    ("ivif", include_bytes!("../../models/ivif.safetensors")),
    (
        "ivif-fast",
        include_bytes!("../../models/ivif-fast.safetensors"),
    ),
    ("mif", include_bytes!("../../models/mif.safetensors")),
];

/// What `fuse`, `export`, `info` and `bench` take unless another is named: nearly as good as `ivif` and several times as
/// fast (docs/decisions/training.md, 56).
pub const DEFAULT_MODEL: &str = "ivif-fast";

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    name: String,
    genotype: Genotype,
    /// Free text for people: data, schedule, date.
    about: String,
}

/// Genotype and weights; a safetensors file whose metadata holds the genotype.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name in messages and reports.
    pub name: String,
    /// Architecture of the network.
    pub genotype: Genotype,
    /// Free text for people: data, schedule, date.
    pub about: String,
    /// Parameters of the network by name, in f32 or f16.
    pub weights: TensorMap,
}

/// Names of the built-in models.
fn known() -> String {
    let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

impl Model {
    /// A model that is compiled into this binary.
    pub fn builtin(name: &str) -> Result<Self> {
        let (_, bytes) = BUILTIN.iter().find(|(n, _)| *n == name).ok_or_else(|| {
            Error::config(
                "model",
                format!(
                    "`{name}` is neither a file nor a built-in model ({})",
                    known()
                ),
            )
        })?;
        Self::parse(bytes).map_err(|e| Error::Internal(format!("built-in model {name}: {e}")))
    }

    /// A built-in model by name, else a file.
    pub fn open(name_or_path: &str) -> Result<Self> {
        if BUILTIN.iter().any(|(n, _)| *n == name_or_path) {
            return Self::builtin(name_or_path);
        }
        let path = Path::new(name_or_path);
        if !path.exists() {
            return match path.extension() {
                None => Self::builtin(name_or_path), // the error lists the built-in names
                Some(_) => Err(Error::input(
                    path,
                    format!(
                        "no such file; a model is a file of `hafuse train` or a built-in one ({})",
                        known()
                    ),
                )),
            };
        }
        let bytes = std::fs::read(path).map_err(|e| Error::input(path, e))?;
        Self::parse(&bytes).map_err(|detail| Error::input(path, detail))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (weights, meta) = io::parse(bytes)?;
        let json = meta.get(KEY).ok_or(
            "is no hafuse model (its metadata has no genotype); train one with `hafuse train`",
        )?;
        let header: Header = serde_json::from_str(json).map_err(|e| e.to_string())?;
        if header.version != 1 {
            return Err(format!("model version {} is not 1", header.version));
        }
        let text = serde_json::to_string(&header.genotype).map_err(|e| e.to_string())?;
        let genotype = Genotype::from_json(&text).map_err(|e| e.to_string())?;
        let model = Self {
            name: header.name,
            genotype,
            about: header.about,
            weights,
        };
        model.check().map_err(|e| e.to_string())?;
        Ok(model)
    }

    /// Writes the weights as f16 (or as they are with `half: false`).
    pub fn save(&self, path: &Path, half: bool) -> Result<()> {
        let header = Header {
            version: 1,
            name: self.name.clone(),
            genotype: self.genotype.clone(),
            about: self.about.clone(),
        };
        let json =
            serde_json::to_string(&header).map_err(|e| Error::Internal(format!("model: {e}")))?;
        let weights = if half {
            self.weights
                .iter()
                .map(|(n, t)| (n.clone(), t.to_dtype(DType::F16)))
                .collect()
        } else {
            self.weights.clone()
        };
        io::save(path, &weights, &BTreeMap::from([(KEY.to_string(), json)]))
    }

    /// The shapes that the genotype asks for.
    fn expected(&self) -> Result<BTreeMap<String, Shape>> {
        let specs = param_specs(&self.genotype)?;
        Ok(specs.into_iter().map(|s| (s.name, s.shape)).collect())
    }

    /// Whether the weights fit the genotype, all of them and no others.
    pub fn check(&self) -> Result<()> {
        let expected = self.expected()?;
        for (name, shape) in &expected {
            match self.weights.get(name) {
                None => {
                    return Err(Error::Weights(format!(
                        "`{name}` {shape} of the genotype is missing"
                    )));
                }
                Some(t) if t.shape() != *shape => {
                    return Err(Error::Weights(format!(
                        "`{name}` is {}, the genotype needs {shape}",
                        t.shape()
                    )));
                }
                Some(_) => {}
            }
        }
        if let Some(extra) = self.weights.keys().find(|n| !expected.contains_key(*n)) {
            return Err(Error::Weights(format!(
                "`{extra}` has no place in the genotype"
            )));
        }
        Ok(())
    }

    /// Of genotype and weights; the same for equal models on every machine.
    pub(crate) fn hash(&self) -> Result<u64> {
        let mut hash = Fnv1a::new();
        hash.write(self.genotype.to_json()?.as_bytes());
        for (name, tensor) in &self.weights {
            hash.write(name.as_bytes());
            hash.write(bytemuck::cast_slice(&tensor.to_f64()));
        }
        Ok(hash.finish())
    }

    /// The weights in a new store on `device`, in `dtype`.
    pub fn params_on(&self, device: &Device, dtype: DType) -> Result<ParamStore> {
        let store = ParamStore::on(device);
        for (name, t) in &self.weights {
            store.set(name, &t.to_dtype(dtype))?;
        }
        Ok(store)
    }
}
