//! `hafuse experiment`: the paper's tables and figures, each as one command.

mod ablations;
mod config;
mod figures;
mod frontier;
mod latency;
mod peers;
mod runs;
mod table;
mod target;
mod terms;

use super::device::DeviceArg;
use super::folder::{FeatureArgs, set_path};
use super::stop::parse_duration;
use super::train::open_genotype;
use super::{folder, terminal};
use crate::infer::Model;
use crate::infer::Precision;
use crate::output;
use crate::tensor::io::write_atomic;
use crate::train::Task;
use crate::{Error, Result};
use clap::ValueEnum;
use config::{DEFAULT_CONFIG, ExperimentConfig};
use runs::Lab;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::Table;

const AFTER_HELP: &str = "\
Examples:
  hafuse experiment table3 --print-config > lab.toml       all keys, explained
  hafuse experiment table3 --config lab.toml --features vgg19.safetensors
  hafuse experiment fig4 --config lab.toml --set genotype=ivif      on a built-in model's cells
  hafuse experiment latency --config lab.toml              needs no pictures
  hafuse experiment all --config lab.toml --budget 8h      a night; give it again to go on

The experiments:
  table1    quality of the feature-level module alone and of the whole network
  table2    parameters, multiply-adds and time of the searched network and of others
  table3    lambda from 0 to 0.2: cells, size, time, SD
  table4    without the feature-level loss, without the object-level losses, with all
  fig3      naive and collaborative search of both tasks: heatmaps, SD, SCD
  fig4      the same cells filled with one operator
  fig5      MRI and PET: mean and variance of the metrics
  terms     beyond the paper: the objective without each of its terms
  latency   beyond the paper: LAT against the measured time of random networks
  target    beyond the paper: searches for given latencies, and the times that came out
  frontier  beyond the paper: quality against latency of searched networks, models and others
  all       one after the other

