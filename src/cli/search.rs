//! `hafuse search`: an architecture search in a folder, resumable at any time.

use super::folder::{self, Keys, RunArgs};
use super::search_log::{Metrics, Progress};
use super::stop::Stop;
use super::train_log::prune;
use super::{search_seeds, terminal};
use crate::device::Device;
use crate::fuser::memory::lacking;
use crate::hash::Fnv1a;
use crate::infer::{Model, Precision};
use crate::net::{CellKind, Genotype, OpKind, count_parts};
use crate::output;
use crate::report::run::SearchRun;
use crate::search::{
    self, DEFAULT_CONFIG, Effort, LatencyKey, LatencyPrecision, LatencyTable, Method, SearchConfig,
    SearchEvent, SearchProgress, Searcher, Verdict, brief,
};
use crate::tensor::io::write_atomic;
use crate::train::Checkpoint;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  hafuse search --print-config > my.toml            all keys, explained
  hafuse search my.toml --a data/ir --b data/vi --features vgg19.safetensors --out runs/s
  hafuse search runs/s/config.toml --resume         go on after a stop, a crash or a kill
  hafuse search my.toml --lambda 0.2                charge latency more
  hafuse search my.toml --set latency.target=50ms        the most likely network within this time
  hafuse search my.toml --seeds 3                   three searches, and where they agree
  hafuse search my.toml --latency jetson.json       for the device that measured this table
  hafuse train --genotype runs/s/genotype.json --a data/ir --b data/vi   train what was found

What a search writes into its folder:
  config.toml             the configuration in full
  latency.json            the table that LAT is charged by
  checkpoint.safetensors  weights, alpha, beta, optimisers, position; every checkpoint_every epochs
  metrics.jsonl           one JSON object for each inner epoch: losses, LAT, alpha, beta
  genotype.json           at the end: the arg-max, for `hafuse train --genotype`
  search.json             at the end: decisions, warnings, softmax tables, LAT, counts, what was searched how
  model.safetensors       at the end: that network with the supernet's weights, a start for `init` in training

A resumed search gives the same bits as one that never stopped, on the same machine and version.
Exit codes: 0 done, 2 configuration, 3 input, 4 output, 5 device, 6 stopped (--stop-after, loss not a number).";

/// Search an architecture for your data, task and device
///
/// Algorithm 1 of the paper: stage 1 searches the feature-level module, stage 2 the object-level module; network
/// weights learn on one half of the pairs, the architecture on the other, charged lambda for its latency. At the
/// end the search judges its own decisions, and warns of those that chance may have made. The latency of each
/// operator is measured on the device at hand when a search begins, once for each device, size, type and number
/// of channels.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct SearchArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Charge for latency, key `latency.lambda`
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lambda: Option<f64>,
    /// Table of `hafuse bench ops --json`, of whatever device; keys `latency.table`, `latency.foreign`
    #[arg(long, value_name = "FILE")]
    pub latency: Option<PathBuf>,
    /// Stop after so many inner epochs, with a checkpoint and exit code 6
    #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,
    /// Search from so many seeds, each in a folder of its own, and say where they agree
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=64), conflicts_with_all = ["stop_after", "resume"])]
    pub seeds: Option<u64>,
}

/// Searches, or goes on searching.
///
/// # Errors
/// Configuration, data and output errors before the first step; [`Error::Stopped`] for `--stop-after`.
pub fn run(args: &SearchArgs) -> Result<()> {
    let config = configure(args)?;
    if args.run.print_config {
        let defaults = args.run.config.is_none() && config == SearchConfig::load(None, &[])?;
        return terminal::print(&match defaults {
            true => DEFAULT_CONFIG.to_string(),
            false => config.to_toml()?,
        });
    }
    folder::check_named(
        &config.data,
        &config.out,
        config.perceptual,
        &config.features,
    )?;
    let out = config.out.clone();
    let device = args.run.device.open()?;
    if let Some(count) = args.seeds {
        return search_seeds::run(config, count, &device);
    }
    let found = execute(
        config,
        args.run.resume,
        Stop::after(args.stop_after),
        &device,
    )?;
    let cells: Vec<String> = found
        .genotype
        .cells()
        .map(|(_, gene)| brief(gene))
        .collect();
    terminal::print(&format!(
        "found {}, predicted {:.3} ms\ntrain it: hafuse train --genotype {}\nlook at it: hafuse report {}",
        cells.join(", "),
        found.table.predict(&found.genotype)?,
        out.join("genotype.json").display(),
        out.display()
    ))
}

/// What a search ends with.
pub struct Found {
    pub genotype: Genotype,
    pub table: LatencyTable,
}

