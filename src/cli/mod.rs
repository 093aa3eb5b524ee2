//! The command line: one file for each subcommand.

mod bench;
mod compare;
mod device;
mod doctor;
mod eval;
mod experiment;
mod export;
mod folder;
mod fuse;
mod info;
mod mask;
mod methods;
mod preview;
mod report;
mod search;
mod search_log;
mod search_seeds;
mod stop;
pub mod synth;
mod terminal;
mod train;
mod train_log;

use crate::{Error, Result};
use clap::{Parser, Subcommand};
use std::sync::LazyLock;

const AFTER_HELP: &str = "\
Examples:
  hafuse fuse ir.png vi.png -o fused.png           one pair, infrared first
  hafuse fuse mri/ pet/ -o fused/ --model mif      two folders, pictures matched by name
  hafuse synth data --scene street --count 16      pairs to try things on
  hafuse train my.toml --a data/ir --b data/vi     train the network
  hafuse search my.toml --a data/ir --b data/vi    search an architecture for data and device
  hafuse eval ir/ vi/ --method mine=fused/         judge fused pictures by the field's metrics
  hafuse compare ir/ vi/ --method a=fa/ --model ivif   the same to look at: sheets and a page
  hafuse experiment table3 --config lab.toml       a table of the paper as one command
  hafuse report runs/s                             a page about a search
  hafuse export --onnx fusion.onnx                 a model for ONNX Runtime, TensorRT, OpenVINO
  hafuse info --size 640x480 --run                 size, speed and memory on this machine
  hafuse doctor                                    which devices are there and work
  hafuse bench ops --device cuda                   latency of each operator

Exit codes:
  0   done
  1   some pairs of a folder failed, the others are written
  2   wrong usage, option or configuration
  3   an input is missing, unreadable or unfit (also weights that do not fit)
  4   the output cannot be written; what was there before is untouched
  5   the device is not available
  6   stopped on request, or because the loss was no longer a number
  70  a bug in hafuse

Results go to stdout and files, all else to stderr. `hafuse help COMMAND` explains a command.";

/// Fuse two registered pictures of one scene, taken by different sensors, into one
///
/// hafuse takes an infrared and a visible picture, or an MRI and a PET slice, and computes one picture
/// that keeps what each of them shows. The network runs on the CPU, or on an NVIDIA card if one is there,
/// and needs nothing but this file.
#[derive(Parser, Debug)]
#[command(
    name = "hafuse",
    version,
    long_version = LONG_VERSION.as_str(),
    after_help = AFTER_HELP,
    verbatim_doc_comment,
    disable_help_subcommand = false
)]
pub struct Cli {
    /// Threads to compute with [default: one for each core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Fuse(fuse::FuseArgs),
    Train(Box<train::TrainArgs>),
    Search(Box<search::SearchArgs>),
    Eval(Box<eval::EvalArgs>),
    Compare(Box<compare::CompareArgs>),
    Report(report::ReportArgs),
    Experiment(Box<experiment::ExperimentArgs>),
    Export(export::ExportArgs),
    Info(info::InfoArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    Synth(synth::SynthArgs),
}

/// Does what the command line asks for.
///
/// # Errors
/// Any [`Error`]; [`exit_code`] of it is meant for the process.
pub fn run(cli: Cli) -> Result<()> {
    crate::device::simd::check_simd()?;
    crate::device::cuda::check_wait()?;
    if let Some(n) = cli.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n.into())
            .build_global()
            .map_err(|e| Error::config("--threads", format!("{n} threads: {e}")))?;
    }
    match cli.command {
        Command::Fuse(args) => fuse::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Experiment(args) => experiment::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Synth(args) => synth::run(&args),
    }
}

/// Prints an error as one line on stderr, with the options that set what it names.
pub fn print_error(error: &Error) {
    let text = error.to_string();
    terminal::say(&match error {
        Error::Config { what, .. } if ["model", "device", "precision"].contains(&&what[..]) => {
            format!("error: --{text}")
        }
        Error::Device { .. } | Error::DeviceMemory { .. } if text.ends_with("the CPU") => {
            format!("error: {text} (--device cpu)")
        }
        _ => format!("error: {text}"),
    });
}

/// Exit code of the process: 1 some items failed, 2 wrong usage or configuration, 3 unreadable or unfit input, 4 output not
/// writable, 5 device not available, 6 stopped on request or diverged, 70 a bug.
pub fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Partial { .. } => 1,
        Error::Config { .. } => 2,
        Error::Input { .. } | Error::TooLarge { .. } | Error::Weights(_) => 3,
        Error::Output { .. } => 4,
        Error::Device { .. } | Error::DeviceMemory { .. } => 5,
        Error::Stopped(_) | Error::Diverged(_) => 6,
        Error::Shape { .. }
        | Error::DType { .. }
        | Error::NotDifferentiable { .. }
        | Error::Tape(_)
        | Error::Internal(_) => 70,
    }
}

static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\nkernels: {}\ntarget:  {}-{}\ncpu has: {}",
        env!("CARGO_PKG_VERSION"),
        crate::device::kernels::describe(),
        std::env::consts::ARCH,
        std::env::consts::OS,
        cpu_features()
    )
});

/// The vector extensions of this CPU that matter here.
fn cpu_features() -> String {
    #[allow(unused_mut)]
    let mut found: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (name, has) in [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
    ] {
        if has {
            found.push(name);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        found.push("neon");
    }
    if found.is_empty() {
        "no vector extension that is used".into()
    } else {
        found.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(LONG_VERSION.starts_with(env!("CARGO_PKG_VERSION")));
    }
}
