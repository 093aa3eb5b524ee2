//! `hafuse compare`: methods side by side, as pictures and as a page.

use super::eval::parse_metrics;
use super::methods::{MethodArgs, Methods, report_problems};
use super::terminal;
use crate::data::{Pair, Picture, WriteOptions, read_pair};
use crate::output;
use crate::report::compare::{Shots, page, shows};
use crate::report::scores::Scores;
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
  hafuse compare ir/ vi/ --method other=fused/ --model ivif --tone 0.5,99.5    all with the same stretch

What --out DIR holds:
  compare.html     sortable tables of all pairs, box plots, and the pictures with a magnifier; one file that needs no other
  NAME-sheet.png   a contact sheet of each scene shown: sources, methods, and two places enlarged

Sheets of an earlier page in DIR are removed.
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
    /// Names of metrics with commas between; `paper` is sd_u8sat, vif_u8sat, cc, scd, and `all` is all
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

/// What a sheet's name ends with: a scene's name alone is that of its fused picture.
const SHEET: &str = "-sheet.png";

/// Writes the page and the sheets.
///
/// # Errors
/// Before anything is judged: names, folders, models, crops. A picture that is missing or cannot be judged is named and
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
    check_crops(&args.crop, &shown)?;
    let scores = methods.judge(&metrics, None)?;
    let names: Vec<&str> = scores.rows.iter().map(|r| r.name.as_str()).collect();
    let labels = labels(&args.a, &args.b);
    let sources = labels.each_ref().map(String::as_str);
    std::fs::create_dir_all(&args.out).map_err(|e| Error::output(&args.out, e))?;
    let path = args.out.join("compare.html");
    // Without one, or if it is no text, no sheet is that of an earlier page.
    let earlier = std::fs::read_to_string(&path).unwrap_or_default();
    let (mut sheets, mut scenes) = (Vec::new(), Vec::new());
    let bar = terminal::bar(shown.len() as u64, "{bar:30} {pos}/{len} scenes drawn");
    for pair in &shown {
        // One scene at a time is in memory.
        if let Some(scene) = draw(&mut methods, pair, &args.crop, &scores)? {
            let path = args.out.join(format!("{}{SHEET}", scene.name));
            sheet(&scene, sources, &names)?.write(&path, WriteOptions::default())?;
            sheets.push(path);
            scenes.push(Shots::of(&scene, sources, &names)?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    write_atomic(&path, page(&scores, scenes, sources).as_bytes())?;
    remove_sheets(&args.out, &earlier, &sheets)?;
    terminal::print(&path.display().to_string())?;
    report_problems(&scores)
}

/// What both sources are called: their folders' names, with the folders above where these are equal.
fn labels(a: &Path, b: &Path) -> [String; 2] {
    for parts in [1, 2] {
        let names = [a, b].map(|dir| {
            let all: Vec<_> = dir.components().collect();
            let last: PathBuf = all[all.len().saturating_sub(parts)..].iter().collect();
            last.display().to_string()
        });
        if names[0] != names[1] {
            return names;
        }
    }
    ["A".into(), "B".into()]
}

/// Whether every crop lies within every scene. What cannot be read is passed over here: it is said when it is judged.
fn check_crops(crops: &[Crop], shown: &[Pair]) -> Result<()> {
    if crops.is_empty() {
        return Ok(());
    }
    for pair in shown {
        if let Ok(size) = Picture::size(&pair.a) {
            crops.iter().try_for_each(|c| c.check(&pair.stem, size))?;
        }
    }
    Ok(())
}

/// Removes the sheets of an earlier page that were not written again: their methods may be others.
fn remove_sheets(dir: &Path, earlier: &str, written: &[PathBuf]) -> Result<()> {
    let fail = |e| Error::output(dir, e);
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let scene = name.strip_suffix(SHEET);
        if scene.is_some_and(|s| shows(earlier, s)) && !written.contains(&path) {
            std::fs::remove_file(&path).map_err(|e| Error::output(&path, e))?;
        }
    }
    Ok(())
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

/// The pictures of a pair by every method that was judged on it; `None` if the sources cannot be read.
fn draw(
    methods: &mut Methods,
    pair: &Pair,
    crops: &[Crop],
    scores: &Scores,
) -> Result<Option<Scene>> {
    let (a, b) = match read_pair(&pair.a, &pair.b) {
        Ok(sources) => sources,
        Err(e) => {
            terminal::say(&format!("warning: {} is not shown: {e}", pair.stem));
            return Ok(None);
        }
    };
    let mut fused = Vec::with_capacity(methods.methods.len());
    for (method, row) in methods.methods.iter_mut().zip(&scores.rows) {
        // Why a picture could not be judged was said.
        let judged = row.scores.iter().any(|(name, _)| *name == pair.stem);
        let picture = match judged {
            true => method.picture(pair, &a, &b),
            false => Ok(None),
        };
        fused.push(match picture {
            // Its file has changed since.
            Err(e) if super::exit_code(&e) == 3 => {
                terminal::say(&format!("warning: {}, {}: {e}", row.name, pair.stem));
                None
            }
            picture => picture?,
        });
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
    Ok(Some(scene))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_names_that_differ() {
        for (a, b, names) in [
            ("data/ir/", "data/vi", ["ir", "vi"]),
            (
                "infrared/test",
                "x/visible/test",
                ["infrared/test", "visible/test"],
            ),
            ("a/x/test", "b/x/test", ["A", "B"]),
            ("test", "y/test", ["test", "y/test"]),
        ] {
            assert_eq!(labels(Path::new(a), Path::new(b)), names);
        }
    }
}
