//! Where the same search from several seeds agrees.

use super::searcher::EpochReport;
use super::verdict::{SIGNIFICANT, advantages, over_error};
use crate::net::{CellGene, CellKind, Genotype};
use crate::stats::mean;
use serde::Serialize;
use std::collections::BTreeMap;

/// Two choices of the cells of a stage, by different seeds of a search, and what all seeds say of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contest {
    /// Layers of the stage.
    pub layers: Vec<String>,
    /// Cells that some seeds chose, and the places of these seeds in the list of searches.
    pub cells: Vec<CellKind>,
    pub seeds: Vec<usize>,
    /// Those of others.
    pub others: Vec<CellKind>,
    pub other_seeds: Vec<usize>,
    /// Loss of networks of the others less that of the first, of each search that drew both often enough and alike.
    pub better: Vec<f64>,
    /// Their mean by its standard error. A single search has one set of weights, to which either choice may be better by chance: how far
    /// that goes only several searches can say. `None` with fewer than two.
    pub t: Option<f64>,
}

impl Contest {
    /// Whether nothing speaks for either choice.
    pub fn near_tie(&self) -> bool {
        self.t.is_some_and(|t| t.abs() < SIGNIFICANT)
    }

    /// Mean of `better`.
    pub fn mean(&self) -> f64 {
        mean(&self.better)
    }

    /// All pairs of choices in which these searches differ, with their records.
    pub fn of(searches: &[(&[EpochReport], &Genotype)]) -> Vec<Self> {
        let Some((first, _)) = searches.first() else {
            return Vec::new();
        };
        let stages: BTreeMap<u8, _> = first.iter().map(|e| (e.stage, &e.layers)).collect();
        let mut before = 0;
        let mut contests = Vec::new();
        // A stage repeats the layers of earlier ones as they were left, and the last one has all.
        for (&stage, layers) in &stages {
            let range = before..layers.len();
            before = layers.len();
            let mut choices: BTreeMap<Vec<CellKind>, Vec<usize>> = BTreeMap::new();
            for (seed, (_, found)) in searches.iter().enumerate() {
                let genes: Vec<&CellGene> = found.cells().map(|(_, gene)| gene).collect();
                let cells = genes.get(range.clone()).unwrap_or_default();
                let cells = cells.iter().map(|gene| gene.cell).collect();
                choices.entry(cells).or_default().push(seed);
            }
            let choices: Vec<_> = choices.into_iter().collect();
            for (i, (cells, seeds)) in choices.iter().enumerate() {
                for (others, other_seeds) in &choices[i + 1..] {
                    let one = |(epochs, _): &(&[EpochReport], _)| {
                        let epochs = epochs.iter().filter(|e| e.stage == stage);
                        let each = advantages(epochs, cells, others);
                        (!each.is_empty()).then(|| mean(&each))
                    };
                    let better: Vec<f64> = searches.iter().filter_map(one).collect();
                    contests.push(Self {
                        layers: layers[range.clone()]
                            .iter()
                            .map(|l| l.layer.clone())
                            .collect(),
                        cells: cells.clone(),
                        seeds: seeds.clone(),
                        others: others.clone(),
                        other_seeds: other_seeds.clone(),
                        t: over_error(&better),
                        better,
                    });
                }
            }
        }
        contests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{LayerWeights, Phase, SearchConfig, Together};
    use CellKind::{Decomposition as DC, MultiScale as MS};

    /// A stage of two cells whose networks [DC, MS] are worse by this much than [MS, DC], a little more or less in each epoch.
    fn search(worse: f64) -> Vec<EpochReport> {
        let space = SearchConfig::load(None, &[]).unwrap().space();
        let layers = ["ffm.cell0", "ffm.cell1"].map(|name| LayerWeights::uniform(name, &space));
        let group = |cells: [CellKind; 2], mean| Together {
            cells: cells.into(),
            draws: 20,
            mean,
            std: 0.1,
        };
        let one = |epoch: u64| EpochReport {
            stage: 1,
            epoch,
            epochs: 6,
            round: epoch,
            rounds: 6,
            phase: Phase::Cells,
            steps: 13,
            lr: 1e-3,
            train: 1.0,
            val: Some(1.0),
            lat: 1.0,
            lambda: 0.0,
            alpha_entropy: 1.0,
            beta_entropy: 1.0,
            gradients: Vec::new(),
            together: vec![
                group([MS, DC], 0.0),
                group([DC, MS], worse + 1e-3 * (epoch % 2) as f64),
            ],
            layers: layers.to_vec(),
        };
        (1..=6).map(one).collect()
    }

    fn contest(searches: &[(f64, [CellKind; 2])]) -> Vec<Contest> {
        let of = |&(worse, cells): &(f64, [CellKind; 2])| {
            let mut found = crate::infer::Model::builtin("ivif").unwrap().genotype;
            found.ffm.truncate(2);
            for (gene, cell) in found.ffm.iter_mut().zip(cells) {
                gene.cell = cell;
            }
            (search(worse), found)
        };
        let all: Vec<_> = searches.iter().map(of).collect();
        let all: Vec<_> = all.iter().map(|(e, g)| (&e[..], g)).collect();
        Contest::of(&all)
    }

    /// Each seed is sure by its own epochs, and they contradict each other.
    #[test]
    fn seeds_that_contradict_each_other_are_a_near_tie() {
        let all = contest(&[(0.018, [MS, DC]), (0.012, [MS, DC]), (-0.008, [DC, MS])]);
        let [one] = &all[..] else { panic!("{all:?}") };
        assert_eq!(one.layers, ["ffm.cell0", "ffm.cell1"]);
        assert_eq!(
            (&one.seeds[..], &one.other_seeds[..]),
            (&[2][..], &[0, 1][..])
        );
        assert_eq!(one.better.len(), 3);
        assert!(one.near_tie(), "{one:?}");
    }

    #[test]
    fn what_all_seeds_say_is_none() {
        // The third seed chose against its own record, and against that of the others.
        let all = contest(&[(0.018, [MS, DC]), (0.016, [MS, DC]), (0.017, [DC, MS])]);
        assert!(!all[0].near_tie(), "{all:?}");
        assert!(all[0].mean() < 0.0 && all[0].t.unwrap() < -10.0, "{all:?}");
        assert_eq!(contest(&[(0.018, [MS, DC]), (0.01, [MS, DC])]), []);
    }
}
