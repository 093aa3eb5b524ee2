//! Latency of each operator and cell part: the look-up table of the paper's Eq. 3.

use super::ceiling::{self, Ceilings};
use super::clock::{SmClock, Watch};
use super::peak::Peak;
use crate::cli::device::{DeviceArg, PrecisionArg};
use crate::cli::info::parse_size;
use crate::cli::terminal;
use crate::device::Device;
use crate::search::{Effort, LatencyKey, LatencyTable, Method, latency};
use crate::tensor::io::write_atomic;
use crate::{Error, Result};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Time each operator of the search space and each part of its cells
///
/// Operators are timed at full size with C channels, at half size with 2 C and at a quarter with 4 C,
/// as multi-scale cells run them. On a card a run is many runs of one graph between two events,
/// in turn on copies of all values that together are twice its cache, and what counts is their mean;
/// on the CPU a run is the sum of its nodes' times by a monotonic clock.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct OpsArgs {
    /// Width and height of the pictures
    #[arg(long, value_name = "WxH", default_value = "620x448", value_parser = parse_size)]
    pub size: (usize, usize),
    /// Channels C at full size
    #[arg(long, value_name = "C", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub channels: u16,
    /// Runs that count, after three that do not, and half a second of work on a card
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Effort of measuring the card's ceilings; less is faster and less exact
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub effort: u16,
    /// On the CPU, also measure what it reaches at most, and give each operator's share of it
    #[arg(long)]
    pub roofline: bool,
    /// On a card, take one copy: what a run has left in the cache is there for the next
    #[arg(long)]
    pub warm: bool,
    /// Only entries whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub only: String,
    /// Also write the table as JSON to FILE (`-` for stdout, instead of text)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

/// The table, with what bounds a card.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    table: LatencyTable,
    ceilings: Option<Ceilings>,
    peak: Option<Peak>,
    sm_clock_mhz: Option<SmClock>,
}

/// Measures, prints and writes.
pub fn run(args: &OpsArgs) -> Result<()> {
    let device = args.device.open()?;
    if args.roofline && !matches!(device, Device::Cpu) {
        return Err(Error::config(
            "--roofline",
            "is for the CPU, and a card's share is shown anyway; say --device cpu or leave it out",
        ));
    }
    let dtype = args.precision.on(&device).dtype();
    let (width, height) = args.size;
    let channels = usize::from(args.channels);
    let mut list = latency::entries(width, height, channels);
    list.retain(|e| e.name.contains(&args.only));
    if list.is_empty() {
        return Err(Error::config(
            "--only",
            format!("no entry has `{}` in its name; try 3-SC or MS", args.only),
        ));
    }
    let ceilings = match &device {
        Device::Cuda(cuda) => Some(ceiling::measure(cuda, args.effort.into())?),
        Device::Cpu => None,
    };
    let peak = match &device {
        Device::Cpu if args.roofline => Some(Peak::measure()),
        _ => None,
    };
    let watch = Watch::start(&device)?;
    let bar = terminal::bar(list.len() as u64, "{bar:40} {pos}/{len} {msg}");
    let what = LatencyKey::here(&device, dtype, args.size, channels);
    let effort = Effort {
        runs: args.runs.into(),
        cold: !args.warm,
    };
    let mut table = LatencyTable::measure_entries(&device, what, list, effort, |name| {
        bar.set_message(name.to_string());
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    let clock = watch.stop()?;
    if let Some(c) = ceilings {
        for r in &mut table.entries {
            r.percent = Some(c.percent(dtype, r.flops, r.bytes, r.timing.median_ms / 1e3));
        }
    }
    if let Some(p) = &peak {
        for r in &mut table.entries {
            r.percent = Some(p.percent(r.flops, r.timing.median_ms / 1e3));
        }
    }
    let report = Report {
        table,
        ceilings,
        peak,
        sm_clock_mhz: clock,
    };
    let json = serde_json::to_string_pretty(&report)
        .map_err(|e| Error::Internal(format!("latency table: {e}")))?;
    match &args.json {
        Some(path) if path.as_os_str() == "-" => return terminal::print(&json),
        Some(path) => write_atomic(path, json.as_bytes())?,
        None => {}
    }
    terminal::print(&text(&report))
}

/// State of a card's cache.
fn cold(t: &LatencyTable) -> String {
    let warm = t.entries.iter().filter(|r| !r.cold).count();
    match warm {
        0 => ", cache cold".into(),
        n if n == t.entries.len() => ", cache warm".into(),
        n => format!(", cache cold but for {n} small entries"),
    }
}

fn text(report: &Report) -> String {
    let t = &report.table;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{}, {}, {} x {}, {} channels{}",
        t.key.device,
        t.key.dtype,
        t.key.width,
        t.key.height,
        t.key.channels,
        match t.method {
            Method::Nodes => String::new(),
            Method::Graph => format!(", means in graphs{}", cold(t)),
        },
    );
    if let Some(c) = report.ceilings {
        let tensor = c
            .f16_tflop_per_s
            .map_or(String::new(), |v| format!(", tensor cores {v:.1} TFLOP/s"));
        let _ = writeln!(
            out,
            "ceilings: copy {:.1} GB/s, f32 {:.1} TFLOP/s{tensor}",
            c.copy_gb_per_s, c.f32_tflop_per_s
        );
    }
    if let Some(p) = &report.peak {
        let widths = p.f32_gflop_per_s.iter();
        let widths: Vec<String> = widths
            .map(|(bits, v)| format!("{v:.1} with {bits} bits"))
            .collect();
        let _ = writeln!(
            out,
            "ceilings of {} threads: copy {:.1} GB/s, f32 multiply-adds in GFLOP/s {}\n\
             % ceiling: operations of the definition, which convolutions of fewer products exceed",
            p.threads,
            p.copy_gb_per_s,
            widths.join(", ")
        );
    }
    let _ = writeln!(
        out,
        "{:<10} {:<20} {:>10} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "operator", "input", "median ms", "25 %", "75 %", "GFLOP/s", "GB/s", "% ceiling"
    );
    for r in &t.entries {
        let ms = r.timing.median_ms.max(1e-9);
        let _ = writeln!(
            out,
            "{:<10} {:<20} {:>10.4} {:>10.4} {:>10.4} {:>10.1} {:>9.1} {:>9}",
            r.name,
            format!("{:?}", r.shape),
            r.timing.median_ms,
            r.timing.low_ms,
            r.timing.high_ms,
            r.flops as f64 / ms / 1e6,
            r.bytes as f64 / ms / 1e6,
            r.percent.map_or("-".into(), |p| format!("{p:.1}"))
        );
    }
    out + SmClock::foot(report.sm_clock_mhz).trim_start()
}
