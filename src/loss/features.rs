//! The feature network (VGG) of the perceptual loss and of the adaptive weights.

use crate::ops::{self, Activation, ConvOptions, Padding};
use crate::tape::{ParamStore, Tape, Var};
use crate::tensor::io::{self, TensorMap};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use std::path::Path;

/// Layers in torchvision's numbering, and whether a 2 x 2 max-pool stands before them.
const LAYERS: [(usize, bool); 5] = [(0, false), (2, false), (5, true), (7, false), (10, true)];
const PREFIX: &str = "vgg.";

/// The first convolutions of a VGG-16 or VGG-19, for one grey channel in [0, 1].
///
/// The file is a safetensors file with torchvision's names (`features.0.weight`, ...,
/// `[cout, cin, 3, 3]`), which a VGG of torchvision or timm satisfies as it is. If it also has
/// `gray01.features.0.weight`, that is the first layer; otherwise the three colour channels are
/// summed, which is the network applied to the grey picture three times, in [0, 1] and without
/// mean subtraction. Metadata `padding` that begins with `reflect` asks for mirrored borders
/// instead of zeros. Pooling keeps a last odd row or column (ceil mode).
#[derive(Clone, Debug)]
pub struct FeatureNet {
    layers: Vec<(Tensor, Tensor)>,
    reflect: bool,
}

impl FeatureNet {
    /// Reads the layers up to relu3_1 (those that the file has).
    ///
    /// # Errors
    /// [`Error::Input`] if the file is missing or has no such layers.
    pub fn load(path: &Path) -> Result<Self> {
        let (tensors, meta) = io::load(path)?;
        let layers = LAYERS
            .iter()
            .map_while(|&(n, _)| layer(&tensors, n).transpose())
            .collect::<Result<Vec<_>, String>>()
            .map_err(|e| Error::input(path, e))?;
        if layers.len() < 4 {
            return Err(Error::input(
                path,
                format!(
                    "found {} of the layers features.0, 2, 5, 7 that are needed; \
                     give a VGG-16 or VGG-19 as safetensors with torchvision's names",
                    layers.len()
                ),
            ));
        }
        let reflect = meta
            .get("padding")
            .is_some_and(|p| p.starts_with("reflect"));
        Ok(Self { layers, reflect })
    }

    /// Number of taps (relu1_1, relu1_2, relu2_1, relu2_2, relu3_1).
    pub fn taps(&self) -> usize {
        self.layers.len()
    }

    /// Puts the weights into `store`, under names that [`is_feature_param`] knows.
    pub fn install(&self, store: &ParamStore, dtype: DType) -> Result<()> {
        for ((w, b), (n, _)) in self.layers.iter().zip(LAYERS) {
            store.set(&format!("{PREFIX}{n}.weight"), &w.to_dtype(dtype))?;
            store.set(&format!("{PREFIX}{n}.bias"), &b.to_dtype(dtype))?;
        }
        Ok(())
    }

    /// Records the first `taps` outputs (after the ReLU) for `x: [N, H, W, 1]`.
    pub fn record(&self, t: &mut Tape, x: Var, taps: usize) -> Result<Vec<Var>> {
        let mut out = Vec::with_capacity(taps);
        let mut y = x;
        for ((w, b), &(n, pool)) in self.layers.iter().zip(&LAYERS).take(taps) {
            if pool {
                y = ops::max_pool2d(t, y)?;
            }
            let options = ConvOptions {
                activation: Activation::LeakyRelu(0.0),
                padding: if self.reflect {
                    Padding::Valid
                } else {
                    Padding::Same
                },
                ..ConvOptions::default()
            };
            if self.reflect {
                y = ops::reflect_pad(t, y, 1)?;
            }
            let w = t.param(&format!("{PREFIX}{n}.weight"), w.shape())?;
            let b = t.param(&format!("{PREFIX}{n}.bias"), b.shape())?;
            y = ops::conv2d(t, y, w, Some(b), None, options)?;
            out.push(y);
        }
        Ok(out)
    }
}

/// Whether a parameter belongs to the feature network, which is never trained or saved.
pub fn is_feature_param(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Kernel `[3, 3, cin, cout]` and bias of layer `n`; `None` if the file ends before it.
fn layer(tensors: &TensorMap, n: usize) -> Result<Option<(Tensor, Tensor)>, String> {
    let grey = format!("gray01.features.{n}");
    let plain = format!("features.{n}");
    let name = if tensors.contains_key(&format!("{grey}.weight")) {
        grey
    } else {
        plain
    };
    let Some(w) = tensors.get(&format!("{name}.weight")) else {
        return Ok(None);
    };
    let b = tensors
        .get(&format!("{name}.bias"))
        .ok_or_else(|| format!("{name}.weight has no {name}.bias"))?;
    let &[cout, cin, 3, 3] = w.shape().dims() else {
        return Err(format!(
            "{name}.weight is {}, expected [cout, cin, 3, 3]",
            w.shape()
        ));
    };
    if b.shape().dims() != [cout] {
        return Err(format!("{name}.bias is {}, expected [{cout}]", b.shape()));
    }
    let folded = if n == 0 { 1 } else { cin };
    let values = w.to_f64();
    let mut out = vec![0.0; 9 * folded * cout];
    for (i, v) in values.into_iter().enumerate() {
        let (co, ci, tap) = (i / (9 * cin), i / 9 % cin, i % 9);
        out[(tap * folded + ci % folded) * cout + co] += v;
    }
    let w = Tensor::from_vec([3, 3, folded, cout], out).map_err(|e| e.to_string())?;
    Ok(Some((w.to_dtype(DType::F32), b.to_dtype(DType::F32))))
}
