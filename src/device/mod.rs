//! Where sessions run. This build has the CPU.

pub mod cpu;
pub(crate) mod simd;

use std::fmt;

/// A device that a [`Session`](crate::tape::Session) can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// Threads of this process (rayon's global pool).
    #[default]
    Cpu,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
        }
    }
}
