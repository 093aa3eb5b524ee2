//! Scores as text: tables for people, files for scripts.

use super::{Mark, Scores};
use crate::metrics::Score;
use crate::{Error, Result};
use serde_json::{Map, Value, json};

/// How the best and the second of a column are marked.
struct Marks {
    best: [&'static str; 2],
    second: [&'static str; 2],
    plus_minus: &'static str,
}

const MARKDOWN: Marks = Marks {
    best: ["**", "**"],
    second: ["<u>", "</u>"],
    plus_minus: "±",
};
const LATEX: Marks = Marks {
    best: ["\\textbf{", "}"],
    second: ["\\underline{", "}"],
    plus_minus: "$\\pm$",
};

impl Scores {
    /// Cells of the table of means: one list for each method.
    fn cells(&self, marks: &Marks) -> Vec<Vec<String>> {
        let mut rows = vec![Vec::new(); self.rows.len()];
        for k in 0..self.metrics.len() {
            for (row, mean) in rows.iter_mut().zip(self.column(k)) {
                let Some(mean) = mean else {
                    row.push("-".to_string());
                    continue;
                };
                let [open, close] = match mean.mark {
                    Mark::None => ["", ""],
                    Mark::Best => marks.best,
                    Mark::Second => marks.second,
                };
                let spread = mean.spread(marks.plus_minus);
                row.push(format!("{open}{:.4}{close}{spread}", mean.mean));
            }
        }
        rows
    }

    /// A table of means and, if asked for, one of each method's pictures.
    pub fn markdown(&self, per_image: bool) -> String {
        let head = |first: &str| {
            let mut cells = vec![first.to_string()];
            cells.extend(self.metrics.iter().map(|m| m.heading()));
            let rule = vec!["---".to_string(); cells.len()];
            line(&cells) + &line(&rule)
        };
        let mut out = head("method");
        for (row, cells) in self.rows.iter().zip(self.cells(&MARKDOWN)) {
            out += &line(&[vec![escape_markdown(&row.name)], cells].concat());
        }
        if per_image {
            for row in &self.rows {
                out += &format!("\n## {}\n\n{}", escape_markdown(&row.name), head("picture"));
                for (picture, scores) in &row.scores {
                    let mut cells = vec![escape_markdown(picture)];
                    cells.extend(scores.iter().map(number));
                    out += &line(&cells);
                }
            }
        }
        out += &self.gates_markdown();
        out.push('\n');
        for note in self.notes() {
            out += &format!("- {}\n", escape_markdown(&note));
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
            out += &format!(" & {}", escape_latex(m.label()));
        }
        out += " \\\\\n\\hline\n";
        for (row, cells) in self.rows.iter().zip(self.cells(&LATEX)) {
            out += &format!("{} & {} \\\\\n", escape_latex(&row.name), cells.join(" & "));
        }
        out += "\\hline\n\\end{tabular}\n";
        out += &self.gates_latex();
        for note in self.notes() {
            // A line break would end the comment.
            out += &format!("% {}\n", note.replace(char::is_control, " "));
        }
        out
    }

    /// A line for each method and picture; an empty field where a metric has no value.
    pub fn csv(&self) -> String {
        let names: Vec<&str> = self.metrics.iter().map(|m| m.name()).collect();
        let mut out = format!("method,picture,tone,{}\n", names.join(","));
        for row in &self.rows {
            for (picture, scores) in &row.scores {
                let values: Vec<String> = scores
                    .iter()
                    .map(|s| s.map_or(String::new(), |v| v.to_string()))
                    .collect();
                out += &format!(
                    "{},{},{},{}\n",
                    quote(&row.name),
                    quote(picture),
                    quote(&row.tone.to_string()),
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
        let columns: Vec<_> = (0..self.metrics.len()).map(|k| self.column(k)).collect();
        let methods: Vec<Value> = self
            .rows
            .iter()
            .enumerate()
            .map(|(i, row)| {
                let means: Map<String, Value> = { self.metrics.iter().zip(&columns) }
                    .map(|(metric, column)| {
                        let mean = column[i]
                            .map(|m| json!({"mean": m.mean, "std": m.std, "pictures": m.pictures}));
                        (metric.name().to_string(), json!(mean))
                    })
                    .collect();
                let pictures: Vec<Value> = { row.scores.iter() }
                    .map(|(name, scores)| self.picture(name, scores))
                    .collect();
                json!({"name": row.name, "origin": row.origin, "tone": row.tone.to_string(),
                       "metrics": means, "pictures": pictures})
            })
            .collect();
        // A path need not be UTF-8.
        let sources = self.folders.each_ref().map(|f| f.display().to_string());
        let all = json!({
            "format": 1, "version": env!("CARGO_PKG_VERSION"), "sources": sources, "pictures": self.pairs,
            "unpaired": self.unpaired, "metrics": metrics, "methods": methods,
            "gates": self.gates_json(), "problems": self.problems,
        });
        serde_json::to_string_pretty(&all).map_err(|e| Error::Internal(format!("eval.json: {e}")))
    }

    /// A picture's values, and why it lacks some.
    fn picture(&self, name: &str, scores: &[Score]) -> Value {
        let mut value = json!({"name": name});
        for (m, s) in self.metrics.iter().zip(scores) {
            value[m.name()] = json!(s.ok());
            if let Err(reason) = s {
                value["undefined"][m.name()] = json!(reason.to_string());
            }
        }
        value
    }
}

fn number(score: &Score) -> String {
    score.map_or("-".into(), |v| format!("{v:.4}"))
}

/// A row of a Markdown table.
pub(super) fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// A field of a CSV line.
pub(super) fn quote(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

/// Text that stays what it is in a cell or a line; `_` within a word has no meaning.
pub(super) fn escape_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let within = before.is_alphanumeric() && rest.peek().is_some_and(|c| c.is_alphanumeric());
        match c {
            '_' if within => out.push(c),
            '\\' | '|' | '*' | '_' | '<' | '&' | '`' | '[' | '~' | '$' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        before = c;
    }
    out
}

pub(super) fn escape_latex(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '_' | '&' | '%' | '#' | '$' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '<' => out += "\\textless{}",
            '>' => out += "\\textgreater{}",
            '|' => out += "\\textbar{}",
            // After the end of a row these would be an argument of it.
            '[' | '*' => out.extend(['{', c, '}']),
            // Two would become a dash.
            '-' if out.ends_with('-') => out += "{}-",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;
    use crate::tone::Tone;
    use std::path::PathBuf;

    #[test]
    fn best_and_second_follow_the_direction_of_the_metric() {
        let text = report().markdown(true);
        for part in [
            "| x_1 | <u>2.0000</u> ± 1.0000 | 1.0000 ± 0.0000 (n = 1) |",
            "| y | **4.0000** ± 0.0000 | **2.0000** ± 0.0000 |",
            "| 2 | 3.0000 | - |",
            "- MSE of x_1: no value for 1 of 2 pictures",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let tex = report().latex();
        assert!(tex.contains("x\\_1 & \\underline{2.0000}") && tex.contains("\\textbf{4.0000}"));
    }

    #[test]
    fn scripts_get_every_picture() {
        let csv = report().csv();
        assert!(
            csv.starts_with("method,picture,tone,en,mse\nx_1,1,auto,1,1\nx_1,2,auto,3,\n"),
            "{csv}"
        );
        let v: Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        let x = &v["methods"][0];
        assert_eq!(
            (&x["tone"], &x["origin"]),
            (&json!("auto"), &json!("here, tone auto"))
        );
        assert_eq!(x["metrics"]["mse"]["pictures"], 1);
        assert_eq!(x["pictures"][1]["mse"], Value::Null);
        let reason = &x["pictures"][1]["undefined"];
        assert_eq!(reason, &json!({"mse": "neither source has an edge"}));
        assert_eq!(x["pictures"][0]["undefined"], Value::Null);
    }

    #[test]
    #[cfg(unix)]
    fn folders_need_not_be_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let mut scores = report();
        scores.folders[0] = PathBuf::from(std::ffi::OsString::from_vec(b"ir\xff".to_vec()));
        assert!(scores.json().unwrap().contains("ir\u{fffd}"));
    }

    #[test]
    fn markdown_shows_names_as_they_are() {
        let mut scores = report();
        scores.rows[0].name = "a|b *c* <i>\nd".into();
        for row in &mut scores.rows {
            row.scores[0].0 = "x|y".into();
        }
        scores.folders[0] = "_a_/b_c".into();
        let text = scores.markdown(true);
        for part in [
            "| a\\|b \\*c\\* \\<i> d | <u>2.0000</u>",
            "\n## a\\|b \\*c\\* \\<i> d\n",
            "| x\\|y | 1.0000 | 1.0000 |",
            "pairs of \\_a\\_/b_c and b;",
            "- a\\|b \\*c\\* \\<i> d: here, tone auto",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    #[test]
    fn latex_shows_names_as_they_are() {
        let mut scores = report();
        scores.rows[0].name = "[12]".into();
        scores.rows[1].name = "*a--b<c>|\nd".into();
        let tex = scores.latex();
        assert!(tex.contains("\\\\\n\\hline\n{[}12] & "), "{tex}");
        let odd = "\\\\\n{*}a-{}-b\\textless{}c\\textgreater{}\\textbar{} d & ";
        assert!(tex.contains(odd), "{tex}");
        let (_, notes) = tex.split_once("\\end{tabular}\n").unwrap();
        assert!(notes.lines().all(|l| l.starts_with("% ")), "{notes}");
    }

    #[test]
    fn csv_quotes_what_would_end_a_line_or_field() {
        let mut scores = report();
        scores.rows[0].name = "a\rb".into();
        scores.rows[0].scores[0].0 = "x,\"y".into();
        scores.rows[0].tone = Tone::Percentiles {
            low: 0.5,
            high: 99.5,
        };
        let csv = scores.csv();
        assert!(
            csv.contains("\n\"a\rb\",\"x,\"\"y\",\"0.5,99.5\",1,1\n"),
            "{csv}"
        );
    }
}
