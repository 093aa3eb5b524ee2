//! Checks of output paths before anything is computed.

use crate::tensor::io;
use crate::{Error, Result};
use std::path::Path;

/// A file can be made or replaced at `path` (folders above it may be missing), and it is none of
/// `inputs`.
pub fn check_file(path: &Path, inputs: &[&Path]) -> Result<()> {
    if let Ok(meta) = path.metadata() {
        if meta.is_dir() {
            return Err(Error::output(path, "is a folder; name a file in it"));
        }
        if !meta.is_file() {
            return Err(Error::output(
                path,
                "is a device or pipe; name a regular file",
            ));
        }
    }
    refuse_inputs(path, inputs)?;
    takes_files(parent(path), path)
}

/// A folder is or can be made at `path` that takes new files, and it is none of `inputs`.
pub fn check_folder(path: &Path, inputs: &[&Path]) -> Result<()> {
    if path.is_file() {
        return Err(Error::output(path, "is a file; name a folder"));
    }
    refuse_inputs(path, inputs)?;
    takes_files(path, path)
}

/// Makes the folder that `path` stands in.
pub fn make_parent(path: &Path) -> Result<()> {
    let dir = parent(path);
    std::fs::create_dir_all(dir).map_err(|e| Error::output(dir, e))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

fn refuse_inputs(path: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(real) = path.canonicalize() else {
        return Ok(()); // it does not exist yet
    };
    for input in inputs {
        if input.canonicalize().is_ok_and(|i| i == real) {
            return Err(Error::output(
                path,
                "is one of the inputs and would be overwritten; name another output",
            ));
        }
    }
    Ok(())
}

/// Makes and removes a file in `dir` or, if it is missing, in the nearest folder above. Asking for
/// permissions instead would be wrong on read-only and special file systems.
fn takes_files(dir: &Path, path: &Path) -> Result<()> {
    let mut at = dir;
    while !at.exists() {
        at = parent(at);
        if at == Path::new(".") {
            break;
        }
    }
    if !at.is_dir() {
        let detail = format!(
            "{} is a file, not a folder; choose another path",
            at.display()
        );
        return Err(Error::output(path, detail));
    }
    let probe = tempfile::Builder::new()
        .prefix(".hafuse-")
        .suffix(".part")
        .tempfile_in(at);
    match probe {
        Ok(_) => Ok(()), // removed when dropped
        Err(e) => Err(Error::output(
            path,
            format!(
                "no file can be made in {} ({}); choose another folder",
                at.display(),
                io::reason(&e)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_checked_without_leaving_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("in.png"), b"x").unwrap();
        let input = at("in.png");
        assert!(check_file(&at("new/deep/out.png"), &[&input]).is_ok());
        assert!(check_folder(&at("new/deep"), &[&input]).is_ok());
        assert!(check_file(Path::new("out.png"), &[&input]).is_ok());
        let wrong = [
            check_file(dir.path(), &[]),
            check_file(&at("./in.png"), &[&input]),
            check_file(&at("in.png/out.png"), &[]),
            check_folder(&at("in.png"), &[]),
            check_folder(dir.path(), &[dir.path()]),
        ];
        for (i, result) in wrong.into_iter().enumerate() {
            let error = result.expect_err(&format!("case {i}"));
            assert!(matches!(error, Error::Output { .. }), "{error}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
