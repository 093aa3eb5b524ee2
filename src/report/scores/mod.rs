//! Methods judged side by side, as Markdown, CSV, LaTeX and JSON.

mod gates;
mod text;

pub use gates::Judged;

use crate::metrics::{Metric, Score, Undefined};
use crate::stats::mean_std;
use crate::tone::Tone;
use std::collections::HashSet;
use std::path::PathBuf;

/// A method's scores.
pub struct Row {
    pub name: String,
    /// For the record: a folder, or a model and its hash; and the tone.
    pub origin: String,
    /// Tone given to its pictures before they were judged.
    pub tone: Tone,
    /// In the order of the metrics, picture by picture.
    pub scores: Vec<(String, Vec<Score>)>,
}

/// What several methods made of the same pairs, judged.
pub struct Scores {
    pub metrics: Vec<Metric>,
    /// Pairs of sources, and sources that have no partner.
    pub pairs: usize,
    pub unpaired: usize,
    pub folders: [PathBuf; 2],
    pub rows: Vec<Row>,
    /// Verdicts of the gates, if they were asked for.
    pub gates: Vec<Judged>,
    /// What could not be judged, and why.
    pub problems: Vec<String>,
}

/// How a value stands among those of other methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    #[default]
    None,
    Best,
    Second,
}

/// A method's mean in one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    pub mean: f64,
    /// The population's.
    pub std: f64,
    /// Over how many pictures.
    pub pictures: usize,
    /// Whether these are all pictures for which any method has a value; others are not ranked, as they may lack what is
    /// hard.
    pub complete: bool,
    pub mark: Mark,
}

impl Mean {
    /// What follows the mean in a table: ` ± 0.1234`, and over how many pictures if it is not complete.
    pub fn spread(&self, plus_minus: &str) -> String {
        let n = match self.complete {
            true => String::new(),
            false => format!(" (n = {})", self.pictures),
        };
        format!(" {plus_minus} {:.4}{n}", self.std)
    }
}

impl Row {
    /// Pictures that have a value in metric `k`, and these values.
    pub(super) fn values<'a>(&'a self, k: usize) -> impl Iterator<Item = (&'a str, f64)> {
        let value =
            move |(name, scores): &'a (String, Vec<Score>)| Some((name.as_str(), scores[k].ok()?));
        self.scores.iter().filter_map(value)
    }
}

impl Scores {
    /// The means of metric `k`, one for each method that has any value.
    pub fn column(&self, k: usize) -> Vec<Option<Mean>> {
        let all: HashSet<&str> = { self.rows.iter() }
            .flat_map(|r| r.values(k).map(|v| v.0))
            .collect();
        let mean = |row: &Row| {
            let values: Vec<f64> = row.values(k).map(|v| v.1).collect();
            let (mean, std) = mean_std(&values)?;
            Some(Mean {
                mean,
                std,
                pictures: values.len(),
                complete: values.len() == all.len(),
                mark: Mark::None,
            })
        };
        let mut means: Vec<Option<Mean>> = self.rows.iter().map(mean).collect();
        let complete = |m: &Option<Mean>| m.filter(|m| m.complete).map(|m| m.mean);
        let values: Vec<Option<f64>> = means.iter().map(complete).collect();
        let marks = rank(&values, self.metrics[k].higher_is_better());
        for (mean, mark) in means.iter_mut().zip(marks) {
            if let Some(mean) = mean {
                mean.mark = mark;
            }
        }
        means
    }

    /// Pictures that were to be judged, one for each scene and method, and how many of them were not. A source without a
    /// partner is a scene too.
    pub fn count(&self) -> (usize, usize) {
        let total = (self.pairs + self.unpaired) * self.rows.len();
        let judged: usize = self.rows.iter().map(|r| r.scores.len()).sum();
        (total, total - judged)
    }

    /// Conventions, and what has no value or could not be judged.
    pub fn remarks(&self) -> Vec<String> {
        let convention = |m: &Metric| {
            format!(
                "{}: {}, convention: {}",
                m.name(),
                m.heading(),
                m.convention()
            )
        };
        let mut remarks: Vec<String> = self.metrics.iter().map(convention).collect();
        remarks.extend(self.undefined());
        remarks.extend(self.gate_remarks());
        remarks.extend(self.problems.iter().cloned());
        remarks
    }

    /// Values that are missing: a line for each metric, method and reason.
    fn undefined(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (k, metric) in self.metrics.iter().enumerate() {
            for row in &self.rows {
                let mut found: Vec<(Undefined, &str, usize)> = Vec::new();
                for (picture, scores) in &row.scores {
                    let Err(reason) = scores[k] else { continue };
                    match found.iter_mut().find(|f| f.0 == reason) {
                        Some((_, _, count)) => *count += 1,
                        None => found.push((reason, picture, 1)),
                    }
                }
                lines.extend(found.iter().map(|(reason, first, count)| {
                    format!(
                        "{} of {}: no value for {count} of {} pictures (first: {first}): {reason}",
                        metric.label(),
                        row.name,
                        row.scores.len()
                    )
                }));
            }
        }
        lines
    }

