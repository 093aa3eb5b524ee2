//! How the host waits for a card: by looking without pause, which takes a core, or asleep, which wakes late.

use crate::{Error, Result};
use cudarc::driver::sys::{CUctx_flags, CUevent_flags};

/// Chooses between the two; without it the driver does.
const VARIABLE: &str = "HAFUSE_CUDA_WAIT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Auto,
    Spin,
    Block,
}

impl Wait {
    const ALL: [(&str, Wait); 3] = [
        ("auto", Wait::Auto),
        ("spin", Wait::Spin),
        ("block", Wait::Block),
    ];

    fn chosen(wanted: Option<&str>) -> Result<Option<Self>> {
        let Some(wanted) = wanted.filter(|w| !w.is_empty()) else {
            return Ok(None);
        };
        let found = Self::ALL.into_iter().find(|(name, _)| *name == wanted);
        found.map(|(_, wait)| Some(wait)).ok_or_else(|| {
            Error::config(
                VARIABLE,
                format!("is {wanted}; give spin, block or auto, or unset it"),
            )
        })
    }

    /// What the environment asks for, if anything.
    pub fn asked() -> Result<Option<Self>> {
        let wanted = std::env::var_os(VARIABLE).map(|v| v.to_string_lossy().into_owned());
        Self::chosen(wanted.as_deref())
    }

    pub fn context_flags(self) -> u32 {
        let flags = match self {
            Wait::Auto => CUctx_flags::CU_CTX_SCHED_AUTO,
            Wait::Spin => CUctx_flags::CU_CTX_SCHED_SPIN,
            Wait::Block => CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC,
        };
        flags as u32
    }

    /// Those of an event that is waited for: it does not heed the context's.
    pub fn event_flags(self) -> u32 {
        let flags = match self {
            Wait::Block => CUevent_flags::CU_EVENT_BLOCKING_SYNC,
            Wait::Auto | Wait::Spin => CUevent_flags::CU_EVENT_DEFAULT,
        };
        flags as u32
    }
}

/// Refuses a value of `HAFUSE_CUDA_WAIT` that means nothing, whether or not a card is used.
///
/// # Errors
/// [`Error::Config`] that names those that do.
pub(crate) fn check_wait() -> Result<()> {
    Wait::asked().map(|_| ())
}
