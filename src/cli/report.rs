//! `hafuse report`: what a search did, on one page.

use super::device::DeviceArg;
use super::terminal;
use crate::data::{Pair, list_all, list_pairs, read_pair};
use crate::infer::{Model, Precision};
use crate::report::pictures::Triple;
use crate::report::run::SearchRun;
use crate::report::search::{Fused, build};
use crate::tensor::io::write_atomic;
use crate::tone::Tone;
use crate::{Error, Fuser, Result, output};
use std::path::{Path, PathBuf};

/// All that a report may write into its folder of figures.
const FIGURES: [&str; 5] = [
    "network.svg",
    "heatmap-final.svg",
    "heatmap-time.svg",
    "curves.svg",
    "fused.png",
];

const AFTER_HELP: &str = "\
Examples:
  hafuse report runs/s                                     writes runs/s/report.html and runs/s/report/
  hafuse report runs/s --a data/test/ir --b data/test/vi   fuse other pictures than those of the search
  hafuse report runs/s --model runs/t/model.safetensors    by the trained network
  hafuse report runs/s --pairs 0 --out docs/search         no pictures, into another folder

What it writes:
  report.html               all of it, in one file that needs no other and no network
  report/network.svg        the network that was found, with the milliseconds of its parts
  report/heatmap-final.svg  alpha and beta at the end, the chosen ones framed in red
  report/heatmap-time.svg   alpha and beta after each inner epoch
  report/curves.svg         losses, LAT, entropies
  report/fused.png          A, B and fused side by side

Of these figures, one of an earlier report that this one lacks is removed.

A search that is going on or was stopped is shown as far as it came. Its own pictures and model are fused if they are
there, else the page says why not; pictures and models that were named must be there.
Exit codes: 0 done, 2 usage, 3 no folder of a search, or an input, 4 output, 5 device.";

/// Make a page of a search: heatmaps, curves, the network, fused pictures
///
/// DIR is the folder that `hafuse search` writes or wrote into (its --out).
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct ReportArgs {
    /// Folder of a search
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Infrared or MRI to fuse: a picture or a folder [default: key `data.a` of the search]
    #[arg(long, value_name = "FILE|DIR", requires = "b")]
    pub a: Option<PathBuf>,
    /// Visible light or PET to fuse: a picture or a folder [default: key `data.b` of the search]
    #[arg(long, value_name = "FILE|DIR", requires = "a")]
    pub b: Option<PathBuf>,
    /// How many pairs to fuse, the first ones; 0 for none
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub pairs: usize,
    /// A trained model to fuse with [default: model.safetensors in DIR, with the supernet's weights]
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// Folder to write into [default: DIR]
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// Writes the page and its figures.
///
/// # Errors
/// [`Error::Input`] if the folder is not that of a search; those of pictures and models that were named.
pub fn run(args: &ReportArgs) -> Result<()> {
    let run = SearchRun::load(&args.dir)?;
    let out = args.out.as_ref().unwrap_or(&args.dir);
    let (page, folder) = (out.join("report.html"), out.join("report"));
    let inputs: Vec<&Path> = [&args.a, &args.b]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    output::check_file(&page, &inputs)?;
    output::check_folder(&folder, &inputs)?;
    output::check_file(&folder.join("fused.png"), &inputs)?;
    for note in &run.notes {
        terminal::say(&format!("note: {note}"));
    }
    let named = args.a.is_some() || args.model.is_some();
    let fused = if args.pairs == 0 {
        Err("none were asked for (--pairs 0)".to_string())
    } else {
        match fuse(args, &run) {
            Err(e) if !named => {
                terminal::say(&format!("note: no fused pictures: {e}"));
                Err(e.to_string())
            }
            result => Ok(result?),
        }
    };
    let report = build(&run, fused.as_ref().map_err(String::as_str))?;
    std::fs::create_dir_all(&folder).map_err(|e| Error::output(&folder, e))?;
    for (name, bytes) in &report.files {
        write_atomic(&folder.join(name), bytes)?;
    }
    // Figures of an earlier call would pass for those of this page.
    let written = |name: &str| report.files.iter().any(|(n, _)| n == name);
    for name in FIGURES.into_iter().filter(|n| !written(n)) {
        let path = folder.join(name);
        if path.is_file() {
            std::fs::remove_file(&path).map_err(|e| Error::output(&path, e))?;
        }
    }
    write_atomic(&page, report.html.as_bytes())?;
    terminal::print(&page.display().to_string())
}

/// Fuses the first pairs.
fn fuse(args: &ReportArgs, run: &SearchRun) -> Result<Fused> {
    let mut pairs = find_pairs(args, run)?;
    pairs.truncate(args.pairs);
    let (model, says) = find_model(args, run)?;
    let device = args.device.open()?;
    let dtype = Precision::default_on(&device).dtype();
    let builder = Fuser::builder().loaded(model).device(device.clone());
    let mut fuser = builder.tone(Tone::None).build()?;
    let mut triples: Vec<Triple> = Vec::with_capacity(pairs.len());
    for pair in &pairs {
        let (a, b) = read_pair(&pair.a, &pair.b)?;
        triples.push(Triple {
            name: pair.stem.clone(),
            fused: fuser.fuse(&a, &b).map_err(|e| e.of_file(&pair.a))?,
            a,
            b,
        });
    }
    Ok(Fused {
        model: format!("{says} Fused on {device} in {dtype}."),
        triples,
    })
}

/// The pairs that were named, else those of the search.
fn find_pairs(args: &ReportArgs, run: &SearchRun) -> Result<Vec<Pair>> {
    let (Some(a), Some(b)) = (&args.a, &args.b) else {
        let data = &run.config.data;
        if let Some(missing) = data.a.iter().chain(data.b.iter()).find(|dir| !dir.is_dir()) {
            return Err(Error::input(
                missing,
                "the pictures of the search are not here; name some with --a and --b",
            ));
        }
        let list = list_all(&data.a, &data.b, &data.exclude)?;
        return Ok(list.pairs.into_iter().map(|(_, pair)| pair).collect());
    };
    match (a.is_dir(), b.is_dir()) {
        (true, true) => Ok(list_pairs(a, b)?.pairs),
        (false, false) => Ok(vec![Pair {
            stem: a
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            a: a.clone(),
            b: b.clone(),
        }]),
        _ => Err(Error::config(
            "--a and --b",
            format!(
                "of {} and {} one is a folder and one is not; give two files or two folders",
                a.display(),
                b.display()
            ),
        )),
    }
}

/// The model, and whose weights it has in a sentence.
fn find_model(args: &ReportArgs, run: &SearchRun) -> Result<(Model, String)> {
    if let Some(name) = &args.model {
        let model = Model::open(name)?;
        let mut says = format!(
            "Fused by the model {name}, {}: {}.",
            model.name,
            model.about.trim_end_matches('.')
        );
        if run.candidate().is_none_or(|g| g != model.genotype) {
            says += " Its network is not that of this search.";
        }
        return Ok((model, says));
    }
    let path = run.dir.join("model.safetensors");
    if !path.exists() {
        return Err(Error::input(
            &path,
            "it is written when a search ends; give --model FILE",
        ));
    }
    let says = "Fused by the network that was found with the supernet's weights, which were not trained for it alone \
                (model.safetensors of the search): a look, no measure of what it can do once trained.";
    Ok((Model::open(&path.to_string_lossy())?, says.into()))
}
