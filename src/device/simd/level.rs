//! Which of the versions of a hot loop runs.

use crate::{Error, Result};
use std::sync::OnceLock;

/// What hot loops are compiled for, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Simd {
    /// What every CPU of the target has: SSE2 or NEON.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F and VL.
    Avx512,
}

/// Names a narrower version than the CPU's best, to compare or to look for errors.
const VARIABLE: &str = "HAFUSE_SIMD";

impl Simd {
    const ALL: [Simd; 3] = [Simd::Portable, Simd::Avx2, Simd::Avx512];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Simd::Portable => "portable",
            Simd::Avx2 => "avx2",
            Simd::Avx512 => "avx512",
        }
    }

    /// The widest that this CPU has.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wider = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            return if wider { Simd::Avx512 } else { Simd::Avx2 };
        }
        Simd::Portable
    }

    fn chosen(wanted: Option<&str>, best: Self) -> Result<Self> {
        let Some(wanted) = wanted.filter(|w| !w.is_empty()) else {
            return Ok(best);
        };
        let there = || Self::ALL.into_iter().filter(|s| *s <= best);
        let found = there().find(|s| s.name() == wanted);
        found.ok_or_else(|| {
            let names: Vec<_> = there().map(Self::name).collect();
            Error::config(
                VARIABLE,
                format!("is {wanted}; this CPU has {}", names.join(", ")),
            )
        })
    }
}

fn asked() -> Result<Simd> {
    let wanted = std::env::var_os(VARIABLE).map(|v| v.to_string_lossy().into_owned());
    Simd::chosen(wanted.as_deref(), Simd::best())
}

/// The version that runs, the same for the whole process. Loops cannot refuse a bad name: the command line does, before
/// anything runs ([`check_simd`]).
#[inline]
pub(crate) fn simd() -> Simd {
    static SIMD: OnceLock<Simd> = OnceLock::new();
    *SIMD.get_or_init(|| asked().unwrap_or_else(|_| Simd::best()))
}

/// Refuses a value of `HAFUSE_SIMD` that this CPU cannot run.
///
/// # Errors
/// [`Error::Config`] that names those it can.
pub(crate) fn check_simd() -> Result<()> {
    asked().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_cpu_has_can_be_chosen() {
        let of = |wanted, best| Simd::chosen(wanted, best).map_err(|e| e.to_string());
        assert_eq!(of(None, Simd::Avx2), Ok(Simd::Avx2));
        assert_eq!(of(Some(""), Simd::Avx512), Ok(Simd::Avx512));
        for simd in Simd::ALL {
            assert_eq!(of(Some(simd.name()), Simd::Avx512), Ok(simd));
        }
        for wanted in ["avx512", "AVX2", "sse"] {
            let said = of(Some(wanted), Simd::Avx2).expect_err("refused");
            assert!(
                said.contains(wanted) && said.contains("portable, avx2"),
                "{said}"
            );
        }
    }
}
