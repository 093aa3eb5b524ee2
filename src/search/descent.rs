//! Steps of alpha and beta, on gradients that are means over batches of L_val.

use super::architecture::spread;
use super::schedule::Phase;
use super::searcher::Searcher;
use super::step::gradient_name;
use crate::Result;
use crate::tape::Session;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};

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
    /// Batches that a step is made of.
    average: u64,
    lr: f64,
    /// Steps taken in this stage.
    steps: u64,
}

impl Descent {
    /// Of a phase in a stage, `earlier` inner epochs of it done, each of `batches` batches.
    pub fn new(s: &Searcher, stage: u8, phase: Phase, earlier: u64, batches: u64) -> Result<Self> {
        let space = s.config().space();
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
        let average = s.config().batches_averaged(batches);
        Ok(Self {
            session: Session::new(&s.record_descent(stage, phase)?, s.store())?,
            sums: sums.collect(),
            batches: 0,
            seen: 0,
            average,
            lr: s
                .config()
                .architecture_rate(s.schedule().epochs_of(stage, phase), batches),
            steps: earlier * batches.div_ceil(average),
        })
    }

    /// Takes the gradients of a batch; a step where that makes enough of them, or where it is the `last` of an epoch.
    pub fn take(&mut self, gradients: &Session, last: bool) -> Result<()> {
        for sums in &mut self.sums {
            let gradient = gradients.get(&gradient_name(&sums.name))?.to_f64();
            for (i, g) in gradient.into_iter().enumerate() {
                sums.step[i] += g;
                sums.epoch[i] += g;
                sums.squares[i] += g * g;
            }
        }
        self.batches += 1;
        self.seen += 1;
        match last || self.batches == self.average {
            true => self.step(),
            false => Ok(()),
        }
    }

    fn step(&mut self) -> Result<()> {
        for sums in &mut self.sums {
            let mean = sums.step.iter().map(|g| (g / self.batches as f64) as f32);
            let mean = Tensor::from_vec(sums.shape, mean.collect::<Vec<f32>>())?;
            self.session.set(&gradient_name(&sums.name), &mean)?;
            sums.step.fill(0.0);
        }
        self.batches = 0;
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
