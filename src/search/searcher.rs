//! Algorithm 1, first order: network weights on one half of the data, alpha and beta on the other.

use super::architecture::{LayerWeights, read_layers};
use super::config::{SearchConfig, Strategy};
use super::descent::{Descent, Gradient, MEAN};
use super::latency::LatencyTable;
use super::schedule::{Phase, Place, Schedule};
use super::step::{COUNT, Update, supernet_specs};
use crate::data::{Batch, EpochSampler, PairDataset};
use crate::device::{Device, cpu};
use crate::loss::FeatureNet;
use crate::net::{
    Genotype, ParamSpec, SearchSpace, derived_name, initial_params, is_architecture_param,
    layer_names,
};
use crate::stats::mean;
use crate::tape::{ParamStore, Session};
use crate::tensor::io::TensorMap;
use crate::tensor::{DType, Tensor};
use crate::train::{
    Checkpoint, Perceptual, Position, cosine, load_weights, moment_name, set_patches, zero_moments,
};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What the optimiser keeps of alpha and beta.
const ARCHITECTURE: &[&str] = &["m", "v", MEAN];

/// Where a search stands: between two inner epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchProgress {
    /// From 1.
    pub stage: u8,
    /// Inner epochs done in this stage.
    pub epoch: u64,
    /// Samplers of L_train and L_val.
    pub train: EpochSampler,
    /// Sampler of L_val.
    pub val: EpochSampler,
    /// lambda, which adapts to a target.
    pub lambda: f64,
}

impl Position for SearchProgress {
    const KEY: &'static str = "hafuse_search";
    const KIND: &'static str = "search";
}

/// A step of the weights and one of the architecture.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Stage of the search, from 1.
    pub stage: u8,
    /// Inner epochs done in this stage, and how many it has.
    pub epoch: u64,
    /// Inner epochs of this stage.
    pub epochs: u64,
    /// Steps done in this inner epoch, and how many it has.
    pub step: u64,
    /// Steps of this inner epoch.
    pub steps: u64,
    /// L_train of this batch, before the update.
    pub train: f64,
    /// Without a step of the architecture there is none.
    pub val: Option<f64>,
    /// Milliseconds, before the update.
    pub lat: Option<f64>,
}

/// An inner epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// Stage of the search, from 1.
    pub stage: u8,
    /// Inner epochs done in this stage, and how many it has.
    pub epoch: u64,
    /// Inner epochs of this stage.
    pub epochs: u64,
    /// Rounds of t + s inner epochs begun in this stage, and how many it has.
    pub round: u64,
    /// Rounds of this stage.
    pub rounds: u64,
    /// What it updates beside the weights.
    pub phase: Phase,
    /// Steps of an inner epoch.
    pub steps: u64,
    /// Learning rate of the weights in the last step.
    pub lr: f64,
    /// Means over the epoch; none of L_val during the warm-up.
    pub train: f64,
    /// Mean of L_val.
    pub val: Option<f64>,
    /// LAT of the searched layers, and of those of stage 1 where they are fixed, in milliseconds.
    pub lat: f64,
    /// That charged for it; 0 in records before 0.3.0.
    #[serde(default)]
    pub lambda: f64,
    /// Entropies as shares of that of equal weights, means over the layers searched in this stage.
    pub alpha_entropy: f64,
    /// Entropy of beta, 0 (decided) to 1 (equal weights).
    pub beta_entropy: f64,
    /// Of L_val + lambda LAT, for what was updated.
    #[serde(default)]
    pub gradients: Vec<Gradient>,
    /// Softmax of alpha and beta of every layer searched so far.
    pub layers: Vec<LayerWeights>,
}

/// L_val before and after a choice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discretisation {
    /// L_val of the supernet, before the choice.
    pub supernet: f64,
    /// L_val of the derived network, after it.
    pub derived: f64,
}

