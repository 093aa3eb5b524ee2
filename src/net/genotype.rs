//! A network architecture as readable, versioned JSON.

use super::plan::layer_names;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The ten candidate operators (section 2.2.2 of the paper).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OpKind {
    /// Separable convolution, 3 x 3, twice.
    #[serde(rename = "3-SC")]
    Separable3,
    /// Separable convolution, 5 x 5, twice.
    #[serde(rename = "5-SC")]
    Separable5,
    /// Separable convolution, 3 x 3 with dilation 2, plus its input.
    #[serde(rename = "3-DC")]
    Dilated3,
    /// Separable convolution, 5 x 5 with dilation 2, plus its input.
    #[serde(rename = "5-DC")]
    Dilated5,
    /// Residual block of two 3 x 3 convolutions.
    #[serde(rename = "3-RB")]
    Residual3,
    /// Residual block of two 5 x 5 convolutions.
    #[serde(rename = "5-RB")]
    Residual5,
    /// Dense block of three 3 x 3 convolutions.
    #[serde(rename = "3-DB")]
    Dense3,
    /// Dense block of three 5 x 5 convolutions.
    #[serde(rename = "5-DB")]
    Dense5,
    /// Attention that weighs pixels.
    #[serde(rename = "SA")]
    SpatialAttention,
    /// Attention that weighs channels.
    #[serde(rename = "CA")]
    ChannelAttention,
}

impl OpKind {
    /// All ten, in the order of the search space.
    pub const ALL: [OpKind; 10] = [
        OpKind::Separable3,
        OpKind::Separable5,
        OpKind::Dilated3,
        OpKind::Dilated5,
        OpKind::Residual3,
        OpKind::Residual5,
        OpKind::Dense3,
        OpKind::Dense5,
        OpKind::SpatialAttention,
        OpKind::ChannelAttention,
    ];

    /// The paper's abbreviation, as in a genotype.
    pub fn name(self) -> &'static str {
        match self {
            OpKind::Separable3 => "3-SC",
            OpKind::Separable5 => "5-SC",
            OpKind::Dilated3 => "3-DC",
            OpKind::Dilated5 => "5-DC",
            OpKind::Residual3 => "3-RB",
            OpKind::Residual5 => "5-RB",
            OpKind::Dense3 => "3-DB",
            OpKind::Dense5 => "5-DB",
            OpKind::SpatialAttention => "SA",
            OpKind::ChannelAttention => "CA",
        }
    }
}

/// The three candidate cells (section 2.2.1 of the paper).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CellKind {
    /// Blocks in series.
    #[serde(rename = "SC")]
    Successive,
    /// The blocks on the low and on the high frequencies of a guided filter.
    #[serde(rename = "DC")]
    Decomposition,
    /// The blocks at full, half and quarter resolution.
    #[serde(rename = "MS")]
    MultiScale,
}

impl CellKind {
    /// All three, in the order of the search space.
    pub const ALL: [CellKind; 3] = [
        CellKind::Successive,
        CellKind::Decomposition,
        CellKind::MultiScale,
    ];

    /// The paper's abbreviation, as in a genotype.
    pub fn name(self) -> &'static str {
        match self {
            CellKind::Successive => "SC",
            CellKind::Decomposition => "DC",
            CellKind::MultiScale => "MS",
        }
    }
}

/// One cell and the operators of its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellGene {
    /// Kind of the cell.
    pub cell: CellKind,
    /// Operator of each block, in order; all rows of a cell share them.
    pub blocks: Vec<OpKind>,
}

/// The guided filter of decomposition cells.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuidedFilterGene {
    /// Window is `2 radius + 1` pixels wide.
    pub radius: usize,
    /// Regularisation, in squared units of the features.
    pub eps: f64,
}

impl Default for GuidedFilterGene {
    fn default() -> Self {
        Self {
            radius: 4,
            eps: 1e-3,
        }
    }
}

