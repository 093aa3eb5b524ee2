//! `hafuse info`: what is in this binary, and what a network costs.

use super::device::{DeviceArg, PrecisionArg};
use super::mask;
use super::terminal;
use crate::device::Device;
use crate::device::memory::peak_bytes;
use crate::fuser::memory::lacking;
use crate::infer::{BUILTIN, DEFAULT_MODEL, Engine, Model};
use crate::net::{Genotype, count_parts, format_counts, initial_params, param_specs};
use crate::search::{Timing, warm_up};
use crate::tape::{NodeReport, format_table};
use crate::tape::{ParamStore, SessionOptions};
use crate::tensor::DType;
use crate::units;
use crate::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const AFTER_HELP: &str = "\
Examples:
  hafuse info                                     built-in models and the cost of the default one
  hafuse info --model mif --size 256x256 --run    time and memory on this machine
  hafuse info --genotype mine.json                cost of a network that is not trained yet
  hafuse info --tape --run                        time of every operator, the median of some runs
  hafuse info --mask ir.png vi.png                what the network's mask and rows do on a pair
  hafuse info --model mine.safetensors --mask     the same on a drawn street at night

--mask A B runs the network and describes the aggregation, output = M I_t + (1 - M) I_d: the
mask M (0 to 1; 1 takes the target row), and grey levels (0 to 255) of the sources, of both rows
and of the output. Rows may lie outside that range. A mask whose standard deviation is below
0.02 is called constant: it mixes the rows alike everywhere.

A multiply-add counts as two FLOP. `arena` is all working memory of a fusion, planned before it
runs; the process also holds the weights, the program itself and the pictures.";

/// Show version, models, and size, work, speed and memory of a network
///
/// Without --model or --genotype, the default model is shown. With --run the network really
/// fuses random noise of the given size: once to begin with, then --runs times with warm memory,
/// and what is told is the median. A card works for half a second before that. With --tape a card
/// launches kernels one by one, and the time of a node includes that of its launches.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct InfoArgs {
    /// A built-in model by name or a model file
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// A genotype file (JSON); its weights are random
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub genotype: Option<PathBuf>,
    /// Width and height of the pictures
    #[arg(long, value_name = "WxH", default_value = "620x448", value_parser = parse_size)]
    pub size: (usize, usize),
    /// List every operator of the network
    #[arg(long)]
    pub tape: bool,
    /// Fuse noise of this size and measure
    #[arg(long)]
    pub run: bool,
    /// Runs with warm memory [default: 50 on a card, 5 on the CPU]
    #[arg(long, value_name = "N", requires = "run", value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: Option<u16>,
    /// Describe the mask and the rows on a pair of pictures; without names on a drawn street at night
    #[arg(long, num_args = 0..=2, value_names = ["A", "B"])]
    pub mask: Option<Vec<PathBuf>>,
    /// Print all that as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

pub(super) fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let side = |s: &str| s.parse().ok().filter(|n| (1..=65_536).contains(n));
    text.split_once(['x', 'X'])
        .and_then(|(w, h)| side(w).zip(side(h)))
        .ok_or_else(|| "must be WIDTHxHEIGHT, for example 640x480".into())
}

/// What `--run` measured.
struct Measured {
    /// Wall seconds: with planning and fresh memory, and the median with warm memory.
    first: f64,
    warm: f64,
    peak: Option<u64>,
    /// Every node with the median of its times.
    nodes: Vec<NodeReport>,
}

/// Prints.
///
/// # Errors
/// [`Error`] if the model, genotype or pictures cannot be read, or what was asked for does not fit in memory.
pub fn run(args: &InfoArgs) -> Result<()> {
    let model = match (&args.model, &args.genotype) {
        (Some(name), _) => Model::open(name)?,
        (None, Some(path)) => untrained(Genotype::load(path)?)?,
        (None, None) => Model::builtin(DEFAULT_MODEL)?,
    };
    let (mut text, mut json) = builtin_models()?;
    describe(args, &model, &mut text, &mut json)?;
    if let Some(names) = &args.mask {
        let source = mask::Source::new(names)?;
        let device = args.device.open()?;
        let precision = args.precision.on(&device);
        let found = mask::describe(&model, &device, precision, &source)?;
        text.push_str(&format!("\n{found}"));
        json["mask"] = found.json();
    }
    if args.json {
        terminal::print(&json.to_string())
    } else {
        terminal::print(&text)
    }
}

/// Version and built-in models, as text and as JSON.
fn builtin_models() -> Result<(String, Value)> {
    let mut text = format!("hafuse {}\n\n", env!("CARGO_PKG_VERSION"));
    let mut list = Vec::new();
    for (name, bytes) in BUILTIN {
        let model = Model::builtin(name)?;
        let _ = writeln!(
            text,
            "model {name:<12} {}  {:>10}  {}{}",
            hash(&model)?,
            units::bytes(bytes.len() as u64),
            model.about,
            if *name == DEFAULT_MODEL {
                " (default)"
            } else {
                ""
            }
        );
        list.push(json!({
            "name": name, "hash": hash(&model)?, "file_bytes": bytes.len(), "about": model.about,
        }));
    }
    let version = env!("CARGO_PKG_VERSION");
    Ok((text, json!({"version": version, "builtin": list})))
}

