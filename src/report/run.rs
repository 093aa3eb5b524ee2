//! What the folder of a search holds, whether it has ended or not.

use crate::net::Genotype;
use crate::search::{
    Discretisation, EpochReport, LatencyKey, LatencyTable, LayerWeights, Schedule, SearchConfig,
    derive,
};
use crate::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// search.json, as far as a report needs it.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    pub version: String,
    pub genotype: Genotype,
    pub lat_ms: LatMs,
    pub latency_table: LatencyKey,
    pub layers: Vec<LayerWeights>,
    pub device: String,
    pub data: Halves,
    pub steps_per_epoch: u64,
    /// Records before 0.3.0 have none.
    pub discretisation: Option<Discretisation>,
}

/// Milliseconds of what was searched.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct LatMs {
    /// With the softmax weights.
    pub relaxed: f64,
    /// Of the chosen cells.
    pub chosen: f64,
    /// With stems, heads and aggregation.
    pub whole_network: f64,
}

/// Names of the pairs in both halves.
#[derive(Clone, Debug, Deserialize)]
pub struct Halves {
    pub train: Vec<String>,
    pub val: Vec<String>,
}

/// The folder of a `hafuse search`.
#[derive(Clone, Debug)]
pub struct SearchRun {
    pub dir: PathBuf,
    pub config: SearchConfig,
    pub epochs: Vec<EpochReport>,
    pub table: Option<LatencyTable>,
    /// `None` until the search has ended.
    pub record: Option<Record>,
    /// What was missing or passed over.
    pub notes: Vec<String>,
}

impl SearchRun {
    /// Reads config.toml and, as far as they are there, metrics.jsonl, search.json and latency.json.
    ///
    /// # Errors
    /// [`Error::Input`] if `dir` is no folder of a search or a file in it is damaged. A last line of
    /// metrics.jsonl that was cut short is only noted.
    pub fn load(dir: &Path) -> Result<Self> {
        let mut notes = Vec::new();
        let config = load_config(dir)?;
        let (epochs, torn) = load_metrics(&dir.join("metrics.jsonl"))?;
        if let Some(line) = torn {
            notes.push(format!(
                "line {line} of metrics.jsonl, the last, was cut short and is passed over"
            ));
        }
        let path = dir.join("search.json");
        let record = if_there(&path)?
            .map(|text| parse_record(&path, &text))
            .transpose()?;
        let path = dir.join("latency.json");
        let table = match path.exists() {
            true => Some(LatencyTable::load(&path)?),
            false => {
                notes.push("there is no latency.json, so parts have no milliseconds".into());
                None
            }
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            config,
            epochs,
            table,
            record,
            notes,
        })
    }

    /// The weights at the end, or at the last inner epoch that is on record.
    pub fn layers(&self) -> &[LayerWeights] {
        match (&self.record, self.epochs.last()) {
            (Some(record), _) => &record.layers,
            (None, Some(epoch)) => &epoch.layers,
            (None, None) => &[],
        }
    }

    /// Record and table of a search that has ended.
    ///
    /// # Errors
    /// [`Error::Input`] if one of them is not there.
    pub fn found(self) -> Result<(Record, LatencyTable)> {
        match (self.record, self.table) {
            (Some(record), Some(table)) => Ok((record, table)),
            _ => Err(Error::input(
                &self.dir,
                "has ended but lacks search.json or latency.json; name another folder with --out",
            )),
        }
    }

    /// What was found; `None` until the search has ended.
    pub fn genotype(&self) -> Option<&Genotype> {
        self.record.as_ref().map(|r| &r.genotype)
    }

    /// What was found or, once all layers are searched, what would be found now.
    pub fn candidate(&self) -> Option<Genotype> {
        if let Some(genotype) = self.genotype() {
            return Some(genotype.clone());
        }
        let layers = self.layers();
        let all = layers.len() == self.config.space.cells + 2;
        let space = &self.config.space;
        all.then(|| derive(space.channels, space.frame, layers))?
    }

    pub fn schedule(&self) -> Schedule {
        self.config.schedule()
    }

    /// Where a search that has not ended stands.
    pub fn unfinished(&self) -> Option<String> {
        if self.record.is_some() {
            return None;
        }
        let stages = self.schedule().stages();
        let at = match self.epochs.last() {
            None => "no inner epoch is done".into(),
            Some(e) => format!(
                "stage {} of {stages}, inner epoch {} of {} is the last on record",
                e.stage, e.epoch, e.epochs
            ),
        };
        Some(format!(
            "This search has not ended (it is going on, or was stopped): {at}. All below is as of then."
        ))
    }
}

/// The text of a file that may be missing.
fn if_there(path: &Path) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::input(path, e)),
    }
}

fn load_config(dir: &Path) -> Result<SearchConfig> {
    if !dir.is_dir() {
        let detail = match dir.exists() {
            true => "is a file; name the folder of a search",
            false => "no such folder; name the folder of a search (its --out)",
        };
        return Err(Error::input(dir, detail));
    }
    let path = dir.join("config.toml");
    if !path.exists() {
        let detail =
            "has no config.toml, so it is no folder of `hafuse search`; name the --out of a search";
        return Err(Error::input(dir, detail));
    }
    SearchConfig::load(Some(&path), &[]).map_err(|e| match e {
        Error::Config { what, detail } => Error::input(
            &path,
            format!("is no configuration of `hafuse search` ({what}: {detail}); name the --out of a search"),
        ),
        e => e,
    })
}

