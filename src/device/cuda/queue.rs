//! What runs in the order of a stream: captured graphs, and points in time.

use super::{Cuda, Queue, driver};
use crate::Result;
use cudarc::driver::sys;
use std::sync::Arc;
use std::time::Duration;

/// A captured list of launches.
pub(crate) struct Graph {
    pub(super) cuda: Arc<Cuda>,
    pub(super) exec: sys::CUgraphExec,
}

// SAFETY: a handle that is used by one session at a time.
unsafe impl Send for Graph {}

impl Graph {
    pub fn launch(&self) -> Result<()> {
        let stream = self.cuda.stream(Queue::Compute);
        // SAFETY: made by `Cuda::capture`; its owner keeps the sessions whose memory the nodes touch.
        let done = unsafe { driver::cuGraphLaunch(self.exec, stream) };
        self.cuda.check("replaying a graph", done)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.cuda.synchronize().is_ok() {
            // SAFETY: made by `Cuda::capture`, no longer running.
            let _ = unsafe { driver::cuGraphExecDestroy(self.exec) };
        }
    }
}

/// A point in a stream.
pub(crate) struct Event {
    pub(super) cuda: Arc<Cuda>,
    pub(super) event: sys::CUevent,
}

// SAFETY: a handle that is used by one session at a time.
unsafe impl Send for Event {}

impl Event {
    /// Marks the point that `queue` has reached.
    pub fn record(&self, queue: Queue) -> Result<()> {
        // SAFETY: event and stream live.
        let done = unsafe { driver::cuEventRecord(self.event, self.cuda.stream(queue)) };
        self.cuda.check("recording an event", done)
    }

    /// Holds `queue` back until this point has passed.
    pub fn hold(&self, queue: Queue) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT as u32;
        let stream = self.cuda.stream(queue);
        // SAFETY: event and stream live.
        let done = unsafe { driver::cuStreamWaitEvent(stream, self.event, flags) };
        self.cuda.check("waiting for an event", done)
    }

    /// Waits on the host until this point has passed.
    pub fn wait(&self) -> Result<()> {
        self.cuda.bind()?;
        // SAFETY: the event lives.
        let done = unsafe { driver::cuEventSynchronize(self.event) };
        self.cuda.check("waiting for the card", done)
    }

    /// Time from this event to a later one; both must be of [`Cuda::timed_event`] and have passed.
    pub fn until(&self, later: &Event) -> Result<Duration> {
        let mut ms = 0.0;
        // SAFETY: both events live, and the pointer is good for one float.
        let read = unsafe { driver::cuEventElapsedTime(&mut ms, self.event, later.event) };
        self.cuda.check("reading an event", read)?;
        Ok(Duration::from_secs_f64(f64::from(ms) / 1e3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.cuda.bind().is_ok() {
            // SAFETY: made by `Cuda::make_event`.
            let _ = unsafe { driver::cuEventDestroy_v2(self.event) };
        }
    }
}
