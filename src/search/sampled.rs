//! One network at a time in place of the mix: alpha and beta as a distribution of networks.

use super::architecture::LayerWeights;
use super::config::Estimator;
use super::latency::LatencyTable;
use super::schedule::Phase;
use super::searcher::Searcher;
use super::step::{Update, gradient_name};
use crate::data::Batch;
use crate::net::{
    Builder, CellGene, CellKind, GuidedFilterGene, LayerPlan, NetworkPlan, OpKind, alpha_name,
    beta_name,
};
use crate::tape::{Session, Tape};
use crate::tensor::DType;
use crate::train::{record_loss, record_patches, set_patches};
use crate::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeMap;

/// What a batch of L_val says.
pub(super) struct Judged {
    /// L_val, and LAT in milliseconds.
    pub loss: f64,
    pub lat: f64,
    /// Of L_val + lambda LAT, for the candidates of each architecture parameter of the phase.
    pub gradients: BTreeMap<String, Vec<f64>>,
}

/// The cell of each layer of the network.
pub(super) type Network = Vec<CellGene>;

impl Searcher {
    /// Whether networks are drawn.
    pub(super) fn draws(&self) -> bool {
        self.config().architecture.estimator == Estimator::Sampled
    }

    /// Random numbers of a step, the same after a resumption. `of` tells those of L_train from those of L_val.
    pub(super) fn chance(&self, step: u64, of: u64) -> Pcg64Mcg {
        let at = self.progress();
        let mut rng = Pcg64Mcg::seed_from_u64(self.config().seed ^ 0x6e65_7477_6f72_6b73);
        let epoch = (u128::from(at.stage) << 32) + u128::from(at.epoch);
        let place = (epoch << 32) + u128::from(2 * step + of);
        // Far more numbers than a step can want.
        rng.advance(place << 24);
        rng
    }

    /// A network of a stage: its searched layers drawn by these weights, those before them as they were chosen.
    pub(super) fn draw(
        &self,
        stage: u8,
        layers: &[LayerWeights],
        rng: &mut Pcg64Mcg,
    ) -> Result<Network> {
        let fixed = self.searched(stage).start;
        let mut network = match fixed {
            0 => Network::new(),
            _ => self.genotype()?.ffm[..fixed].to_vec(),
        };
        network.extend(layers[fixed..].iter().map(|layer| layer.draw(rng)));
        Ok(network)
    }

    /// The network of all largest weights, or that of the budget.
    pub(super) fn chosen(&self) -> Result<Network> {
        Ok(self.genotype()?.cells().map(|(_, g)| g.clone()).collect())
    }

    /// The tape of one network of the supernet: its loss, the output `loss`; with `learns` a step of its weights too.
    pub(super) fn record_network(
        &self,
        network: &[CellGene],
        stage: u8,
        learns: bool,
    ) -> Result<Tape> {
        let config = self.config();
        let mut t = Tape::new(DType::F32);
        let sources = record_patches(&mut t, config.batch, config.patch)?;
        let plan = self.plan_of(network)?;
        let builder = Builder::new(&mut t);
        let (terms, specs) =
            record_loss(builder, plan, self.part(stage), sources, self.objective())?;
        t.output("loss", terms.total)?;
        if learns {
            self.record_weights_update(&mut t, terms.total, specs.iter())?;
        }
        Ok(t)
    }

    /// With the names that parameters have in the supernet.
    fn plan_of(&self, network: &[CellGene]) -> Result<NetworkPlan> {
        let space = &self.config().space;
        let [ffm @ .., target, detail] = network else {
            return Err(Error::Internal("a network without rows".into()));
        };
        let plan = NetworkPlan {
            channels: space.channels,
            guided_filter: GuidedFilterGene::default(),
            frame: space.frame,
            ffm: ffm.iter().map(LayerPlan::from).collect(),
            target: target.into(),
            detail: detail.into(),
            candidate_names: true,
            recompute: false,
        };
        Ok(plan.without_border())
    }

