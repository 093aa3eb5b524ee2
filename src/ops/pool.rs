//! Max pooling.

use super::registry::{Case, CaseInput, Fill};
use super::window::Sizes;
use crate::device::cpu::{CpuIo, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::device::simd::simd_fn;
use crate::tape::{Meta, Operator, check_inputs};
use crate::tensor::{Real, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};
use bytemuck::{Pod, Zeroable};

const NAME: &str = "max_pool2d";

/// Maximum of 2x2 windows with stride 2 in ceil mode: at odd sizes the last window is cut.
///
/// `[N, H, W, C]` becomes `[N, ceil(H / 2), ceil(W / 2), C]`; NaN wins. The gradient goes to the
/// first maximum of a window in row-major order; there is no second derivative.
///
/// # Errors
/// [`Error::Shape`] if `x` does not have four dimensions.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 2, 3, 1])?;
/// let y = ops::max_pool2d(&mut t, x)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 2, 3, 1], vec![1.0f32, 2.0, 6.0, 4.0, 3.0, 5.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [4.0, 6.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn max_pool2d(t: &mut Tape, x: Var) -> Result<Var> {
    t.record(MaxPool2d, &[x])
}

fn pooled(x: Shape) -> Result<Shape> {
    let [n, h, w, c] = x.dims4(NAME)?;
    Ok(Shape::from([n, h.div_ceil(2), w.div_ceil(2), c]))
}

/// `Pool` of `kernels/pool.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct PoolParams {
    x: DevicePtr,
    y: DevicePtr,
    sizes: Sizes,
}

/// `PoolGrad` of `kernels/pool.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct PoolGradParams {
    x: DevicePtr,
    y: DevicePtr,
    g: DevicePtr,
    dx: DevicePtr,
    sizes: Sizes,
}

fn sizes(io: &CudaIo<'_>) -> Result<Sizes> {
    let [n, h, w, c] = io.shape(0).padded4();
    Sizes::new(io, [n, h, w, c], (h.div_ceil(2), w.div_ceil(2)))
}

#[derive(Debug)]
struct MaxPool2d;

