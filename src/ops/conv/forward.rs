//! The forward convolution on plain slices: what `conv2d` runs, and operators that contain one.

use super::{ConvOptions, fast, reference};
use crate::Result;
use crate::tensor::Real;

/// Operands of a forward convolution.
pub(crate) struct Forward<'a, T> {
    pub x: &'a [T],
    /// `[N, H, W, cin]`.
    pub x_shape: [usize; 4],
    pub w: &'a [T],
    /// `[kh, kw, cin, cout]`.
    pub w_shape: [usize; 4],
    pub bias: Option<&'a [T]>,
    pub residual: Option<&'a [T]>,
}

/// Types that a convolution runs in.
pub(crate) trait Convolve: Real {
    /// Elements of scratch for a kernel of this shape.
    fn scratch_len(w: [usize; 4]) -> usize;

    /// Writes all of `y`. `op` is named in errors.
    fn convolve(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        y: &mut [Self],
        scratch: &mut [Self],
    ) -> Result<()>;
}

impl Convolve for f32 {
    fn scratch_len(w: [usize; 4]) -> usize {
        fast::packed_len(w[0] * w[1], w[2], w[3])
    }

    fn convolve(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        y: &mut [Self],
        scratch: &mut [Self],
    ) -> Result<()> {
        let sizes = options.sizes(op, f.x_shape, f.w_shape)?;
        let [_, kw, cin, cout] = f.w_shape;
        let job = fast::Job {
            input: f.x,
            batch: sizes.n,
            rows: sizes.rows,
            cols: sizes.cols,
            cin,
            cout,
            epilogue: fast::Epilogue {
                bias: f.bias,
                activation: options.activation,
                residual: f.residual,
            },
            transposed: false,
        };
        let at = |ky, kx, ci, co| f.w[((ky * kw + kx) * cin + ci) * cout + co];
        fast::run(&job, at, y, scratch);
        Ok(())
    }
}

impl Convolve for f64 {
    fn scratch_len(_: [usize; 4]) -> usize {
        0
    }

    fn convolve(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        y: &mut [Self],
        _: &mut [Self],
    ) -> Result<()> {
        let sizes = options.sizes(op, f.x_shape, f.w_shape)?;
        let [_, _, cin, cout] = f.w_shape;
        reference::forward(&sizes, (cin, cout), f.x, f.w, y);
        reference::epilogue(cout, f.bias, options.activation, f.residual, y);
        Ok(())
    }
}
