//! Element types.

use super::Data;
use num_traits::Float;
use std::fmt;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE half: storage only, sums are kept in f32.
    F16,
    /// Search, training and CPU inference.
    F32,
    /// CPU only, for gradient checks.
    F64,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F16 => 2,
            DType::F32 => 4,
            DType::F64 => 8,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F16 => "f16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        })
    }
}

mod sealed {
    /// Memory is reinterpreted by [`Element::DTYPE`](super::Element::DTYPE), so nobody else may
    /// implement `Element`.
    pub trait Sealed {}
}

/// A type that a [`Tensor`](super::Tensor) can hold: `half::f16`, `f32` or `f64`.
pub trait Element: sealed::Sealed + bytemuck::Pod + Send + Sync + fmt::Debug + PartialOrd {
    /// Element type as a value.
    const DTYPE: DType;
    #[doc(hidden)]
    fn into_data(v: Vec<Self>) -> Data;
    #[doc(hidden)]
    fn slice(d: &Data) -> Option<&[Self]>;
    #[doc(hidden)]
    fn slice_mut(d: &mut Data) -> Option<&mut [Self]>;
}

macro_rules! element {
    ($t:ty, $variant:ident) => {
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            fn into_data(v: Vec<Self>) -> Data {
                Data::$variant(v)
            }
            fn slice(d: &Data) -> Option<&[Self]> {
                match d {
                    Data::$variant(v) => Some(v),
                    _ => None,
                }
            }
            fn slice_mut(d: &mut Data) -> Option<&mut [Self]> {
                match d {
                    Data::$variant(v) => Some(v),
                    _ => None,
                }
            }
        }
    };
}
element!(half::f16, F16);
element!(f32, F32);
element!(f64, F64);

/// A type that CPU reference code computes in: f32 or f64.
pub trait Real: Element + Float + std::iter::Sum + std::ops::AddAssign {
    /// From a literal, rounded.
    fn lit(v: f64) -> Self;
    /// The same value in double precision.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    fn lit(v: f64) -> Self {
        v as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn lit(v: f64) -> Self {
        v
    }
    fn to_f64(self) -> f64 {
        self
    }
}
