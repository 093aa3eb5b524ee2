//! Multi-modality image fusion (infrared + visible, MRI + PET) on an engine of its own: a tape,
//! hand-written kernels, training and inference, and no machine-learning framework.
//!
//! # Fusing
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let out = dir.path().join("fused.png");
//! let fused = hafuse::fuse("samples/street_1_ir.png", "samples/street_1_vi.png")?;
//! fused.save(out)?;
//! # Ok::<(), hafuse::Error>(())
//! ```
//!
//! A [`Fuser`] keeps a model, a device and a tone of one's choice; [`fuse_folder`] takes two folders,
//! with progress and cancellation. Brightness is fused; colour and opacity are those of B or, if B is
//! grey and A is not, of A; the result has the bit depth of the deeper source.
//!
//! # The tour
//!
//! Each module uses only those earlier in this list; `tests/rooms.rs` holds it to that.
//!
//! 1. [`tensor`]: shapes, element types, host tensors, safetensors.
//! 2. [`device`]: the threads of the CPU, NVIDIA cards, and launches of kernels.
//! 3. [`onnx`]: the graph that operators write themselves into for other engines.
//! 4. [`tape`]: records nodes once, symbolically; differentiates; plans memory; runs many times.
//! 5. [`ops`]: the operators, one file or folder each: shape rule, derivative, code, test cases. Their
//!    CUDA code is `kernels/NAME.cu`.
//! 6. [`net`]: the paper's ten operators, three cells and whole network, from a [`net::Genotype`].
//! 7. [`loss`]: the objective of training and search, Eq. 4 to 6 of the paper among its terms.
//! 8. [`data`]: pictures, pairs of folders, patches and their augmentation.
//! 9. [`train`], [`infer`], [`search`]: the two-stage training loop; models and the engine that runs
//!    them; Algorithm 1 on the supernet, with the latency table that it charges by.
//! 10. [`baseline`], [`tone`], [`metrics`]: fusion by rules; contrast of fused pictures; fused pictures
//!     judged by the field's own numbers.
//! 11. `fuser`, `batch`: the front door, [`fuse`] to [`fuse_folder`].
//! 12. `export`: networks as ONNX files.
//! 13. `synth`, `report`: drawn scenes; figures and pages of runs.
//! 14. `cli`: the program `hafuse`, one file for each command.
//!
//! # Features
//!
//! | feature | content |
//! |---|---|
//! | `cli` (default) | the program, with `onnx` and `report` |
//! | `cuda` (default) | NVIDIA cards; kernels are compiled where nvcc is found |
//! | `onnx` | `export` |
//! | `report` | figures and pages |
//! | `f64` | tapes in f64 on the CPU, in which gradients are tested |
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

#![warn(missing_docs)]
// The command line and cards use more of the rooms below them than these use of each other.
#![cfg_attr(
    not(all(feature = "cli", feature = "cuda")),
    allow(dead_code, unused_imports)
)]

pub mod baseline;
mod batch;
#[cfg(feature = "cli")]
#[doc(hidden)]
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
