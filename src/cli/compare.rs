//! `hafuse compare`: methods side by side, as pictures and as a page.

use super::eval::parse_metrics;
use super::methods::{MethodArgs, Methods, report_problems};
use super::{output, terminal};
use crate::data::{Pair, WriteOptions, read_pair};
use crate::report::compare::page;
use crate::report::sheet::{Crop, MAX_CROPS, Scene, default_crops, sheet};
use crate::tensor::io::write_atomic;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  hafuse compare ir/ vi/ --method other=fused/ --model ivif --out page     somebody's pictures beside ours
  hafuse compare ir/ vi/ --method gff --method laplacian --model ivif      rules beside a network
  hafuse compare ir/ vi/ --model ivif --picture 07 --picture 12            these two scenes
  hafuse compare ir/ vi/ --model ivif --picture 07 --crop 120,80,60,45     and what to enlarge

What --out DIR holds:
  compare.html   sortable tables of all pairs, box plots, and the pictures with a magnifier; one file that needs no other
  NAME.png       a contact sheet of each scene shown: sources, methods, and two places enlarged

Without --crop the two places where the methods differ most are enlarged.
Exit codes: 0 done, 1 some pictures had no counterpart or could not be judged, 2 usage, 3 input, 4 output, 5 device.";

/// Set methods side by side: contact sheets, and a page with tables, box plots and a magnifier
///
/// A method is a folder of fused pictures (--method NAME=DIR), a rule (--method gff) or a model (--model), as in
/// `hafuse eval`, which judges them the same way.
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct CompareArgs {
    /// Folder of infrared or MRI pictures
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Folder of visible or PET pictures
    #[arg(value_name = "B")]
    pub b: PathBuf,
    #[command(flatten)]
    pub methods: MethodArgs,
    /// Names of metrics with commas between, `paper` (sd_u8sat, vif_u8sat, cc, scd) or `all`
    #[arg(long, value_name = "LIST")]
    pub metrics: Option<String>,
    /// A scene to show, by its name; may be repeated [default: the first --scenes]
    #[arg(long, value_name = "NAME", conflicts_with = "scenes")]
    pub picture: Vec<String>,
    /// How many scenes to show; tables and plots have all of them
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub scenes: usize,
    /// A place to enlarge in every scene shown, in pixels; up to four
    #[arg(long, value_name = "X,Y,WIDTH,HEIGHT", value_parser = parse_crop)]
    pub crop: Vec<Crop>,
    /// Folder to write into
    #[arg(short, long, value_name = "DIR", default_value = "compare")]
    pub out: PathBuf,
}

/// Writes the page and the sheets.
///
/// # Errors
/// Before anything is judged: names, folders, models. A picture that is missing or cannot be judged is named and
/// passed over; then [`Error::Partial`] at the end.
pub fn run(args: &CompareArgs) -> Result<()> {
    if args.crop.len() > MAX_CROPS {
        return Err(Error::config(
            "--crop",
            format!(
                "{} places to enlarge; give at most {MAX_CROPS}",
                args.crop.len()
            ),
        ));
    }
    let metrics = parse_metrics(args.metrics.as_deref())?;
    let mut methods = args.methods.open(&args.a, &args.b)?;
    output::check_folder(&args.out, &methods.inputs())?;
    let shown = choose(args, &methods.sources)?;
    let mut scores = methods.judge(&metrics)?;
    let names: Vec<String> = methods.methods.iter().map(|m| m.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = |dir: &Path| match dir.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => dir.display().to_string(),
    };
    let (label_a, label_b) = (folder(&args.a), folder(&args.b));
    let sources = [label_a.as_str(), label_b.as_str()];
    std::fs::create_dir_all(&args.out).map_err(|e| Error::output(&args.out, e))?;
    let mut scenes = Vec::with_capacity(shown.len());
    let bar = terminal::bar(shown.len() as u64, "{bar:30} {pos}/{len} scenes drawn");
    for pair in &shown {
        match draw(&mut methods, pair, &args.crop) {
            Ok(scene) => {
                let path = args.out.join(format!("{}.png", scene.name));
                sheet(&scene, sources, &names)?.write(&path, WriteOptions::default())?;
                scenes.push(scene);
            }
            Err(e) if matches!(e.exit_code(), 2 | 4 | 5 | 70) => return Err(e),
            Err(e) => {
                let problem = format!("{}: {e}", pair.stem);
                terminal::say(&format!("warning: {problem}"));
                scores.problems.push(problem);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let path = args.out.join("compare.html");
    write_atomic(&path, page(&scores, &scenes, sources)?.as_bytes())?;
    terminal::print(&path.display().to_string())?;
    report_problems(&scores)
}

/// The scenes to show.
fn choose(args: &CompareArgs, sources: &[Pair]) -> Result<Vec<Pair>> {
    if args.picture.is_empty() {
        return Ok(sources.iter().take(args.scenes).cloned().collect());
    }
    let find = |name: &String| {
        let found = sources.iter().find(|s| s.stem == *name);
        found.cloned().ok_or_else(|| {
            let known: Vec<String> = sources.iter().map(|s| s.stem.clone()).collect();
            Error::config(
                "--picture",
                format!(
                    "no pair is called `{name}`; there are {}",
                    terminal::few(&known)
                ),
            )
        })
    };
    args.picture.iter().map(find).collect()
}

/// The pictures of a pair by every method.
fn draw(methods: &mut Methods, pair: &Pair, crops: &[Crop]) -> Result<Scene> {
    let (a, b) = read_pair(&pair.a, &pair.b)?;
    let mut fused = Vec::with_capacity(methods.methods.len());
    for method in &mut methods.methods {
        fused.push(method.picture(pair, &a, &b)?);
    }
    let mut scene = Scene {
        name: pair.stem.clone(),
        a,
        b,
        fused,
        crops: crops.to_vec(),
    };
    if crops.is_empty() {
        scene.crops = default_crops(&scene);
    }
    Ok(scene)
}

fn parse_crop(text: &str) -> Result<Crop, String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[x, y, width, height]) if width > 0 && height > 0 => Ok(Crop {
            x,
            y,
            width,
            height,
        }),
        _ => Err("give X,Y,WIDTH,HEIGHT in pixels, as in 120,80,60,45".into()),
    }
}
