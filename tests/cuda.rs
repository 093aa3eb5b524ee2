//! Every operator on CUDA against the CPU, and whole runs. Without a GPU the kernels run on the
//! emulated driver of `tests/cuda-emulator`; with `HAFUSE_TEST_GPU=1` on the real one.

#[path = "cuda/card.rs"]
mod card;
mod common;
#[path = "cuda/network.rs"]
mod network;
#[path = "cuda/operators.rs"]
mod operators;
#[path = "cuda/replay.rs"]
mod replay;
#[path = "cuda/search.rs"]
mod search;
