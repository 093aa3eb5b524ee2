//! Multi-modality image fusion (infrared + visible, MRI + PET) on an engine of its own: a tape,
//! hand-written kernels, training and inference, and no machine-learning framework.
//!
//! # The tour
//!
//! Each layer uses only those above it.
//!
//! 1. [`tensor`]: shapes, element types, host tensors, safetensors.
//! 2. [`device`]: where sessions run, and the loops they run in.
//! 3. [`tape`]: record nodes once, symbolically; differentiate; plan memory; run many times.
//! 4. [`ops`]: the operators, one file each: shape rule, derivative, code, test cases.
//! 5. [`net`]: the paper's ten operators, three cells and whole network, from a [`net::Genotype`].
//! 6. [`loss`]: Eq. 4, 5, 6, SSIM and the adaptive weights.
//! 7. [`train`], [`infer`] and [`search`]: the two-stage training loop; models and the engine that fuses
//!    pictures; Algorithm 1 on the supernet, with the latency table that it charges by.
//! 8. [`export`]: networks as ONNX for other engines; operators (4) write themselves into its graph.
//! 9. [`data`], [`synth`]: pictures, pairs and patches; a generator of scenes seen by two sensors.
//! 10. [`baseline`], [`tone`], [`metrics`], [`report`]: fusion by plain rules; contrast of fused pictures, a step of its own; fused pictures judged by the
//!     field's own numbers, each with its convention; figures as SVG and pages as HTML.
//! 11. [`cli`]: the command line, one file for each subcommand.
//!
//! # Fusing
//!
//! ```no_run
//! use hafuse::data::{Picture, WriteOptions};
//! use hafuse::infer::{DEFAULT_MODEL, Engine, Model};
//!
//! let infrared = Picture::read("ir.png".as_ref())?;
//! let visible = Picture::read("vi.png".as_ref())?;
//! let mut engine = Engine::new(&Model::builtin(DEFAULT_MODEL)?)?;
//! let luma = engine.fuse(visible.height, visible.width, &infrared.luma, &visible.luma)?;
//! let fused = Picture::with_chroma_of(luma, &visible)?;
//! fused.write("fused.png".as_ref(), WriteOptions::default())?;
//! # Ok::<(), hafuse::Error>(())
//! ```
//!
//! # The tape
//!
//! ```
//! use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
//!
//! // Record: shapes are checked, nothing is computed.
//! let mut t = Tape::new(DType::F32);
//! let x = t.input("x", [1, 8, 8, 3])?;
//! let w = t.param("w", [3, 3, 3, 4])?;
//! let y = ops::conv2d(&mut t, x, w, None, None, ops::ConvOptions::default())?;
//! let squares = ops::square(&mut t, y)?;
//! let loss = ops::mean_all(&mut t, squares)?;
//! // Differentiate: the adjoint nodes are recorded on the same tape.
//! let dw = t.grad(loss, &[w])?[0];
//! t.output("loss", loss)?;
//! t.output("dw", dw)?;
//!
//! // Bind: memory is planned once. Run as often as needed.
//! let params = ParamStore::default();
//! params.set("w", &Tensor::full([3, 3, 3, 4], DType::F32, 0.1))?;
//! let mut session = Session::new(&t, &params)?;
//! session.input_mut::<f32>("x")?.fill(0.5);
//! session.run()?;
//! assert!(session.scalar("loss")? > 0.0);
//! assert_eq!(session.get("dw")?.shape().dims(), [3, 3, 3, 4]);
//! # Ok::<(), hafuse::Error>(())
//! ```

// The command line and cards use more of the rooms below them than these use of each other.
#![cfg_attr(
    not(all(feature = "cli", feature = "cuda")),
    allow(dead_code, unused_imports)
)]

pub mod baseline;
mod batch;
#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod device;
pub mod error;
#[cfg(feature = "onnx")]
pub mod export;
mod fuser;
mod hash;
pub mod infer;
pub mod loss;
pub mod metrics;
pub mod net;
pub mod onnx;
pub mod ops;
mod output;
#[cfg(feature = "report")]
#[doc(hidden)]
pub mod report;
pub mod search;
mod stats;
#[cfg(feature = "cli")]
mod synth;
pub mod tape;
pub mod tensor;
pub mod tone;
pub mod train;
mod units;

pub use batch::{FolderEvent, FolderOptions, FolderReport, StageSeconds, fuse_folder};
pub use data::{Format, Picture};
pub use device::Device;
pub use error::{Error, Result};
pub use fuser::{Fuser, FuserBuilder, fuse};
pub use infer::{Model, Precision};
pub use tape::{ParamStore, Session, SessionOptions, Tape, Var};
pub use tensor::{DType, Real, Shape, Tensor};
pub use tone::Tone;
