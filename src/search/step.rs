//! The tapes of the search: a step of the weights, a step of the architecture.

use super::config::{SearchConfig, Strategy};
use super::latency::record_lat;
use super::schedule::Phase;
use super::searcher::Searcher;
use crate::Result;
use crate::loss::FeatureNet;
use crate::net::{
    Builder, NetworkPlan, ParamSpec, Part, Searched, is_architecture_param, layer_names,
    record_fusion,
};
use crate::ops::{self, AdamOptions, SgdOptions};
use crate::tape::{Session, Tape, Var};
use crate::tensor::{DType, Tensor};
use crate::train::{LossConfig, Optimizer, Task, moment_name, record_loss, record_patches};

/// What a step updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// omega, by L_train.
    Weights,
    /// Nothing yet: the gradients of beta, alpha or both, of L_val + lambda LAT.
    Architecture(Phase),
}

impl Searcher {
    /// The tape of one step. Outputs: `loss` and, for the architecture, `lat` in milliseconds, `total` = loss + lambda LAT, and
    /// its gradients, `gradient.NAME`, which [`Searcher::record_descent`] takes. Inputs: `a`, `b`, their `level_a` and `level_b`
    /// `[N, 1, 1, 2]`; for the weights `lr`; for the architecture `charge`, what a millisecond adds to the loss.
    pub fn record_step(&self, stage: u8, update: Update) -> Result<Tape> {
        let config = &self.config;
        let mut t = Tape::new(DType::F32);
        let sources = record_patches(&mut t, config.batch, config.patch)?;
        let part = self.part(stage);
        let fixed = match (config.strategy, stage) {
            (Strategy::Collaborative, 2..) => self.genotype()?.ffm,
            _ => Vec::new(),
        };
        let searched = match fixed.as_slice() {
            [] => Searched::All,
            ffm => Searched::Object { ffm },
        };
        let mut builder = Builder::new(&mut t);
        let plan = NetworkPlan::searched(&mut builder, &config.space(), searched)?.without_border();
        let (terms, specs) = record_loss(builder, plan.clone(), part, sources, self.objective())?;
        t.output("loss", terms.total)?;
        match update {
            Update::Weights => {
                let specs = specs.iter().filter(|s| !is_architecture_param(&s.name));
                self.record_weights_update(&mut t, terms.total, specs)?;
            }
            Update::Architecture(phase) => {
                let layers = match part {
                    Part::Feature => config.space.cells,
                    Part::Whole => usize::MAX,
                };
                let lat = record_lat(&mut t, plan.layers().take(layers), &self.table)?;
                t.output("lat", lat)?;
                let charge = t.input("charge", [])?;
                let charge = ops::mul(&mut t, lat, charge)?;
                let total = ops::add(&mut t, terms.total, charge)?;
                t.output("total", total)?;
                let updated = self.updated(stage, phase);
                let params = updated.iter().map(|s| t.param(&s.name, s.shape));
                let params: Vec<Var> = params.collect::<Result<_>>()?;
                let gradients = t.grad(total, &params)?;
                for (spec, gradient) in updated.iter().zip(gradients) {
                    t.output(&gradient_name(&spec.name), gradient)?;
                }
            }
        }
        Ok(t)
    }

    /// What a stage trains.
    pub(super) fn part(&self, stage: u8) -> Part {
        match (self.config.strategy, stage) {
            (Strategy::Collaborative, 1) => Part::Feature,
            _ => Part::Whole,
        }
    }

    /// What it trains by.
    pub(super) fn objective(&self) -> (Option<&FeatureNet>, Task, &LossConfig) {
        let config = &self.config;
        (self.features.as_ref(), config.task, &config.loss)
    }

    /// The architecture parameters that a phase of a stage updates.
    pub(super) fn updated(&self, stage: u8, phase: Phase) -> Vec<&ParamSpec> {
        let names = layer_names(self.config.space.cells);
        let names = &names[self.searched(stage)];
        let specs = self.architecture.iter();
        specs.filter(|s| updates(phase, names, &s.name)).collect()
    }

    /// The tape that moves alpha and beta: a step of Adam on each. Inputs: `lr`, `step` from 1, and `gradient.NAME` of each.
    pub fn record_descent(&self, stage: u8, phase: Phase) -> Result<Tape> {
        let mut t = Tape::new(DType::F32);
        let (lr, step) = (t.input("lr", [])?, t.input("step", [])?);
        let a = self.config.architecture;
        let options = AdamOptions {
            beta1: a.beta1,
            beta2: a.beta2,
            weight_decay: a.weight_decay,
            ..AdamOptions::default()
        };
        for spec in self.updated(stage, phase) {
            let gradient = t.input(&gradient_name(&spec.name), spec.shape)?;
            let param = t.param(&spec.name, spec.shape)?;
            let m = t.param(&moment_name("m", &spec.name), spec.shape)?;
            let v = t.param(&moment_name("v", &spec.name), spec.shape)?;
            ops::adam(&mut t, param, m, v, gradient, lr, step, options)?;
        }
        Ok(t)
    }