/// A whole network.
///
/// ```
/// use hafuse::net::Genotype;
/// let g = Genotype::from_json(r#"{
///   "version": 1, "channels": 32,
///   "ffm": [{"cell": "SC", "blocks": ["3-RB", "3-DC"]}, {"cell": "MS", "blocks": ["3-DC", "3-SC"]}],
///   "target": {"cell": "SC", "blocks": ["3-DC", "SA"]},
///   "detail": {"cell": "SC", "blocks": ["3-RB", "CA"]}
/// }"#)?;
/// assert_eq!(g.ffm.len(), 2);
/// # Ok::<(), hafuse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genotype {
    /// Version of this format.
    pub version: u32,
    /// Feature channels `C` at full resolution.
    pub channels: usize,
    /// Cells of the feature-level fusion module, in order.
    pub ffm: Vec<CellGene>,
    /// Cell of the target row of the object-level fusion module.
    pub target: CellGene,
    /// Cell of its detail row.
    pub detail: CellGene,
    /// Guided filter of all decomposition cells.
    #[serde(default)]
    pub guided_filter: GuidedFilterGene,
    /// Surroundings of the cells, beyond the paper.
    #[serde(default)]
    pub frame: FrameGene,
}

/// Surroundings of the cells, beyond the paper; the default is the paper's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrameGene {
    /// The stem also sees both sources without the means of their whole pictures, at contrasts brought closer
    /// ([`ops::balance`](crate::ops::balance)), so that the network knows how bright the scene is.
    pub levels: bool,
    /// Pixels of mirror image around both sources: the zeros around every convolution stay away from the picture.
    pub border: usize,
    /// Width of the ends of the scale, in grey values, where the pictures bend so that they never leave [0, 1]
    /// ([`ops::soft_clamp`](crate::ops::soft_clamp)); 0 leaves them as they are.
    pub ends: f64,
}

impl Genotype {
    /// The version that this build reads and writes.
    pub const VERSION: u32 = 1;

    /// Parses and checks.
    pub fn from_json(text: &str) -> Result<Self> {
        let g: Self =
            serde_json::from_str(text).map_err(|e| Error::config("genotype", e.to_string()))?;
        g.check()?;
        Ok(g)
    }

    /// Reads a JSON file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::input(path, e))?;
        Self::from_json(&text).map_err(|e| Error::input(path, e))
    }

    /// As indented JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::Internal(format!("genotype: {e}")))
    }

    fn check(&self) -> Result<()> {
        let fail = |detail: String| Err(Error::config("genotype", detail));
        if self.version != Self::VERSION {
            return fail(format!(
                "version {} is not {}, the one this build reads",
                self.version,
                Self::VERSION
            ));
        }
        if self.channels == 0 || self.channels > 512 {
            return fail(format!(
                "channels must be 1 to 512, found {}",
                self.channels
            ));
        }
        if self.ffm.is_empty() {
            return fail("`ffm` needs at least one cell".into());
        }
        for (name, cell) in self.cells() {
            if cell.blocks.is_empty() {
                return fail(format!("{name} needs at least one block"));
            }
        }
        if !(0.0..=0.5).contains(&self.frame.ends) {
            return fail(format!(
                "frame.ends must be 0 to 0.5, found {}",
                self.frame.ends
            ));
        }
        if self.frame.border > 256 {
            return fail(format!(
                "frame.border must be 0 to 256, found {}",
                self.frame.border
            ));
        }
        let gf = self.guided_filter;
        if gf.radius == 0 || !(gf.eps > 0.0 && gf.eps.is_finite()) {
            return fail(format!(
                "guided_filter needs radius >= 1 and eps > 0, found {} and {}",
                gf.radius, gf.eps
            ));
        }
        Ok(())
    }

    /// The same cells with `kind` in every block.
    pub fn of_one(&self, kind: OpKind) -> Self {
        let mut g = self.clone();
        for cell in g.ffm.iter_mut().chain([&mut g.target, &mut g.detail]) {
            cell.blocks.fill(kind);
        }
        g
    }

    /// All cells with their place in the network.
    pub fn cells(&self) -> impl Iterator<Item = (String, &CellGene)> {
        let genes = self.ffm.iter().chain([&self.target, &self.detail]);
        layer_names(self.ffm.len()).into_iter().zip(genes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_file() {
        for kind in OpKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for cell in CellKind::ALL {
            assert_eq!(serde_json::to_value(cell).unwrap(), cell.name());
        }
    }
}
