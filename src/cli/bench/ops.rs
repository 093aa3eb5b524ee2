//! Latency of each operator and cell part: the look-up table of the paper's Eq. 3.

use super::ceiling::{self, Ceilings};
use super::timing::Timing;
use crate::cli::device::{DeviceArg, PrecisionArg};
use crate::cli::info::parse_size;
use crate::cli::terminal;
use crate::device::Device;
use crate::net::{Builder, Layer, OpKind, initial_params, record_operator};
use crate::ops;
use crate::tape::{Cost, ParamStore, Session, SessionOptions, Source, Tape, Var};
use crate::tensor::io::write_atomic;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Time each operator of the search space and each part of its cells
///
/// Operators are timed at full size with C channels, at half size with 2 C and at a quarter with 4 C,
/// as multi-scale cells run them. On a card the times come from its own events, with its cache
/// flushed before every run; on the CPU from a monotonic clock.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct OpsArgs {
    /// Width and height of the pictures
    #[arg(long, value_name = "WxH", default_value = "620x448", value_parser = parse_size)]
    pub size: (usize, usize),
    /// Channels C at full size
    #[arg(long, value_name = "C", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub channels: u16,
    /// Runs that count, after three that do not
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Effort of measuring the card's ceilings; less is faster and less exact
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub effort: u16,
    /// Leave what is in the card's cache there
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

/// The whole table.
#[derive(Serialize)]
struct Table {
    format: u32,
    version: &'static str,
    device: String,
    dtype: String,
    width: usize,
    height: usize,
    channels: usize,
    cache_flushed: bool,
    /// Of a card.
    ceilings: Option<Ceilings>,
    entries: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// Input shape.
    shape: Vec<usize>,
    #[serde(flatten)]
    timing: Timing,
    flops: u64,
    bytes: u64,
    /// Share of the nearer ceiling of a card.
    percent: Option<f64>,
    /// Kernels on a card.
    kernels: Vec<String>,
}

