//! Whether a picture fits in memory, asked before it is read.

use crate::device::Device;
use crate::device::memory::available_bytes;
use crate::infer::Engine;
use crate::units::bytes;
use crate::{Error, Result};

/// The process itself with its weights.
const BASE_BYTES: usize = 64 << 20;

/// Says so if `what` needs more bytes than are free.
pub(crate) fn lacking(what: &str, needed: usize) -> Option<String> {
    let needed = needed as u64;
    let free = available_bytes().filter(|&free| free < needed)?;
    Some(format!(
        "{what} needs {} of memory, {} are free",
        bytes(needed),
        bytes(free)
    ))
}

/// Bytes of a pair of pictures from reading to writing, beside what fusing takes: planes of both sources with colour
/// in f32, the result, samples and files.
pub(crate) fn picture_bytes(width: usize, height: usize) -> usize {
    width.saturating_mul(height).saturating_mul(32)
}

/// Most memory that the process may take, and what a worker may take of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub asked: usize,
    /// Beside [`BASE_BYTES`], with the pictures.
    pub bytes: usize,
}

impl Limit {
    /// All of it for one worker.
    pub fn new(asked: usize) -> Self {
        let bytes = asked.saturating_sub(BASE_BYTES);
        Self { asked, bytes }
    }

    /// Refuses a picture that needs more than this.
    fn check(self, needed: usize, size: (usize, usize)) -> Result<()> {
        if needed <= self.bytes {
            return Ok(());
        }
        let all = bytes(needed.saturating_add(BASE_BYTES) as u64);
        let asked = bytes(self.asked as u64);
        let detail = format!("fusing that needs {all}, the limit is {asked}; allow that much");
        Err(too_large(size, detail))
    }
}

/// Has `engine` take no more than the limit with the pictures or, without one, than is free beside them; refuses a
/// picture for which that is too little: trying would end the process. Best asked before the pictures are read.
pub(crate) fn check_fits(
    engine: &mut Engine,
    most: Option<Limit>,
    (width, height): (usize, usize),
) -> Result<()> {
    let pictures = picture_bytes(width, height);
    // A card says so itself when it cannot allocate.
    if matches!(engine.device(), Device::Cuda(_)) {
        return most.map_or(Ok(()), |most| most.check(pictures, (width, height)));
    }
    engine.limit_memory(usize::MAX);
    let free = || available_bytes().map_or(usize::MAX, |free| free as usize);
    let limit = most.map_or_else(free, |most| most.bytes);
    let limit = limit.saturating_sub(pictures);
    if engine.planned_bytes(1, height, width)? <= limit {
        return Ok(());
    }
    engine.limit_memory(limit);
    let needed = engine.planned_bytes(1, height, width)?;
    match needed <= limit {
        true => Ok(()),
        false => check_bytes(needed, most, (width, height)),
    }
}

/// Refuses a picture whose fusion needs more bytes, beside the pictures, than the limit leaves or are free.
pub(crate) fn check_bytes(needed: usize, most: Option<Limit>, size: (usize, usize)) -> Result<()> {
    let needed = needed.saturating_add(picture_bytes(size.0, size.1));
    match (most, lacking("fusing that", needed)) {
        (Some(most), _) => most.check(needed, size),
        (None, Some(shortage)) => Err(too_large(size, shortage)),
        (None, None) => Ok(()),
    }
}

fn too_large((width, height): (usize, usize), detail: String) -> Error {
    Error::TooLarge {
        width,
        height,
        detail,
    }
}
