//! Guided filter.

mod cpu;
mod onnx;
mod slide;
mod stream;

use self::cpu::{Filter, backward};
use self::stream::Part;
use super::registry::{Case, CaseInput, Fill};
use super::window::{Reach, TileSizes, TilingParams, WindowParams};
use crate::device::cpu::CpuIo;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Graph, Operand, Value};
use crate::tape::{Band, Banded, Meta, Operator, check_inputs};
use crate::tensor::Shape;
use crate::{Error, Result, Tape, Var, dispatch_real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

const NAME: &str = "guided_filter";

/// Guided filter with a grey guide I (He, Sun, Tang, TPAMI 2013), for each channel of x:
///
/// `q = mean(a) I + mean(b)` with `a = cov(I, x) / (var(I) + eps)` and `b = mean(x) - a mean(I)`,
///
/// means over windows of `2 radius + 1` squared, cut at the borders. `guide` is `[N, H, W, 1]`, `x`
/// is `[N, H, W, C]`, so is the result. Everything between input and output is f64 on the CPU, also
/// for f32 data: `var(I) = mean(I^2) - mean(I)^2` would lose most digits of a smooth region in f32.
/// On CUDA it is f32, with moments about a value of the window itself. With values in [0, 1] an eps
/// down to 1e-10 is safe on both.
///
/// Differentiable once, in guide and x. Time on the CPU does not depend on `radius`; on CUDA it grows with it, as does that
/// of the gradients, on CUDA with its square.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit; [`Error::Config`] unless `eps > 0`.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 1, 3, 1])?;
/// let q = ops::guided_filter(&mut t, x, x, 1, 1e-9)?;   // guided by itself: keeps edges
/// t.output("q", q)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 1, 3, 1], vec![0.0f32, 0.0, 1.0])?)?;
/// s.run()?;
/// assert!((s.output::<f32>("q")?[2] - 1.0).abs() < 1e-6);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn guided_filter(t: &mut Tape, guide: Var, x: Var, radius: usize, eps: f64) -> Result<Var> {
    if !(eps > 0.0 && eps.is_finite()) {
        return Err(Error::config(
            NAME,
            format!("eps {eps} must be above 0, e.g. 1e-3"),
        ));
    }
    let naive = false;
    t.record(GuidedFilter { radius, eps, naive }, &[guide, x])
}

fn check(guide: Shape, x: Shape) -> Result<()> {
    let [n, h, w, _] = x.dims4(NAME)?;
    if guide != Shape::from([n, h, w, 1]) {
        return Err(Error::shape(
            NAME,
            format!("x {x} needs a guide [{n}, {h}, {w}, 1], found {guide}"),
        ));
    }
    Ok(())
}

/// Inputs guide, x.
#[derive(Debug)]
struct GuidedFilter {
    radius: usize,
    eps: f64,
    /// On CUDA, every window by itself.
    naive: bool,
}

/// `Guided` of `kernels/guided.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct GuidedParams {
    guide: DevicePtr,
    x: DevicePtr,
    y: DevicePtr,
    slope: DevicePtr,
    value: DevicePtr,
    rows: DevicePtr,
    window: WindowParams,
    lines: TilingParams,
    apply: TilingParams,
    eps: f32,
    padding: i32,
}

/// `LINES_POOL` and `APPLY_POOL` of `kernels/guided.cu`.
const LINES_POOL: usize = 4800;
const APPLY_POOL: usize = 6720;

/// Floats of shared memory: guide and x with their surroundings, and two moments of their rows.
fn lines_floats(t: TileSizes) -> usize {
    (1 + t.channels) * t.height * (t.width + 2 * t.side)
}

/// Floats of shared memory: the guide, slopes and values, and the sums of their rows.
fn apply_floats(t: TileSizes) -> usize {
    t.height * ((1 + 2 * t.channels) * t.width + 2 * t.channels * t.side)
}

/// An eps that is positive in f32 too.
fn eps_f32(eps: f64) -> f32 {
    (eps as f32).max(f32::MIN_POSITIVE)
}

