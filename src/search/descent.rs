//! Steps of alpha and beta, on gradients that are means over batches of L_val.

use super::architecture::spread;
use super::schedule::Phase;
use super::searcher::Searcher;
use super::step::gradient_name;
use crate::tape::{ParamStore, Session};
use crate::tensor::Tensor;
use crate::train::moment_name;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the batches of an inner epoch said of an architecture parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gradient {
    /// `alpha.ffm.cell0.SC.block0`, `beta.ffm.cell0`.
    pub name: String,
    /// Mean of the gradient over the batches, for each of all cells or operators; 0 for what is no candidate.
    pub mean: Vec<f64>,
    /// Standard deviation over the batches; 0 of a single one.
    pub std: Vec<f64>,
}

/// What is kept of an architecture parameter beside Adam's moments: the mean gradient of the round, between its inner epochs.
pub(super) const MEAN: &str = "mean";

/// Sums of the gradients of one architecture parameter.
struct Sums {
    name: String,
    shape: crate::tensor::Shape,
    /// Which of all cells, or operators, these are.
    candidates: Vec<bool>,
    /// Since the last step.
    step: Vec<f64>,
    /// Since the epoch began, with squares.
    epoch: Vec<f64>,
    squares: Vec<f64>,
}

/// The optimiser of one phase.
pub(super) struct Descent {
    session: Session,
    sums: Vec<Sums>,
    /// Batches since the last step, and since the epoch began.
    batches: u64,
    seen: u64,
    /// Batches that a step is made of; `None`: all of the `round` inner epochs of this phase in a round.
    average: Option<u64>,
    round: u64,
    /// Inner epochs of this phase done in this stage.
    epochs: u64,
    store: ParamStore,
    lr: f64,
    /// Steps taken in this stage.
    steps: u64,
}

impl Descent {
    /// Of a phase in a stage, `earlier` inner epochs of it done.
    pub fn new(s: &Searcher, stage: u8, phase: Phase, earlier: u64) -> Result<Self> {
        let config = s.config();
        let space = config.space();
        let sums = s.updated(stage, phase).into_iter().map(|spec| {
            let zeros = vec![0.0; spec.shape.len()];
            Sums {
                name: spec.name.clone(),
                shape: spec.shape,
                candidates: match spec.name.starts_with("beta.") {
                    true => space.kinds.to_vec(),
                    false => space.operators.to_vec(),
                },
                step: zeros.clone(),
                epoch: zeros.clone(),
                squares: zeros,
            }
        });
        let schedule = s.schedule();
        let steps = |epochs| config.architecture_steps(phase, epochs, s.steps());
        Ok(Self {
            session: Session::new(&s.record_descent(stage, phase)?, s.store())?,
            sums: sums.collect(),
            batches: 0,
            seen: 0,
            average: match config.architecture.average {
                0 => None,
                n => Some(n),
            },
            round: schedule.in_a_round(phase),
            epochs: earlier,
            store: s.store().clone(),
            lr: config.architecture_rate(steps(schedule.epochs_of(stage, phase))),
            steps: steps(earlier),
        })
    }

    /// Takes the gradients of a batch; a step where that makes enough of them, or where it is the `last` of an inner epoch.
    pub fn take(&mut self, gradients: &BTreeMap<String, Vec<f64>>, last: bool) -> Result<()> {
        for sums in &mut self.sums {
            let gradient = gradients
                .get(&sums.name)
                .ok_or_else(|| Error::Internal(format!("{} has no gradient", sums.name)))?;
            for (i, &g) in gradient.iter().enumerate() {
                sums.step[i] += g;
                sums.epoch[i] += g;
                sums.squares[i] += g * g;
            }
        }
        self.batches += 1;
        self.seen += 1;
        if !last && self.average != Some(self.batches) {
            return Ok(());
        }
        // Of the inner epochs of this round, this is the `k`th.
        let k = match self.average {
            None => self.epochs % self.round + 1,
            Some(_) => 1,
        };
        self.epochs += u64::from(last);
        for sums in &mut self.sums {
            let name = moment_name(MEAN, &sums.name);
            let mut mean = self.store.get(&name)?.to_f64();
            for (mean, sum) in mean.iter_mut().zip(&mut sums.step) {
                let now = std::mem::take(sum) / self.batches as f64;
                *mean = match k {
                    1 => now,
                    _ => *mean + (now - *mean) / k as f64,
                };
            }
            let mean = mean.into_iter().map(|g| g as f32).collect::<Vec<f32>>();
            let mean = Tensor::from_vec(sums.shape, mean)?;
            self.store.set(&name, &mean)?;
            self.session.set(&gradient_name(&sums.name), &mean)?;
        }
        self.batches = 0;
        if self.average.is_none() && k < self.round {
            return Ok(());
        }
        self.steps += 1;
        self.session.set_scalar("lr", self.lr)?;
        self.session.set_scalar("step", self.steps as f64)?;
        self.session.run()
    }

    /// What the batches since the last call said.
    pub fn gradients(&mut self) -> Vec<Gradient> {
        let n = std::mem::take(&mut self.seen) as f64;
        let of = |sums: &mut Sums| {
            let mean: Vec<f64> = sums.epoch.iter().map(|g| g / n).collect();
            let squares = sums.squares.iter().zip(&mean);
            // The mean square less the square of the mean, of n - 1.
            let std = squares.map(|(s, m)| ((s - n * m * m).max(0.0) / (n - 1.0).max(1.0)).sqrt());
            let std: Vec<f64> = std.collect();
            sums.epoch.fill(0.0);
            sums.squares.fill(0.0);
            Gradient {
                name: sums.name.clone(),
                mean: spread(&mean, &sums.candidates),
                std: spread(&std, &sums.candidates),
            }
        };
        self.sums.iter_mut().map(of).collect()
    }
}
