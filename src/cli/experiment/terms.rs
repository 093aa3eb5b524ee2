//! Beyond the paper: what each term of the objective does, and each operator, beside what chance does.

use super::ablations::chosen;
use super::runs::{Lab, METRICS};
use super::table::{Column, Row, Table};
use crate::Result;
use crate::net::Genotype;
use crate::stats::mean_std;
use crate::train::Task;
use serde_json::json;

/// A network and how it is trained.
struct Variant {
    name: String,
    /// End of its models' folder names.
    suffix: String,
    genotype: Genotype,
    set: Vec<String>,
}

/// Everything, and everything but one part.
pub fn terms(lab: &Lab<'_>) -> Result<Table> {
    let (key, genotype) = chosen(lab)?;
    let term = |name: &str| {
        let key = |part: &str| format!("loss.{part}.{name}=0");
        match name {
            "target" | "edges" => vec![key("feature"), key("object")],
            _ => vec![key("object")],
        }
    };
    let variant = |name: &str, suffix: &str, set: Vec<String>| Variant {
        name: name.into(),
        suffix: suffix.into(),
        genotype: genotype.clone(),
        set,
    };
    let mut all = vec![variant("all", "all", Vec::new())];
    for name in ["target", "edges", "rows", "mask", "structure"] {
        let label = format!("without {name}");
        all.push(variant(&label, &format!("without-{name}"), term(name)));
    }
    let augmentation = vec!["augment.enabled=false".into()];
    all.push(variant("without augmentation", "plain-data", augmentation));
    let mut levels = variant("without levels", "without-levels", Vec::new());
    levels.genotype.frame.levels = false;
    all.push(levels);
    for recipe in ["paper", "paper-unit"] {
        let set = vec![format!("loss.recipe={recipe}")];
        all.push(variant(&format!("recipe {recipe}"), recipe, set));
    }
    table(
        lab,
        ("terms", "What each term of the objective does"),
        &key,
        all,
        "The same network without one part of the objective, of the data or of what it is told, and by the paper's terms alone.",
    )
}

/// The same cells filled with one operator.
pub fn operators(lab: &Lab<'_>) -> Result<Table> {
    let (key, genotype) = chosen(lab)?;
    let all = lab.config.fig4.operators.iter().map(|&op| Variant {
        name: format!("all {}", op.name()),
        suffix: op.name().into(),
        genotype: genotype.of_one(op),
        set: Vec::new(),
    });
    table(
        lab,
        ("operators", "Networks of a single operator"),
        &key,
        all.collect(),
        "The cells of one network, filled with one operator each.",
    )
}

/// Mean over the test pairs; mean and standard deviation of that over the seeds.
fn table(
    lab: &Lab<'_>,
    (name, title): (&'static str, &'static str),
    key: &str,
    variants: Vec<Variant>,
    note: &str,
) -> Result<Table> {
    let seeds = &lab.config.terms.seeds;
    let mut rows = Vec::with_capacity(variants.len());
    for v in variants {
        let mut means: Vec<Vec<f64>> = vec![Vec::new(); METRICS.len()];
        for seed in seeds {
            let key = format!("{key}-{}-seed{seed}", v.suffix);
            let set: Vec<&str> = v.set.iter().map(String::as_str).collect();
            let model = lab.train_seeded(Task::Ivif, &key, &v.genotype, &set, *seed)?;
            let scores = lab.score(Task::Ivif, &key, &model)?;
            for (values, metric) in means.iter_mut().zip(METRICS) {
                values.extend(scores.mean_std(metric).map(|(mean, _)| mean));
            }
        }
        let cell = |values: &[f64]| match mean_std(values) {
            Some((mean, std)) => json!(format!("{mean:.3} ± {std:.3}")),
            None => json!("-"),
        };
        let extra = METRICS.iter().zip(&means);
        rows.push(Row {
            name: v.name,
            genotype: Some(v.genotype),
            extra: extra.map(|(m, v)| (m.label(), cell(v))).collect(),
            ..Row::default()
        });
    }
    Ok(Table {
        name,
        title,
        notes: vec![format!(
            "{note} Means over the test pairs: mean and standard deviation over {} seeds ({seeds:?}).",
            seeds.len()
        )],
        columns: METRICS.map(|m| Column::Extra(m.label())).to_vec(),
        rows,
        ..Table::default()
    })
}
