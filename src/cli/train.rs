//! `hafuse train`: a training run in a folder, resumable at any time.

use super::device::DeviceArg;
use super::train_log::{Metrics, Progress, prune};
use super::{output, preview, terminal};
use crate::data::PairDataset;
use crate::infer::{BUILTIN, Model};
use crate::loss::FeatureNet;
use crate::net::Genotype;
use crate::tensor::io::{self, write_atomic};
use crate::train::{Checkpoint, DEFAULT_CONFIG, Perceptual, TrainConfig, TrainEvent, Trainer};
use crate::{Error, Result};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  hafuse train --print-config > my.toml             all keys, explained
  hafuse train my.toml --a data/ir --b data/vi --features vgg19.safetensors --out runs/mine
  hafuse train runs/mine/config.toml --resume       go on after a stop, a crash or a kill
  hafuse train my.toml --set stage2.epochs=200 --set loss.object.gradient=5
  hafuse train my.toml --perceptual none            without a feature network

What a run writes into its folder:
  config.toml             the configuration in full
  checkpoint.safetensors  weights, optimiser and position, replaced every checkpoint_every steps
  metrics.jsonl           one JSON object for each log_every steps
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
    /// Configuration; without one all defaults hold
    #[arg(value_name = "CONFIG.toml")]
    pub config: Option<PathBuf>,
    /// Set one key, as in --set stage1.lr=1e-3; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Feature network (a VGG-16 or VGG-19 as safetensors), key `features`
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// Whether a feature network gives perceptual loss and weights, key `perceptual`
    #[arg(long, value_enum)]
    pub perceptual: Option<PerceptualArg>,
    /// Folder of infrared or MRI pictures, key `data.a`
    #[arg(long, value_name = "DIR")]
    pub a: Option<PathBuf>,
    /// Folder of visible or PET pictures, key `data.b`
    #[arg(long, value_name = "DIR")]
    pub b: Option<PathBuf>,
    /// Folder of the run, key `out`
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of weights, order and crops, key `seed`
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Go on from the checkpoint in the folder of the run
    #[arg(long)]
    pub resume: bool,
    /// Stop after so many steps, with a checkpoint and exit code 6
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,
    /// Print the configuration that would be used (alone: the commented defaults) and exit
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// [`Perceptual`] as a command line value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PerceptualArg {
    /// From the feature network that --features names
    Vgg,
    /// No perceptual term, equal weights
    None,
}

/// Trains, or goes on training.
///
/// # Errors
/// Configuration, data and output errors before the first step; [`Error::Stopped`] for `--stop-after`.
pub fn run(args: &TrainArgs) -> Result<()> {
    let config = configure(args)?;
    if args.print_config {
        return terminal::print(&printed(args, &config)?);
    }
    check_config(&config)?;
    let out = config.out.clone();
    let file = |name: &str| out.join(name);
    output::check_folder(&out, &[&config.data.a, &config.data.b])?;
    let checkpoint = open_checkpoint(args, &config, &file("checkpoint.safetensors"))?;

    let genotype = open_genotype(&config.genotype)?;
    let features = match config.perceptual {
        Perceptual::Vgg => Some(open_features(&config.features)?),
        Perceptual::None => None,
    };
    let data = PairDataset::load(&config.data.a, &config.data.b, config.patch)?;
    if !data.unmatched().is_empty() {
        let names: Vec<String> = data
            .unmatched()
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        terminal::say(&format!(
            "warning: no partner for {} pictures: {}",
            names.len(),
            terminal::few(&names)
        ));
    }
    let device = args.device.open()?;
    let resumed = checkpoint.is_some();
    let mut trainer = Trainer::new(
        config.clone(),
        genotype,
        features,
        data.clone(),
        checkpoint,
        &device,
    )?;
    if !resumed && !config.init.as_os_str().is_empty() {
        init(&trainer, &config.init)?;
    }

    std::fs::create_dir_all(&out).map_err(|e| Error::output(&out, e))?;
    write_atomic(&file("config.toml"), config.to_toml()?.as_bytes())?;
    prune(&file("metrics.jsonl"), resumed.then(|| trainer.progress()))?;
    let mut watch = Watch {
        out: &out,
        metrics: Metrics::open(&file("metrics.jsonl"), config.log_every, config.batch)?,
        progress: Progress::new(config.batch),
        data: &data,
        left: args.stop_after,
    };
    terminal::say(&format!("training on {device}"));
    let result = trainer.run(|event| watch.on_event(event));
    watch.progress.finish();
    if watch.left == Some(0) && matches!(result, Err(Error::Stopped(_))) {
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
        about: about(&trainer, data.len()),
        weights: trainer.weights()?,
    }
    .save(&path, true)?;
    terminal::print(&format!(
        "trained: hafuse fuse A B -o OUT --model {}",
        path.display()
    ))
}

