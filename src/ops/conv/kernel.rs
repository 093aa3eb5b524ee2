//! Register tiles of the dense convolution: `M` pixels by `NR` channels, in f32.
//!
//! A convolution in NHWC is a sum of small matrix products: for one kernel row, the `kw * cin`
//! values under it are contiguous, so pixels are rows of a matrix whose rows overlap, and nothing
//! needs to be copied (no im2col). Weights are packed into panels of `NR` output channels.

/// Widest panel: two AVX2 registers.
pub(super) const NR: usize = 16;
/// Most pixels in a tile: 6 x 2 accumulators + 2 weights + 1 pixel fill the 16 AVX2 registers.
pub(super) const MR: usize = 6;

/// A run of `len` consecutive input values at `a` (relative to a pixel) and the row of the packed
/// panel that its first value meets.
#[derive(Clone, Copy, Default)]
pub(super) struct Tap {
    pub a: isize,
    pub row: usize,
    pub len: usize,
}

/// `a * b + c`, fused where the target has the instruction (else `mul_add` is a library call).
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `acc[m][n] = sum over taps and k of a[m * pitch + tap.a + k] * panel[(tap.row + k) * N + n]`.
///
/// # Safety
/// Every address of the formula must be readable.
#[inline(always)]
pub(super) unsafe fn tile<const M: usize, const N: usize, const FMA: bool>(
    a: *const f32,
    pitch: usize,
    taps: &[Tap],
    panel: *const f32,
) -> [[f32; N]; M] {
    let mut acc = [[0.0f32; N]; M];
    for tap in taps {
        // SAFETY: the caller vouches for all addresses.
        unsafe {
            let a = a.offset(tap.a);
            let b = panel.add(tap.row * N);
            for k in 0..tap.len {
                let w: &[f32; N] = &*b.add(k * N).cast();
                for m in 0..M {
                    let x = *a.add(m * pitch + k);
                    for n in 0..N {
                        acc[m][n] = fma::<FMA>(x, w[n], acc[m][n]);
                    }
                }
            }
        }
    }
    acc
}

/// `acc[m][n] = sum over rows r and pixels p of a[r * a_row + p * a_step + m] * b[r * b_row + p * b_step + n]`:
/// an outer product summed over pixels, for weight gradients.
///
/// # Safety
/// Every address of the formula must be readable.
#[inline(always)]
pub(super) unsafe fn outer<const M: usize, const N: usize, const FMA: bool>(
    a: *const f32,
    b: *const f32,
    s: &OuterStrides,
) -> [[f32; N]; M] {
    let mut acc = [[0.0f32; N]; M];
    for r in 0..s.rows {
        // SAFETY: the caller vouches for all addresses.
        unsafe {
            let mut a = a.add(r * s.a_row);
            let mut b = b.add(r * s.b_row);
            for _ in 0..s.pixels {
                let y: &[f32; N] = &*b.cast();
                for m in 0..M {
                    let x = *a.add(m);
                    for n in 0..N {
                        acc[m][n] = fma::<FMA>(x, y[n], acc[m][n]);
                    }
                }
                a = a.wrapping_add(s.a_step);
                b = b.wrapping_add(s.b_step);
            }
        }
    }
    acc
}

/// Extent and strides of [`outer`].
#[derive(Clone, Copy)]
pub(super) struct OuterStrides {
    pub rows: usize,
    pub pixels: usize,
    pub a_row: usize,
    pub a_step: usize,
    pub b_row: usize,
    pub b_step: usize,
}

/// `acc[m][c] = sum over taps and k of a[m * pitch + tap.a + k] * weights[c * depth + tap.row + k]`:
/// dot products for one to four output channels, where a panel would stay mostly empty.
///
/// # Safety
/// Every address of the formula must be readable.
#[inline(always)]
pub(super) unsafe fn dots<const M: usize, const C: usize, const FMA: bool>(
    a: *const f32,
    pitch: usize,
    taps: &[Tap],
    weights: *const f32,
    depth: usize,
) -> [[f32; C]; M] {
    const LANES: usize = 8;
    let mut lanes = [[[0.0f32; LANES]; C]; M];
    let mut sums = [[0.0f32; C]; M];
    for tap in taps {
        let whole = tap.len / LANES * LANES;
        // SAFETY: the caller vouches for all addresses.
        unsafe {
            let a = a.offset(tap.a);
            let mut k = 0;
            while k < whole {
                for m in 0..M {
                    let x: &[f32; LANES] = &*a.add(m * pitch + k).cast();
                    for c in 0..C {
                        let w: &[f32; LANES] = &*weights.add(c * depth + tap.row + k).cast();
                        for l in 0..LANES {
                            lanes[m][c][l] = fma::<FMA>(x[l], w[l], lanes[m][c][l]);
                        }
                    }
                }
                k += LANES;
            }
            for k in whole..tap.len {
                for m in 0..M {
                    let x = *a.add(m * pitch + k);
                    for c in 0..C {
                        let w = *weights.add(c * depth + tap.row + k);
                        sums[m][c] = fma::<FMA>(x, w, sums[m][c]);
                    }
                }
            }
        }
    }
    for m in 0..M {
        for c in 0..C {
            sums[m][c] += lanes[m][c].iter().sum::<f32>();
        }
    }
    sums
}

/// Calls `$plain` or its twin compiled for AVX2 and FMA, whichever this machine can run. Both are
/// made from one `#[inline(always)]` body with a `const FMA: bool` parameter.
macro_rules! dispatch_simd {
    ($body:ident ( $($arg:ident : $ty:ty),* $(,)? )) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,fma")]
            unsafe fn fused($($arg: $ty),*) {
                // SAFETY: the same contract as the caller's.
                unsafe { $body::<true>($($arg),*) }
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the features were just found; the rest is the caller's contract.
                return unsafe { fused($($arg),*) };
            }
        }
        // SAFETY: the caller's contract.
        unsafe { $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*) }
    }};
}
pub(super) use dispatch_simd;
