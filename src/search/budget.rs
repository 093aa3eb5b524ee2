//! The most likely network within a time.

use super::architecture::LayerWeights;
use super::latency::LatencyTable;
use crate::Result;
use crate::net::{CellGene, CellKind, OpKind};

/// Some of the choices of some layers: what they take and how likely they are.
#[derive(Clone, Debug)]
struct Choice {
    ms: f64,
    /// Sum of the logarithms of the softmax weights.
    likelihood: f64,
    genes: Vec<CellGene>,
}

/// The choice of cells and operators of all `layers` that takes at most `most_ms` and has the largest product of softmax weights;
/// without a limit that matters, each layer's arg-max. `None` if even the fastest takes longer.
///
/// Exact: of all choices of the first layers only those are kept that no other one beats in both time and likelihood.
///
/// # Errors
/// Those of the table.
pub fn most_likely(
    layers: &[LayerWeights],
    table: &LatencyTable,
    most_ms: f64,
) -> Result<Option<Vec<CellGene>>> {
    let mut front = vec![Choice {
        ms: 0.0,
        likelihood: 0.0,
        genes: Vec::new(),
    }];
    for layer in layers {
        let options = options(layer, table)?;
        let both = front.iter().flat_map(|before| {
            options.iter().map(|option| Choice {
                ms: before.ms + option.ms,
                likelihood: before.likelihood + option.likelihood,
                genes: [&before.genes[..], &option.genes[..]].concat(),
            })
        });
        front = unbeaten(both.filter(|c| c.ms <= most_ms).collect());
    }
    let best = front
        .into_iter()
        .max_by(|a, b| a.likelihood.total_cmp(&b.likelihood));
    Ok(best.map(|c| c.genes))
}

/// Milliseconds of the fastest choice of all layers.
///
/// # Errors
/// Those of the table.
pub fn fastest_ms(layers: &[LayerWeights], table: &LatencyTable) -> Result<f64> {
    let each = layers.iter().map(|layer| {
        let options = options(layer, table)?;
        Ok(options.iter().map(|o| o.ms).fold(f64::INFINITY, f64::min))
    });
    each.sum()
}

/// The unbeaten choices of one layer.
fn options(layer: &LayerWeights, table: &LatencyTable) -> Result<Vec<Choice>> {
    let mut all = Vec::new();
    for (k, cell) in CellKind::ALL.into_iter().enumerate() {
        let times = table.block_ms(cell)?;
        let mut choices = vec![Choice {
            ms: table.fixed_ms(cell)?,
            likelihood: layer.beta[k].ln(),
            genes: vec![CellGene {
                cell,
                blocks: Vec::new(),
            }],
        }];
        for alpha in &layer.alpha[k] {
            let mut longer = Vec::new();
            for choice in &choices {
                for ((kind, ms), a) in OpKind::ALL.into_iter().zip(times).zip(alpha) {
                    let mut next = choice.clone();
                    next.ms += ms;
                    next.likelihood += a.ln();
                    next.genes[0].blocks.push(kind);
                    longer.push(next);
                }
            }
            choices = unbeaten(longer);
        }
        all.extend(choices);
    }
    Ok(unbeaten(all))
}

