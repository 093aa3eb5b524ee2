//! Registers of x86-64.

use super::{LANES, Lanes, Pair, Vector};
use std::arch::x86_64::*;

/// AVX2 with FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

/// AVX-512 F and VL, with AVX2 and FMA: twice the registers, and pairs in one.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m256);

/// Sixteen lanes of [`Avx512`].
#[derive(Clone, Copy)]
pub(crate) struct Zmm(__m512);

/// [`Vector`] by the instructions of a register.
macro_rules! vector {
    ($name:ident, $width:expr, $set:ident, $load:ident, $fma:ident) => {
        impl Vector for $name {
            const WIDTH: usize = $width;

            #[inline(always)]
            unsafe fn splat(v: f32) -> Self {
                // SAFETY: the caller promises the instruction set.
                Self(unsafe { $set(v) })
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> Self {
                // SAFETY: the caller promises the instruction set and `WIDTH` readable values.
                Self(unsafe { $load(p) })
            }
            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: the caller promises the instruction set, FMA among it.
                Self(unsafe { $fma(self.0, b.0, c.0) })
            }
        }
    };
}
vector! { Zmm, 2 * LANES, _mm512_set1_ps, _mm512_loadu_ps, _mm512_fmadd_ps }

impl Pair for Zmm {
    type Half = Avx512;

    #[inline(always)]
    unsafe fn halves(self) -> [Avx512; 2] {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0));
            let low = _mm512_castps512_ps256(self.0);
            [Avx512(low), Avx512(_mm256_castpd_ps(high))]
        }
    }
}

/// [`Lanes`] in a register of 256 bits.
macro_rules! lanes_of_256_bits {
    ($name:ident, $pair:ty) => {
        vector! { $name, LANES, _mm256_set1_ps, _mm256_loadu_ps, _mm256_fmadd_ps }

        impl Lanes for $name {
            const SUMS: usize = 12;
            type Pair = $pair;

            #[inline(always)]
            unsafe fn store(self, p: *mut f32) {
                // SAFETY: the caller promises AVX2 and room for eight values.
                unsafe { _mm256_storeu_ps(p, self.0) }
            }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                // SAFETY: the caller promises AVX2.
                Self(unsafe { _mm256_add_ps(self.0, b.0) })
            }
            #[inline(always)]
            unsafe fn sub(self, b: Self) -> Self {
                // SAFETY: the caller promises AVX2.
                Self(unsafe { _mm256_sub_ps(self.0, b.0) })
            }
            #[inline(always)]
            unsafe fn neg_mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: the caller promises FMA.
                Self(unsafe { _mm256_fnmadd_ps(self.0, b.0, c.0) })
            }
            #[inline(always)]
            unsafe fn leaky(self, slope: Self) -> Self {
                // SAFETY: the caller promises AVX2.
                unsafe {
                    let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, _mm256_setzero_ps());
                    Self(_mm256_blendv_ps(
                        _mm256_mul_ps(self.0, slope.0),
                        self.0,
                        positive,
                    ))
                }
            }
            #[inline(always)]
            fn mul_add_one(a: f32, b: f32, c: f32) -> f32 {
                a.mul_add(b, c)
            }
        }
    };
}
lanes_of_256_bits!(Avx2, [Self; 2]);
lanes_of_256_bits!(Avx512, Zmm);