/// A whole search in the folder `config.out`, or what is left of one.
///
/// # Errors
/// As [`run`].
pub fn execute(config: SearchConfig, resume: bool, stop: Stop, device: &Device) -> Result<Found> {
    let out = config.out.clone();
    let file = |name: &str| out.join(name);
    folder::check_out(&out, &config.data)?;
    let text = config.to_toml()?;
    let checkpoint: Option<Checkpoint<SearchProgress>> =
        folder::open_checkpoint(resume, &out, &text, "genotype.json")?;
    let features = folder::open_features(config.perceptual, &config.features)?;
    let data = folder::load_pairs(&config.data, config.patch)?;
    // Said before a table is measured, which takes minutes.
    search::split(&config, &data)?;
    let resumed = checkpoint.is_some();
    // A resumed search goes on with the table it began with.
    let table = match resumed {
        true => LatencyTable::load(&file("latency.json"))?,
        false => open_table(&config, device)?,
    };
    let mut searcher = Searcher::new(config.clone(), table, features, &data, checkpoint, device)?;
    check_memory(&searcher)?;

    std::fs::create_dir_all(&out).map_err(|e| Error::output(&out, e))?;
    write_atomic(&file("config.toml"), text.as_bytes())?;
    searcher.table().save(&file("latency.json"))?;
    let p = searcher.progress();
    let seen = resumed.then_some((p.stage, p.epoch));
    prune(&file("metrics.jsonl"), "epoch", seen)?;
    let mut watch = Watch {
        out: &out,
        metrics: Metrics::open(&file("metrics.jsonl"))?,
        progress: Progress::new(config.batch),
        stop,
    };
    terminal::say(&format!("searching on {device}"));
    let result = searcher.run(|event| watch.on_event(event));
    watch.progress.finish();
    if watch.stop.reached() {
        let path = file("checkpoint.safetensors");
        searcher.checkpoint()?.save(&path)?;
    }
    result?;

    let genotype = searcher.genotype()?;
    let verdict = Verdict::of(&config, &SearchRun::load(&out)?.epochs, Some(&genotype));
    for warning in &verdict.warnings {
        terminal::say(&format!("warning: {warning}"));
    }
    let record = record(&searcher, &genotype, &verdict, device)?;
    let json = serde_json::to_string_pretty(&record)
        .map_err(|e| Error::Internal(format!("search.json: {e}")))?;
    write_atomic(&file("search.json"), json.as_bytes())?;
    Model {
        name: "searched".into(),
        about: format!(
            "the supernet's weights, not trained by themselves; {}",
            record["about"]
        ),
        weights: searcher.derived_weights(&genotype)?,
        genotype: genotype.clone(),
    }
    .save(&file("model.safetensors"), false)?;
    write_atomic(&file("genotype.json"), genotype.to_json()?.as_bytes())?;
    Ok(Found {
        table: searcher.table().clone(),
        genotype,
    })
}

/// Refuses what would end the process hours later, in the second stage. A card says so itself.
fn check_memory(searcher: &Searcher) -> Result<()> {
    if matches!(searcher.store().device(), Device::Cuda(_)) {
        return Ok(());
    }
    match lacking("the search", searcher.planned_bytes()?) {
        Some(shortage) => Err(Error::config(
            "batch",
            format!(
                "{} patches of {} pixels: {shortage}; lower batch, patch or space.channels, or set \
                 space.recompute=true",
                searcher.config().batch,
                searcher.config().patch
            ),
        )),
        None => Ok(()),
    }
}

/// File, `--set`, then the options that have a name of their own.
fn configure(args: &SearchArgs) -> Result<SearchConfig> {
    folder::check_exists(args.run.config.as_deref(), "search")?;
    let mut set = args.run.set.clone();
    set.extend(args.lambda.map(|x| format!("latency.lambda={x:?}")));
    if args.latency.is_some() {
        set.push("latency.foreign=true".into());
    }
    let mut config = SearchConfig::load(args.run.config.as_deref(), &set)?;
    folder::set_path(&mut config.latency.table, args.latency.as_deref())?;
    args.run.apply(Keys::from(&mut config))?;
    Ok(config)
}

/// What a table for this search on this device is measured for.
pub(super) fn wanted_table(config: &SearchConfig, device: &Device) -> Result<LatencyKey> {
    let l = &config.latency;
    let precision = match (l.precision, device) {
        (LatencyPrecision::Auto, _) => Precision::default_on(device),
        (LatencyPrecision::F32, _) => Precision::F32,
        (LatencyPrecision::F16, Device::Cpu) => {
            return Err(Error::config(
                "latency.precision",
                "f16 needs a CUDA card; the CPU computes in f32",
            ));
        }
        (LatencyPrecision::F16, _) => Precision::F16,
    };
    let (size, channels) = ((l.width, l.height), config.space.channels);
    Ok(LatencyKey::here(device, precision.dtype(), size, channels))
}

