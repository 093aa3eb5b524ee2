//! The look-up table of measured latencies, and LAT (Eq. 3) on it.

use super::architecture::LayerWeights;
use super::key::LatencyKey;
use super::measure::{Effort, Method, measure};
use super::timing::Timing;
use crate::device::Device;
use crate::net::{
    Builder, CellGene, CellKind, CellPlan, FrameGene, Genotype, GuidedFilterGene, Layer, LayerPlan,
    OpKind, Pick, record_aggregation, record_operator,
};
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::io::write_atomic;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One measured operator or part of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyEntry {
    pub name: String,
    /// Input shape.
    pub shape: Vec<usize>,
    #[serde(flatten)]
    pub timing: Timing,
    /// Runs of the entry in each of the timed ones, which are their means.
    #[serde(default = "one")]
    pub turns: usize,
    /// Copies of all its values, parameters included, that those runs take in turn.
    #[serde(default = "one")]
    pub copies: usize,
    /// Whether the copies together exceed a card's second-level cache.
    #[serde(default)]
    pub cold: bool,
    pub flops: u64,
    pub bytes: u64,
    /// Share of the nearer ceiling of a card, where it was measured.
    pub percent: Option<f64>,
    /// Kernels on a card.
    pub kernels: Vec<String>,
}

fn one() -> usize {
    1
}

/// Latencies of all operators at all scales and of the parts of cells, as JSON of format 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyTable {
    pub format: u32,
    #[serde(flatten)]
    pub key: LatencyKey,
    #[serde(default)]
    pub method: Method,
    pub entries: Vec<LatencyEntry>,
}

/// The longest side of a picture that is measured or searched for.
pub(crate) const MAX_SIDE: usize = 1 << 16;

