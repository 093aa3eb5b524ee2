//! An emulated CUDA driver, so that hafuse's kernels run in `cargo test` on machines without a GPU.
//!
//! `build.rs` compiles every `kernels/*.cu` with the host's C++ compiler against `emulator.h` and links
//! them with `runtime/` into a drop-in `libcuda.so`. [`install`] loads it, and what then opens
//! `libcuda.so` finds this one by its name. Each CUDA thread is a fiber; blocks run one after another on
//! the calling thread. What it catches, and reports through the driver's error codes and by
//! [`last_fault`]:
//!
//! - accesses beyond an allocation or a shared array (guard pages; bytes up to the page's start or an
//!   alignment of 16 hold a pattern that is looked at after each launch and at the free),
//! - reads of what nobody wrote: new memory, and shared memory at the start of a block, is NaN,
//! - barriers, shuffles and matrix products that not all threads reach, or reach at different lines,
//! - missing barriers: run with all three [`Order`]s and compare the bits,
//! - a missing wait for an asynchronous copy (it is made at the wait; in random order some are made
//!   at once, so that a buffer still in use shows as well),
//! - wrong parameter sizes, too many threads, too much shared memory, empty or oversized grids,
//! - calls that a graph capture forbids, double frees, copies beyond an allocation.
//!
//! Faults end the launch only: the next one works.
//!
//! Variables that are read when the library is loaded make it another driver: `HAFUSE_EMULATED_CC=7.5` changes the
//! compute capability from 8.0, `HAFUSE_EMULATED_SMS=132` the multiprocessors from 4, `HAFUSE_EMULATED_GLOBALS=0` has it find no global variable of a module; the others are
//! described in `runtime/plant.h`: several cards, a lost one, an old version, calls that fail, and what was counted.
//!
//! # AddressSanitizer
//!
//! With `HAFUSE_EMULATOR_SANITIZE=address` in the environment of the build, kernels and driver are
//! instrumented, which also finds accesses beyond local arrays and the bytes that the guard pages
//! cannot cover. The Rust binary is not instrumented, so the run time comes first by `LD_PRELOAD`:
//!
//! ```text
//! export HAFUSE_EMULATOR_SANITIZE=address
//! cargo test --no-run
//! LD_PRELOAD=$(c++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 target/debug/deps/<test>-<hash>
//! ```

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::OnceLock;

/// The emulated `libcuda.so`; `None` where no C++ compiler was found or the system is not Linux.
pub const LIBRARY: Option<&str> = option_env!("HAFUSE_EMULATOR_LIBRARY");

/// Whether the library was built with AddressSanitizer, which ends the process at an access to the bytes
/// beside an allocation where the emulator alone would report a fault.
pub const SANITIZED: bool = cfg!(sanitized);

/// The order in which the threads of a block, and the blocks, run between barriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Reverse,
    Random(u32),
}

/// Loads the emulated driver, once in a process, and lets the engine find its kernels. Call it before the
/// first CUDA call. The reason, where there is none to load.
pub fn install() -> Result<(), String> {
    library().map(|_| ())
}

fn library() -> Result<&'static libloading::Library, String> {
    static LOADED: OnceLock<Result<libloading::Library, String>> = OnceLock::new();
    LOADED.get_or_init(load).as_ref().map_err(String::clone)
}

#[cfg(unix)]
fn load() -> Result<libloading::Library, String> {
    use libloading::os::unix;
    let (Some(path), Some(images)) = (LIBRARY, option_env!("HAFUSE_EMULATOR_IMAGES")) else {
        return Err("no emulated CUDA driver: it needs Linux and a C++ compiler".to_owned());
    };
    // SAFETY: the library's initialisers only fill its own tables. It stays loaded, since the result is
    // kept in a static.
    let library = unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_GLOBAL) }
        .map_err(|e| format!("{path}: {e}"))?;
    // SAFETY: the caller installs the driver before the engine reads the variable; other readers in
    // Rust take the same lock, and the library has read its own while it was loaded.
    unsafe { std::env::set_var("HAFUSE_KERNELS", images) };
    Ok(library.into())
}

#[cfg(not(unix))]
fn load() -> Result<libloading::Library, String> {
    Err("no emulated CUDA driver: it needs Linux and a C++ compiler".to_owned())
}

/// A function of the library by its C name, such as `cuInit`.
///
/// # Safety
///
/// `F` must be the function pointer type of that function.
pub unsafe fn symbol<F: Copy>(name: &str) -> Result<F, String> {
    // SAFETY: the type is the caller's promise.
    let symbol = unsafe { library()?.get::<F>(name) };
    symbol.map(|s| *s).map_err(|e| format!("{name}: {e}"))
}

/// Sets the order of launches that the calling OS thread makes from now on; [`Order::Forward`] until
/// then.
pub fn set_order(order: Order) {
    let (kind, seed) = match order {
        Order::Forward => (0, 0),
        Order::Reverse => (1, 0),
        Order::Random(seed) => (2, seed),
    };
    // SAFETY: the signature in runtime/driver_module.cpp.
    let set = unsafe { symbol::<unsafe extern "C" fn(c_int, c_uint)>("emulator_set_order") };
    if let Ok(set) = set {
        // SAFETY: any values are allowed.
        unsafe { set(kind, seed) }
    }
}

/// What went wrong last in a call of this OS thread: the fault's name, details, kernel, block and thread.
/// Empty after a launch that went well.
pub fn last_fault() -> String {
    // SAFETY: the signature in runtime/fault.cpp.
    let last = unsafe { symbol::<unsafe extern "C" fn() -> *const c_char>("emulator_last_fault") };
    match last {
        // SAFETY: a string that lives until this thread's next call of the driver; it is copied.
        Ok(last) => unsafe { CStr::from_ptr(last()) }
            .to_string_lossy()
            .into_owned(),
        Err(_) => String::new(),
    }
}

/// What the device did between two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub launches: u64,
    /// Of these, how many differ in kernel or parameters, which hold addresses; since the event before the second one.
    pub different: u64,
    /// And fills.
    pub copies: u64,
}

/// The calling OS thread's work between the two events whose distance it asked for last.
pub fn work_between_events() -> Work {
    let mut counts = [0; 3];
    // SAFETY: the signature in runtime/work.cpp.
    let work = unsafe { symbol::<unsafe extern "C" fn(*mut u64)>("emulator_work_between_events") };
    if let Ok(work) = work {
        // SAFETY: it writes three counts.
        unsafe { work(counts.as_mut_ptr()) }
    }
    let [launches, different, copies] = counts;
    Work {
        launches,
        different,
        copies,
    }
}

/// Bytes of device memory that all threads of the process hold.
pub fn bytes_in_use() -> usize {
    // SAFETY: the signature in runtime/driver_memory.cpp.
    let bytes = unsafe { symbol::<unsafe extern "C" fn() -> usize>("emulator_bytes_in_use") };
    // SAFETY: it takes no arguments and locks what it reads.
    bytes.map_or(0, |bytes| unsafe { bytes() })
}