/// The table that the configuration names, or one of the device at hand: from the cache, or measured.
pub(super) fn open_table(config: &SearchConfig, device: &Device) -> Result<LatencyTable> {
    let l = &config.latency;
    let wanted = wanted_table(config, device)?;
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |e: Error| match e {
            Error::Config { what, detail } => {
                Error::config(format!("{what} {}", path.display()), detail)
            }
            e => e,
        }
    };
    if l.foreign && l.table.as_os_str().is_empty() {
        return Err(Error::config(
            "latency.foreign",
            "is true but there is no table of another device; give --latency FILE, or set it to false",
        ));
    }
    if !l.table.as_os_str().is_empty() {
        let table = LatencyTable::load(&l.table)?;
        table.check(&wanted, l.foreign).map_err(at(&l.table))?;
        if let Some((what, theirs, ours)) = table.key.difference(&wanted) {
            terminal::say(&format!(
                "note: searching for the latency of {}: its {what} is {theirs}, not {ours}",
                l.table.display()
            ));
        }
        return Ok(table);
    }
    let cached = cache_file(&wanted);
    if let Some(path) = cached.as_deref().filter(|p| p.exists())
        && let Ok(table) = LatencyTable::load(path)
        && table.check(&wanted, false).is_ok()
        && table.method == Method::on(device)
        && let runs = table.runs()
        && runs >= l.runs
    {
        terminal::say(&format!(
            "latency table: {} ({runs} timed runs of each operator)",
            path.display()
        ));
        return Ok(table);
    }
    terminal::say(&format!(
        "measuring the latency of each operator at {} x {}",
        l.width, l.height
    ));
    let effort = Effort {
        runs: l.runs,
        cold: true,
    };
    let table = LatencyTable::measure(device, wanted, effort, |_| {})?;
    if let Some(path) = cached {
        // The search has a copy in its folder; a cache that cannot be written costs time only.
        let saved = output::make_parent(&path).and_then(|()| table.save(&path));
        if let Err(e) = saved {
            terminal::say(&format!("note: the latency table is not cached: {e}"));
        }
    }
    Ok(table)
}

/// Where a table of this key is kept for later searches.
fn cache_file(key: &LatencyKey) -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .or_else(|| std::env::var_os("LOCALAPPDATA").map(PathBuf::from))
        .filter(|p| p.is_absolute())?;
    let mut hash = Fnv1a::new();
    hash.write(format!("{key:?}").as_bytes());
    let name = format!("latency-{:016x}.json", hash.finish());
    Some(folder.join("hafuse").join(name))
}

/// search.json.
fn record(
    searcher: &Searcher,
    genotype: &Genotype,
    verdict: &Verdict,
    device: &Device,
) -> Result<Value> {
    let (config, table) = (searcher.config(), searcher.table());
    let key = &table.key;
    let layers = searcher.layers()?;
    let counts = count_parts(genotype, key.height, key.width)?;
    let names = |half: &crate::data::PairDataset| -> Vec<String> {
        half.scenes().map(|s| s.name.clone()).collect()
    };
    let (train, val) = searcher.halves();
    let (e, schedule) = (config.epochs, searcher.schedule());
    let about = format!(
        "{:?} {:?} search, {} + {} pairs, n {} m {} t {} s {}, batches of {} patches of {} pixels, lambda {}, \
         perceptual {:?}, seed {}, hafuse {}",
        config.strategy,
        config.task,
        train.len(),
        val.len(),
        e.n,
        e.m,
        e.t,
        e.s,
        config.batch,
        config.patch,
        config.latency.lambda,
        config.perceptual,
        config.seed,
        env!("CARGO_PKG_VERSION")
    );
    let epochs: Vec<u64> = (1..=schedule.stages())
        .map(|stage| schedule.inner_epochs(stage))
        .collect();
    Ok(json!({
        "format": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "about": about.to_lowercase(),
        "genotype": genotype,
        "lambda": config.latency.lambda,
        "lambda_per_ms": searcher.charge()?,
        "decisions": verdict.decisions,
        "warnings": verdict.warnings,
        "discretisation": searcher.discretisation()?,
        "lat_ms": {
            "relaxed": table.relaxed(&layers)?,
            "chosen": table.lat(genotype)?,
            "whole_network": table.predict(genotype)?,
        },
        "latency_table": key,
        "counts": {"width": key.width, "height": key.height, "parts": counts},
        "cells": CellKind::ALL.map(CellKind::name),
        "operators": OpKind::ALL.map(OpKind::name),
        "layers": layers,
        "device": device.to_string(),
        "seed": config.seed,
        "data": {"a": config.data.a, "b": config.data.b, "train": names(train), "val": names(val)},
        "inner_epochs": epochs,
        "steps_per_epoch": searcher.steps(),
        "config": config,
    }))
}

/// What happens in between.
struct Watch<'a> {
    out: &'a Path,
    metrics: Metrics,
    progress: Progress,
    /// Counts inner epochs.
    stop: Stop,
}

impl Watch<'_> {
    fn on_event(&mut self, event: SearchEvent<'_>) -> Result<()> {
        match event {
            SearchEvent::Step(report) => {
                self.progress.step(report);
                Ok(())
            }
            SearchEvent::Epoch(report) => {
                self.metrics.write(report)?;
                self.progress.epoch(report);
                let (stage, epoch, epochs) = (report.stage, report.epoch, report.epochs);
                let config = self.out.join("config.toml");
                self.stop.step(
                    || format!("stage {stage}, inner epoch {epoch} of {epochs}"),
                    || format!("hafuse search {} --resume", config.display()),
                )
            }
            SearchEvent::Checkpoint(searcher) => searcher
                .checkpoint()?
                .save(&self.out.join("checkpoint.safetensors")),
        }
    }
}