type Record = Box<dyn Fn(&mut Builder<'_>, Var) -> Result<Var>>;

/// What is timed: a name, the input's shape, and how it is recorded.
pub struct Entry {
    pub name: String,
    pub(super) shape: [usize; 4],
    pub(super) record: Record,
}

/// Everything that a table holds for pictures of this size and `c` channels.
pub fn entries(width: usize, height: usize, c: usize) -> Vec<Entry> {
    let half = |n: usize| n.div_ceil(2);
    let scales = [
        (1, [1, height, width, c]),
        (2, [1, half(height), half(width), 2 * c]),
        (4, [1, half(half(height)), half(half(width)), 4 * c]),
    ];
    let mut list = Vec::new();
    let mut add = |name: &str, shape, record: Record| {
        list.push(Entry {
            name: name.to_string(),
            shape,
            record,
        });
    };
    for (scale, shape) in scales {
        for kind in OpKind::ALL {
            let record = Box::new(move |b: &mut Builder<'_>, x| record_operator(b, kind, x));
            add(&operator_at(kind, scale), shape, record);
        }
    }
    let [full, two, four] = scales.map(|(_, shape)| shape);
    let conv = |layer: Layer| -> Record { Box::new(move |b, x| b.conv("conv", x, layer)) };
    add("stem", [1, height, width, 2], conv(Layer::new(3, c)));
    add("head", full, conv(Layer::new(3, 1)));
    add("MS.down2", full, conv(Layer::new(3, 2 * c).stride(2)));
    add("MS.down4", two, conv(Layer::new(3, 4 * c).stride(2)));
    add("MS.fuse1", full, conv(Layer::new(1, c)));
    for (name, shape) in [("MS.fuse2", two), ("MS.fuse4", four)] {
        add(
            name,
            shape,
            Box::new(move |b, x| b.upsample("fuse", x, (height, width), Layer::new(1, c))),
        );
    }
    let filter = GuidedFilterGene::default();
    add(
        "DC.split",
        full,
        Box::new(move |b, x| {
            let guide = ops::channel_range(b.tape, x)?;
            let low = ops::guided_filter(b.tape, guide, x, filter.radius, filter.eps)?;
            ops::sub(b.tape, x, low)
        }),
    );
    add("DC.fuse", full, conv(Layer::new(1, c).no_bias()));
    add(
        "aggregation",
        full,
        Box::new(move |b, x| record_aggregation(b, c, x, x)),
    );
    list
}

/// Name of an operator's entry at `1 / scale` of full size.
pub fn operator_at(kind: OpKind, scale: usize) -> String {
    format!("{}@{scale}", kind.name())
}

/// The entries that a cell consists of: those of each block, then the others.
fn parts(cell: CellKind) -> (&'static [usize], &'static [&'static str]) {
    match cell {
        CellKind::Successive => (&[1], &[]),
        CellKind::Decomposition => (&[1, 1], &["DC.split", "DC.fuse", "DC.fuse"]),
        CellKind::MultiScale => (
            &[1, 2, 4],
            &["MS.down2", "MS.down4", "MS.fuse1", "MS.fuse2", "MS.fuse4"],
        ),
    }
}

impl LatencyTable {
    /// Measures a whole table; `progress` hears the name of each entry.
    pub fn measure(
        device: &Device,
        key: LatencyKey,
        effort: Effort,
        progress: impl FnMut(&str),
    ) -> Result<Self> {
        let list = entries(key.width, key.height, key.channels);
        Self::measure_entries(device, key, list, effort, progress)
    }

    /// Measures the entries of `list` by [`Method::on`] the device.
    pub fn measure_entries(
        device: &Device,
        key: LatencyKey,
        list: Vec<Entry>,
        effort: Effort,
        mut progress: impl FnMut(&str),
    ) -> Result<Self> {
        let dtype = match key.dtype.as_str() {
            "f16" => DType::F16,
            _ => DType::F32,
        };
        let mut rows = Vec::with_capacity(list.len());
        for entry in &list {
            progress(&entry.name);
            rows.push(measure(entry, device, dtype, effort, rows.is_empty())?);
        }
        Ok(Self {
            format: 1,
            method: Method::on(device),
            key,
            entries: rows,
        })
    }

    /// Reads a table of this format.
    ///
    /// # Errors
    /// [`Error::Input`] if it is missing or no table.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::input(path, e))?;
        let table: Self = serde_json::from_str(&text).map_err(|e| {
            let detail = format!("is no latency table of `hafuse bench ops --json` ({e})");
            Error::input(path, detail)
        })?;
        if table.format != 1 {
            let detail = format!("latency table format {} is not 1", table.format);
            return Err(Error::input(path, detail));
        }
        Ok(table)
    }

    /// Writes the table whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|e| Error::Internal(format!("latency table: {e}")))?;
        write_atomic(path, json.as_bytes())
    }

    /// Refuses a table of other channels, of no size or with entries missing or without a time; unless
    /// it is `foreign`, also one of another device, dtype, size or version.
    pub fn check(&self, wanted: &LatencyKey, foreign: bool) -> Result<()> {
        let fail = |detail: String| Err(Error::config("latency table", detail));
        let k = &self.key;
        if k.channels != wanted.channels {
            return fail(format!(
                "was measured with {} channels, the search has {}; measure it with `hafuse bench ops --channels {}`",
                k.channels, wanted.channels, wanted.channels
            ));
        }
        // Wider than any sensor; beyond it, counting a network's work would overflow.
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&k.width) || !sides.contains(&k.height) {
            return fail(format!(
                "was measured at {}x{}, each side must be 1 to {MAX_SIDE}; measure it with `hafuse bench ops`",
                k.width, k.height
            ));
        }
        let differs = k.difference(wanted).filter(|_| !foreign);
        if let Some((what, theirs, ours)) = differs {
            return fail(format!(
                "its {what} is {theirs}, not {ours}; to search for what it was measured on, import it with --latency FILE"
            ));
        }
        for entry in entries(k.width, k.height, k.channels) {
            let ms = self.ms(&entry.name)?;
            if !(ms >= 0.0 && ms.is_finite()) {
                return fail(format!("`{}` takes {ms} ms; measure it again", entry.name));
            }
        }
        Ok(())
    }

    /// Timed runs of the entry that has the fewest.
    pub fn runs(&self) -> usize {
        let runs = self.entries.iter().map(|e| e.timing.runs);
        runs.min().unwrap_or(0)
    }

    /// Median milliseconds of an entry.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not there.
    pub fn ms(&self, name: &str) -> Result<f64> {
        let found = self.entries.iter().find(|e| e.name == name);
        let row = found.ok_or_else(|| {
            Error::config(
                "latency table",
                format!("has a hole: no entry `{name}`; measure it without --only"),
            )
        })?;
        Ok(row.timing.median_ms)
    }

    /// Milliseconds of a block in all rows of a cell, for each of [`OpKind::ALL`].
    pub(super) fn block_ms(&self, cell: CellKind) -> Result<[f64; OpKind::ALL.len()]> {
        let mut ms = [0.0; OpKind::ALL.len()];
        for (ms, kind) in ms.iter_mut().zip(OpKind::ALL) {
            for &scale in parts(cell).0 {
                *ms += self.ms(&operator_at(kind, scale))?;
            }
        }
        Ok(ms)
    }

    /// Milliseconds of what a cell runs beside its blocks.
    pub(super) fn fixed_ms(&self, cell: CellKind) -> Result<f64> {
        parts(cell).1.iter().map(|name| self.ms(name)).sum()
    }

    /// Milliseconds of a cell in a network.
    pub fn gene_ms(&self, gene: &CellGene) -> Result<f64> {
        let ms = self.block_ms(gene.cell)?;
        let of = |kind: &OpKind| ms[*kind as usize];
        Ok(self.fixed_ms(gene.cell)? + gene.blocks.iter().map(of).sum::<f64>())
    }

    /// LAT of a chosen network: Eq. 3 with weights of 0 and 1, in milliseconds.
    pub fn lat(&self, g: &Genotype) -> Result<f64> {
        g.cells().map(|(_, gene)| self.gene_ms(gene)).sum()
    }

    /// Milliseconds of a whole network: [`LatencyTable::lat`] and [`LatencyTable::rest`], on a picture with its border.
    pub fn predict(&self, g: &Genotype) -> Result<f64> {
        Ok(self.enlarged(&g.frame) * (self.lat(g)? + self.rest()?))
    }

    /// Area of a picture with the border of a frame, as a multiple of that without.
    pub(super) fn enlarged(&self, frame: &FrameGene) -> f64 {
        let side = |n: usize| (n + 2 * frame.border) as f64 / n as f64;
        side(self.key.width) * side(self.key.height)
    }

    /// Milliseconds of what no search can choose: stems, heads and aggregation.
    pub fn rest(&self) -> Result<f64> {
        Ok(3.0 * (self.ms("stem")? + self.ms("head")?) + self.ms("aggregation")?)
    }

    /// LAT of layers with these weights, in milliseconds.
    pub fn relaxed(&self, layers: &[LayerWeights]) -> Result<f64> {
        let mut lat = 0.0;
        for layer in layers {
            for (k, cell) in CellKind::ALL.into_iter().enumerate() {
                let ms = self.block_ms(cell)?;
                let dot = |a: &Vec<f64>| a.iter().zip(ms).map(|(a, ms)| a * ms).sum::<f64>();
                let blocks: f64 = layer.alpha[k].iter().map(dot).sum();
                lat += layer.beta[k] * (self.fixed_ms(cell)? + blocks);
            }
        }
        Ok(lat)
    }
}

