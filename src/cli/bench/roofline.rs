//! The least time that each node of a network can take on a card: the larger of its operations over
//! the peak rate and its bytes over the bandwidth (Williams, Waterman, Patterson, CACM 2009).

use super::cards::{CARDS, Peak, find};
use crate::cli::device::PrecisionName;
use crate::cli::info::parse_size;
use crate::cli::terminal;
use crate::infer::DEFAULT_MODEL;
use crate::infer::Model;
use crate::net::{Builder, record_fusion};
use crate::tape::{Cost, Source, Tape};
use crate::tensor::{DType, Shape};
use crate::{Error, Result};
use serde::Serialize;
use std::fmt::Write;

/// Least time of each node on a card, from operations and bytes alone
///
/// No card is needed. Every operand is assumed to be read once from memory and the result written
/// once; a real run also pays for launches and for what a cache cannot hold.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct RooflineArgs {
    /// One of: GTX 1070, Jetson Orin NX, Jetson AGX Orin, RTX 4090, H100, H200
    #[arg(long, value_name = "NAME")]
    pub card: String,
    /// A built-in model by name or a model file
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Width and height of the pictures
    #[arg(long, value_name = "WxH", default_value = "620x448", value_parser = parse_size)]
    pub size: (usize, usize),
    /// Element type
    #[arg(long, value_enum, default_value = "f16")]
    pub precision: PrecisionName,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Row {
    node: usize,
    part: String,
    operator: &'static str,
    shape: Vec<usize>,
    flops: u64,
    bytes: u64,
    floor_us: f64,
    bound: &'static str,
}

/// Computes and prints.
pub fn run(args: &RooflineArgs) -> Result<()> {
    let card = find(&args.card).ok_or_else(|| {
        let known: Vec<&str> = CARDS.iter().map(|c| c.name).collect();
        Error::config(
            "--card",
            format!("`{}` is none of {}", args.card, known.join(", ")),
        )
    })?;
    let model = Model::open(&args.model)?;
    let dtype = match args.precision {
        PrecisionName::F32 => DType::F32,
        PrecisionName::F16 => DType::F16,
    };
    let (width, height) = args.size;
    let mut t = Tape::new(dtype);
    let a = t.input("a", [1, height, width, 1])?;
    let b = t.input("b", [1, height, width, 1])?;
    record_fusion(&mut Builder::new(&mut t), &model.genotype, (a, b))?;
    let rows: Vec<Row> = t
        .vars()
        .filter_map(|v| {
            let node = &t.nodes()[v.index()];
            let Source::Op(op) = &node.source else {
                return None;
            };
            let cost = op.cost(&t.input_metas(v), node.meta);
            let (floor, bound) = floor(card, op.name(), dtype, cost);
            Some(Row {
                node: v.index(),
                part: node.scope.to_string(),
                operator: op.name(),
                shape: shape(node.meta.shape),
                flops: cost.flops,
                bytes: cost.read + cost.written,
                floor_us: floor * 1e6,
                bound,
            })
        })
        .collect();
    let total: f64 = rows.iter().map(|r| r.floor_us).sum();
    if args.json {
        let json = serde_json::json!({
            "card": card.name, "model": model.name, "width": width, "height": height,
            "dtype": dtype.to_string(), "floor_us": total, "nodes": rows,
        });
        return terminal::print(&json.to_string());
    }
    let mut out = format!(
        "{} ({} TFLOP/s f32, {} f16, {} GB/s), {} at {width} x {height}, {dtype}\n",
        card.name, card.f32, card.f16, card.bandwidth, model.name
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:>5}  {:<30} {:<20} {:<20} {:>10} {:>9} {:>10}  bound by",
        "node", "part", "operator", "shape", "MFLOP", "MB", "floor us"
    );
    for r in &rows {
        let _ = writeln!(
            out,
            "{:>5}  {:<30} {:<20} {:<20} {:>10.1} {:>9.2} {:>10.2}  {}",
            r.node,
            r.part,
            r.operator,
            format!("{:?}", r.shape),
            r.flops as f64 / 1e6,
            r.bytes as f64 / 1e6,
            r.floor_us,
            r.bound
        );
    }
    let _ = writeln!(out, "{:>5}  total {:>90.2}", "", total);
    terminal::print(&out)
}

fn shape(s: Shape) -> Vec<usize> {
    s.dims().to_vec()
}

/// Seconds, and what sets them.
fn floor(card: Peak, op: &str, dtype: DType, cost: Cost) -> (f64, &'static str) {
    // Only products of matrices run on tensor cores.
    let dense = !op.starts_with("depthwise") && (op.contains("conv") || op.contains("pointwise"));
    let peak = match dtype {
        DType::F16 if dense => card.f16,
        _ => card.f32,
    };
    let compute = cost.flops as f64 / (peak * 1e12);
    let memory = (cost.read + cost.written) as f64 / (card.bandwidth * 1e9);
    if compute > memory {
        (compute, "operations")
    } else {
        (memory, "memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_both_sets_the_floor() {
        let card = Peak {
            name: "test",
            f32: 1.0,
            f16: 4.0,
            bandwidth: 100.0,
        };
        let cost = |flops, read| Cost {
            flops,
            read,
            written: 0,
        };
        let near = |a: (f64, &str), b: f64| (a.0 / b - 1.0).abs() < 1e-9;
        let slow = floor(card, "conv2d", DType::F32, cost(1_000_000_000, 1_000_000));
        assert!(near(slow, 1e-3) && slow.1 == "operations");
        let half = floor(card, "conv2d", DType::F16, cost(1_000_000_000, 1_000_000));
        assert!(near(half, 0.25e-3));
        let copy = floor(card, "concat", DType::F16, cost(0, 1_000_000));
        assert!(near(copy, 1e-5) && copy.1 == "memory");
    }
}
