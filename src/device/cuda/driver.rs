//! The driver's functions, each found by its name in the library.
//!
//! cudarc opens the library and declares types and functions after `cuda.h`, but nothing is called through it: its
//! functions return an enum, and a code that the enum lacks, as newer drivers have, would be undefined behaviour; and
//! they panic where the library lacks them. Here a code stays an integer, and a function that is not there a
//! [`Failure`].

use cudarc::driver::sys;
use std::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;
use sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction, CUgraph,
    CUgraphExec, CUmodule, CUresult, CUstream, CUstreamCaptureMode,
};

/// Why a call did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no library.
    NoDriver,
    /// The library has no function of this name.
    Missing(&'static str),
    /// What the function returned.
    Code(u32),
}

impl Failure {
    pub fn is(self, code: CUresult) -> bool {
        self == Failure::Code(code as u32)
    }
}

/// The table of functions, and for each a call with its arguments.
macro_rules! functions {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        #[allow(non_snake_case)]
        struct Functions {
            $($name: Option<unsafe extern "system" fn($($type),*) -> u32>,)*
        }

        impl Functions {
            fn load() -> Self {
                // SAFETY: `functions` has found the library; cudarc panics where there is none.
                let library = unsafe { sys::culib() };
                Self {
                    // SAFETY: the arguments are those of `cuda.h` (compared below), and the result is
                    // the 32 bits of its enum.
                    $($name: unsafe { library.get(stringify!($name)) }.ok().map(|f| *f),)*
                }
            }

            /// The first that is not there.
            fn missing(&self) -> Option<&'static str> {
                $(if self.$name.is_none() {
                    return Some(stringify!($name));
                })*
                None
            }
        }

        $(
            // cudarc's declaration is made from `cuda.h`.
            const _: unsafe fn($($type),*) -> CUresult = sys::$name;

            /// # Safety
            /// As `cuda.h` has it.
            #[allow(non_snake_case, clippy::too_many_arguments)]
            pub(super) unsafe fn $name($($arg: $type),*) -> Result<(), Failure> {
                let function = functions()?.$name.ok_or(Failure::Missing(stringify!($name)))?;
                // SAFETY: the caller's promise.
                match unsafe { function($($arg),*) } {
                    0 => Ok(()),
                    code => Err(Failure::Code(code)),
                }
            }
        )*
    };
}

functions! {
    cuInit(flags: c_uint);
    cuDriverGetVersion(version: *mut c_int);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    cuDeviceGetName(name: *mut c_char, bytes: c_int, device: CUdevice);
    cuDeviceGetAttribute(value: *mut c_int, attribute: CUdevice_attribute, device: CUdevice);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: c_uint);
    cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    cuCtxSetCurrent(context: CUcontext);
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    cuMemAlloc_v2(pointer: *mut CUdeviceptr, bytes: usize);
    cuMemFree_v2(pointer: CUdeviceptr);
    cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemFreeHost(pointer: *mut c_void);
    cuMemcpyDtoH_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize);
    cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemsetD8Async(to: CUdeviceptr, value: c_uchar, bytes: usize, stream: CUstream);
    cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    cuModuleUnload(module: CUmodule);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuModuleGetGlobal_v2(pointer: *mut CUdeviceptr, bytes: *mut usize, module: CUmodule, name: *const c_char);
    cuLaunchKernel(
        function: CUfunction,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: CUstream, params: *mut *mut c_void, extra: *mut *mut c_void
    );
    cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    cuStreamDestroy_v2(stream: CUstream);
    cuStreamSynchronize(stream: CUstream);
    cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint);
    cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    cuGraphInstantiateWithFlags(executable: *mut CUgraphExec, graph: CUgraph, flags: c_ulonglong);
    cuGraphLaunch(executable: CUgraphExec, stream: CUstream);
    cuGraphExecDestroy(executable: CUgraphExec);
    cuGraphDestroy(graph: CUgraph);
    cuEventCreate(event: *mut CUevent, flags: c_uint);
    cuEventRecord(event: CUevent, stream: CUstream);
    cuEventSynchronize(event: CUevent);
    cuEventElapsedTime(milliseconds: *mut f32, from: CUevent, to: CUevent);
    cuEventDestroy_v2(event: CUevent);
}

fn functions() -> Result<&'static Functions, Failure> {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    if let Some(functions) = FUNCTIONS.get() {
        return Ok(functions);
    }
    // SAFETY: opens the driver's library, which may be opened at any time.
    match unsafe { sys::is_culib_present() } {
        true => Ok(FUNCTIONS.get_or_init(Functions::load)),
        false => Err(Failure::NoDriver),
    }
}

/// Whether there is a library of a driver, whatever it can do.
pub(super) fn present() -> bool {
    functions().is_ok()
}

/// Whether every function that may be called is there.
pub(super) fn complete() -> Result<(), Failure> {
    match functions()?.missing() {
        Some(name) => Err(Failure::Missing(name)),
        None => Ok(()),
    }
}

/// The driver's name for a code; `None` for one that it does not know.
pub(super) fn name_of(code: u32) -> Option<String> {
    // Not in the table: cudarc's declaration takes the enum, which has not every code.
    type Name = unsafe extern "system" fn(u32, *mut *const c_char) -> u32;
    functions().ok()?;
    let mut name = std::ptr::null();
    // SAFETY: the library is there, the type is that of `cuda.h` with the enum's 32 bits, and the pointer is
    // good for one name; a name that is given is a constant of the library.
    unsafe {
        let find = *sys::culib().get::<Name>("cuGetErrorName").ok()?;
        if find(code, &mut name) != 0 || name.is_null() {
            return None;
        }
        Some(CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}
