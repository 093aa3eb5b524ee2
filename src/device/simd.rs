//! Hot loops compiled twice: for the baseline CPU and, on x86-64, for AVX2.
//!
//! Bodies use `a * b + c` in two roundings, never a fused multiply-add, so both versions (and every
//! other CPU) give the same bits.

/// Whether the wide versions may run.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn wide_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Defines a function over a [`Real`](crate::tensor::Real) type whose body is compiled with and
/// without AVX2; the call picks by CPU. What the body calls must be `#[inline(always)]`.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$t:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name<$t: $crate::tensor::Real>($($arg: $ty),*) {
            #[inline(always)]
            fn body<$t: $crate::tensor::Real>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide<$t: $crate::tensor::Real>($($arg: $ty),*) {
                    body($($arg),*)
                }
                if $crate::device::simd::wide_available() {
                    // SAFETY: the CPU has the features that `wide` is compiled for.
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use simd_fn;

/// `acc[i] += a[i] * b[i]` over a block that stays in registers.
#[inline(always)]
pub(crate) fn mul_add_block<T: crate::tensor::Real, const B: usize>(
    acc: &mut [T; B],
    a: &[T],
    b: &[T],
) {
    let (a, b) = (&a[..B], &b[..B]);
    for i in 0..B {
        acc[i] += a[i] * b[i];
    }
}

/// `acc[i] += x[i]` over a block that stays in registers.
#[inline(always)]
pub(crate) fn add_block<T: crate::tensor::Real, const B: usize>(acc: &mut [T; B], x: &[T]) {
    let x = &x[..B];
    for i in 0..B {
        acc[i] += x[i];
    }
}
