//! The real binary, run as a user runs it.

#[path = "cli/batch.rs"]
mod batch;
#[path = "cli/compare.rs"]
mod compare;
#[path = "cli/cuda.rs"]
mod cuda;
#[path = "cli/driver.rs"]
mod driver;
#[path = "cli/eval.rs"]
mod eval;
#[path = "cli/experiment.rs"]
mod experiment;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/results.rs"]
mod results;
#[path = "cli/search.rs"]
mod search;
#[path = "cli/tone.rs"]
mod tone;
#[path = "cli/training.rs"]
mod training;
#[path = "cli/world.rs"]
mod world;
