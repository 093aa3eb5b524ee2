//! The architecture search: configuration, latency table, Algorithm 1 on the supernet.

mod agreement;
mod architecture;
mod budget;
mod charge;
mod config;
mod descent;
mod key;
#[doc(hidden)]
pub mod latency;
mod measure;
mod sampled;
mod schedule;
mod searcher;
mod step;
mod timing;
mod verdict;

pub(crate) use agreement::Contest;
pub use architecture::{LayerWeights, brief, derive, read_layers};
pub(crate) use config::DEFAULT_CONFIG;
pub use config::{
    ArchitectureConfig, EpochsConfig, Estimator, LatencyConfig, LatencyPrecision, LatencyUnit,
    SearchConfig, SpaceConfig, Strategy, WeightsConfig,
};
pub use descent::Gradient;
pub use key::LatencyKey;
pub use latency::{LatencyTable, record_lat};
pub use measure::{Effort, Method};
pub use schedule::{Phase, Schedule};
pub(crate) use searcher::split;
pub use searcher::{
    Discretisation, EpochReport, SearchEvent, SearchProgress, Searcher, StepReport,
};
pub use step::Update;
pub use timing::{Timing, warm_up};
pub use verdict::{Decision, Verdict};
