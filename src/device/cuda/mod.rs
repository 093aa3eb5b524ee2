//! NVIDIA cards through the driver API: the only folder that names cudarc types.
//!
//! A missing driver is found by looking, before any driver call: cudarc panics at the first one.

mod card;
mod memory;
mod queue;

pub use card::{Card, cards, driver_version};
pub(crate) use memory::{Memory, Pinned};
pub(crate) use queue::{Event, Graph};

use card::{fail, no_card};

use super::kernels;
use super::launch::{DevicePtr, Launch};
use crate::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
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
    /// By [`Queue`]; never the null stream, which cannot be captured.
    streams: [sys::CUstream; 4],
    capturing: Mutex<()>,
    folder: Option<PathBuf>,
    modules: Mutex<HashMap<&'static str, Module>>,
    /// Check after every launch.
    sync: bool,
}

struct Module {
    handle: sys::CUmodule,
    functions: HashMap<String, Function>,
}

#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    /// `None` where the driver does not tell.
    params_bytes: Option<usize>,
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
        let found = cards()?;
        let card = found
            .get(ordinal)
            .cloned()
            .ok_or_else(|| no_card(found.len()))?;
        let cuda = Arc::new(Self::start(card)?);
        open.push(Arc::downgrade(&cuda));
        Ok(cuda)
    }

    fn start(card: Card) -> Result<Self> {
        let label = format!("cuda:{}", card.ordinal);
        let folder = std::env::var_os(kernels::FOLDER_VARIABLE).map(PathBuf::from);
        if folder.is_none() && kernels::TOOLKIT.is_none() {
            return Err(Error::Device {
                device: label,
                detail: format!(
                    "found {card}, but this binary was built without nvcc and has no kernels; \
                     build it where nvcc is on the PATH, or use --device cpu"
                ),
            });
        }
        if card.code.is_none() {
            let (major, minor) = card.capability;
            return Err(Error::Device {
                device: label,
                detail: format!(
                    "{card} needs kernels that this binary lacks (it has {}); \
                     build with HAFUSE_CUDA_ARCHS={major}{minor}",
                    kernels::describe()
                ),
            });
        }
        let fail = |e| fail(&label, "opening the card", e);
        let device = result::device::get(card.ordinal as i32).map_err(fail)?;
        // SAFETY: the device is valid; the context is released in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(fail)?;
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context) }.map_err(fail)?;
        let stream = || result::stream::create(result::stream::StreamKind::NonBlocking);
        let streams = [
            stream().map_err(fail)?,
            stream().map_err(fail)?,
            stream().map_err(fail)?,
            stream().map_err(fail)?,
        ];
        let cuda = Self {
            card,
            device,
            context,
            streams,
            capturing: Mutex::new(()),
            folder,
            modules: Mutex::new(HashMap::new()),
            sync: std::env::var_os("HAFUSE_SYNC").is_some_and(|v| v == "1"),
            label,
        };
        // One module shows whether this driver takes them: it may be older than the toolkit.
        if let Some((name, _)) = kernels::IMAGES.first() {
            let handle = cuda.load(name)?;
            let functions = HashMap::new();
            lock(&cuda.modules).insert(name, Module { handle, functions });
        }
        Ok(cuda)
    }

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
        result::mem_get_info().map_err(|e| fail(&self.label, "memory", e))
    }

    /// Makes the context current on this thread.
    pub(crate) fn bind(&self) -> Result<()> {
        // SAFETY: the context lives as long as self.
        unsafe { result::ctx::set_current(self.context) }
            .map_err(|e| fail(&self.label, "context", e))
    }

    fn check(&self, what: &str, result: Result<(), DriverError>) -> Result<()> {
        result.map_err(|e| fail(&self.label, what, e))
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
            let done = unsafe { result::stream::synchronize(stream) };
            self.check("waiting for the card", done)?;
        }
        Ok(())
    }

    /// Device memory, uninitialised.
    pub(crate) fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        self.bind()?;
        // The driver refuses empty allocations.
        // SAFETY: plain allocation; freed in `Memory::drop`.
        let ptr = unsafe { result::malloc_sync(bytes.max(1)) }
            .map_err(|e| fail(&self.label, &format!("allocating {bytes} bytes"), e))?;
        Ok(Memory {
            cuda: self.clone(),
            ptr: DevicePtr(ptr),
            bytes,
        })
    }

    /// Host memory that the card copies from and to without staging.
    pub(crate) fn pinned(self: &Arc<Self>, bytes: usize) -> Result<Pinned> {
        self.bind()?;
        // Flags 0: cached, so that reading results is fast too.
        // SAFETY: plain allocation; freed in `Pinned::drop`.
        let ptr = unsafe { result::malloc_host(bytes.max(64), 0) }
            .map_err(|e| fail(&self.label, &format!("allocating {bytes} pinned bytes"), e))?;
        // SAFETY: the region was just allocated with at least this size.
        unsafe { std::ptr::write_bytes(ptr.cast::<u8>(), 0, bytes.max(64)) };
        Ok(Pinned {
            cuda: self.clone(),
            ptr: ptr.cast(),
            bytes,
        })
    }

    fn function(&self, launch: &Launch) -> Result<Function> {
        let mut modules = lock(&self.modules);
        if !modules.contains_key(launch.module) {
            let handle = self.load(launch.module)?;
            let functions = HashMap::new();
            modules.insert(launch.module, Module { handle, functions });
        }
        let Some(module) = modules.get_mut(launch.module) else {
            return Err(Error::Internal("module just loaded is missing".into()));
        };
        if let Some(f) = module.functions.get(&launch.kernel) {
            return Ok(*f);
        }
        let missing = |e| {
            let what = format!("kernel {} of module {}", launch.kernel, launch.module);
            fail(&self.label, &what, e)
        };
        let name = |text: String| {
            CString::new(text).map_err(|_| Error::Internal("kernel name with NUL".into()))
        };
        let size = name(format!("{}_params", launch.kernel))?;
        // SAFETY: the module is loaded and stays so while self lives.
        let handle =
            unsafe { result::module::get_function(module.handle, name(launch.kernel.clone())?) }
                .map_err(missing)?;
        // SAFETY: as above.
        let params_bytes = match unsafe { result::module::get_global(module.handle, size) } {
            Ok((ptr, _)) => {
                let mut bytes = 0u32;
                // SAFETY: the global is an unsigned int (KERNEL in kernel.cuh).
                unsafe { result::memcpy_dtoh_sync(std::slice::from_mut(&mut bytes), ptr) }
                    .map_err(missing)?;
                Some(bytes as usize)
            }
            // nvcc gives the symbol local binding; a driver that does not find it takes away a check, not the kernel.
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND)) => None,
            Err(e) => return Err(missing(e)),
        };
        let function = Function {
            handle,
            params_bytes,
        };
        module.functions.insert(launch.kernel.clone(), function);
        Ok(function)
    }

    fn load(&self, module: &'static str) -> Result<sys::CUmodule> {
        let bytes;
        let image: &[u8] = match &self.folder {
            Some(folder) => {
                let path = folder.join(format!("{module}.fatbin"));
                // PTX text must end with NUL.
                bytes = std::fs::read(&path)
                    .map(|b| [b, vec![0]].concat())
                    .map_err(|e| Error::input(&path, e))?;
                &bytes
            }
            None => kernels::IMAGES
                .iter()
                .find(|(name, _)| *name == module)
                .and_then(|(_, image)| *image)
                .ok_or_else(|| Error::Internal(format!("no kernel module `{module}`")))?,
        };
        // SAFETY: the image is whole: compiled in, or a file read to its end with a NUL behind it.
        unsafe { result::module::load_data(image.as_ptr().cast()) }
            .map_err(|e| fail(&self.label, &format!("loading kernels `{module}`"), e))
    }

    /// Finds the kernel of a launch and compares the size of its parameters.
    pub(crate) fn prepare(&self, launch: Launch, node: String) -> Result<Prepared> {
        self.bind()?;
        let function = self.function(&launch)?;
        if let Some(bytes) = function.params_bytes
            && bytes != launch.params_bytes()
        {
            return Err(Error::Internal(format!(
                "kernel {} takes {bytes} bytes of parameters, {} were given",
                launch.kernel,
                launch.params_bytes()
            )));
        }
        Ok(Prepared {
            launch,
            function: function.handle,
            node,
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
            let grid = (p.launch.blocks, 1, 1);
            let block = (p.launch.threads, 1, 1);
            let stream = self.stream(queue);
            result::launch_kernel(p.function, grid, block, 0, stream, &mut params)
                .map_err(named)?;
            if self.sync {
                result::stream::synchronize(stream).map_err(named)?;
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
        let begun = unsafe { result::stream::begin_capture(stream, mode) };
        self.check("beginning a graph capture", begun)?;
        // A panic must not leave the stream in capture, or no later capture could begin.
        let recorded = catch_unwind(AssertUnwindSafe(f));
        // SAFETY: the capture was begun above and must end whatever `f` did.
        let ended = unsafe { result::stream::end_capture(stream) };
        let recorded = recorded.unwrap_or_else(|panic| {
            if let Ok(graph) = ended {
                // SAFETY: just captured, and nobody else has it.
                let _ = unsafe { result::graph::destroy(graph) };
            }
            resume_unwind(panic)
        });
        let graph = match ended {
            Ok(graph) => graph,
            // A failed launch ends a capture without a graph: then that is the error to tell.
            Err(e) => return recorded.and(Err(fail(&self.label, "ending a graph capture", e))),
        };
        let make = |()| {
            // SAFETY: the graph was just captured.
            unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) }
                .map_err(|e| fail(&self.label, "making a graph", e))
        };
        let exec = recorded.and_then(make);
        // SAFETY: captured above; an executable copy, if one was made, does not need it.
        let destroyed = unsafe { result::graph::destroy(graph) };
        let exec = exec?;
        self.check("freeing a graph", destroyed)?;
        Ok(Graph {
            cuda: self.clone(),
            exec,
        })
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
        // SAFETY: `bytes` checked the host side; sessions keep both sides alive until they wait.
        let done = unsafe { result::memcpy_htod_async(to.0, slice, self.stream(Queue::Upload)) };
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
        let done = unsafe { result::memcpy_dtoh_async(slice, from.0, stream) };
        self.check("copying from the card", done)
    }

    /// Fills device memory with a byte, in order on the compute stream.
    pub(crate) fn fill(&self, memory: &Memory, value: u8) -> Result<()> {
        if memory.bytes == 0 {
            return Ok(());
        }
        let stream = self.stream(Queue::Compute);
        // SAFETY: the region is the whole allocation.
        let done = unsafe { result::memset_d8_async(memory.ptr.0, value, memory.bytes, stream) };
        self.check("filling memory", done)
    }

    pub(crate) fn event(self: &Arc<Self>) -> Result<Event> {
        self.bind()?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)
            .map_err(|e| fail(&self.label, "making an event", e))?;
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
            let _ = result::ctx::set_current(self.context);
            for stream in self.streams {
                let _ = result::stream::synchronize(stream);
                let _ = result::stream::destroy(stream);
            }
            for (_, module) in lock(&self.modules).drain() {
                let _ = result::module::unload(module.handle);
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// A launch whose kernel was found and whose parameters fit it.
pub(crate) struct Prepared {
    launch: Launch,
    function: sys::CUfunction,
    /// Part, operator and shapes, for messages.
    node: String,
}

// SAFETY: a handle that lives as long as its `Cuda`, and plain data.
unsafe impl Send for Prepared {}

impl Prepared {
    pub fn launch(&self) -> &Launch {
        &self.launch
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