impl Operator for MaxPool2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(NAME, inputs, 1..=1)?;
        Ok(Meta::new(pooled(inputs[0].shape)?, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let x = t.inputs_of(node)[0];
        Ok(vec![Some(t.record(MaxPool2dGrad, &[x, node, g])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let [_, h, w, c] = io.shape(0).padded4();
        dispatch_real!(io.dtype(), NAME, T => {
            let (x, out) = (io.input::<T>(0)?, io.output::<T>()?);
            let ho = h.div_ceil(2);
            for_chunks(out, w.div_ceil(2) * c, |r, row| {
                let (n, o) = (r / ho, r % ho);
                // The cut window at the bottom reads its only row twice: the maximum is the same.
                let top = &x[(n * h + 2 * o) * w * c..][..w * c];
                let bottom = &x[(n * h + (2 * o + 1).min(h - 1)) * w * c..][..w * c];
                max_row(c, top, bottom, row);
            });
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let params = PoolParams {
            x: io.input(0),
            y: io.output(),
            sizes: sizes(io)?,
        };
        let blocks = io.blocks_for(io.output_shape().len());
        io.launch("pool", "max_pool2d_fwd", blocks, THREADS, params)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        inputs[0].shape.len() as u64
    }
}

/// NaN wins, as in PyTorch.
#[inline(always)]
fn larger<T: Real>(m: T, v: T) -> T {
    if v > m || v.is_nan() { v } else { m }
}

simd_fn! {
    fn max_row<T>(c: usize, top: &[T], bottom: &[T], out: &mut [T]) {
        let pairs = top.chunks(2 * c).zip(bottom.chunks(2 * c));
        for (out, (top, bottom)) in out.chunks_mut(c).zip(pairs) {
            // The cut window at the right is one pixel wide.
            let right = top.len() - c;
            let (a, b) = (&top[..c], &top[right..][..c]);
            let (d, e) = (&bottom[..c], &bottom[right..][..c]);
            for i in 0..c {
                out[i] = larger(larger(a[i], b[i]), larger(d[i], e[i]));
            }
        }
    }
}

/// `dx = g` at the first maximum of each window, else 0; inputs x, y, g.
#[derive(Debug)]
struct MaxPool2dGrad;

impl Operator for MaxPool2dGrad {
    fn name(&self) -> &'static str {
        "max_pool2d_dx"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 3..=3)?;
        let wanted = pooled(inputs[0].shape)?;
        if inputs[1].shape != wanted || inputs[2].shape != wanted {
            return Err(Error::shape(
                NAME,
                format!("cotangent {} must be {wanted}", inputs[2].shape),
            ));
        }
        Ok(Meta::new(inputs[0].shape, dtype))
    }

    fn vjp(&self, _t: &mut Tape, _node: Var, _u: Var) -> Result<Vec<Option<Var>>> {
        Err(Error::NotDifferentiable {
            op: self.name(),
            detail: "second derivative of a maximum".into(),
        })
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        let [_, h, w, c] = io.shape(0).padded4();
        dispatch_real!(io.dtype(), NAME, T => {
            let (x, y, g) = (io.input::<T>(0)?, io.input::<T>(1)?, io.input::<T>(2)?);
            let (ho, y_row) = (h.div_ceil(2), w.div_ceil(2) * c);
            for_chunks(io.output::<T>()?, w * c, |r, row| {
                let (n, i) = (r / h, r % h);
                let at = (n * ho + i / 2) * y_row;
                let (y, g) = (&y[at..at + y_row], &g[at..at + y_row]);
                // In the second row of a window the first one has precedence.
                let above = (i % 2 == 1).then(|| &x[(r - 1) * w * c..r * w * c]);
                grad_row(c, above, &x[r * w * c..(r + 1) * w * c], y, g, row);
            });
            Ok(())
        })
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let params = PoolGradParams {
            x: io.input(0),
            y: io.input(1),
            g: io.input(2),
            dx: io.output(),
            sizes: sizes(io)?,
        };
        // One thread for each window.
        let blocks = io.blocks_for(io.shape(1).len());
        io.launch("pool", "max_pool2d_bwd_input", blocks, THREADS, params)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        inputs[0].shape.len() as u64
    }
}

simd_fn! {
    fn grad_row<T>(c: usize, above: Option<&[T]>, x: &[T], y: &[T], g: &[T], out: &mut [T]) {
        for (k, out) in out.chunks_mut(2 * c).enumerate() {
            let (y, g) = (&y[k * c..(k + 1) * c], &g[k * c..(k + 1) * c]);
            let (at, right) = (2 * k * c, 2 * k * c + out.len() - c);
            let (x0, x1) = (&x[at..at + c], &x[right..right + c]);
            let (first, second) = out.split_at_mut(c);
            match above {
                None => {
                    pick(first, x0, y, g, []);
                    pick(second, x1, y, g, [x0]);
                }
                Some(a) => {
                    let (a0, a1) = (&a[at..at + c], &a[right..right + c]);
                    pick(first, x0, y, g, [a0, a1]);
                    pick(second, x1, y, g, [a0, a1, x0]);
                }
            }
        }
    }
}

/// `out = g` where `x` is the maximum `y` and nothing `before` it in the window is.
#[inline(always)]
fn pick<T: Real, const M: usize>(out: &mut [T], x: &[T], y: &[T], g: &[T], before: [&[T]; M]) {
    // A cut window has no second pixel: `out` is empty.
    let n = out.len();
    let (x, y, g) = (&x[..n], &y[..n], &g[..n]);
    let before = before.map(|b| &b[..n]);
    for i in 0..n {
        let taken = before.iter().fold(false, |t, b| t | (b[i] == y[i]));
        out[i] = if (x[i] == y[i]) & !taken {
            g[i]
        } else {
            T::zero()
        };
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let shapes = [
        [2, 4, 6, 3],
        [1, 5, 7, 2],
        [1, 1, 9, 8],
        [1, 9, 1, 5],
        [1, 1, 1, 1],
        [1, 3, 2, 13],
        [2, 3, 5, 8],
        [1, 4, 3, 12], // 16-byte vectors in f32, not in f16
    ];
    shapes
        .into_iter()
        .map(|x| {
            Case::new(
                format!("max_pool2d {x:?}"),
                MaxPool2d,
                vec![CaseInput::new(x, Fill::Distinct)],
                1,
            )
        })
        .collect()
}
