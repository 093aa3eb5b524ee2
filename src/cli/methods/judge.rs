//! Methods run or read, and measured: picture by picture, and by the gates over sets of pictures.

use super::grey::{grey, grey_of_continued};
use super::{Fused, Method, Methods};
use crate::cli::terminal;
use crate::data::sets::set_name;
use crate::data::{Pair, Picture};
use crate::metrics::border::{BorderError, border_error};
use crate::metrics::gates::{Reference, Tally};
use crate::metrics::{Grey, Metric, Score, measure};
use crate::report::scores::{Judged, Row, Scores};
use crate::tone::Tone;
use crate::{Error, Result};
use indicatif::ProgressBar;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which pictures are a set of the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sets {
    /// All of them.
    One,
    /// Those whose names are equal up to the first `_`; names without one are a set too.
    ByPrefix,
}

/// Name of the set of names without a prefix.
const NO_PREFIX: &str = "(no prefix)";

/// Measures of each picture.
struct Plan {
    /// First those asked for, then what only the gates need.
    metrics: Vec<Metric>,
    asked: usize,
    /// Places of [`Tally::METRICS`] among them.
    of_gates: Vec<usize>,
}

impl Plan {
    fn new(asked: &[Metric], gates: bool) -> Self {
        let mut metrics = asked.to_vec();
        let mut of_gates = Vec::new();
        for metric in gates.then_some(Tally::METRICS).into_iter().flatten() {
            let at = metrics.iter().position(|&m| m == metric);
            of_gates.push(at.unwrap_or(metrics.len()));
            if at.is_none() {
                metrics.push(metric);
            }
        }
        Self {
            metrics,
            asked: asked.len(),
            of_gates,
        }
    }
}

/// A set's gates in the making.
struct Gates<'a> {
    references: &'a BTreeMap<PathBuf, Reference>,
    tally: Tally,
}

/// Scores of the metrics of a [`Plan`], and what they are of: A, B, F.
type Measured = (Vec<Score>, [Grey; 3]);

impl Methods {
    /// Judges every method on every pair, also by the gates if there are `gates`; what cannot be judged is said on stderr and counted
    /// as a problem.
    ///
    /// # Errors
    /// A device that fails.
    pub fn judge(&mut self, metrics: &[Metric], gates: Option<Sets>) -> Result<Scores> {
        let sets = match gates {
            Some(Sets::ByPrefix) => by_prefix(&self.sources),
            _ => vec![(None, self.sources.clone())],
        };
        let passes = self.methods.len() + usize::from(gates.is_some());
        let count = (passes * self.sources.len()) as u64;
        let bar = terminal::bar(count, "{bar:30} {pos}/{len} pictures judged, {eta} left");
        let plan = Plan::new(metrics, gates.is_some());
        let row = |m: &Method| Row {
            name: m.name.clone(),
            origin: format!("{}, tone {}", m.origin, m.tone),
            tone: m.tone,
            scores: Vec::new(),
        };
        let mut rows: Vec<Row> = self.methods.iter().map(row).collect();
        let mut judged = Vec::new();
        for (set, sources) in sets {
            let references = gates.map(|_| references(&sources, &bar));
            for (method, row) in self.methods.iter_mut().zip(&mut rows) {
                let mut gates = references.as_ref().map(|references| Gates {
                    references,
                    tally: Tally::default(),
                });
                let problems = &mut self.problems;
                let scores = method.judge(&sources, &plan, gates.as_mut(), &bar, problems)?;
                row.scores.extend(scores);
                judged.extend(gates.map(|g| Judged {
                    set: set.clone(),
                    method: method.name.clone(),
                    tone: method.tone,
                    pictures: g.tally.len(),
                    verdicts: g.tally.judge(),
                }));
            }
        }
        bar.finish_and_clear();
        for problem in &self.problems {
            terminal::say(&format!("warning: {problem}"));
        }
        Ok(Scores {
            metrics: metrics.to_vec(),
            pairs: self.sources.len(),
            unpaired: self.unpaired,
            folders: self.folders.clone(),
            rows,
            gates: judged,
            problems: self.problems.clone(),
        })
    }
}

impl Method {
    /// All pictures of a method. What is fused here is fused one by one, folders are read and all are measured in parallel.
    fn judge(
        &mut self,
        sources: &[Pair],
        plan: &Plan,
        mut gates: Option<&mut Gates<'_>>,
        bar: &ProgressBar,
        problems: &mut Vec<String>,
    ) -> Result<Vec<(String, Vec<Score>)>> {
        let mut scored = Vec::new();
        // So few at a time that pictures of a large folder are not all in memory.
        for group in sources.chunks(4 * rayon::current_num_threads()) {
            let judged = self.measure(group, &plan.metrics, bar);
            let mut fused = Vec::new();
            for (s, result) in group.iter().zip(judged) {
                match result {
                    Ok(Some((mut scores, [a, b, f]))) => {
                        if let Some(gates) = &mut gates
                            && let Some(reference) = gates.references.get(&s.a)
                        {
                            let of_gates: Vec<Score> =
                                plan.of_gates.iter().map(|&k| scores[k]).collect();
                            let pictures = [&a, &b, &f];
                            gates.tally.add(&s.stem, pictures, &of_gates, reference)?;
                            fused.push((s, f));
                        }
                        scores.truncate(plan.asked);
                        scored.push((s.stem.clone(), scores));
                    }
                    Ok(None) => {}
                    Err(e) => self.report(s, e, problems)?,
                }
            }
            // One after the other: fusing another size is a new plan for an engine.
            for (s, f) in fused {
                match (self.border(s, &f), &mut gates) {
                    (Ok(Some(error)), Some(gates)) => gates.tally.add_border(&s.stem, error),
                    (Ok(_), _) => {}
                    (Err(e), _) => self.report(s, e, problems)?,
                }
            }
        }
        Ok(scored)
    }

