//! The emulated driver's calls, by their C names, with just enough types to write kernels' tests.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ops::Deref;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, OnceLock};

pub type Handle = *mut c_void;
type Code = c_int;

/// Declares the table of calls and loads it.
macro_rules! calls {
    ($($name:ident($($arg:ty),*);)*) => {
        #[allow(non_snake_case)]
        pub struct Calls { $(pub $name: unsafe extern "C" fn($($arg),*) -> Code,)* }
        impl Calls {
            fn load() -> Result<Calls, String> {
                // SAFETY: the signatures are those of cuda.h.
                Ok(Calls { $($name: unsafe { cuda_emulator::symbol(stringify!($name)) }?,)* })
            }
        }
    };
}

calls! {
    cuInit(c_uint);
    cuDevicePrimaryCtxRetain(*mut Handle, c_int);
    cuCtxSetCurrent(Handle);
    cuModuleLoadData(*mut Handle, *const c_char);
    cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    cuModuleGetGlobal_v2(*mut u64, *mut usize, Handle, *const c_char);
    cuMemAlloc_v2(*mut u64, usize);
    cuMemFree_v2(u64);
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemcpyHtoD_v2(u64, *const c_void, usize);
    cuMemcpyDtoH_v2(*mut c_void, u64, usize);
    cuMemsetD8Async(u64, u8, usize, Handle);
    cuLaunchKernel(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void);
    cuStreamCreate(*mut Handle, c_uint);
    cuStreamDestroy_v2(Handle);
    cuStreamSynchronize(Handle);
    cuStreamBeginCapture_v2(Handle, c_int);
    cuStreamEndCapture(Handle, *mut Handle);
    cuGraphInstantiateWithFlags(*mut Handle, Handle, u64);
    cuGraphLaunch(Handle, Handle);
    cuGraphExecDestroy(Handle);
    cuGraphDestroy(Handle);
    cuEventCreate(*mut Handle, c_uint);
    cuEventRecord(Handle, Handle);
    cuEventElapsedTime(*mut f32, Handle, Handle);
    cuEventDestroy_v2(Handle);
}

/// A failed call: the driver's code and the emulator's words.
#[derive(Debug)]
pub struct Fault {
    pub code: i32,
    pub text: String,
}

pub fn check(code: Code) -> Result<(), Fault> {
    match code {
        0 => Ok(()),
        code => Err(Fault {
            code,
            text: cuda_emulator::last_fault(),
        }),
    }
}

/// The driver for one test, which has the process to itself: memory in use and some captures concern
/// all threads.
pub struct Gpu {
    pub calls: &'static Calls,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for Gpu {
    type Target = &'static Calls;
    fn deref(&self) -> &Self::Target {
        &self.calls
    }
}

/// The driver with its context current on this thread; `None`, and says so, without a C++ compiler.
pub fn gpu() -> Option<Gpu> {
    static ALONE: Mutex<()> = Mutex::new(());
    static CALLS: OnceLock<Result<Calls, String>> = OnceLock::new();
    let alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let loaded = CALLS.get_or_init(|| {
        cuda_emulator::install()?;
        let calls = Calls::load()?;
        // SAFETY: cuInit takes no pointers.
        check(unsafe { (calls.cuInit)(0) }).map_err(|f| f.text)?;
        Ok(calls)
    });
    match loaded {
        Ok(calls) => {
            calls.bind();
            Some(Gpu {
                calls,
                _alone: alone,
            })
        }
        Err(reason) => {
            assert!(cuda_emulator::LIBRARY.is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            None
        }
    }
}

impl Calls {
    /// Makes the context current on the calling thread.
    pub fn bind(&self) {
        let mut context = null_mut();
        // SAFETY: `context` outlives the call that fills it, and the second call takes what it filled.
        unsafe {
            check((self.cuDevicePrimaryCtxRetain)(&mut context, 0)).expect("a context");
            check((self.cuCtxSetCurrent)(context)).expect("a current context");
        }
    }

    /// A stream that does not join with the null stream.
    pub fn stream(&self) -> Handle {
        let mut stream = null_mut();
        // SAFETY: the pointer outlives the call; 1 is CU_STREAM_NON_BLOCKING.
        check(unsafe { (self.cuStreamCreate)(&mut stream, 1) }).expect("a stream");
        stream
    }
}

/// Values in device memory.
pub struct Memory {
    pub pointer: u64,
    pub bytes: usize,
    calls: &'static Calls,
}

impl Memory {
    /// Memory that nobody has written.
    pub fn new(calls: &'static Calls, bytes: usize) -> Memory {
        let mut pointer = 0;
        // SAFETY: `pointer` outlives the call.
        check(unsafe { (calls.cuMemAlloc_v2)(&mut pointer, bytes) }).expect("memory");
        Memory {
            pointer,
            bytes,
            calls,
        }
    }

    pub fn of<T: bytemuck::Pod>(calls: &'static Calls, values: &[T]) -> Memory {
        let memory = Memory::new(calls, size_of_val(values));
        let from = values.as_ptr().cast();
        // SAFETY: the sizes agree.
        check(unsafe { (calls.cuMemcpyHtoD_v2)(memory.pointer, from, memory.bytes) })
            .expect("a copy");
        memory
    }

    pub fn read<T: bytemuck::Pod>(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.bytes / size_of::<T>()];
        let to = values.as_mut_ptr().cast();
        // SAFETY: the sizes agree.
        check(unsafe { (self.calls.cuMemcpyDtoH_v2)(to, self.pointer, self.bytes) })
            .expect("a copy");
        values
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated and is freed once. A guard that a test's fault has overwritten is
        // reported here again, which is no concern of the test.
        unsafe { (self.calls.cuMemFree_v2)(self.pointer) };
    }
}

