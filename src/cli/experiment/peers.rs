//! Other networks' figures, of a file.

use super::runs::METRICS;
use super::table::{Row, Run, Size};
use crate::{Error, Result};
use serde_json::json;
use std::path::Path;

/// Rows of the networks of a file: a line for each, under a line of column names: `name`, `parameters`, `multiply_adds_g`,
/// `pytorch_ms`, and `tno_METRIC` for each metric that is known. What is empty is not known.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, a line of another length, or a value that is no number.
pub fn rows(path: &Path) -> Result<Vec<Row>> {
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::input(path, e))?;
    let mut lines = text.lines().filter(|l| !l.trim().is_empty());
    let head = lines.next().unwrap_or_default().split(',').map(str::trim);
    let head: Vec<&str> = head.collect();
    let metrics = METRICS.map(|m| format!("tno_{}", m.name()));
    let known = |h: &&str| {
        ["name", "parameters", "multiply_adds_g", "pytorch_ms"].contains(h)
            || metrics.iter().any(|m| m == h)
    };
    if let Some(unknown) = head.iter().find(|h| !known(h)) {
        let detail = format!("has an unknown column `{unknown}`; tno_METRIC is one of {metrics:?}");
        return Err(Error::input(path, detail));
    }
    let mut rows = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        if cells.len() != head.len() {
            let detail = format!(
                "`{line}` has {} cells, the first line {}",
                cells.len(),
                head.len()
            );
            return Err(Error::input(path, detail));
        }
        let cell = |name: &str| {
            head.iter()
                .position(|h| *h == name)
                .map_or("", |i| cells[i])
        };
        let value = |name: &str| -> Result<Option<f64>> {
            match cell(name) {
                "" => Ok(None),
                text => {
                    let number = text.parse::<f64>().ok().filter(|v| v.is_finite());
                    let number = number.filter(|&v| v > 0.0 || name.starts_with("tno_"));
                    number.map(Some).ok_or_else(|| {
                        Error::input(path, format!("{name} of {} is `{text}`", cells[0]))
                    })
                }
            }
        };
        let mut run = Run::default();
        if let (Some(params), Some(work)) = (value("parameters")?, value("multiply_adds_g")?) {
            let multiply_adds = (work * 1e9) as u64;
            run.size = Some(Size {
                params: params as usize,
                multiply_adds,
                flops: 2 * multiply_adds,
            });
        }
        for metric in METRICS {
            if let Some(v) = value(&format!("tno_{}", metric.name()))? {
                run.given.insert(metric.name().into(), v);
            }
        }
        let extra = value("pytorch_ms")?.map(|ms| (PYTORCH, json!(ms)));
        rows.push(Row {
            name: cell("name").into(),
            runs: vec![run],
            extra: extra.into_iter().collect(),
        });
    }
    Ok(rows)
}

/// The column of their times.
pub const PYTORCH: &str = "PyTorch, elsewhere (ms)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_rows_and_a_bad_cell_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            rows(&path)
        };
        let head = "name,parameters,multiply_adds_g,pytorch_ms,tno_cc\n";
        let found = read(&format!("{head}One,100,0.5,12.5,0.55\nTwo,200,1,,\n")).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].runs[0].size.unwrap().multiply_adds, 500_000_000);
        assert_eq!(found[0].runs[0].given["cc"], 0.55);
        assert_eq!(found[0].extra[0].1, json!(12.5));
        assert!(found[1].extra.is_empty() && found[1].runs[0].given.is_empty());
        for (line, what) in [
            ("One,100,0.5,fast,0.5\n", "pytorch_ms of One is `fast`"),
            ("One,100\n", "has 2 cells"),
            ("One,100,0.5,0,0.5\n", "pytorch_ms of One is `0`"),
            ("One,100,0.5,1,NaN\n", "tno_cc of One is `NaN`"),
        ] {
            let e = read(&format!("{head}{line}")).unwrap_err();
            assert!(
                matches!(e, Error::Input { .. }) && e.to_string().contains(what),
                "{e}"
            );
        }
        let e = read("name,tno_c\nOne,1\n").unwrap_err().to_string();
        assert!(e.contains("unknown column `tno_c`"), "{e}");
        assert!(rows(Path::new("")).unwrap().is_empty());
        assert!(matches!(
            rows(Path::new("no.csv")),
            Err(Error::Input { .. })
        ));
    }
}
