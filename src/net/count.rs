//! Parameters and multiply-adds of each part of a network.

use super::{Builder, Genotype, record_fusion};
use crate::Result;
use crate::tape::{Source, Tape};
use crate::tensor::DType;
use std::fmt::Write;

/// Size and work of one part.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct PartCount {
    pub part: String,
    pub params: usize,
    /// Multiply-adds of convolutions.
    pub macs: u64,
    /// All floating-point operations, a multiply-add counted as two.
    pub flops: u64,
}

/// Counts for a picture of `height` by `width`, one row for each part, in order; the last is the total.
pub(crate) fn count_parts(g: &Genotype, height: usize, width: usize) -> Result<Vec<PartCount>> {
    let mut t = Tape::new(DType::F32);
    let a = t.input("a", [1, height, width, 1])?;
    let b = t.input("b", [1, height, width, 1])?;
    let mut builder = Builder::new(&mut t);
    record_fusion(&mut builder, g, (a, b))?;
    let specs = builder.into_specs();
    let mut parts: Vec<PartCount> = Vec::new();
    let mut add = |name: &str, params: usize, macs: u64, flops: u64| {
        let part = part_of(name);
        let i = parts
            .iter()
            .position(|p| p.part == part)
            .unwrap_or_else(|| {
                parts.push(PartCount {
                    part,
                    params: 0,
                    macs: 0,
                    flops: 0,
                });
                parts.len() - 1
            });
        parts[i].params += params;
        parts[i].macs += macs;
        parts[i].flops += flops;
    };
    for var in t.vars() {
        let node = &t.nodes()[var.index()];
        if let Source::Op(op) = &node.source {
            let inputs = t.input_metas(var);
            let macs = op.multiply_adds(&inputs, node.meta);
            add(&node.scope, 0, macs, op.flops(&inputs, node.meta));
        }
    }
    for spec in &specs {
        add(&spec.name, spec.shape.len(), 0, 0);
    }
    let total = PartCount {
        part: "total".into(),
        params: parts.iter().map(|p| p.params).sum(),
        macs: parts.iter().map(|p| p.macs).sum(),
        flops: parts.iter().map(|p| p.flops).sum(),
    };
    parts.push(total);
    Ok(parts)
}

/// `ffm.cell1.scale2.block0.conv1.weight` belongs to `ffm.cell1`, `ofm.target.stem.bias` to
/// `ofm.target`.
fn part_of(name: &str) -> String {
    let mut words = name.split('.');
    let first = words.next().unwrap_or_default();
    match (first, words.next()) {
        ("ffm", Some(second)) if second.starts_with("cell") => format!("ffm.{second}"),
        ("ffm", _) => "ffm.stem+head".into(),
        ("ofm", Some(second)) => format!("ofm.{second}"),
        _ => first.to_string(),
    }
}

/// The counts as a text table.
pub(crate) fn format_counts(parts: &[PartCount], height: usize, width: usize) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<16} {:>10} {:>14} {:>10}   at {width} x {height}",
        "part", "parameters", "G multiply-add", "GFLOP"
    );
    for p in parts {
        let _ = writeln!(
            out,
            "{:<16} {:>10} {:>14.3} {:>10.3}",
            p.part,
            p.params,
            p.macs as f64 / 1e9,
            p.flops as f64 / 1e9
        );
    }
    out
}
