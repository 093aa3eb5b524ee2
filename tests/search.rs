//! The search through the library.

#[path = "search/beyond.rs"]
mod beyond;
mod common;
#[path = "search/decides.rs"]
mod decides;

#[path = "search/fixtures.rs"]
mod fixtures;
#[path = "search/latency.rs"]
mod latency;
#[path = "search/runs.rs"]
mod runs;
#[path = "search/supernet.rs"]
mod supernet;
