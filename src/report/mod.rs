//! Drawings and pages of a search: heatmaps, curves, the network, and one page with all of it.

mod curves;
pub mod heatmap;
mod network;
mod page;
pub mod plot;
mod run;
mod svg;

pub use curves::svg as curves_svg;
pub use network::svg as network_svg;
pub use page::{Shown, page};
pub use run::{Epoch, Run};
