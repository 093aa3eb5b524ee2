//! The training loop: two stages (section 3.1.3), each one tape replayed for every step.

use super::checkpoint::{Checkpoint, Progress};
use super::config::{Optimizer, Perceptual, Schedule, StageConfig, TrainConfig};
use super::objective::{Terms, record_loss};
use super::validation::Validation;
use crate::data::{Batch, EpochSampler, PairDataset};
use crate::device::{Device, cpu};
use crate::loss::FeatureNet;
use crate::net::{
    Builder, Genotype, NetworkPlan, ParamSpec, Part, Sources, initial_params, param_specs,
};
use crate::ops::{self, AdamOptions, SgdOptions};
use crate::tape::{ParamStore, Session, Tape, Var};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// Loss terms of one step, or their means on what is held out, in order of recording, with the total last.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Stage of the training, 1 or 2.
    pub stage: u8,
    /// Steps done in this stage, and how many it has.
    pub step: u64,
    /// Steps of this stage.
    pub steps: u64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Name and weighted value of each term.
    pub terms: Vec<(&'static str, f64)>,
    /// Sum of the terms.
    pub total: f64,
}

/// What a caller may want to do after a step.
pub enum TrainEvent<'a> {
    /// The loss on what is held out is known; it comes before the step's own event.
    Validation(&'a StepReport),
    /// A step is done.
    Step(&'a StepReport),
    /// The state that a checkpoint would hold may be saved now.
    Checkpoint(&'a Trainer),
    /// A preview may be drawn now.
    Preview(&'a Trainer),
}

/// A training run: parameters, data and position.
pub struct Trainer {
    config: TrainConfig,
    genotype: Genotype,
    store: ParamStore,
    specs: Vec<ParamSpec>,
    features: Option<FeatureNet>,
    data: PairDataset,
    held: Option<PairDataset>,
    progress: Progress,
}

impl Trainer {
    /// Prepares a run on `device` from the start (`checkpoint: None`) or from where it stopped.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration does not allow training or holds out all data, or a checkpoint was made
    /// with another one.
    pub fn new(
        config: TrainConfig,
        genotype: Genotype,
        features: Option<FeatureNet>,
        data: PairDataset,
        checkpoint: Option<Checkpoint>,
        device: &Device,
    ) -> Result<Self> {
        if config.perceptual == Perceptual::Vgg && features.is_none() {
            return Err(Error::config(
                "features",
                "training needs a feature network: give --features FILE (a VGG as safetensors), \
                 or say --perceptual none",
            ));
        }
        let features = features.filter(|_| config.perceptual == Perceptual::Vgg);
        let (data, held) = config.data.parts(&data, config.seed)?;
        let store = ParamStore::on(device);
        let specs = param_specs(&genotype)?;
        initial_params(&specs, config.seed, DType::F32, &store)?;
        zero_moments(&store, &specs, ADAM)?;
        if let Some(net) = &features {
            net.install(&store, DType::F32)?;
        }
        let progress = match checkpoint {
            Some(c) => {
                if c.config != config.to_toml()? {
                    return Err(Error::config(
                        "--resume",
                        "the checkpoint was made with another configuration; \
                         use the same one, or start a new run with `init`",
                    ));
                }
                load_weights(&store, &specs, &c.tensors)?;
                c.progress
            }
            None => Progress {
                stage: 1,
                step: 0,
                sampler: EpochSampler::new(data.len(), config.seed)?,
            },
        };
        Ok(Self {
            config,
            genotype,
            store,
            specs,
            features,
            data,
            held,
            progress,
        })
    }

    /// Configuration that it was made with.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Architecture of the network.
    pub fn genotype(&self) -> &Genotype {
        &self.genotype
    }

    /// Parameters, with what the optimisers keep.
    pub fn store(&self) -> &ParamStore {
        &self.store
    }

    /// What it trains on, and what is held out.
    pub fn data(&self) -> (&PairDataset, Option<&PairDataset>) {
        (&self.data, self.held.as_ref())
    }

    /// Where the training stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Overwrites initial weights with those of `tensors` (a model or a checkpoint); optimisers begin anew.
    pub fn init_from(&self, mut tensors: crate::tensor::io::TensorMap) -> Result<()> {
        tensors.retain(|name, _| !is_moment(name));
        load_weights(&self.store, &self.specs, &tensors)
    }

    /// The trained weights alone.
    pub fn weights(&self) -> Result<crate::tensor::io::TensorMap> {
        let names: std::collections::BTreeSet<&str> =
            self.specs.iter().map(|s| s.name.as_str()).collect();
        self.store.export(|name| names.contains(name))
    }

    /// State for [`Trainer::new`] to go on from.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a value is not finite: it must not replace a good checkpoint.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        Checkpoint::capture(&self.store, self.progress.clone(), self.config.to_toml()?)
    }

    /// Steps of a stage.
    pub fn steps(&self, stage: u8) -> u64 {
        let epochs = self.stage(stage).epochs;
        let per_epoch = (self.data.len() * self.config.data.patches_per_pair)
            .div_ceil(self.config.batch) as u64;
        epochs * per_epoch
    }

    fn stage(&self, stage: u8) -> StageConfig {
        if stage == 1 {
            self.config.stage1
        } else {
            self.config.stage2
        }
    }

    /// Runs to the end. `on_event` is called after every step; an error of its ends the run.
    pub fn run(
        &mut self,
        mut on_event: impl FnMut(TrainEvent<'_>) -> Result<()> + Send,
    ) -> Result<()> {
        cpu::install(|| {
            while self.progress.stage <= 2 {
                self.run_stage(&mut on_event)?;
                // The next stage counts its steps from 1, so its moments must begin at zero too.
                zero_moments(&self.store, &self.specs, ADAM)?;
                self.progress = Progress {
                    stage: self.progress.stage + 1,
                    step: 0,
                    sampler: EpochSampler::new(self.data.len(), self.config.seed.wrapping_add(1))?,
                };
            }
            on_event(TrainEvent::Checkpoint(self))
        })
    }

    fn run_stage(
        &mut self,
        on_event: &mut (impl FnMut(TrainEvent<'_>) -> Result<()> + Send),
    ) -> Result<()> {
        let stage = self.progress.stage;
        let steps = self.steps(stage);
        if self.progress.step >= steps {
            return Ok(());
        }
        let (tape, names) = self.record_step(stage)?;
        let mut session = Session::new(&tape, &self.store)?;
        let (batch, patch) = (self.config.batch, self.config.patch);
        let mut patches = Batch::new(batch, patch)?;
        let mut validation = match &self.held {
            Some(held) => Some(Validation::new(held, self, stage)?),
            None => None,
        };
        let mut report = StepReport {
            stage,
            step: 0,
            steps,
            lr: 0.0,
            terms: names.iter().map(|&name| (name, 0.0)).collect(),
            total: 0.0,
        };
        while self.progress.step < steps {
            let augment = self.config.augment.active();
            self.data
                .sample_batch(&mut self.progress.sampler, augment, &mut patches)?;
            set_patches(&mut session, &patches)?;
            let lr = learning_rate(self.stage(stage), self.progress.step, steps);
            session.set_scalar("lr", lr)?;
            if session.uses_input("step") {
                session.set_scalar("step", (self.progress.step + 1) as f64)?;
            }
            session.run()?;
            self.progress.step += 1;
            report.step = self.progress.step;
            report.lr = lr;
            for (name, value) in &mut report.terms {
                *value = session.scalar(name)?;
            }
            report.total = session.scalar("total")?;
            if !report.total.is_finite() {
                return Err(Error::Diverged(format!(
                    "the loss became {} at stage {stage}, step {}; start another run with a lower \
                     learning rate and `init` set to the last checkpoint",
                    report.total, report.step
                )));
            }
            let due = report.step.is_multiple_of(self.config.validate_every);
            if let Some(validation) = validation.as_mut().filter(|_| due || report.step == steps) {
                on_event(TrainEvent::Validation(validation.measure(&report)?))?;
            }
            on_event(TrainEvent::Step(&report))?;
            if report.step.is_multiple_of(self.config.preview_every) {
                on_event(TrainEvent::Preview(self))?;
            }
            if report.step.is_multiple_of(self.config.checkpoint_every) {
                on_event(TrainEvent::Checkpoint(self))?;
            }
        }
        Ok(())
    }

    /// The tape of one step: loss, gradients and updates. Also the names of the loss terms. Inputs: `a`, `b`, their `level_a`
    /// and `level_b` `[N, 1, 1, 2]` where something reads them, `lr` and, for Adam, `step`.
    pub fn record_step(&self, stage: u8) -> Result<(Tape, Vec<&'static str>)> {
        let mut t = Tape::new(DType::F32);
        let (terms, specs) = self.record_loss(&mut t, stage)?;
        let lr = t.input("lr", [])?;
        let step = t.input("step", [])?;
        let params: Vec<Var> = specs
            .iter()
            .map(|s| t.param(&s.name, s.shape))
            .collect::<Result<_>>()?;
        let grads = t.grad(terms.total, &params)?;
        t.scope("optimizer", |t| {
            for ((spec, &param), &grad) in specs.iter().zip(&params).zip(&grads) {
                self.config
                    .optimizer
                    .record_step(t, spec, (param, grad), (lr, step), 0.9)?;
            }
            Ok::<(), Error>(())
        })?;
        Ok((t, terms.terms.iter().map(|(n, _)| *n).collect()))
    }

    /// Inputs, network and loss of a step; the terms and `total` are outputs. Also the parameters.
    pub(super) fn record_loss(&self, t: &mut Tape, stage: u8) -> Result<(Terms, Vec<ParamSpec>)> {
        let sources = record_patches(t, self.config.batch, self.config.patch)?;
        let plan = NetworkPlan::from(&self.genotype).without_border();
        let part = match stage {
            1 => Part::Feature,
            _ => Part::Whole,
        };
        let config = &self.config;
        let by = (self.features.as_ref(), config.task, &config.loss);
        let (terms, specs) = record_loss(Builder::new(t), plan, part, sources, by)?;
        for (name, var) in &terms.terms {
            t.output(name, *var)?;
        }
        t.output("total", terms.total)?;
        Ok((terms, specs))
    }
}

/// The inputs that [`set_patches`] sets, of a `batch` of patches of `patch` x `patch`: `a`, `b`, and `level_a`, `level_b`, the
/// levels of the whole pictures.
pub(crate) fn record_patches(t: &mut Tape, batch: usize, patch: usize) -> Result<Sources> {
    let mut pixels = |name| t.input(name, [batch, patch, patch, 1]);
    let (a, b) = (pixels("a")?, pixels("b")?);
    let mut levels = |name| t.input(name, [batch, 1, 1, 2]);
    let levels = Some([levels("level_a")?, levels("level_b")?]);
    Ok(Sources { a, b, levels })
}

/// Sets the inputs of a step, or of a validation, to patches.
pub(crate) fn set_patches(session: &mut Session, patches: &Batch) -> Result<()> {
    session.input_mut::<f32>("a")?.copy_from_slice(&patches.a);
    session.input_mut::<f32>("b")?.copy_from_slice(&patches.b);
    for (name, means, deviations) in [
        ("level_a", &patches.level_a, &patches.deviation_a),
        ("level_b", &patches.level_b, &patches.deviation_b),
    ] {
        if session.uses_input(name) {
            let levels = session.input_mut::<f32>(name)?.chunks_exact_mut(2);
            for (level, (&mean, &deviation)) in levels.zip(means.iter().zip(deviations)) {
                // The value of `ops::picture_levels`, which is above 0.
                let deviation = deviation.hypot(ops::FLAT.sqrt() as f32);
                level.copy_from_slice(&[mean, deviation]);
            }
        }
    }
    Ok(())
}

/// The state that each optimiser keeps for a parameter.
const ADAM: &[&str] = &["m", "v"];
const SGD: &[&str] = &["m"];

impl Optimizer {
    /// The state that it keeps for a parameter.
    pub(crate) fn moments(self) -> &'static [&'static str] {
        match self {
            Optimizer::Adam => ADAM,
            Optimizer::Sgd => SGD,
        }
    }

    /// A step of one parameter; `step` counts from 1. Adam with its usual numbers, SGD with this momentum.
    pub(crate) fn record_step(
        self,
        t: &mut Tape,
        spec: &ParamSpec,
        (param, gradient): (Var, Var),
        (lr, step): (Var, Var),
        momentum: f64,
    ) -> Result<()> {
        let m = t.param(&moment_name("m", &spec.name), spec.shape)?;
        match self {
            Optimizer::Adam => {
                let v = t.param(&moment_name("v", &spec.name), spec.shape)?;
                ops::adam(t, param, m, v, gradient, lr, step, AdamOptions::default())?;
            }
            Optimizer::Sgd => {
                let options = SgdOptions {
                    momentum,
                    ..SgdOptions::default()
                };
                ops::sgd(t, param, m, gradient, lr, options)?;
            }
        }
        Ok(())
    }
}

/// Begins the optimisers of these parameters anew.
pub(crate) fn zero_moments(
    store: &ParamStore,
    specs: &[ParamSpec],
    moments: &[&str],
) -> Result<()> {
    for spec in specs {
        let zero = Tensor::full(spec.shape, DType::F32, 0.0);
        for moment in moments {
            store.set(&moment_name(moment, &spec.name), &zero)?;
        }
    }
    Ok(())
}

/// Name of the state that an optimiser keeps for a parameter.
pub(crate) fn moment_name(moment: &str, param: &str) -> String {
    format!("optimizer.{moment}.{param}")
}

/// Whether a tensor of this name is state of an optimiser.
fn is_moment(name: &str) -> bool {
    name.starts_with("optimizer.")
}

/// Copies `tensors` into parameters of the same name. All of `specs` must be there and no other names but
/// state of an optimiser that is not used here.
pub(crate) fn load_weights(
    store: &ParamStore,
    specs: &[ParamSpec],
    tensors: &crate::tensor::io::TensorMap,
) -> Result<()> {
    let fit = "use the genotype the weights were trained with";
    let unknown = |name: &&String| !store.contains(name) && !is_moment(name);
    if let Some(name) = tensors.keys().find(unknown) {
        return Err(Error::Weights(format!(
            "`{name}` has no place in this genotype; {fit}"
        )));
    }
    if let Some(spec) = specs.iter().find(|s| !tensors.contains_key(&s.name)) {
        return Err(Error::Weights(format!(
            "`{}` of the genotype is missing; {fit}",
            spec.name
        )));
    }
    for (name, value) in tensors.iter().filter(|(name, _)| store.contains(name)) {
        store.set(name, &value.to_dtype(DType::F32))?;
    }
    Ok(())
}

fn learning_rate(stage: StageConfig, step: u64, steps: u64) -> f64 {
    match stage.schedule {
        Schedule::Constant => stage.lr,
        Schedule::Cosine => cosine(stage.lr, step, steps),
    }
}

/// `lr (1 + cos(pi step / steps)) / 2`.
pub(crate) fn cosine(lr: f64, step: u64, steps: u64) -> f64 {
    let phase = std::f64::consts::PI * step as f64 / steps as f64;
    lr * 0.5 * (1.0 + phase.cos())
}
