//! The tapes of the search: a step of the weights, a step of the architecture.

use super::config::{SearchConfig, Strategy};
use super::latency::record_lat;
use super::schedule::Phase;
use super::searcher::Searcher;
use crate::Result;
use crate::net::{
    Builder, NetworkPlan, ParamSpec, Searched, is_architecture_param, layer_names, record_ffm,
    record_fusion,
};
use crate::ops::{self, AdamOptions, SgdOptions};
use crate::tape::{Session, Tape, Var};
use crate::tensor::DType;
use crate::train::{Terms, moment_name, record_feature_loss, record_object_loss, record_patches};

/// What a step updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// omega, by L_train.
    Weights,
    /// beta, alpha or both, by L_val + lambda LAT.
    Architecture(Phase),
}

impl Searcher {
    /// The tape of one step: loss, gradients and updates. Outputs: `loss` and, for the architecture,
    /// `lat` and `total` = loss + lambda LAT. Inputs: `a`, `b`, their `level_a` and `level_b` `[N, 1, 1, 2]`, `lr` and, for the
    /// architecture, `step`.
    pub fn record_step(&self, stage: u8, update: Update) -> Result<Tape> {
        let config = &self.config;
        let mut t = Tape::new(DType::F32);
        let sources = record_patches(&mut t, config.batch, config.patch)?;
        let ffm_only = config.strategy == Strategy::Collaborative && stage == 1;
        let fixed = match (config.strategy, stage) {
            (Strategy::Collaborative, 2..) => self.genotype()?.ffm,
            _ => Vec::new(),
        };
        let searched = match fixed.as_slice() {
            [] => Searched::All,
            ffm => Searched::Object { ffm },
        };
        let net = self.features.as_ref();
        let mut builder = Builder::new(&mut t);
        let plan = NetworkPlan::searched(&mut builder, &config.space(), searched)?.without_border();
        let (terms, specs): (Terms, Vec<ParamSpec>) = if ffm_only {
            let feature = record_ffm(&mut builder, plan.clone(), sources)?;
            let specs = builder.into_specs();
            let terms = record_feature_loss(&mut t, net, &config.loss, feature, sources)?;
            (terms, specs)
        } else {
            let fused = record_fusion(&mut builder, plan.clone(), sources)?;
            let specs = builder.into_specs();
            let (task, loss) = (config.task, &config.loss);
            let terms = record_object_loss(&mut t, net, task, loss, &fused, sources)?;
            (terms, specs)
        };
        t.output("loss", terms.total)?;
        match update {
            Update::Weights => {
                let specs = specs.iter().filter(|s| !is_architecture_param(&s.name));
                self.record_weights_update(&mut t, terms.total, specs)?;
            }
            Update::Architecture(phase) => {
                let layers = if ffm_only {
                    config.space.cells
                } else {
                    usize::MAX
                };
                let lat = record_lat(&mut t, plan.layers().take(layers), &self.table)?;
                t.output("lat", lat)?;
                let charge = ops::scale(&mut t, lat, config.latency.lambda)?;
                let total = ops::add(&mut t, terms.total, charge)?;
                t.output("total", total)?;
                let names = layer_names(config.space.cells);
                let names = &names[self.searched(stage)];
                let updated = specs.iter().filter(|s| updates(phase, names, &s.name));
                self.record_architecture_update(&mut t, total, updated)?;
            }
        }
        Ok(t)
    }

    /// The tapes of a stage: a step of the weights, then one of the architecture for each phase.
    fn record_stage(&self, stage: u8) -> Result<Vec<Tape>> {
        let phases = self.schedule().phases().iter();
        let updates = phases.map(|&phase| Update::Architecture(phase));
        std::iter::once(Update::Weights)
            .chain(updates)
            .map(|update| self.record_step(stage, update))
            .collect()
    }

    /// The stages to come that have a step.
    fn stages_to_come(&self) -> impl Iterator<Item = u8> {
        let schedule = self.schedule();
        (self.progress().stage..=schedule.stages()).filter(move |&s| schedule.inner_epochs(s) > 0)
    }

    /// Records every step that is to come: what the last stage cannot do is said before the first.
    pub(super) fn check_steps(&self) -> Result<()> {
        self.stages_to_come()
            .try_for_each(|stage| self.record_stage(stage).map(drop))
    }

    /// Bytes that the search will hold at once on the CPU beside parameters and pictures: the sessions of
    /// both steps, in the stage where they are larger. Stage 2 is taken with the FFM as it would be
    /// chosen now.
    pub fn planned_bytes(&self) -> Result<usize> {
        let mut most = 0;
        for stage in self.stages_to_come() {
            let tapes = self.record_stage(stage)?;
            let bytes: Vec<usize> = tapes.iter().map(Session::planned_bytes).collect();
            let architecture = bytes[1..].iter().max().copied().unwrap_or(0);
            most = most.max(bytes[0] + architecture);
        }
        Ok(most)
    }

    fn record_weights_update<'a>(
        &self,
        t: &mut Tape,
        loss: Var,
        specs: impl Iterator<Item = &'a ParamSpec>,
    ) -> Result<()> {
        let lr = t.input("lr", [])?;
        let options = SgdOptions {
            momentum: self.config.weights.momentum,
            ..SgdOptions::default()
        };
        let clip = Some(self.config.weights.clip);
        update_all(t, loss, specs, clip, |t, spec, param, grad| {
            let m = t.param(&moment_name("m", &spec.name), spec.shape)?;
            ops::sgd(t, param, m, grad, lr, options)
        })
    }

    fn record_architecture_update<'a>(
        &self,
        t: &mut Tape,
        loss: Var,
        specs: impl Iterator<Item = &'a ParamSpec>,
    ) -> Result<()> {
        let (lr, step) = (t.input("lr", [])?, t.input("step", [])?);
        let a = self.config.architecture;
        let options = AdamOptions {
            beta1: a.beta1,
            beta2: a.beta2,
            weight_decay: a.weight_decay,
            ..AdamOptions::default()
        };
        update_all(t, loss, specs, None, |t, spec, param, grad| {
            let m = t.param(&moment_name("m", &spec.name), spec.shape)?;
            let v = t.param(&moment_name("v", &spec.name), spec.shape)?;
            ops::adam(t, param, m, v, grad, lr, step, options)
        })
    }
}

/// Records the gradients of `loss`, no longer than `clip`, and an update of every parameter.
fn update_all<'a>(
    t: &mut Tape,
    loss: Var,
    specs: impl Iterator<Item = &'a ParamSpec>,
    clip: Option<f64>,
    mut update: impl FnMut(&mut Tape, &ParamSpec, Var, Var) -> Result<Var>,
) -> Result<()> {
    let specs: Vec<&ParamSpec> = specs.collect();
    let params = specs.iter().map(|s| t.param(&s.name, s.shape));
    let params: Vec<Var> = params.collect::<Result<_>>()?;
    let mut grads = t.grad(loss, &params)?;
    t.scope("optimizer", |t| {
        if let Some(max) = clip {
            grads = ops::clip_norm(t, &grads, max)?;
        }
        for ((spec, &param), &grad) in specs.iter().zip(&params).zip(&grads) {
            update(t, spec, param, grad)?;
        }
        Ok(())
    })
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
