//! Fusing pictures: the front door of the library.
//!
//! [`fuse`] takes two files; a [`Fuser`] takes pictures, with a model, device, precision, tone and memory of one's choice;
//! [`fuse_folder`](crate::fuse_folder) takes folders. All three follow the rules of `hafuse fuse`: brightness is fused, colour
//! and opacity are those of B or, if B is grey and A is not, of A, and the result has the bit depth of the deeper source.

pub(crate) mod memory;

use crate::baseline::Baseline;
use crate::data::{Picture, read_pair};
use crate::device::Device;
use crate::infer::{DEFAULT_MODEL, Engine, Model, Precision};
use crate::tape::SessionOptions;
use crate::tone::Tone;
use crate::{Error, Result};
use memory::Limit;
use std::path::Path;

/// Fuses two picture files with the default model, on a card if there is one.
///
/// A is infrared or MRI, B visible light, PET, SPECT or CT; both of one size, registered pixel for pixel.
///
/// # Errors
/// [`Error::Input`] if a file cannot be read, if sizes differ, or if memory is too small for them; [`Error::Device`] if a
/// card fails.
///
/// ```
/// let fused = hafuse::fuse("samples/street_1_ir.png", "samples/street_1_vi.png")?;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("fused.png");
/// # let path = path.to_str().unwrap();
/// fused.save(path)?;
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn fuse(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<Picture> {
    Fuser::builder().build()?.fuse_files(a, b)
}

/// What a [`Fuser`] fuses with, on what, and how; made by [`Fuser::builder`].
#[derive(Clone, Debug)]
pub struct FuserBuilder {
    means: Choice,
    device: Option<Device>,
    precision: Option<Precision>,
    max_memory: Option<usize>,
    tone: Tone,
}

#[derive(Clone, Debug)]
enum Choice {
    Named(String),
    Loaded(Box<Model>),
    Rule(Baseline),
}

impl FuserBuilder {
    /// A built-in model by name, or the file of a trained one. Default: [`DEFAULT_MODEL`].
    #[must_use]
    pub fn model(mut self, name_or_file: impl Into<String>) -> Self {
        self.means = Choice::Named(name_or_file.into());
        self
    }

    /// A model that is in memory.
    #[must_use]
    pub fn loaded(mut self, model: Model) -> Self {
        self.means = Choice::Loaded(Box::new(model));
        self
    }

    /// A rule in place of a network, on the CPU in f32.
    #[must_use]
    pub fn rule(mut self, rule: Baseline) -> Self {
        self.means = Choice::Rule(rule);
        self
    }

    /// Where to compute. Default: [`Device::auto`].
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Element type of the network. Default: [`Precision::default_on`] the device.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = Some(precision);
        self
    }

    /// Most bytes that the process may take; larger pictures are fused in thinner bands, or refused. Default: what is free.
    #[must_use]
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// Contrast of the result. Default: [`Tone::DEFAULT`].
    #[must_use]
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    /// Loads the model and opens the device.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no such model; [`Error::Config`] if the device does not have the precision, or for a rule
    /// on a card; [`Error::Device`] if the card lacks memory.
    pub fn build(&self) -> Result<Fuser> {
        let means = match &self.means {
            Choice::Rule(rule) => {
                if let Some(device @ Device::Cuda(_)) = &self.device {
                    let detail = format!("{rule} runs on the CPU only, {device} was asked for");
                    return Err(Error::config("device", detail));
                }
                // Refuses f16, as it does for networks on the CPU.
                let precision = self.precision.unwrap_or(Precision::F32);
                precision.check(&Device::Cpu)?;
                Means::Rule(*rule)
            }
            Choice::Named(name) => self.network(&Model::open(name)?)?,
            Choice::Loaded(model) => self.network(model)?,
        };
        Ok(Fuser {
            means,
            tone: self.tone,
            fits: None,
            max_memory: self.max_memory.map(Limit::new),
        })
    }

    fn network(&self, model: &Model) -> Result<Means> {
        let device = match &self.device {
            Some(device) => device.clone(),
            None => Device::auto().0,
        };
        let precision = self.precision;
        let precision = precision.unwrap_or_else(|| Precision::default_on(&device));
        let engine = Engine::on(&device, precision, model, SessionOptions::default())?;
        Ok(Means::Network(Box::new(engine)))
    }
}

/// Fuses pictures by a network or a [`Baseline`], one after the other. What is planned for a size is kept for the next picture.
///
/// ```no_run
/// use hafuse::{Fuser, Picture, Tone};
///
/// let mut fuser = Fuser::builder().model("ivif").tone(Tone::Auto).build()?;
/// let infrared = Picture::read("ir.png")?;
/// let visible = Picture::read("vi.png")?;
/// let fused = fuser.fuse(&infrared, &visible)?;
/// fused.save("fused.png")?;
/// # Ok::<(), hafuse::Error>(())
/// ```
pub struct Fuser {
    means: Means,
    tone: Tone,
    /// The last size that was found to fit in memory.
    fits: Option<(usize, usize)>,
    /// Without it, what is free.
    max_memory: Option<Limit>,
}

enum Means {
    Network(Box<Engine>),
    Rule(Baseline),
}

impl From<Engine> for Fuser {
    /// For what an [`Engine`] alone can be told, such as a part of the network; without a tone.
    fn from(engine: Engine) -> Self {
        Self {
            means: Means::Network(Box::new(engine)),
            tone: Tone::None,
            fits: None,
            max_memory: None,
        }
    }
}