/// File, `--set`, then the options that have a name of their own.
fn configure(args: &TrainArgs) -> Result<TrainConfig> {
    if let Some(path) = args.config.as_deref().filter(|p| !p.exists()) {
        return Err(Error::input(
            path,
            "no such configuration; `hafuse train --print-config` prints one to begin with",
        ));
    }
    let mut config = TrainConfig::load(args.config.as_deref(), &args.set)?;
    let paths = [
        (&mut config.features, &args.features),
        (&mut config.data.a, &args.a),
        (&mut config.data.b, &args.b),
        (&mut config.out, &args.out),
    ];
    for (key, given) in paths {
        if let Some(path) = given {
            if path.to_str().is_none() {
                return Err(Error::config(
                    "training configuration",
                    format!(
                        "{} is not UTF-8, so config.toml cannot hold it; rename it",
                        path.display()
                    ),
                ));
            }
            key.clone_from(path);
        }
    }
    match args.perceptual {
        Some(PerceptualArg::Vgg) => config.perceptual = Perceptual::Vgg,
        Some(PerceptualArg::None) => config.perceptual = Perceptual::None,
        None => {}
    }
    config.seed = args.seed.unwrap_or(config.seed);
    Ok(config)
}

/// The commented defaults if nothing asks for anything else.
fn printed(args: &TrainArgs, config: &TrainConfig) -> Result<String> {
    if args.config.is_none() && *config == TrainConfig::load(None, &[])? {
        Ok(DEFAULT_CONFIG.to_string())
    } else {
        config.to_toml()
    }
}

fn check_config(config: &TrainConfig) -> Result<()> {
    let folders = [
        ("data.a", "--a", &config.data.a),
        ("data.b", "--b", &config.data.b),
        ("out", "--out", &config.out),
    ];
    for (key, option, path) in folders {
        if path.as_os_str().is_empty() {
            return Err(Error::config(
                key,
                format!("names no folder; set it in the configuration or give {option} DIR"),
            ));
        }
    }
    if config.perceptual == Perceptual::Vgg && config.features.as_os_str().is_empty() {
        return Err(Error::config(
            "features",
            "perceptual = \"vgg\" needs a feature network; give --features FILE (a VGG-16 or \
             VGG-19 as safetensors), or say --perceptual none",
        ));
    }
    Ok(())
}

fn open_features(path: &Path) -> Result<FeatureNet> {
    if !path.exists() {
        return Err(Error::input(
            path,
            "no such feature network; give --features FILE (a VGG-16 or VGG-19 as safetensors), \
             or say --perceptual none",
        ));
    }
    FeatureNet::load(path)
}

/// The genotype of a built-in model, or that of a file.
fn open_genotype(name: &str) -> Result<Genotype> {
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

/// The checkpoint to go on from; refuses to overwrite a run that nobody asked to resume.
fn open_checkpoint(
    args: &TrainArgs,
    config: &TrainConfig,
    path: &Path,
) -> Result<Option<Checkpoint>> {
    let out = config.out.display();
    match (args.resume, path.exists()) {
        (false, false) => {
            // A run killed before its first checkpoint may start over; nothing else is overwritten.
            let same = |text: String| config.to_toml().is_ok_and(|mine| mine == text);
            let other = std::fs::read_to_string(config.out.join("config.toml"))
                .is_ok_and(|text| !same(text));
            if other || config.out.join("model.safetensors").exists() {
                return Err(Error::config(
                    "out",
                    format!("{out} holds files of another run; give another --out"),
                ));
            }
            Ok(None)
        }
        (false, true) => Err(Error::config(
            "out",
            format!("{out} already holds a run; go on with --resume or give another --out"),
        )),
        (true, false) => Err(Error::config(
            "--resume",
            format!("{out} has no checkpoint.safetensors; start without --resume"),
        )),
        (true, true) => {
            let checkpoint = Checkpoint::load(path)?;
            let ours = config.to_toml()?;
            let differ = ours
                .lines()
                .zip(checkpoint.config.lines())
                .find(|(x, y)| x != y);
            if let Some((here, there)) = differ {
                return Err(Error::config(
                    "--resume",
                    format!(
                        "`{here}` here but `{there}` in the checkpoint; resume with {out}/config.toml \
                         alone, or start another run with `init` set to the checkpoint"
                    ),
                ));
            }
            Ok(Some(checkpoint))
        }
    }
}

/// Starts from the weights of a model or checkpoint; the optimiser begins anew.
fn init(trainer: &Trainer, path: &Path) -> Result<()> {
    let (mut tensors, _) = io::load(path)?;
    tensors.retain(|name, _| !name.starts_with("adam."));
    trainer
        .init_from(&tensors)
        .map_err(|e| Error::input(path, e))
}

fn about(trainer: &Trainer, pairs: usize) -> String {
    let c = trainer.config();
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
    data: &'a PairDataset,
    /// Steps that `--stop-after` leaves.
    left: Option<u64>,
}

impl Watch<'_> {
    fn on_event(&mut self, event: TrainEvent<'_>) -> Result<()> {
        match event {
            TrainEvent::Step(report) => {
                self.metrics.step(report)?;
                self.progress.show(report);
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        return Err(Error::Stopped(format!(
                            "stopped at stage {}, step {} of {} as --stop-after asks; go on with \
                             `hafuse train {} --resume`",
                            report.stage,
                            report.step,
                            report.steps,
                            self.out.join("config.toml").display()
                        )));
                    }
                }
                Ok(())
            }
            TrainEvent::Checkpoint(trainer) => trainer
                .checkpoint()?
                .save(&self.out.join("checkpoint.safetensors")),
            TrainEvent::Preview(trainer) => {
                let p = trainer.progress();
                let name = format!("preview/stage{}_step{:06}.png", p.stage, p.step);
                preview::draw(trainer, self.data, &self.out.join(name))
            }
        }
    }
}
