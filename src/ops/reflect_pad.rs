//! Mirror padding, and its undoing: a crop.

use super::registry::{Case, CaseInput};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Attribute, Graph, Operand, Value};
use crate::tape::{Band, Banded, Meta, Operator, check_inputs};
use crate::tensor::{Real, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

const NAME: &str = "reflect_pad";

/// Pads H and W by `pad` on each side with a mirror image that does not repeat the edge
/// (`dcb|abcd|cba`, PyTorch's `reflect`): `y[i] = x[|i - pad|]` and alike at the far side.
///
/// A side shorter than the pad is mirrored again and again, with period `2 (size - 1)`; one pixel is
/// repeated. `[N, H, W, C]` becomes `[N, H + 2 pad, W + 2 pad, C]`. The gradient adds up all positions
/// that show a pixel.
///
/// # Errors
/// [`Error::Shape`] if `x` has not four dimensions, or none of its pixels.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 2, 2, 1])?;
/// let y = ops::reflect_pad(&mut t, x, 1)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 2, 2, 1], vec![1.0f32, 2.0, 3.0, 4.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?[..8], [4.0, 3.0, 4.0, 3.0, 2.0, 1.0, 2.0, 1.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn reflect_pad(t: &mut Tape, x: Var, pad: usize) -> Result<Var> {
    t.record(ReflectPad { pad }, &[x])
}

/// Cuts `margin` pixels off each side: `y[i, j] = x[i + margin, j + margin]`.
///
/// `[N, H, W, C]` becomes `[N, H - 2 margin, W - 2 margin, C]`. The gradient has zeros where `x` was cut.
///
/// # Errors
/// [`Error::Shape`] if nothing is left.
///
/// ```
/// use hafuse::{ops, DType, Tape};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 5, 7, 2])?;
/// let framed = ops::reflect_pad(&mut t, x, 8)?;
/// let y = ops::crop(&mut t, framed, 8)?;                  // x again
/// assert_eq!(t.shape(y).dims(), [1, 5, 7, 2]);
/// assert!(ops::crop(&mut t, x, 3).is_err());
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn crop(t: &mut Tape, x: Var, margin: usize) -> Result<Var> {
    t.record(Crop { margin }, &[x])
}

/// Shape of the padded image.
fn padded(x: Shape, pad: usize) -> Result<Shape> {
    let [n, h, w, c] = x.dims4(NAME)?;
    if h == 0 || w == 0 {
        return Err(Error::shape(NAME, format!("{x} has no pixels to mirror")));
    }
    let larger = |side: usize| pad.checked_mul(2).and_then(|p| p.checked_add(side));
    match (larger(h), larger(w)) {
        (Some(h), Some(w)) => Shape::new(&[n, h, w, c]),
        _ => Err(Error::shape(NAME, format!("a pad of {pad} is too large"))),
    }
}

/// Shape of the image without its margin.
fn cropped(x: Shape, margin: usize) -> Result<Shape> {
    let [n, h, w, c] = x.dims4("crop")?;
    let less = |side: usize| side.checked_sub(margin.checked_mul(2)?).filter(|&s| s > 0);
    match (less(h), less(w)) {
        (Some(h), Some(w)) => Shape::new(&[n, h, w, c]),
        _ => Err(Error::shape(
            "crop",
            format!("nothing is left of {x} without {margin} pixels on each side"),
        )),
    }
}

/// `ReflectPad` and `ReflectPadGrad` of `kernels/reflect_pad.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    from: DevicePtr,
    to: DevicePtr,
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    pad: i32,
    unused: i32,
}

/// Launches `kernel`; `x` is the shape without padding.
fn launch(io: &mut CudaIo<'_>, kernel: &str, x: Shape, pad: usize) -> Result<()> {
    let [n, h, w, c] = x.padded4();
    io.int(padded(x, pad)?.len())?;
    let params = Params {
        from: io.input(0),
        to: io.output(),
        n: io.int(n)?,
        h: io.int(h)?,
        w: io.int(w)?,
        c: io.int(c)?,
        pad: io.int(pad)?,
        unused: 0,
    };
    let blocks = io.blocks_for(io.output_shape().len());
    io.launch("reflect_pad", kernel, blocks, THREADS, params)
}

#[derive(Debug)]
struct ReflectPad {
    pad: usize,
}