    /// The stages to come that have a step.
    fn stages_to_come(&self) -> impl Iterator<Item = u8> {
        let schedule = self.schedule();
        (self.progress().stage..=schedule.stages()).filter(move |&s| schedule.inner_epochs(s) > 0)
    }

    /// Records every step that is to come: what the last stage cannot do is said before the first.
    pub(super) fn check_steps(&self) -> Result<()> {
        self.stages_to_come()
            .try_for_each(|stage| match self.draws() {
                // All networks have the same losses; none is too large to be recorded.
                true => self.record_network(&self.chosen()?, stage, true).map(drop),
                false => self.record_stage(stage).map(drop),
            })
    }

    /// Bytes that the search will hold at once on the CPU beside parameters and pictures: the sessions of
    /// both steps, in the stage where they are larger. Stage 2 is taken with the FFM as it would be
    /// chosen now.
    pub fn planned_bytes(&self) -> Result<usize> {
        let largest = |tapes: &[Tape]| tapes.iter().map(Session::planned_bytes).max();
        let mut most = 0;
        for stage in self.stages_to_come() {
            let (weights, architecture) = self.record_stage(stage)?;
            let bytes = [weights, architecture].map(|tapes| largest(&tapes).unwrap_or(0));
            most = most.max(match self.draws() {
                true => bytes[0].max(bytes[1]),
                false => bytes[0] + bytes[1],
            });
        }
        Ok(most)
    }

    /// A step on gradients that are no longer than `weights.clip` together.
    pub(super) fn record_weights_update<'a>(
        &self,
        t: &mut Tape,
        loss: Var,
        specs: impl Iterator<Item = &'a ParamSpec>,
    ) -> Result<()> {
        let lr = t.input("lr", [])?;
        let by = self.config.weights;
        let specs: Vec<&ParamSpec> = specs.collect();
        let params = specs.iter().map(|s| t.param(&s.name, s.shape));
        let params: Vec<Var> = params.collect::<Result<_>>()?;
        let gradients = t.grad(loss, &params)?;
        t.scope("optimizer", |t| {
            let gradients = ops::clip_norm(t, &gradients, by.clip)?;
            for ((spec, &param), &gradient) in specs.iter().zip(&params).zip(&gradients) {
                let state = (param, gradient);
                let step = match by.optimizer {
                    Optimizer::Adam => record_count(t, spec)?,
                    // It does not ask.
                    Optimizer::Sgd => lr,
                };
                by.optimizer
                    .record_step(t, spec, state, (lr, step), by.momentum)?;
            }
            Ok(())
        })
    }
}

/// What is kept of a weight beside its moments: how often it was trained, and what counting wants.
pub(super) const COUNT: [&str; 2] = ["count", "counted"];

/// The number of steps of a parameter, this one included: of candidates that are drawn each has its own. Adam takes it for the
/// age of its moments, and would take steps several times too long for a candidate that is younger than the search.
fn record_count(t: &mut Tape, spec: &ParamSpec) -> Result<Var> {
    let [count, scratch] = COUNT.map(|name| moment_name(name, &spec.name));
    let (count, scratch) = (t.param(&count, [])?, t.param(&scratch, [])?);
    let [one, minus_one] = [1.0, -1.0].map(|v| Tensor::scalar(DType::F32, v));
    let (one, minus_one) = (t.constant(&one)?, t.constant(&minus_one)?);
    let step = ops::add(t, count, one)?;
    ops::sgd(t, count, scratch, minus_one, one, SgdOptions::default())?;
    Ok(step)
}

/// Of an architecture parameter, as output of one tape and input of the other.
pub(super) fn gradient_name(param: &str) -> String {
    format!("gradient.{param}")
}

/// Whether a phase updates a parameter, given the layers that its stage searches.
fn updates(phase: Phase, layers: &[String], name: &str) -> bool {
    let of = |kind: &str| {
        let rest = name.strip_prefix(kind).and_then(|r| r.strip_prefix('.'));
        rest.is_some_and(|r| {
            layers
                .iter()
                .any(|l| r == l || r.starts_with(&format!("{l}.")))
        })
    };
    match phase {
        Phase::Weights => false,
        Phase::Cells => of("beta"),
        Phase::Operators => of("alpha"),
        Phase::Both => of("beta") || of("alpha"),
    }
}

/// Every parameter of the supernet, in order.
pub(super) fn supernet_specs(config: &SearchConfig) -> Result<Vec<ParamSpec>> {
    let mut t = Tape::new(DType::F32);
    let a = t.input("a", [1, 16, 16, 1])?;
    let b = t.input("b", [1, 16, 16, 1])?;
    let mut builder = Builder::new(&mut t);
    let plan = NetworkPlan::searched(&mut builder, &config.space(), Searched::All)?;
    record_fusion(&mut builder, plan, (a, b))?;
    Ok(builder.into_specs())
}
