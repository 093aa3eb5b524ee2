//! Pictures in and out, pairs of folders, and the training data made of them.

pub mod color;
pub mod dataset;
mod decode;
pub mod image;
pub mod pairs;
#[cfg(test)]
mod tests;

pub use dataset::{EpochSampler, PairDataset};
pub use image::{Chroma, Picture, WriteOptions, check_output_path};
pub use pairs::{Pair, PairList, list_pairs, match_names, read_pair, sample_names};
