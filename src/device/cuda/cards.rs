//! The cards that the driver sees, and its failures in words.

use super::driver::{self, Failure};
use crate::device::{Card, kernels};
use crate::{Error, Result};
use cudarc::driver::sys::{CUdevice_attribute, CUresult};
use std::ffi::CStr;

/// The CUDA version of the oldest driver that has every function called here.
const OLDEST: (u32, u32) = (11, 4);

/// A failed call of the driver in words.
pub(super) fn fail(device: &str, what: &str, failure: Failure) -> Error {
    let (detail, way_out) = match failure {
        Failure::NoDriver => (
            "no NVIDIA driver was found".into(),
            "install one (libcuda.so or nvcuda.dll), or use the CPU".into(),
        ),
        Failure::Missing(name) => (
            format!("{what}: the driver's library has no function {name}"),
            format!(
                "install a whole driver for CUDA {}.{} or newer, or use the CPU",
                OLDEST.0, OLDEST.1
            ),
        ),
        Failure::Code(code) => {
            let mut known = ADVICE.iter().flat_map(|(codes, _)| *codes);
            let known = known.find(|c| **c as u32 == code);
            // A driver that does not start may not tell.
            let name = driver::name_of(code).or(known.map(|c| format!("{c:?}")));
            let detail = match name {
                Some(name) => format!("{what}: {name} ({code})"),
                None => format!("{what}: error {code} of the driver"),
            };
            if failure.is(CUresult::CUDA_ERROR_OUT_OF_MEMORY) {
                return Error::DeviceMemory {
                    device: device.into(),
                    detail,
                };
            }
            let own_kernels = std::env::var_os(kernels::FOLDER_VARIABLE).is_some();
            (detail, way_out(code, own_kernels).into())
        }
    };
    Error::Device {
        device: device.into(),
        detail,
        way_out,
    }
}

/// What to do about codes.
const ADVICE: &[(&[CUresult], &str)] = {
    use CUresult::*;
    &[
        (
            OTHER_KERNELS,
            "the driver is older than the CUDA toolkit of this build: update it, or rebuild with an older nvcc",
        ),
        (
            &[
                CUDA_ERROR_LAUNCH_FAILED,
                CUDA_ERROR_LAUNCH_TIMEOUT,
                CUDA_ERROR_ILLEGAL_ADDRESS,
                CUDA_ERROR_ILLEGAL_INSTRUCTION,
                CUDA_ERROR_MISALIGNED_ADDRESS,
                CUDA_ERROR_INVALID_ADDRESS_SPACE,
                CUDA_ERROR_INVALID_PC,
                CUDA_ERROR_HARDWARE_STACK_ERROR,
                CUDA_ERROR_ASSERT,
            ],
            "HAFUSE_SYNC=1 names the operator; please report it",
        ),
        (
            &[CUDA_ERROR_STUB_LIBRARY],
            "the libcuda.so that was found is the toolkit's stub: take its folder `stubs` off LD_LIBRARY_PATH, or install the driver",
        ),
        (
            &[CUDA_ERROR_ECC_UNCORRECTABLE],
            "memory of the card is broken or wants a reset: `nvidia-smi -q -d ECC`",
        ),
        (
            &[CUDA_ERROR_OPERATING_SYSTEM, CUDA_ERROR_NOT_PERMITTED],
            "this process may not use the card: check /dev/nvidia* and, in a container, `--gpus all`",
        ),
        (
            &[CUDA_ERROR_SYSTEM_NOT_READY],
            "the fabric of the cards is not up: start nvidia-fabricmanager and try again",
        ),
        (
            &[CUDA_ERROR_SYSTEM_DRIVER_MISMATCH],
            "libcuda and the kernel's module are of different versions: reboot after an update of the driver",
        ),
        (
            &[CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE],
            "the package cuda-compat does not serve this card: remove it, or update the driver",
        ),
        (
            &[CUDA_ERROR_UNKNOWN],
            "often after sleep or an update of the driver: reload the module nvidia_uvm, or reboot",
        ),
    ]
};

/// The driver cannot load the kernels that it was given.
const OTHER_KERNELS: &[CUresult] = &[
    CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU,
    CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
    CUresult::CUDA_ERROR_INVALID_IMAGE,
    CUresult::CUDA_ERROR_INVALID_PTX,
    CUresult::CUDA_ERROR_INVALID_SOURCE,
    CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND,
];

/// Advice for a code of the driver; `own_kernels`: those of a folder, not of this binary.
fn way_out(code: u32, own_kernels: bool) -> &'static str {
    let is_of = |codes: &[CUresult]| codes.iter().any(|c| *c as u32 == code);
    if own_kernels && is_of(OTHER_KERNELS) {
        return "the files in the folder of HAFUSE_KERNELS are not for this card or driver";
    }
    let known = ADVICE.iter().find(|(codes, _)| is_of(codes));
    known.map_or(
        "look at `nvidia-smi` and `hafuse doctor`, or use the CPU",
        |(_, advice)| advice,
    )
}

fn start() -> Result<()> {
    // SAFETY: takes no pointer.
    unsafe { driver::cuInit(0) }.map_err(|e| match e.is(CUresult::CUDA_ERROR_NO_DEVICE) {
        true => no_card(0),
        false => fail("cuda", "the driver does not start", e),
    })
}

