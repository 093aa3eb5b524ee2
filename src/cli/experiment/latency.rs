//! How well LAT predicts the time of networks.

use super::ablations::size;
use super::runs::Lab;
use super::table::{Column, Row, Run, Table};
use crate::Result;
use crate::cli::search::open_table;
use crate::infer::Model;
use crate::net::{
    CellGene, CellKind, Genotype, GuidedFilterGene, OpKind, Part, initial_params, param_specs,
};
use crate::report::chart::{LineChart, Series};
use crate::search::{LatencyKey, SearchConfig};
use crate::stats::{mean, spearman};
use crate::tape::ParamStore;
use crate::tensor::DType;
use crate::tensor::io::write_atomic;
use crate::train::Task;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;

/// Measures random networks of the search space and compares with what the table predicts.
pub fn run(lab: &Lab<'_>) -> Result<Table> {
    let config = lab.config.search_config(Task::Ivif)?;
    let table = open_table(&config, &lab.device)?;
    let mut rng = Pcg64Mcg::seed_from_u64(lab.config.seeds[0]);
    let count = lab.config.latency.networks;
    let models = (0..count)
        .map(|_| random_model(&config, &mut rng))
        .collect::<Result<Vec<_>>>()?;
    let networks: Vec<_> = models.iter().map(|m| (m, Part::Whole)).collect();
    let times = lab.time(&networks)?;
    let predicted = models
        .iter()
        .map(|m| table.predict(&m.genotype))
        .collect::<Result<Vec<_>>>()?;
    let measured: Vec<f64> = times.iter().map(|t| t.median_ms).collect();
    // NaN where all of a side are equal; not a number in JSON either.
    let rho = spearman(&predicted, &measured);
    let (m, k) = (lab.config.measure, &table.key);
    let dtype = lab.precision.dtype();
    let here = LatencyKey::here(&lab.device, dtype, (m.width, m.height), k.channels);
    let differs = k.difference(&here);
    let errors = predicted.iter().zip(&measured).map(|(p, m)| p / m - 1.0);
    let errors: Vec<f64> = errors.collect();
    let mut rows = Vec::new();
    for (i, model) in models.iter().enumerate() {
        let mut extra = Vec::new();
        if differs.is_none() {
            extra.push((ERROR, json!((errors[i] * 1e3).round() / 10.0)));
        }
        rows.push(Row {
            name: format!("random {}", i + 1),
            runs: vec![Run {
                size: Some(size(lab, &model.genotype, "")?),
                genotype: Some(model.genotype.clone()),
                predicted: Some(predicted[i]),
                time: Some(times[i]),
                ..Run::default()
            }],
            extra,
        });
    }
    let svg = scatter(&predicted, &measured).svg(520.0);
    crate::output::make_parent(&lab.config.out.join("latency.svg"))?;
    write_atomic(&lab.config.out.join("latency.svg"), svg.as_bytes())?;
    let order = match rho.is_nan() {
        true => "undefined, as all networks are predicted or measured alike".into(),
        false => format!("{rho:.4}"),
    };
    let mut columns = vec![Column::Genotype, Column::Work];
    columns.extend([Column::Predicted, Column::Time]);
    let mut numbers = vec![("spearman", json!(rho))];
    let size_of_errors = match differs {
        Some((what, theirs, ours)) => {
            format!("no errors, as the table's {what} is {theirs} and that of the times {ours}")
        }
        None => {
            let absolute: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
            let (mean, absolute) = (100.0 * mean(&errors), 100.0 * mean(&absolute));
            columns.push(Column::Extra(ERROR));
            numbers.push(("mean_error_percent", json!(mean)));
            numbers.push(("mean_absolute_error_percent", json!(absolute)));
            format!("mean error {mean:+.1} %, mean absolute error {absolute:.1} %")
        }
    };
    let notes = vec![
        format!(
            "{count} random networks: Spearman's correlation of predicted and measured time {order}, \
             {size_of_errors}."
        ),
        format!(
            "Table: {} x {}, {}, {} channels, {}. Times at {} x {}, median of {} runs, all networks in turns.",
            k.width, k.height, k.dtype, k.channels, k.device, m.width, m.height, m.runs
        ),
    ];
    Ok(Table {
        name: "latency",
        title: "LAT against measured time",
        notes,
        columns,
        rows,
        numbers,
        paper: Vec::new(),
    })
}

const ERROR: &str = "error (%)";

/// Measured over predicted times, and the line where they are equal.
fn scatter(predicted: &[f64], measured: &[f64]) -> LineChart {
    let high = predicted
        .iter()
        .chain(measured)
        .fold(0.0f64, |m, &v| m.max(v));
    let gap = (f64::NAN, f64::NAN);
    let points = predicted
        .iter()
        .zip(measured)
        .flat_map(|(&p, &m)| [(p, m), gap]);
    LineChart {
        title: "random networks".into(),
        x: "predicted from the table (ms)".into(),
        y: "measured (ms)".into(),
        series: vec![
            Series {
                name: "networks".into(),
                points: points.collect(),
            },
            Series {
                name: "equal".into(),
                points: vec![(0.0, 0.0), (high, high)],
            },
        ],
        range: Some((0.0, high)),
        from_zero: true,
        ..LineChart::default()
    }
}

/// Cells and operators drawn evenly, with random weights.
fn random_model(config: &SearchConfig, rng: &mut Pcg64Mcg) -> Result<Model> {
    let mut cell = || CellGene {
        cell: CellKind::ALL[rng.random_range(0..CellKind::ALL.len())],
        blocks: (0..config.space.blocks)
            .map(|_| OpKind::ALL[rng.random_range(0..OpKind::ALL.len())])
            .collect(),
    };
    let genotype = Genotype {
        version: Genotype::VERSION,
        channels: config.space.channels,
        ffm: (0..config.space.cells).map(|_| cell()).collect(),
        target: cell(),
        detail: cell(),
        guided_filter: GuidedFilterGene::default(),
        frame: config.space.frame,
    };
    untrained("random", &genotype, config.seed)
}

/// A model with random weights, to be timed.
pub fn untrained(name: &str, genotype: &Genotype, seed: u64) -> Result<Model> {
    let store = ParamStore::default();
    initial_params(&param_specs(genotype)?, seed, DType::F32, &store)?;
    Ok(Model {
        name: name.into(),
        about: String::new(),
        weights: store.export(|_| true)?,
        genotype: genotype.clone(),
    })
}
