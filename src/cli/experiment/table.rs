//! The rows of an experiment, as Markdown and JSON.

use super::config::ExperimentConfig;
use super::runs::{METRICS, Scores};
use crate::Result;
use crate::metrics::Metric;
use crate::net::{Genotype, count_parts};
use crate::search::{Timing, brief};
use crate::stats::mean_std;
use crate::train::Task;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Parameters and work of a network or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    pub params: usize,
    pub multiply_adds: u64,
    pub flops: u64,
}

impl Size {
    /// Of the parts whose name begins with `prefix`; all parts for "".
    pub fn of(g: &Genotype, prefix: &str, (width, height): (usize, usize)) -> Result<Self> {
        let mut parts = count_parts(g, height, width)?;
        parts.pop(); // the total
        let parts = parts.iter().filter(|p| p.part.starts_with(prefix));
        Ok(parts.fold(
            Self {
                params: 0,
                multiply_adds: 0,
                flops: 0,
            },
            |sum, p| Self {
                params: sum.params + p.params,
                multiply_adds: sum.multiply_adds + p.macs,
                flops: sum.flops + p.flops,
            },
        ))
    }
}

/// One network of a row: that of a seed, where there are several.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub seed: Option<u64>,
    pub genotype: Option<Genotype>,
    /// By the latency table of the search, in milliseconds.
    pub predicted: Option<f64>,
    pub size: Option<Size>,
    pub time: Option<Timing>,
    pub scores: Option<Scores>,
    /// Means over the test pairs that others have measured, by the metric's name.
    pub given: BTreeMap<String, f64>,
}

impl Run {
    fn json(&self) -> Value {
        let mut v = json!({});
        let mut put = |key: &str, value: Value| v[key] = value;
        if let Some(seed) = self.seed {
            put("seed", json!(seed));
        }
        if let Some(g) = &self.genotype {
            put("genotype", json!(g));
        }
        if let Some(predicted) = self.predicted {
            put("predicted_ms", json!(predicted));
        }
        if let Some(size) = &self.size {
            put("size", json!(size));
        }
        if let Some(time) = &self.time {
            put("time", json!(time));
        }
        if !self.given.is_empty() {
            put("given", json!(self.given));
        }
        if let Some(scores) = &self.scores {
            put("scores", json!(scores));
            let mean = METRICS.iter().filter_map(|m| {
                let (mean, std) = scores.mean_std(*m)?;
                Some((
                    m.name().to_string(),
                    json!({"mean": mean, "variance": std * std}),
                ))
            });
            put("metrics", Value::Object(mean.collect()));
        }
        v
    }

    fn mean(&self, metric: Metric) -> Option<f64> {
        let given = self.given.get(metric.name()).copied();
        given.or_else(|| Some(self.scores.as_ref()?.mean_std(metric)?.0))
    }
}

/// The networks that are compared with the other rows.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub name: String,
    pub runs: Vec<Run>,
    /// Cells of this experiment alone, by column.
    pub extra: Vec<(&'static str, Value)>,
}

impl Row {
    fn json(&self) -> Value {
        let runs: Vec<Value> = self.runs.iter().map(Run::json).collect();
        let mut v = json!({"name": self.name, "runs": runs});
        for (key, value) in &self.extra {
            v[*key] = value.clone();
        }
        v
    }

    /// Mean and standard deviation over the runs of the mean over the test pairs.
    pub fn mean_std(&self, metric: Metric) -> Option<(f64, f64)> {
        let means: Vec<f64> = self.runs.iter().filter_map(|r| r.mean(metric)).collect();
        mean_std(&means)
    }

    /// Over the runs: the mean, with the standard deviation where they differ.
    fn number(&self, of: impl Fn(&Run) -> Option<f64>, digits: usize) -> String {
        let values: Vec<f64> = self.runs.iter().filter_map(of).collect();
        match mean_std(&values) {
            None => "-".into(),
            Some((mean, std)) if values.len() > 1 && std > 0.0 => {
                format!("{mean:.digits$} ± {std:.digits$}")
            }
            Some((mean, _)) => format!("{mean:.digits$}"),
        }
    }

    /// Descriptions of the runs' networks, each once.
    fn networks(&self, of: impl Fn(&Genotype) -> String) -> String {
        let mut found: Vec<String> = Vec::new();
        for name in self.runs.iter().filter_map(|r| r.genotype.as_ref()).map(of) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        match found.is_empty() {
            true => "-".into(),
            false => found.join("; "),
        }
    }
}

/// What is printed of each row, after its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Extra(&'static str),
    /// The cells alone, as in the paper's Table 3.
    Cells,
    /// Cells and operators.
    Genotype,
    Predicted,
    Params,
    Work,
    Time,
    Mean(Metric),
    MeanVariance(Metric),
}

impl Column {
    fn title(self) -> String {
        match self {
            Column::Extra(name) => name.into(),
            Column::Cells => "cells".into(),
            Column::Genotype => "genotype".into(),
            Column::Predicted => "predicted (ms)".into(),
            Column::Params => "parameters (M)".into(),
            Column::Work => "G multiply-adds".into(),
            Column::Time => "time (ms)".into(),
            Column::Mean(m) => m.label().into(),
            Column::MeanVariance(m) => format!("{} mean, variance", m.label()),
        }
    }

