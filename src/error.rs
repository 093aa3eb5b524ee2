//! One error type for the whole crate, grouped by whose fault it is.
//!
//! Every message is one line that names the thing, the value that was found and the way out.

use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in `hafuse`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator was given shapes that it cannot take.
    #[error("{op}: {detail}")]
    Shape {
        /// Operator, or part of the program, that was given them.
        op: &'static str,
        /// What does not fit.
        detail: String,
    },
    /// An operator, session or tensor met an element type that it does not handle.
    #[error("{what}: expected dtype {expected}, found {found}")]
    DType {
        /// What met the type, e.g. `tensor`.
        what: String,
        /// Types that it handles.
        expected: String,
        /// Type that it was given.
        found: String,
    },
    /// A gradient was asked through an operator that has none.
    #[error(
        "{op} has no derivative here ({detail}); stop the gradient before it or leave it out of `wrt`"
    )]
    NotDifferentiable {
        /// Operator without derivative.
        op: &'static str,
        /// Why there is none.
        detail: String,
    },
    /// The tape was used in a way that has no meaning (unknown name, read after update, ...).
    #[error("tape: {0}")]
    Tape(String),
    /// Weights do not fit the network, or a parameter is missing.
    #[error("weights: {0}")]
    Weights(String),
    /// A configuration file, genotype or option value is wrong.
    #[error("{what}: {detail}")]
    Config {
        /// File, key or option that is wrong.
        what: String,
        /// What is wrong with its value.
        detail: String,
    },
    /// A file could not be read or decoded.
    #[error("cannot read {}: {detail}", path.display())]
    Input {
        /// File or folder.
        path: PathBuf,
        /// What is wrong, and the way out.
        detail: String,
        /// Error of the system or of a decoder behind it.
        #[source]
        source: Option<BoxError>,
    },
    /// A picture takes more memory than there is, or than was allowed.
    #[error("a picture of {width} x {height}: {detail}; downscale it")]
    TooLarge {
        /// Pixels in a row.
        width: usize,
        /// Rows of pixels.
        height: usize,
        /// Memory that is needed, and what there is.
        detail: String,
    },
    /// A file or folder could not be written; what was there before is untouched.
    #[error("cannot write {}: {detail}", path.display())]
    Output {
        /// File or folder.
        path: PathBuf,
        /// What is wrong, and the way out.
        detail: String,
        /// Error of the system or of an encoder behind it.
        #[source]
        source: Option<BoxError>,
    },
    /// The device that was asked for is not there, or does not work.
    #[error("device {device}: {detail}; {way_out}")]
    Device {
        /// Name, e.g. `cuda:0`.
        device: String,
        /// What is wrong with it.
        detail: String,
        /// What to do instead.
        way_out: String,
    },
    /// A device works, but what was asked of it needs more memory than it has free.
    #[error("device {device}: {detail}; use a smaller picture or batch, f16, or the CPU")]
    DeviceMemory {
        /// Name, e.g. `cuda:0`.
        device: String,
        /// What was asked, and what is free.
        detail: String,
    },
    /// Some items of a batch failed; each was reported by itself.
    #[error("{failed} of {total} {what} failed; see the messages above")]
    Partial {
        /// Items that failed.
        failed: usize,
        /// All items.
        total: usize,
        /// What the items are, in the plural.
        what: &'static str,
    },
    /// The run was cut short on purpose.
    #[error("{0}")]
    Stopped(String),
    /// Training or search has values that are no numbers; checkpoints keep what was before.
    #[error("{0}")]
    Diverged(String),
    /// A bug in `hafuse` itself.
    #[error("internal error: {0}; please report this")]
    Internal(String),
}

impl Error {
    /// An [`Error::TooLarge`] of the picture in this file; other errors as they are.
    #[must_use]
    pub fn of_file(self, path: &Path) -> Self {
        match self {
            Error::TooLarge {
                width,
                height,
                detail,
            } => Error::input(path, format!("is {width}x{height}; {detail}; downscale it")),
            other => other,
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
    pub fn input(path: impl Into<PathBuf>, cause: impl Into<Cause>) -> Self {
        let Cause { detail, source } = cause.into();
        Error::Input {
            path: path.into(),
            detail,
            source,
        }
    }

    /// Shorthand for [`Error::Output`].
    pub fn output(path: impl Into<PathBuf>, cause: impl Into<Cause>) -> Self {
        let Cause { detail, source } = cause.into();
        Error::Output {
            path: path.into(),
            detail,
            source,
        }
    }
}

/// Error behind an [`Error`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Detail of an [`Error`] of a file: a sentence, or another error, which is kept.
#[derive(Debug)]
pub struct Cause {
    detail: String,
    source: Option<BoxError>,
}

impl From<String> for Cause {
    fn from(detail: String) -> Self {
        Self {
            detail,
            source: None,
        }
    }
}

impl From<&str> for Cause {
    fn from(detail: &str) -> Self {
        detail.to_string().into()
    }
}

macro_rules! keeps {
    ($($error:ty)*) => {$(
        impl From<$error> for Cause {
            fn from(e: $error) -> Self {
                Self {
                    detail: e.to_string(),
                    source: Some(e.into()),
                }
            }
        }
    )*};
}
keeps!(std::io::Error image::ImageError serde_json::Error Error);

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn the_error_behind_a_file_is_kept() {
        let e = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let e = Error::input("a.png", e);
        let behind = e.source().and_then(|e| e.downcast_ref::<std::io::Error>());
        assert_eq!(
            behind.map(|e| e.kind()),
            Some(std::io::ErrorKind::PermissionDenied)
        );
        assert!(Error::output("a.png", "is a folder").source().is_none());
    }
}
