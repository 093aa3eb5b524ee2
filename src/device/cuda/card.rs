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
    let own_kernels = std::env::var_os(kernels::FOLDER_VARIABLE).is_some();
    Error::Device {
        device: device.into(),
        detail: format!("{what}: {:?}; {}", e.0, way_out(e.0, own_kernels)),
    }
}

/// Advice for a code of the driver; `own_kernels`: those of a folder, not of this binary.
fn way_out(code: sys::CUresult, own_kernels: bool) -> &'static str {
    use sys::CUresult as C;
    match code {
        C::CUDA_ERROR_OUT_OF_MEMORY => {
            "use a smaller picture or batch, --precision f16, or --device cpu"
        }
        C::CUDA_ERROR_NO_BINARY_FOR_GPU
        | C::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | C::CUDA_ERROR_INVALID_IMAGE
        | C::CUDA_ERROR_INVALID_PTX
        | C::CUDA_ERROR_INVALID_SOURCE
        | C::CUDA_ERROR_JIT_COMPILER_NOT_FOUND => match own_kernels {
            true => "the files in the folder of HAFUSE_KERNELS are not for this card or driver",
            false => {
                "the driver is older than the CUDA toolkit of this build: update it, or rebuild with an older nvcc"
            }
        },
        C::CUDA_ERROR_LAUNCH_FAILED
        | C::CUDA_ERROR_LAUNCH_TIMEOUT
        | C::CUDA_ERROR_ILLEGAL_ADDRESS
        | C::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | C::CUDA_ERROR_MISALIGNED_ADDRESS
        | C::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | C::CUDA_ERROR_INVALID_PC
        | C::CUDA_ERROR_HARDWARE_STACK_ERROR
        | C::CUDA_ERROR_ASSERT => "HAFUSE_SYNC=1 names the operator; please report it",
        C::CUDA_ERROR_STUB_LIBRARY => {
            "the libcuda.so that was found is the toolkit's stub: take its folder `stubs` off LD_LIBRARY_PATH, or install the driver"
        }
        C::CUDA_ERROR_ECC_UNCORRECTABLE => {
            "memory of the card is broken or wants a reset: `nvidia-smi -q -d ECC`"
        }
        C::CUDA_ERROR_OPERATING_SYSTEM | C::CUDA_ERROR_NOT_PERMITTED => {
            "this process may not use the card: check /dev/nvidia* and, in a container, `--gpus all`"
        }
        C::CUDA_ERROR_SYSTEM_NOT_READY => {
            "the fabric of the cards is not up: start nvidia-fabricmanager and try again"
        }
        C::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "libcuda and the kernel's module are of different versions: reboot after an update of the driver"
        }
        C::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "the package cuda-compat does not serve this card: remove it, or update the driver"
        }
        C::CUDA_ERROR_UNKNOWN => {
            "often after sleep or an update of the driver: reload the module nvidia_uvm, or reboot"
        }
        _ => "look at `nvidia-smi` and `hafuse doctor`, or use --device cpu",
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

#[cfg(test)]
mod tests {
    use super::*;
    use sys::CUresult as C;

    #[test]
    fn a_failure_names_the_code_and_a_way_out() {
        for (code, words) in [
            (C::CUDA_ERROR_OUT_OF_MEMORY, "smaller picture"),
            (C::CUDA_ERROR_STUB_LIBRARY, "stubs"),
            (C::CUDA_ERROR_NO_BINARY_FOR_GPU, "update it"),
            (C::CUDA_ERROR_INVALID_IMAGE, "update it"),
            (C::CUDA_ERROR_INVALID_PTX, "update it"),
            (C::CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "update it"),
            (C::CUDA_ERROR_ILLEGAL_ADDRESS, "HAFUSE_SYNC=1"),
            (C::CUDA_ERROR_ILLEGAL_INSTRUCTION, "HAFUSE_SYNC=1"),
            (C::CUDA_ERROR_MISALIGNED_ADDRESS, "HAFUSE_SYNC=1"),
            (C::CUDA_ERROR_INVALID_PC, "HAFUSE_SYNC=1"),
            (C::CUDA_ERROR_SYSTEM_NOT_READY, "fabricmanager"),
            (C::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "reboot"),
            (C::CUDA_ERROR_UNKNOWN, "nvidia_uvm"),
            (C::CUDA_ERROR_ILLEGAL_STATE, "--device cpu"),
        ] {
            let text = way_out(code, false);
            assert!(
                text.contains(words) && !text.contains('\n'),
                "{code:?}: {text}"
            );
            let e = fail("cuda:1", "opening the card", DriverError(code)).to_string();
            let all = e.contains("cuda:1: opening the card") && e.contains(&format!("{code:?}"));
            assert!(all, "{e}");
        }
        assert!(way_out(C::CUDA_ERROR_INVALID_PTX, true).contains("HAFUSE_KERNELS"));
    }
}