pub(super) fn no_card(found: usize) -> Error {
    let (detail, way_out) = match found {
        0 => (
            "the driver is there, but no card".into(),
            "look at `nvidia-smi`, or use the CPU",
        ),
        _ => (
            format!("there are {found} cards, counted from 0"),
            "see `hafuse doctor`",
        ),
    };
    Error::Device {
        device: "cuda".into(),
        detail,
        way_out: way_out.into(),
    }
}

/// Whether there is a driver, whatever it can do.
pub fn has_driver() -> bool {
    driver::present()
}

/// The driver's CUDA version, e.g. `(13, 0)`.
///
/// # Errors
/// [`Error::Device`] without a driver.
pub fn driver_version() -> Result<(u32, u32)> {
    start()?;
    let mut version = 0;
    // SAFETY: the pointer is good for one int.
    unsafe { driver::cuDriverGetVersion(&mut version) }
        .map_err(|e| fail("cuda", "driver version", e))?;
    Ok((version as u32 / 1000, version as u32 % 1000 / 10))
}

/// All cards that the driver sees, by their ordinals; a broken one is an error among the others.
///
/// # Errors
/// [`Error::Device`] without a driver or a card.
pub fn cards() -> Result<Vec<Result<Card>>> {
    let (major, minor) = driver_version()?;
    if (major, minor) < OLDEST {
        return Err(Error::Device {
            device: "cuda".into(),
            detail: format!(
                "the driver is for CUDA {major}.{minor}, this binary needs {}.{} or newer",
                OLDEST.0, OLDEST.1
            ),
            way_out: "update it, or use the CPU".into(),
        });
    }
    let mut count = 0;
    // SAFETY: the pointer is good for one int.
    unsafe { driver::cuDeviceGetCount(&mut count) }
        .map_err(|e| fail("cuda", "counting cards", e))?;
    match count {
        0 => Err(no_card(0)),
        _ => Ok((0..count as usize).map(card).collect()),
    }
}

fn card(ordinal: usize) -> Result<Card> {
    use CUdevice_attribute as A;
    let label = format!("cuda:{ordinal}");
    let read = |done: Result<(), Failure>| {
        done.map_err(|e| fail(&label, "reading the card's properties", e))
    };
    let mut device = 0;
    // SAFETY: the pointer is good for one device.
    read(unsafe { driver::cuDeviceGet(&mut device, ordinal as i32) })?;
    let attribute = |which: A| {
        let mut value = 0;
        // SAFETY: the pointer is good for one int, and `device` came from the driver just now.
        read(unsafe { driver::cuDeviceGetAttribute(&mut value, which, device) })
            .map(|()| value as u32)
    };
    let mut name = [0u8; 128];
    let mut memory = 0;
    // SAFETY: as above; the length is that of the array.
    unsafe {
        let text = name.as_mut_ptr().cast();
        read(driver::cuDeviceGetName(text, name.len() as i32, device))?;
        read(driver::cuDeviceTotalMem_v2(&mut memory, device))?;
    }
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    let capability = (
        attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    Ok(Card {
        ordinal,
        name: name.to_string_lossy().into_owned(),
        capability,
        code: kernels::code_for(capability),
        multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        l2: attribute(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
        memory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_code_and_a_way_out() {
        for (code, words) in [
            (34, "stubs"),
            (200, "update it"),
            (209, "update it"),
            (218, "update it"),
            (221, "update it"),
            (700, "HAFUSE_SYNC=1"),
            (715, "HAFUSE_SYNC=1"),
            (716, "HAFUSE_SYNC=1"),
            (718, "HAFUSE_SYNC=1"),
            (802, "fabricmanager"),
            (803, "reboot"),
            (999, "nvidia_uvm"),
            (401, "the CPU"),
            // No code of any driver yet.
            (123_456, "the CPU"),
        ] {
            // Another test may have set HAFUSE_KERNELS, which `fail` looks at.
            let text = way_out(code, false);
            assert!(
                text.contains(words) && !text.contains('\n'),
                "{code}: {text}"
            );
            let e = fail("cuda:1", "opening the card", Failure::Code(code)).to_string();
            let all = ["cuda:1: opening the card", &code.to_string()];
            assert!(all.iter().all(|w| e.contains(w)), "{e}");
        }
        let e = fail("cuda", "starting", Failure::Code(34)).to_string();
        assert!(e.contains("CUDA_ERROR_STUB_LIBRARY (34)"), "{e}");
        assert!(way_out(218, true).contains("HAFUSE_KERNELS"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let e = fail("cuda", "starting", Failure::Missing("cuGraphLaunch")).to_string();
        assert!(e.contains("cuGraphLaunch") && e.contains("11.4"), "{e}");
        let e = fail("cuda", "starting", Failure::NoDriver).to_string();
        assert!(e.contains("no NVIDIA driver"), "{e}");
        let e = fail("cuda:0", "allocating", Failure::Code(2));
        assert!(matches!(e, Error::DeviceMemory { .. }), "{e}");
        assert!(e.to_string().contains("smaller picture"), "{e}");
    }
}
