//! What the driver sees, and its failures in words.

use crate::device::kernels;
use crate::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::fmt;

/// A card, as far as its properties go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub ordinal: usize,
    pub name: String,
    /// Compute capability, e.g. `(8, 6)`.
    pub capability: (u32, u32),
    /// Architecture of the code that it would run, e.g. 86; `None` if this binary has none for it.
    pub code: Option<u32>,
    pub multiprocessors: u32,
    /// Bytes.
    pub memory: usize,
    /// Bytes of second-level cache.
    pub l2: usize,
}

impl Card {
    /// Whether the code it runs has tensor-core instructions: PTX of an older architecture does not.
    pub fn tensor_cores(&self) -> bool {
        self.code >= Some(75)
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        write!(f, "{} (sm_{major}{minor})", self.name)
    }
}

/// The CUDA version of the oldest driver that has every function called here: cudarc's feature.
const OLDEST: (u32, u32) = (11, 4);

/// Why the driver cannot be used.
fn no_driver(device: &str) -> Error {
    Error::Device {
        device: device.into(),
        detail: "no NVIDIA driver was found (libcuda.so or nvcuda.dll); \
                 install one, or use --device cpu"
            .into(),
    }
}

/// A failed driver call in words; never through `Display`, which would call the driver again.
pub(super) fn fail(device: &str, what: &str, e: DriverError) -> Error {
    let name = format!("{:?}", e.0);
    let hint = match e.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "; use a smaller picture or batch, --precision f16, or --device cpu"
        }
        sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        | sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "; the driver is older than the CUDA toolkit of this build: update it, or rebuild with an older nvcc"
        }
        sys::CUresult::CUDA_ERROR_LAUNCH_FAILED | sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS => {
            "; HAFUSE_SYNC=1 names the operator"
        }
        _ => "",
    };
    Error::Device {
        device: device.into(),
        detail: format!("{what}: {name}{hint}"),
    }
}

fn start() -> Result<(), Error> {
    // SAFETY: only tries to open the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(no_driver("cuda"));
    }
    result::init().map_err(|e| match e.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => no_card(0),
        _ => fail("cuda", "the driver does not start", e),
    })
}

pub(super) fn no_card(found: usize) -> Error {
    let detail = match found {
        0 => "the driver is there, but no card; look at `nvidia-smi`, or use --device cpu".into(),
        _ => format!("there are {found} cards, counted from 0; see `hafuse doctor`"),
    };
    Error::Device {
        device: "cuda".into(),
        detail,
    }
}

/// The driver's CUDA version, e.g. `(13, 0)`.
///
/// # Errors
/// [`Error::Device`] without a driver.
pub fn driver_version() -> Result<(u32, u32)> {
    start()?;
    let mut version = 0;
    // SAFETY: the library is there (`start`), the pointer is good for one int.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    status
        .result()
        .map_err(|e| fail("cuda", "driver version", e))?;
    Ok((version as u32 / 1000, version as u32 % 1000 / 10))
}

/// All cards that the driver sees.
///
/// # Errors
/// [`Error::Device`] without a driver or a card.
pub fn cards() -> Result<Vec<Card>> {
    let (major, minor) = driver_version()?;
    // cudarc panics where a driver lacks a function.
    if (major, minor) < OLDEST {
        return Err(Error::Device {
            device: "cuda".into(),
            detail: format!(
                "the driver is for CUDA {major}.{minor}, this binary needs {}.{} or newer; \
                 update it, or use --device cpu",
                OLDEST.0, OLDEST.1
            ),
        });
    }
    let count = result::device::get_count().map_err(|e| fail("cuda", "counting cards", e))?;
    if count == 0 {
        return Err(no_card(0));
    }
    (0..count as usize).map(card).collect()
}

fn card(ordinal: usize) -> Result<Card> {
    use sys::CUdevice_attribute as A;
    let name = format!("cuda:{ordinal}");
    let fail = |e| fail(&name, "reading the card's properties", e);
    let device = result::device::get(ordinal as i32).map_err(fail)?;
    // SAFETY: `device` came from the driver just now.
    let attribute = |a: A| unsafe { result::device::get_attribute(device, a) }.map_err(fail);
    let capability = (
        attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
        attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
    );
    Ok(Card {
        ordinal,
        name: result::device::get_name(device).map_err(fail)?,
        capability,
        code: kernels::code_for(capability),
        multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
        l2: attribute(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device) }.map_err(fail)?,
    })
}