    /// What stands below a table: data, methods and [`Scores::remarks`].
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "hafuse {}; {} pairs of {} and {}; 8-bit grey (BT.601); mean and standard deviation over the pictures.",
            env!("CARGO_PKG_VERSION"),
            self.pairs,
            self.folders[0].display(),
            self.folders[1].display()
        )];
        let method = |r: &Row| format!("{}: {}, {} pictures", r.name, r.origin, r.scores.len());
        notes.extend(self.rows.iter().map(method));
        notes.extend(self.remarks());
        notes
    }
}

/// Ranks the values of several methods as they are printed, with four decimals: equal ones share a place, and after
/// several best there is no second.
pub(super) fn rank(values: &[Option<f64>], higher_is_better: bool) -> Vec<Mark> {
    let sign = if higher_is_better { -1.0 } else { 1.0 };
    let printed = |v: f64| format!("{v:.4}").parse::<f64>().map_or(v, |v| sign * v);
    let keys: Vec<Option<f64>> = values.iter().map(|v| v.map(printed)).collect();
    let mut order: Vec<f64> = keys.iter().copied().flatten().collect();
    order.sort_by(f64::total_cmp);
    let (best, second) = match order[..] {
        [] | [_] => (None, None),
        // With two methods, "second" would only say "not best".
        [best, _] => (Some(best), None),
        [best, second, ..] => (Some(best), Some(second)),
    };
    let mark = |key: &Option<f64>| match *key {
        None => Mark::None,
        at if at == best => Mark::Best,
        at if at == second => Mark::Second,
        Some(_) => Mark::None,
    };
    keys.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn report() -> Scores {
        let none = Err(Undefined::NoEdges);
        let row = |name: &str, values: [[Score; 2]; 2]| Row {
            name: name.into(),
            origin: "here, tone auto".into(),
            tone: Tone::Auto,
            scores: ["1", "2"]
                .iter()
                .zip(values)
                .map(|(n, v)| (n.to_string(), v.to_vec()))
                .collect(),
        };
        Scores {
            metrics: vec![Metric::En, Metric::Mse],
            pairs: 2,
            unpaired: 0,
            folders: ["a".into(), "b".into()],
            rows: vec![
                row("x_1", [[Ok(1.0), Ok(1.0)], [Ok(3.0), none]]),
                row("y", [[Ok(4.0), Ok(2.0)], [Ok(4.0), Ok(2.0)]]),
                row("z", [[Ok(0.0), Ok(9.0)], [Ok(0.0), Ok(9.0)]]),
            ],
            gates: vec![],
            problems: vec![],
        }
    }

    #[test]
    fn equal_figures_share_a_place() {
        use Mark::{Best, None as No, Second};
        let ranked = |v: &[f64]| rank(&v.iter().map(|&v| Some(v)).collect::<Vec<_>>(), true);
        assert_eq!(ranked(&[3.0, 1.0, 2.0]), [Best, No, Second]);
        assert_eq!(ranked(&[3.0, 3.0, 2.0]), [Best, Best, No]);
        assert_eq!(ranked(&[2.0, 3.0, 2.0, 1.0]), [Second, Best, Second, No]);
        assert_eq!(ranked(&[2.0, 2.0]), [Best, Best]);
        assert_eq!(ranked(&[2.0, 3.0]), [No, Best]);
        assert_eq!(ranked(&[2.0]), [No]);
        // What is printed alike is alike.
        assert_eq!(ranked(&[0.12344, 0.12341, 0.1]), [Best, Best, No]);
        assert_eq!(rank(&[Some(2.0), None, Some(1.0)], false), [No, No, Best]);
    }

    #[test]
    fn a_mean_over_fewer_pictures_takes_no_place() {
        // x_1 has the lowest MSE, of one picture of two.
        let means = report().column(1).into_iter().flatten();
        let means: Vec<_> = means.map(|m| (m.mean, m.pictures, m.mark)).collect();
        let expected = [
            (1.0, 1, Mark::None),
            (2.0, 2, Mark::Best),
            (9.0, 2, Mark::None),
        ];
        assert_eq!(means, expected);
    }

    #[test]
    fn a_reason_is_said_once_for_all_pictures() {
        let mut scores = report();
        for (_, values) in &mut scores.rows[1].scores {
            values[1] = Err(Undefined::NoEdges);
        }
        scores.problems.push("3 is missing".into());
        let remarks = scores.remarks();
        assert_eq!(
            remarks[2..],
            [
                "MSE of x_1: no value for 1 of 2 pictures (first: 2): neither source has an edge",
                "MSE of y: no value for 2 of 2 pictures (first: 1): neither source has an edge",
                "3 is missing",
            ]
        );
        assert_eq!(
            remarks[1],
            "mse: MSE (lower is better), convention: Evaluation-for-Image-Fusion"
        );
    }

    #[test]
    fn a_source_without_a_partner_is_a_scene_that_was_not_judged() {
        let mut scores = report();
        assert_eq!(scores.count(), (6, 0));
        scores.unpaired = 9;
        scores.rows[0].scores.pop();
        assert_eq!(scores.count(), (33, 28));
    }
}