    /// What a batch says of the mix: reverse mode through all candidates.
    pub(super) fn judge_mix(
        &self,
        session: &mut Session,
        (stage, phase): (u8, Phase),
        charge: f64,
        patches: &Batch,
    ) -> Result<Judged> {
        set_patches(session, patches)?;
        session.set_scalar("charge", charge)?;
        session.run()?;
        let updated = self.updated(stage, phase).into_iter();
        let gradients = updated.map(|spec| {
            let gradient = session.get(&gradient_name(&spec.name))?.to_f64();
            Ok((spec.name.clone(), gradient))
        });
        Ok(Judged {
            loss: session.scalar("loss")?,
            lat: session.scalar("lat")?,
            gradients: gradients.collect::<Result<_>>()?,
        })
    }

    /// What a batch says of the distribution: REINFORCE with a leave-one-out baseline, the score-function estimate of the gradient of
    /// the expected loss, `mean over networks n of (L_n - b_n) d log p(n)`, `b_n` the mean loss of the other networks on the same patches, which
    /// leaves it unbiased. The gradient of the expected LAT is exact.
    pub(super) fn judge_draws(
        &self,
        (stage, phase): (u8, Phase),
        charge: f64,
        patches: &Batch,
        rng: &mut Pcg64Mcg,
    ) -> Result<Judged> {
        let layers = self.layers()?;
        let samples = self.config().architecture.samples;
        let mut drawn = Vec::with_capacity(samples);
        for _ in 0..samples {
            let network = self.draw(stage, &layers, rng)?;
            let loss = self.loss_of(&network, stage, patches)?;
            drawn.push((network, loss));
        }
        let sum: f64 = drawn.iter().map(|(_, loss)| loss).sum();
        let searched = self.searched(stage);
        let now = &layers[searched.clone()];
        let mut all = BTreeMap::new();
        for (i, layer) in searched.zip(now) {
            let mut scores = Scores::of_lat(layer, &self.table, charge)?;
            for (network, loss) in &drawn {
                let others = (sum - loss) / (samples - 1) as f64;
                scores.add(layer, &network[i], (loss - others) / samples as f64);
            }
            scores.name(layer, &mut all);
        }
        let mut gradients = BTreeMap::new();
        let space = self.config().space();
        for spec in self.updated(stage, phase) {
            let candidates = match spec.name.starts_with("beta.") {
                true => &space.kinds[..],
                false => &space.operators[..],
            };
            let of_all: &Vec<f64> = all
                .get(&spec.name)
                .ok_or_else(|| Error::Internal(format!("{} was not judged", spec.name)))?;
            let there = of_all.iter().zip(candidates).filter(|(_, there)| **there);
            gradients.insert(spec.name.clone(), there.map(|(g, _)| *g).collect());
        }
        Ok(Judged {
            loss: sum / samples as f64,
            lat: self.lat_of(stage, now)?,
            gradients,
        })
    }

    /// L_val of one network on these patches.
    pub(super) fn loss_of(&self, network: &[CellGene], stage: u8, patches: &Batch) -> Result<f64> {
        let tape = self.record_network(network, stage, false)?;
        let mut session = Session::new(&tape, self.store())?;
        set_patches(&mut session, patches)?;
        session.run()?;
        session.scalar("loss")
    }

