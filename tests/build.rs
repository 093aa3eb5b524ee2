//! The build script, whose tests stand in it: which toolkit it finds, and what it compiles for.

#[path = "../build.rs"]
#[allow(dead_code)]
mod build;
