//! Whole fusions, copies included.

use super::clock::{SmClock, Watch};
use crate::cli::device::{DeviceArg, PrecisionArg};
use crate::cli::info::parse_size;
use crate::cli::terminal;
use crate::device::Device;
use crate::infer::Model;
use crate::infer::{DEFAULT_MODEL, Engine};
use crate::search::{Timing, warm_up};
use crate::tape::SessionOptions;
use crate::tensor::io;
use crate::units;
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
    /// Calls that count, after two that do not, and half a second of them on a card
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Launch kernels one by one instead of replaying a graph
    #[arg(long)]
    pub eager: bool,
    /// On a card, also time the network alone, with the pictures there: no copies, no conversions, no launches
    #[arg(long, conflicts_with = "eager")]
    pub resident: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Beside another engine: read a and b from FILE, write fused there, time a call for each line read
    ///
    /// FILE is safetensors: a and b, f32 [N, 1, H, W]. Then `ready` is printed and, for each line on
    /// standard input, the seconds of one call as JSON; with --resident, of one fusion on the card alone.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "batch", "runs", "json"])]
    pub exchange: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

/// Fusions between two events: what the events themselves take is shared out among them.
const REPLAYS: usize = 20;

/// Fuses the pair of a file, adds the result to it, then does the same again on demand.
fn exchange(engine: &mut Engine, path: &Path, resident: bool) -> Result<()> {
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
    let device = engine.device().clone();
    let mut fuse = || timed(engine, [n, height, width], [a, b], &mut out);
    warm_up(&device, 1, || fuse().map(|_| ()))?;
    tensors.insert("fused".into(), Tensor::from_vec(shape, out.clone())?);
    io::save(path, &tensors, &meta)?;
    if resident {
        let mut replay = engine.replay(n, height, width)?;
        return answer(|| replay.seconds(REPLAYS));
    }
    answer(|| timed(engine, [n, height, width], [a, b], &mut out))
}

/// Seconds of a call.
fn timed(
    engine: &mut Engine,
    [n, height, width]: [usize; 3],
    [a, b]: [&[f32]; 2],
    out: &mut [f32],
) -> Result<f64> {
    let start = Instant::now();
    engine.fuse_batch(n, height, width, a, b, out)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Says that all is ready, then gives the seconds of one call for each line that is read.
fn answer(mut seconds: impl FnMut() -> Result<f64>) -> Result<()> {
    terminal::print("ready")?;
    for line in std::io::stdin().lines() {
        line.map_err(|e| Error::input("standard input", e))?;
        terminal::print(&json!({ "seconds": seconds()? }).to_string())?;
    }
    Ok(())
}

/// Measures and prints.
pub fn run(args: &NetArgs) -> Result<()> {
    let device = args.device.open()?;
    if args.resident && matches!(device, Device::Cpu) {
        return Err(Error::config(
            "--resident",
            "leaves copies to and from a card out, and the CPU makes none; say --device cuda or leave it out",
        ));
    }
    let precision = args.precision.on(&device);
    let model = Model::open(&args.model)?;
    let options = SessionOptions {
        eager: args.eager,
        ..SessionOptions::default()
    };
    let mut engine = Engine::on(&device, precision, &model, options)?;
    if let Some(path) = &args.exchange {
        return exchange(&mut engine, path, args.resident);
    }
    let (width, height) = args.size;
    let n = usize::from(args.batch);
    let len = n * width * height;
    let wave = |k: usize| (0..len).map(|i| (i * k % 251) as f32 / 250.0).collect();
    let (a, b): (Vec<f32>, Vec<f32>) = (wave(7), wave(13));
    let mut out = vec![0.0; len];
    let mut fuse = || timed(&mut engine, [n, height, width], [&a, &b], &mut out);
    warm_up(&device, 2, || fuse().map(|_| ()))?;
    let watch = Watch::start(&device)?;
    let timing = Timing::of(0, args.runs.into(), fuse)?;
    let resident = match args.resident {
        true => {
            let mut replay = engine.replay(n, height, width)?;
            let seconds = || replay.seconds(REPLAYS);
            Some(Timing::of(1, args.runs.into(), seconds)?)
        }
        false => None,
    };
    let clock = watch.stop()?;
    let arena = engine.arena_bytes(n, height, width)?;
    let dtype = precision.dtype().to_string();
    let per_second = |t: Timing| n as f64 * 1e3 / t.median_ms;
    if args.json {
        let resident = resident
            .map(|t| json!({"timing": t, "replays": REPLAYS, "pairs_per_second": per_second(t)}));
        return terminal::print(
            &json!({
                "version": env!("CARGO_PKG_VERSION"), "device": device.to_string(), "dtype": dtype,
                "model": model.name, "width": width, "height": height, "batch": n,
                "eager": args.eager, "timing": timing, "arena_bytes": arena,
                "pairs_per_second": per_second(timing), "resident": resident, "sm_clock_mhz": clock,
            })
            .to_string(),
        );
    }
    let rates = |t: Timing| {
        format!(
            "{:.3} ms ({:.3} to {:.3}), {:.1} pairs/s, {:.1} megapixels/s",
            t.median_ms,
            t.low_ms,
            t.high_ms,
            per_second(t),
            len as f64 / t.median_ms / 1e3
        )
    };
    let resident = resident.map_or(String::new(), |t| {
        format!(
            "\non the card alone, means of {REPLAYS} replays: {}",
            rates(t)
        )
    });
    terminal::print(&format!(
        "{} on {device}, {dtype}, {n} x {width} x {height}: {}, arena {}{resident}{}",
        model.name,
        rates(timing),
        units::bytes(arena as u64),
        SmClock::foot(clock)
    ))
}