What an experiment writes into its folder:
  NAME.md, NAME.json           the table, and everything that it was made from
  NAME.svg                     a plot, where the paper has one
  agreement-*.md, .json        where the seeds of a search agree, and what each calls a near tie
  searches/*, models/*         as `hafuse search` and `hafuse train` write them; shared by all experiments
  scores/*.json                metrics of each test pair

An experiment that was stopped goes on when the same command is given again; what is done is not done again.
Exit codes: 0 done, 2 configuration, 3 input, 4 output, 5 device, 6 stopped (loss not a number).";

/// Run an experiment of the paper: a table or figure as one command
///
/// Each searches, trains, fuses and measures what it needs, at the scale that [search] and [train] of the
/// configuration say; the result names that scale. The defaults are the paper's scale.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct ExperimentArgs {
    /// Which
    #[arg(value_enum)]
    pub name: Name,
    /// Configuration; without one all defaults hold
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, as in --set search.space.channels=8; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub features: FeatureArgs,
    /// Folder of all experiments, key `out`
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the configuration that would be used (alone: the commented defaults) and exit
    #[arg(long)]
    pub print_config: bool,
    /// Stop after this time, as in 90s, 150m or 8h, with exit code 6; the same command goes on
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub budget: Option<Duration>,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// The experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    All,
    Table1,
    Table2,
    Table3,
    Table4,
    Fig3,
    Fig4,
    Fig5,
    Terms,
    Latency,
    Target,
    Frontier,
}

/// Runs an experiment, or what is left of it.
///
/// # Errors
/// As searching, training and fusing.
pub fn run(args: &ExperimentArgs) -> Result<()> {
    folder::check_exists(args.config.as_deref(), "experiment table3")?;
    let mut config = ExperimentConfig::load(args.config.as_deref(), &args.set)?;
    args.features
        .apply(&mut config.features, &mut config.perceptual)?;
    set_path(&mut config.out, args.out.as_deref())?;
    if args.print_config {
        let defaults = args.config.is_none() && config == ExperimentConfig::load(None, &[])?;
        return terminal::print(&match defaults {
            true => DEFAULT_CONFIG.to_string(),
            false => config.to_toml()?,
        });
    }
    let inputs: Vec<&std::path::Path> = [&config.ivif, &config.mif]
        .iter()
        .flat_map(|f| {
            let train = f.train_a.iter().chain(f.train_b.iter());
            train.chain([&f.test_a, &f.test_b])
        })
        .filter(|p| !p.as_os_str().is_empty())
        .map(PathBuf::as_path)
        .collect();
    output::check_folder(&config.out, &inputs)?;
    let device = args.device.open()?;
    let lab = Lab {
        config: &config,
        precision: Precision::default_on(&device),
        device,
        until: args.budget.map(|budget| Instant::now() + budget),
    };
    let names = match args.name {
        Name::All => &ALL[..],
        ref one => std::slice::from_ref(one),
    };
    // All are checked before the first runs.
    names.iter().try_for_each(|&name| check(&lab, name))?;
    for (i, &name) in names.iter().enumerate() {
        if names.len() > 1 {
            terminal::say(&format!("{} of {}: {name:?}", i + 1, names.len()));
        }
        experiment(&lab, name)?;
    }
    Ok(())
}

/// All of them; what needs no training first.
const ALL: [Name; 11] = [
    Name::Latency,
    Name::Target,
    Name::Table1,
    Name::Table3,
    Name::Fig5,
    Name::Fig3,
    Name::Fig4,
    Name::Table2,
    Name::Table4,
    Name::Terms,
    Name::Frontier,
];

fn tasks(name: Name) -> &'static [Task] {
    match name {
        Name::Fig3 => &[Task::Ivif, Task::Mif],
        Name::Fig5 => &[Task::Mif],
        _ => &[Task::Ivif],
    }
}

fn experiment(lab: &Lab<'_>, name: Name) -> Result<()> {
    let table = match name {
        Name::All => return Err(Error::Internal("all is no single experiment".into())),
        Name::Table1 => ablations::table1(lab)?,
        Name::Table2 => ablations::table2(lab)?,
        Name::Table3 => ablations::table3(lab)?,
        Name::Table4 => ablations::table4(lab)?,
        Name::Fig3 => figures::fig3(lab)?,
        Name::Fig4 => figures::fig4(lab)?,
        Name::Fig5 => figures::fig5(lab)?,
        Name::Terms => terms::terms(lab)?,
        Name::Latency => latency::run(lab)?,
        Name::Target => target::run(lab)?,
        Name::Frontier => frontier::run(lab)?,
    };
    // Models that are there already have scales of their own.
    let trained = match name {
        Name::Table1 => &[][..],
        _ => tasks(name),
    };
    finish(lab, &table, trained)
}

/// What an experiment needs is there: said before the hours that come first.
fn check(lab: &Lab<'_>, name: Name) -> Result<()> {
    let config = lab.config;
    if matches!(name, Name::Table1 | Name::Table2 | Name::Frontier) {
        peers::rows(&config.peers)?;
        for model in &config.table2.models {
            Model::open(model)?;
        }
    }
    if matches!(name, Name::Table4 | Name::Fig4 | Name::Terms) && config.genotype != "searched" {
        open_genotype(&config.genotype)?;
    }
    if name == Name::Target {
        let each = config.target.ms.iter();
        each.copied()
            .try_for_each(|ms| lab.config_within(Task::Ivif, ms).map(|_| ()))?;
    }
    if name == Name::Table1 {
        return lab.check_test(Task::Ivif);
    }
    let pictures = match name {
        Name::Latency => false,
        Name::Table2 => config.table2.searched,
        _ => true,
    };
    let tasks = tasks(name).iter().filter(|_| pictures);
    tasks.copied().try_for_each(|task| lab.check_task(task))
}

/// Writes and prints the table.
fn finish(lab: &Lab<'_>, table: &Table, tasks: &[Task]) -> Result<()> {
    let scales = tasks.iter().map(|&task| table::scale(lab.config, task));
    let scale = scales.collect::<Result<Vec<_>>>()?.join(" ");
    let device = lab.device.to_string();
    let file = |end: &str| lab.config.out.join(format!("{}.{end}", table.name));
    let json = serde_json::to_string_pretty(&table.json(lab.config, &scale, &device))
        .map_err(|e| Error::Internal(format!("{}: {e}", table.name)))?;
    let text = table.markdown(&scale, &device);
    output::make_parent(&file("json"))?;
    write_atomic(&file("json"), json.as_bytes())?;
    write_atomic(&file("md"), text.as_bytes())?;
    terminal::print(&format!("{text}\nwritten: {}", file("md").display()))
}
