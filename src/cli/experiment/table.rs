//! The rows of an experiment, as Markdown and JSON.

use super::config::ExperimentConfig;
use super::runs::{METRICS, Scores};
use crate::Result;
use crate::metrics::Metric;
use crate::net::{Genotype, count_parts};
use crate::search::{Timing, brief};
use crate::train::Task;
use serde_json::{Value, json};

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

/// One network of an experiment.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub name: String,
    pub genotype: Option<Genotype>,
    pub size: Option<Size>,
    pub time: Option<Timing>,
    pub scores: Option<Scores>,
    /// Cells of this experiment alone, by column.
    pub extra: Vec<(&'static str, Value)>,
}

impl Row {
    fn json(&self) -> Value {
        let mut v = json!({"name": self.name});
        let mut put = |key: &str, value: Value| v[key] = value;
        if let Some(g) = &self.genotype {
            put("genotype", json!(g));
        }
        if let Some(size) = &self.size {
            put("size", json!(size));
        }
        if let Some(time) = &self.time {
            put("time", json!(time));
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
        for (key, value) in &self.extra {
            put(key, value.clone());
        }
        v
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
            Column::Params => "parameters (M)".into(),
            Column::Work => "G multiply-adds".into(),
            Column::Time => "time (ms)".into(),
            Column::Mean(m) => m.label().into(),
            Column::MeanVariance(m) => format!("{} mean, variance", m.label()),
        }
    }

    fn cell(self, row: &Row) -> String {
        let none = || "-".to_string();
        match self {
            Column::Extra(name) => {
                let found = row.extra.iter().find(|(key, _)| *key == name);
                found.map_or_else(none, |(_, v)| match v {
                    Value::String(s) => s.clone(),
                    v => v.to_string(),
                })
            }
            Column::Cells => row.genotype.as_ref().map_or_else(none, |g| {
                let cells: Vec<&str> = g.cells().map(|(_, c)| c.cell.name()).collect();
                format!("{{{}}}", cells.join(", "))
            }),
            Column::Genotype => row.genotype.as_ref().map_or_else(none, |g| {
                let cells: Vec<String> = g.cells().map(|(_, c)| brief(c)).collect();
                cells.join(", ")
            }),
            Column::Params => row
                .size
                .map_or_else(none, |s| format!("{:.3}", s.params as f64 / 1e6)),
            Column::Work => row
                .size
                .map_or_else(none, |s| format!("{:.2}", s.multiply_adds as f64 / 1e9)),
            Column::Time => row
                .time
                .map_or_else(none, |t| format!("{:.1}", t.median_ms)),
            Column::Mean(m) => {
                let found = row.scores.as_ref().and_then(|s| s.mean_std(m));
                found.map_or_else(none, |(mean, _)| format!("{mean:.3}"))
            }
            Column::MeanVariance(m) => {
                let found = row.scores.as_ref().and_then(|s| s.mean_std(m));
                found.map_or_else(none, |(mean, std)| format!("{mean:.3}, {:.4}", std * std))
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
        "Scale ({}): C = {}, {} patches of {} x {}; search: {} rounds of {} + {} inner epochs (the paper: 24 of 5 + 5); \
         training: {} + {} epochs (the paper: 100 + 1000); latency table at {} x {}; seed {}.",
        task.name(),
        s.space.channels,
        s.batch,
        s.patch,
        s.patch,
        e.n,
        e.t,
        e.s,
        t.stage1.epochs,
        t.stage2.epochs,
        s.latency.width,
        s.latency.height,
        config.seed
    ))
}
