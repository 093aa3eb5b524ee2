//! Methods judged side by side, as Markdown, CSV, LaTeX and JSON.

use crate::metrics::{Metric, Score};
use crate::stats::mean_std;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A method's scores.
pub struct Row {
    pub name: String,
    /// For the record: a folder, or a model and its hash.
    pub origin: String,
    /// In the order of the metrics, picture by picture.
    pub pictures: Vec<(String, Vec<Score>)>,
}

/// What several methods made of the same pairs, judged.
pub struct Scores {
    pub metrics: Vec<Metric>,
    /// Pairs of sources.
    pub pictures: usize,
    pub folders: [PathBuf; 2],
    pub rows: Vec<Row>,
    /// What could not be judged, and why.
    pub problems: Vec<String>,
}

/// Mean, population standard deviation, and over how many pictures.
pub type Mean = (f64, f64, usize);

impl Row {
    fn mean(&self, k: usize) -> Option<Mean> {
        let values = self.pictures.iter().filter_map(|(_, s)| s[k].ok());
        let v: Vec<f64> = values.collect();
        mean_std(&v).map(|(mean, std)| (mean, std, v.len()))
    }
}

/// How the best and the second of a column are marked.
struct Marks {
    best: [&'static str; 2],
    second: [&'static str; 2],
}

const MARKDOWN: Marks = Marks {
    best: ["**", "**"],
    second: ["<u>", "</u>"],
};
const LATEX: Marks = Marks {
    best: ["\\textbf{", "}"],
    second: ["\\underline{", "}"],
};

impl Scores {
    /// Means of column `k`, and the places of the best and the second among several methods.
    pub fn column(&self, k: usize) -> (Vec<Option<Mean>>, Option<usize>, Option<usize>) {
        let means: Vec<Option<Mean>> = self.rows.iter().map(|r| r.mean(k)).collect();
        let values: Vec<Option<f64>> = means.iter().map(|m| m.map(|m| m.0)).collect();
        let [best, second] = best_two(&values, self.metrics[k].higher_is_better());
        (means, best, second)
    }

    /// Cells of the table of means: one list for each method.
    fn cells(&self, marks: &Marks, plus_minus: &str) -> Vec<Vec<String>> {
        let mut rows = vec![Vec::new(); self.rows.len()];
        for k in 0..self.metrics.len() {
            let (means, best, second) = self.column(k);
            for (i, mean) in means.iter().enumerate() {
                let text = match mean {
                    None => "-".to_string(),
                    Some((mean, std, _)) => {
                        let [open, close] = match Some(i) {
                            at if at == best => marks.best,
                            at if at == second => marks.second,
                            _ => ["", ""],
                        };
                        format!("{open}{mean:.4}{close} {plus_minus} {std:.4}")
                    }
                };
                rows[i].push(text);
            }
        }
        rows
    }

    /// What stands below the table: conventions, data, methods, and what has no value.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "hafuse {}; {} pairs of {} and {}; 8-bit grey (BT.601); mean and standard deviation over the pairs.",
            env!("CARGO_PKG_VERSION"),
            self.pictures,
            self.folders[0].display(),
            self.folders[1].display()
        )];
        for m in &self.metrics {
            let better = match m.higher_is_better() {
                true => "",
                false => ", lower is better",
            };
            notes.push(format!(
                "{} (`{}`): as {}{better}",
                m.label(),
                m.name(),
                m.convention()
            ));
        }
        for row in &self.rows {
            notes.push(format!(
                "{}: {}, {} pictures",
                row.name,
                row.origin,
                row.pictures.len()
            ));
        }
        let mut missing = BTreeSet::new();
        for row in &self.rows {
            for (picture, scores) in &row.pictures {
                for (m, score) in self.metrics.iter().zip(scores) {
                    if let Err(reason) = score {
                        missing.insert(format!(
                            "{} of {}, {picture}: {reason}",
                            m.label(),
                            row.name
                        ));
                    }
                }
            }
        }
        notes.extend(missing);
        notes
    }

    /// A table of means and, if asked for, one of each method's pictures.
    pub fn markdown(&self, per_image: bool) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head = |first: &str| {
            let mut cells = vec![first.to_string()];
            cells.extend(self.metrics.iter().map(|m| match m.higher_is_better() {
                true => m.label().to_string(),
                false => format!("{} (lower is better)", m.label()),
            }));
            let rule = vec!["---".to_string(); cells.len()];
            line(&cells) + &line(&rule)
        };
        let mut out = head("method");
        for (row, cells) in self.rows.iter().zip(self.cells(&MARKDOWN, "±")) {
            out += &line(&[vec![row.name.clone()], cells].concat());
        }
        if per_image {
            for row in &self.rows {
                out += &format!("\n## {}\n\n{}", row.name, head("picture"));
                for (picture, scores) in &row.pictures {
                    let mut cells = vec![picture.clone()];
                    cells.extend(scores.iter().map(number));
                    out += &line(&cells);
                }
            }
        }
        out.push('\n');
        for note in self.notes() {
            out += &format!("- {note}\n");
        }
        out
    }

    /// The table of means for a paper.
    pub fn latex(&self) -> String {
        let mut out = format!(
            "\\begin{{tabular}}{{l{}}}\n\\hline\nmethod",
            "c".repeat(self.metrics.len())
        );
        for m in &self.metrics {
            out += &format!(" & {}", escape(m.label()));
        }
        out += " \\\\\n\\hline\n";
        for (row, cells) in self.rows.iter().zip(self.cells(&LATEX, "$\\pm$")) {
            out += &format!("{} & {} \\\\\n", escape(&row.name), cells.join(" & "));
        }
        out += "\\hline\n\\end{tabular}\n";
        for note in self.notes() {
            out += &format!("% {note}\n");
        }
        out
    }

    /// A line for each method and picture; an empty field where a metric has no value.
    pub fn csv(&self) -> String {
        let quote = |text: &str| match text.contains([',', '"', '\n']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_string(),
        };
        let names: Vec<&str> = self.metrics.iter().map(|m| m.name()).collect();
        let mut out = format!("method,picture,{}\n", names.join(","));
        for row in &self.rows {
            for (picture, scores) in &row.pictures {
                let values: Vec<String> = scores
                    .iter()
                    .map(|s| s.map_or(String::new(), |v| v.to_string()))
                    .collect();
                out += &format!(
                    "{},{},{}\n",
                    quote(&row.name),
                    quote(picture),
                    values.join(",")
                );
            }
        }
        out
    }

    /// All of it, for scripts.
    ///
    /// # Errors
    /// None is known.
    pub fn json(&self) -> Result<String> {
        let metrics: Vec<Value> = self
            .metrics
            .iter()
            .map(|m| {
                json!({"name": m.name(), "label": m.label(), "convention": m.convention(),
                       "higher_is_better": m.higher_is_better()})
            })
            .collect();
        let methods: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let means: Map<String, Value> = (0..self.metrics.len())
                    .map(|k| {
                        let mean = row.mean(k).map(|(mean, std, n)| {
                            json!({"mean": mean, "std": std, "pictures": n})
                        });
                        (self.metrics[k].name().to_string(), json!(mean))
                    })
                    .collect();
                let pictures: Vec<Value> = row
                    .pictures
                    .iter()
                    .map(|(name, scores)| {
                        let mut v = json!({"name": name});
                        for (m, s) in self.metrics.iter().zip(scores) {
                            v[m.name()] = json!(s.ok());
                        }
                        v
                    })
                    .collect();
                json!({"name": row.name, "origin": row.origin, "metrics": means, "pictures": pictures})
            })
            .collect();
        let all = json!({
            "format": 1, "version": env!("CARGO_PKG_VERSION"), "sources": self.folders,
            "pictures": self.pictures, "metrics": metrics, "methods": methods, "problems": self.problems,
        });
        serde_json::to_string_pretty(&all).map_err(|e| Error::Internal(format!("eval.json: {e}")))
    }
}

