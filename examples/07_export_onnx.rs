//! Writes the default model as an ONNX file into the temporary folder of the system.
//! Prints its inputs, its outputs and how many nodes of each kind it has.
//!
//!     cargo run --example 07_export_onnx

use hafuse::export::{Dims, onnx};
use hafuse::infer::{DEFAULT_MODEL, Model};
use hafuse::onnx::proto::{Dimension, ValueInfoProto};
use prost::Message;
use std::collections::BTreeMap;

/// `a [batch, 1, height, width]`.
fn describe(value: &ValueInfoProto) -> String {
    let tensor = value.kind.as_ref().and_then(|k| k.tensor_type.as_ref());
    let shape = tensor.and_then(|t| t.shape.as_ref());
    let dims = shape.iter().flat_map(|s| &s.dim).map(|d| match &d.value {
        Some(Dimension::Value(n)) => n.to_string(),
        Some(Dimension::Param(name)) => name.clone(),
        None => "?".into(),
    });
    format!("{} [{}]", value.name, dims.collect::<Vec<_>>().join(", "))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::builtin(DEFAULT_MODEL)?;
    // Batch and size stay open; `Dims { batch: Some(1), size: Some((360, 480)) }` would fix them.
    let file = onnx(&model, Dims::default())?;
    let path = std::env::temp_dir().join("hafuse.onnx");
    let bytes = file.encode_to_vec();
    std::fs::write(&path, &bytes)?;
    println!(
        "{}: {} bytes, from {}",
        path.display(),
        bytes.len(),
        file.producer_name
    );

    let graph = file.graph.unwrap_or_default();
    for (what, values) in [("input", &graph.input), ("output", &graph.output)] {
        for value in values {
            println!("{what:<6} {}", describe(value));
        }
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &graph.node {
        *kinds.entry(&node.op_type).or_default() += 1;
    }
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    println!("nodes  {}", kinds.join(", "));
    Ok(())
}