    /// Notes what a picture failed by.
    ///
    /// # Errors
    /// Those of a device.
    fn report(&self, pair: &Pair, error: Error, problems: &mut Vec<String>) -> Result<()> {
        if crate::cli::exit_code(&error) == 5 {
            return Err(error);
        }
        problems.push(format!("{}, {}: {error}", self.name, pair.stem));
        Ok(())
    }

    /// The metrics of some pairs' fused pictures; `None` where a folder has none.
    fn measure(
        &mut self,
        group: &[Pair],
        metrics: &[Metric],
        bar: &ProgressBar,
    ) -> Vec<Result<Option<Measured>>> {
        let measure = |greys: [Grey; 3]| -> Result<Option<Measured>> {
            let [a, b, f] = &greys;
            Ok(Some((measure(a, b, f, metrics)?, greys)))
        };
        let tone = self.tone;
        match &mut self.fused {
            Fused::Folder(_, by_a) => group
                .par_iter()
                .map(|s| {
                    bar.inc(1);
                    match by_a.get(&s.a) {
                        Some(path) => measure([read(&s.a)?, read(&s.b)?, read_toned(path, tone)?]),
                        None => Ok(None),
                    }
                })
                .collect(),
            Fused::Fuser(fuser) => {
                let fused: Vec<Result<[Grey; 3]>> = group.iter().map(|s| grey(fuser, s)).collect();
                fused
                    .into_par_iter()
                    .map(|greys| {
                        bar.inc(1);
                        measure(greys?)
                    })
                    .collect()
            }
        }
    }

    /// The border error of a pair that was fused here.
    fn border(&mut self, pair: &Pair, fused: &Grey) -> Result<Option<BorderError>> {
        match &mut self.fused {
            Fused::Folder(..) => Ok(None),
            Fused::Fuser(fuser) => {
                let continued = grey_of_continued(fuser, pair)?;
                border_error(fused, &continued).map(Some)
            }
        }
    }
}

/// Scores of the rules that set limits, by the path of source A. Sources that cannot be read have none; methods say so.
fn references(sources: &[Pair], bar: &ProgressBar) -> BTreeMap<PathBuf, Reference> {
    let of = |s: &Pair| {
        bar.inc(1);
        let reference = Reference::of(&read(&s.a).ok()?, &read(&s.b).ok()?).ok()?;
        Some((s.a.clone(), reference))
    };
    sources.par_iter().filter_map(of).collect()
}

/// Pairs by what their names begin with, the sets in order of names.
fn by_prefix(sources: &[Pair]) -> Vec<(Option<String>, Vec<Pair>)> {
    let mut sets: BTreeMap<&str, Vec<Pair>> = BTreeMap::new();
    for pair in sources {
        let set = match set_name(&pair.stem) {
            "" => NO_PREFIX,
            prefix => prefix,
        };
        sets.entry(set).or_default().push(pair.clone());
    }
    let named = |(set, pairs): (&str, Vec<Pair>)| (Some(set.to_string()), pairs);
    sets.into_iter().map(named).collect()
}

fn read(path: &Path) -> Result<Grey> {
    Grey::from_picture(&Picture::read(path)?)
}

fn read_toned(path: &Path, tone: Tone) -> Result<Grey> {
    let mut picture = Picture::read(path)?;
    tone.apply(&mut picture.luma)?;
    Grey::from_picture(&picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named_by_what_names_begin_with() {
        let pair = |stem: &&str| Pair {
            stem: stem.to_string(),
            a: stem.into(),
            b: stem.into(),
        };
        let names = ["TNO_1", "07", "MSRS_2_N", "_x", "TNO_2", "TNO"];
        let pairs: Vec<Pair> = names.iter().map(pair).collect();
        let sets = by_prefix(&pairs).into_iter().map(|(set, pairs)| {
            let stems: Vec<String> = pairs.into_iter().map(|p| p.stem).collect();
            (set.unwrap(), stems.join(" "))
        });
        let expected = [
            ("(no prefix)", "07 _x TNO"),
            ("MSRS", "MSRS_2_N"),
            ("TNO", "TNO_1 TNO_2"),
        ];
        assert!(sets.eq(expected.map(|(set, stems)| (set.to_string(), stems.to_string()))));
    }

    #[test]
    fn metrics_are_measured_once_for_table_and_gates() {
        let plan = Plan::new(&[Metric::Mse, Metric::Vif], true);
        assert_eq!(plan.metrics.len(), 7);
        let of_gates: Vec<Metric> = plan.of_gates.iter().map(|&k| plan.metrics[k]).collect();
        assert_eq!(of_gates, Tally::METRICS);
        assert_eq!(Plan::new(&[Metric::Mse], false).metrics, [Metric::Mse]);
    }
}
