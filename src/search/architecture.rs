//! The architecture parameters of a supernet as numbers.

use crate::net::{
    CellGene, CellKind, FrameGene, Genotype, GuidedFilterGene, OpKind, SearchSpace, alpha_name,
    beta_name,
};
use crate::stats::mean;
use crate::tape::ParamStore;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The softmax of the architecture parameters of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerWeights {
    /// Name of the layer, e.g. `ffm.cell0`.
    pub layer: String,
    /// For each of [`CellKind::ALL`].
    pub beta: Vec<f64>,
    /// For each of [`CellKind::ALL`], each block and each of [`OpKind::ALL`].
    pub alpha: Vec<Vec<Vec<f64>>>,
}

impl LayerWeights {
    /// Reads alpha and beta of a layer; what is no candidate has weight 0.
    pub fn read(store: &ParamStore, layer: &str, space: &SearchSpace) -> Result<Self> {
        let get = |name: String, of: &[bool]| -> Result<Vec<f64>> {
            Ok(spread(&softmax(&store.get(&name)?.to_f64()), of))
        };
        let alpha = CellKind::ALL.map(|cell| match space.kinds[cell as usize] {
            true => {
                let blocks = (0..space.blocks).map(|i| alpha_name(layer, cell, i));
                let blocks = blocks.map(|name| get(name, &space.operators));
                blocks.collect::<Result<Vec<_>>>()
            }
            false => Ok(vec![equal(&space.operators); space.blocks]),
        });
        Ok(Self {
            layer: layer.to_string(),
            beta: get(beta_name(layer), &space.kinds)?,
            alpha: alpha.into_iter().collect::<Result<_>>()?,
        })
    }

    /// Equal weights of all candidates.
    pub fn uniform(layer: &str, space: &SearchSpace) -> Self {
        Self {
            layer: layer.to_string(),
            beta: equal(&space.kinds),
            alpha: vec![vec![equal(&space.operators); space.blocks]; CellKind::ALL.len()],
        }
    }

    /// All weights to a power, and their sums 1 again.
    pub fn sharpened(&self, power: f64) -> Self {
        self.each(|v| {
            let raised: Vec<f64> = v.iter().map(|w| w.powf(power)).collect();
            let sum: f64 = raised.iter().sum();
            raised.into_iter().map(|w| w / sum).collect()
        })
    }

    /// All weights with this share of equal ones.
    pub fn evened(&self, share: f64) -> Self {
        self.each(|v| {
            let there: Vec<bool> = v.iter().map(|&w| w > 0.0).collect();
            let both = v.iter().zip(equal(&there));
            both.map(|(w, e)| (1.0 - share) * w + share * e).collect()
        })
    }

    fn each(&self, of: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        let alpha = self.alpha.iter();
        Self {
            layer: self.layer.clone(),
            beta: of(&self.beta),
            alpha: alpha
                .map(|blocks| blocks.iter().map(|a| of(a)).collect())
                .collect(),
        }
    }

    /// The cell of the largest beta with the operators of its largest alphas; the first of equals.
    pub fn chosen(&self) -> CellGene {
        let best = |v: &[f64]| best_but(v, None).unwrap_or(0);
        let cell = best(&self.beta);
        CellGene {
            cell: CellKind::ALL[cell],
            blocks: self.alpha[cell]
                .iter()
                .map(|a| OpKind::ALL[best(a)])
                .collect(),
        }
    }

    /// Entropy of beta as a share of that of equal weights: 1 undecided, 0 decided.
    pub fn beta_entropy(&self, space: &SearchSpace) -> f64 {
        entropy(&self.beta, count(&space.kinds))
    }

    /// Mean over all blocks of all candidate cells of the entropy of alpha, as [`LayerWeights::beta_entropy`].
    pub fn alpha_entropy(&self, space: &SearchSpace) -> f64 {
        let cells = self
            .alpha
            .iter()
            .zip(space.kinds)
            .filter(|(_, there)| *there);
        let n = count(&space.operators);
        let each: Vec<f64> = cells.flat_map(|(a, _)| a).map(|a| entropy(a, n)).collect();
        mean(&each)
    }
}

