//! What operators share: loops over broadcast shapes, sums in a fixed order, and the Rust side of `kernels/common`.

pub mod activation;
pub mod broadcast;
pub mod lanes;
pub mod parts;
pub mod sum;
pub mod window;
