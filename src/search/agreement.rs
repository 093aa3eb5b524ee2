//! Where the same search from several seeds agrees.

use super::searcher::EpochReport;
use super::verdict::{SIGNIFICANT, TIE_GAIN, gain_of_cells};
use crate::net::{CellKind, Genotype};
use crate::stats::mean_error;
use serde::Serialize;

/// Two cells that seeds of a search chose at one place, and what all seeds say of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Contest {
    /// Name of the layer.
    pub place: String,
    /// A cell, and the places of the seeds that chose it in the list of searches.
    pub first: CellKind,
    pub first_seeds: Vec<usize>,
    /// Another one.
    pub second: CellKind,
    pub second_seeds: Vec<usize>,
    /// [Gain](crate::search::Decision::gain) of the first over the second, of each search.
    pub gains: Vec<Option<f64>>,
    /// Their mean and its standard error over the searches. The error of a single search does not know what other initial weights
    /// would do. `None` with fewer than two.
    pub gain: Option<[f64; 2]>,
}

impl Contest {
    /// Whether either would do.
    pub fn near_tie(&self) -> bool {
        let tie = |[gain, error]: [f64; 2]| gain.abs() < f64::max(TIE_GAIN, SIGNIFICANT * error);
        self.gain.is_some_and(tie)
    }

    /// All pairs of cells in which these searches differ.
    pub fn of(searches: &[(&[EpochReport], &Genotype)]) -> Vec<Self> {
        let Some((_, first)) = searches.first() else {
            return Vec::new();
        };
        let mut contests = Vec::new();
        for (layer, (place, _)) in first.cells().enumerate() {
            let cell = |found: &Genotype| found.cells().nth(layer).map(|(_, gene)| gene.cell);
            let seeds = |kind: CellKind| -> Vec<usize> {
                let all = searches.iter().enumerate();
                all.filter(|(_, (_, found))| cell(found) == Some(kind))
                    .map(|(seed, _)| seed)
                    .collect()
            };
            let chosen = CellKind::ALL.map(|kind| (kind, seeds(kind)));
            let chosen: Vec<_> = chosen.into_iter().filter(|(_, s)| !s.is_empty()).collect();
            for (i, (first, first_seeds)) in chosen.iter().enumerate() {
                for (second, second_seeds) in &chosen[i + 1..] {
                    let gain = |epochs| gain_of_cells(epochs, &place, (*first, *second));
                    let gains: Vec<_> = searches.iter().map(|(epochs, _)| gain(epochs)).collect();
                    let known: Vec<f64> = gains.iter().flatten().copied().collect();
                    contests.push(Self {
                        place: place.clone(),
                        first: *first,
                        first_seeds: first_seeds.clone(),
                        second: *second,
                        second_seeds: second_seeds.clone(),
                        gains,
                        gain: mean_error(&known),
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
    use crate::search::{Gradient, LayerWeights, Phase, SearchConfig};
    use CellKind::{Decomposition as DC, MultiScale as MS};

    /// Six inner epochs of equal weights, in which DC is worse than MS by this share of L_val, a little more or less.
    fn search(worse: f64) -> Vec<EpochReport> {
        let space = SearchConfig::load(None, &[]).unwrap().space();
        let layers = ["ffm.cell0", "ffm.cell1"].map(|name| LayerWeights::uniform(name, &space));
        let one = |epoch: u64| {
            let loss = 2.0 * (worse + 1e-3 * (epoch % 2) as f64);
            let gradient = |name: &str| Gradient {
                name: format!("beta.{name}"),
                // p_i (l_i - sum of p_j l_j), of l = (1, loss, 0) and p = 1/3.
                mean: [1.0, loss, 0.0]
                    .map(|l| (l - (1.0 + loss) / 3.0) / 3.0)
                    .to_vec(),
                std: vec![0.1; 3],
            };
            EpochReport {
                stage: 1,
                epoch,
                epochs: 6,
                round: epoch,
                rounds: 6,
                phase: Phase::Cells,
                steps: 13,
                lr: 1e-3,
                train: 1.0,
                val: Some(2.0),
                lat: 1.0,
                lambda: 0.0,
                alpha_entropy: 1.0,
                beta_entropy: 1.0,
                gradients: ["ffm.cell0", "ffm.cell1"].map(gradient).to_vec(),
                layers: layers.to_vec(),
            }
        };
        (1..=6).map(one).collect()
    }

    fn contests(searches: &[(f64, [CellKind; 2])]) -> Vec<Contest> {
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
        let all = contests(&[(0.05, [MS, DC]), (0.04, [MS, DC]), (-0.03, [DC, DC])]);
        let [one] = &all[..] else { panic!("{all:?}") };
        assert_eq!(one.place, "ffm.cell0");
        assert_eq!((one.first, &one.first_seeds[..]), (DC, &[2][..]));
        assert_eq!((one.second, &one.second_seeds[..]), (MS, &[0, 1][..]));
        // Five epochs know the weights before them, of which three are even: 0.0004 on average.
        assert!((one.gains[0].unwrap() + 0.0504).abs() < 1e-9, "{one:?}");
        assert!(one.near_tie(), "{one:?}");
    }

    #[test]
    fn what_all_seeds_say_is_none() {
        // The third seed chose against its own record, and against that of the others.
        let all = contests(&[(0.05, [MS, DC]), (0.04, [MS, DC]), (0.045, [DC, DC])]);
        assert!(!all[0].near_tie(), "{all:?}");
        assert_eq!(contests(&[(0.05, [MS, DC]), (0.04, [MS, DC])]), []);
        // As little as this may be otherwise for other seeds.
        let all = contests(&[(0.015, [MS, DC]), (0.014, [DC, DC])]);
        assert!(all[0].near_tie(), "{all:?}");
    }
}
