//! Writes the default model as an ONNX file into the temporary folder of the system, for engines such
//! as ONNX Runtime, TensorRT and OpenVINO.
//!
//!     cargo run --example 07_export_onnx

use hafuse::Model;
use hafuse::export::{Dims, onnx};
use hafuse::infer::DEFAULT_MODEL;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::builtin(DEFAULT_MODEL)?;
    // Any batch and any size; a fixed size lets some engines plan better.
    let fixed = Dims {
        batch: Some(1),
        size: Some((360, 480)),
    };
    for (name, dims) in [("any size", Dims::default()), ("480 x 360", fixed)] {
        let path = std::env::temp_dir().join(format!("hafuse {name}.onnx"));
        let bytes = onnx(&model, dims)?;
        std::fs::write(&path, &bytes)?;
        println!("{}: {} bytes", path.display(), bytes.len());
    }
    println!("inputs `a` and `b`, output `fused`: f32, [batch, 1, height, width], in [0, 1]");
    Ok(())
}