impl Fuser {
    /// Starts from the default model on the best device; the methods change that.
    pub fn builder() -> FuserBuilder {
        FuserBuilder {
            means: Choice::Named(DEFAULT_MODEL.into()),
            device: None,
            precision: None,
            max_memory: None,
            tone: Tone::DEFAULT,
        }
    }

    /// Fuses two pictures of one size.
    ///
    /// # Errors
    /// [`Error::Config`] if sizes differ; [`Error::TooLarge`] if memory does not suffice; [`Error::Weights`] if the network makes
    /// values that are no numbers; [`Error::Device`] if a card fails.
    pub fn fuse(&mut self, a: &Picture, b: &Picture) -> Result<Picture> {
        if (a.width, a.height) != (b.width, b.height) {
            return Err(Error::config(
                "pictures",
                format!(
                    "A is {}x{} but B is {}x{}; register and resize both to one size first",
                    a.width, a.height, b.width, b.height
                ),
            ));
        }
        let luma = self.toned_luma(a, b)?;
        Picture::with_chroma_of_either(luma, a, b)
    }

    /// Fuses two files.
    ///
    /// # Errors
    /// [`Error::Input`] if one cannot be read, if sizes differ, or if memory does not suffice; else as [`Fuser::fuse`].
    pub fn fuse_files(&mut self, a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<Picture> {
        let (a, b) = (a.as_ref(), b.as_ref());
        if let Ok(size) = Picture::size(a) {
            self.check(size).map_err(|e| e.of_file(a))?;
        }
        let (first, second) = read_pair(a, b)?;
        self.fuse(&first, &second).map_err(|e| e.of_file(a))
    }

    /// Contrast of its results.
    pub fn tone(&self) -> Tone {
        self.tone
    }

    /// Name of the model or rule.
    pub fn name(&self) -> &str {
        match &self.means {
            Means::Network(engine) => &engine.model().name,
            Means::Rule(rule) => rule.name(),
        }
    }

    /// Where it runs: `cpu in f32`.
    pub fn place(&self) -> String {
        match &self.means {
            Means::Network(engine) => engine.precision().place(engine.device()),
            Means::Rule(..) => Precision::F32.place(&Device::Cpu),
        }
    }

    /// For the record: what it is, with a model's hash.
    pub(crate) fn origin(&self) -> Result<String> {
        Ok(match &self.means {
            Means::Network(engine) => format!(
                "model {}, hash {:016x}, {}",
                engine.model().name,
                engine.model().hash()?,
                self.place()
            ),
            Means::Rule(rule) => format!("{}, {}", rule.about(), self.place()),
        })
    }

    /// Whether it runs on a card.
    pub(crate) fn on_card(&self) -> bool {
        matches!(&self.means, Means::Network(engine) if matches!(engine.device(), Device::Cuda(_)))
    }

    /// Bytes of this machine's memory that a pair of this size takes from reading to writing.
    pub(crate) fn bytes(&self, width: usize, height: usize) -> usize {
        let beside = match &self.means {
            // The card has memory of its own.
            Means::Network(_) if self.on_card() => Ok(0),
            Means::Network(engine) => engine.planned_bytes(1, height, width),
            Means::Rule(rule) => rule.bytes(height, width),
        };
        // What cannot be planned is refused when its turn comes.
        beside.map_or(0, |b| {
            b.saturating_add(memory::picture_bytes(width, height))
        })
    }

    /// What all workers together may take.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.max_memory
    }

    /// Has what fuses take no more than that, or refuse pictures.
    pub(crate) fn limit_memory(&mut self, limit: Limit) {
        self.max_memory = Some(limit);
        self.fits = None;
    }

    /// Refuses pictures of a size for which there is not memory enough; they need not be read yet.
    pub(crate) fn check(&mut self, size: (usize, usize)) -> Result<()> {
        if self.fits == Some(size) {
            return Ok(());
        }
        match &mut self.means {
            Means::Network(engine) => memory::check_fits(engine, self.max_memory, size)?,
            Means::Rule(rule) => {
                memory::check_bytes(rule.bytes(size.1, size.0)?, self.max_memory, size)?;
            }
        }
        self.fits = Some(size);
        Ok(())
    }

    /// Plans a size that fits and makes what the CPU needs for it, so that a fusion has not to.
    pub(crate) fn prepare(&mut self, (width, height): (usize, usize)) -> Result<()> {
        match &mut self.means {
            Means::Network(engine) if matches!(engine.device(), Device::Cpu) => {
                engine.prepare(1, height, width)
            }
            _ => Ok(()),
        }
    }

    /// The fused brightness of two pictures of one size, in \[0, 1\], before the tone.
    pub(crate) fn luma(&mut self, a: &Picture, b: &Picture) -> Result<Vec<f32>> {
        let (width, height) = (a.width, a.height);
        self.check((width, height))?;
        match &mut self.means {
            Means::Network(engine) => engine.fuse(height, width, &a.luma, &b.luma),
            Means::Rule(rule) => rule.fuse(height, width, &a.luma, &b.luma),
        }
    }

    /// [`Fuser::luma`] of this fuser's tone; numbers all of it.
    pub(crate) fn toned_luma(&mut self, a: &Picture, b: &Picture) -> Result<Vec<f32>> {
        let mut luma = self.luma(a, b)?;
        if luma.iter().any(|v| !v.is_finite()) {
            return Err(Error::Weights(format!(
                "{} makes values that are no numbers; train it with a lower rate",
                self.name()
            )));
        }
        self.tone.apply(&mut luma)?;
        Ok(luma)
    }
}
