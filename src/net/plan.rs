//! What stands at each place of a network: one candidate, or the mix of all of them (Eq. 1).

use super::builder::{Builder, Init};
use super::genotype::{CellGene, CellKind, FrameGene, Genotype, GuidedFilterGene, OpKind};
use crate::Result;
use crate::ops;
use crate::tape::Var;
use crate::tensor::Shape;

/// The operator of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pick {
    /// This operator alone.
    One(OpKind),
    /// Those of [`OpKind::ALL`] that the space has, weighted by this softmax `[K]`.
    Mix(Var, [bool; OpKind::ALL.len()]),
}

/// A cell and the operators of its blocks. All rows of a cell share them.
#[derive(Clone, Debug, PartialEq)]
pub struct CellPlan {
    /// Kind of the cell.
    pub cell: CellKind,
    /// Operator of each block, in order.
    pub blocks: Vec<Pick>,
}

/// The cell of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerPlan {
    /// This cell alone.
    One(CellPlan),
    /// One plan for each of [`CellKind::ALL`] that the space has, weighted by the softmax `beta`: `[K]`.
    Mix {
        /// Weights of the cells, a softmax `[K]`.
        beta: Var,
        /// Candidate cells, in the order of [`CellKind::ALL`].
        cells: Vec<CellPlan>,
    },
}

/// A network whose layers are chosen, mixed, or some of each.
///
/// With `candidate_names`, parameters carry the candidate they belong to
/// (`ffm.cell0.SC.block0.3-SC.depthwise1.weight`), so a supernet and a network derived from it share
/// them; without, they have the names of a trained model (`ffm.cell0.block0.depthwise1.weight`).
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkPlan {
    /// Feature channels C at full resolution.
    pub channels: usize,
    /// Guided filter of all decomposition cells.
    pub guided_filter: GuidedFilterGene,
    /// What surrounds the cells.
    pub frame: FrameGene,
    /// Cells of the feature-level fusion module, in order.
    pub ffm: Vec<LayerPlan>,
    /// Cell of the target row of the object-level fusion module.
    pub target: LayerPlan,
    /// Cell of its detail row.
    pub detail: LayerPlan,
    /// Whether names of parameters say which candidate they belong to.
    pub candidate_names: bool,
    /// Candidate cells are computed again for their gradients, so that one cell's values are kept at a time.
    pub recompute: bool,
}

/// How large a supernet is, and how its architecture parameters begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchSpace {
    /// Feature channels `C` at full resolution.
    pub channels: usize,
    /// Cells of the FFM.
    pub cells: usize,
    /// Blocks of each row of a cell: N_c = N_d = N_m.
    pub blocks: usize,
    /// Which of [`CellKind::ALL`] and of [`OpKind::ALL`] are candidates.
    pub kinds: [bool; CellKind::ALL.len()],
    /// Which of [`OpKind::ALL`] are candidates.
    pub operators: [bool; OpKind::ALL.len()],
    /// What surrounds the cells.
    pub frame: FrameGene,
    /// Standard deviations of alpha and beta; 0 begins with equal weights.
    pub alpha_std: f64,
    /// Standard deviation of beta; 0 begins with equal weights.
    pub beta_std: f64,
    /// Saves memory for time, see [`Tape::recompute`](crate::Tape::recompute).
    pub recompute: bool,
}

/// Which layers of a supernet are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Searched<'a> {
    /// Every layer.
    All,
    /// The OFM; the FFM has these cells.
    Object {
        /// Cells of the FFM, in order.
        ffm: &'a [CellGene],
    },
}

/// Names of the layers of a network, in order: `ffm.cell0`, ..., `ofm.target.cell`, `ofm.detail.cell`.
pub fn layer_names(ffm_cells: usize) -> Vec<String> {
    let ffm = (0..ffm_cells).map(|i| format!("ffm.cell{i}"));
    let ofm = ["ofm.target.cell", "ofm.detail.cell"].map(String::from);
    ffm.chain(ofm).collect()
}

/// Name of the architecture parameter `[K]` of a block, K the operators of the space.
pub fn alpha_name(layer: &str, cell: CellKind, block: usize) -> String {
    format!("alpha.{layer}.{}.block{block}", cell.name())
}

/// Name of the architecture parameter `[K]` of a layer, K the kinds of cells of the space.
pub fn beta_name(layer: &str) -> String {
    format!("beta.{layer}")
}

impl From<&CellGene> for LayerPlan {
    fn from(gene: &CellGene) -> Self {
        LayerPlan::One(CellPlan {
            cell: gene.cell,
            blocks: gene.blocks.iter().copied().map(Pick::One).collect(),
        })
    }
}

