//! One error type for the whole crate, grouped by whose fault it is.
//!
//! Every message is one line that names the thing, the value that was found and the way out.

use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in `hafuse`; [`Error::exit_code`] maps each to the process exit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator was given shapes that it cannot take.
    #[error("{op}: {detail}")]
    Shape { op: &'static str, detail: String },
    /// An operator, session or tensor met an element type that it does not handle.
    #[error("{what}: expected dtype {expected}, found {found}")]
    DType {
        what: String,
        expected: String,
        found: String,
    },
    /// A gradient was asked through an operator that has none.
    #[error(
        "{op} has no derivative here ({detail}); stop the gradient before it or leave it out of `wrt`"
    )]
    NotDifferentiable { op: &'static str, detail: String },
    /// The tape was used in a way that has no meaning (unknown name, read after update, ...).
    #[error("tape: {0}")]
    Tape(String),
    /// Weights do not fit the network, or a parameter is missing.
    #[error("weights: {0}")]
    Weights(String),
    /// A configuration file, genotype or option value is wrong.
    #[error("{what}: {detail}")]
    Config { what: String, detail: String },
    /// A file could not be read or decoded.
    #[error("cannot read {}: {detail}", path.display())]
    Input { path: PathBuf, detail: String },
    /// A file or folder could not be written; what was there before is untouched.
    #[error("cannot write {}: {detail}", path.display())]
    Output { path: PathBuf, detail: String },
    /// The device that was asked for is not there, or does not work.
    #[error("device {device}: {detail}; {way_out}")]
    Device {
        device: String,
        detail: String,
        way_out: String,
    },
    /// A device works, but what was asked of it needs more memory than it has free.
    #[error(
        "device {device}: {detail}; use a smaller picture or batch, --precision f16, or --device cpu"
    )]
    DeviceMemory { device: String, detail: String },
    /// Some items of a batch failed; each was reported by itself.
    #[error("{failed} of {total} {what} failed; see the messages above")]
    Partial {
        failed: usize,
        total: usize,
        what: &'static str,
    },
    /// The run was cut short on purpose (Ctrl-C, `--stop-after`).
    #[error("{0}")]
    Stopped(String),
    /// A bug in `hafuse` itself.
    #[error("internal error: {0}; please report this")]
    Internal(String),
}

impl Error {
    /// Exit code of the command line: 1 some items failed, 2 wrong usage or configuration,
    /// 3 unreadable or unfit input, 4 output not writable, 5 device not available, 6 stopped on
    /// request, 70 a bug.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Partial { .. } => 1,
            Error::Config { .. } => 2,
            Error::Input { .. } | Error::Weights(_) => 3,
            Error::Output { .. } => 4,
            Error::Device { .. } | Error::DeviceMemory { .. } => 5,
            Error::Stopped(_) => 6,
            Error::Shape { .. }
            | Error::DType { .. }
            | Error::NotDifferentiable { .. }
            | Error::Tape(_)
            | Error::Internal(_) => 70,
        }
    }

    /// Shorthand for [`Error::Shape`].
    pub fn shape(op: &'static str, detail: impl Into<String>) -> Self {
        Error::Shape {
            op,
            detail: detail.into(),
        }
    }

    /// Shorthand for [`Error::Config`].
    pub fn config(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Error::Config {
            what: what.into(),
            detail: detail.into(),
        }
    }

    /// Shorthand for [`Error::Input`].
    pub fn input(path: impl Into<PathBuf>, detail: impl ToString) -> Self {
        Error::Input {
            path: path.into(),
            detail: detail.to_string(),
        }
    }

    /// Shorthand for [`Error::Output`].
    pub fn output(path: impl Into<PathBuf>, detail: impl ToString) -> Self {
        Error::Output {
            path: path.into(),
            detail: detail.to_string(),
        }
    }
}
