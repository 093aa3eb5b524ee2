//! A model ready to fuse pictures of any size.

use super::Model;
use crate::device::Device;
use crate::net::{Part, tape_of_part};
use crate::tape::{BandSession, NodeReport, ParamStore, Replay, Session, SessionOptions, Tape};
use crate::tensor::DType;
use crate::{Error, Result};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Element type that the network computes with; sums are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Single precision storage, on every device.
    F32,
    /// Half precision storage, on CUDA only.
    F16,
}

impl Precision {
    /// What suits a device: f16 on a card with tensor cores. On others f16 takes more instructions than f32.
    pub fn default_on(device: &Device) -> Self {
        match device {
            Device::Cuda(cuda) if cuda.card().tensor_cores() => Precision::F16,
            _ => Precision::F32,
        }
    }

    /// Whether a device computes in this precision.
    ///
    /// # Errors
    /// [`Error::Config`] for f16 on the CPU.
    pub fn check(self, device: &Device) -> Result<()> {
        match (device, self) {
            (Device::Cpu, Precision::F16) => Err(Error::config(
                "precision",
                "f16 needs a CUDA card; use f32 on the CPU",
            )),
            _ => Ok(()),
        }
    }

    /// This precision on a device, for people: `cpu in f32`.
    pub fn place(self, device: &Device) -> String {
        let without = match device {
            Device::Cuda(cuda) if !cuda.card().tensor_cores() => " (no tensor cores)",
            _ => "",
        };
        format!("{device} in {}{without}", self.dtype())
    }

    /// The dtype of tapes in this precision.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
        }
    }
}

/// Keeps what was planned for the last (batch, height, width).
///
/// On the CPU a network runs in bands of rows wherever it can ([`BandSession`]), one picture of a batch after the
/// other; on a card all of it at once.
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
    max_memory: usize,
    part: Part,
    plan: Option<([usize; 3], Plan)>,
    /// The last result of a [`Plan::Bands`].
    result: Vec<f32>,
}

/// How pictures of one size are fused.
enum Plan {
    /// All nodes one after the other on whole pictures.
    Whole(Box<Session>),
    /// On the CPU, each some of the pairs.
    Bands(Vec<BandSession>),
}

/// Rows of a band: few enough that its values stay in a cache, unless the pictures are wide, and enough to keep the
/// threads of a small machine busy.
const BAND_ROWS: usize = 36;

/// What an engine holds in memory for pictures of one size, beside the pictures themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Whole {
        bytes: usize,
    },
    /// As many pairs as fit at a time, in all `bytes`.
    Bands {
        rows: usize,
        pairs: usize,
        bytes: usize,
    },
}

/// The fastest way on the CPU to fuse `n` pairs that holds at most `most` bytes; the smallest one if none does. `tape`
/// is that of one pair, `all` that of `n`.
fn choose(tape: &Tape, n: usize, all: &Tape, most: usize) -> Choice {
    let bands = |rows| {
        let each = BandSession::planned_bytes(tape, rows)?;
        // Threads get in each other's way less on pictures of their own than on rows of one.
        let wanted = n.min(rayon::current_num_threads());
        let pairs = (most / each.max(1)).clamp(1, wanted.max(1));
        let bytes = pairs * each;
        Some(Choice::Bands { rows, pairs, bytes })
    };
    let whole = Choice::Whole {
        bytes: Session::planned_bytes(all),
    };
    // A second pass over the picture costs more than bands save.
    let first = (BandSession::passes_of(tape) != Some(1)).then_some(whole);
    let rows = std::iter::successors(Some(BAND_ROWS), |r| (*r > 1).then_some(r / 2));
    let mut least = whole;
    for choice in first.into_iter().chain(rows.filter_map(bands)) {
        if choice.bytes() <= most {
            return choice;
        }
        if choice.bytes() < least.bytes() {
            least = choice;
        }
    }
    least
}

