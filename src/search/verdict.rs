//! What a search can say of its own decisions.

use super::architecture::{LayerWeights, best_but, count, entropy};
use super::config::SearchConfig;
use super::schedule::Phase;
use super::searcher::EpochReport;
use crate::net::{CellGene, CellKind, Genotype, OpKind, alpha_name, beta_name};
use crate::stats::{mean, mean_error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Ratio of the softmax weights of best and second below which a decision is a near tie.
pub const TIE: f64 = 1.25;
/// t below which chance may have made a decision.
pub const SIGNIFICANT: f64 = 2.0;
/// Gain below which other initial weights may decide otherwise: twice the spread of one and the same gain over seeds
/// (docs/decisions/search.md, 71).
pub const TIE_GAIN: f64 = 0.02;
/// Softmax weight below which a candidate is drawn too seldom to be compared.
const KNOWN: f64 = 0.05;
/// Share of a stage within which a decision that moves no more was made by weights that had hardly learnt.
const EARLY: f64 = 0.1;
/// Share of the final margin that such a decision has by then.
const FROZEN: f64 = 0.8;
/// Logits that a schedule should be able to move.
pub const TRAVEL: f64 = 3.0;

/// A cell, or the operator of a block of the chosen cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// `ffm.cell0`, `ffm.cell0 block 1`.
    pub place: String,
    /// The choice, and the likeliest other candidate.
    pub best: String,
    /// Likeliest other candidate.
    pub second: String,
    /// Their softmax weights.
    pub weights: [f64; 2],
    /// Entropy as a share of that of equal weights.
    pub entropy: f64,
    /// Sum over the rounds of the gradient of the second less that of the best, by its standard error: above 0 L_val + lambda LAT wants
    /// the best, on the patches of L_val and beside what the other places chose. `None` with fewer than three rounds, or without spread.
    pub t: Option<f64>,
    /// How much less L_val + lambda LAT is with the best than with the second, as a share of L_val: mean over the inner epochs that
    /// knew both, and its standard error. `None` if fewer than three did.
    #[serde(default)]
    pub gain: Option<[f64; 2]>,
    /// Inner epochs of the stage after which the best was the best to the end.
    pub decided: u64,
    /// Inner epochs of the stage.
    pub epochs: u64,
    /// Whether another candidate was ahead after the first round that moved it.
    pub moved: bool,
}

impl Decision {
    /// Whether `latency.target` chose it, and another one is likelier.
    pub fn for_time(&self) -> bool {
        self.weights[0] < self.weights[1]
    }

    /// Whether the other candidate would do as well: hardly behind, or behind by chance.
    pub fn near_tie(&self) -> bool {
        if self.for_time() {
            return false;
        }
        let [best, second] = self.weights;
        best < TIE * second
            || self.t.is_some_and(|t| t < SIGNIFICANT)
            || self.gain.is_some_and(|[gain, _]| gain < TIE_GAIN)
    }
}

