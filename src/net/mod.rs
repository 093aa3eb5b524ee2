//! The fusion network of the paper: ten operators, three cells, the feature-level module (FFM), the
//! object-level module (OFM) and the aggregation, built from a [`Genotype`] or, as a supernet that mixes
//! all candidates, from a [`NetworkPlan`].
//!
//! `docs/paper.md` maps each equation to its code and lists what the paper leaves open.

mod builder;
mod cells;
mod count;
mod fusion;
mod genotype;
mod operators;
mod plan;

pub use builder::{Builder, Init, Layer, ParamSpec, initial_params};
pub use cells::record_cell;
pub(crate) use count::{count_parts, format_counts};
pub use fusion::fusion_tape;
pub use fusion::{Feature, Fused, Part, Sources, param_specs, record_ffm, record_fusion};
pub(crate) use fusion::{PARTS, parts_tape, record_aggregation, tape_of_part};
pub use genotype::{CellGene, CellKind, FrameGene, Genotype, GuidedFilterGene, OpKind};
pub use operators::{SLOPE, record_operator};
pub use plan::{
    CellPlan, LayerPlan, NetworkPlan, Pick, SearchSpace, Searched, alpha_name, beta_name,
    derived_name, is_architecture_param, layer_names,
};
