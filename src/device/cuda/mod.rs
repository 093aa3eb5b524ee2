//! NVIDIA cards through the driver API: the only folder that names cudarc types.
//!
//! Every call goes through `driver`, which has codes and missing functions as values.

mod cards;
mod driver;
mod memory;
mod modules;
mod queue;
mod wait;

pub use cards::{cards, driver_version, has_driver};
pub(crate) use memory::{Memory, Pinned};
pub(crate) use modules::Prepared;
pub(crate) use queue::{Event, Graph};
pub(crate) use wait::check_wait;

use cards::{fail, no_card};
use driver::Failure;
use modules::Modules;
use wait::Wait;

use super::kernels;
use super::launch::DevicePtr;
use crate::device::Card;
use crate::{Error, Result};
use cudarc::driver::sys;
use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// The streams of a card: kernels run on one; copies have their own, so that those of one session
/// pass while another computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    Compute,
    Upload,
    Download,
    /// Nothing runs here: a capture takes whatever any thread puts on its stream.
    Capture,
}

/// A card in use: context, streams, kernels. Sessions and stores share it.
pub struct Cuda {
    card: Card,
    label: String,
    device: sys::CUdevice,
    context: sys::CUcontext,
    /// By [`Queue`]; once the card is open never the null stream, which cannot be captured.
    streams: [sys::CUstream; 4],
    capturing: Mutex<()>,
    modules: Modules,
    /// Check after every launch.
    sync: bool,
    wait: Option<Wait>,
}

// SAFETY: driver handles may be used from any thread once the context is current there, which
// `bind` does at every entry; what changes is behind mutexes.
unsafe impl Send for Cuda {}
// SAFETY: as above.
unsafe impl Sync for Cuda {}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cuda({}: {})", self.label, self.card)
    }
}

