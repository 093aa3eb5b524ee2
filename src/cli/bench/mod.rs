//! `hafuse bench`: times on a device, and the least times that a card allows.

mod batch;
mod cards;
mod ceiling;
mod clock;
mod net;
mod ops;
mod peak;
mod roofline;

use crate::Result;
use clap::Subcommand;

const AFTER_HELP: &str = "\
Examples:
  hafuse bench ops --json table.json          latency of each operator: the table that a search charges by
  hafuse bench ops --roofline                 share of the CPU's measured peak that each operator reaches
  hafuse bench ops --device cuda --precision f16 --size 640x512
  hafuse bench net --model ivif --device cuda whole fusions, copies included
  hafuse bench net --resident --device cuda   the same, and what the card alone takes
  hafuse bench batch ir/ vi/                  a batch from disk to disk beside its parts
  hafuse bench roofline --card 'RTX 4090'     least time of each node on a card that is not here

Times are medians; the quartiles beside them tell how noisy the machine is. A card works for half a
second before anything counts, and the clock of its multiprocessors is told before and after.";

/// Measure operators and whole fusions on a device, or compute floors for a card
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Ops(ops::OpsArgs),
    Net(net::NetArgs),
    Batch(batch::BatchArgs),
    Roofline(roofline::RooflineArgs),
}

/// Measures and prints.
///
/// # Errors
/// Those of the device and of writing the table.
pub fn run(args: &BenchArgs) -> Result<()> {
    match &args.what {
        What::Ops(args) => ops::run(args),
        What::Net(args) => net::run(args),
        What::Batch(args) => batch::run(args),
        What::Roofline(args) => roofline::run(args),
    }
}
