//! A model ready to fuse pictures of any size.

use super::Model;
use crate::net::{Builder, record_fusion};
use crate::tape::{ParamStore, Session, SessionOptions, Tape};
use crate::tensor::DType;
use crate::{Error, Result};

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
    options: SessionOptions,
    session: Option<([usize; 3], Session)>,
}

impl Engine {
    pub fn new(model: &Model) -> Result<Self> {
        Self::with_options(model, SessionOptions::default())
    }

    /// [`Engine::new`] with session options, e.g. to profile.
    pub fn with_options(model: &Model, options: SessionOptions) -> Result<Self> {
        Ok(Self {
            params: model.params(DType::F32)?,
            model: model.clone(),
            options,
            session: None,
        })
    }

    pub fn model(&self) -> &Model {
        &self.model
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
        let len = n * height * width;
        for (name, found) in [("a", a.len()), ("b", b.len()), ("out", out.len())] {
            if found != len {
                return Err(Error::shape(
                    "fuse",
                    format!("`{name}` has {found} values, {n} x {height} x {width} need {len}"),
                ));
            }
        }
        let session = self.session(n, height, width)?;
        session.input_mut::<f32>("a")?.copy_from_slice(a);
        session.input_mut::<f32>("b")?.copy_from_slice(b);
        session.run()?;
        for (o, &v) in out.iter_mut().zip(session.output::<f32>("fused")?) {
            *o = v.clamp(0.0, 1.0);
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
                let mut t = Tape::new(DType::F32);
                let a = t.input("a", [n, height, width, 1])?;
                let b = t.input("b", [n, height, width, 1])?;
                let mut builder = Builder::new(&mut t);
                let fused = record_fusion(&mut builder, &self.model.genotype, a, b)?;
                t.output("fused", fused.output)?;
                Session::with_options(&t, &self.params, self.options)?
            }
        };
        Ok(&mut self.session.insert((key, session)).1)
    }
}
