//! Multiply-adds and nothing else.

use super::{Lanes, Portable, Simd, simd};
use std::hint::black_box;

/// Independent chains of [`multiply_adds`]: more than a multiply-add takes cycles times those begun in one.
pub(crate) const CHAINS: usize = 12;

/// Vector widths in bits that [`multiply_adds`] has code for here, ascending.
pub(crate) fn vector_bits() -> Vec<usize> {
    match simd() {
        Simd::Portable => vec![128],
        Simd::Avx2 => vec![128, 256],
        Simd::Avx512 => vec![128, 256, 512],
    }
}

/// `rounds` multiply-adds of each of [`CHAINS`] vectors in registers: what a core computes at most.
pub(crate) fn multiply_adds(bits: usize, rounds: usize) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        macro_rules! chains {
            ($name:ident, $features:literal, $set:ident, $fma:ident, $first:ident) => {
                #[target_feature(enable = $features)]
                fn $name(rounds: usize) -> f32 {
                    let (x, y) = ($set(black_box(0.999)), $set(black_box(0.001)));
                    let mut v = [$set(1.0); CHAINS];
                    for _ in 0..rounds {
                        for v in &mut v {
                            *v = $fma(*v, x, y);
                        }
                    }
                    v.map(|v| $first(v)).iter().sum()
                }
            };
        }
        chains!(
            of_512,
            "avx512f",
            _mm512_set1_ps,
            _mm512_fmadd_ps,
            _mm512_cvtss_f32
        );
        chains!(
            of_256,
            "avx2,fma",
            _mm256_set1_ps,
            _mm256_fmadd_ps,
            _mm256_cvtss_f32
        );
        chains!(of_128, "avx2,fma", _mm_set1_ps, _mm_fmadd_ps, _mm_cvtss_f32);
        // SAFETY: the CPU has the features that each is compiled for.
        unsafe {
            match (bits, simd()) {
                (512, Simd::Avx512) => return of_512(rounds),
                (256, Simd::Avx2 | Simd::Avx512) => return of_256(rounds),
                (_, Simd::Avx2 | Simd::Avx512) => return of_128(rounds),
                _ => {}
            }
        }
    }
    let _ = bits;
    let (x, y) = (black_box(0.999), black_box(0.001));
    let mut v = [[1.0f32; 4]; CHAINS];
    for _ in 0..rounds {
        for v in v.iter_mut().flatten() {
            *v = Portable::mul_add_one(*v, x, y);
        }
    }
    v.iter().flatten().sum()
}
