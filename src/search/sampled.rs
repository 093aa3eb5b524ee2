//! One network at a time in place of the mix: alpha and beta as a distribution of networks.

use super::architecture::LayerWeights;
use super::config::Estimator;
use super::latency::LatencyTable;
use super::schedule::Phase;
use super::searcher::Searcher;
use super::step::{Update, gradient_name};
use crate::Result;
use crate::data::Batch;
use crate::net::{
    Builder, CellGene, CellKind, LayerPlan, NetworkPlan, OpKind, alpha_name, beta_name,
};
use crate::tape::{Session, Tape};
use crate::tensor::DType;
use crate::train::{record_loss, record_patches, set_patches};
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

    /// A network of a stage: its searched layers drawn by their weights, those before them as they were chosen.
    pub(super) fn draw(
        &self,
        stage: u8,
        layers: &[LayerWeights],
        rng: &mut Pcg64Mcg,
    ) -> Result<Network> {
        let chosen = self.genotype()?;
        let fixed = self.searched(stage).start;
        let mut network: Network = chosen.ffm.iter().take(fixed).cloned().collect();
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
        let mut plan = NetworkPlan::from(&self.genotype()?).without_border();
        let (ffm, rows) = network.split_at(self.config().space.cells);
        plan.ffm = ffm.iter().map(LayerPlan::from).collect();
        (plan.target, plan.detail) = ((&rows[0]).into(), (&rows[1]).into());
        plan.candidate_names = true;
        Ok(plan)
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

    /// What a batch says of the distribution: the score-function estimate of the gradient of the expected loss,
    /// `mean over networks n of (L_n - b_n) d log p(n)`, `b_n` the mean loss of the other networks on the same patches, which
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
            let of_all = all.get(&spec.name).map_or(&[][..], Vec::as_slice);
            let there = of_all.iter().zip(candidates).filter(|(_, there)| **there);
            gradients.insert(spec.name.clone(), there.map(|(g, _)| *g).collect());
        }
        Ok(Judged {
            loss: sum / samples as f64,
            lat: self.table.relaxed(now)?,
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

    /// What of a stage can be sessions at once, each with its bytes: of the mix a step of the weights and one for each phase; of drawn networks
    /// one at a time, of which the largest counts.
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
