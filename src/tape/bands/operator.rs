//! What an operator must offer to run on a picture a band of rows at a time.

use crate::Result;
use crate::device::cpu::CpuIo;
use crate::tape::{Meta, Operator};
use std::ops::Range;

/// Where a band lies in the whole picture.
pub struct Band<'a> {
    /// Output rows to compute.
    pub rows: Range<usize>,
    /// Picture row that the view of each input begins with; 0 for parameters.
    pub first: &'a [usize],
    /// The whole inputs.
    pub whole: &'a [Meta],
    /// What [`Banded::prepare`] wrote.
    pub prepared: &'a [f32],
    /// What [`Banded::gather`] collected over the whole picture.
    pub statistic: &'a [f64],
}

/// An operator that computes some rows of its output from some rows of its inputs, in f32 on the CPU, with the
/// values of [`Operator::cpu`]; those of a [`Banded::statistic`] may differ by rounding.
///
/// Inputs are pictures `[1, H, W, C]`, whose views then have fewer rows, or parameters, which are always
/// whole. The defaults are those of an operator on single pixels.
pub trait Banded: Operator {
    /// Rows of picture `i` that `rows` of the output read. Both ends must not decrease as `rows` move down, and
    /// the first one must depend on the first row only.
    fn reads(&self, i: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
        let _ = (i, whole);
        rows
    }

    /// Bands of this operator begin with multiples of this row, so that sums are grouped as in the whole picture.
    fn granule(&self, whole: &[Meta]) -> usize {
        let _ = whole;
        1
    }

    /// Number of values that [`Banded::prepare`] makes of the parameters, once.
    fn prepared(&self, whole: &[Meta]) -> usize {
        let _ = whole;
        0
    }

    /// Writes them to the output; views of pictures have no rows.
    fn prepare(&self, io: CpuIo<'_>, whole: &[Meta]) -> Result<()> {
        let _ = (io, whole);
        Ok(())
    }

    /// Bytes of scratch memory for a band of these shapes.
    fn scratch(&self, inputs: &[Meta], output: Meta) -> usize {
        self.workspace(inputs, output)
    }

    /// Number of values that must be known of the whole of input 0 before the first band.
    fn statistic(&self, whole: &[Meta]) -> usize {
        let _ = whole;
        0
    }

    /// Adds some rows of input 0, `[1, rows, W, C]` as `x`, to the statistic, which begins with zeros.
    fn gather(&self, x: &[f32], statistic: &mut [f64]) {
        let _ = (x, statistic);
    }

    /// Computes the rows of `band`.
    fn run(&self, io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let _ = band;
        self.cpu(io)
    }
}