/// Those that no other one beats in both: by time, each more likely than all before it.
fn unbeaten(mut all: Vec<Choice>) -> Vec<Choice> {
    // Of equal times the likelier first; a stable sort keeps the first of equals.
    all.sort_by(|a, b| {
        a.ms.total_cmp(&b.ms)
            .then(b.likelihood.total_cmp(&a.likelihood))
    });
    let mut most = f64::NEG_INFINITY;
    all.retain(|c| {
        let better = c.likelihood > most;
        most = most.max(c.likelihood);
        better
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::search::architecture::derive;
    use crate::search::{Effort, LatencyKey};
    use rand::{Rng, SeedableRng};

    /// Measured, for its names, with times of our own.
    fn table() -> LatencyTable {
        let key = LatencyKey {
            device: "cpu".into(),
            dtype: "f32".into(),
            width: 24,
            height: 16,
            channels: 4,
            version: "0".into(),
        };
        let effort = Effort {
            runs: 1,
            cold: false,
        };
        let mut table = LatencyTable::measure(&Device::Cpu, key, effort, |_| {}).unwrap();
        for (i, entry) in table.entries.iter_mut().enumerate() {
            entry.timing.median_ms = 1.0 + (i * 7 % 11) as f64 / 8.0;
        }
        table
    }

    fn random(rng: &mut rand_pcg::Pcg64Mcg, name: &str, blocks: usize) -> LayerWeights {
        let mut weights = |n: usize| -> Vec<f64> {
            let all: Vec<f64> = (0..n).map(|_| rng.random_range(0.01..1.0)).collect();
            let sum: f64 = all.iter().sum();
            all.into_iter().map(|w| w / sum).collect()
        };
        LayerWeights {
            layer: name.into(),
            beta: weights(3),
            alpha: (0..3)
                .map(|_| (0..blocks).map(|_| weights(10)).collect())
                .collect(),
        }
    }

    /// Two layers of one block: 900 networks, all tried.
    #[test]
    fn it_is_the_best_of_all_networks_within_the_time() {
        let (table, mut rng) = (table(), rand_pcg::Pcg64Mcg::seed_from_u64(3));
        for _ in 0..20 {
            let layers = ["one", "two"].map(|name| random(&mut rng, name, 1));
            let mut all = Vec::new();
            for i in 0..900 {
                let gene = |i: usize| CellGene {
                    cell: CellKind::ALL[i / 10],
                    blocks: vec![OpKind::ALL[i % 10]],
                };
                let genes = [gene(i / 30), gene(i % 30)];
                let of = |(l, g): (&LayerWeights, &CellGene)| {
                    let k = g.cell as usize;
                    l.beta[k].ln() + l.alpha[k][0][g.blocks[0] as usize].ln()
                };
                let likelihood: f64 = layers.iter().zip(&genes).map(of).sum();
                let ms: f64 = genes.iter().map(|g| table.gene_ms(g).unwrap()).sum();
                all.push((ms, likelihood));
            }
            let fastest = all.iter().map(|a| a.0).fold(f64::INFINITY, f64::min);
            assert!((fastest_ms(&layers, &table).unwrap() - fastest).abs() < 1e-12);
            assert!(
                most_likely(&layers, &table, fastest - 0.01)
                    .unwrap()
                    .is_none()
            );
            for most in [fastest + 0.01, 1.2 * fastest, 2.0 * fastest, 1e9] {
                let within = all.iter().filter(|a| a.0 <= most);
                let best = within.map(|a| a.1).fold(f64::NEG_INFINITY, f64::max);
                let found = most_likely(&layers, &table, most).unwrap().unwrap();
                let ms: f64 = found.iter().map(|g| table.gene_ms(g).unwrap()).sum();
                let at = all
                    .iter()
                    .find(|a| (a.0 - ms).abs() < 1e-9 && (a.1 - best).abs() < 1e-9);
                assert!(ms <= most && at.is_some(), "{most}: {found:?}");
            }
        }
    }

    #[test]
    fn without_a_limit_it_is_the_arg_max() {
        let (table, mut rng) = (table(), rand_pcg::Pcg64Mcg::seed_from_u64(5));
        let layers: Vec<_> = ["ffm.cell0", "target", "detail"]
            .map(|name| random(&mut rng, name, 3))
            .into();
        let g = derive(4, crate::net::FrameGene::default(), &layers).unwrap();
        let found = most_likely(&layers, &table, f64::INFINITY)
            .unwrap()
            .unwrap();
        assert_eq!(found, [g.ffm[0].clone(), g.target, g.detail]);
    }
}