    /// The steps of a stage, those of the weights and those of the architecture: of the mix one of either can be in memory at once,
    /// of drawn networks, here those of a single cell and operator, one at all.
    pub(super) fn record_stage(&self, stage: u8) -> Result<(Vec<Tape>, Vec<Tape>)> {
        if self.draws() {
            let mut tapes = (Vec::new(), Vec::new());
            let space = self.config().space();
            let layers = self.config().space.cells + 2;
            for cell in CellKind::ALL
                .into_iter()
                .filter(|c| space.kinds[*c as usize])
            {
                for op in OpKind::ALL
                    .into_iter()
                    .filter(|o| space.operators[*o as usize])
                {
                    let gene = CellGene {
                        cell,
                        blocks: vec![op; space.blocks],
                    };
                    let network = vec![gene; layers];
                    tapes.0.push(self.record_network(&network, stage, true)?);
                    tapes.1.push(self.record_network(&network, stage, false)?);
                }
            }
            return Ok(tapes);
        }
        let phases = self.schedule().phases().iter();
        let updates = phases.map(|&phase| self.record_step(stage, Update::Architecture(phase)));
        let weights = self.record_step(stage, Update::Weights)?;
        Ok((vec![weights], updates.collect::<Result<_>>()?))
    }
}

/// A gradient of the logits of one layer, indexed as [`LayerWeights`].
struct Scores {
    beta: Vec<f64>,
    alpha: Vec<Vec<Vec<f64>>>,
}

impl Scores {
    /// That of `charge` times the expected LAT: `d / d v_k` of `sum p_k c_k` is `p_k (c_k - sum p_j c_j)`.
    fn of_lat(layer: &LayerWeights, table: &LatencyTable, charge: f64) -> Result<Self> {
        let of_softmax = |p: &[f64], costs: &[f64], times: f64| -> Vec<f64> {
            let mean: f64 = p.iter().zip(costs).map(|(p, c)| p * c).sum();
            let each = p.iter().zip(costs);
            each.map(|(p, c)| times * p * (c - mean)).collect()
        };
        let mut cells = Vec::new();
        let mut alpha = Vec::new();
        for ((cell, blocks), &beta) in CellKind::ALL.into_iter().zip(&layer.alpha).zip(&layer.beta)
        {
            let ms = table.block_ms(cell)?;
            let dot = |a: &Vec<f64>| a.iter().zip(ms).map(|(a, ms)| a * ms).sum::<f64>();
            cells.push(table.fixed_ms(cell)? + blocks.iter().map(dot).sum::<f64>());
            let blocks = blocks.iter().map(|a| of_softmax(a, &ms, charge * beta));
            alpha.push(blocks.collect());
        }
        Ok(Self {
            beta: of_softmax(&layer.beta, &cells, charge),
            alpha,
        })
    }

    /// Adds `weight` times the gradient of the log-probability of a cell.
    fn add(&mut self, layer: &LayerWeights, gene: &CellGene, weight: f64) {
        let score = |sums: &mut [f64], p: &[f64], drawn: usize| {
            for (i, (sum, p)) in sums.iter_mut().zip(p).enumerate() {
                *sum += weight * (f64::from(u8::from(i == drawn)) - p);
            }
        };
        let cell = gene.cell as usize;
        score(&mut self.beta, &layer.beta, cell);
        // Operators of the other cells were not drawn.
        let blocks = self.alpha[cell].iter_mut().zip(&layer.alpha[cell]);
        for ((sums, p), op) in blocks.zip(&gene.blocks) {
            score(sums, p, *op as usize);
        }
    }

    fn name(self, layer: &LayerWeights, all: &mut BTreeMap<String, Vec<f64>>) {
        all.insert(beta_name(&layer.layer), self.beta);
        for (cell, blocks) in CellKind::ALL.into_iter().zip(self.alpha) {
            for (block, alpha) in blocks.into_iter().enumerate() {
                all.insert(alpha_name(&layer.layer, cell, block), alpha);
            }
        }
    }
}

