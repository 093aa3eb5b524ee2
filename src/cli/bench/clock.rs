//! The clock of a card's multiprocessors around what is timed: a card that idles or is too hot runs slower than its data sheet says.

use super::ceiling::{Ceiling, Kind};
use crate::Result;
use crate::device::Device;
use crate::tape::Session;
use crate::tensor::DType;
use serde::Serialize;

/// Cycles that a measurement waits for: some milliseconds, beside which what an event costs does not count. f32 holds them
/// exactly.
const CYCLES: usize = 4_000_000;

/// MHz before and after; `None` where the card does not count cycles.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SmClock {
    before: Option<f64>,
    after: Option<f64>,
}

impl SmClock {
    /// A line for the foot of a table; empty on the CPU.
    pub fn foot(clock: Option<Self>) -> String {
        let text = |mhz: Option<f64>| mhz.map_or("not known".into(), |v| format!("{v:.0} MHz"));
        clock.map_or(String::new(), |c| {
            format!(
                "\nSM clock {} before, {} after",
                text(c.before),
                text(c.after)
            )
        })
    }
}

/// Measures the clock now and once more when the work is done; nothing on the CPU.
pub struct Watch(Option<(Session, Option<f64>)>);

impl Watch {
    /// Measures for the first time.
    pub fn start(device: &Device) -> Result<Self> {
        let Device::Cuda(cuda) = device else {
            return Ok(Self(None));
        };
        let spin = Ceiling {
            kind: Kind::Clock,
            blocks: 1,
            rounds: CYCLES,
        };
        let mut session = spin.session(cuda, DType::F32, [1].into())?;
        // The first run loads the kernel.
        session.run()?;
        let before = mhz(&mut session)?;
        Ok(Self(Some((session, before))))
    }

    /// Measures for the second time.
    pub fn stop(self) -> Result<Option<SmClock>> {
        let Some((mut session, before)) = self.0 else {
            return Ok(None);
        };
        let after = mhz(&mut session)?;
        Ok(Some(SmClock { before, after }))
    }
}

fn mhz(session: &mut Session) -> Result<Option<f64>> {
    session.run()?;
    let seconds: f64 = session.times().map(|(_, t)| t.as_secs_f64()).sum();
    Ok(rate(f64::from(session.output::<f32>("y")?[0]), seconds))
}

fn rate(cycles: f64, seconds: f64) -> Option<f64> {
    (cycles > 0.0 && seconds > 0.0).then(|| cycles / seconds / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_still_is_not_known() {
        assert_eq!(rate(4e6, 2e-3), Some(2000.0));
        assert_eq!(rate(0.0, 2e-3), None);
        assert_eq!(rate(4e6, 0.0), None);
        let (before, after) = (rate(4e6, 2e-3), None);
        let foot = SmClock::foot(Some(SmClock { before, after }));
        assert_eq!(foot, "\nSM clock 2000 MHz before, not known after");
        assert_eq!(SmClock::foot(None), "");
    }

    #[test]
    fn the_cpu_has_none() {
        let watch = Watch::start(&Device::Cpu).unwrap();
        assert!(watch.stop().unwrap().is_none());
    }
}
