//! Beyond the paper: what each term of the objective does, beside what chance does.

use super::ablations::{chosen, trained_as};
use super::runs::{Found, Lab, METRICS};
use super::table::{Column, Table};
use crate::Result;
use crate::train::Task;

/// Everything, and everything but one part.
pub fn terms(lab: &Lab<'_>) -> Result<Table> {
    let found = chosen(lab)?;
    let without = |name: &str| {
        let key = |part: &str| format!("loss.{part}.{name}=0");
        match name {
            "target" | "edges" => vec![key("feature"), key("object")],
            _ => vec![key("object")],
        }
    };
    let mut all = vec![("all".to_string(), Vec::new())];
    for name in ["target", "edges", "rows", "mask", "structure"] {
        all.push((format!("without {name}"), without(name)));
    }
    all.push((
        "without augmentation".into(),
        vec!["augment.enabled=false".into()],
    ));
    all.push((LEVELS.into(), Vec::new()));
    for recipe in ["paper", "paper-unit"] {
        let set = vec![format!("loss.recipe={recipe}")];
        all.push((format!("recipe {recipe}"), set));
    }
    let mut rows = Vec::with_capacity(all.len());
    for (name, set) in all {
        let variant = |f: &Found| {
            let mut genotype = f.genotype.clone();
            genotype.frame.levels &= name != LEVELS;
            // Networks that other experiments train too have their names.
            let suffix = match name.as_str() {
                "all" => String::new(),
                "recipe paper" => "-paper".into(),
                name => format!("-{}", name.replace(' ', "-")),
            };
            (suffix, genotype)
        };
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        rows.push(trained_as(lab, Task::Ivif, &name, &found, variant, &set)?.0);
    }
    Ok(Table {
        name: "terms",
        title: "What each term of the objective does",
        notes: vec![
            "The same networks without one part of the objective, of the data or of what they are told, and by the paper's terms alone."
                .into(),
        ],
        columns: METRICS.map(Column::Mean).to_vec(),
        rows,
        ..Table::default()
    })
}

/// The network is not told the levels of whole pictures.
const LEVELS: &str = "without levels";
