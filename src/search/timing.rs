//! Repeated runs and their quartiles.

use crate::device::Device;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Work that a card does before a run counts: its clock falls while it idles, and takes tens of milliseconds to rise.
const WARM_UP: Duration = Duration::from_millis(500);

/// Calls `f` `runs` times, and on a card for half a second at least. No run counts before this has been done once in a process.
pub fn warm_up(device: &Device, runs: usize, mut f: impl FnMut() -> Result<()>) -> Result<()> {
    let least = match device {
        Device::Cpu => Duration::ZERO,
        Device::Cuda(_) => WARM_UP,
    };
    let begun = Instant::now();
    let mut done = 0;
    while done < runs || begun.elapsed() < least {
        f()?;
        done += 1;
    }
    Ok(())
}

/// Median and quartiles of repeated times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// First and third quartile.
    pub low_ms: f64,
    /// Third quartile, in milliseconds.
    pub high_ms: f64,
    /// Times that were measured.
    pub runs: usize,
}

impl Timing {
    /// `runs` calls of `f`, which returns seconds, after `warm` that do not count.
    pub fn of(warm: usize, runs: usize, mut f: impl FnMut() -> Result<f64>) -> Result<Self> {
        for _ in 0..warm {
            f()?;
        }
        let seconds = (0..runs.max(1)).map(|_| f());
        Self::from_seconds(seconds.collect::<Result<Vec<f64>>>()?)
    }

    /// Of times that were taken already; there must be one at least.
    pub(crate) fn from_seconds(seconds: Vec<f64>) -> Result<Self> {
        let mut ms: Vec<f64> = seconds.into_iter().map(|s| s * 1e3).collect();
        if ms.is_empty() {
            return Err(Error::Internal("no time was taken".into()));
        }
        ms.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| {
            let x = q * (ms.len() - 1) as f64;
            let (i, rest) = (x as usize, x.fract());
            ms[i] + rest * (ms[(i + 1).min(ms.len() - 1)] - ms[i])
        };
        Ok(Self {
            median_ms: at(0.5),
            low_ms: at(0.25),
            high_ms: at(0.75),
            runs: ms.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_warms_up_by_runs_alone() {
        let mut runs = 0;
        let run = || {
            runs += 1;
            Ok(())
        };
        warm_up(&Device::Cpu, 2, run).expect("no error");
        assert_eq!(runs, 2);
        let failed = || Err(Error::Internal("planted".into()));
        assert!(warm_up(&Device::Cpu, 1, failed).is_err());
    }

    #[test]
    fn quartiles_of_known_times() {
        let mut times = [9.0, 9.0, 4.0, 1.0, 3.0, 5.0, 2.0].into_iter();
        let t = Timing::of(2, 5, || Ok(times.next().unwrap_or(0.0) / 1e3)).expect("no error");
        let ms = [t.low_ms, t.median_ms, t.high_ms].map(|v| v.round());
        assert_eq!((ms, t.runs), ([2.0, 3.0, 4.0], 5));
    }
}
