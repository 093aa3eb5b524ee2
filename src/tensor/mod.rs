//! Shapes, element types and host tensors; safetensors in and out.

mod dtype;
pub mod io;
mod shape;

pub use dtype::{DType, Element, Real};
pub use shape::Shape;

use crate::{Error, Result};
use half::slice::HalfFloatSliceExt;

/// Contiguous host data of one element type.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Half precision.
    F16(Vec<half::f16>),
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
}

/// A dense, contiguous, row-major host tensor. Activations are `[N, H, W, C]`.
///
/// ```
/// use hafuse::Tensor;
/// let x = Tensor::from_vec([1, 2, 2, 1], vec![0.0f32, 1.0, 2.0, 3.0])?;
/// assert_eq!(x.shape().dims(), [1, 2, 2, 1]);
/// assert_eq!(x.as_slice::<f32>()?[3], 3.0);
/// # Ok::<(), hafuse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

impl Tensor {
    /// A tensor that takes `data` in row-major order; an [`Error::Shape`] if the count does not fit.
    pub fn from_vec<T: Element>(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != data.len() {
            return Err(Error::shape(
                "tensor",
                format!(
                    "shape {shape} holds {} elements but {} were given",
                    shape.len(),
                    data.len()
                ),
            ));
        }
        Ok(Self {
            shape,
            data: T::into_data(data),
        })
    }

    /// A tensor of one value.
    pub fn full(shape: impl Into<Shape>, dtype: DType, value: f64) -> Self {
        let shape = shape.into();
        let n = shape.len();
        let data = match dtype {
            DType::F16 => Data::F16(vec![half::f16::from_f64(value); n]),
            DType::F32 => Data::F32(vec![value as f32; n]),
            DType::F64 => Data::F64(vec![value; n]),
        };
        Self { shape, data }
    }

    /// A scalar, shape `[]`.
    pub fn scalar(dtype: DType, value: f64) -> Self {
        Self::full([0usize; 0], dtype, value)
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self.data {
            Data::F16(_) => DType::F16,
            Data::F32(_) => DType::F32,
            Data::F64(_) => DType::F64,
        }
    }

    /// The elements as `T`; an [`Error::DType`] if they are of another type.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        T::slice(&self.data).ok_or_else(|| Error::DType {
            what: "tensor".into(),
            expected: T::DTYPE.to_string(),
            found: self.dtype().to_string(),
        })
    }

    /// The elements, mutable.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T]> {
        let found = self.dtype();
        T::slice_mut(&mut self.data).ok_or_else(|| Error::DType {
            what: "tensor".into(),
            expected: T::DTYPE.to_string(),
            found: found.to_string(),
        })
    }

    /// The raw bytes in native order.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::F16(v) => bytemuck::cast_slice(v),
            Data::F32(v) => bytemuck::cast_slice(v),
            Data::F64(v) => bytemuck::cast_slice(v),
        }
    }

    /// The raw bytes, to overwrite.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.data {
            Data::F16(v) => bytemuck::cast_slice_mut(v),
            Data::F32(v) => bytemuck::cast_slice_mut(v),
            Data::F64(v) => bytemuck::cast_slice_mut(v),
        }
    }

    /// The same values in another element type (rounded to nearest).
    pub fn to_dtype(&self, dtype: DType) -> Self {
        if dtype == self.dtype() {
            return self.clone();
        }
        let values = || self.to_f64().into_iter();
        let data = match (&self.data, dtype) {
            // Most models are stored so; this way is the fast one.
            (Data::F16(v), DType::F32) => Data::F32(v.to_f32_vec()),
            (_, DType::F16) => Data::F16(values().map(half::f16::from_f64).collect()),
            (_, DType::F32) => Data::F32(values().map(|v| v as f32).collect()),
            (_, DType::F64) => Data::F64(self.to_f64()),
        };
        Self {
            shape: self.shape,
            data,
        }
    }

    /// The values as f64, whatever the element type.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::F16(v) => v.iter().map(|x| x.to_f64()).collect(),
            Data::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::F64(v) => v.clone(),
        }
    }

    /// The only value of a one-element tensor.
    pub fn item(&self) -> Result<f64> {
        if self.shape.len() != 1 {
            return Err(Error::shape(
                "item",
                format!("needs exactly one element, shape is {}", self.shape),
            ));
        }
        Ok(self.to_f64()[0])
    }
}