    fn cell(self, row: &Row) -> String {
        let size = |of: fn(&Size) -> f64| move |r: &Run| r.size.as_ref().map(of);
        match self {
            Column::Extra(name) => {
                let found = row.extra.iter().find(|(key, _)| *key == name);
                found.map_or("-".into(), |(_, v)| match v {
                    Value::String(s) => s.clone(),
                    v => v.to_string(),
                })
            }
            Column::Cells => row.networks(|g| {
                let cells: Vec<&str> = g.cells().map(|(_, c)| c.cell.name()).collect();
                format!("{{{}}}", cells.join(", "))
            }),
            Column::Genotype => row.networks(|g| {
                let cells: Vec<String> = g.cells().map(|(_, c)| brief(c)).collect();
                cells.join(", ")
            }),
            Column::Predicted => row.number(|r| r.predicted, 1),
            Column::Params => row.number(size(|s| s.params as f64 / 1e6), 3),
            Column::Work => row.number(size(|s| s.multiply_adds as f64 / 1e9), 2),
            Column::Time => row.number(|r| Some(r.time?.median_ms), 1),
            Column::Mean(m) => row.number(|r| r.mean(m), 3),
            Column::MeanVariance(m) => {
                let variance = |r: &Run| Some(r.scores.as_ref()?.mean_std(m)?.1.powi(2));
                format!(
                    "{}, {}",
                    row.number(|r| r.mean(m), 3),
                    row.number(variance, 4)
                )
            }
        }
    }
}

/// The result of an experiment.
#[derive(Default)]
pub struct Table {
    /// `table3`.
    pub name: &'static str,
    pub title: &'static str,
    /// What was compared and how, with every choice that the paper leaves open.
    pub notes: Vec<String>,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// What is said of all rows together, by name.
    pub numbers: Vec<(&'static str, Value)>,
    /// The paper's own rows, under the same columns after the name.
    pub paper: Vec<(&'static str, Vec<&'static str>)>,
}

impl Table {
    /// Markdown, with the scale of the runs above the table.
    pub fn markdown(&self, scale: &str, device: &str) -> String {
        let mut titles = vec!["network".to_string()];
        titles.extend(self.columns.iter().map(|c| c.title()));
        let mut out = format!("# {}\n\n", self.title);
        out += &format!(
            "hafuse {}, {device}. {scale}\n\n",
            env!("CARGO_PKG_VERSION")
        );
        for note in &self.notes {
            out += &format!("{note}\n\n");
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        out += &line(&titles);
        out += &line(&vec!["---".to_string(); titles.len()]);
        for row in &self.rows {
            let mut cells = vec![row.name.clone()];
            cells.extend(self.columns.iter().map(|c| c.cell(row)));
            out += &line(&cells);
        }
        for (name, values) in &self.paper {
            let mut cells = vec![format!("*paper: {name}*")];
            cells.extend(values.iter().map(|v| v.to_string()));
            out += &line(&cells);
        }
        out
    }

    /// Everything that was measured, pair by pair.
    pub fn json(&self, config: &ExperimentConfig, scale: &str, device: &str) -> Value {
        let mut json = json!({
            "format": 1,
            "experiment": self.name,
            "title": self.title,
            "version": env!("CARGO_PKG_VERSION"),
            "device": device,
            "scale": scale,
            "notes": self.notes,
            "metrics": METRICS.map(|m| json!({"name": m.name(), "label": m.label(), "convention": m.convention()})),
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "paper": self.paper,
            "config": config,
        });
        for (key, value) in &self.numbers {
            json[key] = value.clone();
        }
        json
    }
}

/// What was run of what the paper ran, in a sentence.
pub fn scale(config: &ExperimentConfig, task: Task) -> Result<String> {
    let s = config.search_config(task)?;
    let t = config.train_config(task, &[])?;
    let e = s.epochs;
    Ok(format!(
        "Scale ({}): search: C = {}, {} patches of {} x {}, {} of each pair, {} + {} x ({} + {}) and {} + {} x ({} + {}) inner epochs, \
         {:?} networks (the paper: C = 32, 64 x 64, 12 x (5 + 5) twice, relaxed); latency table at {} x {}; training: C = {}, {} patches of {} x {}, {} + {} epochs (the \
         paper: 100 + 1000); seeds {:?}.",
        task.name(),
        s.space.channels,
        s.batch,
        s.patch,
        s.patch,
        s.data.patches_per_pair,
        e.warmup,
        e.m,
        e.t,
        e.s,
        e.warmup,
        e.n - e.m,
        e.t,
        e.s,
        s.architecture.estimator,
        s.latency.width,
        s.latency.height,
        config.channels_of(s.space.channels),
        t.batch,
        t.patch,
        t.patch,
        t.stage1.epochs,
        t.stage2.epochs,
        config.seeds
    ))
}
