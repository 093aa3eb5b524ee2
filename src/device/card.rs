//! A CUDA device, as far as its properties go.

use std::fmt;

/// A card, as far as its properties go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Number of the card, N in `cuda:N`.
    pub ordinal: usize,
    /// Name of the product, as the driver tells it.
    pub name: String,
    /// Compute capability, e.g. `(8, 6)`.
    pub capability: (u32, u32),
    /// Architecture of the code that it would run, e.g. 86; `None` if this binary has none for it.
    pub code: Option<u32>,
    /// Number of streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes.
    pub memory: usize,
    /// Bytes of second-level cache.
    pub l2: usize,
}

impl Card {
    /// Whether the code it runs has tensor-core instructions: PTX of an older architecture does not.
    pub fn tensor_cores(&self) -> bool {
        self.code >= Some(75)
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        write!(f, "{} (sm_{major}{minor})", self.name)
    }
}
