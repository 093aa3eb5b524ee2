//! `hafuse eval`: fused pictures judged by the field's metrics.

use super::methods::{MethodArgs, Sets, report_problems};
use super::terminal;
use crate::metrics::Metric;
use crate::output;
use crate::report::scores::Scores;
use crate::tensor::io::write_atomic;
use crate::{Error, Result};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  hafuse eval ir/ vi/ --method mine=fused/                   somebody's fused pictures
  hafuse eval ir/ vi/ --model ivif --method gff              a model and a rule, fused on the fly
  hafuse eval ir/ vi/ --method a=fused_a/ --method b=fused_b/ --model ivif --out report
  hafuse eval ir/ vi/ --model old=runs/1/model.safetensors --model new=runs/2/model.safetensors
  hafuse eval ir/ vi/ --method a=fused/ --metrics paper      the four of the paper's Table 1
  hafuse eval ir/ vi/ --method a=fused/ --model ivif --tone auto    both toned alike before they are judged
  hafuse eval ir/ vi/ --model ivif --gates                   is a model fit to be used?
  hafuse eval ir/ vi/ --model ivif --gates --sets            the same for each data set: TNO_01, TNO_02, MSRS_01
  hafuse eval --list                                         all metrics and whose convention each follows

Pictures are matched by name, as in `hafuse fuse`. All are judged as 8-bit grey (BT.601). Without --metrics:
en, sd, sf, ag, mi, cc, scd, vif, qabf, ssim. In the table **best** and <u>second</u> of each column are marked, equal
figures alike. A mean over fewer pictures than others says so (n = 5) and is not marked.
--tone changes pictures in memory only; those of a folder are toned as they are read, so 8 bits stay 8.

--gates holds every method against the limits that good published networks keep: places lost in black or white
(also of the worst picture), plane R2 and tone detail (is it a constant sum, or a tone curve?), SSIM beside the rule
`maximum`, VIF, EN and mean level beside `average`, and, of what is fused here, the border error: how much the two
outermost pixels change when the sources go on by 32 pixels of reflection.

What --out DIR holds: eval.md, eval.tex, eval.json (everything), eval.csv (a line for each method and picture), and
with --gates gates.csv (a line for each set, method and gate).
Exit codes: 0 done, 1 some pictures had no counterpart or could not be judged, or a gate is not passed, 2 usage, 3 input, 4 output, 5 device.";

/// Judge fused pictures: a folder of them, a model, or several methods side by side
///
/// Each method is a folder of fused pictures (--method NAME=DIR), a rule (--method gff) or a model (--model). The table has the mean and the
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
    #[command(flatten)]
    pub methods: MethodArgs,
    /// Names of metrics with commas between; `paper` is sd_u8sat, vif_u8sat, cc, scd, and `all` is all
    #[arg(long, value_name = "LIST")]
    pub metrics: Option<String>,
    /// Judge by the gates as well; exit code 1 if a method does not pass one
    #[arg(long)]
    pub gates: bool,
    /// Judge the gates for each set of pictures whose names are equal up to the first `_`
    #[arg(long, requires = "gates")]
    pub sets: bool,
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

/// Judges and prints.
///
/// # Errors
/// Before anything is judged: names, folders, models. A picture that cannot be judged is named and passed over;
/// then, and if a gate is not passed, [`Error::Partial`] at the end.
pub fn run(args: &EvalArgs) -> Result<()> {
    if args.list {
        return terminal::print(&list());
    }
    let metrics = parse_metrics(args.metrics.as_deref())?;
    let (Some(dir_a), Some(dir_b)) = (&args.a, &args.b) else {
        return Err(Error::config("A and B", "name the two folders of sources"));
    };
    let mut methods = args.methods.open(dir_a, dir_b)?;
    if let Some(out) = &args.out {
        output::check_folder(out, &methods.inputs())?;
    }
    let gates = args.gates.then_some(match args.sets {
        true => Sets::ByPrefix,
        false => Sets::One,
    });
    let report = methods.judge(&metrics, gates)?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| Error::output(out, e))?;
        let mut files = vec![
            ("eval.md", report.markdown(true)),
            ("eval.csv", report.csv()),
            ("eval.tex", report.latex()),
            ("eval.json", report.json()?),
        ];
        if args.gates {
            files.push(("gates.csv", report.gates_csv()));
        }
        for (name, text) in files {
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
    match (report_problems(&report), report_gates(&report)) {
        (Err(problems), Err(gates)) => {
            terminal::say(&format!("error: {gates}"));
            Err(problems)
        }
        (problems, gates) => problems.and(gates),
    }
}

/// [`Error::Partial`] if a method does not pass a gate.
fn report_gates(scores: &Scores) -> Result<()> {
    match scores.count_gates() {
        (0, _) => Ok(()),
        (failed, total) => Err(Error::Partial {
            failed,
            total,
            what: "gates",
        }),
    }
}

/// The metrics of a list, each once.
pub fn parse_metrics(list: Option<&str>) -> Result<Vec<Metric>> {
    let Some(list) = list else {
        return Ok(DEFAULT.to_vec());
    };
    let mut metrics: Vec<Metric> = Vec::new();
    for name in list.split(',').map(str::trim) {
        let named = match name.to_ascii_lowercase().as_str() {
            "paper" => Metric::PAPER.to_vec(),
            "all" => Metric::ALL.to_vec(),
            _ => vec![name.parse()?],
        };
        for metric in named {
            if !metrics.contains(&metric) {
                metrics.push(metric);
            }
        }
    }
    Ok(metrics)
}

/// All metrics, for `--list`.
fn list() -> String {
    let row = |m: &Metric| format!("{:<12} {:<12} {}", m.name(), m.label(), m.convention());
    let rows: Vec<String> = Metric::ALL.iter().map(row).collect();
    format!(
        "{:<12} {:<12} convention\n{}",
        "name",
        "column",
        rows.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_metrics_are_expanded_and_each_is_taken_once() {
        let parse = |list: &str| parse_metrics(Some(list)).unwrap();
        assert_eq!(parse("en, EN,en"), [Metric::En]);
        let paper = [
            Metric::SdU8sat,
            Metric::VifU8sat,
            Metric::Cc,
            Metric::Scd,
            Metric::Ssim,
        ];
        assert_eq!(parse("PAPER,ssim,cc"), paper);
        assert_eq!(parse("All,en").len(), Metric::ALL.len());
        assert!(parse_metrics(Some("en,")).is_err());
    }
}
