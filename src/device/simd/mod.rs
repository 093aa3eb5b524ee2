//! One body of a hot loop compiled for each instruction set that this binary may meet, chosen at run
//! time. Two ways:
//!
//! - [`simd_fn`] for loops that the compiler vectorises by itself. Bodies use `a * b + c` in two
//!   roundings, never a fused multiply-add, so every CPU gives the same bits.
//! - [`Lanes`] with [`dispatch_lanes`] for register tiles, which are only fast when every
//!   accumulator stays in a register; the compiler does not manage that from arrays.

#![allow(clippy::needless_range_loop)] // indices are lanes and places in registers here

mod level;
mod peak;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use level::{Simd, check_simd, simd};
pub(crate) use peak::{CHAINS, multiply_adds, vector_bits};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

use std::hint::black_box;

/// Defines a function, over a [`Real`](crate::tensor::Real) type or over none, whose body is compiled
/// with and without AVX2; the call picks by CPU. What the body calls must be `#[inline(always)]`.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident$(<$t:ident>)?($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name$(<$t: $crate::tensor::Real>)?($($arg: $ty),*) {
            #[inline(always)]
            fn body$(<$t: $crate::tensor::Real>)?($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide$(<$t: $crate::tensor::Real>)?($($arg: $ty),*) {
                    body($($arg),*)
                }
                if $crate::device::simd::simd() >= $crate::device::simd::Simd::Avx2 {
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

/// Some f32 values in one register, or in two.
pub(crate) trait Vector: Copy {
    const WIDTH: usize;

    /// # Safety
    /// All methods, here and in [`Lanes`] and [`Pair`]: the instruction set of the implementor must be available, and
    /// pointers must be good for as many values as it holds.
    unsafe fn splat(v: f32) -> Self;
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn load(p: *const f32) -> Self;
    /// `self * b + c`.
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
}

/// Sixteen values.
pub(crate) trait Pair: Vector {
    type Half;

    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn halves(self) -> [Self::Half; 2];
}

impl<L: Vector> Vector for [L; 2] {
    const WIDTH: usize = 2 * L::WIDTH;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: the caller's contract, as below.
        let v = unsafe { L::splat(v) };
        [v, v]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: twice as many values.
        unsafe { [L::load(p), L::load(p.add(L::WIDTH))] }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as above.
        unsafe { [self[0].mul_add(b[0], c[0]), self[1].mul_add(b[1], c[1])] }
    }
}

impl<L: Lanes> Pair for [L; 2] {
    type Half = L;

    #[inline(always)]
    unsafe fn halves(self) -> [L; 2] {
        self
    }
}

/// Eight values in one register (or two).
pub(crate) trait Lanes: Vector {
    /// Sums that a register tile may hold, so that weights and inputs have registers too; half as many pairs. AVX-512 has
    /// room for more, but larger tiles were slower (docs/decisions/cpu.md, 55).
    const SUMS: usize;
    type Pair: Pair<Half = Self>;

    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn store(self, p: *mut f32);
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn add(self, b: Self) -> Self;
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn sub(self, b: Self) -> Self;
    /// `c - self * b`.
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn neg_mul_add(self, b: Self, c: Self) -> Self;
    /// `self` where it is positive, else `self * slope`.
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn leaky(self, slope: Self) -> Self;
    /// One value of `a * b + c` with the rounding of [`Vector::mul_add`].
    fn mul_add_one(a: f32, b: f32, c: f32) -> f32;

    /// Sum of the lanes, in a fixed order.
    /// # Safety
    /// See [`Vector::splat`].
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut v = [0.0f32; LANES];
        // SAFETY: `v` holds eight values.
        unsafe { self.store(v.as_mut_ptr()) };
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
}

pub(crate) const LANES: usize = 8;

/// Asks for the cache line at `p`, which need not be readable: a store to a line that is not in the first-level
/// cache holds up all stores after it.
#[inline(always)]
pub(crate) fn prefetch(p: *const f32) {
    prefetch_lines::<false>(p, 1);
}

/// [`prefetch`] of `len` floats from `p` on.
#[inline(always)]
pub(crate) fn prefetch_all(p: *const f32, len: usize) {
    prefetch_lines::<false>(p, len);
}

/// [`prefetch_all`] as far as the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_far(p: *const f32, len: usize) {
    prefetch_lines::<true>(p, len);
}

