//! `hafuse search --seeds N`: the same search from several seeds, and where they agree.

use super::search::execute;
use super::stop::Stop;
use super::{folder, terminal};
use crate::device::Device;
use crate::output;
use crate::report::run::SearchRun;
use crate::search::{Contest, SearchConfig, Verdict, brief};
use crate::tensor::io::write_atomic;
use crate::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Choices of the seeds at one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Place {
    place: String,
    /// Choice of each seed.
    chosen: Vec<Option<String>>,
    /// Ratio of best to second, and what speaks for the best by its error, of each seed.
    ratios: Vec<Option<f64>>,
    t: Vec<Option<f64>>,
    /// See [`crate::search::Decision`].
    gains: Vec<Option<[f64; 2]>>,
    /// Near tie by each seed's own report.
    near_tie: Vec<bool>,
    agree: bool,
}

/// All seeds of a search.
#[derive(Clone, Debug, Serialize)]
struct Agreement {
    seeds: Vec<u64>,
    places: Vec<Place>,
    /// Cells in which they differ, judged by all of them.
    contests: Vec<Contest>,
    /// Cells and operators of each seed.
    networks: Vec<String>,
    predicted_ms: Vec<f64>,
    warnings: Vec<Vec<String>>,
}

/// Searches from `count` seeds, the configured one and those after it, each in a folder `seed<N>` of `config.out`, and says where
/// they agree: agreement.md and agreement.json. A search that has ended is not run again, one that was stopped goes on.
///
/// # Errors
/// Those of a single search.
pub fn run(config: SearchConfig, count: u64, device: &Device) -> Result<()> {
    let out = config.out.clone();
    let seeds: Vec<u64> = (0..count).map(|i| config.seed + i).collect();
    let mut runs = Vec::new();
    for &seed in &seeds {
        let mut config = config.clone();
        config.seed = seed;
        config.out = out.join(format!("seed{seed}"));
        let dir = config.out.clone();
        terminal::say(&format!("seed {seed}"));
        let asked = ("searched", "this command");
        if !folder::finished(&dir, "genotype.json", &config.to_toml()?, asked)? {
            let resume = dir.join("checkpoint.safetensors").exists();
            execute(config, resume, Stop::default(), device)?;
        }
        runs.push((seed, dir));
    }
    let text = compare(&runs, &out, "agreement")?;
    terminal::print(&format!(
        "{text}\nwritten: {}",
        out.join("agreement.md").display()
    ))
}

/// Where searches agree that have ended, by their seeds and folders: NAME.md, whose text is returned, and NAME.json in `out`.
///
/// # Errors
/// Those of reading a search, and of writing.
pub fn compare(runs: &[(u64, PathBuf)], out: &Path, name: &str) -> Result<String> {
    let mut verdicts = Vec::new();
    let (mut networks, mut predicted_ms) = (Vec::new(), Vec::new());
    let mut searches = Vec::new();
    for (_, dir) in runs {
        let mut run = SearchRun::load(dir)?;
        verdicts.push(Verdict::of(&run.config, &run.epochs, run.genotype()));
        let epochs = std::mem::take(&mut run.epochs);
        let (found, table) = run.found()?;
        let cells = found.genotype.cells().map(|(_, gene)| brief(gene));
        networks.push(cells.collect::<Vec<_>>().join(", "));
        predicted_ms.push(table.predict(&found.genotype)?);
        searches.push((epochs, found.genotype));
    }
    let searches: Vec<_> = searches.iter().map(|(e, g)| (&e[..], g)).collect();
    let agreement = Agreement {
        places: places(&verdicts),
        contests: Contest::of(&searches),
        warnings: verdicts.into_iter().map(|v| v.warnings).collect(),
        seeds: runs.iter().map(|(seed, _)| *seed).collect(),
        networks,
        predicted_ms,
    };
    let json = serde_json::to_string_pretty(&agreement)
        .map_err(|e| Error::Internal(format!("{name}.json: {e}")))?;
    let text = agreement.markdown();
    let file = |end: &str| out.join(format!("{name}.{end}"));
    output::make_parent(&file("json"))?;
    write_atomic(&file("json"), json.as_bytes())?;
    write_atomic(&file("md"), text.as_bytes())?;
    Ok(text)
}

