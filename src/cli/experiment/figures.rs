//! Figures 3, 4 and 5.

use super::ablations::{chosen, round, size};
use super::runs::Lab;
use super::table::{Column, Row, Table};
use crate::Result;
use crate::infer::Model;
use crate::metrics::Metric;
use crate::net::Part;
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
            let model = lab.train(task, &found.key, &found.genotype, &[])?;
            let svg = heatmap::final_svg(&found.layers, Some(&found.genotype));
            let file = lab.config.out.join(format!("fig3-{}.svg", found.key));
            write_atomic(&file, svg.as_bytes())?;
            rows.push(Row {
                name: format!("{} {}", task.name(), strategy.name()),
                size: Some(size(lab, &found.genotype, "")?),
                scores: Some(lab.score(task, &found.key, &model)?),
                extra: vec![
                    (
                        "predicted (ms)",
                        json!(round(found.table.predict(&found.genotype)?)),
                    ),
                    ("heatmap", json!(format!("fig3-{}.svg", found.key))),
                ],
                genotype: Some(found.genotype),
                ..Row::default()
            });
        }
    }
    let mut columns = vec![
        Column::Genotype,
        Column::Params,
        Column::Extra("predicted (ms)"),
    ];
    columns.extend(Metric::PAPER.map(Column::Mean));
    columns.push(Column::Extra("heatmap"));
    Ok(Table {
        name: "fig3",
        title: "Fig. 3: naive and collaborative search",
        notes: vec![
            "`naive` updates alpha and beta of both modules together in every step, for as many inner epochs as the \
             collaborative search has; all networks are trained alike."
                .into(),
        ],
        columns,
        rows,
        ..Table::default()
    })
}

/// Fig. 4: the cells of a network, all blocks filled with one operator.
pub fn fig4(lab: &Lab<'_>) -> Result<Table> {
    let (key, genotype) = chosen(lab)?;
    let mut variants = vec![("as it is".to_string(), key.clone(), genotype.clone())];
    for &operator in &lab.config.fig4.operators {
        variants.push((
            operator.name().to_string(),
            format!("{key}-only-{}", operator.name()),
            genotype.of_one(operator),
        ));
    }
    let (mut rows, mut models) = (Vec::new(), Vec::new());
    for (name, key, genotype) in variants {
        let model = lab.train(Task::Ivif, &key, &genotype, &[])?;
        rows.push(Row {
            name,
            size: Some(size(lab, &genotype, "")?),
            scores: Some(lab.score(Task::Ivif, &key, &model)?),
            genotype: Some(genotype),
            ..Row::default()
        });
        models.push(model);
    }
    let networks: Vec<_> = models.iter().map(|m| (m, Part::Whole)).collect();
    for (row, time) in rows.iter_mut().zip(lab.time(&networks)?) {
        row.time = Some(time);
    }
    plot(lab, "fig4", &rows, &Metric::PAPER)?;
    let mut columns = vec![Column::Genotype, Column::Params, Column::Work, Column::Time];
    columns.extend(Metric::PAPER.map(Column::Mean));
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
    let trained = lab.train(Task::Mif, &found.key, &found.genotype, &[])?;
    let models = [
        ("searched", found.key.as_str(), trained),
        ("built-in mif", "mif-built-in", Model::builtin("mif")?),
    ];
    let mut rows = Vec::new();
    for (name, key, model) in models {
        rows.push(Row {
            name: name.into(),
            size: Some(size(lab, &model.genotype, "")?),
            scores: Some(lab.score(Task::Mif, key, &model)?),
            genotype: Some(model.genotype),
            ..Row::default()
        });
    }
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

/// Bars of the means with the standard deviations over the pairs, one chart for each metric.
fn plot(lab: &Lab<'_>, name: &str, rows: &[Row], metrics: &[Metric]) -> Result<()> {
    const HEIGHT: f64 = 360.0;
    let width = WIDTH / metrics.len() as f64;
    let mut figure = Figure::new();
    for (k, metric) in metrics.iter().enumerate() {
        let groups = rows.iter().filter_map(|row| {
            let (mean, std) = row.scores.as_ref()?.mean_std(*metric)?;
            Some(Group {
                name: row.name.clone(),
                bars: vec![Bar {
                    value: mean,
                    error: Some((mean - std, mean + std)),
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
    let title = "means over the test pairs, bars of one standard deviation";
    let file = lab.config.out.join(format!("{name}.svg"));
    write_atomic(&file, figure.finish(HEIGHT, title).as_bytes())
}
