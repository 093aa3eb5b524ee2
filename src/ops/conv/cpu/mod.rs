//! The convolution on the CPU in f32; f64 and what nothing else fits is [`reference`].
//!
//! | file | content |
//! |---|---|
//! | `job` | a convolution in numbers, bias, activation and residual |
//! | `pack` | weights in panels of as many channels as a tile has |
//! | `tile` | register tiles: pixels by channels |
//! | `direct` | bands of rows in parallel, lines of tiles inside |
//! | `pointwise` | 1 x 1 |
//! | `winograd`, `transform` | 3 x 3 and 5 x 5 with many channels |
//! | `weight` | gradient of the kernel |

pub(super) mod direct;
pub(super) mod job;
pub(super) mod pack;
pub(super) mod pointwise;
pub(super) mod reference;
pub(super) mod tile;
pub(super) mod transform;
pub(super) mod weight;
pub(super) mod winograd;