impl Operator for GuidedFilter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(NAME, inputs, 2..=2)?;
        check(inputs[0].shape, inputs[1].shape)?;
        Ok(inputs[1])
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let (guide, x) = (t.inputs_of(node)[0], t.inputs_of(node)[1]);
        let mut grad = |wrt| {
            let (radius, eps) = (self.radius, self.eps);
            t.record(GuidedFilterGrad { radius, eps, wrt }, &[guide, x, g])
        };
        Ok(vec![Some(grad(Wrt::Guide)?), Some(grad(Wrt::X)?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let f = Filter::new(io.shape(1), self.radius, self.eps);
        dispatch_real!(io.dtype(), NAME, T => {
            let (scratch, out) = (io.scratch()?, io.output::<T>()?);
            let part = Part::whole(f.shape[1]);
            stream::forward(&f, &part, (io.input(0)?, io.input(1)?), scratch, out);
            Ok(())
        })
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        onnx::write(self, g, inputs[0].value(NAME)?, inputs[1].value(NAME)?)
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let shape = io.shape(1);
        let reach = Reach::new(shape.padded4(), self.radius);
        let maps = 4 * shape.len();
        let scratch = io.scratch().0;
        // Scratch: two maps of lines, then whatever wide windows need for rows.
        io.int(2 * (shape.len() + shape.len() / shape.padded4()[3]))?;
        let tilings = reach
            .tiling(LINES_POOL, lines_floats)
            .zip(reach.tiling(APPLY_POOL, apply_floats));
        let (lines, apply) = match tilings {
            Some((lines, apply)) => (lines.params(io)?, apply.params(io)?),
            None => (TilingParams::zeroed(), TilingParams::zeroed()),
        };
        let params = GuidedParams {
            guide: io.input(0),
            x: io.input(1),
            y: io.output(),
            slope: scratch,
            value: scratch.offset(maps),
            rows: scratch.offset(2 * maps),
            window: reach.params(io)?,
            lines,
            apply,
            eps: eps_f32(self.eps),
            padding: 0,
        };
        let blocks = io.blocks_for(shape.len());
        let mut launch = |kernel, blocks| io.launch("guided", kernel, blocks, THREADS, params);
        match tilings {
            _ if self.naive => {
                launch("guided_filter_naive_lines_fwd", blocks)?;
                launch("guided_filter_naive_apply_fwd", blocks)
            }
            Some((lines, apply)) => {
                launch("guided_filter_lines_fwd", lines.blocks())?;
                launch("guided_filter_apply_fwd", apply.blocks())
            }
            None => {
                launch("guided_filter_wide_row_moments_fwd", blocks)?;
                launch("guided_filter_wide_lines_fwd", blocks)?;
                launch("guided_filter_wide_row_lines_fwd", blocks)?;
                launch("guided_filter_wide_apply_fwd", blocks)
            }
        }
    }

    fn cuda_workspace(&self, inputs: &[Meta], output: Meta) -> usize {
        let reach = Reach::new(output.shape.padded4(), self.radius);
        let tiled = self.naive || reach.tiling(LINES_POOL, lines_floats).is_some();
        let rows = if tiled {
            0
        } else {
            2 * (output.shape.len() + inputs[0].shape.len())
        };
        4 * (2 * output.shape.len() + rows)
    }

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        flops(self.radius, output.shape, 2)
    }

    fn workspace(&self, _inputs: &[Meta], output: Meta) -> usize {
        let f = Filter::new(output.shape, self.radius, self.eps);
        stream::scratch_len(&f, f.shape[1]) * size_of::<f64>()
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for GuidedFilter {
    /// A window of lines, each of which has a window of pixels.
    fn reads(&self, _: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        let height = whole[1].shape.padded4()[1];
        let reach = self.radius.saturating_mul(2);
        rows.start.saturating_sub(reach)..rows.end.saturating_add(reach).min(height)
    }

    fn scratch(&self, inputs: &[Meta], output: Meta) -> usize {
        let f = Filter::new(inputs[1].shape, self.radius, self.eps);
        stream::scratch_len(&f, output.shape.padded4()[1]) * size_of::<f64>()
    }

    fn run(&self, mut io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let f = Filter::new(io.shape(1), self.radius, self.eps);
        let part = Part {
            rows: band.rows.clone(),
            first: band.first[1],
            here: f.shape[1],
            height: band.whole[1].shape.padded4()[1],
        };
        let (guide, x) = (io.input::<f32>(0)?, io.input::<f32>(1)?);
        stream::forward(&f, &part, (guide, x), io.scratch()?, io.output()?);
        Ok(())
    }
}

/// Operations of some box filters over all maps, the main part of the work.
fn flops(radius: usize, x: Shape, passes: u64) -> u64 {
    let [_, h, w, c] = x.padded4();
    let side = |size: usize| radius.saturating_mul(2).saturating_add(1).min(size);
    passes * (2 + 2 * c) as u64 * ((side(h) + side(w)) * (x.len() / c)) as u64
}

#[derive(Clone, Copy, Debug)]
enum Wrt {
    Guide,
    X,
}

/// `GuidedGrad` of `kernels/guided.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct GuidedGradParams {
    guide: DevicePtr,
    x: DevicePtr,
    g: DevicePtr,
    dx: DevicePtr,
    dguide: DevicePtr,
    slope: DevicePtr,
    mean_x: DevicePtr,
    dmean: DevicePtr,
    dcov: DevicePtr,
    parts: DevicePtr,
    mean_i: DevicePtr,
    window: WindowParams,
    eps: f32,
    padding: i32,
}

/// Gradient in one input, in closed form; inputs guide, x, g.
#[derive(Debug)]
struct GuidedFilterGrad {
    radius: usize,
    eps: f64,
    wrt: Wrt,
}

impl Operator for GuidedFilterGrad {
    fn name(&self) -> &'static str {
        match self.wrt {
            Wrt::Guide => "guided_filter_dguide",
            Wrt::X => "guided_filter_dx",
        }
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        check_inputs(self.name(), inputs, 3..=3)?;
        check(inputs[0].shape, inputs[1].shape)?;
        if inputs[2].shape != inputs[1].shape {
            return Err(Error::shape(
                NAME,
                format!("cotangent {} must be {}", inputs[2].shape, inputs[1].shape),
            ));
        }
        Ok(match self.wrt {
            Wrt::Guide => inputs[0],
            Wrt::X => inputs[1],
        })
    }

    fn vjp(&self, _t: &mut Tape, _node: Var, _u: Var) -> Result<Vec<Option<Var>>> {
        Err(Error::NotDifferentiable {
            op: self.name(),
            detail: "second derivative of the guided filter".into(),
        })
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let f = Filter::new(io.shape(1), self.radius, self.eps);
        dispatch_real!(io.dtype(), NAME, T => {
            let (scratch, out) = (io.scratch()?, io.output::<T>()?);
            let (guide, x, g) = (io.input(0)?, io.input(1)?, io.input(2)?);
            backward(f, self.wrt, guide, x, g, scratch, out);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let shape = io.shape(1);
        let (n, pixels) = (shape.len(), io.shape(0).len());
        let reach = Reach::new(shape.padded4(), self.radius);
        let scratch = io.scratch().0;
        let map = |i: usize| scratch.offset(4 * n * i);
        let (dx, dguide) = match self.wrt {
            Wrt::X => (io.output(), DevicePtr::NULL),
            Wrt::Guide => (DevicePtr::NULL, io.output()),
        };
        let params = GuidedGradParams {
            guide: io.input(0),
            x: io.input(1),
            g: io.input(2),
            dx,
            dguide,
            slope: map(0),
            mean_x: map(1),
            dmean: map(2),
            dcov: map(3),
            parts: map(4),
            mean_i: map(5),
            window: reach.params(io)?,
            eps: eps_f32(self.eps),
            padding: 0,
        };
        let (blocks, pixel_blocks) = (io.blocks_for(n), io.blocks_for(pixels));
        let mut launch = |kernel, blocks| io.launch("guided", kernel, blocks, THREADS, params);
        launch("guided_filter_bwd_lines", blocks)?;
        match self.wrt {
            Wrt::X => launch("guided_filter_bwd_x", blocks),
            Wrt::Guide => {
                launch("guided_filter_bwd_guide_parts", blocks)?;
                launch("guided_filter_bwd_guide", pixel_blocks)
            }
        }
    }

    fn cuda_workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        4 * (5 * inputs[1].shape.len() + inputs[0].shape.len())
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        flops(self.radius, inputs[1].shape, 4)
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let f = Filter::new(inputs[1].shape, self.radius, self.eps);
        let maps = (2 * f.moments() + 3 * f.c) * f.pixels;
        (maps + f.box_scratch()) * size_of::<f64>()
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let shapes = [
        ([2, 5, 7, 1], 1, 0.1),
        ([1, 5, 6, 3], 2, 0.05),
        ([1, 3, 19, 1], 4, 0.1),
        ([1, 1, 11, 2], 2, 0.1),
        ([1, 11, 1, 1], 1, 0.1),
        ([1, 1, 1, 3], 2, 0.1),
        ([1, 3, 4, 11], 1, 0.1),
        // Several tiles and blocks of channels, with remainders.
        ([1, 18, 19, 32], 4, 0.1),
        ([2, 17, 9, 11], 8, 0.1),
        ([1, 35, 18, 1], 3, 0.1),
        // Windows too wide for a tile.
        ([1, 21, 4, 3], 9, 0.1),
        ([1, 12, 13, 2], usize::MAX, 0.1),
    ];
    let mut out = Vec::new();
    let mut add = |x: [usize; 4], guide: Fill, radius: usize, eps: f64, naive: bool| {
        let [n, h, w, _] = x;
        let kind = if naive { ", naive" } else { "" };
        out.push(Case::new(
            format!("guided_filter {x:?} radius {radius} eps {eps}{kind}"),
            GuidedFilter { radius, eps, naive },
            vec![CaseInput::new([n, h, w, 1], guide), CaseInput::any(x)],
            (radius.min(h) * 2 + 1) * (radius.min(w) * 2 + 1),
        ));
    };
    for (i, (x, radius, eps)) in shapes.into_iter().enumerate() {
        add(x, Fill::Uniform(-1.0, 1.0), radius, eps, false);
        if i < 7 {
            add(x, Fill::Uniform(-1.0, 1.0), radius, eps, true);
        }
    }
    // Bright and smooth: the mean of squares and the squared mean agree in all digits of f32.
    let bright = Fill::Uniform(0.9, 0.901);
    add([1, 33, 37, 1], bright, 4, 1e-4, false);
    add([1, 33, 37, 1], bright, 4, 1e-4, true);
    add([1, 33, 37, 3], bright, 10, 1e-4, false);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_into_shared_memory() {
        use crate::ops::window::tests::check_pool;
        check_pool(LINES_POOL, lines_floats);
        check_pool(APPLY_POOL, apply_floats);
    }
}
