//! `hafuse train`: a training run in a folder, resumable at any time.

use super::folder::{self, Keys, RunArgs};
use super::stop::Stop;
use super::train_log::{Metrics, Progress, prune};
use super::{preview, terminal};
use crate::data::PairDataset;
use crate::device::Device;
use crate::infer::{BUILTIN, Model};
use crate::net::Genotype;
use crate::tensor::io::{self, write_atomic};
use crate::train::{Checkpoint, DEFAULT_CONFIG, TrainConfig, TrainEvent, Trainer};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  hafuse train --print-config > my.toml             all keys, explained
  hafuse train my.toml --a data/ir --b data/vi --features vgg19.safetensors --out runs/mine
  hafuse train runs/mine/config.toml --resume       go on after a stop, a crash or a kill
  hafuse train my.toml --set stage2.epochs=200 --set loss.object.gradient=5
  hafuse train my.toml --perceptual none            without a feature network
  hafuse train my.toml --genotype runs/search/genotype.json   what `hafuse search` found

What a run writes into its folder:
  config.toml             the configuration in full
  checkpoint.safetensors  weights, optimiser and position, replaced every checkpoint_every steps
  metrics.jsonl           one JSON object for each log_every steps, and for each validation
  validation.txt          names of the pairs that are held out, if any
  preview/*.png           rows: pairs; columns: A, B, I_f, I_t, I_d, mask M, result
  model.safetensors       at the end, for `hafuse fuse --model`

A resumed run gives the same bits as one that never stopped, on the same machine and version.
Exit codes: 0 done, 2 configuration, 3 input, 4 output, 6 stopped (--stop-after, loss not a number).";

/// Train the network on two folders of registered pairs
///
/// Stage 1 trains the feature-level module, stage 2 the whole network. The configuration is a TOML
/// file; what it leaves out has its default, and the options below win over the file. A stopped run
/// goes on with --resume, under the same configuration.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Genotype file (of `hafuse search`, say) or name of a built-in model, key `genotype`
    #[arg(long, value_name = "FILE|NAME")]
    pub genotype: Option<String>,
    /// Stop after so many steps, with a checkpoint and exit code 6
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,
}

/// Trains, or goes on training.
///
/// # Errors
/// Configuration, data and output errors before the first step; [`Error::Stopped`] for `--stop-after`.
pub fn run(args: &TrainArgs) -> Result<()> {
    let config = configure(args)?;
    if args.run.print_config {
        return terminal::print(&printed(args, &config)?);
    }
    folder::check_named(
        &config.data,
        &config.out,
        config.perceptual,
        &config.features,
    )?;
    let device = args.run.device.open()?;
    let path = execute(
        config,
        args.run.resume,
        Stop::after(args.stop_after),
        &device,
    )?;
    terminal::print(&format!(
        "trained: hafuse fuse A B -o OUT --model {}",
        path.display()
    ))
}

/// A whole training in the folder `config.out`, or what is left of one; returns the model's file.
///
/// # Errors
/// As [`run`].
pub fn execute(config: TrainConfig, resume: bool, stop: Stop, device: &Device) -> Result<PathBuf> {
    let out = config.out.clone();
    let file = |name: &str| out.join(name);
    folder::check_out(&out, &config.data)?;
    let text = config.to_toml()?;
    let checkpoint: Option<Checkpoint> =
        folder::open_checkpoint(resume, &out, &text, "model.safetensors")?;

    let genotype = open_genotype(&config.genotype)?;
    let features = folder::open_features(config.perceptual, &config.features)?;
    let data = folder::load_pairs(&config.data, config.patch)?;
    let resumed = checkpoint.is_some();
    let mut trainer = Trainer::new(config.clone(), genotype, features, data, checkpoint, device)?;
    if !resumed && !config.init.as_os_str().is_empty() {
        init(&trainer, &config.init)?;
    }

    std::fs::create_dir_all(&out).map_err(|e| Error::output(&out, e))?;
    write_atomic(&file("config.toml"), text.as_bytes())?;
    let p = trainer.progress();
    let seen = resumed.then_some((p.stage, p.step));
    prune(&file("metrics.jsonl"), "step", seen)?;
    let mut watch = Watch {
        out: &out,
        metrics: Metrics::open(&file("metrics.jsonl"), config.log_every, config.batch)?,
        progress: Progress::new(config.batch),
        data: trainer.data().0.clone(),
        stop,
    };
    list_held(&trainer, &file("validation.txt"))?;
    terminal::say(&format!("training on {device}"));
    let result = trainer.run(|event| watch.on_event(event));
    watch.progress.finish();
    if watch.stop.reached() {
        trainer
            .checkpoint()?
            .save(&file("checkpoint.safetensors"))?;
    }
    result?;

    let path = file("model.safetensors");
    Model {
        name: out
            .file_name()
            .map_or("trained".into(), |n| n.to_string_lossy().into_owned()),
        genotype: trainer.genotype().clone(),
        about: about(&trainer),
        weights: trainer.weights()?,
    }
    .save(&path, true)?;
    Ok(path)
}

/// Writes the names of what is held out, a line each under its folders, and says how many there are.
fn list_held(trainer: &Trainer, path: &Path) -> Result<()> {
    let (train, Some(held)) = trainer.data() else {
        return Ok(());
    };
    let data = &trainer.config().data;
    let mut text = String::new();
    let mut last = None;
    for (folder, name) in held.names() {
        if last.replace(folder) != Some(folder)
            && let (Some(a), Some(b)) = (data.a.get(folder), data.b.get(folder))
        {
            text += &format!("# {} {}\n", a.display(), b.display());
        }
        text += &format!("{name}\n");
    }
    write_atomic(path, text.as_bytes())?;
    terminal::say(&format!(
        "{} pairs in {} scenes to train on, {} in {} scenes held out ({})",
        train.len(),
        train.scene_groups(data.scene_gap).len(),
        held.len(),
        held.scene_groups(data.scene_gap).len(),
        path.display()
    ));
    Ok(())
}

/// File, `--set`, then the options that have a name of their own.
fn configure(args: &TrainArgs) -> Result<TrainConfig> {
    folder::check_exists(args.run.config.as_deref(), "train")?;
    let mut config = TrainConfig::load(args.run.config.as_deref(), &args.run.set)?;
    if let Some(genotype) = &args.genotype {
        config.genotype.clone_from(genotype);
    }
    args.run.apply(Keys::from(&mut config))?;
    Ok(config)
}

/// The commented defaults if nothing asks for anything else.
fn printed(args: &TrainArgs, config: &TrainConfig) -> Result<String> {
    if args.run.config.is_none() && *config == TrainConfig::load(None, &[])? {
        Ok(DEFAULT_CONFIG.to_string())
    } else {
        config.to_toml()
    }
}

/// The genotype of a built-in model, or that of a file.
pub(super) fn open_genotype(name: &str) -> Result<Genotype> {
    if BUILTIN.iter().any(|(n, _)| *n == name) {
        return Ok(Model::builtin(name)?.genotype);
    }
    let path = Path::new(name);
    if path.exists() || path.extension().is_some() {
        return Genotype::load(path);
    }
    let known: Vec<&str> = BUILTIN.iter().map(|(n, _)| *n).collect();
    Err(Error::config(
        "genotype",
        format!(
            "`{name}` is neither a genotype file (JSON) nor a built-in model ({})",
            known.join(", ")
        ),
    ))
}

/// Starts from the weights of a model or checkpoint; the optimiser begins anew.
fn init(trainer: &Trainer, path: &Path) -> Result<()> {
    let (tensors, _) = io::load(path)?;
    trainer
        .init_from(tensors)
        .map_err(|e| Error::input(path, e))
}

fn about(trainer: &Trainer) -> String {
    let (c, pairs) = (trainer.config(), trainer.data().0.len());
    format!(
        "{:?} from {pairs} pairs, {} + {} steps of {} patches of {} pixels, perceptual {:?}, seed {}, hafuse {}",
        c.task,
        trainer.steps(1),
        trainer.steps(2),
        c.batch,
        c.patch,
        c.perceptual,
        c.seed,
        env!("CARGO_PKG_VERSION")
    )
    .to_lowercase()
}

/// What happens after a step.
struct Watch<'a> {
    out: &'a Path,
    metrics: Metrics,
    progress: Progress,
    data: PairDataset,
    stop: Stop,
}

impl Watch<'_> {
    fn on_event(&mut self, event: TrainEvent<'_>) -> Result<()> {
        match event {
            TrainEvent::Validation(report) => {
                self.metrics.validation(report)?;
                self.progress.validation(report);
                Ok(())
            }
            TrainEvent::Step(report) => {
                self.metrics.step(report)?;
                self.progress.show(report);
                let (stage, step, steps) = (report.stage, report.step, report.steps);
                let config = self.out.join("config.toml");
                self.stop.step(
                    || format!("stage {stage}, step {step} of {steps}"),
                    || format!("hafuse train {} --resume", config.display()),
                )
            }
            TrainEvent::Checkpoint(trainer) => trainer
                .checkpoint()?
                .save(&self.out.join("checkpoint.safetensors")),
            TrainEvent::Preview(trainer) => {
                let p = trainer.progress();
                let name = format!("preview/stage{}_step{:06}.png", p.stage, p.step);
                preview::draw(trainer, &self.data, &self.out.join(name))
            }
        }
    }
}
