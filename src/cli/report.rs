//! `hafuse report`: a page and drawings of a search.

use super::device::DeviceArg;
use super::{open_model, terminal};
use crate::data::{Picture, list_pairs};
use crate::infer::{Engine, Precision};
use crate::report::{Run, Shown, curves_svg, heatmap, network_svg, page};
use crate::tape::SessionOptions;
use crate::tensor::io::write_atomic;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  hafuse report runs/s                                    look at runs/s/report.html in a browser
  hafuse report runs/s --model runs/t/model.safetensors   pictures by the trained network
  hafuse report runs/s --a test/ir --b test/vi --pairs 6  of other pictures

What it writes into the folder of the search:
  report.html                 everything on one page that needs no network and no other file
  report/heatmap-final.svg    alpha and beta at the end, the chosen framed (Fig. 3 of the paper)
  report/heatmap-time.svg     alpha and beta over the inner epochs
  report/curves.svg           losses, LAT, entropies
  report/network.svg          the network that was found
  report/fused-NAME.png       fused pictures

It also works while the search goes on, or after it was stopped.
Exit codes: 0 done, 2 usage, 3 input, 4 output, 5 device.";

/// Make a page about a search: heatmaps, curves, the network that was found, pictures
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct ReportArgs {
    /// Folder of a `hafuse search`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Fuse with this model instead of the supernet's weights
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// Folder of infrared or MRI pictures to show [default: that of the search]
    #[arg(long, value_name = "DIR", requires = "b")]
    pub a: Option<PathBuf>,
    /// Folder of visible or PET pictures to show [default: that of the search]
    #[arg(long, value_name = "DIR", requires = "a")]
    pub b: Option<PathBuf>,
    /// How many pairs to show
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub pairs: usize,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// Reads the folder and writes the report into it.
///
/// # Errors
/// [`Error::Input`] if the folder is none of a search, or what --a, --b and --model name cannot be read.
pub fn run(args: &ReportArgs) -> Result<()> {
    let run = Run::load(&args.dir)?;
    let (pictures, of) = pictures(args, &run)?;
    let file = |name: &str| args.dir.join(name);
    let folder = file("report");
    std::fs::create_dir_all(&folder).map_err(|e| Error::output(&folder, e))?;
    let genotype = run.genotype.as_ref();
    let mut drawings = vec![
        ("heatmap-final", heatmap::final_svg(run.layers(), genotype)),
        ("heatmap-time", heatmap::time_svg(&run.epochs, genotype)),
        ("curves", curves_svg(&run.epochs)),
    ];
    if let Some(g) = genotype {
        drawings.push(("network", network_svg(g, run.table.as_ref())?));
    }
    for (name, svg) in drawings {
        write_atomic(&folder.join(format!("{name}.svg")), svg.as_bytes())?;
    }
    for p in &pictures {
        write_atomic(&folder.join(format!("fused-{}.png", p.name)), &p.fused)?;
    }
    write_atomic(&file("report.html"), page(&run, &pictures, &of)?.as_bytes())?;
    for note in &run.notes {
        terminal::say(&format!("note: {note}"));
    }
    terminal::print(&format!("written: {}", file("report.html").display()))
}

/// Fused pictures, and a sentence on what made them or why there are none.
fn pictures(args: &ReportArgs, run: &Run) -> Result<(Vec<Shown>, String)> {
    let own = args.dir.join("model.safetensors");
    let model = match &args.model {
        Some(name) => open_model(name)?,
        None if own.exists() => open_model(&own.to_string_lossy())?,
        None => {
            return Ok((
                Vec::new(),
                "No picture: the search has no network yet.".into(),
            ));
        }
    };
    let (a, b) = match (&args.a, &args.b) {
        (Some(a), Some(b)) => (a.clone(), b.clone()),
        _ => (run.key("data.a").into(), run.key("data.b").into()),
    };
    if args.a.is_none() && !(a.is_dir() && b.is_dir()) {
        let of = format!(
            "No picture: {} or {} is not there; name pictures with --a DIR --b DIR.",
            a.display(),
            b.display()
        );
        return Ok((Vec::new(), of));
    }
    let device = args.device.open()?;
    let precision = Precision::default_on(&device);
    let mut engine = Engine::on(&device, precision, &model, SessionOptions::default())?;
    let pairs = list_pairs(&a, &b)?.pairs;
    let pictures = pairs
        .iter()
        .take(args.pairs)
        .map(|pair| show(&mut engine, &pair.stem, &pair.a, &pair.b))
        .collect::<Result<Vec<_>>>()?;
    let of = match &args.model {
        Some(name) => format!("By {name}: {}.", model.about),
        None => {
            "By the network that was found with the weights of the supernet, not trained by itself."
                .into()
        }
    };
    Ok((pictures, of))
}

fn show(engine: &mut Engine, name: &str, a: &Path, b: &Path) -> Result<Shown> {
    let (pa, pb) = (Picture::read(a)?, Picture::read(b)?);
    let (w, h) = (pa.width, pa.height);
    if (pb.width, pb.height) != (w, h) {
        let detail = format!("is not of the size of {}", a.display());
        return Err(Error::input(b, detail));
    }
    let fused = engine.fuse(h, w, &pa.luma, &pb.luma)?;
    Ok(Shown {
        name: name.to_string(),
        a: Shown::png(w, h, &pa.luma)?,
        b: Shown::png(w, h, &pb.luma)?,
        fused: Shown::png(w, h, &fused)?,
    })
}