/// All decisions, and what is to be said against them, one line each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Cells and operators that were chosen, in order of the layers.
    pub decisions: Vec<Decision>,
    /// What is to be said against them, one line each.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Of the inner epochs on record, the last of which has the final weights, and of the network that was found; `None`: that of
    /// the largest weights, as it would be without `latency.target`.
    pub fn of(config: &SearchConfig, epochs: &[EpochReport], found: Option<&Genotype>) -> Self {
        let Some(last) = epochs.last() else {
            return Self::default();
        };
        let space = config.space();
        let several = |candidates: &[bool]| count(candidates) > 1;
        let chosen: Vec<CellGene> = match found {
            Some(found) => found.cells().map(|(_, gene)| gene.clone()).collect(),
            None => last.layers.iter().map(LayerWeights::chosen).collect(),
        };
        let mut decisions = Vec::new();
        let mut warnings = Vec::new();
        for (layer, gene) in last.layers.iter().zip(&chosen) {
            let history = History::of(&layer.layer, epochs);
            let kind = gene.cell as usize;
            let beta = beta_name(&layer.layer);
            let cells = CellKind::ALL.map(CellKind::name);
            if several(&space.kinds) {
                let place = Softmax {
                    place: &layer.layer,
                    param: &beta,
                    names: &cells,
                    of: Of::Cell,
                };
                decisions.extend(history.decide(&place, kind, &mut warnings));
            }
            let blocks = match several(&space.operators) {
                true => layer.alpha[kind].len(),
                false => 0,
            };
            for (block, &operator) in gene.blocks.iter().enumerate().take(blocks) {
                let place = format!("{} block {block}", layer.layer);
                let alpha = alpha_name(&layer.layer, CellKind::ALL[kind], block);
                let ops = OpKind::ALL.map(OpKind::name);
                let place = Softmax {
                    place: &place,
                    param: &alpha,
                    names: &ops,
                    of: Of::Block(kind, block),
                };
                decisions.extend(history.decide(&place, operator as usize, &mut warnings));
            }
        }
        let mut kinds = chosen.iter().map(|gene| gene.cell);
        if let Some(first) = kinds.next()
            && last.layers.len() > 1
            && several(&space.kinds)
            && kinds.all(|c| c == first)
        {
            warnings.push(format!(
                "all cells alike: every layer chose {}",
                first.name()
            ));
        }
        warnings.extend(short_travel(config, last.steps));
        Self {
            decisions,
            warnings,
        }
    }
}

/// What a schedule cannot move far enough to decide.
fn short_travel(config: &SearchConfig, batches: u64) -> Vec<String> {
    let schedule = config.schedule();
    let mut warnings = Vec::new();
    for stage in 1..=schedule.stages() {
        for &phase in schedule.phases() {
            let epochs = schedule.epochs_of(stage, phase);
            let steps = config.architecture_steps(phase, epochs, batches);
            let travel = config.architecture_rate(steps) * steps as f64;
            if epochs > 0 && travel < TRAVEL {
                let what = match phase {
                    Phase::Cells => "beta",
                    Phase::Operators => "alpha",
                    Phase::Weights | Phase::Both => "alpha and beta",
                };
                warnings.push(format!(
                    "short travel: stage {stage} can move {what} by {travel:.2} logits at most, a decision wants {TRAVEL}; raise \
                     architecture.travel or architecture.lr"
                ));
            }
        }
    }
    warnings
}

/// Where a choice is made.
struct Softmax<'a> {
    /// As [`Decision::place`].
    place: &'a str,
    /// The architecture parameter, and the names of its candidates.
    param: &'a str,
    names: &'a [&'a str],
    of: Of,
}

/// A cell, or a block of a kind of cell.
#[derive(Clone, Copy)]
enum Of {
    Cell,
    Block(usize, usize),
}

impl Of {
    /// The candidates' softmax weights.
    fn weights(self, layer: &LayerWeights) -> &Vec<f64> {
        match self {
            Of::Cell => &layer.beta,
            Of::Block(kind, block) => &layer.alpha[kind][block],
        }
    }

    /// That of the cell that they are within.
    fn within(self, layer: &LayerWeights) -> f64 {
        match self {
            Of::Cell => 1.0,
            Of::Block(kind, _) => layer.beta[kind],
        }
    }
}

/// The inner epochs of the stage that searched a layer.
struct History<'a> {
    epochs: Vec<(&'a EpochReport, &'a LayerWeights)>,
}

impl<'a> History<'a> {
    fn of(layer: &str, epochs: &'a [EpochReport]) -> Self {
        // Later stages repeat a layer as it was left.
        let find = |e: &'a EpochReport| Some((e, e.layers.iter().find(|l| l.layer == layer)?));
        let all: Vec<_> = epochs.iter().filter_map(find).collect();
        let stage = all.first().map_or(0, |(e, _)| e.stage);
        Self {
            epochs: all.into_iter().filter(|(e, _)| e.stage == stage).collect(),
        }
    }

