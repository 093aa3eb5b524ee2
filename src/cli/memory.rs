//! How much memory something takes and how much there is.

use super::terminal;
use crate::device::Device;
use crate::infer::Engine;
use crate::net::Genotype;
use crate::tape::{Session, Tape};
use crate::tensor::DType;
use crate::{Error, Result};
use std::path::Path;

/// The network on one pair of pictures, with the output `fused`.
pub fn fusion_tape(genotype: &Genotype, height: usize, width: usize) -> Result<Tape> {
    crate::net::fusion_tape(genotype, [1, height, width], DType::F32)
}

/// Most memory this process has held so far; `None` where the system does not say.
pub fn peak_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Says so if a session of `tape` would not fit into memory: trying would end the process.
pub fn shortage(tape: &Tape) -> Option<String> {
    lacking(FUSING, Session::planned_bytes(tape))
}

const FUSING: &str = "fusing that";

/// Says so if `what` needs more bytes than are free.
pub fn lacking(what: &str, needed: usize) -> Option<String> {
    let needed = needed as u64;
    let free = available_bytes().filter(|&free| free < needed)?;
    Some(format!(
        "{what} needs {} of memory, {} are free",
        terminal::bytes(needed),
        terminal::bytes(free)
    ))
}

/// Refuses a picture whose fusion would not fit in memory, which would end the process.
pub fn check_fits(engine: &Engine, path: &Path, width: usize, height: usize) -> Result<()> {
    // A card says so itself when it cannot allocate.
    if matches!(engine.device(), Device::Cuda(_)) {
        return Ok(());
    }
    let tape = fusion_tape(&engine.model().genotype, height, width)?;
    check_bytes(Session::planned_bytes(&tape), path, width, height)
}

/// Refuses a picture whose fusion needs more bytes than are free.
pub fn check_bytes(needed: usize, path: &Path, width: usize, height: usize) -> Result<()> {
    match lacking(FUSING, needed) {
        Some(shortage) => Err(Error::input(
            path,
            format!("is {width}x{height}; {shortage}; downscale or tile it"),
        )),
        None => Ok(()),
    }
}

/// Memory that can be had without swapping; `None` where the system does not say.
fn available_bytes() -> Option<u64> {
    let system = field("/proc/meminfo", "MemAvailable:");
    let group = |file: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{file}")).ok()?;
        text.trim().parse().ok()
    };
    let group = group("max").map(|max| max.saturating_sub(group("current").unwrap_or(0)));
    system.into_iter().chain(group).min()
}

/// A field in kB of one of Linux's text files.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    let kb: u64 = line.split_whitespace().next()?.parse().ok()?;
    kb.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_both() {
        assert!(peak_bytes() > Some(1 << 20));
        assert!(available_bytes() > Some(1 << 20));
    }
}