impl Choice {
    fn bytes(self) -> usize {
        match self {
            Choice::Whole { bytes } | Choice::Bands { bytes, .. } => bytes,
        }
    }
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
            max_memory: usize::MAX,
            part: Part::Whole,
            plan: None,
            result: Vec::new(),
        })
    }

    /// Holds at most `bytes` beside the pictures themselves, by thinner bands of rows if need be; on the CPU only.
    /// A picture that needs more is an [`Error::Config`] when it is begun.
    pub fn limit_memory(&mut self, bytes: usize) {
        self.max_memory = bytes;
        self.plan = None;
    }

    /// Fuses with a part of the network from now on, to see what the rest of it adds; [`Part::Whole`] at first.
    pub fn set_part(&mut self, part: Part) {
        self.part = part;
        self.plan = None;
    }

    /// Genotype and weights that it fuses with.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Element type that the network computes with.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Where the network runs.
    pub fn device(&self) -> &Device {
        self.params.device()
    }

    /// Fuses two grey pictures in [0, 1], row-major. The result is clamped to [0, 1].
    ///
    /// # Errors
    /// [`Error::Shape`] if a slice does not hold `height * width` values.
    pub fn fuse(&mut self, height: usize, width: usize, a: &[f32], b: &[f32]) -> Result<Vec<f32>> {
        self.start(1, height, width, a, b)?;
        self.finish_vec(height * width)
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
        let pixels = height * width;
        for (name, found) in [("a", a.len()), ("b", b.len())] {
            if found != n * pixels {
                return Err(Error::shape(
                    "fuse",
                    format!(
                        "`{name}` has {found} values, {n} x {height} x {width} need {}",
                        n * pixels
                    ),
                ));
            }
        }
        let precision = self.precision;
        let mut result = std::mem::take(&mut self.result);
        match self.plan(n, height, width)? {
            Plan::Whole(session) => {
                for (name, values) in [("a", a), ("b", b)] {
                    match precision {
                        Precision::F32 => session.input_mut::<f32>(name)?.copy_from_slice(values),
                        Precision::F16 => session
                            .input_mut::<half::f16>(name)?
                            .convert_from_f32_slice(values),
                    }
                }
                session.start()?;
            }
            Plan::Bands(sessions) => {
                result.resize(n * pixels, 0.0);
                let share = (n.div_ceil(sessions.len()) * pixels).max(1);
                let pairs = a.par_chunks(share).zip(b.par_chunks(share));
                let pairs = pairs.zip(result.par_chunks_mut(share));
                let work = pairs.zip(sessions.par_iter_mut());
                work.try_for_each(|(((a, b), out), session)| {
                    let pairs = a.chunks_exact(pixels).zip(b.chunks_exact(pixels));
                    let mut pairs = pairs.zip(out.chunks_exact_mut(pixels));
                    pairs.try_for_each(|((a, b), out)| session.run(&[("a", a), ("b", b)], out))
                })?;
            }
        }
        self.result = result;
        Ok(())
    }

    /// The result of the fusion that was begun last, clamped to [0, 1].
    ///
    /// # Errors
    /// [`Error::Shape`] if `out` has another length than its inputs; [`Error::Tape`] if none was begun.
    pub fn finish(&mut self, out: &mut [f32]) -> Result<()> {
        let Some((key, plan)) = &mut self.plan else {
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
        match (plan, self.precision) {
            (Plan::Bands(_), _) if self.result.len() != len => {
                return Err(Error::Tape("the result was taken already".into()));
            }
            (Plan::Bands(_), _) => out.copy_from_slice(&self.result),
            (Plan::Whole(session), Precision::F32) => {
                session.finish()?;
                out.copy_from_slice(session.output("fused")?);
            }
            (Plan::Whole(session), Precision::F16) => {
                session.finish()?;
                session
                    .output::<half::f16>("fused")?
                    .convert_to_f32_slice(out);
            }
        }
        for v in out {
            *v = v.clamp(0.0, 1.0);
        }
        Ok(())
    }

    /// [`Engine::finish`] into memory of its own.
    fn finish_vec(&mut self, len: usize) -> Result<Vec<f32>> {
        if !matches!(self.plan, Some((_, Plan::Bands(_)))) || self.result.len() != len {
            let mut out = vec![0.0; len];
            self.finish(&mut out)?;
            return Ok(out);
        }
        let mut out = std::mem::take(&mut self.result);
        out.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        Ok(out)
    }

    /// Bytes held for pictures of this size beside the pictures themselves.
    pub fn arena_bytes(&mut self, n: usize, height: usize, width: usize) -> Result<usize> {
        Ok(match self.plan(n, height, width)? {
            Plan::Whole(session) => session.arena_bytes(),
            Plan::Bands(sessions) => sessions.iter().map(BandSession::bytes).sum(),
        })
    }

    /// Every node with its cost and its time in the last run of this size, as far as it was measured.
    pub fn report(&mut self, n: usize, height: usize, width: usize) -> Result<Vec<NodeReport>> {
        Ok(match self.plan(n, height, width)? {
            Plan::Whole(session) => session.report(),
            // The first took the first pairs.
            Plan::Bands(sessions) => sessions.first().map_or(Vec::new(), BandSession::report),
        })
    }

    /// The fusion of `n` pictures of this size that a card did last, to be replayed without the host: what the card itself
    /// takes.
    ///
    /// # Errors
    /// As [`Replay::new`]; there is none on the CPU.
    pub fn replay(&mut self, n: usize, height: usize, width: usize) -> Result<Replay<'_>> {
        let sessions = match self.plan(n, height, width)? {
            Plan::Whole(session) => std::slice::from_mut(&mut **session),
            Plan::Bands(_) => &mut [],
        };
        Replay::new(sessions, 1)
    }

    /// Bytes that [`Engine::arena_bytes`] would give, without allocating them. More than
    /// [`Engine::limit_memory`] allows means that nothing smaller will do.
    pub fn planned_bytes(&self, n: usize, height: usize, width: usize) -> Result<usize> {
        let all = self.tape(n, height, width)?;
        match self.device() {
            Device::Cuda(_) => Ok(Session::planned_bytes(&all)),
            Device::Cpu => {
                let one = self.tape_of_one(&all, [n, height, width])?;
                Ok(choose(&one, n, &all, self.max_memory).bytes())
            }
        }
    }

    fn tape(&self, n: usize, height: usize, width: usize) -> Result<Tape> {
        let size = [n, height, width];
        let dtype = self.precision.dtype();
        tape_of_part(&self.model.genotype, self.part, size, dtype)
    }

    /// The tape of one pair of the `n` of `all`; bands take one at a time.
    fn tape_of_one(&self, all: &Tape, [n, height, width]: [usize; 3]) -> Result<Tape> {
        match n {
            1 => Ok(all.clone()),
            _ => self.tape(1, height, width),
        }
    }

    /// Plans for pictures of a size and makes what their fusion needs beside them. The first fusion of a size does so by itself.
    ///
    /// # Errors
    /// As [`Engine::start`] for the size.
    pub fn prepare(&mut self, n: usize, height: usize, width: usize) -> Result<()> {
        self.plan(n, height, width).map(|_| ())
    }

    /// The plan for this size, made if it is not the last one's.
    fn plan(&mut self, n: usize, height: usize, width: usize) -> Result<&mut Plan> {
        let key = [n, height, width];
        let plan = match self.plan.take() {
            Some((k, plan)) if k == key => plan,
            // The old memory is freed before the new one is taken.
            old => {
                drop(old);
                self.make(key)?
            }
        };
        Ok(&mut self.plan.insert((key, plan)).1)
    }

    fn make(&self, [n, height, width]: [usize; 3]) -> Result<Plan> {
        let all = self.tape(n, height, width)?;
        if matches!(self.device(), Device::Cpu) && !self.options.needs_whole() {
            let one = self.tape_of_one(&all, [n, height, width])?;
            let choice = choose(&one, n, &all, self.max_memory);
            if choice.bytes() > self.max_memory {
                return Err(Error::config(
                    "memory",
                    format!(
                        "fusing {width} x {height} needs {} bytes beside the pictures, {} are allowed",
                        choice.bytes(),
                        self.max_memory
                    ),
                ));
            }
            if let Choice::Bands { rows, pairs, .. } = choice {
                let session = |_| BandSession::new(&one, &self.params, rows);
                return Ok(Plan::Bands((0..pairs).map(session).collect::<Result<_>>()?));
            }
        }
        let session = Session::with_options(&all, &self.params, self.options)?;
        Ok(Plan::Whole(Box::new(session)))
    }
}
