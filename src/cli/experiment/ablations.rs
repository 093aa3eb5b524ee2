//! Tables 1 to 4.

use super::peers::{self, PYTORCH};
use super::runs::{Found, Lab, METRICS};
use super::table::{Column, Row, Run, Size, Table};
use crate::Result;
use crate::infer::Model;
use crate::metrics::Metric;
use crate::net::{Genotype, Part};
use crate::search::Strategy;
use crate::train::Task;
use serde_json::json;

/// The two networks that the paper has of each, and the parts of [`Size`] that each counts.
const PARTS: [(Part, &str, &str); 2] = [(Part::Feature, "F", "ffm"), (Part::Whole, "F+O", "")];

/// Table 1: what the object-level module adds to the feature-level one, in trained networks.
pub fn table1(lab: &Lab<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for name in &lab.config.table2.models {
        let model = Model::open(name)?;
        for (part, short, _) in PARTS {
            let key = format!("table1-{}-{short}", model.name);
            rows.push(Row {
                name: format!("{} {short}", model.name),
                runs: vec![Run {
                    scores: Some(lab.score_part(Task::Ivif, &key, &model, part)?),
                    ..Run::default()
                }],
                ..Row::default()
            });
        }
    }
    rows.extend(
        peers::rows(&lab.config.peers)?
            .into_iter()
            .filter(|r| !r.runs[0].given.is_empty()),
    );
    Ok(Table {
        name: "table1",
        title: "Table 1: the feature-level module and the whole network",
        notes: vec![
            "Means over the test pairs. F is the picture I_f that the feature-level module of a whole network gives; the \
             paper does not say whether its F was trained alone."
                .into(),
        ],
        columns: METRICS.map(Column::Mean).to_vec(),
        rows,
        paper: vec![
            ("TNO, Ours F", paper(["9.817", "0.855", "0.581", "1.813"])),
            ("TNO, Ours F+O", paper(["10.036", "0.869", "0.582", "1.832"])),
        ],
        ..Table::default()
    })
}