impl Operator for ReflectPad {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(NAME, inputs, 1..=1)?;
        Ok(Meta::new(padded(inputs[0].shape, self.pad)?, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let op = ReflectPadGrad {
            pad: self.pad,
            x: t.shape(t.inputs_of(node)[0]),
        };
        Ok(vec![Some(t.record(op, &[g])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let (x, pad) = (io.shape(0), self.pad);
        dispatch_real!(io.dtype(), NAME, T => {
            forward::<T>(x, pad, (0, 0), io.input(0)?, io.output()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        launch(io, "reflect_pad_fwd", io.shape(0), self.pad)
    }

    /// ONNX mirrors once only, so sides must be larger than the pad there.
    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let x = inputs[0].value(NAME)?;
        let pad = self.pad as i64;
        let pads = g.ints("frame", &[0, 0, pad, pad, 0, 0, pad, pad])?;
        Ok(g.node("Pad", &[x, &pads], &[("mode", Attribute::Text("reflect"))]))
    }

    fn flops(&self, _inputs: &[Meta], _output: Meta) -> u64 {
        0
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for ReflectPad {
    /// All that a band and those after it may show, so that both ends grow.
    fn reads(&self, _i: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        let [_, h, ..] = whole[0].shape.padded4();
        let pad = self.pad;
        if pad >= h {
            return 0..h;
        }
        let start = rows.start.saturating_sub(pad).min(h - 1 - pad);
        start..rows.end.saturating_sub(pad).max(pad + 1).min(h)
    }

    fn run(&self, mut io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let x: &[f32] = io.input(0)?;
        let from = (band.first[0], band.rows.start);
        forward(band.whole[0].shape, self.pad, from, x, io.output()?);
        Ok(())
    }
}

/// See [`crop`].
#[derive(Debug)]
struct Crop {
    margin: usize,
}

impl Operator for Crop {
    fn name(&self) -> &'static str {
        "crop"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs("crop", inputs, 1..=1)?;
        Ok(Meta::new(cropped(inputs[0].shape, self.margin)?, dtype))
    }

    fn vjp(&self, t: &mut Tape, _node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let margin = self.margin;
        Ok(vec![Some(t.record(ZeroPad { margin }, &[g])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let x = io.shape(0);
        dispatch_real!(io.dtype(), "crop", T => {
            cut::<T>(x, self.margin, (0, 0), io.input(0)?, io.output()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        launch(io, "crop_fwd", io.output_shape(), self.margin)
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        let x = inputs[0].value("crop")?;
        let margin = self.margin as i64;
        let starts = g.ints("frame_starts", &[margin, margin])?;
        let ends = g.ints("frame_ends", &[-margin, -margin])?;
        let axes = g.ints("frame_axes", &[2, 3])?;
        Ok(g.node("Slice", &[x, &starts, &ends, &axes], &[]))
    }

    fn flops(&self, _inputs: &[Meta], _output: Meta) -> u64 {
        0
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for Crop {
    fn reads(&self, _i: usize, _whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        rows.start + self.margin..rows.end + self.margin
    }

    fn run(&self, mut io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let x: &[f32] = io.input(0)?;
        let from = (band.first[0], band.rows.start);
        cut(band.whole[0].shape, self.margin, from, x, io.output()?);
        Ok(())
    }
}

/// The cotangent of [`crop`], surrounded by zeros.
#[derive(Debug)]
struct ZeroPad {
    margin: usize,
}

impl Operator for ZeroPad {
    fn name(&self) -> &'static str {
        "crop_dx"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 1..=1)?;
        Ok(Meta::new(padded(inputs[0].shape, self.margin)?, dtype))
    }

    fn vjp(&self, t: &mut Tape, _node: Var, u: Var) -> Result<Vec<Option<Var>>> {
        Ok(vec![Some(crop(t, u, self.margin)?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let x = io.shape(0);
        dispatch_real!(io.dtype(), "crop", T => {
            surround::<T>(x, self.margin, io.input(0)?, io.output()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        launch(io, "crop_bwd_input", io.shape(0), self.margin)
    }

    fn flops(&self, _inputs: &[Meta], _output: Meta) -> u64 {
        0
    }
}

/// The sum over all positions that show a pixel; input g.
#[derive(Debug)]
struct ReflectPadGrad {
    pad: usize,
    /// Shape of the gradient.
    x: Shape,
}

impl Operator for ReflectPadGrad {
    fn name(&self) -> &'static str {
        "reflect_pad_dx"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 1..=1)?;
        let wanted = padded(self.x, self.pad)?;
        if inputs[0].shape != wanted {
            return Err(Error::shape(
                NAME,
                format!("cotangent {} must be {wanted}", inputs[0].shape),
            ));
        }
        Ok(Meta::new(self.x, dtype))
    }

    fn vjp(&self, t: &mut Tape, _node: Var, u: Var) -> Result<Vec<Option<Var>>> {
        Ok(vec![Some(reflect_pad(t, u, self.pad)?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let (x, pad) = (self.x, self.pad);
        dispatch_real!(io.dtype(), NAME, T => {
            backward::<T>(x, pad, io.input(0)?, io.output()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        launch(io, "reflect_pad_bwd_input", self.x, self.pad)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        inputs[0].shape.len() as u64
    }
}

/// The input position shown at padded position `i`.
#[inline(always)]
pub(crate) fn mirrored(i: usize, pad: usize, size: usize) -> usize {
    if size == 1 {
        return 0;
    }
    let i = i.abs_diff(pad) % (2 * (size - 1));
    i.min(2 * (size - 1) - i)
}

/// Rows from `rows` on of the padded picture; `x` begins with picture row `first`.
fn forward<T: Real>(
    x_shape: Shape,
    pad: usize,
    (first, rows): (usize, usize),
    x: &[T],
    out: &mut [T],
) {
    let [_, h, w, c] = x_shape.padded4();
    let (ho, wo) = (h + 2 * pad, w + 2 * pad);
    for_chunks(out, wo * c, |r, row| {
        let (n, i) = ((r + rows) / ho, (r + rows) % ho);
        let x = &x[(n * h + mirrored(i, pad, h) - first) * w * c..][..w * c];
        row[pad * c..(pad + w) * c].copy_from_slice(x);
        for p in (0..pad).chain(pad + w..wo) {
            let from = mirrored(p, pad, w) * c;
            row[p * c..(p + 1) * c].copy_from_slice(&x[from..from + c]);
        }
    });
}

/// Rows from `rows` on of the cropped picture; `x` begins with picture row `first`.
fn cut<T: Real>(
    x_shape: Shape,
    margin: usize,
    (first, rows): (usize, usize),
    x: &[T],
    out: &mut [T],
) {
    let [_, h, w, c] = x_shape.padded4();
    let (ho, wo) = (h - 2 * margin, w - 2 * margin);
    for_chunks(out, wo * c, |r, row| {
        let (n, i) = ((r + rows) / ho, (r + rows) % ho);
        let from = ((n * h + i + margin - first) * w + margin) * c;
        row.copy_from_slice(&x[from..][..wo * c]);
    });
}

fn surround<T: Real>(x_shape: Shape, margin: usize, x: &[T], out: &mut [T]) {
    let [_, h, w, c] = x_shape.padded4();
    let (ho, wo) = (h + 2 * margin, w + 2 * margin);
    for_chunks(out, wo * c, |r, row| {
        let (n, i) = (r / ho, r % ho);
        row.fill(T::zero());
        if (margin..margin + h).contains(&i) {
            let x = &x[(n * h + i - margin) * w * c..][..w * c];
            row[margin * c..(margin + w) * c].copy_from_slice(x);
        }
    });
}

/// The padded positions that show pixel `i`, in two rows of equal steps.
#[inline(always)]
fn images(i: usize, pad: usize, size: usize) -> impl Iterator<Item = usize> {
    let end = size + 2 * pad;
    let period = (2 * (size - 1)).max(1);
    // Pixels at the ends of a period are their own mirror images.
    let alone = size == 1 || i == 0 || i == size - 1;
    let forth = (pad + i) % period;
    let back = if alone {
        end
    } else {
        (pad + period - i) % period
    };
    (forth..end)
        .step_by(period)
        .chain((back..end).step_by(period))
}

fn backward<T: Real>(x_shape: Shape, pad: usize, g: &[T], out: &mut [T]) {
    let [_, h, w, c] = x_shape.padded4();
    let (ho, wo) = (h + 2 * pad, w + 2 * pad);
    for_chunks(out, w * c, |r, row| {
        let (n, i) = (r / h, r % h);
        row.fill(T::zero());
        for y in images(i, pad, h) {
            let g = &g[(n * ho + y) * wo * c..][..wo * c];
            for (o, &g) in row.iter_mut().zip(&g[pad * c..]) {
                *o += g;
            }
            for p in (0..w).filter(|&p| p <= pad || w - 1 - p <= pad) {
                for x in images(p, pad, w).filter(|&x| x != p + pad) {
                    for (o, &g) in row[p * c..(p + 1) * c].iter_mut().zip(&g[x * c..]) {
                        *o += g;
                    }
                }
            }
        }
    });
}

pub(crate) fn cases() -> Vec<Case> {
    let shapes = [
        ([2, 5, 7, 3], 2),
        ([1, 2, 2, 1], 1),
        ([1, 3, 4, 9], 2),
        ([1, 1, 5, 2], 0),
        ([1, 1, 1, 1], 0),
        ([1, 4, 11, 1], 3),
        ([1, 5, 3, 8], 2),
        ([1, 3, 4, 12], 1), // 16-byte vectors in f32, not in f16
        // Mirrored more than once.
        ([1, 1, 1, 2], 3),
        ([1, 2, 3, 1], 5),
        ([1, 3, 1, 1], 7),
    ];
    let margins = [
        ([2, 5, 7, 3], 2),
        ([1, 3, 3, 8], 1),
        ([1, 2, 3, 1], 0),
        ([2, 4, 9, 12], 1),
    ];
    let crops = margins.into_iter().map(|(x, margin)| {
        let label = format!("crop {x:?} by {margin}");
        Case::new(label, Crop { margin }, vec![CaseInput::any(x)], 1)
    });
    let pads = shapes.into_iter().map(|(x, pad)| {
        let label = format!("reflect_pad {x:?} by {pad}");
        let terms = (1 + 2 * pad) * (1 + 2 * pad);
        Case::new(label, ReflectPad { pad }, vec![CaseInput::any(x)], terms)
    });
    pads.chain(crops).collect()
}