/// What a caller may want to do in between.
pub enum SearchEvent<'a> {
    /// Both steps of a batch are done.
    Step(&'a StepReport),
    /// An inner epoch is done.
    Epoch(&'a EpochReport),
    /// The state that a checkpoint would hold may be saved now.
    Checkpoint(&'a Searcher),
}

/// A search: the supernet's parameters, two halves of data, a latency table and a position.
pub struct Searcher {
    pub(super) config: SearchConfig,
    pub(super) table: LatencyTable,
    store: ParamStore,
    /// Of the whole supernet: weights, and the architecture.
    weights: Vec<ParamSpec>,
    pub(super) architecture: Vec<ParamSpec>,
    pub(super) features: Option<FeatureNet>,
    train: PairDataset,
    val: PairDataset,
    pub(super) progress: SearchProgress,
}

impl Searcher {
    /// Prepares a search on `device` from the start (`checkpoint: None`) or from where it stopped.
    ///
    /// # Errors
    /// [`Error::Config`] if the data do not make two halves of at least a batch, if the table has
    /// holes or other channels, if a stage has no loss, or if a checkpoint was made with another
    /// configuration.
    pub fn new(
        config: SearchConfig,
        table: LatencyTable,
        features: Option<FeatureNet>,
        data: &PairDataset,
        checkpoint: Option<Checkpoint<SearchProgress>>,
        device: &Device,
    ) -> Result<Self> {
        if config.perceptual == Perceptual::Vgg && features.is_none() {
            return Err(Error::config(
                "features",
                "the search needs a feature network: give --features FILE (a VGG as safetensors), \
                 or say --perceptual none",
            ));
        }
        let features = features.filter(|_| config.perceptual == Perceptual::Vgg);
        let (train, val) = split(&config, data)?;
        let mut wanted = table.key.clone();
        wanted.channels = config.space.channels;
        table.check(&wanted, true)?;

        let store = ParamStore::on(device);
        let (architecture, weights): (Vec<_>, Vec<_>) = supernet_specs(&config)?
            .into_iter()
            .partition(|s| is_architecture_param(&s.name));
        for specs in [&weights, &architecture] {
            initial_params(specs, config.seed, DType::F32, &store)?;
        }
        begin_optimisers(&store, &config, &weights, &architecture)?;
        if let Some(net) = &features {
            net.install(&store, DType::F32)?;
        }
        let progress = match checkpoint {
            Some(c) => {
                if c.config != config.to_toml()? {
                    return Err(Error::config(
                        "--resume",
                        "the checkpoint was made with another configuration; use the same one, or \
                         start a new search",
                    ));
                }
                for specs in [&weights, &architecture] {
                    load_weights(&store, specs, &c.tensors)?;
                }
                c.progress
            }
            None => start_of(1, &train, &val, &config)?,
        };
        let searcher = Self {
            config,
            table,
            store,
            weights,
            architecture,
            features,
            train,
            val,
            progress,
        };
        // Said before the hours, not after them.
        searcher.genotype()?;
        searcher.charge()?;
        searcher.check_steps()?;
        Ok(searcher)
    }

    /// Configuration that it was made with.
    pub fn config(&self) -> &SearchConfig {
        &self.config
    }

    /// Parameters of the supernet, with what the optimisers keep.
    pub fn store(&self) -> &ParamStore {
        &self.store
    }

    /// Where the search stands.
    pub fn progress(&self) -> &SearchProgress {
        &self.progress
    }

    /// The halves that give L_train and L_val.
    pub fn halves(&self) -> (&PairDataset, &PairDataset) {
        (&self.train, &self.val)
    }

    /// Latency table that LAT is summed from.
    pub fn table(&self) -> &LatencyTable {
        &self.table
    }

    /// Loops of the whole search.
    pub fn schedule(&self) -> Schedule {
        self.config.schedule()
    }

    /// State for [`Searcher::new`] to go on from.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a value is not finite: it must not replace a good checkpoint.
    pub fn checkpoint(&self) -> Result<Checkpoint<SearchProgress>> {
        Checkpoint::capture(&self.store, self.progress.clone(), self.config.to_toml()?)
    }

    /// Softmax of alpha and beta of every layer.
    pub fn layers(&self) -> Result<Vec<LayerWeights>> {
        let names = layer_names(self.config.space.cells);
        read_layers(&self.store, &names, &self.config.space())
    }

    /// The supernet's weights of a chosen network, under the names of that network.
    pub fn derived_weights(&self, genotype: &Genotype) -> Result<TensorMap> {
        let mut tensors = TensorMap::new();
        for spec in &self.weights {
            if let Some(name) = derived_name(genotype, &spec.name) {
                tensors.insert(name, self.store.get(&spec.name)?);
            }
        }
        Ok(tensors)
    }

    /// L_val, without lambda LAT, of the supernet as it is (where networks are drawn, of one for each batch) and of the network that
    /// it chooses, with the supernet's weights, on the same patches: what is lost where weights of candidates become a choice. For a search that has ended.
    ///
    /// # Errors
    /// Those of the device, and of planning.
    pub fn discretisation(&self) -> Result<Discretisation> {
        cpu::install(|| {
            let stages = self.schedule().stages();
            let last = (1..=stages)
                .rev()
                .find(|&s| self.schedule().inner_epochs(s) > 0);
            let stage = last.unwrap_or(stages);
            let phase = self.schedule().phases()[0];
            let chosen = self.chosen()?;
            let layers = self.layers()?;
            let mut mix = self.mix(stage, Update::Architecture(phase))?;
            let mut sampler = start_of(stage, &self.train, &self.val, &self.config)?.val;
            let mut patches = Batch::new(self.config.batch, self.config.patch)?;
            let augment = self.config.augment;
            let (mut supernet, mut derived) = (Vec::new(), Vec::new());
            for step in 0..self.steps() {
                self.val
                    .sample_batch(&mut sampler, augment.active(), &mut patches)?;
                supernet.push(match &mut mix {
                    Some(mix) => self.judge_mix(mix, (stage, phase), 0.0, &patches)?.loss,
                    None => {
                        let network = self.draw(stage, &layers, &mut self.chance(step, 0))?;
                        self.loss_of(&network, stage, &patches)?
                    }
                });
                derived.push(self.loss_of(&chosen, stage, &patches)?);
            }
            Ok(Discretisation {
                supernet: mean(&supernet),
                derived: mean(&derived),
            })
        })
    }

    /// Layers that a stage searches, as a range of [`layer_names`].
    pub(super) fn searched(&self, stage: u8) -> std::ops::Range<usize> {
        let cells = self.config.space.cells;
        match (self.config.strategy, stage) {
            (Strategy::Naive, _) => 0..cells + 2,
            (Strategy::Collaborative, 1) => 0..cells,
            (Strategy::Collaborative, _) => cells..cells + 2,
        }
    }

    /// Steps of an inner epoch.
    pub fn steps(&self) -> u64 {
        (self.train.len() * self.config.data.patches_per_pair).div_ceil(self.config.batch) as u64
    }

    /// Searches to the end. `on_event` is called in between; an error of its ends the search.
    pub fn run(
        &mut self,
        mut on_event: impl FnMut(SearchEvent<'_>) -> Result<()> + Send,
    ) -> Result<()> {
        cpu::install(|| {
            while self.progress.stage <= self.schedule().stages() {
                self.run_stage(&mut on_event)?;
                // The next stage counts its steps from 1, so its moments must begin at zero too.
                begin_optimisers(&self.store, &self.config, &self.weights, &self.architecture)?;
                let stage = self.progress.stage + 1;
                self.progress = start_of(stage, &self.train, &self.val, &self.config)?;
            }
            on_event(SearchEvent::Checkpoint(self))
        })
    }

    fn run_stage(
        &mut self,
        on_event: &mut (impl FnMut(SearchEvent<'_>) -> Result<()> + Send),
    ) -> Result<()> {
        let (schedule, stage) = (self.schedule(), self.progress.stage);
        let epochs = schedule.inner_epochs(stage);
        if self.progress.epoch >= epochs {
            return Ok(());
        }
        let mut weights = self.mix(stage, Update::Weights)?;
        // One at a time: each has an arena of its own.
        let mut architecture: Option<(Phase, Option<Session>, Descent)> = None;
        while self.progress.epoch < epochs {
            let place = schedule.place(self.progress.epoch);
            if architecture.as_ref().map(|a| a.0) != Some(place.phase) {
                architecture = None;
                if place.phase != Phase::Weights {
                    let session = self.mix(stage, Update::Architecture(place.phase))?;
                    let descent = Descent::new(self, stage, place.phase, place.earlier)?;
                    architecture = Some((place.phase, session, descent));
                }
            }
            let moved = architecture.as_mut().map(|(_, s, d)| (s.as_mut(), d));
            let report = self.run_epoch(place, weights.as_mut(), moved, on_event)?;
            on_event(SearchEvent::Epoch(&report))?;
            if self
                .progress
                .epoch
                .is_multiple_of(self.config.checkpoint_every)
            {
                on_event(SearchEvent::Checkpoint(self))?;
            }
        }
        Ok(())
    }

    /// A step of the mix; `None` where networks are drawn, which have sessions of their own.
    fn mix(&self, stage: u8, update: Update) -> Result<Option<Session>> {
        match self.draws() {
            true => Ok(None),
            false => Session::new(&self.record_step(stage, update)?, &self.store).map(Some),
        }
    }

    /// A step of the weights of a network that is drawn.
    fn draw_weights(&self, stage: u8, step: u64) -> Result<Session> {
        let explore = self.config.architecture.explore;
        let layers = self.layers()?;
        let layers: Vec<_> = layers.iter().map(|l| l.evened(explore)).collect();
        let network = self.draw(stage, &layers, &mut self.chance(step, 0))?;
        Session::new(&self.record_network(&network, stage, true)?, &self.store)
    }

    fn run_epoch(
        &mut self,
        place: Place,
        mut weights: Option<&mut Session>,
        mut architecture: Option<(Option<&mut Session>, &mut Descent)>,
        on_event: &mut (impl FnMut(SearchEvent<'_>) -> Result<()> + Send),
    ) -> Result<EpochReport> {
        let (schedule, stage) = (self.schedule(), self.progress.stage);
        let (steps, epochs) = (self.steps(), schedule.inner_epochs(stage));
        let mut patches = Batch::new(self.config.batch, self.config.patch)?;
        let augment = self.config.augment;
        let augment = augment.active();
        let (mut train, mut val) = (Vec::new(), Vec::new());
        let mut lr = 0.0;
        let (lambda, charge) = (self.progress.lambda, self.charge()?);
        if self.config.architecture.fixed_patches {
            self.progress.val = start_of(stage, &self.train, &self.val, &self.config)?.val;
        }
        for step in 0..steps {
            let mut alone = match weights {
                Some(_) => None,
                None => Some(self.draw_weights(stage, step)?),
            };
            let weights = weights.as_deref_mut().or(alone.as_mut());
            let weights =
                weights.ok_or_else(|| Error::Internal("no step of the weights".into()))?;
            let sampler = &mut self.progress.train;
            self.train.sample_batch(sampler, augment, &mut patches)?;
            set_patches(weights, &patches)?;
            let done = self.progress.epoch * steps + step;
            lr = cosine(self.config.weights.lr, done, epochs * steps);
            weights.set_scalar("lr", lr)?;
            weights.run()?;
            let loss = weights.scalar("loss")?;
            // Its memory is that of the networks of L_val.
            drop(alone);
            self.check_finite(loss, ("training loss", "weights.lr"), step)?;
            train.push(loss);

            let mut lat = None;
            if let Some((session, descent)) = &mut architecture {
                let sampler = &mut self.progress.val;
                self.val.sample_batch(sampler, augment, &mut patches)?;
                let at = (stage, place.phase);
                let judged = match session {
                    Some(session) => self.judge_mix(session, at, charge, &patches)?,
                    None => {
                        let mut rng = self.chance(step, 1);
                        self.judge_draws(at, charge, &patches, &mut rng)?
                    }
                };
                self.check_finite(judged.loss, ("validation loss", "weights.lr"), step)?;
                let total = ("validation loss with lambda LAT", "latency.lambda");
                self.check_finite(judged.loss + charge * judged.lat, total, step)?;
                descent.take(&judged.gradients, step + 1 == steps)?;
                val.push(judged.loss);
                lat = Some(judged.lat);
            }

            on_event(SearchEvent::Step(&StepReport {
                stage,
                epoch: self.progress.epoch,
                epochs,
                step: step + 1,
                steps,
                train: train[train.len() - 1],
                val: val.last().copied(),
                lat,
            }))?;
        }
        self.progress.epoch += 1;
        let mut layers = self.layers()?;
        let searched = self.searched(stage);
        layers.truncate(searched.end);
        let now = &layers[searched.clone()];
        let space = self.config.space();
        let of = |f: fn(&LayerWeights, &SearchSpace) -> f64| {
            mean(&now.iter().map(|l| f(l, &space)).collect::<Vec<_>>())
        };
        let lat = self.lat_of(stage, now)?;
        if place.phase != Phase::Weights {
            self.adapt_lambda(&layers)?;
        }
        Ok(EpochReport {
            stage,
            epoch: self.progress.epoch,
            epochs,
            round: place.round + 1,
            rounds: schedule.rounds(stage),
            phase: place.phase,
            steps,
            lr,
            train: mean(&train),
            val: (!val.is_empty()).then(|| mean(&val)),
            lat,
            lambda,
            alpha_entropy: of(LayerWeights::alpha_entropy),
            beta_entropy: of(LayerWeights::beta_entropy),
            gradients: architecture.map_or(Vec::new(), |(_, descent)| descent.gradients()),
            layers,
        })
    }

    /// LAT of the searched layers with these weights, and of those of stage 1 where they are fixed, in milliseconds.
    pub(super) fn lat_of(&self, stage: u8, now: &[LayerWeights]) -> Result<f64> {
        let mut lat = self.table.relaxed(now)?;
        let fixed = self.searched(stage).start;
        if fixed > 0 {
            for gene in &self.genotype()?.ffm[..fixed] {
                lat += self.table.gene_ms(gene)?;
            }
        }
        Ok(lat)
    }

    fn check_finite(&self, value: f64, (what, key): (&str, &str), step: u64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        Err(Error::Diverged(format!(
            "the {what} became {value} at stage {}, inner epoch {}, step {}; start another search with a \
             lower {key}",
            self.progress.stage,
            self.progress.epoch + 1,
            step + 1
        )))
    }
}

/// The halves that give L_train and L_val, whole scenes each, without what is held out.
///
/// # Errors
/// [`Error::Config`] if there is one scene only, or if a half has too few patches in an epoch for a batch.
pub(crate) fn split(
    config: &SearchConfig,
    data: &PairDataset,
) -> Result<(PairDataset, PairDataset)> {
    let (data, _) = config.data.parts(data, config.seed)?;
    let (train, val) = data.split_even(config.data.scene_gap, config.split)?;
    let patches = val.len() * config.data.patches_per_pair;
    if patches < config.batch {
        return Err(Error::config(
            "batch",
            format!(
                "{} pairs leave {} for validation, {patches} patches in an epoch, fewer than a batch of {}; \
                 lower batch, raise data.patches_per_pair or give more pairs",
                data.len(),
                val.len(),
                config.batch
            ),
        ));
    }
    Ok((train, val))
}

/// The beginning of a stage. Each stage and half draws from a sequence of its own.
fn start_of(
    stage: u8,
    train: &PairDataset,
    val: &PairDataset,
    config: &SearchConfig,
) -> Result<SearchProgress> {
    let seed = config.seed.wrapping_add(2 * (u64::from(stage) - 1));
    Ok(SearchProgress {
        stage,
        epoch: 0,
        train: EpochSampler::new(train.len(), seed)?,
        val: EpochSampler::new(val.len(), seed.wrapping_add(1))?,
        lambda: config.latency.lambda,
    })
}

/// Zero moments of weights and architecture, and no step done.
fn begin_optimisers(
    store: &ParamStore,
    config: &SearchConfig,
    weights: &[ParamSpec],
    architecture: &[ParamSpec],
) -> Result<()> {
    zero_moments(store, weights, config.weights.optimizer.moments())?;
    zero_moments(store, architecture, ARCHITECTURE)?;
    let zero = Tensor::scalar(DType::F32, 0.0);
    let mut names = { weights.iter() }.flat_map(|s| COUNT.map(|n| moment_name(n, &s.name)));
    names.try_for_each(|name| store.set(&name, &zero))
}
