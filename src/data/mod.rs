//! Pictures in and out, pairs of folders, and the training data made of them.

mod augment;
pub(crate) mod color;
mod crop;
pub mod dataset;
mod decode;
pub mod image;
pub mod pairs;
mod sampler;
pub(crate) mod sets;
#[cfg(test)]
mod tests;
mod tones;

pub(crate) use augment::AUGMENT_MIF;
pub use augment::Augment;
pub(crate) use dataset::list_all;
pub use dataset::{Batch, PairDataset};
pub(crate) use image::check_output_path;
pub use image::{Chroma, Format, Picture, WriteOptions};
pub use pairs::{Pair, PairList, list_pairs, read_pair};
pub(crate) use pairs::{match_names, sample_names};
pub use sampler::EpochSampler;
pub use sets::Folders;