#[inline(always)]
fn prefetch_lines<const FAR: bool>(p: *const f32, len: usize) {
    const LINE: usize = 16;
    for at in (0..len).step_by(LINE) {
        let p = p.wrapping_add(at);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: part of the base instruction set; a prefetch never faults.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
            if FAR {
                _mm_prefetch::<_MM_HINT_T1>(p.cast());
            } else {
                _mm_prefetch::<_MM_HINT_T0>(p.cast());
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }
}

/// Addresses of up to twelve pixels a fixed distance apart, for register tiles. Four share a base, and multiples of the
/// distance are opaque: else the compiler walks from pixel to pixel, an addition each, which costs a sixth of the time.
#[derive(Clone, Copy)]
pub(crate) struct Pixels {
    pitch: usize,
    steps: [usize; 4],
}

impl Pixels {
    #[inline(always)]
    pub fn new(pitch: usize) -> Self {
        let mut steps = [0; 4];
        for (m, step) in steps.iter_mut().enumerate() {
            *step = black_box(m * pitch);
        }
        Self { pitch, steps }
    }

    /// Bases of the pixels of which `first` is the first.
    #[inline(always)]
    pub fn bases(&self, first: *const f32) -> [*const f32; 3] {
        let mut bases = [first; 3];
        for (m, base) in bases.iter_mut().enumerate() {
            *base = first.wrapping_add(4 * m * self.pitch);
        }
        bases
    }

    /// The same pixels, this many values further on.
    #[inline(always)]
    pub fn advance(&self, bases: &mut [*const f32; 3], by: isize) {
        for base in bases {
            *base = base.wrapping_offset(by);
        }
    }

    /// Pixel `m`.
    #[inline(always)]
    pub fn at(&self, bases: &[*const f32; 3], m: usize) -> *const f32 {
        bases[m / 4].wrapping_add(self.steps[m % 4])
    }
}

/// For any target; the compiler finds SSE or NEON registers for it.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

impl Portable {
    pub(crate) const FUSES: bool = cfg!(target_arch = "aarch64");
}

impl Vector for Portable {
    const WIDTH: usize = LANES;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self([v; LANES])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller gives eight readable values.
        Self(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        let mut v = c.0;
        for i in 0..LANES {
            v[i] = Self::mul_add_one(self.0[i], b.0[i], v[i]);
        }
        Self(v)
    }
}

impl Lanes for Portable {
    // Two registers each: x86-64 without AVX has 16, others have 32.
    const SUMS: usize = if cfg!(target_arch = "x86_64") { 4 } else { 12 };
    type Pair = [Self; 2];

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller gives room for eight values.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        let mut v = self.0;
        for i in 0..LANES {
            v[i] += b.0[i];
        }
        Self(v)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        let mut v = self.0;
        for i in 0..LANES {
            v[i] -= b.0[i];
        }
        Self(v)
    }
    #[inline(always)]
    unsafe fn neg_mul_add(self, b: Self, c: Self) -> Self {
        let mut v = c.0;
        for i in 0..LANES {
            v[i] = Self::mul_add_one(-self.0[i], b.0[i], v[i]);
        }
        Self(v)
    }
    #[inline(always)]
    unsafe fn leaky(self, slope: Self) -> Self {
        let mut v = self.0;
        for i in 0..LANES {
            if v[i] <= 0.0 {
                v[i] *= slope.0[i];
            }
        }
        Self(v)
    }
    #[inline(always)]
    fn mul_add_one(a: f32, b: f32, c: f32) -> f32 {
        // Without the instruction `f32::mul_add` is a slow library call.
        if Self::FUSES {
            a.mul_add(b, c)
        } else {
            a * b + c
        }
    }
}

/// Calls `$body::<L>(args)` with the widest [`Lanes`] that this machine has. `$body` must be an
/// `#[inline(always)] unsafe fn` generic over `L: Lanes`; its contract is the caller's to keep.
macro_rules! dispatch_lanes {
    ($body:ident ( $($arg:ident : $ty:ty),* $(,)? )) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: AVX2 and FMA are enabled here; the rest is the caller's contract.
                unsafe { $body::<$crate::device::simd::Avx2>($($arg),*) }
            }
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: all of these are enabled here; the rest is the caller's contract.
                unsafe { $body::<$crate::device::simd::Avx512>($($arg),*) }
            }
            match $crate::device::simd::simd() {
                // SAFETY: the CPU has the features.
                $crate::device::simd::Simd::Avx512 => return unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                $crate::device::simd::Simd::Avx2 => return unsafe { avx2($($arg),*) },
                $crate::device::simd::Simd::Portable => {}
            }
        }
        // SAFETY: the caller's contract; `Portable` needs no instruction set.
        unsafe { $body::<$crate::device::simd::Portable>($($arg),*) }
    }};
}
pub(crate) use dispatch_lanes;
