//! Figures 3, 4 and 5.

use super::ablations::{chosen, size, timed_models, trained, trained_as};
use super::runs::{Found, Lab, METRICS};
use super::table::{Column, Row, Run, Table};
use crate::Result;
use crate::infer::Model;
use crate::metrics::Metric;
use crate::report::chart::{Area, Bar, BarChart, Group};
use crate::report::heatmap;
use crate::report::svg::{Figure, WIDTH};
use crate::search::Strategy;
use crate::tensor::io::write_atomic;
use crate::train::Task;
use serde_json::json;

/// The paper's four metrics and entropy.
const FIG5: [Metric; 5] = [
    Metric::En,
    Metric::SdU8sat,
    Metric::VifU8sat,
    Metric::Cc,
    Metric::Scd,
];

/// Fig. 3: naive and collaborative search of both tasks.
pub fn fig3(lab: &Lab<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for task in [Task::Ivif, Task::Mif] {
        for strategy in [Strategy::Naive, Strategy::Collaborative] {
            let found = lab.search(task, strategy, None)?;
            let mut heatmaps = Vec::new();
            for f in &found {
                let svg = heatmap::final_svg(&f.layers, Some(&f.genotype));
                let name = format!("fig3-{}.svg", f.key);
                write_atomic(&lab.config.out.join(&name), svg.as_bytes())?;
                heatmaps.push(name);
            }
            let name = format!("{} {}", task.name(), strategy.name());
            let (mut row, _) = trained(lab, task, &name, &found)?;
            row.extra = vec![("heatmaps", json!(heatmaps.join(" ")))];
            rows.push(row);
        }
    }
    let mut columns = vec![Column::Genotype, Column::Params, Column::Predicted];
    columns.extend(Metric::PAPER.map(Column::Mean));
    columns.push(Column::Extra("heatmaps"));
    Ok(Table {
        name: "fig3",
        title: "Fig. 3: naive and collaborative search",
        notes: vec![
            "`naive` updates alpha and beta of both modules together in every step, for as many rounds as the \
             collaborative search has in both stages; all networks are trained alike."
                .into(),
        ],
        columns,
        rows,
        ..Table::default()
    })
}

/// Fig. 4: the cells of a network, all blocks filled with one operator.
pub fn fig4(lab: &Lab<'_>) -> Result<Table> {
    let found = chosen(lab)?;
    let mut rows = vec![trained(lab, Task::Ivif, "as it is", &found)?];
    for &operator in &lab.config.fig4.operators {
        let name = operator.name();
        let of_one = |f: &Found| (format!("-only-{name}"), f.genotype.of_one(operator));
        rows.push(trained_as(lab, Task::Ivif, name, &found, of_one, &[])?);
    }
    let rows = timed_models(lab, rows)?;
    plot(lab, "fig4", &rows, &Metric::PAPER)?;
    let mut columns = vec![Column::Genotype, Column::Params, Column::Work, Column::Time];
    columns.extend(METRICS.map(Column::Mean));
    Ok(Table {
        name: "fig4",
        title: "Fig. 4: one operator in all blocks",
        notes: vec![
            "Same cells, same training; the first row is the network as it was found or given."
                .into(),
        ],
        columns,
        rows,
        ..Table::default()
    })
}

/// Fig. 5: MRI and PET, mean and variance over the test pairs.
pub fn fig5(lab: &Lab<'_>) -> Result<Table> {
    let found = lab.search(Task::Mif, Strategy::Collaborative, None)?;
    let mut rows = vec![trained(lab, Task::Mif, "searched", &found)?.0];
    let model = Model::builtin("mif")?;
    rows.push(Row {
        name: "built-in mif".into(),
        runs: vec![Run {
            size: Some(size(lab, &model.genotype, "")?),
            scores: Some(lab.score(Task::Mif, "mif-built-in", &model)?),
            genotype: Some(model.genotype),
            ..Run::default()
        }],
        ..Row::default()
    });
    plot(lab, "fig5", &rows, &FIG5)?;
    let mut columns = vec![Column::Genotype];
    columns.extend(FIG5.map(Column::MeanVariance));
    Ok(Table {
        name: "fig5",
        title: "Fig. 5: MRI and PET",
        notes: vec![
            "Mean and variance over the test pairs. The paper prints a plot without numbers."
                .into(),
        ],
        columns,
        rows,
        ..Table::default()
    })
}

/// Bars of the means over the pairs, with the standard deviations over the runs, one chart for each metric.
fn plot(lab: &Lab<'_>, name: &str, rows: &[Row], metrics: &[Metric]) -> Result<()> {
    const HEIGHT: f64 = 360.0;
    let width = WIDTH / metrics.len() as f64;
    let mut figure = Figure::new();
    for (k, metric) in metrics.iter().enumerate() {
        let groups = rows.iter().filter_map(|row| {
            let (mean, std) = row.mean_std(*metric)?;
            Some(Group {
                name: row.name.clone(),
                bars: vec![Bar {
                    value: mean,
                    error: (row.runs.len() > 1).then_some((mean - std, mean + std)),
                }],
            })
        });
        let chart = BarChart {
            title: metric.label().into(),
            groups: groups.collect(),
            ..BarChart::default()
        };
        let area = Area {
            x: width * k as f64,
            y: 0.0,
            width,
            height: HEIGHT,
        };
        chart.draw(&mut figure, area);
    }
    let title = "means over the test pairs, bars of one standard deviation over the seeds";
    let file = lab.config.out.join(format!("{name}.svg"));
    write_atomic(&file, figure.finish(HEIGHT, title).as_bytes())
}