/// Every place that the first seed decided at.
fn places(verdicts: &[Verdict]) -> Vec<Place> {
    let Some(first) = verdicts.first() else {
        return Vec::new();
    };
    let place = |name: &String| {
        let of = |v: &Verdict| v.decisions.iter().find(|d| d.place == *name).cloned();
        let found: Vec<_> = verdicts.iter().map(of).collect();
        let best = |d: &crate::search::Decision| d.best.clone();
        let chosen: Vec<Option<String>> = found.iter().map(|d| d.as_ref().map(best)).collect();
        Place {
            place: name.clone(),
            agree: chosen.iter().all(|c| *c == chosen[0]),
            ratios: { found.iter() }
                .map(|d| d.as_ref().map(|d| d.weights[0] / d.weights[1]))
                .collect(),
            gains: { found.iter() }
                .map(|d| d.as_ref().and_then(|d| d.gain))
                .collect(),
            t: found.iter().map(|d| d.as_ref().and_then(|d| d.t)).collect(),
            near_tie: { found.iter() }
                .map(|d| d.as_ref().is_some_and(|d| d.near_tie()))
                .collect(),
            chosen,
        }
    };
    let names = first.decisions.iter().map(|d| &d.place);
    names.map(place).collect()
}

impl Agreement {
    /// A contest in one line.
    fn line(&self, contest: &Contest) -> String {
        let seeds = |places: &[usize]| {
            let of = places.iter().map(|&i| self.seeds[i].to_string());
            of.collect::<Vec<_>>().join(", ")
        };
        let (first, second) = (contest.first.name(), contest.second.name());
        let verdict = match contest.gain {
            Some([gain, error]) => format!(
                "gain of {first} {:.2} ± {:.2} % over the seeds{}",
                100.0 * gain,
                100.0 * error,
                if contest.near_tie() { ": near tie" } else { "" }
            ),
            None => "fewer than two seeds compared them, so that nothing can be said".into(),
        };
        format!(
            "- {}: {first} (seed {}) or {second} (seed {}): {verdict}\n",
            contest.place,
            seeds(&contest.first_seeds),
            seeds(&contest.second_seeds),
        )
    }

    fn markdown(&self) -> String {
        let mut out = String::from("# The same search from several seeds\n\n");
        let heads = self
            .seeds
            .iter()
            .map(|s| format!("seed {s}: best / second, t, gain"));
        let heads: Vec<String> = heads.collect();
        out += &format!("| place | {} | agree |\n", heads.join(" | "));
        out += &format!("|{}\n", "---|".repeat(heads.len() + 2));
        for p in &self.places {
            let cell = |i: usize| match (&p.chosen[i], p.ratios[i]) {
                (Some(c), Some(r)) => {
                    let t = p.t[i].map_or("-".into(), |t| format!("{t:.1}"));
                    let gain = |[gain, _]: [f64; 2]| format!(", {:.2} %", 100.0 * gain);
                    let gain = p.gains[i].map_or(String::new(), gain);
                    let tie = if p.near_tie[i] { ", near tie" } else { "" };
                    format!("{c}: {r:.2}, {t}{gain}{tie}")
                }
                _ => "-".into(),
            };
            let cells: Vec<String> = (0..p.chosen.len()).map(cell).collect();
            let agree = if p.agree { "yes" } else { "no" };
            out += &format!("| {} | {} | {agree} |\n", p.place, cells.join(" | "));
        }
        out += "\n";
        for contest in &self.contests {
            out += &self.line(contest);
        }
        for (i, seed) in self.seeds.iter().enumerate() {
            out += &format!(
                "- seed {seed}: {}, predicted {:.3} ms, {} warnings\n",
                self.networks[i],
                self.predicted_ms[i],
                self.warnings[i].len()
            );
        }
        out
    }
}
