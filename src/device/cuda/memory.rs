//! Memory of a card, and host memory that it copies from and to.

use super::{Cuda, Queue, driver};
use crate::device::launch::DevicePtr;
use crate::{Error, Result};
use std::sync::Arc;

/// Device memory; freed when dropped.
pub(crate) struct Memory {
    pub(super) cuda: Arc<Cuda>,
    pub(super) ptr: DevicePtr,
    pub(super) bytes: usize,
}

// SAFETY: an address and a size; the driver's calls are thread-safe.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn ptr(&self) -> DevicePtr {
        self.ptr
    }

    /// Overwrites the first bytes and waits.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.check(bytes.len())?;
        // On the compute stream, behind work that uses the old values and before work that uses the
        // new ones: a synchronous copy of pageable memory may return before it has arrived.
        self.cuda.bind()?;
        let stream = self.cuda.stream(Queue::Compute);
        // SAFETY: the size was checked; both sides live until the wait below is over.
        let begun = unsafe {
            driver::cuMemcpyHtoDAsync_v2(self.ptr.0, bytes.as_ptr().cast(), bytes.len(), stream)
        };
        let waited = self.cuda.synchronize();
        self.cuda.check("copying to the card", begun)?;
        waited
    }

    /// Reads the first bytes, after all work on the stream.
    pub fn read(&self, bytes: &mut [u8]) -> Result<()> {
        self.check(bytes.len())?;
        self.cuda.synchronize()?;
        // SAFETY: the size was checked.
        let done =
            unsafe { driver::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), self.ptr.0, bytes.len()) };
        self.cuda.check("copying from the card", done)
    }

    fn check(&self, bytes: usize) -> Result<()> {
        if bytes > self.bytes {
            return Err(Error::Internal(format!(
                "{bytes} bytes for {} on the card",
                self.bytes
            )));
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.cuda.synchronize().is_ok() {
            // SAFETY: allocated by `Cuda::allocate`, and nothing on the stream uses it any more.
            let _ = unsafe { driver::cuMemFree_v2(self.ptr.0) };
        }
    }
}

/// Page-locked host memory, zeroed at first; freed when dropped.
pub(crate) struct Pinned {
    pub(super) cuda: Arc<Cuda>,
    pub(super) ptr: *mut u8,
    pub(super) bytes: usize,
}

// SAFETY: plain memory that is only reached through borrows of self.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// # Panics
    /// If the range is not inside; ranges come from the planner.
    pub fn bytes(&self, at: usize, len: usize) -> &[u8] {
        assert!(at + len <= self.bytes, "pinned range");
        // SAFETY: inside the allocation, which was zeroed.
        unsafe { std::slice::from_raw_parts(self.ptr.add(at), len) }
    }

    /// # Panics
    /// As [`Pinned::bytes`].
    pub fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(at + len <= self.bytes, "pinned range");
        // SAFETY: inside the allocation, which was zeroed, and borrowed mutably with self.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(at), len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.cuda.synchronize().is_ok() {
            // SAFETY: allocated by `Cuda::pinned`; no copy is under way any more.
            let _ = unsafe { driver::cuMemFreeHost(self.ptr.cast()) };
        }
    }
}