/// What is done when a card is opened, for messages.
const OPENING: &str = "opening the card";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Caches are never half changed.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Cuda {
    /// Opens card `ordinal`, or joins those who have it open.
    ///
    /// # Errors
    /// [`Error::Device`] that says which of driver, card and kernels is missing.
    pub fn open(ordinal: usize) -> Result<Arc<Self>> {
        static OPEN: Mutex<Vec<Weak<Cuda>>> = Mutex::new(Vec::new());
        let mut open = lock(&OPEN);
        open.retain(|c| c.strong_count() > 0);
        let known = open.iter().filter_map(Weak::upgrade);
        if let Some(cuda) = known.into_iter().find(|c| c.card.ordinal == ordinal) {
            return Ok(cuda);
        }
        let mut found = cards()?;
        if ordinal >= found.len() {
            return Err(no_card(found.len()));
        }
        let cuda = Arc::new(Self::start(found.swap_remove(ordinal)?)?);
        open.push(Arc::downgrade(&cuda));
        Ok(cuda)
    }

    fn start(mut card: Card) -> Result<Self> {
        let label = format!("cuda:{}", card.ordinal);
        let wait = Wait::asked()?;
        let folder = std::env::var_os(kernels::FOLDER_VARIABLE).map(PathBuf::from);
        if let Some(folder) = &folder {
            card.code = Some(kernels::check_folder(folder, &card)?);
        } else if kernels::TOOLKIT.is_none() {
            return Err(Error::Device {
                device: label,
                detail: format!(
                    "found {card}, but this binary was built without nvcc and has no kernels"
                ),
                way_out: "build it where nvcc is on the PATH, or use the CPU".into(),
            });
        }
        if card.code.is_none() {
            let (major, minor) = card.capability;
            return Err(Error::Device {
                device: label,
                detail: format!(
                    "{card} needs kernels that this binary lacks (it has {})",
                    kernels::describe()
                ),
                way_out: format!("build with HAFUSE_CUDA_ARCHS={major}{minor}"),
            });
        }
        let check = |done: Result<(), Failure>| done.map_err(|e| fail(&label, OPENING, e));
        // Found in the middle of a run, it would be too late for another device.
        check(driver::complete())?;
        let (mut device, mut context) = (0, null_mut());
        // SAFETY: the pointer is good for one device.
        check(unsafe { driver::cuDeviceGet(&mut device, card.ordinal as i32) })?;
        if let Some(wait) = wait {
            let flags = wait.context_flags();
            // SAFETY: the device is valid.
            check(unsafe { driver::cuDevicePrimaryCtxSetFlags_v2(device, flags) })?;
        }
        // SAFETY: the device is valid and the pointer good for one context.
        check(unsafe { driver::cuDevicePrimaryCtxRetain(&mut context, device) })?;
        // From here on `drop` gives back what there is, whatever fails.
        let mut cuda = Self {
            card,
            label,
            device,
            context,
            streams: [null_mut(); 4],
            capturing: Mutex::new(()),
            modules: Modules::new(folder),
            sync: std::env::var_os("HAFUSE_SYNC").is_some_and(|v| v == "1"),
            wait,
        };
        cuda.bind()?;
        for i in 0..cuda.streams.len() {
            let mut stream = null_mut();
            let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
            // SAFETY: the pointer is good for one stream.
            cuda.check(OPENING, unsafe {
                driver::cuStreamCreate(&mut stream, flags)
            })?;
            cuda.streams[i] = stream;
        }
        // One module shows whether this driver takes them: it may be older than the toolkit.
        if let Some((name, _)) = kernels::IMAGES.first() {
            cuda.load(name)?;
        }
        Ok(cuda)
    }

    /// Properties of the card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// `cuda:N`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Free and total bytes of the card's memory.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are good for one number.
        let done = unsafe { driver::cuMemGetInfo_v2(&mut free, &mut total) };
        self.check("memory", done)?;
        Ok((free, total))
    }

    /// Makes the context current on this thread.
    pub(crate) fn bind(&self) -> Result<()> {
        // SAFETY: the context lives as long as self.
        self.check("context", unsafe { driver::cuCtxSetCurrent(self.context) })
    }

    fn check(&self, what: &str, done: Result<(), Failure>) -> Result<()> {
        done.map_err(|e| fail(&self.label, what, e))
    }

    fn stream(&self, queue: Queue) -> sys::CUstream {
        self.streams[queue as usize]
    }

    /// Waits for everything that was put on the streams.
    pub fn synchronize(&self) -> Result<()> {
        self.bind()?;
        for queue in [Queue::Compute, Queue::Upload, Queue::Download] {
            let stream = self.stream(queue);
            // SAFETY: the stream lives as long as self.
            let done = unsafe { driver::cuStreamSynchronize(stream) };
            self.check("waiting for the card", done)?;
        }
        Ok(())
    }

    /// Device memory, uninitialised.
    pub(crate) fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        self.bind()?;
        let mut ptr = 0;
        // The driver refuses empty allocations.
        // SAFETY: plain allocation; freed in `Memory::drop`.
        let done = unsafe { driver::cuMemAlloc_v2(&mut ptr, bytes.max(1)) };
        self.check(&format!("allocating {bytes} bytes"), done)?;
        Ok(Memory {
            cuda: self.clone(),
            ptr: DevicePtr(ptr),
            bytes,
        })
    }

    /// Host memory that the card copies from and to without staging.
    pub(crate) fn pinned(self: &Arc<Self>, bytes: usize) -> Result<Pinned> {
        self.bind()?;
        let mut ptr = null_mut();
        // Flags 0: cached, so that reading results is fast too.
        // SAFETY: plain allocation; freed in `Pinned::drop`.
        let done = unsafe { driver::cuMemHostAlloc(&mut ptr, bytes.max(64), 0) };
        self.check(&format!("allocating {bytes} pinned bytes"), done)?;
        // SAFETY: the region was just allocated with at least this size.
        unsafe { std::ptr::write_bytes(ptr.cast::<u8>(), 0, bytes.max(64)) };
        Ok(Pinned {
            cuda: self.clone(),
            ptr: ptr.cast(),
            bytes,
        })
    }

    /// Puts a launch on a stream.
    pub(crate) fn launch(&self, p: &Prepared, queue: Queue) -> Result<()> {
        let mut params = [p.launch.params().cast_mut().cast::<c_void>()];
        let named = |e| {
            let l = &p.launch;
            let what = format!(
                "{}, kernel {} in {} blocks of {}",
                p.node, l.kernel, l.blocks, l.threads
            );
            fail(&self.label, &what, e)
        };
        // SAFETY: `prepare` compared the parameters' size with the kernel's; the regions they name
        // belong to the session that launches.
        unsafe {
            let (blocks, threads) = (p.launch.blocks, p.launch.threads);
            let stream = self.stream(queue);
            let (params, extra) = (params.as_mut_ptr(), null_mut());
            driver::cuLaunchKernel(
                p.function, blocks, 1, 1, threads, 1, 1, 0, stream, params, extra,
            )
            .map_err(named)?;
            if self.sync {
                driver::cuStreamSynchronize(stream).map_err(named)?;
            }
        }
        Ok(())
    }

    /// Whether every launch is checked (`HAFUSE_SYNC=1`); then nothing is captured.
    pub(crate) fn checks_launches(&self) -> bool {
        self.sync
    }

    /// Captures what `f` puts on [`Queue::Capture`].
    pub(crate) fn capture(self: &Arc<Self>, f: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let stream = self.stream(Queue::Capture);
        let _alone = lock(&self.capturing);
        // SAFETY: the stream is ours and not the null stream.
        let begun = unsafe { driver::cuStreamBeginCapture_v2(stream, mode) };
        self.check("beginning a graph capture", begun)?;
        // A panic must not leave the stream in capture, or no later capture could begin.
        let recorded = catch_unwind(AssertUnwindSafe(f));
        let mut graph = null_mut();
        // SAFETY: the capture was begun above and must end whatever `f` did.
        let ended = unsafe { driver::cuStreamEndCapture(stream, &mut graph) };
        let recorded = recorded.unwrap_or_else(|panic| {
            if ended.is_ok() {
                // SAFETY: just captured, and nobody else has it.
                let _ = unsafe { driver::cuGraphDestroy(graph) };
            }
            resume_unwind(panic)
        });
        if let Err(e) = ended {
            // A failed launch ends a capture without a graph: then that is the error to tell.
            return recorded.and(Err(fail(&self.label, "ending a graph capture", e)));
        }
        let mut exec = null_mut();
        let made = recorded.and_then(|()| {
            // SAFETY: the graph was just captured, and the pointer is good for one handle.
            let made = unsafe { driver::cuGraphInstantiateWithFlags(&mut exec, graph, 0) };
            self.check("making a graph", made)
        });
        // SAFETY: captured above; an executable copy, if one was made, does not need it.
        let destroyed = unsafe { driver::cuGraphDestroy(graph) };
        made?;
        let graph = Graph {
            cuda: self.clone(),
            exec,
        };
        self.check("freeing a graph", destroyed)?;
        Ok(graph)
    }

    /// Copies to the card, in order on the upload stream.
    pub(crate) fn upload(
        &self,
        to: DevicePtr,
        from: &Pinned,
        at: usize,
        bytes: usize,
    ) -> Result<()> {
        let slice = from.bytes(at, bytes);
        let stream = self.stream(Queue::Upload);
        // SAFETY: `bytes` checked the host side; sessions keep both sides alive until they wait.
        let done = unsafe {
            driver::cuMemcpyHtoDAsync_v2(to.0, slice.as_ptr().cast(), slice.len(), stream)
        };
        self.check("copying to the card", done)
    }

    /// Copies from the card, in order on the download stream.
    pub(crate) fn download(
        &self,
        to: &mut Pinned,
        at: usize,
        bytes: usize,
        from: DevicePtr,
    ) -> Result<()> {
        let stream = self.stream(Queue::Download);
        let slice = to.bytes_mut(at, bytes);
        // SAFETY: `bytes_mut` checked the host side; sessions keep both sides alive until they wait.
        let done = unsafe {
            driver::cuMemcpyDtoHAsync_v2(slice.as_mut_ptr().cast(), from.0, slice.len(), stream)
        };
        self.check("copying from the card", done)
    }

    /// Fills device memory with a byte, in order on the compute stream.
    pub(crate) fn fill(&self, memory: &Memory, value: u8) -> Result<()> {
        if memory.bytes == 0 {
            return Ok(());
        }
        let stream = self.stream(Queue::Compute);
        // SAFETY: the region is the whole allocation.
        let done = unsafe { driver::cuMemsetD8Async(memory.ptr.0, value, memory.bytes, stream) };
        self.check("filling memory", done)
    }

    /// For order among streams, and to wait for; a clock would only cost.
    pub(crate) fn event(self: &Arc<Self>) -> Result<Event> {
        let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        self.make_event(untimed | self.wait.map_or(0, Wait::event_flags))
    }

    /// For [`Event::until`].
    pub(crate) fn timed_event(self: &Arc<Self>) -> Result<Event> {
        self.make_event(sys::CUevent_flags::CU_EVENT_DEFAULT as u32)
    }

    fn make_event(self: &Arc<Self>, flags: u32) -> Result<Event> {
        self.bind()?;
        let mut event = null_mut();
        // SAFETY: the pointer is good for one event.
        let made = unsafe { driver::cuEventCreate(&mut event, flags) };
        self.check("making an event", made)?;
        Ok(Event {
            cuda: self.clone(),
            event,
        })
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // A failure to clean up has nobody to tell.
        // SAFETY: nobody holds a handle any more: all owners keep an Arc of self.
        unsafe {
            let _ = driver::cuCtxSetCurrent(self.context);
            // A start that failed has left some null.
            for stream in self.streams.into_iter().filter(|s| !s.is_null()) {
                let _ = driver::cuStreamSynchronize(stream);
                let _ = driver::cuStreamDestroy_v2(stream);
            }
            self.modules.unload();
            let _ = driver::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_a_capture_ends_it() {
        if let Err(reason) = cuda_emulator::install() {
            println!("skipped: {reason}");
            return;
        }
        let cuda = Cuda::open(0).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| cuda.capture(|| panic!("planted"))));
        assert!(panicked.is_err());
        let again = cuda.capture(|| Ok(()));
        assert!(again.is_ok(), "{:?}", again.err());
    }
}
