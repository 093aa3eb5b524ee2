//! Which parameters an epoch updates: the loops of Algorithm 1.

use super::config::{EpochsConfig, Strategy};
use serde::{Deserialize, Serialize};

/// What an inner epoch updates beside the network's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// beta: lines 5 to 8.
    Cells,
    /// alpha: lines 10 to 13.
    Operators,
    /// Both, in a naive search.
    Both,
}

/// A place in the loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Rounds of t + s inner epochs before this one, in this stage.
    pub round: u64,
    pub phase: Phase,
    /// Inner epochs of this phase before this one, in this stage: the steps of its optimiser.
    pub earlier: u64,
}

/// The loops of a whole search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub strategy: Strategy,
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

    /// Inner epochs of a stage.
    pub fn inner_epochs(&self, stage: u8) -> u64 {
        self.rounds(stage) * (self.epochs.t + self.epochs.s)
    }

    /// Where inner epoch `epoch`, counted from 0, of a stage stands.
    pub fn place(&self, epoch: u64) -> Place {
        let EpochsConfig { t, s, .. } = self.epochs;
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
        schedule.strategy = Strategy::Naive;
        assert_eq!((schedule.stages(), schedule.inner_epochs(1)), (1, 15));
        assert_eq!(schedule.place(4).phase, Both);
    }
}