impl LayerWeights {
    /// A cell and its operators, each drawn by its weights.
    fn draw(&self, rng: &mut Pcg64Mcg) -> CellGene {
        let mut one = |weights: &[f64]| {
            let mut left: f64 = rng.random();
            let mut last = 0;
            for (i, &w) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                last = i;
                left -= w;
                if left < 0.0 {
                    break;
                }
            }
            last
        };
        let cell = one(&self.beta);
        let blocks = self.alpha[cell].iter().map(|a| OpKind::ALL[one(a)]);
        CellGene {
            blocks: blocks.collect(),
            cell: CellKind::ALL[cell],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::EpochSampler;
    use crate::data::dataset::{PairDataset, Scene};
    use crate::device::Device;
    use crate::search::{Effort, LatencyKey, SearchConfig};
    use crate::tensor::Tensor;

    /// One cell of one block, two kinds of cells and two operators: four networks.
    fn searcher() -> Searcher {
        let keys = [
            "perceptual=none",
            "split=1",
            "patch=16",
            "batch=2",
            "space.channels=2",
            "space.cells=1",
            "space.blocks=1",
            "space.kinds=[\"SC\", \"MS\"]",
            "space.operators=[\"3-RB\", \"CA\"]",
            "architecture.samples=3",
        ];
        let config = SearchConfig::load(None, &keys.map(String::from)).unwrap();
        let key = LatencyKey {
            device: "cpu".into(),
            dtype: "f32".into(),
            width: 16,
            height: 16,
            channels: 2,
            version: "0".into(),
        };
        let effort = Effort {
            runs: 1,
            cold: false,
        };
        let table = LatencyTable::measure(&Device::Cpu, key, effort, |_| {}).unwrap();
        let scene = |i: usize| {
            let wave = |k: usize| (0..400).map(|j| (j * k % 97) as f32 / 97.0).collect();
            Scene {
                name: format!("waves{i}"),
                width: 20,
                height: 20,
                a: wave(5 + i),
                b: wave(11 + i),
            }
        };
        let data = PairDataset::from_scenes((0..4).map(scene).collect()).unwrap();
        let s = Searcher::new(config, table, None, &data, None, &Device::Cpu).unwrap();
        let set = |name: &str, v: [f32; 2]| {
            let v = Tensor::from_vec([2], v.to_vec()).unwrap();
            s.store().set(name, &v).unwrap();
        };
        set("beta.ffm.cell0", [0.4, -0.3]);
        set("alpha.ffm.cell0.SC.block0", [-0.5, 0.2]);
        set("alpha.ffm.cell0.MS.block0", [0.1, 0.6]);
        s
    }

    /// By the phase, what `judge_draws` gives on average over many batches of draws, with its standard error.
    fn on_average(s: &Searcher, phase: Phase, charge: f64, patches: &Batch) -> Vec<(f64, f64)> {
        const TIMES: usize = 250;
        let mut rng = Pcg64Mcg::seed_from_u64(7);
        let mut all: Vec<Vec<f64>> = Vec::new();
        for _ in 0..TIMES {
            let judged = s.judge_draws((1, phase), charge, patches, &mut rng);
            let gradients = judged.unwrap().gradients.into_values().flatten();
            all.push(gradients.collect());
        }
        let of = |i: usize| {
            let values: Vec<f64> = all.iter().map(|g| g[i]).collect();
            let (mean, std) = crate::stats::mean_std(&values).unwrap();
            (mean, std / (TIMES as f64).sqrt())
        };
        (0..all[0].len()).map(of).collect()
    }

    /// The expected loss of all four networks, differentiated by hand, is what drawn networks estimate.
    #[test]
    fn draws_estimate_the_gradient_of_the_expected_loss() {
        let s = searcher();
        let mut patches = Batch::new(2, 16).unwrap();
        let (_, val) = s.halves();
        let mut sampler = EpochSampler::new(val.len(), 3).unwrap();
        val.sample_batch(&mut sampler, None, &mut patches).unwrap();
        let layers = s.layers().unwrap();
        let (kinds, ops) = ([0, 2], [OpKind::Residual3, OpKind::ChannelAttention]);
        let beta = kinds.map(|k| layers[0].beta[k]);
        let alpha = kinds.map(|k| ops.map(|op| layers[0].alpha[k][0][op as usize]));
        let loss = kinds.map(|k| {
            ops.map(|op| {
                let gene = CellGene {
                    cell: CellKind::ALL[k],
                    blocks: vec![op],
                };
                let mut network = s.chosen().unwrap();
                network[0] = gene;
                s.loss_of(&network, 1, &patches).unwrap()
            })
        });
        let of_cell = [0, 1].map(|k| (0..2).map(|i| alpha[k][i] * loss[k][i]).sum::<f64>());
        let expected: f64 = (0..2).map(|k| beta[k] * of_cell[k]).sum();
        let d_beta = [0, 1].map(|k| beta[k] * (of_cell[k] - expected));
        let d_alpha =
            [0, 1].map(|k| [0, 1].map(|i| beta[k] * alpha[k][i] * (loss[k][i] - of_cell[k])));
        // By name: MS stands before SC.
        let d_alpha = [d_alpha[1], d_alpha[0]].concat();
        for (phase, exact) in [
            (Phase::Cells, &d_beta[..]),
            (Phase::Operators, &d_alpha[..]),
        ] {
            let found = on_average(&s, phase, 0.0, &patches);
            assert_eq!(found.len(), exact.len());
            let largest = exact.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (&(mean, error), exact) in found.iter().zip(exact) {
                assert!(
                    (mean - exact).abs() < 4.0 * error,
                    "{phase:?}: {found:?} for {exact}"
                );
                assert!(error < 0.3 * largest, "too coarse to tell: {found:?}");
            }
        }
    }

    /// lambda LAT needs no draw: its gradient is that of Eq. 3 by reverse mode.
    #[test]
    fn latency_is_charged_exactly() {
        let s = searcher();
        let patches = Batch::new(2, 16).unwrap();
        for phase in [Phase::Cells, Phase::Operators] {
            let told = |judged: Result<Judged>| {
                let judged = judged.unwrap();
                let gradients = judged.gradients.into_values().flatten();
                (judged.lat, gradients.collect::<Vec<f64>>())
            };
            let with = |charge: f64| {
                told(s.judge_draws((1, phase), charge, &patches, &mut s.chance(0, 1)))
            };
            let ((lat, free), (_, charged)) = (with(0.0), with(2.0));
            let tape = s.record_step(1, Update::Architecture(phase)).unwrap();
            let mut session = Session::new(&tape, s.store()).unwrap();
            let mut mix =
                |charge: f64| told(s.judge_mix(&mut session, (1, phase), charge, &patches));
            let ((lat_of_mix, free_mix), (_, charged_mix)) = (mix(0.0), mix(2.0));
            assert!((lat / lat_of_mix - 1.0).abs() < 1e-6);
            for i in 0..free.len() {
                let (drawn, mixed) = (charged[i] - free[i], charged_mix[i] - free_mix[i]);
                assert!(
                    drawn.abs() > 0.0 && (drawn - mixed).abs() < 1e-4 * lat,
                    "{drawn} {mixed}"
                );
            }
        }
    }

    #[test]
    fn a_network_is_drawn_as_often_as_its_weights_say() {
        let s = searcher();
        let layers = s.layers().unwrap();
        let mut rng = Pcg64Mcg::seed_from_u64(5);
        let drawn: Vec<CellGene> = (0..4000).map(|_| layers[0].draw(&mut rng)).collect();
        let share = |of: &dyn Fn(&CellGene) -> bool| {
            drawn.iter().filter(|g| of(g)).count() as f64 / drawn.len() as f64
        };
        let successive = share(&|g| g.cell == CellKind::Successive);
        assert!(
            (successive - layers[0].beta[0]).abs() < 0.03,
            "{successive}"
        );
        let both =
            share(&|g| g.cell == CellKind::MultiScale && g.blocks[0] == OpKind::ChannelAttention);
        let exact = layers[0].beta[2] * layers[0].alpha[2][0][OpKind::ChannelAttention as usize];
        assert!((both - exact).abs() < 0.03, "{both} for {exact}");
        assert_eq!(share(&|g| g.cell == CellKind::Decomposition), 0.0);
    }
}
