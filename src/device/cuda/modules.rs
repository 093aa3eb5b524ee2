//! Kernels of a card: images that were loaded, and functions that were found in them.

use super::cards::fail;
use super::{Cuda, driver, lock};
use crate::device::kernels;
use crate::device::launch::Launch;
use crate::{Error, Result};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::Mutex;

/// What was loaded so far.
pub(super) struct Modules {
    /// Of images that take the place of those in the binary.
    folder: Option<PathBuf>,
    loaded: Mutex<HashMap<&'static str, Module>>,
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

/// A launch whose kernel was found and whose parameters fit it.
pub(crate) struct Prepared {
    pub(super) launch: Launch,
    pub(super) function: sys::CUfunction,
    /// Part, operator and shapes, for messages.
    pub(super) node: String,
}

// SAFETY: a handle that lives as long as its `Cuda`, and plain data.
unsafe impl Send for Prepared {}

impl Prepared {
    pub fn launch(&self) -> &Launch {
        &self.launch
    }
}

impl Modules {
    pub fn new(folder: Option<PathBuf>) -> Self {
        let loaded = Mutex::default();
        Self { folder, loaded }
    }

    /// # Safety
    /// The context is current, and nobody holds a function.
    pub unsafe fn unload(&self) {
        for (_, module) in lock(&self.loaded).drain() {
            // SAFETY: loaded once; the rest is the caller's promise.
            let _ = unsafe { driver::cuModuleUnload(module.handle) };
        }
    }
}

impl Cuda {
    /// Loads a module; those that are loaded stay.
    pub(super) fn load(&self, name: &'static str) -> Result<()> {
        let mut loaded = lock(&self.modules.loaded);
        if loaded.contains_key(name) {
            return Ok(());
        }
        let bytes;
        let image: &[u8] = match &self.modules.folder {
            Some(folder) => {
                // PTX text must end with NUL.
                bytes = [kernels::read_from(folder, name)?, vec![0]].concat();
                &bytes
            }
            None => kernels::IMAGES
                .iter()
                .find(|(known, _)| *known == name)
                .and_then(|(_, image)| *image)
                .ok_or_else(|| Error::Internal(format!("no kernel module `{name}`")))?,
        };
        let mut handle = null_mut();
        // SAFETY: the image is whole: compiled in, or a file read to its end with a NUL behind it.
        let done = unsafe { driver::cuModuleLoadData(&mut handle, image.as_ptr().cast()) };
        self.check(&format!("loading kernels `{name}`"), done)?;
        let functions = HashMap::new();
        loaded.insert(name, Module { handle, functions });
        Ok(())
    }

    fn function(&self, launch: &Launch) -> Result<Function> {
        self.load(launch.module)?;
        let mut modules = lock(&self.modules.loaded);
        let Some(module) = modules.get_mut(launch.module) else {
            return Err(Error::Internal("module just loaded is missing".into()));
        };
        if let Some(f) = module.functions.get(&launch.kernel) {
            return Ok(*f);
        }
        let what = format!("kernel {} of module {}", launch.kernel, launch.module);
        let name = |text: String| {
            CString::new(text).map_err(|_| Error::Internal("kernel name with NUL".into()))
        };
        let (kernel, size) = (launch.kernel.clone(), format!("{}_params", launch.kernel));
        let (kernel, size) = (name(kernel)?, name(size)?);
        let mut handle = null_mut();
        let (mut at, mut at_bytes) = (0, 0);
        // SAFETY: the module is loaded and stays so while self lives; the pointers outlive the call.
        let found =
            unsafe { driver::cuModuleGetFunction(&mut handle, module.handle, kernel.as_ptr()) };
        self.check(&what, found)?;
        // SAFETY: as above.
        let found = unsafe {
            driver::cuModuleGetGlobal_v2(&mut at, &mut at_bytes, module.handle, size.as_ptr())
        };
        let params_bytes = match found {
            Ok(()) => {
                let mut bytes = 0u32;
                let to = (&raw mut bytes).cast();
                // SAFETY: the global is an unsigned int (KERNEL in kernel.cuh).
                let read = unsafe { driver::cuMemcpyDtoH_v2(to, at, size_of::<u32>()) };
                self.check(&what, read)?;
                Some(bytes as usize)
            }
            // nvcc gives the symbol local binding; a driver that does not find it takes away a check, not the kernel.
            Err(e) if e.is(sys::CUresult::CUDA_ERROR_NOT_FOUND) => None,
            Err(e) => return Err(fail(self.label(), &what, e)),
        };
        let function = Function {
            handle,
            params_bytes,
        };
        module.functions.insert(launch.kernel.clone(), function);
        Ok(function)
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
}
