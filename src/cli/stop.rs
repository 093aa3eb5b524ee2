//! When a run stops by itself, with a checkpoint to go on from.

use crate::{Error, Result};
use std::time::{Duration, Instant};

/// After so many steps, or at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop {
    left: Option<u64>,
    until: Option<Instant>,
    reached: bool,
}

impl Stop {
    /// `--stop-after`.
    pub fn after(steps: Option<u64>) -> Self {
        Self {
            left: steps,
            ..Self::default()
        }
    }

    /// `--budget`.
    pub fn at(until: Option<Instant>) -> Self {
        Self {
            until,
            ..Self::default()
        }
    }

    /// To be called after each step; `place` is where it was, `again` the command that goes on.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it was the last.
    pub fn step(&mut self, place: impl Fn() -> String, again: impl Fn() -> String) -> Result<()> {
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                self.reached = true;
                return Err(Error::Stopped(format!(
                    "stopped at {} as --stop-after asks; go on with `{}`",
                    place(),
                    again()
                )));
            }
        }
        if self.until.is_some_and(|t| Instant::now() >= t) {
            self.reached = true;
            return Err(Error::Stopped(format!(
                "stopped at {} as --budget asks; give the same command again to go on",
                place()
            )));
        }
        Ok(())
    }

    /// Whether a step was the last.
    pub fn reached(&self) -> bool {
        self.reached
    }
}

/// A duration as `90s`, `150m`, `2.5h`.
///
/// # Errors
/// A sentence for anything else.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let found = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    match found.filter(|d| !d.is_zero()) {
        Some(duration) => Ok(duration),
        None => Err("give seconds, minutes or hours, as in 90s, 150m or 2.5h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration(" 150 m"), Ok(Duration::from_secs(9000)));
        assert_eq!(parse_duration("2.5h"), Ok(Duration::from_secs(9000)));
        for bad in ["", "90", "m", "-3m", "0s", "3 days", "1e99h", "NaNs"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stop_says_how_to_go_on() {
        let step = |stop: &mut Stop| stop.step(|| "step 2".into(), || "again".into());
        let mut after = Stop::after(Some(2));
        assert!(step(&mut after).is_ok() && !after.reached());
        let e = step(&mut after).unwrap_err();
        assert!(after.reached() && matches!(e, Error::Stopped(_)));
        assert!(
            e.to_string()
                .contains("step 2 as --stop-after asks; go on with `again`"),
            "{e}"
        );
        let mut past = Stop::at(Some(Instant::now()));
        let e = step(&mut past).unwrap_err().to_string();
        assert!(
            past.reached() && e.contains("the same command again"),
            "{e}"
        );
        assert!(step(&mut Stop::default()).is_ok());
    }
}