/// Adds cost, memory and (if asked for) time of a model.
fn describe(args: &InfoArgs, model: &Model, text: &mut String, json: &mut Value) -> Result<()> {
    let (width, height) = args.size;
    let parts = count_parts(&model.genotype, height, width)?;
    let arena = Engine::new(model)?.planned_bytes(1, height, width)?;
    let weights: usize = 4 * model
        .weights
        .values()
        .map(|t| t.shape().len())
        .sum::<usize>();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n{} ({} channels, weights {})\n{}\n\n{}\n",
        model.name,
        model.genotype.channels,
        hash(model)?,
        model.about,
        format_counts(&parts, height, width)
    );
    let _ = writeln!(text, "arena    {:>10}", units::bytes(arena as u64));
    let _ = writeln!(text, "weights  {:>10}", units::bytes(weights as u64));
    json["model"] = json!({
        "name": model.name, "hash": hash(model)?, "about": model.about, "genotype": model.genotype,
    });
    json["size"] = json!({"width": width, "height": height});
    json["parts"] = json!(parts);
    json["arena_bytes"] = json!(arena);
    json["weight_bytes"] = json!(weights);

    if !(args.run || args.tape) {
        return Ok(());
    }
    let device = args.device.open()?;
    if let (Device::Cpu, Some(shortage)) = (&device, lacking("fusing that", arena)) {
        return Err(Error::config(
            "--size",
            format!("{width}x{height}: {shortage}; give a smaller one"),
        ));
    }
    let options = SessionOptions {
        profile: args.run && args.tape,
        ..SessionOptions::default()
    };
    let precision = args.precision.on(&device);
    let mut engine = Engine::on(&device, precision, model, options)?;
    let mut nodes = None;
    if args.run {
        let runs = args.runs.unwrap_or(match &device {
            Device::Cpu => 5,
            Device::Cuda(_) => 50,
        });
        let m = measure(&mut engine, width, height, runs.into())?;
        let _ = writeln!(
            text,
            "peak     {:>10}   most memory of the process; arena and weights are {} of it",
            m.peak.map_or("unknown".into(), units::bytes),
            units::bytes((arena + weights) as u64)
        );
        let megapixels = (width * height) as f64 / 1e6;
        let _ = writeln!(
            text,
            "time     {:>8.3} s   {:.2} megapixels/s on {device}, {} threads, median of {runs} (first run, with planning: {:.3} s)",
            m.warm,
            megapixels / m.warm,
            rayon::current_num_threads(),
            m.first
        );
        json["run"] = json!({
            "seconds": m.warm, "first_seconds": m.first, "runs": runs, "peak_bytes": m.peak,
            "threads": rayon::current_num_threads(), "device": device.to_string(),
        });
        nodes = Some(m.nodes);
    }
    if args.tape {
        let rows = match nodes {
            Some(rows) => rows,
            None => engine.report(1, height, width)?,
        };
        let _ = write!(text, "\n{}", format_table(&rows));
        json["tape"] = rows.iter().map(node_json).collect();
    }
    Ok(())
}

fn measure(engine: &mut Engine, width: usize, height: usize, runs: usize) -> Result<Measured> {
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut noise = || (0..width * height).map(|_| rng.random::<f32>()).collect();
    let (a, b): (Vec<f32>, Vec<f32>) = (noise(), noise());
    let device = engine.device().clone();
    let time = |engine: &mut Engine| {
        let start = Instant::now();
        engine.fuse(height, width, &a, &b)?;
        Ok(start.elapsed().as_secs_f64())
    };
    let first = time(engine)?;
    warm_up(&device, 0, || time(engine).map(|_| ()))?;
    let mut nodes = engine.report(1, height, width)?;
    let mut each = vec![Vec::with_capacity(runs); nodes.len()];
    let warm = Timing::of(0, runs, || {
        let seconds = time(engine)?;
        let report = engine.report(1, height, width)?;
        for (times, node) in each.iter_mut().zip(report) {
            times.push(node.time.as_secs_f64());
        }
        Ok(seconds)
    })?;
    for (node, times) in nodes.iter_mut().zip(each) {
        let median_ms = Timing::from_seconds(times)?.median_ms;
        node.time = Duration::from_secs_f64(median_ms / 1e3);
    }
    Ok(Measured {
        first,
        warm: warm.median_ms / 1e3,
        peak: peak_bytes(),
        nodes,
    })
}

fn node_json(r: &NodeReport) -> Value {
    json!({
        "node": r.index, "part": r.scope, "operator": r.op, "shape": r.shape.dims(),
        "flops": r.cost.flops, "bytes_read": r.cost.read, "bytes_written": r.cost.written,
        "ms": r.time.as_secs_f64() * 1e3,
    })
}

/// A network with initial weights.
fn untrained(genotype: Genotype) -> Result<Model> {
    let store = ParamStore::default();
    initial_params(&param_specs(&genotype)?, 1, DType::F32, &store)?;
    Ok(Model {
        name: "untrained".into(),
        genotype,
        about: "random weights of seed 1".into(),
        weights: store.export(|_| true)?,
    })
}

/// The name that reports give the model.
fn hash(model: &Model) -> Result<String> {
    Ok(format!("{:016x}", model.hash()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("620x448"), Ok((620, 448)));
        assert_eq!(parse_size("1X7"), Ok((1, 7)));
        for wrong in ["", "0x4", "4", "4x", "4x-1", "4x4x4", "1x99999999"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