    /// How much less the loss is with one candidate than with another, as a share of L_val: mean over the inner epochs that knew both,
    /// and its standard error. `None` if fewer than three did.
    ///
    /// With softmax weights `p` of candidates whose losses are `l`, within a cell of weight `P`, the gradient of the expected loss
    /// for the i-th logit is `P p_i (l_i - sum_j p_j l_j)`, so that `l_j - l_i = (g_j / p_j - g_i / p_i) / P`. Of a mix it is the
    /// same to first order.
    fn gain(&self, param: &str, of: Of, (i, j): (usize, usize)) -> Option<[f64; 2]> {
        let one = |pair: &[(&EpochReport, &LayerWeights)]| {
            let ([(_, before), (epoch, _)], Some(val)) = (pair, pair[1].0.val) else {
                return None;
            };
            let gradient = epoch.gradients.iter().find(|g| g.name == param)?;
            let (p, within) = (of.weights(before), of.within(before));
            let per = |k: usize| gradient.mean[k] / p[k];
            let known = p[i].min(p[j]) >= KNOWN && within >= KNOWN;
            known.then(|| (per(j) - per(i)) / within / val)
        };
        let each: Vec<f64> = self.epochs.windows(2).filter_map(one).collect();
        mean_error(&each).filter(|_| each.len() > 2)
    }

    /// What was chosen of a softmax; `None` if nothing is on record.
    fn decide(
        &self,
        of: &Softmax<'_>,
        best: usize,
        warnings: &mut Vec<String>,
    ) -> Option<Decision> {
        let (place, names) = (of.place, of.names);
        let (_, last) = self.epochs.last()?;
        let weights = of.of.weights(last);
        let second = best_but(weights, Some(best))?;
        let ahead = |l: &LayerWeights| best_but(of.of.weights(l), None);
        let wrong = self
            .epochs
            .iter()
            .rposition(|(_, l)| ahead(l) != Some(best));
        let decided = wrong.map_or(0, |i| i as u64 + 1);

        // Of the rounds that moved it: what their inner epochs said, and the weights after the last of these.
        let mut rounds: BTreeMap<u64, (Vec<Said>, &Vec<f64>)> = BTreeMap::new();
        for (epoch, layer) in &self.epochs {
            if let Some(g) = epoch.gradients.iter().find(|g| g.name == of.param) {
                let now = of.of.weights(layer);
                let round = rounds.entry(epoch.round).or_insert((Vec::new(), now));
                let batches = (epoch.steps as f64).sqrt();
                round.0.push(Said {
                    gradient: g.mean[second] - g.mean[best],
                    error: (g.std[second] + g.std[best]) / batches,
                });
                round.1 = now;
            }
        }
        let (said, moved_by): (Vec<_>, Vec<_>) = rounds.into_values().unzip();
        let t = significance(&said);
        let gain = self.gain(of.param, of.of, (best, second));
        let decision = Decision {
            place: place.into(),
            best: names[best].into(),
            second: names[second].into(),
            weights: [weights[best], weights[second]],
            entropy: entropy(weights, weights.iter().filter(|&&w| w > 0.0).count()),
            t,
            gain,
            decided,
            epochs: self.epochs.len() as u64,
            moved: moved_by.first().and_then(|w| best_but(w, None)) != Some(best),
        };
        let [p, q] = decision.weights;
        let pair = format!("{} {p:.3}, {} {q:.3}", decision.best, decision.second);
        if decision.for_time() {
            warnings.push(format!("chosen for its time: {place}: {pair}"));
        } else if decision.near_tie() {
            let t = t.map_or(String::new(), |t| format!(", t {t:.1}"));
            let gain = gain.map_or(String::new(), |[gain, error]| {
                format!(", gain {:.2} ± {:.2} %", 100.0 * gain, 100.0 * error)
            });
            warnings.push(format!("near tie: {place}: {pair}{t}{gain}"));
        } else if let Some(after) = frozen(&moved_by, best, second) {
            warnings.push(format!(
                "decided early: {place}: {pair}, and {after} of {} rounds had made it",
                moved_by.len()
            ));
        }
        Some(decision)
    }
}

