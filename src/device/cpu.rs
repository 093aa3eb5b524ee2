//! CPU memory, operator arguments and loops over rows.

use crate::tensor::{DType, Element, Shape};
use crate::{Error, Result};
use bytemuck::Zeroable;
use memmap2::MmapMut;
use std::ops::Range;

pub(crate) use super::team::{fair_share, for_ranges, together};

/// Alignment and size unit of every buffer: one cache line, one AVX-512 register.
pub const ALIGN: usize = 64;

#[derive(Clone, Copy, Zeroable)]
#[repr(C, align(64))]
struct Block([u8; ALIGN]);

/// Memory aligned to [`ALIGN`]. It never moves, so pointers into it stay good while it lives.
pub(crate) struct Buffer(Memory);

enum Memory {
    Heap(Box<[Block]>),
    /// Zeros that are there when they are first touched: an arena of gigabytes is not written once before its first
    /// run. An allocator clears memory of this alignment by hand.
    Mapped(MmapMut),
}

/// From here on memory is mapped: a huge page of x86-64.
const MAPPED_BYTES: usize = 2 << 20;

impl Buffer {
    /// At least `bytes` bytes, every one of them `fill`.
    pub fn filled(bytes: usize, fill: u8) -> Self {
        if fill == 0
            && bytes >= MAPPED_BYTES
            && let Ok(memory) = MmapMut::map_anon(bytes.next_multiple_of(ALIGN))
        {
            // Fewer faults while an arena is new, and fewer misses in the tables of pages ever after. It is a wish only.
            #[cfg(target_os = "linux")]
            let _ = memory.advise(memmap2::Advice::HugePage);
            return Self(Memory::Mapped(memory));
        }
        let len = bytes.div_ceil(ALIGN);
        Self(Memory::Heap(match fill {
            0 => bytemuck::zeroed_slice_box(len),
            _ => vec![Block([fill; ALIGN]); len].into_boxed_slice(),
        }))
    }

    fn as_ptr(&self) -> *const u8 {
        match &self.0 {
            Memory::Heap(blocks) => blocks.as_ptr().cast(),
            Memory::Mapped(memory) => memory.as_ptr(),
        }
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        match &mut self.0 {
            Memory::Heap(blocks) => blocks.as_mut_ptr().cast(),
            Memory::Mapped(memory) => memory.as_mut_ptr(),
        }
    }

    pub fn len_bytes(&self) -> usize {
        match &self.0 {
            Memory::Heap(blocks) => blocks.len() * ALIGN,
            Memory::Mapped(memory) => memory.len(),
        }
    }

    /// The first `len` bytes; `None` if there are fewer.
    pub fn bytes(&self, len: usize) -> Option<&[u8]> {
        if len > self.len_bytes() {
            return None;
        }
        // SAFETY: the length was checked, and bytes have no invalid values.
        Some(unsafe { std::slice::from_raw_parts(self.as_ptr(), len) })
    }

    /// The first `len` bytes, mutable; `None` if there are fewer.
    pub fn bytes_mut(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.len_bytes() {
            return None;
        }
        // SAFETY: as above, and borrowed mutably with self.
        Some(unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) })
    }
}

/// A typed region of memory that a session has bound to a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawView {
    pub ptr: *mut u8,
    pub shape: Shape,
    pub dtype: DType,
}

/// What an operator's CPU code works on: inputs to read, one output to write, scratch memory, and
/// the parameters that an effect updates in place.
///
/// Each mutable part can be taken once, so safe code cannot alias it.
pub struct CpuIo<'a> {
    inputs: &'a [RawView],
    mutated: &'static [usize],
    output: Option<RawView>,
    scratch: Option<(*mut u8, usize)>,
    taken: u64,
}

impl<'a> CpuIo<'a> {
    /// # Safety
    /// Every view must point to memory that is initialised, aligned and large enough for its shape
    /// and dtype, and live for `'a`. `output`, `scratch` and the inputs named in `mutated` must not
    /// overlap any other region given here, and nobody else may touch them during `'a`.
    pub(crate) unsafe fn new(
        inputs: &'a [RawView],
        mutated: &'static [usize],
        output: RawView,
        scratch: (*mut u8, usize),
    ) -> Self {
        Self {
            inputs,
            mutated,
            output: Some(output),
            scratch: Some(scratch),
            taken: 0,
        }
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether the operator has no inputs.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Shape of input `i`.
    pub fn shape(&self, i: usize) -> Shape {
        self.inputs[i].shape
    }

    /// Shape of the output.
    pub fn output_shape(&self) -> Result<Shape> {
        self.output
            .map(|v| v.shape)
            .ok_or_else(|| taken_twice("output"))
    }

    /// The element type the operator runs in: that of its first input, or of the output.
    pub fn dtype(&self) -> DType {
        self.inputs
            .first()
            .or(self.output.as_ref())
            .map_or(DType::F32, |v| v.dtype)
    }

    /// Input `i`, to read.
    pub fn input<T: Element>(&self, i: usize) -> Result<&'a [T]> {
        if self.mutated.contains(&i) {
            return Err(Error::Internal(format!(
                "input {i} is updated in place; take it with `update`"
            )));
        }
        let v = self.inputs[i];
        check_dtype::<T>(&v)?;
        // SAFETY: `new` promised a valid region, and it is not one of the mutable ones.
        Ok(unsafe { std::slice::from_raw_parts(v.ptr.cast(), v.shape.len()) })
    }

