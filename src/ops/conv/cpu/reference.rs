//! The convolution as its formula says, in f32 or f64: the oracle of the fast code.

use crate::ops::Activation;
use crate::ops::conv::Sizes;
use crate::ops::conv::geometry::AxisSize;
use crate::tensor::Real;

/// Input position under tap `k` at output position `t`, if it is inside.
fn source(s: AxisSize, t: usize, k: usize) -> Option<usize> {
    (t * s.stride + k * s.dilation)
        .checked_sub(s.pad)
        .filter(|&i| i < s.x)
}

/// Calls `f(x index, w index, y index)` (each of channel 0) for every product of the convolution.
fn products(s: &Sizes, (cin, cout): (usize, usize), mut f: impl FnMut(usize, usize, usize)) {
    for n in 0..s.n {
        for oy in 0..s.rows.y {
            for ox in 0..s.cols.y {
                let y = ((n * s.rows.y + oy) * s.cols.y + ox) * cout;
                for ky in 0..s.rows.k {
                    let Some(iy) = source(s.rows, oy, ky) else {
                        continue;
                    };
                    for kx in 0..s.cols.k {
                        let Some(ix) = source(s.cols, ox, kx) else {
                            continue;
                        };
                        let x = ((n * s.rows.x + iy) * s.cols.x + ix) * cin;
                        f(x, (ky * s.cols.k + kx) * cin * cout, y);
                    }
                }
            }
        }
    }
}

pub(in crate::ops::conv) fn forward<T: Real>(
    s: &Sizes,
    c: (usize, usize),
    x: &[T],
    w: &[T],
    y: &mut [T],
) {
    y.fill(T::zero());
    products(s, c, |xi, wi, yi| {
        for ci in 0..c.0 {
            for co in 0..c.1 {
                y[yi + co] += x[xi + ci] * w[wi + ci * c.1 + co];
            }
        }
    });
}

pub(in crate::ops::conv) fn epilogue<T: Real>(
    cout: usize,
    bias: Option<&[T]>,
    activation: Activation,
    residual: Option<&[T]>,
    y: &mut [T],
) {
    for (p, pixel) in y.chunks_exact_mut(cout).enumerate() {
        if let Some(bias) = bias {
            for (v, &b) in pixel.iter_mut().zip(bias) {
                *v += b;
            }
        }
        activation.apply(pixel);
        if let Some(r) = residual {
            for (v, &r) in pixel.iter_mut().zip(&r[p * cout..]) {
                *v += r;
            }
        }
    }
}

pub(in crate::ops::conv) fn input_grad<T: Real>(
    s: &Sizes,
    c: (usize, usize),
    g: &[T],
    w: &[T],
    dx: &mut [T],
) {
    dx.fill(T::zero());
    products(s, c, |xi, wi, yi| {
        for ci in 0..c.0 {
            for co in 0..c.1 {
                dx[xi + ci] += g[yi + co] * w[wi + ci * c.1 + co];
            }
        }
    });
}

pub(in crate::ops::conv) fn weight_grad<T: Real>(
    s: &Sizes,
    c: (usize, usize),
    x: &[T],
    g: &[T],
    dw: &mut [T],
) {
    dw.fill(T::zero());
    products(s, c, |xi, wi, yi| {
        for ci in 0..c.0 {
            for co in 0..c.1 {
                dw[wi + ci * c.1 + co] += x[xi + ci] * g[yi + co];
            }
        }
    });
}
