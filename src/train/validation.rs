//! The loss on pairs that are never trained on.

use super::trainer::{StepReport, Trainer, set_patches};
use crate::Result;
use crate::data::{Batch, EpochSampler, PairDataset};
use crate::tape::{Session, Tape};
use crate::tensor::DType;

/// Most batches of a measurement.
const MOST_BATCHES: usize = 8;
/// Patches of each pair, where that makes no more batches.
const PATCHES_OF_PAIR: usize = 4;
/// Keeps the patches apart from those of training.
const SEED: u64 = 0x5641_4C49;

/// A forward tape and the same patches, without augmentation, for each measurement of a stage.
pub(super) struct Validation {
    session: Session,
    batches: Vec<Batch>,
    report: StepReport,
}

impl Validation {
    /// # Errors
    /// As recording a step.
    pub fn new(held: &PairDataset, trainer: &Trainer, stage: u8) -> Result<Self> {
        let config = trainer.config();
        let mut tape = Tape::new(DType::F32);
        let (terms, _) = trainer.record_loss(&mut tape, stage)?;
        let session = Session::new(&tape, trainer.store())?;
        let patches = held.len().saturating_mul(PATCHES_OF_PAIR);
        let count = patches.div_ceil(config.batch).clamp(1, MOST_BATCHES);
        let mut sampler = EpochSampler::new(held.len(), config.seed ^ SEED)?;
        let mut batches = vec![Batch::new(config.batch, config.patch)?; count];
        for batch in &mut batches {
            held.sample_batch(&mut sampler, None, batch)?;
        }
        Ok(Self {
            session,
            batches,
            report: StepReport {
                stage,
                step: 0,
                steps: 0,
                lr: 0.0,
                terms: terms.terms.iter().map(|(name, _)| (*name, 0.0)).collect(),
                total: 0.0,
            },
        })
    }

    /// Means over all patches with the weights as they are, for the step that `now` tells of.
    ///
    /// # Errors
    /// As running a session.
    pub fn measure(&mut self, now: &StepReport) -> Result<&StepReport> {
        let report = &mut self.report;
        (report.step, report.steps, report.lr) = (now.step, now.steps, now.lr);
        report.total = 0.0;
        report.terms.iter_mut().for_each(|(_, value)| *value = 0.0);
        let share = 1.0 / self.batches.len() as f64;
        for batch in &self.batches {
            set_patches(&mut self.session, batch)?;
            self.session.run()?;
            for (name, value) in &mut report.terms {
                *value += share * self.session.scalar(name)?;
            }
            report.total += share * self.session.scalar("total")?;
        }
        Ok(report)
    }
}
