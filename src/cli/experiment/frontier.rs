//! Beyond the paper: quality against latency of all networks there are.

use super::ablations::{size, timed_models, trained};
use super::peers::{self, PYTORCH};
use super::runs::{Lab, METRICS};
use super::table::{Column, Row, Run, Table};
use crate::Result;
use crate::infer::Model;
use crate::metrics::Metric;
use crate::report::chart::Area;
use crate::report::scatter::{Kind, Point, Scatter};
use crate::report::svg::{Figure, WIDTH};
use crate::search::Strategy;
use crate::tensor::io::write_atomic;
use crate::train::Task;

/// Metrics that are drawn over the time.
const DRAWN: [Metric; 4] = [Metric::VifU8sat, Metric::Cc, Metric::Scd, Metric::Qabf];

/// Searched networks of every lambda and seed, models that are there already, and other people's networks.
pub fn run(lab: &Lab<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for &lambda in &lab.config.table3.lambdas {
        let found = lab.search(
            Task::Ivif,
            Strategy::Collaborative,
            Some(lab.charge(lambda)),
        )?;
        for f in &found {
            let name = format!("lambda {lambda} seed {}", f.seed);
            rows.push(trained(lab, Task::Ivif, &name, std::slice::from_ref(f))?);
        }
    }
    let searched = rows.len();
    for name in &lab.config.table2.models {
        let model = Model::open(name)?;
        let key = format!("table1-{}-F+O", model.name);
        let run = Run {
            genotype: Some(model.genotype.clone()),
            size: Some(size(lab, &model.genotype, "")?),
            scores: Some(lab.score(Task::Ivif, &key, &model)?),
            ..Run::default()
        };
        let row = Row {
            name: model.name.clone(),
            runs: vec![run],
            ..Row::default()
        };
        rows.push((row, vec![model]));
    }
    let mut rows = timed_models(lab, rows)?;
    let ours = rows.len();
    rows.extend(peers::rows(&lab.config.peers)?);
    let kinds = [
        ("searched", &rows[..searched]),
        ("there already", &rows[searched..ours]),
        ("others, by PyTorch elsewhere", &rows[ours..]),
    ];
    let mut fig = Figure::new();
    const HEIGHT: f64 = 380.0;
    for (i, metric) in DRAWN.into_iter().enumerate() {
        let kinds = kinds.map(|(name, rows)| Kind {
            name: name.into(),
            points: rows.iter().filter_map(|row| point(row, metric)).collect(),
        });
        let scatter = Scatter {
            title: metric.label().into(),
            x: "ms".into(),
            y: metric.label().into(),
            kinds: kinds.into(),
        };
        let area = Area {
            x: 0.5 * WIDTH * (i % 2) as f64,
            y: HEIGHT * (i / 2) as f64,
            width: 0.5 * WIDTH,
            height: HEIGHT,
        };
        scatter.draw(&mut fig, area);
    }
    let svg = fig.finish(2.0 * HEIGHT, "quality against latency");
    write_atomic(&lab.config.out.join("frontier.svg"), svg.as_bytes())?;
    let mut columns = vec![Column::Genotype, Column::Params, Column::Work, Column::Time];
    columns.push(Column::Extra(PYTORCH));
    columns.extend(METRICS.map(Column::Mean));
    Ok(Table {
        name: "frontier",
        title: "Quality against latency",
        notes: vec![
            "Ours in turns in one run. The times of others are of PyTorch with two threads on another machine: the order of magnitude is meant, not the ratio. \
             Their metrics are of their published weights on the 37 pairs of TNO."
                .into(),
        ],
        columns,
        rows,
        ..Table::default()
    })
}

fn point(row: &Row, metric: Metric) -> Option<Point> {
    let (y, _) = row.mean_std(metric)?;
    let run = row.runs.first()?;
    let there = row.extra.iter().find(|(key, _)| *key == PYTORCH);
    let x = match run.time {
        Some(time) => time.median_ms,
        None => there?.1.as_f64()?,
    };
    Some(Point {
        name: row.name.clone(),
        x,
        y,
        named: !row.name.starts_with("lambda"),
    })
}
