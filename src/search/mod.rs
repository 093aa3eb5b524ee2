//! The architecture search: configuration, latency table, Algorithm 1 on the supernet.

mod architecture;
mod config;
mod key;
pub mod latency;
mod measure;
mod schedule;
mod searcher;
mod step;
mod timing;

pub use architecture::{LayerWeights, brief, derive, read_layers};
pub use config::{
    ArchitectureConfig, DEFAULT_CONFIG, EpochsConfig, LatencyConfig, LatencyPrecision,
    SearchConfig, SpaceConfig, Strategy, WeightsConfig,
};
pub use key::LatencyKey;
pub use latency::{LatencyTable, record_lat};
pub use measure::{Effort, Method};
pub use schedule::{Phase, Place, Schedule};
pub use searcher::{EpochReport, SearchEvent, SearchProgress, Searcher, StepReport, split};
pub use step::Update;
pub use timing::{Timing, warm_up};
