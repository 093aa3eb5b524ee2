//! Beyond the paper: whether `latency.target` is met.

use super::ablations::{size, timed_models};
use super::latency::untrained;
use super::runs::Lab;
use super::table::{Column, Row, Run, Table};
use crate::Result;
use crate::train::Task;
use serde_json::json;

/// A search for each target, and the measured time of what it found, with weights that nobody trained.
pub fn run(lab: &Lab<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for &ms in &lab.config.target.ms {
        let (mut runs, mut models) = (Vec::new(), Vec::new());
        for found in lab.search_within(Task::Ivif, ms)? {
            let mut genotype = found.genotype.clone();
            genotype.channels = found.channels;
            models.push(untrained(&found.key, &genotype, found.seed)?);
            runs.push(Run {
                size: Some(size(lab, &genotype, "")?),
                genotype: Some(genotype),
                ..found.run(&found.genotype)
            });
        }
        let row = Row {
            name: format!("{ms} ms"),
            runs,
            ..Row::default()
        };
        rows.push((row, models));
    }
    let mut rows = timed_models(lab, rows)?;
    for (row, target) in rows.iter_mut().zip(&lab.config.target.ms) {
        let off = |r: &Run| Some(100.0 * (r.time?.median_ms / target - 1.0));
        let worst = { row.runs.iter().filter_map(off) }.fold(0.0f64, |worst, v| {
            if v.abs() > worst.abs() { v } else { worst }
        });
        row.extra = vec![(OFF, json!((10.0 * worst).round() / 10.0))];
    }
    let m = lab.config.measure;
    Ok(Table {
        name: "target",
        title: "Searches for a latency",
        notes: vec![format!(
            "`predicted` by the table of the search, times at {} x {}, median of {} runs, all networks in turns. `{OFF}`: the farthest of the seeds.",
            m.width, m.height, m.runs
        )],
        columns: vec![
            Column::Genotype,
            Column::Work,
            Column::Predicted,
            Column::Time,
            Column::Extra(OFF),
        ],
        rows,
        ..Table::default()
    })
}

const OFF: &str = "off the target (%)";