/// The inner epochs on record, and the number of a last line that was cut short.
fn load_metrics(path: &Path) -> Result<(Vec<EpochReport>, Option<usize>)> {
    let text = if_there(path)?.unwrap_or_default();
    let mut epochs = Vec::new();
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
        .peekable();
    while let Some((i, line)) = lines.next() {
        let fail = |detail: String| {
            let detail = format!(
                "line {}: {detail}; it is no record of `hafuse search`",
                i + 1
            );
            Error::input(path, detail)
        };
        match serde_json::from_str::<EpochReport>(line) {
            Ok(epoch) => {
                check_layers(&epoch.layers).map_err(fail)?;
                epochs.push(epoch);
            }
            // A whole line of something else is not a cut one.
            Err(e) if lines.peek().is_none() && e.is_eof() => return Ok((epochs, Some(i + 1))),
            Err(e) => return Err(fail(e.to_string())),
        }
    }
    Ok((epochs, None))
}

fn parse_record(path: &Path, text: &str) -> Result<Record> {
    let fail =
        |detail: String| Error::input(path, format!("is no record of `hafuse search` ({detail})"));
    let record: Record = serde_json::from_str(text).map_err(|e| fail(e.to_string()))?;
    check_layers(&record.layers).map_err(fail)?;
    // serde has checked its form only.
    Genotype::from_json(&record.genotype.to_json()?).map_err(|e| fail(e.to_string()))?;
    Ok(record)
}

/// Whether all layers have the candidates of this version.
fn check_layers(layers: &[LayerWeights]) -> Result<(), String> {
    use crate::net::{CellKind, OpKind};
    let (cells, ops) = (CellKind::ALL.len(), OpKind::ALL.len());
    let fits = |l: &LayerWeights| {
        l.beta.len() == cells
            && l.alpha.len() == cells
            && l.alpha
                .iter()
                .all(|a| !a.is_empty() && a.iter().all(|w| w.len() == ops))
    };
    match layers.iter().find(|l| !fits(l)) {
        Some(l) => Err(format!(
            "{} has not {cells} cells of blocks of {ops} operators",
            l.layer
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::timeline::tests::epochs;
    use super::*;

    /// A folder of a search that has done `n` inner epochs in each stage.
    pub fn folder(n: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let config =
            SearchConfig::load(None, &["data.a=no<where".into(), "data.b=no".into()]).unwrap();
        std::fs::write(dir.path().join("config.toml"), config.to_toml().unwrap()).unwrap();
        let line = |e: &EpochReport| serde_json::to_string(e).unwrap() + "\n";
        let lines: String = epochs(n).iter().map(line).collect();
        std::fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
        dir
    }

    #[test]
    fn a_run_that_goes_on_is_read_up_to_its_last_whole_line() {
        let dir = folder(4);
        let run = SearchRun::load(dir.path()).unwrap();
        assert_eq!((run.epochs.len(), run.layers().len()), (8, 4));
        assert!(run.genotype().is_none());
        let candidate = run.candidate().unwrap();
        assert_eq!((candidate.ffm.len(), candidate.channels), (2, 32));
        assert!(
            run.unfinished()
                .unwrap()
                .contains("stage 2 of 2, inner epoch 4 of 4")
        );
        assert_eq!(run.notes.len(), 1, "{:?}", run.notes);

        let path = dir.path().join("metrics.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        std::fs::write(&path, format!("{}\n{}", lines[0], &lines[1][..200])).unwrap();
        let run = SearchRun::load(dir.path()).unwrap();
        assert_eq!((run.epochs.len(), run.candidate()), (1, None));
        assert!(run.notes[0].contains("line 2"), "{:?}", run.notes);

        std::fs::remove_file(&path).unwrap();
        let run = SearchRun::load(dir.path()).unwrap();
        assert!(run.epochs.is_empty() && run.unfinished().unwrap().contains("no inner epoch"));
    }

    #[test]
    fn damage_in_the_middle_and_foreign_folders_are_refused() {
        let dir = folder(2);
        let path = dir.path().join("metrics.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        let refused = |text: &str, part: &str| {
            std::fs::write(&path, text).unwrap();
            let e = SearchRun::load(dir.path()).unwrap_err();
            assert!(
                matches!(e, Error::Input { .. }) && e.to_string().contains(part),
                "{e}"
            );
        };
        refused(&format!("{{\"stage\":1\n{text}"), "line 1");
        refused("{\"stage\":1,\"step\":2}\n", "line 1");
        refused(
            &text.replacen("\"beta\":[0.2,", "\"beta\":[", 1),
            "ffm.cell0",
        );
        std::fs::write(dir.path().join("search.json"), "{}").unwrap();
        refused(&text, "search.json");
    }
}
