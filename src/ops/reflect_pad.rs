//! Mirror padding.

use super::registry::{Case, CaseInput};
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tape::{Meta, Operator, check_inputs};
use crate::tensor::{Real, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};
use bytemuck::{Pod, Zeroable};

const NAME: &str = "reflect_pad";

/// Pads H and W by `pad` on each side with a mirror image that does not repeat the edge
/// (`dcb|abcd|cba`, PyTorch's `reflect`): `y[i] = x[|i - pad|]` and alike at the far side.
///
/// `[N, H, W, C]` becomes `[N, H + 2 pad, W + 2 pad, C]`. The gradient adds up all positions that
/// show a pixel.
///
/// # Errors
/// [`Error::Shape`] if `pad` is not smaller than both H and W.
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

/// Shape of the padded image.
fn padded(x: Shape, pad: usize) -> Result<Shape> {
    let [n, h, w, c] = x.dims4(NAME)?;
    if pad >= h.min(w) {
        return Err(Error::shape(
            NAME,
            format!("a pad of {pad} must be smaller than the height and width of {x}"),
        ));
    }
    Ok(Shape::from([n, h + 2 * pad, w + 2 * pad, c]))
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

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
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
            forward::<T>(x, pad, io.input(0)?, io.output()?);
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        launch(io, "reflect_pad_fwd", io.shape(0), self.pad)
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

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
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
fn mirrored(i: usize, pad: usize, size: usize) -> usize {
    let i = i.abs_diff(pad);
    if i < size { i } else { 2 * (size - 1) - i }
}

fn forward<T: Real>(x_shape: Shape, pad: usize, x: &[T], out: &mut [T]) {
    let [_, h, w, c] = x_shape.padded4();
    let (ho, wo) = (h + 2 * pad, w + 2 * pad);
    for_chunks(out, wo * c, |r, row| {
        let (n, i) = (r / ho, r % ho);
        let x = &x[(n * h + mirrored(i, pad, h)) * w * c..][..w * c];
        row[pad * c..(pad + w) * c].copy_from_slice(x);
        for p in (0..pad).chain(pad + w..wo) {
            let from = mirrored(p, pad, w) * c;
            row[p * c..(p + 1) * c].copy_from_slice(&x[from..from + c]);
        }
    });
}

/// The padded positions that show pixel `i`: itself and up to two mirror images.
#[inline(always)]
fn images(i: usize, pad: usize, size: usize) -> impl Iterator<Item = usize> {
    let near = (1..=pad).contains(&i).then(|| pad - i);
    let last = size - 1;
    let far = (i < last && last - i <= pad).then(|| pad + 2 * last - i);
    [Some(i + pad), near, far].into_iter().flatten()
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
                for x in images(p, pad, w).skip(1) {
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
    ];
    shapes
        .into_iter()
        .map(|(x, pad)| {
            Case::new(
                format!("reflect_pad {x:?} by {pad}"),
                ReflectPad { pad },
                vec![CaseInput::any(x)],
                1,
            )
        })
        .collect()
}
