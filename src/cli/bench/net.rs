//! Whole fusions, copies included.

use crate::cli::device::{DeviceArg, PrecisionArg};
use crate::cli::info::parse_size;
use crate::cli::{open_model, terminal};
use crate::infer::{DEFAULT_MODEL, Engine};
use crate::search::Timing;
use crate::tape::SessionOptions;
use crate::tensor::io;
use crate::{DType, Error, Result, Tensor};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Time whole fusions: copy in, network, copy out
#[derive(clap::Args, Clone, Debug)]
pub struct NetArgs {
    /// A built-in model by name or a model file
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
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
    /// Beside another engine: read a and b from FILE, write fused there, time a call for each line read
    ///
    /// FILE is safetensors: a and b, f32 [N, 1, H, W]. Then `ready` is printed and, for each line on
    /// standard input, the seconds of one call as JSON.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "batch", "runs", "json"])]
    pub exchange: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

/// Fuses the pair of a file, adds the result to it, then does the same again on demand.
fn exchange(engine: &mut Engine, path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::input(path, e))?;
    let (mut tensors, meta) = io::parse(&bytes).map_err(|e| Error::input(path, e))?;
    let picture = |name: &str| match tensors.get(name) {
        Some(t) if matches!(t.shape().dims(), [_, 1, _, _]) => Ok(t.to_dtype(DType::F32)),
        _ => Err(Error::input(path, format!("has no `{name}` [N, 1, H, W]"))),
    };
    let (a, b) = (picture("a")?, picture("b")?);
    let shape = a.shape();
    if b.shape() != shape {
        let detail = format!("a is {shape}, b is {}; both need one shape", b.shape());
        return Err(Error::input(path, detail));
    }
    let [n, _, height, width] = shape.padded4();
    let (a, b) = (a.as_slice::<f32>()?, b.as_slice::<f32>()?);
    let mut out = vec![0.0; shape.len()];
    engine.fuse_batch(n, height, width, a, b, &mut out)?;
    tensors.insert("fused".into(), Tensor::from_vec(shape, out.clone())?);
    io::save(path, &tensors, &meta)?;
    terminal::print("ready")?;
    for line in std::io::stdin().lines() {
        line.map_err(|e| Error::input("standard input", e))?;
        let start = Instant::now();
        engine.fuse_batch(n, height, width, a, b, &mut out)?;
        let seconds = start.elapsed().as_secs_f64();
        terminal::print(&json!({ "seconds": seconds }).to_string())?;
    }
    Ok(())
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
    if let Some(path) = &args.exchange {
        return exchange(&mut engine, path);
    }
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
