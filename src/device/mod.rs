//! Where sessions run: the threads of this process, or an NVIDIA card.

mod card;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
pub mod cuda;
#[doc(hidden)]
pub mod kernels;
pub mod launch;
#[doc(hidden)]
pub mod memory;
pub(crate) mod simd;
mod team;

pub use card::Card;

use crate::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// Whether convolutions round a multiply-add once on this CPU (AVX2, AVX-512, NEON). Without, their tolerance of f32 is
/// twice as large (`docs/numerics.md`).
///
/// ```
/// println!("fused multiply-adds: {}", hafuse::device::fuses_multiply_adds());
/// ```
pub fn fuses_multiply_adds() -> bool {
    simd::Portable::FUSES || simd::simd() >= simd::Simd::Avx2
}

/// A device that a [`Session`](crate::tape::Session) can run on: that of its
/// [`ParamStore`](crate::tape::ParamStore).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Device {
    /// Threads of this process (rayon's global pool).
    #[default]
    Cpu,
    /// An NVIDIA card.
    Cuda(Arc<cuda::Cuda>),
}

impl Device {
    /// The first card that can be used, else the CPU; and what is wrong with the first card, if it is another.
    pub fn auto() -> (Self, Option<Error>) {
        let cards = match cuda::cards() {
            Ok(cards) => cards,
            Err(e) => return (Device::Cpu, Some(e)),
        };
        let mut reason = None;
        for (ordinal, card) in cards.into_iter().enumerate() {
            match card.and_then(|_| cuda::Cuda::open(ordinal)) {
                Ok(cuda) => return (Device::Cuda(cuda), reason),
                Err(e) => _ = reason.get_or_insert(e),
            }
        }
        (Device::Cpu, reason)
    }

    /// The device that `text` names: `cpu`, `cuda` (the first card), `cuda:N`, or `auto`: the
    /// first card that can be used, else the CPU.
    ///
    /// # Errors
    /// [`Error::Device`] if a card was asked for and cannot be used, [`Error::Config`] for other names.
    ///
    /// ```
    /// use hafuse::device::Device;
    /// assert_eq!(Device::open("cpu")?.to_string(), "cpu");
    /// assert!(Device::open("tpu").is_err());
    /// # Ok::<(), hafuse::Error>(())
    /// ```
    pub fn open(text: &str) -> Result<Self> {
        let card = |n| cuda::Cuda::open(n).map(Device::Cuda);
        match text {
            "cpu" => Ok(Device::Cpu),
            "auto" => Ok(Self::auto().0),
            "cuda" => card(0),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(n)) => card(n),
                _ => Err(Error::config(
                    "device",
                    format!("`{text}` is none of auto, cpu, cuda, cuda:N"),
                )),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(cuda) => write!(f, "{} ({})", cuda.label(), cuda.card().name),
        }
    }
}
