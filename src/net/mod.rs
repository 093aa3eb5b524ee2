//! The fusion network of the paper: ten operators, three cells, the feature-level module (FFM), the
//! object-level module (OFM) and the aggregation, all built from a [`Genotype`].
//!
//! `docs/paper.md` maps each equation to its code and lists what the paper leaves open.

mod builder;
mod cells;
mod count;
mod fusion;
mod genotype;
mod operators;

pub use builder::{Builder, Init, Layer, ParamSpec, initial_params};
pub use cells::record_cell;
pub use count::{PartCount, count_parts, format_counts};
pub use fusion::{Fused, param_specs, record_ffm, record_fusion};
pub use genotype::{CellGene, CellKind, Genotype, GuidedFilterGene, OpKind};
pub use operators::{SLOPE, record_operator};