/// A kernel of `faults/`.
#[derive(Clone, Copy)]
pub struct Kernel {
    pub calls: &'static Calls,
    pub function: Handle,
    pub stream: Handle,
}

pub fn load_module(calls: &Calls, image: &str) -> Result<Handle, Fault> {
    let image = CString::new(image).expect("no NUL");
    let mut module = null_mut();
    // SAFETY: both pointers outlive the call.
    check(unsafe { (calls.cuModuleLoadData)(&mut module, image.as_ptr()) })?;
    Ok(module)
}

impl Kernel {
    pub fn new(calls: &'static Calls, name: &str) -> Kernel {
        let module = load_module(calls, "hafuse-emulated:faults\n").expect("the faults module");
        let name = CString::new(name).expect("no NUL");
        let mut function = null_mut();
        // SAFETY: the pointers outlive the call.
        let found = unsafe { (calls.cuModuleGetFunction)(&mut function, module, name.as_ptr()) };
        check(found).expect("a kernel of faults/");
        Kernel {
            calls,
            function,
            stream: null_mut(),
        }
    }

    pub fn on(self, stream: Handle) -> Kernel {
        Kernel { stream, ..self }
    }

    /// One launch with its parameters as one struct.
    pub fn launch<P: Copy>(&self, grid: [u32; 3], block: [u32; 3], params: P) -> Result<(), Fault> {
        let mut pointers = [(&raw const params).cast_mut().cast::<c_void>()];
        self.launch_raw(grid, block, 0, pointers.as_mut_ptr(), null_mut())
    }

    /// `blocks` blocks of `threads` threads.
    pub fn run<P: Copy>(&self, blocks: u32, threads: u32, params: P) -> Result<(), Fault> {
        self.launch([blocks, 1, 1], [threads, 1, 1], params)
    }

    /// The other form of launch: a buffer and its size.
    pub fn run_sized<P: Copy>(&self, params: P, bytes: usize) -> Result<(), Fault> {
        let mut extra = [
            std::ptr::without_provenance_mut(1), // CU_LAUNCH_PARAM_BUFFER_POINTER
            (&raw const params).cast_mut().cast(),
            std::ptr::without_provenance_mut(2), // CU_LAUNCH_PARAM_BUFFER_SIZE
            (&raw const bytes).cast_mut().cast(),
            null_mut(), // CU_LAUNCH_PARAM_END
        ];
        self.launch_raw([1; 3], [32, 1, 1], 0, null_mut(), extra.as_mut_ptr())
    }

    pub fn launch_raw(
        &self,
        [gx, gy, gz]: [u32; 3],
        [bx, by, bz]: [u32; 3],
        shared: u32,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> Result<(), Fault> {
        // SAFETY: the pointers outlive the call; the struct is the kernel's, or the test of a wrong
        // size says so to a driver that checks it.
        check(unsafe {
            (self.calls.cuLaunchKernel)(
                self.function,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                shared,
                self.stream,
                params,
                extra,
            )
        })
    }
}

/// The bytes that the kernel's `name_params` says its struct has.
pub fn params_bytes(calls: &Calls, name: &str) -> u32 {
    let module = load_module(calls, "hafuse-emulated:faults\n").expect("the faults module");
    let name = CString::new(format!("{name}_params")).expect("no NUL");
    let (mut pointer, mut bytes, mut value) = (0, 0, 0_u32);
    // SAFETY: the pointers outlive the calls, and the global has four bytes.
    unsafe {
        check((calls.cuModuleGetGlobal_v2)(
            &mut pointer,
            &mut bytes,
            module,
            name.as_ptr(),
        ))
        .expect("a global");
        assert_eq!(bytes, 4);
        check((calls.cuMemcpyDtoH_v2)((&raw mut value).cast(), pointer, 4)).expect("a copy");
    }
    value
}