impl From<&Genotype> for NetworkPlan {
    fn from(g: &Genotype) -> Self {
        Self {
            channels: g.channels,
            guided_filter: g.guided_filter,
            frame: g.frame,
            ffm: g.ffm.iter().map(LayerPlan::from).collect(),
            target: (&g.target).into(),
            detail: (&g.detail).into(),
            candidate_names: false,
            recompute: false,
        }
    }
}

impl NetworkPlan {
    /// Records the architecture parameters of the searched layers; the rest of the supernet is
    /// recorded by [`record_ffm`](super::record_ffm) or [`record_fusion`](super::record_fusion).
    pub fn searched(
        b: &mut Builder<'_>,
        space: &SearchSpace,
        searched: Searched<'_>,
    ) -> Result<Self> {
        let ffm = match searched {
            Searched::All => (0..space.cells)
                .map(|i| mixed_layer(b, space, &format!("ffm.cell{i}")))
                .collect::<Result<_>>()?,
            Searched::Object { ffm } => ffm.iter().map(LayerPlan::from).collect(),
        };
        Ok(Self {
            channels: space.channels,
            guided_filter: GuidedFilterGene::default(),
            frame: space.frame,
            ffm,
            target: mixed_layer(b, space, "ofm.target.cell")?,
            detail: mixed_layer(b, space, "ofm.detail.cell")?,
            candidate_names: true,
            recompute: space.recompute,
        })
    }

    /// The same without a border, for patches: the picture goes on around them.
    pub fn without_border(mut self) -> Self {
        self.frame.border = 0;
        self
    }

    /// All layers, in the order of [`layer_names`].
    pub fn layers(&self) -> impl Iterator<Item = &LayerPlan> {
        self.ffm.iter().chain([&self.target, &self.detail])
    }
}

fn mixed_layer(b: &mut Builder<'_>, space: &SearchSpace, layer: &str) -> Result<LayerPlan> {
    let mut weights = |name: String, of: &[bool], std: f64| -> Result<Var> {
        let shape = Shape::from([of.iter().filter(|&&there| there).count()]);
        let init = if std > 0.0 {
            Init::Normal(std)
        } else {
            Init::Zero
        };
        let v = b.param(&name, shape, init)?;
        ops::softmax(b.tape, v)
    };
    let beta = weights(beta_name(layer), &space.kinds, space.beta_std)?;
    let kinds = CellKind::ALL.into_iter().zip(space.kinds);
    let cells = kinds.filter(|(_, there)| *there).map(|(cell, _)| {
        let blocks = (0..space.blocks).map(|i| {
            let name = alpha_name(layer, cell, i);
            let alpha = weights(name, &space.operators, space.alpha_std)?;
            Ok(Pick::Mix(alpha, space.operators))
        });
        Ok(CellPlan {
            cell,
            blocks: blocks.collect::<Result<_>>()?,
        })
    });
    Ok(LayerPlan::Mix {
        beta,
        cells: cells.collect::<Result<_>>()?,
    })
}

/// The name that a parameter of the supernet has in the network of `g`; `None` if it belongs to a
/// candidate that `g` has not chosen, or to the architecture.
///
/// ```
/// use hafuse::net::{derived_name, Genotype};
/// let g = Genotype::from_json(r#"{"version": 1, "channels": 8, "ffm": [{"cell": "SC", "blocks": ["3-RB"]}],
///   "target": {"cell": "SC", "blocks": ["SA"]}, "detail": {"cell": "SC", "blocks": ["CA"]}}"#)?;
/// let name = derived_name(&g, "ffm.cell0.SC.block0.3-RB.conv1.bias");
/// assert_eq!(name.as_deref(), Some("ffm.cell0.block0.conv1.bias"));
/// assert_eq!(derived_name(&g, "ffm.cell0.SC.block0.5-RB.conv1.bias"), None);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn derived_name(g: &Genotype, name: &str) -> Option<String> {
    if is_architecture_param(name) {
        return None;
    }
    for (layer, gene) in g.cells() {
        let Some(rest) = name.strip_prefix(&layer).and_then(|r| r.strip_prefix('.')) else {
            continue;
        };
        let rest = rest.strip_prefix(gene.cell.name())?.strip_prefix('.')?;
        let mut words: Vec<&str> = rest.split('.').collect();
        let block = words
            .iter()
            .enumerate()
            .find_map(|(i, w)| Some((i, w.strip_prefix("block")?.parse::<usize>().ok()?)));
        if let Some((i, block)) = block {
            if words.get(i + 1) != Some(&gene.blocks.get(block)?.name()) {
                return None;
            }
            words.remove(i + 1);
        }
        return Some(format!("{layer}.{}", words.join(".")));
    }
    Some(name.to_string())
}

/// Whether a parameter of the supernet is an alpha or a beta.
pub fn is_architecture_param(name: &str) -> bool {
    name.starts_with("alpha.") || name.starts_with("beta.")
}