/// The network that the weights of all layers choose, in the order of
/// [`layer_names`](crate::net::layer_names); `None` unless there are rows and a cell of the FFM at least.
pub fn derive(channels: usize, frame: FrameGene, layers: &[LayerWeights]) -> Option<Genotype> {
    let [ffm @ .., target, detail] = layers else {
        return None;
    };
    (!ffm.is_empty()).then(|| Genotype {
        version: Genotype::VERSION,
        channels,
        ffm: ffm.iter().map(LayerWeights::chosen).collect(),
        target: target.chosen(),
        detail: detail.chosen(),
        guided_filter: GuidedFilterGene::default(),
        frame,
    })
}

/// A cell and its operators in a few characters: `MS(3-RB 3-DC)`.
pub fn brief(gene: &CellGene) -> String {
    let blocks: Vec<&str> = gene.blocks.iter().map(|b| b.name()).collect();
    format!("{}({})", gene.cell.name(), blocks.join(" "))
}

/// Values of the candidates as values of all, 0 for the others.
pub(super) fn spread(values: &[f64], candidates: &[bool]) -> Vec<f64> {
    let mut values = values.iter();
    let of = |&there: &bool| match there {
        true => values.next().copied().unwrap_or(0.0),
        false => 0.0,
    };
    candidates.iter().map(of).collect()
}

fn equal(candidates: &[bool]) -> Vec<f64> {
    let n = count(candidates);
    spread(&vec![1.0 / n as f64; n], candidates)
}

fn softmax(v: &[f64]) -> Vec<f64> {
    let max = v.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
    let exp: Vec<f64> = v.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

/// The index of the largest value, without that of one index; the first of equals.
pub(super) fn best_but(values: &[f64], not: Option<usize>) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, &v) in values.iter().enumerate() {
        if Some(i) != not && best.is_none_or(|b| v > values[b]) {
            best = Some(i);
        }
    }
    best
}

/// As a share of that of `candidates` equal weights; 0 of a single one.
pub(super) fn entropy(p: &[f64], candidates: usize) -> f64 {
    let sum: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| p * p.ln()).sum();
    match candidates {
        0 | 1 => 0.0,
        n => -sum / (n as f64).ln(),
    }
}

/// How many of these are candidates.
pub(super) fn count(candidates: &[bool]) -> usize {
    candidates.iter().filter(|&&there| there).count()
}

/// Weights of all these layers.
pub fn read_layers(
    store: &ParamStore,
    layers: &[String],
    space: &SearchSpace,
) -> Result<Vec<LayerWeights>> {
    let read = |layer: &String| LayerWeights::read(store, layer, space);
    let weights = layers.iter().map(read).collect::<Result<Vec<_>>>()?;
    let all = |w: &LayerWeights| {
        w.alpha
            .iter()
            .flatten()
            .flatten()
            .chain(&w.beta)
            .all(|v| v.is_finite())
    };
    match weights.iter().find(|w| !all(w)) {
        Some(w) => Err(Error::Diverged(format!(
            "alpha or beta of {} is no longer finite; start another search with a lower architecture.lr",
            w.layer
        ))),
        None => Ok(weights),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_is_chosen_and_entropy_is_a_share() {
        let weights = LayerWeights {
            layer: "ffm.cell0".into(),
            beta: softmax(&[0.0, 2.0, 2.0]),
            alpha: vec![
                vec![
                    softmax(&[0.0; 10]),
                    softmax(&[1e4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1e4])
                ];
                3
            ],
        };
        assert_eq!(brief(&weights.chosen()), "DC(3-SC 3-SC)");
        let space = crate::search::SearchConfig::load(None, &[])
            .unwrap()
            .space();
        assert!(
            (weights.alpha_entropy(&space) - 0.5 * (1.0 + 2f64.ln() / 10f64.ln())).abs() < 1e-12
        );
        assert!(weights.beta_entropy(&space) < 1.0);
        assert_eq!(entropy(&softmax(&[1e4, 0.0, 0.0]), 3), 0.0);
        // Three equal ones of ten are undecided, a single one is decided.
        let third = 1.0 / 3.0;
        assert!((entropy(&[third, 0.0, third, third], 3) - 1.0).abs() < 1e-12);
        assert_eq!(entropy(&[0.0, 1.0], 1), 0.0);
    }
}