/// Mean gain of one cell over another at a layer, see [`Decision::gain`]; `None` without three inner epochs that knew both.
pub(super) fn gain_of_cells(
    epochs: &[EpochReport],
    layer: &str,
    (first, second): (CellKind, CellKind),
) -> Option<f64> {
    let history = History::of(layer, epochs);
    let pair = (first as usize, second as usize);
    let gain = history.gain(&beta_name(layer), Of::Cell, pair);
    gain.map(|[mean, _]| mean)
}

/// The gradient of the second less that of the best, in an inner epoch, and its standard error by the batches.
struct Said {
    gradient: f64,
    error: f64,
}

/// The sum over the rounds of their mean gradients, by its standard error: that of a round is taken from the spread of its inner
/// epochs, between which nothing is decided, or from that of batches where it has one. Early rounds have larger gradients than late
/// ones, where little is left to decide, so the spread over rounds is no error.
fn significance(rounds: &[Vec<Said>]) -> Option<f64> {
    let (mut sum, mut variance) = (0.0, 0.0);
    for round in rounds {
        let gradients: Vec<f64> = round.iter().map(|s| s.gradient).collect();
        sum += mean(&gradients);
        variance += match mean_error(&gradients) {
            Some([_, error]) => error * error,
            None => round.iter().map(|s| s.error * s.error).sum::<f64>(),
        };
    }
    (rounds.len() > 2 && variance > 0.0).then(|| sum / variance.sqrt())
}

