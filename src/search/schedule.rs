//! Which parameters an epoch updates: the loops of Algorithm 1.

use super::config::{EpochsConfig, Strategy};
use serde::{Deserialize, Serialize};

/// What an inner epoch updates beside the network's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing, the warm-up: beyond the paper.
    Weights,
    /// beta: lines 5 to 8.
    Cells,
    /// alpha: lines 10 to 13.
    Operators,
    /// Both, in a naive search.
    Both,
}

/// A place in the loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Rounds of t + s inner epochs before this one, in this stage. None of them is of the warm-up.
    pub round: u64,
    pub phase: Phase,
    /// Inner epochs of this phase before this one, in this stage: the steps of its optimiser.
    pub earlier: u64,
}

/// The loops of a whole search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Order in which things are searched.
    pub strategy: Strategy,
    /// Numbers of rounds and of inner epochs.
    pub epochs: EpochsConfig,
}

impl Schedule {
    /// Number of stages: the naive search has one.
    pub fn stages(&self) -> u8 {
        match self.strategy {
            Strategy::Collaborative => 2,
            Strategy::Naive => 1,
        }
    }

    /// What the architecture's steps update, in order.
    pub fn phases(&self) -> &'static [Phase] {
        match self.strategy {
            Strategy::Collaborative => &[Phase::Cells, Phase::Operators],
            Strategy::Naive => &[Phase::Both],
        }
    }

    /// Rounds of a stage: m, then n - m.
    pub fn rounds(&self, stage: u8) -> u64 {
        let e = self.epochs;
        match (self.strategy, stage) {
            (Strategy::Naive, _) => e.n,
            (Strategy::Collaborative, 1) => e.m,
            (Strategy::Collaborative, _) => e.n - e.m,
        }
    }

    /// Inner epochs of a stage, the warm-up included. A stage without a round has none.
    pub fn inner_epochs(&self, stage: u8) -> u64 {
        match self.rounds(stage) {
            0 => 0,
            rounds => self.epochs.warmup + rounds * (self.epochs.t + self.epochs.s),
        }
    }

    /// Inner epochs of a round that update what a phase does.
    pub fn in_a_round(&self, phase: Phase) -> u64 {
        let EpochsConfig { t, s, .. } = self.epochs;
        match phase {
            Phase::Weights => 0,
            Phase::Cells => t,
            Phase::Operators => s,
            Phase::Both => t + s,
        }
    }

    /// Inner epochs of a stage that update what a phase does.
    pub fn epochs_of(&self, stage: u8, phase: Phase) -> u64 {
        match phase {
            Phase::Weights => self.epochs.warmup.min(self.inner_epochs(stage)),
            phase => self.rounds(stage) * self.in_a_round(phase),
        }
    }

    /// Where inner epoch `epoch`, counted from 0, of a stage stands.
    pub(crate) fn place(&self, epoch: u64) -> Place {
        let EpochsConfig { t, s, warmup, .. } = self.epochs;
        let Some(epoch) = epoch.checked_sub(warmup) else {
            return Place {
                round: 0,
                phase: Phase::Weights,
                earlier: epoch,
            };
        };
        let (round, k) = (epoch / (t + s), epoch % (t + s));
        let (phase, earlier) = match self.strategy {
            Strategy::Naive => (Phase::Both, epoch),
            Strategy::Collaborative if k < t => (Phase::Cells, round * t + k),
            Strategy::Collaborative => (Phase::Operators, round * s + k - t),
        };
        Place {
            round,
            phase,
            earlier,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_t_and_s_epochs() {
        let epochs = EpochsConfig {
            n: 5,
            m: 2,
            t: 2,
            s: 1,
            warmup: 0,
        };
        let mut schedule = Schedule {
            strategy: Strategy::Collaborative,
            epochs,
        };
        assert_eq!((schedule.inner_epochs(1), schedule.inner_epochs(2)), (6, 9));
        let places = (0..6).map(|e| schedule.place(e));
        let places: Vec<_> = places.map(|p| (p.round, p.phase, p.earlier)).collect();
        use Phase::{Both, Cells, Operators};
        assert_eq!(
            places,
            [
                (0, Cells, 0),
                (0, Cells, 1),
                (0, Operators, 0),
                (1, Cells, 2),
                (1, Cells, 3),
                (1, Operators, 1)
            ]
        );
        assert_eq!(schedule.epochs_of(2, Operators), 3);
        schedule.strategy = Strategy::Naive;
        assert_eq!((schedule.stages(), schedule.inner_epochs(1)), (1, 15));
        assert_eq!(schedule.place(4).phase, Both);

        // Weights alone first, in each stage; then as before.
        schedule.strategy = Strategy::Collaborative;
        schedule.epochs.warmup = 3;
        assert_eq!(
            (schedule.inner_epochs(1), schedule.inner_epochs(2)),
            (9, 12)
        );
        assert_eq!(
            (schedule.place(2).phase, schedule.place(2).earlier),
            (Phase::Weights, 2)
        );
        assert_eq!(
            schedule.place(3),
            Place {
                round: 0,
                phase: Cells,
                earlier: 0
            }
        );
        assert_eq!(
            schedule.place(8),
            Place {
                round: 1,
                phase: Operators,
                earlier: 1
            }
        );
        schedule.epochs.m = 0;
        assert_eq!(schedule.inner_epochs(1), 0);
    }
}
