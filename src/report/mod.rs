//! Reports of runs: SVG figures and self-contained HTML pages, as text and without a charting library.
//!
//! [`svg`] and [`ramp`] draw, [`chart`] makes line and bar charts, [`html`] pages and tables. [`heatmap`],
//! [`timeline`], [`curves`] and [`network`] are the figures of an architecture search, [`pictures`] what its
//! network fuses, [`run`] what its folder holds, and [`search`] puts all of them on one page.
//!
//! [`scores`] are methods judged side by side, [`boxplot`] shows how far their scores spread, [`sheet`] what they make of
//! one pair, and [`compare`] is the page of all of it.

pub mod boxplot;
pub mod chart;
pub mod compare;
mod crops;
pub mod curves;
pub mod heatmap;
pub mod html;
pub mod network;
pub mod pictures;
pub mod ramp;
mod raster;
pub mod run;
#[cfg(test)]
mod samples;
pub mod scatter;
pub mod scores;
pub mod search;
pub mod sheet;
pub mod svg;
pub mod timeline;
