//! Named tensors in and out of safetensors files.

use super::{DType, Shape, Tensor};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

/// Tensors by name, in name order.
pub type TensorMap = BTreeMap<String, Tensor>;

/// Reads every tensor and the metadata of a safetensors file.
///
/// # Errors
/// [`Error::Input`] if the file is missing, cut short or holds another dtype than f16, f32 or f64.
pub fn load(path: &Path) -> Result<(TensorMap, BTreeMap<String, String>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::input(path, e))?;
    parse(&bytes).map_err(|detail| Error::input(path, detail))
}

/// Reads tensors and metadata from the bytes of a safetensors file (e.g. embedded in the binary).
pub fn parse(bytes: &[u8]) -> Result<(TensorMap, BTreeMap<String, String>), String> {
    let whole = |e| format!("not a whole safetensors file ({e})");
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(whole)?;
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(whole)?;
    let mut out = TensorMap::new();
    for (name, view) in file.tensors() {
        let shape = Shape::new(view.shape()).map_err(|e| format!("tensor {name}: {e}"))?;
        let data = view.data();
        let tensor = match view.dtype() {
            Dtype::F16 => Tensor::from_vec(shape, decode(data, half::f16::from_le_bytes)),
            Dtype::F32 => Tensor::from_vec(shape, decode(data, f32::from_le_bytes)),
            Dtype::F64 => Tensor::from_vec(shape, decode(data, f64::from_le_bytes)),
            other => {
                return Err(format!(
                    "tensor {name} has dtype {other:?}; f16, f32 and f64 are supported"
                ));
            }
        };
        out.insert(name, tensor.map_err(|e| e.to_string())?);
    }
    let meta = header.metadata().clone().unwrap_or_default();
    Ok((out, meta.into_iter().collect()))
}

fn decode<T, const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .chunks_exact(N)
        .map(|c| f(c.try_into().expect("chunks_exact gives N bytes")))
        .collect()
}

/// The bytes of a safetensors file with these tensors and this metadata.
pub fn serialize(tensors: &TensorMap, meta: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let bytes: Vec<(&String, &Tensor, Vec<u8>)> = tensors
        .iter()
        .map(|(name, t)| (name, t, le_bytes(t)))
        .collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, t, b) in &bytes {
        let dtype = match t.dtype() {
            DType::F16 => Dtype::F16,
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
        };
        let view = TensorView::new(dtype, t.shape().dims().to_vec(), b)
            .map_err(|e| Error::Internal(format!("safetensors view of {name}: {e}")))?;
        views.push((name.as_str(), view));
    }
    let meta: HashMap<String, String> = meta.clone().into_iter().collect();
    safetensors::serialize(views, Some(meta))
        .map_err(|e| Error::Internal(format!("safetensors: {e}")))
}

fn le_bytes(t: &Tensor) -> Vec<u8> {
    if cfg!(target_endian = "little") {
        t.bytes().to_vec()
    } else {
        t.bytes()
            .chunks_exact(t.dtype().size())
            .flat_map(|c| c.iter().rev().copied())
            .collect()
    }
}

/// Writes a safetensors file; `path` holds either its old content or the whole new one.
pub fn save(path: &Path, tensors: &TensorMap, meta: &BTreeMap<String, String>) -> Result<()> {
    write_atomic(path, &serialize(tensors, meta)?)
}

/// How names of files begin and end that are being written.
pub(crate) const PART: (&str, &str) = (".hafuse-", ".part");

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it into place.
///
/// # Errors
/// [`Error::Output`]; an existing file at `path` is then untouched and no partial file is left.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |e: std::io::Error| Error::output(path, reason(&e));
    let dir = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(Error::output(path, "is a folder; name a file in it"));
    }
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{}{}-", PART.0, std::process::id());
    builder.prefix(&prefix).suffix(PART.1);
    #[cfg(unix)]
    {
        // tempfile's default of 0600 would make results unreadable to others; the umask still applies.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut tmp = builder.tempfile_in(dir).map_err(fail)?;
    tmp.write_all(bytes).map_err(fail)?;
    tmp.as_file().sync_all().map_err(fail)?;
    tmp.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

/// What went wrong, without the name of the temporary file that `tempfile` appends.
pub(crate) fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.split_once(" at path \"") {
        Some((reason, _)) => reason.to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_survive_a_round_trip_in_every_dtype() {
        let mut tensors = TensorMap::new();
        for dtype in [DType::F16, DType::F32, DType::F64] {
            tensors.insert(format!("t.{dtype}"), Tensor::full([2, 3], dtype, 0.5));
        }
        tensors.insert("scalar".into(), Tensor::scalar(DType::F32, -2.0));
        let meta = BTreeMap::from([("version".to_string(), "1".to_string())]);
        let bytes = serialize(&tensors, &meta).unwrap();
        assert_eq!(parse(&bytes).unwrap(), (tensors, meta));
        assert!(parse(&bytes[..bytes.len() - 1]).is_err(), "cut short");
    }
}