/// After how many of these rounds, if early, a decision had most of its final margin.
fn frozen(weights: &[&Vec<f64>], best: usize, second: usize) -> Option<usize> {
    let margin = |w: &&Vec<f64>| (w[best] / w[second]).ln();
    let last = margin(weights.last()?);
    // What has no margin is a near tie.
    if weights.len() < 4 || last < TIE.ln() {
        return None;
    }
    let early = ((weights.len() as f64 * EARLY).ceil() as usize).max(1);
    let at = weights.iter().position(|w| margin(w) >= FROZEN * last)? + 1;
    (at <= early).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Gradient;

    /// A stage of ten inner epochs for beta of `ffm.cell0` and `ffm.cell1`, of which each has these weights, and the gradients of
    /// the first two cells.
    fn stage(epochs: &[([f64; 3], [f64; 2])], second: [f64; 3], noise: f64) -> Vec<EpochReport> {
        let mut space = SearchConfig::load(None, &[]).unwrap().space();
        space.blocks = 1;
        let layer = |name: &str, beta: [f64; 3]| LayerWeights {
            beta: beta.to_vec(),
            ..LayerWeights::uniform(name, &space)
        };
        let one = |(i, (beta, gradient)): (usize, &([f64; 3], [f64; 2]))| EpochReport {
            stage: 1,
            epoch: i as u64 + 1,
            epochs: epochs.len() as u64,
            round: i as u64 + 1,
            rounds: epochs.len() as u64,
            phase: Phase::Cells,
            steps: 13,
            lr: 1e-3,
            train: 1.0,
            val: Some(1.0),
            lat: 1.0,
            lambda: 0.02,
            alpha_entropy: 1.0,
            beta_entropy: 1.0,
            gradients: vec![Gradient {
                name: "beta.ffm.cell0".into(),
                mean: vec![gradient[0], gradient[1], 0.0],
                std: vec![0.0, noise * 13f64.sqrt(), 0.0],
            }],
            layers: vec![layer("ffm.cell0", *beta), layer("ffm.cell1", second)],
        };
        epochs.iter().enumerate().map(one).collect()
    }

    fn softmax(logits: [f64; 3]) -> [f64; 3] {
        let e = logits.map(f64::exp);
        e.map(|v| v / e.iter().sum::<f64>())
    }

    /// Of the cell of `ffm.cell0` alone: blocks have equal weights here.
    fn said(epochs: &[EpochReport]) -> (Decision, Vec<String>) {
        let verdict = Verdict::of(&SearchConfig::load(None, &[]).unwrap(), epochs, None);
        let of_cell = |w: &String| !w.contains("block") && !w.contains("ffm.cell1");
        let warnings = verdict.warnings.iter().filter(|w| of_cell(w)).cloned();
        (verdict.decisions[0].clone(), warnings.collect())
    }

    /// The logit of the best grows by this much in each of twelve rounds; its gradient is steady but for `noise`.
    fn grown(by: impl Fn(usize) -> f64, noise: f64) -> Vec<EpochReport> {
        let one = |i: usize| (softmax([0.0, by(i), -1.0]), [0.1, -0.1]);
        stage(
            &(1..=12).map(one).collect::<Vec<_>>(),
            [0.8, 0.1, 0.1],
            noise,
        )
    }

    #[test]
    fn a_decision_that_grows_steadily_is_not_warned_of() {
        let (decision, warnings) = said(&grown(|i| 0.2 * i as f64 - 0.5, 0.02));
        assert_eq!(warnings, [""; 0]);
        assert_eq!(
            (decision.best.as_str(), decision.second.as_str()),
            ("DC", "SC")
        );
        assert!(decision.t.unwrap() > 20.0, "{decision:?}");
        // -0.3, -0.1, 0.1: ahead from the third on.
        assert_eq!(
            (decision.decided, decision.epochs, decision.moved),
            (2, 12, true)
        );
    }

    #[test]
    fn what_is_planted_is_warned_of() {
        let one = |epochs: &[EpochReport], what: &str| {
            let (_, warnings) = said(epochs);
            assert_eq!(warnings.len(), 1, "{what}: {warnings:?}");
            assert!(warnings[0].starts_with(what), "{warnings:?}");
        };
        one(
            &grown(|i| 0.01 * i as f64, 0.02),
            "near tie: ffm.cell0: DC ",
        );
        one(&grown(|i| 0.2 * i as f64, 2.0), "near tie: ffm.cell0: DC ");
        // As steady, but of a loss that is hardly another one: 1 % of L_val where the weights are even.
        let mut small = grown(|i| 0.2 * i as f64 - 0.5, 1e-4);
        for epoch in &mut small {
            epoch.gradients[0].mean = vec![0.0015, -0.0015, 0.0];
        }
        one(&small, "near tie: ffm.cell0: DC ");
        assert!(said(&small).0.t.unwrap() > 20.0);
        one(&grown(|_| 2.0, 0.02), "decided early: ffm.cell0: DC ");
        let mut alike = grown(|i| 0.2 * i as f64 - 0.5, 0.02);
        for epoch in &mut alike {
            epoch.layers[1].beta = vec![0.1, 0.8, 0.1];
        }
        one(&alike, "all cells alike: every layer chose DC");
    }

    /// What findings said of every search on record: DARTS' rate cannot decide in 780 steps.
    #[test]
    fn a_schedule_that_cannot_decide_is_warned_of() {
        let travel = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|k| k.to_string()).collect();
            short_travel(&SearchConfig::load(None, &keys).unwrap(), 13)
        };
        let old = travel(&["architecture.travel=0", "architecture.average=1"]);
        assert_eq!(old.len(), 4, "{old:?}");
        assert!(
            old[0].contains("stage 1 can move beta by 0.23 logits"),
            "{old:?}"
        );
        assert_eq!(travel(&[]), [""; 0]);
        assert_eq!(travel(&["epochs.n=4", "epochs.m=2"]), [""; 0]);
        assert_eq!(travel(&["architecture.travel=2"]).len(), 4);
    }
}
