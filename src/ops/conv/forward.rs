//! The forward convolution on plain slices: what `conv2d` runs, and operators that contain one.

use super::cpu::pack::{self, Weight};
use super::cpu::{direct, job, reference, winograd};
use super::{ConvOptions, Sizes};
use crate::ops::Padding;
use crate::tensor::Real;
use crate::{Error, Result};
use std::ops::Range;

/// Operands of a forward convolution.
#[derive(Clone, Copy)]
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

impl Forward<'_, f32> {
    fn job(&self, options: &ConvOptions, sizes: Sizes) -> job::Job<'_> {
        job::Job {
            input: self.x,
            batch: sizes.n,
            rows: sizes.rows,
            cols: sizes.cols,
            cin: self.w_shape[2],
            cout: self.w_shape[3],
            epilogue: job::Epilogue {
                bias: self.bias,
                activation: options.activation,
                residual: self.residual,
            },
            transposed: false,
        }
    }

    fn weight(&self) -> impl Weight {
        let [_, kw, cin, cout] = self.w_shape;
        move |ky, kx, ci, co| self.w[((ky * kw + kx) * cin + ci) * cout + co]
    }
}

impl<T: Real> Forward<'_, T> {
    /// Sizes of the whole, and of the part that [`Convolve::convolve_rows`] computes.
    fn part(
        &self,
        op: &'static str,
        options: &ConvOptions,
        (rows, first): (&Range<usize>, usize),
    ) -> Result<[Sizes; 2]> {
        let whole = options.sizes(op, self.x_shape, self.w_shape)?;
        let [n, _, w, c] = self.x_shape;
        let mut part = whole;
        part.rows.x = self.x.len() / (n * w * c);
        part.rows.y = rows.len();
        part.rows.pad = (first + whole.rows.pad)
            .checked_sub(rows.start * whole.rows.stride)
            .ok_or_else(|| Error::Internal(format!("{op} was given rows from {first} on")))?;
        Ok([whole, part])
    }
}

/// Rows of `x` that `rows` of a forward convolution read.
pub(crate) fn rows_read(
    options: &ConvOptions,
    x: [usize; 4],
    k: usize,
    rows: &Range<usize>,
) -> Range<usize> {
    let reach = options.dilation * (k - 1);
    let pad = match options.padding {
        Padding::Same => reach / 2,
        Padding::Valid => 0,
    };
    let end = (rows.end.max(1) - 1) * options.stride + reach + 1;
    let start = (rows.start * options.stride).saturating_sub(pad);
    start..end.saturating_sub(pad).min(x[1]).max(start)
}

/// Rows that the convolution of a whole `x` in f32 computes together.
pub(crate) fn granule(options: &ConvOptions, x: [usize; 4], w: [usize; 4]) -> usize {
    let f = Forward::<f32> {
        x: &[],
        x_shape: x,
        w: &[],
        w_shape: w,
        bias: None,
        residual: None,
    };
    match options.sizes("conv2d", x, w) {
        Ok(sizes) if winograd::suits(&f.job(options, sizes)) => winograd::step(w[0]),
        _ => 1,
    }
}

/// Types that a convolution runs in.
pub(crate) trait Convolve: Real {
    /// Elements of the packed weights of a kernel of this shape; scratch enough for [`Convolve::convolve`] with one
    /// that is not 3 x 3 or 5 x 5.
    fn packed_len(w: [usize; 4]) -> usize;

    /// Writes all of `y`. `op` is named in errors.
    fn convolve(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        y: &mut [Self],
        scratch: &mut [Self],
    ) -> Result<()>;

    /// Packs `w` for [`Convolve::convolve_rows`] of a whole `x` of this shape, which need not be there yet:
    /// [`Convolve::packed_len`] values.
    fn pack(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        packed: &mut [Self],
    ) -> Result<()>;

    /// Some rows of the output, of a whole `x_shape`: `x` begins with picture row `first` and ends with the last one
    /// that is read, `residual` and `y` have these rows only.
    fn convolve_rows(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        at: (&Range<usize>, usize),
        packed: &[Self],
        y: &mut [Self],
        scratch: &mut [Self],
    ) -> Result<()>;
}

impl Convolve for f32 {
    fn packed_len(w: [usize; 4]) -> usize {
        pack::packed_len(w[0] * w[1], w[2], w[3])
    }

    fn convolve(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        y: &mut [Self],
        scratch: &mut [Self],
    ) -> Result<()> {
        let sizes = options.sizes(op, f.x_shape, f.w_shape)?;
        direct::run(&f.job(options, sizes), &f.weight(), y, scratch);
        Ok(())
    }

    fn pack(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        packed: &mut [Self],
    ) -> Result<()> {
        let sizes = options.sizes(op, f.x_shape, f.w_shape)?;
        direct::pack_forward(&f.job(options, sizes), &f.weight(), packed);
        Ok(())
    }

    fn convolve_rows(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        at: (&Range<usize>, usize),
        packed: &[Self],
        y: &mut [Self],
        scratch: &mut [Self],
    ) -> Result<()> {
        let [whole, part] = f.part(op, options, at)?.map(|s| f.job(options, s));
        direct::run_packed(&part, &whole, packed, y, scratch);
        Ok(())
    }
}

impl Convolve for f64 {
    fn packed_len(_: [usize; 4]) -> usize {
        0
    }

    fn convolve(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        y: &mut [Self],
        _: &mut [Self],
    ) -> Result<()> {
        let all = 0..options.sizes(op, f.x_shape, f.w_shape)?.rows.y;
        Self::convolve_rows(op, options, f, (&all, 0), &[], y, &mut [])
    }

    fn pack(_: &'static str, _: &ConvOptions, _: &Forward<'_, Self>, _: &mut [Self]) -> Result<()> {
        Ok(())
    }

    fn convolve_rows(
        op: &'static str,
        options: &ConvOptions,
        f: &Forward<'_, Self>,
        at: (&Range<usize>, usize),
        _: &[Self],
        y: &mut [Self],
        _: &mut [Self],
    ) -> Result<()> {
        let [_, sizes] = f.part(op, options, at)?;
        let [_, _, cin, cout] = f.w_shape;
        reference::forward(&sizes, (cin, cout), f.x, f.w, y);
        reference::epilogue(cout, f.bias, options.activation, f.residual, y);
        Ok(())
    }
}
