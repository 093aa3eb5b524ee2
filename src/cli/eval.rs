//! `hafuse eval`: fused pictures judged by the field's metrics.

use super::device::{DeviceArg, PrecisionArg};
use super::{open_model, output, terminal};
use crate::data::{Pair, Picture, list_pairs, read_pair};
use crate::infer::Engine;
use crate::metrics::{Grey, Metric, Score, measure};
use crate::report::scores::{Row, Scores};
use crate::tape::SessionOptions;
use crate::tensor::io::write_atomic;
use crate::{Error, Result};
use indicatif::ProgressBar;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  hafuse eval ir/ vi/ --method mine=fused/                   somebody's fused pictures
  hafuse eval ir/ vi/ --model ivif                           a model, fused on the fly
  hafuse eval ir/ vi/ --method a=fused_a/ --method b=fused_b/ --model ivif --out report
  hafuse eval ir/ vi/ --method a=fused/ --metrics paper      the four of the paper's Table 1
  hafuse eval --list                                         all metrics and whose convention each follows

Pictures are matched by name, as in `hafuse fuse`. All are judged as 8-bit grey (BT.601). Without --metrics:
en, sd, sf, ag, mi, cc, scd, vif, qabf, ssim. In the table **best** and <u>second</u> of each column are marked.

What --out DIR holds: eval.md, eval.tex, eval.json (everything), eval.csv (a line for each method and picture).
Exit codes: 0 done, 1 some pictures had no counterpart or could not be judged, 2 usage, 3 input, 4 output, 5 device.";

/// Judge fused pictures: a folder of them, a model, or several methods side by side
///
/// Each method is a folder of fused pictures (--method NAME=DIR) or a model (--model). The table has the mean and the
/// standard deviation over the pictures; files for scripts and papers come with --out.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct EvalArgs {
    /// Folder of infrared or MRI pictures
    #[arg(value_name = "A", required_unless_present = "list")]
    pub a: Option<PathBuf>,
    /// Folder of visible or PET pictures
    #[arg(value_name = "B", required_unless_present = "list")]
    pub b: Option<PathBuf>,
    /// A method by the folder of its fused pictures; may be repeated
    #[arg(long, value_name = "NAME=DIR")]
    pub method: Vec<String>,
    /// A built-in model by name or a model file, fused on the fly; may be repeated
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Vec<String>,
    /// Names of metrics with commas between, `paper` (sd_u8sat, vif_u8sat, cc, scd) or `all`
    #[arg(long, value_name = "LIST")]
    pub metrics: Option<String>,
    /// Also print every picture
    #[arg(long)]
    pub per_image: bool,
    /// Folder for eval.md, eval.csv, eval.json and eval.tex
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
    /// List all metrics and exit
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

const DEFAULT: [Metric; 10] = [
    Metric::En,
    Metric::Sd,
    Metric::Sf,
    Metric::Ag,
    Metric::Mi,
    Metric::Cc,
    Metric::Scd,
    Metric::Vif,
    Metric::Qabf,
    Metric::Ssim,
];

/// Where fused pictures come from.
enum Fused {
    /// By the path of source A.
    Folder(BTreeMap<PathBuf, PathBuf>),
    Model(Box<Engine>),
}

struct Method {
    name: String,
    /// For the record: folder, or model and its hash.
    origin: String,
    fused: Fused,
}

/// Judges and prints.
///
/// # Errors
/// Before anything is judged: names, folders, models. A picture that cannot be judged is named and passed over;
/// then [`Error::Partial`] at the end.
pub fn run(args: &EvalArgs) -> Result<()> {
    if args.list {
        return terminal::print(&list());
    }
    let metrics = parse_metrics(args.metrics.as_deref())?;
    let (Some(dir_a), Some(dir_b)) = (&args.a, &args.b) else {
        return Err(Error::config("A and B", "name the two folders of sources"));
    };
    if args.method.is_empty() && args.model.is_empty() {
        return Err(Error::config(
            "--method",
            "nothing to judge; give --method NAME=DIR for a folder of fused pictures, or --model ivif",
        ));
    }
    let list = list_pairs(dir_a, dir_b)?;
    let mut problems: Vec<String> = Vec::new();
    for path in list.only_a.iter().chain(&list.only_b) {
        problems.push(format!(
            "{} has no partner among the sources",
            path.display()
        ));
    }
    let sources = list.pairs;
    let named = args.method.iter().map(|m| split(m));
    let named = named.collect::<Result<Vec<_>>>()?;
    let mut methods = open_methods(args, &named, dir_a, &sources, &mut problems)?;
    if let Some(out) = &args.out {
        let mut inputs: Vec<&Path> = vec![dir_a, dir_b];
        inputs.extend(named.iter().map(|(_, dir)| dir.as_path()));
        output::check_folder(out, &inputs)?;
    }

    let count = (methods.len() * sources.len()) as u64;
    let bar = terminal::bar(count, "{bar:30} {pos}/{len} pictures judged, {eta} left");
    let mut rows = Vec::new();
    for method in &mut methods {
        rows.push(judge(method, &sources, &metrics, &bar, &mut problems)?);
    }
    bar.finish_and_clear();
    for problem in &problems {
        terminal::say(&format!("warning: {problem}"));
    }
    let report = Scores {
        metrics,
        pictures: sources.len(),
        folders: [dir_a.clone(), dir_b.clone()],
        rows,
        problems: problems.clone(),
    };
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| Error::output(out, e))?;
        for (name, text) in [
            ("eval.md", report.markdown(true)),
            ("eval.csv", report.csv()),
            ("eval.tex", report.latex()),
            ("eval.json", report.json()?),
        ] {
            write_atomic(&out.join(name), text.as_bytes())?;
        }
    }
    terminal::print(&match args.json {
        true => report.json()?,
        false => report.markdown(args.per_image),
    })?;
    if let Some(out) = &args.out {
        terminal::say(&format!("written: {}", out.join("eval.md").display()));
    }
    match problems.len() {
        0 => Ok(()),
        failed => Err(Error::Partial {
            failed,
            total: sources.len() * methods.len(),
            what: "pictures",
        }),
    }
}

