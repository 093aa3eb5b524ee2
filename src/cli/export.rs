//! `hafuse export`: a model for other engines.

use super::info::parse_size;
use super::terminal;
use crate::Result;
use crate::export::{Dims, onnx};
use crate::infer::DEFAULT_MODEL;
use crate::infer::Model;
use crate::onnx::OPSET;
use crate::output;
use crate::tensor::io::write_atomic;
use crate::units;
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  hafuse export --onnx fusion.onnx                                pictures of any size, any batch
  hafuse export --onnx mif.onnx --model mif --size 256x256        one size, any batch
  hafuse export --onnx mine.onnx --model runs/m/model.safetensors --size 640x512 --batch 1

In Python, with two grey pictures as arrays of float32 in [0, 1]:
  session = onnxruntime.InferenceSession(\"fusion.onnx\")
  fused = session.run(None, {\"a\": a[None, None], \"b\": b[None, None]})[0][0, 0]

The file is ONNX of opset 17, standard operators in f32. Inputs a (infrared or MRI) and b (visible or PET) and the
output fused are [batch, 1, height, width]; colour stays with the caller. TensorRT and others that plan for one size
do best with --size and --batch. The file's metadata has the genotype and the hash of the model.
Exit codes: 0 done, 2 usage, 3 the model, 4 output.";

/// Write a model as ONNX, which ONNX Runtime, TensorRT and OpenVINO run
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct ExportArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub onnx: PathBuf,
    /// A built-in model by name (see `hafuse info`) or a file that `hafuse train` wrote
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Fix width and height of the pictures [default: any]
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    pub size: Option<(usize, usize)>,
    /// Fix the number of pairs in one call [default: any]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: Option<u16>,
}

/// Writes the file.
///
/// # Errors
/// Those of reading the model; [`Error::Output`](crate::Error::Output) if the file cannot be written.
pub fn run(args: &ExportArgs) -> Result<()> {
    output::check_file(&args.onnx, &[Path::new(&args.model)])?;
    let model = Model::open(&args.model)?;
    let dims = Dims {
        batch: args.batch.map(usize::from),
        size: args.size.map(|(width, height)| (height, width)),
    };
    let bytes = onnx(&model, dims)?;
    output::make_parent(&args.onnx)?;
    write_atomic(&args.onnx, &bytes)?;
    let [batch, height, width] = dims.named().map(|d| match d {
        Ok(n) => n.to_string(),
        Err(name) => name.to_string(),
    });
    terminal::print(&format!(
        "{}: {} as ONNX of opset {OPSET}, {}; a, b and fused are [{batch}, 1, {height}, {width}]",
        args.onnx.display(),
        model.name,
        units::bytes(bytes.len() as u64)
    ))
}
