//! The record of a training run: metrics.jsonl on disk, progress on stderr.

use super::terminal;
use crate::tensor::io::write_atomic;
use crate::train::StepReport;
use crate::{Error, Result};
use indicatif::{FormattedDuration, ProgressBar};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Drops the lines of metrics.jsonl that were written after the checkpoint (stage and `count`; all,
/// without one), so that a resumed run does not write them a second time.
pub fn prune(path: &Path, count: &str, checkpoint: Option<(u8, u64)>) -> Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::input(path, e)),
    };
    let Some((stage, seen)) = checkpoint else {
        return write_atomic(path, b"");
    };
    let kept: String = String::from_utf8_lossy(&bytes)
        .lines()
        .filter(|line| position(line, count).is_some_and(|p| p <= (stage.into(), seen)))
        .flat_map(|line| [line, "\n"])
        .collect();
    write_atomic(path, kept.as_bytes())
}

/// Stage and `count` (steps, epochs) of a line; `None` if it was cut short.
fn position(line: &str, count: &str) -> Option<(u64, u64)> {
    let value: Value = serde_json::from_str(line).ok()?;
    value["stage"].as_u64().zip(value[count].as_u64())
}

/// Steps since some moment, as images a second.
struct Rate {
    batch: usize,
    since: Instant,
    from: (u8, u64),
    last: Instant,
}

impl Rate {
    fn new(batch: usize) -> Self {
        Self {
            batch,
            since: Instant::now(),
            from: (0, 0),
            last: Instant::now(),
        }
    }

    /// To be called after every step: a new stage is measured by itself.
    fn step(&mut self, r: &StepReport) {
        if self.from.0 != r.stage {
            self.since = self.last;
            self.from = (r.stage, r.step.saturating_sub(1));
        }
        self.last = Instant::now();
    }

    fn images_per_s(&self, r: &StepReport) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        ((r.step - self.from.1) as usize * self.batch) as f64 / seconds
    }

    fn restart(&mut self, r: &StepReport) {
        self.since = Instant::now();
        self.from = (r.stage, r.step);
    }
}

/// metrics.jsonl, one line written at a time.
pub struct Metrics {
    path: PathBuf,
    file: File,
    every: u64,
    rate: Rate,
}

impl Metrics {
    /// For a line every so many steps, appended to what is there.
    pub fn open(path: &Path, every: u64, batch: usize) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            path: path.to_path_buf(),
            file: file.map_err(|e| Error::output(path, e))?,
            every,
            rate: Rate::new(batch),
        })
    }

    /// To be called after every step.
    pub fn step(&mut self, r: &StepReport) -> Result<()> {
        self.rate.step(r);
        if r.step != r.steps && !r.step.is_multiple_of(self.every) {
            return Ok(());
        }
        let line = serde_json::json!({
            "stage": r.stage,
            "step": r.step,
            "lr": r.lr,
            "total": r.total,
            "terms": terms_map(r),
            "images_per_s": (self.rate.images_per_s(r) * 10.0).round() / 10.0,
        });
        self.rate.restart(r);
        self.write(&line)
    }

    /// To be called after every validation.
    pub fn validation(&mut self, r: &StepReport) -> Result<()> {
        self.write(&serde_json::json!({
            "validation": true,
            "stage": r.stage,
            "step": r.step,
            "total": r.total,
            "terms": terms_map(r),
        }))
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|e| Error::output(&self.path, e))
    }
}

/// A bar for each stage on a terminal, else a line now and then.
pub struct Progress {
    bar: Option<(u8, ProgressBar)>,
    rate: Rate,
    /// When the stage began in this process, and at which step.
    began: (u8, u64, Instant),
    shown: Option<Instant>,
    /// Step and loss of the last validation of this stage.
    held: Option<(u8, u64, f64)>,
}

const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR_EVERY: Duration = Duration::from_millis(500);

impl Progress {
    pub fn new(batch: usize) -> Self {
        Self {
            bar: None,
            rate: Rate::new(batch),
            began: (0, 0, Instant::now()),
            shown: None,
            held: None,
        }
    }

    /// To be called after every validation.
    pub fn validation(&mut self, r: &StepReport) {
        self.held = Some((r.stage, r.step, r.total));
    }

    /// To be called after every step.
    pub fn show(&mut self, r: &StepReport) {
        self.rate.step(r);
        if self.began.0 != r.stage {
            self.began = (r.stage, r.step.saturating_sub(1), self.rate.since);
        }
        let watched = terminal::watched();
        let every = if watched { BAR_EVERY } else { LINE_EVERY };
        let last = r.step == r.steps;
        if !last && self.shown.is_some_and(|t| t.elapsed() < every) {
            return;
        }
        let held = match self.held {
            Some((stage, step, loss)) if stage == r.stage => {
                format!("  held out {loss:.4} at step {step}")
            }
            _ => String::new(),
        };
        let text = format!(
            "lr {:.2e}  loss {:.4} ({}){held}  {:.1} images/s",
            r.lr,
            r.total,
            terms(r),
            self.rate.images_per_s(r)
        );
        self.rate.restart(r);
        self.shown = Some(Instant::now());
        if !watched || last {
            self.finish();
            terminal::say(&format!(
                "stage {} step {}/{}  {text}  {} left",
                r.stage,
                r.step,
                r.steps,
                self.left(r)
            ));
            return;
        }
        let bar = match &mut self.bar {
            Some((stage, bar)) if *stage == r.stage => bar,
            other => {
                let template = "stage {prefix} {bar:20} {pos}/{len} {eta} left  {wide_msg}";
                let bar = terminal::bar(r.steps, template).with_position(r.step);
                bar.set_prefix(r.stage.to_string());
                bar.reset_eta();
                &mut other.insert((r.stage, bar)).1
            }
        };
        bar.set_message(text);
        bar.set_position(r.step);
    }

    fn left(&self, r: &StepReport) -> FormattedDuration {
        let done = r.step.saturating_sub(self.began.1).max(1) as f64;
        let each = self.began.2.elapsed().as_secs_f64() / done;
        let seconds = each * (r.steps - r.step) as f64;
        FormattedDuration(Duration::from_secs(seconds.round() as u64))
    }

    /// Takes the bar off the screen.
    pub fn finish(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn terms_map(r: &StepReport) -> Map<String, Value> {
    let each = r.terms.iter();
    each.map(|&(name, v)| (name.to_string(), v.into()))
        .collect()
}

fn terms(r: &StepReport) -> String {
    let each: Vec<String> = r.terms.iter().map(|(n, v)| format!("{n} {v:.4}")).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_keeps_what_the_checkpoint_has_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let line = |stage: u8, step: u64| format!("{{\"stage\":{stage},\"step\":{step}}}\n");
        let text =
            [line(1, 10), line(1, 20), line(2, 10), line(2, 20)].concat() + "{\"stage\":2,\"st";
        let kept = |seen: Option<(u8, u64)>| {
            std::fs::write(&path, &text).unwrap();
            prune(&path, "step", seen).unwrap();
            std::fs::read_to_string(&path).unwrap().lines().count()
        };
        assert_eq!(kept(Some((1, 15))), 1);
        assert_eq!(kept(Some((2, 10))), 3);
        assert_eq!(kept(Some((3, 0))), 4);
        assert_eq!(kept(None), 0);
        assert!(prune(&dir.path().join("none"), "step", None).is_ok());
    }
}
