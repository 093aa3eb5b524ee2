//! The record of a search: metrics.jsonl on disk, progress on stderr.

use super::terminal;
use crate::search::{EpochReport, Phase, StepReport, brief};
use crate::{Error, Result};
use indicatif::{FormattedDuration, ProgressBar};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// metrics.jsonl, a line for each inner epoch.
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Appends to what is there.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            path: path.to_path_buf(),
            file: file.map_err(|e| Error::output(path, e))?,
        })
    }

    pub fn write(&mut self, report: &EpochReport) -> Result<()> {
        let line = serde_json::to_string(report)
            .map_err(|e| Error::Internal(format!("metrics.jsonl: {e}")))?;
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|e| Error::output(&self.path, e))
    }
}

/// A bar for each stage on a terminal, else a line now and then.
pub struct Progress {
    bar: Option<(u8, ProgressBar)>,
    batch: usize,
    /// The stage, and when and after how many steps it began in this process.
    began: (u8, Instant, u64),
    shown: Option<Instant>,
}

const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    pub fn new(batch: usize) -> Self {
        Self {
            bar: None,
            batch,
            began: (0, Instant::now(), 0),
            shown: None,
        }
    }

    /// To be called after every step.
    pub fn step(&mut self, r: &StepReport) {
        let done = r.epoch * r.steps + r.step;
        if self.began.0 != r.stage {
            // The first step also planned memory.
            self.began = (r.stage, Instant::now(), done);
            self.finish();
        }
        if !terminal::watched() {
            return;
        }
        let bar = match &mut self.bar {
            Some((_, bar)) => bar,
            none => {
                let template = "stage {prefix} {bar:20} {pos}/{len} {eta} left  {wide_msg}";
                let bar = terminal::bar(r.epochs * r.steps, template);
                bar.set_prefix(r.stage.to_string());
                bar.reset_eta();
                &mut none.insert((r.stage, bar)).1
            }
        };
        let mut message = format!("L_train {:.4}", r.train);
        if let (Some(val), Some(lat)) = (r.val, r.lat) {
            message += &format!("  L_val {val:.4}  LAT {lat:.3} ms");
        }
        bar.set_message(message);
        bar.set_position(done);
    }

    /// To be called after every inner epoch.
    pub fn epoch(&mut self, r: &EpochReport) {
        let last = r.epoch == r.epochs;
        if !last && self.shown.is_some_and(|t| t.elapsed() < LINE_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let phase = match r.phase {
            Phase::Weights => "weights alone",
            Phase::Cells => "beta",
            Phase::Operators => "alpha",
            Phase::Both => "alpha and beta",
        };
        let cells: Vec<String> = r.layers.iter().map(|l| brief(&l.chosen())).collect();
        let line = format!(
            "stage {} round {}/{} epoch {}/{} ({phase})  L_train {:.4}  {}LAT {:.3} ms  entropy alpha {:.3} \
             beta {:.3}  {}",
            r.stage,
            r.round,
            r.rounds,
            r.epoch,
            r.epochs,
            r.train,
            r.val.map_or(String::new(), |v| format!("L_val {v:.4}  ")),
            r.lat,
            r.alpha_entropy,
            r.beta_entropy,
            cells.join(" ")
        );
        let line = match self.pace(r) {
            Some(pace) => format!("{line}  {pace}"),
            None => line,
        };
        match &self.bar {
            Some((_, bar)) => bar.suspend(|| terminal::say(&line)),
            None => terminal::say(&line),
        }
    }

    /// Patches a second of both halves, and what is left of the stage.
    fn pace(&self, r: &EpochReport) -> Option<String> {
        let all = r.epochs * r.steps;
        let done = r.epoch * r.steps;
        let steps = done.checked_sub(self.began.2).filter(|&n| n > 0)?;
        let each = self.began.1.elapsed().as_secs_f64() / steps as f64;
        let left = Duration::from_secs((each * (all - done) as f64).round() as u64);
        let patches = 2.0 * self.batch as f64 / each.max(1e-9);
        Some(format!(
            "{patches:.1} patches/s  {} left",
            FormattedDuration(left)
        ))
    }

    /// Takes the bar off the screen.
    pub fn finish(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