/// The places of the best and the second among several values; what is no number has no place.
pub(super) fn best_two(values: &[Option<f64>], higher_is_better: bool) -> [Option<usize>; 2] {
    let sign = if higher_is_better { -1.0 } else { 1.0 };
    let finite = |v: &Option<f64>| v.filter(|v| v.is_finite()).map(|v| sign * v);
    let all = values.iter().enumerate();
    let mut order: Vec<(usize, f64)> = all.filter_map(|(i, v)| Some((i, finite(v)?))).collect();
    order.sort_by(|x, y| x.1.total_cmp(&y.1));
    match order[..] {
        [] | [_] => [None, None],
        // With two methods, "second" would only say "not best".
        [best, _] => [Some(best.0), None],
        [best, second, ..] => [Some(best.0), Some(second.0)],
    }
}

fn number(score: &Score) -> String {
    score.map_or("-".into(), |v| format!("{v:.4}"))
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '_' | '&' | '%' | '#' | '$' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Undefined;

    fn report() -> Scores {
        let none = Err(Undefined::NoEdges);
        let row = |name: &str, values: [[Score; 2]; 2]| Row {
            name: name.into(),
            origin: "here".into(),
            pictures: ["1", "2"]
                .iter()
                .zip(values)
                .map(|(n, v)| (n.to_string(), v.to_vec()))
                .collect(),
        };
        Scores {
            metrics: vec![Metric::En, Metric::Mse],
            pictures: 2,
            folders: ["a".into(), "b".into()],
            rows: vec![
                row("x_1", [[Ok(1.0), Ok(3.0)], [Ok(3.0), none]]),
                row("y", [[Ok(4.0), Ok(2.0)], [Ok(4.0), Ok(2.0)]]),
                row("z", [[Ok(0.0), Ok(9.0)], [Ok(0.0), Ok(9.0)]]),
            ],
            problems: vec![],
        }
    }

    #[test]
    fn best_and_second_follow_the_direction_of_the_metric() {
        let text = report().markdown(true);
        assert!(
            text.contains("| x_1 | <u>2.0000</u> ± 1.0000 | <u>3.0000</u> ± 0.0000 |"),
            "{text}"
        );
        assert!(
            text.contains("| y | **4.0000** ± 0.0000 | **2.0000** ± 0.0000 |"),
            "{text}"
        );
        assert!(text.contains("| 2 | 3.0000 | - |"), "{text}");
        assert!(
            text.contains("MSE of x_1, 2: neither source has an edge"),
            "{text}"
        );
        let tex = report().latex();
        assert!(tex.contains("x\\_1 & \\underline{2.0000}") && tex.contains("\\textbf{4.0000}"));
    }

    #[test]
    fn scripts_get_every_picture() {
        let csv = report().csv();
        assert!(
            csv.starts_with("method,picture,en,mse\nx_1,1,1,3\nx_1,2,3,\n"),
            "{csv}"
        );
        let v: Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(v["methods"][0]["metrics"]["mse"]["pictures"], 1);
        assert_eq!(v["methods"][0]["pictures"][1]["mse"], Value::Null);
    }
}
