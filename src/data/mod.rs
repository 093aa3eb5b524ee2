//! Pictures in and out, pairs of folders, and the training data made of them.

mod augment;
pub mod color;
mod crop;
pub mod dataset;
mod decode;
pub mod image;
pub mod pairs;
mod sampler;
pub mod sets;
#[cfg(test)]
mod tests;
mod tones;

pub(crate) use augment::AUGMENT_MIF;
pub use augment::Augment;
pub use dataset::{Batch, FolderPairs, PairDataset, list_all};
pub use image::{Chroma, Format, Picture, WriteOptions, check_output_path};
pub use pairs::{Pair, PairList, list_pairs, match_names, read_pair, sample_names};
pub use sampler::EpochSampler;
pub use sets::Folders;