/// SD, VIF, CC and SCD of the paper among [`METRICS`].
fn paper(values: [&'static str; 4]) -> Vec<&'static str> {
    let printed = [Metric::SdU8sat, Metric::VifU8sat, Metric::Cc, Metric::Scd];
    let cell = |m| {
        printed
            .iter()
            .position(|p| *p == m)
            .map_or("-", |i| values[i])
    };
    METRICS.map(cell).to_vec()
}

/// Table 2: parameters, work and time of the feature-level module and of the whole network.
pub fn table2(lab: &Lab<'_>) -> Result<Table> {
    // Rows, each with the models of its runs.
    let mut models: Vec<(String, Vec<Model>)> = Vec::new();
    if lab.config.table2.searched {
        let found = lab.search(Task::Ivif, Strategy::Collaborative, None)?;
        let trained = found.iter().map(|f| {
            let (_, model) = lab.train(Task::Ivif, &f.key, &f.genotype, &[], f.seed)?;
            Ok(model)
        });
        models.push(("searched".into(), trained.collect::<Result<_>>()?));
    }
    for name in &lab.config.table2.models {
        let model = Model::open(name)?;
        models.push((model.name.clone(), vec![model]));
    }
    let mut rows = Vec::new();
    for (name, models) in &models {
        for (part, short, prefix) in PARTS {
            let run = |model: &Model| {
                Ok(Run {
                    genotype: Some(model.genotype.clone()),
                    size: Some(size(lab, &model.genotype, prefix)?),
                    ..Run::default()
                })
            };
            let row = Row {
                name: format!("{name} {short}"),
                runs: models.iter().map(run).collect::<Result<_>>()?,
                ..Row::default()
            };
            rows.push((row, models.iter().map(|m| (m, part)).collect()));
        }
    }
    let mut rows = timed(lab, rows)?;
    rows.extend(peers::rows(&lab.config.peers)?);
    let m = lab.config.measure;
    Ok(Table {
        name: "table2",
        title: "Table 2: parameters, work and time",
        notes: vec![format!(
            "Work and time at {} x {}; median of {} runs, all of our networks in turns. F is the feature-level module, F+O the \
             whole network. The paper's times are of a GTX 1070; what it prints for its own networks are multiply-adds, for DenseFuse and U2Fusion twice that, halved here. Times of others are of PyTorch with two threads on another \
             machine: the order of magnitude is meant.",
            m.width, m.height, m.runs
        )],
        columns: vec![
            Column::Genotype,
            Column::Params,
            Column::Work,
            Column::Time,
            Column::Extra(PYTORCH),
        ],
        rows,
        paper: vec![
            ("Ours F", vec!["-", "0.941", "125.94", "75", "-"]),
            (
                "Ours F+O",
                vec!["{SC, MS, SC, SC}", "1.131", "181.86", "121", "-"],
            ),
            ("DenseFuse", vec!["-", "0.074", "24.48", "251", "-"]),
            ("U2Fusion", vec!["-", "0.659", "183.17", "123", "-"]),
        ],
        ..Table::default()
    })
}

/// Table 3: one search and training for each lambda.
pub fn table3(lab: &Lab<'_>) -> Result<Table> {
    let t = &lab.config.table3;
    let mut rows = Vec::new();
    for &lambda in &t.lambdas {
        let charge = lab.charge(lambda);
        let found = lab.search(Task::Ivif, Strategy::Collaborative, Some(charge))?;
        let (mut row, models) = trained(lab, Task::Ivif, &format!("lambda {lambda}"), &found)?;
        row.extra = vec![("charge", json!(charge))];
        rows.push((row, models));
    }
    let rows = timed_models(lab, rows)?;
    let m = lab.config.measure;
    Ok(Table {
        name: "table3",
        title: "Table 3: the charge for latency, lambda",
        notes: vec![format!(
            "`predicted` is the table's sum for the whole network at the table's size; the time is measured at {} x {}, \
             median of {} runs, all networks in turns. SD and the other metrics are of the trained networks on the test pairs.",
            m.width, m.height, m.runs
        )],
        columns: vec![
            Column::Extra("charge"),
            Column::Cells,
            Column::Genotype,
            Column::Work,
            Column::Params,
            Column::Predicted,
            Column::Time,
            Column::Mean(Metric::SdU8sat),
            Column::Mean(Metric::VifU8sat),
            Column::Mean(Metric::Cc),
            Column::Mean(Metric::Scd),
            Column::Mean(Metric::Qabf),
        ],
        rows,
        paper: [
            (
                "lambda 0",
                ["{DC, MS, SC, SC}", "195.62", "1.223", "362", "10.01"],
            ),
            (
                "lambda 0.02",
                ["{MS, MS, SC, SC}", "280.90", "1.981", "198", "9.97"],
            ),
            (
                "lambda 0.05",
                ["{SC, MS, SC, SC}", "181.86", "1.131", "121", "10.04"],
            ),
            (
                "lambda 0.08",
                ["{SC, MS, SC, SC}", "202.27", "1.583", "118", "9.59"],
            ),
            (
                "lambda 0.2",
                ["{SC, SC, SC, SC}", "78.95", "0.279", "77", "9.81"],
            ),
        ]
        .into_iter()
        .map(|(name, [cells, work, params, time, sd])| {
            (
                name,
                vec![
                    "-", cells, "-", work, params, "-", time, sd, "-", "-", "-", "-",
                ],
            )
        })
        .collect(),
        ..Table::default()
    })
}

/// Table 4: what each group of losses is for.
pub fn table4(lab: &Lab<'_>) -> Result<Table> {
    let found = chosen(lab)?;
    let variants: [(&str, &str, &[&str]); 3] = [
        (
            "w/o feature-level loss",
            "-without-feature-loss",
            &[
                "loss.recipe=paper",
                "stage1.epochs=0",
                "loss.object.feature=0",
            ],
        ),
        (
            "w/o object-level losses",
            "-without-object-losses",
            &[
                "loss.recipe=paper",
                "loss.object.perceptual=0",
                "loss.object.gradient=0",
            ],
        ),
        ("all losses", "-paper", &["loss.recipe=paper"]),
    ];
    let mut rows = Vec::new();
    for (name, suffix, set) in variants {
        let variant = |f: &Found| (suffix.to_string(), f.genotype.clone());
        rows.push(trained_as(lab, Task::Ivif, name, &found, variant, set)?.0);
    }
    Ok(Table {
        name: "table4",
        title: "Table 4: losses",
        notes: vec![
            "The same networks trained in three ways by the paper's terms (`recipe = \"paper\"`): without stage 1 and L^F (the feature-level module is not trained first); \
             without the losses on the rows, L_per(I_t) and L_grad(I_d) (those of the output stay); with all."
                .into(),
        ],
        columns: Metric::PAPER.map(Column::Mean)
            .to_vec(),
        rows,
        paper: vec![
            ("w/o L_train^F", vec!["9.112", "0.676", "0.578", "1.612"]),
            ("w/o object-level losses", vec!["9.769", "0.887", "0.561", "1.828"]),
            ("ours", vec!["10.036", "0.869", "0.582", "1.832"]),
        ],
        ..Table::default()
    })
}

/// The networks, one for each seed, that `genotype` of the configuration names.
pub fn chosen(lab: &Lab<'_>) -> Result<Vec<Found>> {
    let name = &lab.config.genotype;
    if name == "searched" {
        return lab.search(Task::Ivif, Strategy::Collaborative, None);
    }
    let genotype = crate::cli::train::open_genotype(name)?;
    let stem = std::path::Path::new(name).file_stem();
    let stem = stem.unwrap_or_default().to_string_lossy();
    let seeds = lab.config.seeds.iter();
    let found = seeds.map(|&seed| Found {
        key: format!("ivif-of-{stem}-seed{seed}"),
        seed,
        channels: genotype.channels,
        genotype: genotype.clone(),
        predicted: None,
        layers: Vec::new(),
    });
    Ok(found.collect())
}

/// A row of networks, trained and scored, and their models.
pub fn trained(
    lab: &Lab<'_>,
    task: Task,
    name: &str,
    found: &[Found],
) -> Result<(Row, Vec<Model>)> {
    let variant = |f: &Found| (String::new(), f.genotype.clone());
    trained_as(lab, task, name, found, variant, &[])
}

/// [`trained`] for what `variant` makes of each network, with an end for the names of its models, by training with `set` on top.
pub fn trained_as(
    lab: &Lab<'_>,
    task: Task,
    name: &str,
    found: &[Found],
    variant: impl Fn(&Found) -> (String, Genotype),
    set: &[&str],
) -> Result<(Row, Vec<Model>)> {
    let (mut runs, mut models) = (Vec::new(), Vec::new());
    for f in found {
        let (suffix, genotype) = variant(f);
        let key = format!("{}{suffix}", f.key);
        let (key, model) = lab.train(task, &key, &genotype, set, f.seed)?;
        runs.push(Run {
            size: Some(size(lab, &genotype, "")?),
            scores: Some(lab.score(task, &key, &model)?),
            ..f.run(&genotype)
        });
        models.push(model);
    }
    let row = Row {
        name: name.into(),
        runs,
        ..Row::default()
    };
    Ok((row, models))
}

/// Rows with times, all of whole networks in turns.
pub fn timed_models(lab: &Lab<'_>, rows: Vec<(Row, Vec<Model>)>) -> Result<Vec<Row>> {
    let (rows, models): (Vec<Row>, Vec<Vec<Model>>) = rows.into_iter().unzip();
    let networks = models
        .iter()
        .map(|models| models.iter().map(|m| (m, Part::Whole)).collect());
    timed(lab, rows.into_iter().zip(networks).collect())
}

/// Rows with the times of their runs' networks, all in turns.
fn timed(lab: &Lab<'_>, rows: Vec<(Row, Vec<(&Model, Part)>)>) -> Result<Vec<Row>> {
    let networks: Vec<_> = rows.iter().flat_map(|(_, n)| n.iter().copied()).collect();
    let mut times = lab.time(&networks)?.into_iter();
    let with_times = rows.into_iter().map(|(mut row, _)| {
        for (run, time) in row.runs.iter_mut().zip(&mut times) {
            run.time = Some(time);
        }
        row
    });
    Ok(with_times.collect())
}

/// At the size of the measured times.
pub fn size(lab: &Lab<'_>, genotype: &Genotype, prefix: &str) -> Result<Size> {
    let m = lab.config.measure;
    Size::of(genotype, prefix, (m.width, m.height))
}
