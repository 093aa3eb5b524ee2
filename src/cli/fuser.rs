//! What fuses two pictures: a network, or a rule without one.

use super::device::{DeviceArg, PrecisionArg, place};
use super::memory::{self, Limit};
use super::open_model;
use crate::baseline::Baseline;
use crate::data::{Pair, Picture, read_pair};
use crate::device::Device;
use crate::infer::{Engine, Precision};
use crate::metrics::Grey;
use crate::metrics::border::{MARGIN, crop, reflect};
use crate::tape::SessionOptions;
use crate::tone::Tone;
use crate::{Error, Result};
use std::path::Path;

/// A network or a [`Baseline`], behind one interface.
pub struct Fuser {
    means: Means,
    /// The last size that was found to fit in memory.
    fits: Option<(usize, usize)>,
    /// Without it, what is free.
    max_memory: Option<Limit>,
}

enum Means {
    Network(Box<Engine>),
    /// With the result of the fusion that was begun.
    Rule(Baseline, Vec<f32>),
}

impl From<Engine> for Fuser {
    fn from(engine: Engine) -> Self {
        Self {
            means: Means::Network(Box::new(engine)),
            fits: None,
            max_memory: None,
        }
    }
}

impl Fuser {
    /// A built-in model by name or a model file, on `device`.
    pub fn network(model: &str, device: &Device, precision: PrecisionArg) -> Result<Self> {
        let precision = precision.on(device);
        let model = open_model(model)?;
        Ok(Engine::on(device, precision, &model, SessionOptions::default())?.into())
    }

    /// A rule; it runs on the CPU in f32 only, so nothing else may have been asked for.
    pub fn rule(rule: Baseline, device: &DeviceArg, precision: PrecisionArg) -> Result<Self> {
        if !matches!(device.device.as_str(), "auto" | "cpu") {
            return Err(Error::config(
                "--device",
                format!(
                    "{rule} runs on the CPU only, {} was asked for; leave --device out",
                    device.device
                ),
            ));
        }
        // Refuses f16, as it does for networks on the CPU.
        precision.on(&Device::Cpu).check(&Device::Cpu)?;
        Ok(Self {
            means: Means::Rule(rule, Vec::new()),
            fits: None,
            max_memory: None,
        })
    }

    /// Bytes of this machine's memory that a pair of this size takes from reading to writing.
    pub fn bytes(&self, width: usize, height: usize) -> usize {
        let beside = match &self.means {
            // The card has memory of its own.
            Means::Network(_) if self.on_card() => Ok(0),
            Means::Network(engine) => engine.planned_bytes(1, height, width),
            Means::Rule(rule, _) => rule.bytes(height, width),
        };
        // What cannot be planned is refused when its turn comes.
        beside.map_or(0, |b| {
            b.saturating_add(memory::picture_bytes(width, height))
        })
    }

    /// Has what fuses take no more than that, or refuse pictures.
    pub fn limit_memory(&mut self, limit: Limit) {
        self.max_memory = Some(limit);
        self.fits = None;
    }

    /// Whether it runs on a card.
    pub fn on_card(&self) -> bool {
        matches!(&self.means, Means::Network(engine) if matches!(engine.device(), Device::Cuda(_)))
    }

    /// Name of the model or rule.
    pub fn name(&self) -> &str {
        match &self.means {
            Means::Network(engine) => &engine.model().name,
            Means::Rule(rule, _) => rule.name(),
        }
    }

    /// Where it runs: `cpu in f32`.
    pub fn place(&self) -> String {
        match &self.means {
            Means::Network(engine) => place(engine.device(), engine.precision()),
            Means::Rule(..) => place(&Device::Cpu, Precision::F32),
        }
    }

    /// For the record: what it is, with a model's hash.
    pub fn origin(&self) -> Result<String> {
        Ok(match &self.means {
            Means::Network(engine) => format!(
                "model {}, hash {:016x}, {}",
                engine.model().name,
                engine.model().hash()?,
                self.place()
            ),
            Means::Rule(rule, _) => format!("{}, {}", rule.about(), self.place()),
        })
    }

    /// Refuses pictures of a size for which there is not memory enough; they need not be read yet.
    pub fn check(&mut self, path: &Path, size: (usize, usize)) -> Result<()> {
        if self.fits == Some(size) {
            return Ok(());
        }
        match &mut self.means {
            Means::Network(engine) => memory::check_fits(engine, self.max_memory, path, size)?,
            Means::Rule(rule, _) => {
                memory::check_bytes(rule.bytes(size.1, size.0)?, self.max_memory, path, size)?;
            }
        }
        self.fits = Some(size);
        Ok(())
    }

    /// Plans a size that fits and makes what the CPU needs for it, so that [`Fuser::start`] has not to.
    pub fn prepare(&mut self, (width, height): (usize, usize)) -> Result<()> {
        match &mut self.means {
            Means::Network(engine) if matches!(engine.device(), Device::Cpu) => {
                engine.prepare(1, height, width)
            }
            _ => Ok(()),
        }
    }

    /// Begins to fuse the brightness of two pictures of one size; `path` names them in errors. A card computes
    /// while the caller does something else.
    pub fn start(&mut self, path: &Path, a: &Picture, b: &Picture) -> Result<()> {
        let (width, height) = (a.width, a.height);
        self.check(path, (width, height))?;
        match &mut self.means {
            Means::Network(engine) => engine.start(1, height, width, &a.luma, &b.luma),
            Means::Rule(rule, result) => {
                *result = rule.fuse(height, width, &a.luma, &b.luma)?;
                Ok(())
            }
        }
    }

    /// The result of what was begun last, in \[0, 1\].
    pub fn finish(&mut self, pixels: usize) -> Result<Vec<f32>> {
        match &mut self.means {
            Means::Network(engine) => engine.finish_vec(pixels),
            Means::Rule(_, result) => Ok(std::mem::take(result)),
        }
    }

    /// Both at once.
    pub fn fuse(&mut self, path: &Path, a: &Picture, b: &Picture) -> Result<Vec<f32>> {
        self.start(path, a, b)?;
        self.finish(a.luma.len())
    }

    /// Both sources of a pair and the fused picture of this tone, as the metrics take them.
    pub fn grey(&mut self, pair: &Pair, tone: Tone) -> Result<[Grey; 3]> {
        let (a, b) = read_pair(&pair.a, &pair.b)?;
        let mut fused = self.fuse(&pair.a, &a, &b)?;
        tone.apply(&mut fused)?;
        Ok([
            Grey::from_picture(&a)?,
            Grey::from_picture(&b)?,
            Grey::from_luma(a.width, a.height, &fused)?,
        ])
    }

    /// Fused picture of a pair whose sources go on beyond their border, without that margin. It is toned after the margin
    /// is gone, so that the same pixels set its range.
    pub fn grey_of_continued(&mut self, pair: &Pair, tone: Tone) -> Result<Grey> {
        let (a, b) = read_pair(&pair.a, &pair.b)?;
        let (width, height) = (a.width + 2 * MARGIN, a.height + 2 * MARGIN);
        let continued = |p: &Picture| {
            let luma = reflect(p.width, p.height, &p.luma, MARGIN)?;
            Picture::from_luma(width, height, luma)
        };
        let fused = self.fuse(&pair.a, &continued(&a)?, &continued(&b)?)?;
        let mut fused = crop(width, height, &fused, MARGIN)?;
        tone.apply(&mut fused)?;
        Grey::from_luma(a.width, a.height, &fused)
    }
}