    /// The output, to write. It holds garbage before: write every element.
    pub fn output<T: Element>(&mut self) -> Result<&'a mut [T]> {
        let v = self.output.take().ok_or_else(|| taken_twice("output"))?;
        check_dtype::<T>(&v)?;
        // SAFETY: `new` promised a valid, unaliased region; `take` hands it out once.
        Ok(unsafe { std::slice::from_raw_parts_mut(v.ptr.cast(), v.shape.len()) })
    }

    /// Scratch memory as asked for by [`Operator::workspace`](crate::tape::Operator::workspace),
    /// holding garbage.
    pub fn scratch<T: Element>(&mut self) -> Result<&'a mut [T]> {
        let (ptr, bytes) = self.scratch.take().ok_or_else(|| taken_twice("scratch"))?;
        // SAFETY: as for `output`; the session aligns it to 64 bytes.
        Ok(unsafe { std::slice::from_raw_parts_mut(ptr.cast(), bytes / size_of::<T>()) })
    }

    /// Input `i`, one of [`Operator::mutates`](crate::tape::Operator::mutates), to update in place.
    pub fn update<T: Element>(&mut self, i: usize) -> Result<&'a mut [T]> {
        if !self.mutated.contains(&i) || i >= 64 || self.taken & (1 << i) != 0 {
            return Err(taken_twice("parameter"));
        }
        self.taken |= 1 << i;
        let v = self.inputs[i];
        check_dtype::<T>(&v)?;
        // SAFETY: `new` promised an unaliased region; the bit in `taken` hands it out once.
        Ok(unsafe { std::slice::from_raw_parts_mut(v.ptr.cast(), v.shape.len()) })
    }
}

fn check_dtype<T: Element>(v: &RawView) -> Result<()> {
    if v.dtype != T::DTYPE {
        return Err(Error::DType {
            what: "operator argument".into(),
            expected: T::DTYPE.to_string(),
            found: v.dtype.to_string(),
        });
    }
    Ok(())
}

fn taken_twice(what: &str) -> Error {
    Error::Internal(format!("{what} of an operator taken twice or not declared"))
}

/// Runs a body with `$t` bound to the element type: `dispatch_real!(io.dtype(), "add", T => f::<T>(io))`.
#[cfg(feature = "f64")]
#[macro_export]
macro_rules! dispatch_real {
    ($dtype:expr, $what:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::DType::F64 => {
                type $t = f64;
                $body
            }
            other => Err($crate::device::cpu::no_code_for(other, $what)),
        }
    };
}

/// Runs a body with `$t` bound to the element type: `dispatch_real!(io.dtype(), "add", T => f::<T>(io))`.
#[cfg(not(feature = "f64"))]
#[macro_export]
macro_rules! dispatch_real {
    ($dtype:expr, $what:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $t = f32;
                $body
            }
            other => Err($crate::device::cpu::no_code_for(other, $what)),
        }
    };
}

/// The error of `dispatch_real` for a dtype without code.
pub fn no_code_for(dtype: DType, what: &str) -> Error {
    Error::DType {
        what: format!("{what} on the CPU"),
        expected: match cfg!(feature = "f64") {
            true => "f32 or f64".into(),
            false => "f32 (f64 with the feature `f64`)".into(),
        },
        found: dtype.to_string(),
    }
}

/// Below this many elements a loop is not worth waking other threads for.
pub const SERIAL_BELOW: usize = 16 * 1024;

/// Calls `f(i, chunk)` for each chunk of `chunk` elements of `out` (the last may be short), in
/// parallel if `out` is large. Chunks are disjoint, so the result does not depend on thread count.
pub fn for_chunks<T: Send>(out: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    for_chunks_of_work(out.len(), out, chunk, f);
}

/// As [`for_chunks`], but by the amount of `work` behind `out`, not by its length; `usize::MAX` is always worth it.
pub(crate) fn for_chunks_of_work<T: Send>(
    work: usize,
    out: &mut [T],
    chunk: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let chunk = chunk.max(1);
    let (len, target) = (out.len(), SendPtr::new(out));
    let count = len.div_ceil(chunk);
    let run: &(dyn Fn(Range<usize>) + Sync) = &|range| {
        for i in range {
            let at = i * chunk;
            // SAFETY: `i < count`, so the chunk lies in `out`; each is handed out once.
            f(i, unsafe { target.slice(at, chunk.min(len - at)) });
        }
    };
    if work < SERIAL_BELOW {
        run(0..count);
    } else {
        for_ranges(count, run);
    }
}

/// Runs `f` on a thread of the pool, so that the loops inside need no hand-over from outside
/// (each of which may allocate).
pub fn install<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() {
        f()
    } else {
        rayon::join(f, || ()).0
    }
}

/// Where threads write, each its own part.
pub(crate) struct SendPtr<T = f32>(*mut T);
// SAFETY: users write disjoint parts.
unsafe impl<T: Send> Send for SendPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SendPtr<T> {}

impl<T> Clone for SendPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SendPtr<T> {}

impl<T> SendPtr<T> {
    pub fn new(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// An address to prefetch.
    #[inline(always)]
    pub fn line(self, at: usize) -> *const T {
        self.0.wrapping_add(at)
    }

    /// # Safety
    /// `at` must be within the values.
    #[inline(always)]
    pub unsafe fn at(self, at: usize) -> *mut T {
        // SAFETY: the caller's contract.
        unsafe { self.0.add(at) }
    }

    /// `len` of the values from `at` on.
    ///
    /// # Safety
    /// They must be within the values, and nobody else may use them for `'a`.
    pub unsafe fn slice<'a>(self, at: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), len) }
    }
}
