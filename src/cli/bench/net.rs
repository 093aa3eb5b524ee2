//! Whole fusions, copies included.

use crate::Result;
use crate::cli::device::{DeviceArg, PrecisionArg};
use crate::cli::info::parse_size;
use crate::cli::{open_model, terminal};
use crate::infer::Engine;
use crate::search::Timing;
use crate::tape::SessionOptions;
use serde_json::json;
use std::time::Instant;

/// Time whole fusions: copy in, network, copy out
#[derive(clap::Args, Clone, Debug)]
pub struct NetArgs {
    /// A built-in model by name or a model file
    #[arg(long, value_name = "NAME|FILE", default_value = "ivif")]
    pub model: String,
    /// Width and height of the pictures
    #[arg(long, value_name = "WxH", default_value = "620x448", value_parser = parse_size)]
    pub size: (usize, usize),
    /// Pairs in one call
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,
    /// Calls that count, after two that do not
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Launch kernels one by one instead of replaying a graph
    #[arg(long)]
    pub eager: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

/// Measures and prints.
pub fn run(args: &NetArgs) -> Result<()> {
    let device = args.device.open()?;
    let precision = args.precision.on(&device);
    let model = open_model(&args.model)?;
    let options = SessionOptions {
        eager: args.eager,
        ..SessionOptions::default()
    };
    let mut engine = Engine::on(&device, precision, &model, options)?;
    let (width, height) = args.size;
    let n = usize::from(args.batch);
    let len = n * width * height;
    let wave = |k: usize| (0..len).map(|i| (i * k % 251) as f32 / 250.0).collect();
    let (a, b): (Vec<f32>, Vec<f32>) = (wave(7), wave(13));
    let mut out = vec![0.0; len];
    let timing = Timing::of(2, args.runs.into(), || {
        let start = Instant::now();
        engine.fuse_batch(n, height, width, &a, &b, &mut out)?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    let arena = engine.arena_bytes(n, height, width)?;
    let dtype = precision.dtype().to_string();
    if args.json {
        return terminal::print(
            &json!({
                "version": env!("CARGO_PKG_VERSION"), "device": device.to_string(), "dtype": dtype,
                "model": model.name, "width": width, "height": height, "batch": n,
                "eager": args.eager, "timing": timing, "arena_bytes": arena,
                "pairs_per_second": n as f64 * 1e3 / timing.median_ms,
            })
            .to_string(),
        );
    }
    terminal::print(&format!(
        "{} on {device}, {dtype}, {n} x {width} x {height}: {:.3} ms ({:.3} to {:.3}), {:.1} pairs/s, {:.1} megapixels/s, arena {}",
        model.name,
        timing.median_ms,
        timing.low_ms,
        timing.high_ms,
        n as f64 * 1e3 / timing.median_ms,
        len as f64 / timing.median_ms / 1e3,
        terminal::bytes(arena as u64)
    ))
}