/// Records Eq. 3 in milliseconds, a scalar that is differentiable in alpha and beta:
/// `sum over layers, cells k of beta_k (fixed_k + sum over blocks, operators i of alpha_i LAT_k(op_i))`.
///
/// `LAT_k(op_i)` is the time of the operator in all rows of the cell: twice at full size for a
/// decomposition cell, once at each scale for a multi-scale cell. `fixed_k` is the rest of the cell.
pub fn record_lat<'a>(
    t: &mut Tape,
    layers: impl IntoIterator<Item = &'a LayerPlan>,
    table: &LatencyTable,
) -> Result<Var> {
    t.scope("latency", |t| {
        let mut total = scalar(t, 0.0)?;
        for layer in layers {
            let lat = match layer {
                LayerPlan::One(cell) => record_cell_lat(t, cell, table)?,
                LayerPlan::Mix { beta, cells } => {
                    let lats = cells.iter().map(|c| record_cell_lat(t, c, table));
                    let lats = lats.collect::<Result<Vec<_>>>()?;
                    ops::weighted_sum(t, *beta, &lats)?
                }
            };
            total = ops::add(t, total, lat)?;
        }
        Ok(total)
    })
}

fn record_cell_lat(t: &mut Tape, plan: &CellPlan, table: &LatencyTable) -> Result<Var> {
    let ms = table.block_ms(plan.cell)?;
    let mut total = scalar(t, table.fixed_ms(plan.cell)?)?;
    for pick in &plan.blocks {
        let lat = match *pick {
            Pick::One(kind) => scalar(t, ms[kind as usize])?,
            Pick::Mix(alpha, operators) => {
                let there = ms.into_iter().zip(operators);
                let ms: Vec<f64> = there
                    .filter(|(_, there)| *there)
                    .map(|(ms, _)| ms)
                    .collect();
                let ms = t.constant(&Tensor::from_vec([ms.len()], ms)?)?;
                let each = ops::mul(t, alpha, ms)?;
                ops::sum_all(t, each)?
            }
        };
        total = ops::add(t, total, lat)?;
    }
    Ok(total)
}

fn scalar(t: &mut Tape, value: f64) -> Result<Var> {
    t.constant(&Tensor::scalar(DType::F64, value))
}
