//! The one list of operators, with the cases that tests and benchmarks run.
//!
//! A new operator is not finished before it stands here: the gradient check, the adjoint identity
//! and the comparison of fast code with reference code all walk this list.

use crate::tape::Operator;
use crate::tensor::{DType, Shape, Tensor};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::sync::Arc;

/// Values that suit an input of an operator in a test.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// Uniform in `[lo, hi)`.
    Uniform(f64, f64),
    /// Uniform in `[-hi, -lo) + [lo, hi)`: keeps clear of a kink at zero.
    AwayFromZero(f64, f64),
    /// Evenly spaced in `[-1, 1]` and shuffled: no two are close, so a maximum is unique.
    Distinct,
    /// -1, 0 or 1: every maximum is attained many times.
    Ties,
}

/// An input of a [`Case`].
#[derive(Clone, Copy, Debug)]
pub struct CaseInput {
    pub shape: Shape,
    pub fill: Fill,
}

impl CaseInput {
    pub fn new(shape: impl Into<Shape>, fill: Fill) -> Self {
        Self {
            shape: shape.into(),
            fill,
        }
    }

    /// Uniform in [-1, 1).
    pub fn any(shape: impl Into<Shape>) -> Self {
        Self::new(shape, Fill::Uniform(-1.0, 1.0))
    }

    /// A tensor filled for this input.
    pub fn tensor(&self, rng: &mut Pcg64Mcg, dtype: DType) -> Tensor {
        let n = self.shape.len();
        let values: Vec<f64> = match self.fill {
            Fill::Uniform(lo, hi) => (0..n).map(|_| rng.random_range(lo..hi)).collect(),
            Fill::AwayFromZero(lo, hi) => (0..n)
                .map(|_| {
                    let v = rng.random_range(lo..hi);
                    if rng.random_bool(0.5) { v } else { -v }
                })
                .collect(),
            Fill::Ties => (0..n).map(|_| f64::from(rng.random_range(-1..2))).collect(),
            Fill::Distinct => {
                let mut v: Vec<f64> = (0..n)
                    .map(|i| 2.0 * (i as f64 + 0.5) / n as f64 - 1.0)
                    .collect();
                v.shuffle(rng);
                v
            }
        };
        Tensor::from_vec(self.shape, values)
            .map(|t| t.to_dtype(dtype))
            .unwrap_or_else(|_| Tensor::full(self.shape, dtype, f64::NAN))
    }
}

/// One operator with the shapes and values to try it on.
#[derive(Clone, Debug)]
pub struct Case {
    pub label: String,
    pub op: Arc<dyn Operator>,
    pub inputs: Vec<CaseInput>,
    /// Number of terms that one output element sums; tolerances grow with its root.
    pub terms: usize,
}

impl Case {
    pub fn new(
        label: impl Into<String>,
        op: impl Operator + 'static,
        inputs: Vec<CaseInput>,
        terms: usize,
    ) -> Self {
        Self {
            label: label.into(),
            op: Arc::new(op),
            inputs,
            terms,
        }
    }

    /// Deterministic input tensors of this case.
    pub fn tensors(&self, seed: u64, dtype: DType) -> Vec<Tensor> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        self.inputs
            .iter()
            .map(|i| i.tensor(&mut rng, dtype))
            .collect()
    }
}

/// An operator family and its cases.
pub struct Entry {
    pub name: &'static str,
    pub cases: fn() -> Vec<Case>,
}

/// Every operator that a user may record (adjoint operators are reached through `vjp`).
pub fn registry() -> Vec<Entry> {
    macro_rules! entries {
        ($($name:ident),* $(,)?) => {
            vec![$(Entry { name: stringify!($name), cases: super::$name::cases }),*]
        };
    }
    entries![
        conv,
        depthwise,
        separable,
        reflect_pad,
        pool,
        resize,
        upsample,
        box_filter,
        guided,
        channel_conv,
        binary,
        unary,
        reduce,
        levels,
        channel_stats,
        gate,
        attention,
        concat,
        mixed,
    ]
}