fn parse_metrics(list: Option<&str>) -> Result<Vec<Metric>> {
    match list {
        None => Ok(DEFAULT.to_vec()),
        Some("paper") => Ok(Metric::PAPER.to_vec()),
        Some("all") => Ok(Metric::ALL.to_vec()),
        Some(names) => names.split(',').map(|n| n.trim().parse()).collect(),
    }
}

/// `NAME=DIR`.
fn split(method: &str) -> Result<(String, PathBuf)> {
    match method.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => {
            Ok((name.to_string(), PathBuf::from(dir)))
        }
        _ => Err(Error::config(
            "--method",
            format!("`{method}` is not NAME=DIR, as in --method mine=fused/"),
        )),
    }
}

fn open_methods(
    args: &EvalArgs,
    named: &[(String, PathBuf)],
    dir_a: &Path,
    sources: &[Pair],
    problems: &mut Vec<String>,
) -> Result<Vec<Method>> {
    let mut methods = Vec::new();
    for (name, dir) in named {
        let found = list_pairs(dir_a, dir)?;
        let by_a: BTreeMap<PathBuf, PathBuf> =
            found.pairs.into_iter().map(|p| (p.a, p.b)).collect();
        for s in sources.iter().filter(|s| !by_a.contains_key(&s.a)) {
            problems.push(format!(
                "{name} has no picture of {} in {}",
                s.stem,
                dir.display()
            ));
        }
        methods.push(Method {
            name: name.clone(),
            origin: dir.display().to_string(),
            fused: Fused::Folder(by_a),
        });
    }
    if !args.model.is_empty() {
        let device = args.device.open()?;
        for name in &args.model {
            let model = open_model(name)?;
            let precision = args.precision.on(&device);
            let engine = Engine::on(&device, precision, &model, SessionOptions::default())?;
            methods.push(Method {
                name: model.name.clone(),
                origin: format!(
                    "model {name}, hash {:016x}, {device}, {}",
                    model.hash()?,
                    precision.dtype()
                ),
                fused: Fused::Model(Box::new(engine)),
            });
        }
    }
    let mut names: Vec<&str> = methods.iter().map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::config(
            "--method",
            format!(
                "two methods are called `{}`; give each a name of its own",
                twice[0]
            ),
        ));
    }
    Ok(methods)
}

/// All pictures of a method. A model fuses them one by one, folders are read and all are measured in parallel.
fn judge(
    method: &mut Method,
    sources: &[Pair],
    metrics: &[Metric],
    bar: &ProgressBar,
    problems: &mut Vec<String>,
) -> Result<Row> {
    let mut pictures = Vec::new();
    // So few at a time that pictures of a large folder are not all in memory.
    for group in sources.chunks(4 * rayon::current_num_threads()) {
        let judged: Vec<Result<Option<Vec<Score>>>> = match &mut method.fused {
            Fused::Folder(by_a) => group
                .par_iter()
                .map(|s| {
                    let result = match by_a.get(&s.a) {
                        None => Ok(None),
                        Some(path) => read_and_measure(s, path, metrics).map(Some),
                    };
                    bar.inc(1);
                    result
                })
                .collect(),
            Fused::Model(engine) => {
                let fused: Vec<Result<[Grey; 3]>> =
                    group.iter().map(|s| fuse_grey(engine, s)).collect();
                fused
                    .into_par_iter()
                    .map(|greys| {
                        bar.inc(1);
                        let [a, b, f] = greys?;
                        measure(&a, &b, &f, metrics).map(Some)
                    })
                    .collect()
            }
        };
        for (s, result) in group.iter().zip(judged) {
            match result {
                Ok(Some(scores)) => pictures.push((s.stem.clone(), scores)),
                Ok(None) => {}
                Err(e) if e.exit_code() == 5 => return Err(e),
                Err(e) => problems.push(format!("{}, {}: {e}", method.name, s.stem)),
            }
        }
    }
    Ok(Row {
        name: method.name.clone(),
        origin: method.origin.clone(),
        pictures,
    })
}

fn read(path: &Path) -> Result<Grey> {
    Grey::from_picture(&Picture::read(path)?)
}

fn read_and_measure(s: &Pair, fused: &Path, metrics: &[Metric]) -> Result<Vec<Score>> {
    measure(&read(&s.a)?, &read(&s.b)?, &read(fused)?, metrics)
}

/// Both sources and what a model makes of them, as the metrics take them.
pub(super) fn fuse_grey(engine: &mut Engine, pair: &Pair) -> Result<[Grey; 3]> {
    let (a, b) = read_pair(&pair.a, &pair.b)?;
    let fused = engine.fuse(a.height, a.width, &a.luma, &b.luma)?;
    Ok([
        Grey::from_picture(&a)?,
        Grey::from_picture(&b)?,
        Grey::from_luma(a.width, a.height, &fused)?,
    ])
}

/// All metrics, for `--list`.
fn list() -> String {
    let row = |m: &Metric| format!("{:<12} {:<12} {}", m.name(), m.label(), m.convention());
    let rows: Vec<String> = Metric::ALL.iter().map(row).collect();
    format!(
        "{:<12} {:<12} as printed by\n{}",
        "name",
        "column",
        rows.join("\n")
    )
}
