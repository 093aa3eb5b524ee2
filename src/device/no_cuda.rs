//! In place of `cuda` in a build without the feature: no [`Cuda`] can be made, so none of its methods is ever called.

use super::Card;
use super::launch::{DevicePtr, Launch};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// A card; there is none.
#[derive(Debug)]
pub enum Cuda {}

/// Memory of a card.
pub(crate) enum Memory {}

/// Memory of the host that a card reads and writes.
pub(crate) enum Pinned {}

/// A captured graph.
pub(crate) enum Graph {}

/// A point in a queue.
pub(crate) enum Event {}

/// A launch whose kernel was found.
pub(crate) enum Prepared {}

/// A queue of a card.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Queue {
    Upload,
    Compute,
    Download,
    Capture,
}

fn without() -> Error {
    Error::Device {
        device: "cuda".into(),
        detail: "this build has no CUDA support".into(),
        way_out: "build it with the feature `cuda`, or use the CPU".into(),
    }
}

/// Whether there is a driver, as far as this build can tell: no.
pub fn has_driver() -> bool {
    false
}

/// The driver's CUDA version.
///
/// # Errors
/// [`Error::Device`], as this build has no CUDA support.
pub fn driver_version() -> Result<(u32, u32)> {
    Err(without())
}

/// All cards.
///
/// # Errors
/// [`Error::Device`], as this build has no CUDA support.
pub fn cards() -> Result<Vec<Result<Card>>> {
    Err(without())
}

/// Nothing waits for a card.
pub(crate) fn check_wait() -> Result<()> {
    Ok(())
}

impl Cuda {
    /// # Errors
    /// [`Error::Device`], as this build has no CUDA support.
    pub fn open(_ordinal: usize) -> Result<Arc<Self>> {
        Err(without())
    }

    /// Properties of the card.
    pub fn card(&self) -> &Card {
        match *self {}
    }

    /// `cuda:N`.
    pub fn label(&self) -> &str {
        match *self {}
    }

    /// Free and total bytes of the card's memory.
    pub fn memory(&self) -> Result<(usize, usize)> {
        match *self {}
    }

    pub(crate) fn bind(&self) -> Result<()> {
        match *self {}
    }

    /// Waits for everything that was put on the streams.
    pub fn synchronize(&self) -> Result<()> {
        match *self {}
    }

    pub(crate) fn allocate(self: &Arc<Self>, _bytes: usize) -> Result<Memory> {
        match **self {}
    }

    pub(crate) fn pinned(self: &Arc<Self>, _bytes: usize) -> Result<Pinned> {
        match **self {}
    }

    pub(crate) fn launch(&self, _prepared: &Prepared, _queue: Queue) -> Result<()> {
        match *self {}
    }

    pub(crate) fn checks_launches(&self) -> bool {
        match *self {}
    }

    pub(crate) fn capture(self: &Arc<Self>, _f: impl FnOnce() -> Result<()>) -> Result<Graph> {
        match **self {}
    }

    pub(crate) fn upload(
        &self,
        _to: DevicePtr,
        _from: &Pinned,
        _at: usize,
        _bytes: usize,
    ) -> Result<()> {
        match *self {}
    }

    pub(crate) fn download(
        &self,
        _to: &mut Pinned,
        _at: usize,
        _bytes: usize,
        _from: DevicePtr,
    ) -> Result<()> {
        match *self {}
    }

    pub(crate) fn fill(&self, _memory: &Memory, _value: u8) -> Result<()> {
        match *self {}
    }

    pub(crate) fn event(self: &Arc<Self>) -> Result<Event> {
        match **self {}
    }

    pub(crate) fn timed_event(self: &Arc<Self>) -> Result<Event> {
        match **self {}
    }

    pub(crate) fn prepare(&self, _launch: Launch, _node: String) -> Result<Prepared> {
        match *self {}
    }
}

impl Memory {
    pub fn ptr(&self) -> DevicePtr {
        match *self {}
    }

    pub fn write(&self, _bytes: &[u8]) -> Result<()> {
        match *self {}
    }

    pub fn read(&self, _bytes: &mut [u8]) -> Result<()> {
        match *self {}
    }
}

impl Pinned {
    pub fn bytes(&self, _at: usize, _len: usize) -> &[u8] {
        match *self {}
    }

    pub fn bytes_mut(&mut self, _at: usize, _len: usize) -> &mut [u8] {
        match *self {}
    }
}

impl Graph {
    pub fn launch(&self) -> Result<()> {
        match *self {}
    }
}

impl Event {
    pub fn record(&self, _queue: Queue) -> Result<()> {
        match *self {}
    }

    pub fn hold(&self, _queue: Queue) -> Result<()> {
        match *self {}
    }

    pub fn wait(&self) -> Result<()> {
        match *self {}
    }

    pub fn until(&self, _later: &Event) -> Result<Duration> {
        match *self {}
    }
}

impl Prepared {
    pub fn launch(&self) -> &Launch {
        match *self {}
    }
}
