//! Searches, trainings and measurements that experiments share, each skipped where it is done.

use super::config::ExperimentConfig;
use super::table::Run;
use crate::cli::methods;
use crate::cli::stop::Stop;
use crate::cli::{folder, search, search_seeds, terminal, train};
use crate::data::{list_all, list_pairs};
use crate::device::Device;
use crate::fuser::memory::lacking;
use crate::hash::Fnv1a;
use crate::infer::{Engine, Model, Precision};
use crate::metrics::{Metric, measure};
use crate::net::{Genotype, Part, tape_of_part};
use crate::report::run::SearchRun;
use crate::search::{
    LatencyKey, LatencyTable, LayerWeights, SearchConfig, Strategy, Timing, warm_up,
};
use crate::stats::mean_std;
use crate::tape::{Session, SessionOptions, Tape};
use crate::tensor::Tensor;
use crate::tensor::io::write_atomic;
use crate::train::Task;
use crate::{Error, Fuser, Result, output};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The metrics of the experiments: those of the paper's tables in its conventions, entropy for Fig. 5, and what tells
/// whether details came through and levels were lost.
pub const METRICS: [Metric; 11] = [
    Metric::En,
    Metric::SdU8sat,
    Metric::VifU8sat,
    Metric::Cc,
    Metric::Scd,
    Metric::Qabf,
    Metric::Ssim,
    Metric::Nabf,
    Metric::NewBlack,
    Metric::NewWhite,
    Metric::ToneDetail,
];

/// Names of the deed in a folder and of the one who asks, for refusals.
const ASKED: (&str, &str) = ("run", "this experiment");

/// The folder of all experiments and what runs in it.
pub struct Lab<'a> {
    pub config: &'a ExperimentConfig,
    pub device: Device,
    pub precision: Precision,
    /// When trainings and searches stop.
    pub until: Option<Instant>,
}

/// A network to train, of a search that has ended or as it was given.
pub struct Found {
    /// Begins the names of its models, `<task>-<strategy>-lambda<x>-seed<n>`.
    pub key: String,
    pub seed: u64,
    /// The network as it is trained, with the channels of the configuration.
    pub genotype: Genotype,
    /// Channels of the search.
    pub channels: usize,
    /// Milliseconds by the table, as it was searched.
    pub predicted: Option<f64>,
    pub layers: Vec<LayerWeights>,
}

impl Found {
    /// A row's run of this network or of one made from it.
    pub fn run(&self, genotype: &Genotype) -> Run {
        Run {
            seed: Some(self.seed),
            genotype: Some(genotype.clone()),
            predicted: self.predicted.filter(|_| *genotype == self.genotype),
            ..Run::default()
        }
    }
}

/// Values of [`METRICS`] for each test pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Of the model, the pictures, the device and the precision.
    hash: String,
    pub pairs: Vec<String>,
    /// By the metric's name; `None` where it is not defined.
    pub values: BTreeMap<String, Vec<Option<f64>>>,
}

impl Scores {
    /// Mean and population standard deviation over the pairs where the metric is defined.
    pub fn mean_std(&self, metric: Metric) -> Option<(f64, f64)> {
        let all = self.values.get(metric.name())?;
        let v: Vec<f64> = all.iter().flatten().copied().collect();
        mean_std(&v)
    }
}

