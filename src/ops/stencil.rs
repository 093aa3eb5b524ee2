//! Fixed filters: Gaussian window, Laplacian and image gradient, as depthwise convolutions with
//! constant kernels.

use super::{DepthwiseOptions, Padding, depthwise_conv2d};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Horizontal Sobel kernel over 8, so that `x[i, j] = j` gives 1; the vertical one is its transpose.
const SOBEL: [f64; 9] = [
    -0.125, 0.0, 0.125, //
    -0.25, 0.0, 0.25, //
    -0.125, 0.0, 0.125,
];

/// Mean of the eight neighbours minus the centre.
const LAPLACIAN: [f64; 9] = [
    0.125, 0.125, 0.125, //
    0.125, -1.0, 0.125, //
    0.125, 0.125, 0.125,
];

/// Mean of each channel under a Gaussian window:
///
/// `y[n,i,j,c] = sum over u,v of k_u k_v x[n, i + u, j + v, c]`,
/// `k_u ~ exp(-(u - (size - 1) / 2)^2 / (2 sigma^2))`, `sum of k_u = 1`
///
/// Done one dimension after the other; the weights are normalised in f64.
///
/// # Shapes
/// `x: [N, H, W, C]` gives `[N, H - size + 1, W - size + 1, C]`: only whole windows count. `size`
/// is odd and at most 11.
///
/// # Gradient
/// With respect to `x`.
///
/// # Errors
/// [`Error::Shape`] if `x` is smaller than the window or `size` is not supported;
/// [`Error::Config`] if `sigma` is not positive.
///
/// ```
/// use hafuse::{ops, DType, Tape};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 16, 20, 3])?;
/// let y = ops::gaussian_window(&mut t, x, 11, 1.5)?;
/// assert_eq!(t.shape(y).dims(), [1, 6, 10, 3]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn gaussian_window(t: &mut Tape, x: Var, size: usize, sigma: f64) -> Result<Var> {
    if !(sigma > 0.0 && sigma.is_finite()) {
        return Err(Error::config(
            "gaussian_window, sigma",
            format!("{sigma} is not a positive number"),
        ));
    }
    let k = gaussian(size, sigma);
    let y = filter(t, x, (size, 1), &k)?;
    filter(t, y, (1, size), &k)
}

/// Weights of a normalised Gaussian window.
fn gaussian(size: usize, sigma: f64) -> Vec<f64> {
    let centre = (size as f64 - 1.0) / 2.0;
    let k: Vec<f64> = (0..size)
        .map(|u| (-0.5 * ((u as f64 - centre) / sigma).powi(2)).exp())
        .collect();
    let total: f64 = k.iter().sum();
    k.iter().map(|v| v / total).collect()
}

/// Mean of the eight neighbours minus the pixel, in each channel.
///
/// # Shapes
/// `x: [N, H, W, C]` gives `[N, H - 2, W - 2, C]`: borders are left out.
///
/// # Gradient
/// With respect to `x`.
///
/// # Errors
/// [`Error::Shape`] if a side is shorter than 3.
pub fn laplacian(t: &mut Tape, x: Var) -> Result<Var> {
    filter(t, x, (3, 3), &LAPLACIAN)
}

/// Horizontal and vertical derivative of each channel: the Sobel operator over 8, so that a ramp
/// of slope 1 gives 1. The paper names no particular gradient operator; this one is common in
/// fusion losses, and its smoothing keeps sensor noise out of them.
///
/// # Shapes
/// `x: [N, H, W, C]` gives twice `[N, H - 2, W - 2, C]`, first the derivative along `W`, then along
/// `H`: borders are left out.
///
/// # Gradient
/// With respect to `x`.
///
/// # Errors
/// [`Error::Shape`] if a side is shorter than 3.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let ramp: Vec<f32> = (0..9).map(|i| (i % 3) as f32).collect();
/// let x = t.constant(&Tensor::from_vec([1, 3, 3, 1], ramp)?)?;
/// let (gx, gy) = ops::image_gradient(&mut t, x)?;
/// t.output("gx", gx)?;
/// t.output("gy", gy)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.run()?;
/// assert_eq!((s.scalar("gx")?, s.scalar("gy")?), (1.0, 0.0));
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn image_gradient(t: &mut Tape, x: Var) -> Result<(Var, Var)> {
    let mut transposed = SOBEL;
    for i in 0..9 {
        transposed[i] = SOBEL[3 * (i % 3) + i / 3];
    }
    let gx = filter(t, x, (3, 3), &SOBEL)?;
    let gy = filter(t, x, (3, 3), &transposed)?;
    Ok((gx, gy))
}

/// The same `kh` by `kw` kernel on each channel, whole windows only.
fn filter(t: &mut Tape, x: Var, (kh, kw): (usize, usize), kernel: &[f64]) -> Result<Var> {
    let [.., c] = t.shape(x).dims4("filter")?;
    let weights: Vec<f64> = kernel
        .iter()
        .flat_map(|&v| std::iter::repeat_n(v, c))
        .collect();
    let w = t.constant(&Tensor::from_vec([kh, kw, 1, c], weights)?)?;
    let options = DepthwiseOptions {
        padding: Padding::Valid,
        ..Default::default()
    };
    depthwise_conv2d(t, x, w, None, options)
}
