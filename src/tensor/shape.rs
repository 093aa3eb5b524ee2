//! Run-time shapes of up to four dimensions.

use crate::{Error, Result};
use std::fmt;

/// A shape: up to four run-time dimensions, `[]` for a scalar.
///
/// ```
/// use hafuse::Shape;
/// let s = Shape::from([2, 5, 7, 3]);
/// assert_eq!((s.rank(), s.len()), (4, 210));
/// assert_eq!(s.to_string(), "[2, 5, 7, 3]");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: u8,
}

impl Shape {
    /// From a slice of at most four dimensions.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > 4 {
            return Err(Error::shape(
                "shape",
                format!("at most 4 dimensions are supported, found {dims:?}"),
            ));
        }
        let mut d = [1; 4];
        d[..dims.len()].copy_from_slice(dims);
        Ok(Self {
            dims: d,
            rank: dims.len() as u8,
        })
    }

    /// Number of dimensions; 0 for a scalar.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// Dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank()]
    }

    /// Number of elements; 1 for a scalar.
    #[allow(clippy::len_without_is_empty)] // emptiness is asked nowhere
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// [`Shape::len`], or `None` if it is beyond what memory of any machine holds.
    pub(crate) fn checked_len(&self) -> Option<usize> {
        // Sizes in bytes of a million such values can be added.
        const MOST: usize = 1 << 40;
        let mut dims = self.dims().iter();
        let len = dims.try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (len <= MOST).then_some(len)
    }

    /// The four dimensions of an activation `[N, H, W, C]` or a kernel `[kh, kw, cin, cout]`.
    pub fn dims4(&self, op: &'static str) -> Result<[usize; 4]> {
        if self.rank != 4 {
            return Err(Error::shape(
                op,
                format!("needs four dimensions, found {self}"),
            ));
        }
        Ok(self.dims)
    }

    /// The shape with ones put in front until it has four dimensions (NumPy's broadcasting rule).
    pub fn padded4(&self) -> [usize; 4] {
        let mut d = [1; 4];
        d[4 - self.rank()..].copy_from_slice(self.dims());
        d
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        const { assert!(N <= 4, "a shape has at most four dimensions") };
        let mut d = [1; 4];
        d[..N].copy_from_slice(&dims);
        Self {
            dims: d,
            rank: N as u8,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}
