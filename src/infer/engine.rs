//! A model ready to fuse pictures of any size.

use super::Model;
use crate::device::Device;
use crate::net::fusion_tape;
use crate::tape::{ParamStore, Session, SessionOptions};
use crate::tensor::DType;
use crate::{Error, Result};
use half::slice::HalfFloatSliceExt;

/// Element type that the network computes with; sums are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    /// Half precision storage, on CUDA only.
    F16,
}

impl Precision {
    /// What suits a device: f16 on a card, f32 on the CPU.
    pub fn default_on(device: &Device) -> Self {
        match device {
            Device::Cpu => Precision::F32,
            Device::Cuda(_) => Precision::F16,
        }
    }

    /// Whether a device computes in this precision.
    ///
    /// # Errors
    /// [`Error::Config`] for f16 on the CPU.
    pub fn check(self, device: &Device) -> Result<()> {
        match (device, self) {
            (Device::Cpu, Precision::F16) => Err(Error::config(
                "--precision",
                "f16 needs a CUDA card; use f32 on the CPU",
            )),
            _ => Ok(()),
        }
    }

    /// The dtype of tapes in this precision.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
        }
    }
}

/// Keeps the planned session of the last (batch, height, width).
///
/// ```no_run
/// use hafuse::infer::{Engine, Model};
/// let mut engine = Engine::new(&Model::builtin("ivif")?)?;
/// let (a, b) = (vec![0.2f32; 64 * 48], vec![0.7f32; 64 * 48]);
/// let fused = engine.fuse(48, 64, &a, &b)?;
/// assert_eq!(fused.len(), 64 * 48);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub struct Engine {
    model: Model,
    params: ParamStore,
    precision: Precision,
    options: SessionOptions,
    session: Option<([usize; 3], Session)>,
}

impl Engine {
    /// On the CPU, in f32.
    pub fn new(model: &Model) -> Result<Self> {
        let options = SessionOptions::default();
        Self::on(&Device::Cpu, Precision::F32, model, options)
    }

    /// On a device, with session options (e.g. to profile).
    ///
    /// # Errors
    /// [`Error::Config`] for f16 on the CPU; [`Error::Device`] if the card lacks memory.
    pub fn on(
        device: &Device,
        precision: Precision,
        model: &Model,
        options: SessionOptions,
    ) -> Result<Self> {
        precision.check(device)?;
        Ok(Self {
            params: model.params_on(device, precision.dtype())?,
            model: model.clone(),
            precision,
            options,
            session: None,
        })
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub fn device(&self) -> &Device {
        self.params.device()
    }

    /// Fuses two grey pictures in [0, 1], row-major. The result is clamped to [0, 1].
    ///
    /// # Errors
    /// [`Error::Shape`] if a slice does not hold `height * width` values.
    pub fn fuse(&mut self, height: usize, width: usize, a: &[f32], b: &[f32]) -> Result<Vec<f32>> {
        let mut out = vec![0.0; height * width];
        self.fuse_batch(1, height, width, a, b, &mut out)?;
        Ok(out)
    }

    /// Fuses `n` pairs of one size, stacked.
    pub fn fuse_batch(
        &mut self,
        n: usize,
        height: usize,
        width: usize,
        a: &[f32],
        b: &[f32],
        out: &mut [f32],
    ) -> Result<()> {
        self.start(n, height, width, a, b)?;
        self.finish(out)
    }

    /// Begins a fusion: on a card it computes while the caller does something else; [`Engine::finish`]
    /// gives the result.
    ///
    /// # Errors
    /// [`Error::Shape`] if a slice does not hold `n * height * width` values.
    pub fn start(
        &mut self,
        n: usize,
        height: usize,
        width: usize,
        a: &[f32],
        b: &[f32],
    ) -> Result<()> {
        let len = n * height * width;
        for (name, found) in [("a", a.len()), ("b", b.len())] {
            if found != len {
                return Err(Error::shape(
                    "fuse",
                    format!("`{name}` has {found} values, {n} x {height} x {width} need {len}"),
                ));
            }
        }
        let precision = self.precision;
        let session = self.session(n, height, width)?;
        for (name, values) in [("a", a), ("b", b)] {
            match precision {
                Precision::F32 => session.input_mut::<f32>(name)?.copy_from_slice(values),
                Precision::F16 => session
                    .input_mut::<half::f16>(name)?
                    .convert_from_f32_slice(values),
            }
        }
        session.start()
    }

    /// The result of the fusion that was begun last, clamped to [0, 1].
    ///
    /// # Errors
    /// [`Error::Shape`] if `out` has another length than its inputs; [`Error::Tape`] if none was begun.
    pub fn finish(&mut self, out: &mut [f32]) -> Result<()> {
        let Some((key, session)) = &mut self.session else {
            return Err(Error::Tape(
                "no fusion was begun; call `start` first".into(),
            ));
        };
        let len: usize = key.iter().product();
        if out.len() != len {
            return Err(Error::shape(
                "fuse",
                format!("`out` has {} values, the pictures have {len}", out.len()),
            ));
        }
        session.finish()?;
        match self.precision {
            Precision::F32 => out.copy_from_slice(session.output("fused")?),
            Precision::F16 => session
                .output::<half::f16>("fused")?
                .convert_to_f32_slice(out),
        }
        for v in out {
            *v = v.clamp(0.0, 1.0);
        }
        Ok(())
    }

    /// The session for this size, planned if it is not the last one's.
    pub fn session(&mut self, n: usize, height: usize, width: usize) -> Result<&mut Session> {
        let key = [n, height, width];
        let session = match self.session.take() {
            Some((k, session)) if k == key => session,
            // The old arena is freed before the new one is made.
            old => {
                drop(old);
                let t = fusion_tape(&self.model.genotype, key, self.precision.dtype())?;
                Session::with_options(&t, &self.params, self.options)?
            }
        };
        Ok(&mut self.session.insert((key, session)).1)
    }
}
