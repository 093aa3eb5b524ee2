//! What latency costs a search, and the network that is derived within a time.

use super::architecture::{LayerWeights, derive};
use super::budget::{fastest_ms, most_likely};
use super::config::{LatencyUnit, Strategy};
use super::searcher::Searcher;
use crate::net::{CellGene, Genotype, layer_names};
use crate::{Error, Result};

/// A power of softmax weights that leaves equal ones equal and takes a lead of a logit for a choice.
const SHARP: f64 = 4.0;

impl Searcher {
    /// The arg-max of alpha and beta, the first of equals; with a `latency.target` the most likely network within it, the
    /// feature-level module within its share.
    ///
    /// # Errors
    /// [`Error::Config`] if no network is within the target.
    pub fn genotype(&self) -> Result<Genotype> {
        let space = &self.config.space;
        let layers = self.layers()?;
        let mut g = derive(space.channels, space.frame, &layers)
            .ok_or_else(|| Error::Internal("a supernet without layers".into()))?;
        for stage in 1..=self.schedule().stages() {
            let searched = self.searched(stage);
            let Some(budget) = self.budget(stage, &g.ffm)? else {
                return Ok(g);
            };
            let found = most_likely(&layers[searched.clone()], &self.table, budget)?;
            let Some(found) = found else {
                let (target, least) = (&self.config.latency.target, self.fastest()?);
                let detail = format!(
                    "{target} is less than the fastest network takes, {least:.3} ms by the table; allow more, or search with \
                     fewer channels"
                );
                return Err(Error::config("latency.target", detail));
            };
            for (at, gene) in searched.zip(found) {
                match at.checked_sub(space.cells) {
                    None => g.ffm[at] = gene,
                    Some(0) => g.target = gene,
                    Some(_) => g.detail = gene,
                }
            }
        }
        Ok(g)
    }

    /// Milliseconds of the fastest network of the space, by the table.
    fn fastest(&self) -> Result<f64> {
        let all = self.table.rest()? + fastest_ms(&self.uniform(), &self.table)?;
        Ok(self.table.enlarged(&self.config.space.frame) * all)
    }

    /// Every layer with equal weights.
    fn uniform(&self) -> Vec<LayerWeights> {
        let space = self.config.space();
        let names = layer_names(space.cells);
        let uniform = names.iter().map(|n| LayerWeights::uniform(n, &space));
        uniform.collect()
    }

    /// Milliseconds that `latency.target` leaves to the layers of a stage: to the feature-level module its share of the uniform
    /// supernet, as far as the rows still fit, to the rows what the module that was found, `ffm`, leaves. `None` without a target.
    fn budget(&self, stage: u8, ffm: &[CellGene]) -> Result<Option<f64>> {
        let Some(target) = self.config.target_ms()? else {
            return Ok(None);
        };
        let frame = &self.config.space.frame;
        let all = target / self.table.enlarged(frame) - self.table.rest()?;
        let cells = self.config.space.cells;
        if self.config.strategy == Strategy::Naive {
            return Ok(Some(all));
        }
        if stage > 1 {
            let taken = ffm.iter().map(|g| self.table.gene_ms(g));
            return Ok(Some(all - taken.sum::<Result<f64>>()?));
        }
        let uniform = self.uniform();
        let share = self.table.relaxed(&uniform[..cells])? / self.table.relaxed(&uniform)?;
        let rows = fastest_ms(&uniform[cells..], &self.table)?;
        let least = fastest_ms(&uniform[..cells], &self.table)?;
        Ok(Some((all * share).min(all - rows).max(least)))
    }

    /// Raises lambda where the layers of this stage would take more than their budget, and lowers it where less: by at most half of
    /// itself in an inner epoch. Softmax weights to the power of [`SHARP`] stand for the choice that is not made yet.
    pub(super) fn adapt_lambda(&mut self, layers: &[LayerWeights]) -> Result<()> {
        let stage = self.progress.stage;
        if let Some(budget) = self.budget(stage, &self.genotype()?.ffm)? {
            let sharp = layers[self.searched(stage)]
                .iter()
                .map(|l| l.sharpened(SHARP));
            let lat = self.table.relaxed(&sharp.collect::<Vec<_>>())?;
            let factor = (lat / budget - 1.0).clamp(-0.5, 0.5).exp();
            self.progress.lambda = (self.progress.lambda * factor).clamp(1e-4, 1e3);
        }
        Ok(())
    }

    /// What a millisecond of LAT adds to the loss.
    pub fn charge(&self) -> Result<f64> {
        let lambda = self.progress.lambda;
        match self.config.latency.unit {
            LatencyUnit::Ms => Ok(lambda),
            LatencyUnit::Uniform => {
                let whole = self.table.relaxed(&self.uniform())?;
                match whole > 0.0 {
                    true => Ok(lambda / whole),
                    false => Err(Error::config(
                        "latency.unit",
                        "is \"uniform\", but the table has no operator that takes time; measure it again",
                    )),
                }
            }
        }
    }
}