impl Lab<'_> {
    fn out(&self) -> &Path {
        &self.config.out
    }

    /// The networks of all seeds: searches, goes on searching, or reads what an earlier call found. `lambda`: `None` is that of `[search]`.
    pub fn search(
        &self,
        task: Task,
        strategy: Strategy,
        lambda: Option<f64>,
    ) -> Result<Vec<Found>> {
        let mut config = self.config.search_config(task)?;
        config.strategy = strategy;
        config.latency.lambda = lambda.unwrap_or(config.latency.lambda);
        let key = format!(
            "{}-{}-lambda{}",
            task.name(),
            strategy.name(),
            config.latency.lambda
        );
        self.search_all(&config, &key)
    }

    /// [`Lab::search`] for a latency in milliseconds.
    pub fn search_within(&self, task: Task, ms: f64) -> Result<Vec<Found>> {
        let key = format!("{}-collaborative-target{ms}ms", task.name());
        self.search_all(&self.config_within(task, ms)?, &key)
    }

    /// The search for a latency in milliseconds.
    ///
    /// # Errors
    /// [`Error::Config`] if its lambda cannot adapt.
    pub fn config_within(&self, task: Task, ms: f64) -> Result<SearchConfig> {
        let mut config = self.config.search_config(task)?;
        config.strategy = Strategy::Collaborative;
        config.latency.target = format!("{ms} ms");
        config.check()?;
        Ok(config)
    }

    /// The charge for the paper's `lambda`.
    pub fn charge(&self, lambda: f64) -> f64 {
        // 0.05 * 0.006 is 0.00030000000000000003; the product names a folder.
        (lambda * self.config.table3.factor * 1e12).round() / 1e12
    }

    fn search_all(&self, config: &SearchConfig, key: &str) -> Result<Vec<Found>> {
        let seeds = &self.config.seeds;
        let each = seeds.iter();
        let found = each
            .map(|&seed| self.search_from(config.clone(), key, seed))
            .collect::<Result<Vec<_>>>()?;
        if seeds.len() > 1 {
            let folders = found.iter().map(|f| (f.seed, self.searches().join(&f.key)));
            let name = format!("agreement-{key}");
            search_seeds::compare(&folders.collect::<Vec<_>>(), self.out(), &name)?;
        }
        Ok(found)
    }

    fn searches(&self) -> PathBuf {
        self.out().join("searches")
    }

    fn search_from(&self, mut config: SearchConfig, key: &str, seed: u64) -> Result<Found> {
        config.seed = seed;
        let key = format!("{key}-seed{seed}");
        config.out = self.searches().join(&key);
        let out = config.out.clone();
        let file = |name: &str| out.join(name);
        let done = folder::finished(&out, "genotype.json", &config.to_toml()?, ASKED)?;
        let resume = file("checkpoint.safetensors").exists();
        if done || resume {
            self.check_table(&config, &file("latency.json"))?;
        }
        if done {
            terminal::say(&format!("search {key}: done before"));
        } else {
            terminal::say(&format!("search {key}"));
            search::execute(config, resume, Stop::at(self.until), &self.device)?;
        }
        let (record, table) = SearchRun::load(&out)?.found()?;
        let mut genotype = record.genotype;
        let predicted = Some(table.predict(&genotype)?);
        let channels = genotype.channels;
        genotype.channels = self.config.channels_of(channels);
        Ok(Found {
            key,
            seed,
            channels,
            genotype,
            predicted,
            layers: record.layers,
        })
    }

    /// Refuses what was searched for the latency of another device or type, unless it was meant to be.
    fn check_table(&self, config: &SearchConfig, path: &Path) -> Result<()> {
        if config.latency.foreign || !path.exists() {
            return Ok(());
        }
        let theirs = LatencyTable::load(path)?.key;
        let ours = search::wanted_table(config, &self.device)?;
        let place = |k: &LatencyKey| format!("{} in {}", k.device, k.dtype);
        if place(&theirs) == place(&ours) {
            return Ok(());
        }
        let detail = format!(
            "{} holds a search for {}, this experiment runs on {}; name another folder with --out",
            config.out.display(),
            place(&theirs),
            place(&ours)
        );
        Err(Error::config("out", detail))
    }

    /// Trains, goes on training, or finds what an earlier call trained: the model and the name of its folder.
    pub fn train(
        &self,
        task: Task,
        key: &str,
        genotype: &Genotype,
        extra: &[&str],
        seed: u64,
    ) -> Result<(String, Model)> {
        let key = match self.config.channels {
            0 => key.to_string(),
            channels => format!("{key}-c{channels}"),
        };
        let out = self.out().join("models").join(&key);
        let mut config = self.config.train_config(task, extra)?;
        config.seed = seed;
        config.out.clone_from(&out);
        // A genotype of the folder's own: training takes a file, and this one is not written over.
        let path = out.join("genotype.json");
        config.genotype = path
            .to_str()
            .ok_or_else(|| Error::config("out", "is not UTF-8; name another folder"))?
            .to_string();
        let json = genotype.to_json()?;
        if path.exists() && Genotype::load(&path)? != *genotype {
            let detail = format!(
                "{} holds a model of another genotype; name another folder with --out",
                out.display()
            );
            return Err(Error::config("out", detail));
        }
        if folder::finished(&out, "model.safetensors", &config.to_toml()?, ASKED)? {
            terminal::say(&format!("training {key}: done before"));
        } else {
            terminal::say(&format!("training {key}"));
            std::fs::create_dir_all(&out).map_err(|e| Error::output(&out, e))?;
            write_atomic(&path, json.as_bytes())?;
            let resume = out.join("checkpoint.safetensors").exists();
            train::execute(config, resume, Stop::at(self.until), &self.device)?;
        }
        let model = Model::open(&out.join("model.safetensors").to_string_lossy())?;
        Ok((key, model))
    }

    /// What a task's searches, trainings and scores read is named and there.
    pub fn check_task(&self, task: Task) -> Result<()> {
        let f = self.config.folders(task);
        named(
            task,
            [
                ("train_a", !f.train_a.is_empty()),
                ("train_b", !f.train_b.is_empty()),
            ],
        )?;
        self.check_test(task)?;
        list_all(&f.train_a, &f.train_b, &[])?;
        folder::check_features(self.config.perceptual, &self.config.features)
    }

    /// The test pairs of a task are named and there.
    pub fn check_test(&self, task: Task) -> Result<()> {
        let f = self.config.folders(task);
        named(
            task,
            [
                ("test_a", !f.test_a.as_os_str().is_empty()),
                ("test_b", !f.test_b.as_os_str().is_empty()),
            ],
        )?;
        list_pairs(&f.test_a, &f.test_b).map(|_| ())
    }

    /// Fuses the test pairs of a task with a model and measures the results, unless an earlier call did.
    pub fn score(&self, task: Task, key: &str, model: &Model) -> Result<Scores> {
        self.score_part(task, key, model, Part::Whole)
    }

    /// [`Lab::score`] of what a part of the network gives.
    pub fn score_part(&self, task: Task, key: &str, model: &Model, part: Part) -> Result<Scores> {
        let folders = self.config.folders(task);
        let pairs = list_pairs(&folders.test_a, &folders.test_b)?.pairs;
        let mut hash = Fnv1a::new();
        hash.write(&model.hash()?.to_le_bytes());
        for path in pairs.iter().flat_map(|p| [&p.a, &p.b]) {
            let bytes = std::fs::read(path).map_err(|e| Error::input(path, e))?;
            hash.write(format!("{path:?} {} ", bytes.len()).as_bytes());
            hash.write(&bytes);
        }
        let place = format!("{part:?} {} {}", self.device, self.precision.dtype());
        hash.write(place.as_bytes());
        hash.write(env!("CARGO_PKG_VERSION").as_bytes());
        let hash = format!("{:016x}", hash.finish());
        let path = self.out().join("scores").join(format!("{key}.json"));
        if let Ok(text) = std::fs::read_to_string(&path)
            && let Ok(scores) = serde_json::from_str::<Scores>(&text)
            && scores.hash == hash
        {
            return Ok(scores);
        }
        let options = SessionOptions::default();
        let mut engine = Engine::on(&self.device, self.precision, model, options)?;
        engine.set_part(part);
        let mut fuser = Fuser::from(engine);
        let mut values: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        let bar = terminal::bar(pairs.len() as u64, "{bar:30} {pos}/{len} pairs judged");
        for pair in &pairs {
            let [a, b, fused] = methods::grey(&mut fuser, pair)?;
            let scores = measure(&a, &b, &fused, &METRICS)?;
            for (metric, score) in METRICS.iter().zip(scores) {
                values
                    .entry(metric.name().into())
                    .or_default()
                    .push(score.ok());
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let scores = Scores {
            hash,
            pairs: pairs.into_iter().map(|p| p.stem).collect(),
            values,
        };
        let json = serde_json::to_string_pretty(&scores)
            .map_err(|e| Error::Internal(format!("scores: {e}")))?;
        output::make_parent(&path)?;
        write_atomic(&path, json.as_bytes())?;
        Ok(scores)
    }

    /// Times networks in turns, so that what else the machine does meets all of them.
    pub fn time(&self, networks: &[(&Model, Part)]) -> Result<Vec<Timing>> {
        let m = self.config.measure;
        let tapes = networks.iter().map(|(model, part)| self.tape(model, *part));
        let tapes = tapes.collect::<Result<Vec<_>>>()?;
        self.check_memory(networks, &tapes)?;
        let mut sessions = networks
            .iter()
            .zip(&tapes)
            .map(|((model, _), tape)| self.session(model, tape))
            .collect::<Result<Vec<_>>>()?;
        let bar = terminal::bar(m.runs as u64, "{bar:30} {pos}/{len} rounds of timing");
        let mut seconds = vec![Vec::with_capacity(m.runs); sessions.len()];
        warm_up(&self.device, 2, || {
            sessions.iter_mut().try_for_each(Session::run)
        })?;
        for _ in 0..m.runs {
            for (session, seconds) in sessions.iter_mut().zip(&mut seconds) {
                let start = Instant::now();
                session.run()?;
                seconds.push(start.elapsed().as_secs_f64());
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        seconds.into_iter().map(Timing::from_seconds).collect()
    }

    /// Refuses what would end the process. A card says so itself.
    fn check_memory(&self, networks: &[(&Model, Part)], tapes: &[Tape]) -> Result<()> {
        if matches!(self.device, Device::Cuda(_)) {
            return Ok(());
        }
        let weights = networks
            .iter()
            .flat_map(|(model, _)| model.weights.values());
        let weights = weights.map(|w| w.shape().len() * size_of::<f32>());
        let arenas = tapes.iter().map(Session::planned_bytes);
        let needed = weights.chain(arenas).fold(0, usize::saturating_add);
        let Some(shortage) = lacking("timing them in turns", needed) else {
            return Ok(());
        };
        let (m, count) = (self.config.measure, networks.len());
        let detail = format!(
            "{count} networks at {} x {}: {shortage}; lower measure.width, measure.height or latency.networks",
            m.width, m.height
        );
        Err(Error::config("measure", detail))
    }

    fn tape(&self, model: &Model, part: Part) -> Result<Tape> {
        let m = self.config.measure;
        let size = [1, m.height, m.width];
        tape_of_part(&model.genotype, part, size, self.precision.dtype())
    }

    fn session(&self, model: &Model, tape: &Tape) -> Result<Session> {
        let m = self.config.measure;
        let store = model.params_on(&self.device, tape.dtype())?;
        let mut session = Session::new(tape, &store)?;
        for (name, k) in [("a", 7), ("b", 13)] {
            let wave = (0..m.width * m.height).map(|i| (i * k % 251) as f64 / 250.0);
            let wave = Tensor::from_vec([1, m.height, m.width, 1], wave.collect::<Vec<f64>>())?;
            session.set(name, &wave.to_dtype(tape.dtype()))?;
        }
        Ok(session)
    }
}

/// Refuses the first of these folders that is not named.
fn named(task: Task, folders: [(&str, bool); 2]) -> Result<()> {
    match folders.iter().find(|(_, named)| !named) {
        None => Ok(()),
        Some((key, _)) => Err(Error::config(
            format!("{}.{key}", task.name()),
            "names no folder; set it in the configuration or with --set",
        )),
    }
}