type Record = Box<dyn Fn(&mut Builder<'_>, Var) -> Result<Var>>;

/// What is timed: a name, the input's size and channels, and how it is recorded.
struct Entry {
    name: String,
    x: [usize; 4],
    record: Record,
}

fn entries(width: usize, height: usize, c: usize) -> Vec<Entry> {
    let half = |n: usize| n.div_ceil(2);
    let scales = [
        (1, [1, height, width, c]),
        (2, [1, half(height), half(width), 2 * c]),
        (4, [1, half(half(height)), half(half(width)), 4 * c]),
    ];
    let mut list = Vec::new();
    let mut add = |name: String, x, record: Record| {
        list.push(Entry { name, x, record });
    };
    for (scale, x) in scales {
        for kind in OpKind::ALL {
            let name = serde_json::to_value(kind);
            let name = name.ok().and_then(|v| v.as_str().map(String::from));
            add(
                format!("{}@{scale}", name.unwrap_or_default()),
                x,
                Box::new(move |b, x| record_operator(b, kind, x)),
            );
        }
    }
    let [full, two, four] = scales.map(|(_, x)| x);
    let conv = |layer: Layer| -> Record { Box::new(move |b, x| b.conv("conv", x, layer)) };
    add("stem".into(), [1, height, width, 2], conv(Layer::new(3, c)));
    add("head".into(), full, conv(Layer::new(3, 1)));
    add(
        "MS.down2".into(),
        full,
        conv(Layer::new(3, 2 * c).stride(2)),
    );
    add("MS.down4".into(), two, conv(Layer::new(3, 4 * c).stride(2)));
    add("MS.fuse1".into(), full, conv(Layer::new(1, c)));
    for (name, x) in [("MS.fuse2", two), ("MS.fuse4", four)] {
        add(
            name.into(),
            x,
            Box::new(move |b, x| {
                let x = b.conv("fuse", x, Layer::new(1, c).no_bias())?;
                ops::resize_bilinear(b.tape, x, height, width, None)
            }),
        );
    }
    add(
        "DC.split".into(),
        full,
        Box::new(|b, x| {
            let guide = ops::channel_range(b.tape, x)?;
            let low = ops::guided_filter(b.tape, guide, x, 4, 1e-3)?;
            ops::sub(b.tape, x, low)
        }),
    );
    add("DC.fuse".into(), full, conv(Layer::new(1, c).no_bias()));
    list
}

/// Measures, prints and writes.
pub fn run(args: &OpsArgs) -> Result<()> {
    let device = args.device.open()?;
    let dtype = args.precision.on(&device).dtype();
    let (width, height) = args.size;
    let channels = usize::from(args.channels);
    let mut list = entries(width, height, channels);
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
    let bar = terminal::bar(list.len() as u64, "{bar:40} {pos}/{len} {msg}");
    let mut rows = Vec::new();
    for entry in &list {
        bar.set_message(entry.name.clone());
        rows.push(measure(entry, &device, dtype, ceilings, args)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let table = Table {
        format: 1,
        version: env!("CARGO_PKG_VERSION"),
        device: device.to_string(),
        dtype: dtype.to_string(),
        width,
        height,
        channels,
        cache_flushed: !args.warm && matches!(device, Device::Cuda(_)),
        ceilings,
        entries: rows,
    };
    let json = serde_json::to_string_pretty(&table)
        .map_err(|e| Error::Internal(format!("latency table: {e}")))?;
    match &args.json {
        Some(path) if path.as_os_str() == "-" => return terminal::print(&json),
        Some(path) => write_atomic(path, json.as_bytes())?,
        None => {}
    }
    terminal::print(&text(&table))
}

fn measure(
    entry: &Entry,
    device: &Device,
    dtype: DType,
    ceilings: Option<Ceilings>,
    args: &OpsArgs,
) -> Result<Row> {
    let mut t = Tape::new(dtype);
    let x = t.input("x", entry.x)?;
    let mut builder = Builder::new(&mut t);
    let y = (entry.record)(&mut builder, x)?;
    let specs = builder.into_specs();
    t.output("y", y)?;
    let store = ParamStore::on(device);
    initial_params(&specs, 1, dtype, &store)?;
    let options = SessionOptions {
        profile: true,
        ..SessionOptions::default()
    };
    let mut session = Session::with_options(&t, &store, options)?;
    // Half grey: no branch of an operator depends on more.
    session.set("x", &Tensor::full(entry.x, dtype, 0.5))?;
    let flush = match device {
        Device::Cuda(cuda) if !args.warm => Some((cuda, cuda.flusher()?)),
        _ => None,
    };
    let timing = Timing::of(3, args.runs.into(), || {
        if let Some((cuda, memory)) = &flush {
            cuda.flush(memory)?;
        }
        session.run()?;
        Ok(session.times().map(|(_, t)| t.as_secs_f64()).sum())
    })?;
    let mut cost = Cost::default();
    let mut kernels = Vec::new();
    for (var, _) in session.times() {
        if let Source::Op(op) = &t.nodes()[var.index()].source {
            let c = op.cost(&t.input_metas(var), t.meta(var));
            cost.flops += c.flops;
            cost.read += c.read;
            cost.written += c.written;
        }
        kernels.extend(session.kernels(var).into_iter().map(String::from));
    }
    let bytes = cost.read + cost.written;
    let seconds = timing.median_ms / 1e3;
    Ok(Row {
        percent: ceilings.map(|c| c.percent(dtype, cost.flops, bytes, seconds)),
        name: entry.name.clone(),
        shape: entry.x.to_vec(),
        timing,
        flops: cost.flops,
        bytes,
        kernels,
    })
}

fn text(t: &Table) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{}, {}, {} x {}, {} channels{}",
        t.device,
        t.dtype,
        t.width,
        t.height,
        t.channels,
        if t.cache_flushed {
            ", cache flushed"
        } else {
            ""
        },
    );
    if let Some(c) = t.ceilings {
        let tensor = c
            .f16_tflop_per_s
            .map_or(String::new(), |v| format!(", tensor cores {v:.1} TFLOP/s"));
        let _ = writeln!(
            out,
            "ceilings: copy {:.1} GB/s, f32 {:.1} TFLOP/s{tensor}",
            c.copy_gb_per_s, c.f32_tflop_per_s
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
    out
}
