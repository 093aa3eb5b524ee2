//! The harness that every operator of the registry goes through.
#![allow(dead_code)] // each test binary uses a part

use hafuse::device::Device;
use hafuse::ops::registry::{Case, CaseInput, Fill, registry};
use hafuse::tape::SessionOptions;
use hafuse::{DType, ParamStore, Session, Tape, Tensor, Var};
use rayon::prelude::*;
use std::collections::BTreeMap;

pub const SEED: u64 = 20_211_024;

/// A session with inputs `x0..`, output `y` and, given a cotangent input `g`, gradients `dx0..`.
pub struct Harness {
    pub session: Session,
    pub inputs: usize,
}

impl Harness {
    pub fn new(case: &Case, dtype: DType, with_gradient: bool) -> hafuse::Result<Self> {
        let options = SessionOptions {
            poison: true,
            ..Default::default()
        };
        Self::on(&Device::Cpu, case, dtype, with_gradient, options)
    }

    pub fn on(
        device: &Device,
        case: &Case,
        dtype: DType,
        with_gradient: bool,
        options: SessionOptions,
    ) -> hafuse::Result<Self> {
        let mut t = Tape::new(dtype);
        let xs: Vec<Var> = case
            .inputs
            .iter()
            .enumerate()
            .map(|(i, c)| t.input(&format!("x{i}"), c.shape))
            .collect::<hafuse::Result<_>>()?;
        let y = t.record_shared(case.op.clone(), &xs)?;
        t.output("y", y)?;
        if with_gradient {
            let g = t.input("g", t.shape(y))?;
            for (i, dx) in t.vjp(y, g, &xs)?.into_iter().enumerate() {
                t.output(&format!("dx{i}"), dx)?;
            }
        }
        Ok(Self {
            session: Session::with_options(&t, &ParamStore::on(device), options)?,
            inputs: xs.len(),
        })
    }

    pub fn set(&mut self, xs: &[Tensor]) -> hafuse::Result<()> {
        for (i, x) in xs.iter().enumerate() {
            let name = format!("x{i}");
            if self.session.uses_input(&name) {
                self.session.set(&name, x)?;
            }
        }
        Ok(())
    }

    pub fn output(&mut self) -> hafuse::Result<Vec<f64>> {
        self.session.run()?;
        Ok(self.session.get("y")?.to_f64())
    }

    pub fn gradients(&mut self, g: &Tensor) -> hafuse::Result<Vec<Vec<f64>>> {
        if self.session.uses_input("g") {
            self.session.set("g", g)?;
        }
        self.session.run()?;
        (0..self.inputs)
            .map(|i| Ok(self.session.get(&format!("dx{i}"))?.to_f64()))
            .collect()
    }
}

pub fn cotangent(h: &Harness, dtype: DType) -> Tensor {
    use rand::SeedableRng;
    let shape = h.session.get("y").expect("y exists").shape();
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(SEED + 1);
    CaseInput::new(shape, Fill::Uniform(-1.0, 1.0)).tensor(&mut rng, dtype)
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Largest `|a - b|` over the largest magnitude of either; NaN or infinity anywhere gives NaN.
pub fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    if a.iter().chain(b).any(|v| !v.is_finite()) {
        return f64::NAN;
    }
    let scale = a.iter().chain(b).fold(0.0f64, |m, v| m.max(v.abs()));
    let diff = a
        .iter()
        .zip(b)
        .fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    if diff == 0.0 { 0.0 } else { diff / scale }
}

/// Checks `vjp` against central differences in f64 under a random cotangent. `Ok(worst error)`.
pub fn check_gradient(case: &Case) -> Result<f64, String> {
    let fail = |e: hafuse::Error| format!("{}: {e}", case.label);
    let mut xs = case.tensors(SEED, DType::F64);
    let mut forward = Harness::new(case, DType::F64, false).map_err(fail)?;
    let mut backward = Harness::new(case, DType::F64, true).map_err(fail)?;
    let g = cotangent(&forward, DType::F64);
    backward.set(&xs).map_err(fail)?;
    let analytic = backward.gradients(&g).map_err(fail)?;
    let gv = g.to_f64();
    let mut worst = 0.0f64;
    for i in 0..xs.len() {
        let n = xs[i].shape().len();
        let mut numeric = vec![0.0; n];
        for (j, slot) in numeric.iter_mut().enumerate() {
            let x0 = xs[i].to_f64()[j];
            // Four-point stencil: error O(h^4), so h may be large enough to keep rounding small.
            let h = 1e-3;
            let mut at = |x: f64| -> Result<f64, String> {
                xs[i].as_mut_slice::<f64>().map_err(fail)?[j] = x;
                forward.set(&xs).map_err(fail)?;
                Ok(dot(&forward.output().map_err(fail)?, &gv))
            };
            let d1 = at(x0 + h)? - at(x0 - h)?;
            let d2 = at(x0 + 2.0 * h)? - at(x0 - 2.0 * h)?;
            at(x0)?;
            *slot = (8.0 * d1 - d2) / (12.0 * h);
        }
        // A gradient that is zero everywhere leaves rounding noise in the numeric one.
        let noise = 1e-10;
        let scale = numeric
            .iter()
            .chain(&analytic[i])
            .fold(0.0f64, |m, v| m.max(v.abs()));
        let error = if scale <= noise {
            0.0
        } else {
            relative_error(&analytic[i], &numeric)
        };
        if error.is_nan() || error > 1e-6 {
            return Err(format!(
                "{}: gradient of input {i} is off by {error:e} (seed {SEED})",
                case.label
            ));
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

/// Every case of the registry.
pub fn all_cases() -> Vec<Case> {
    registry().iter().flat_map(|e| (e.cases)()).collect()
}

/// Runs `check` on every case and prints the worst error of each operator.
pub fn check_all(
    what: &str,
    cases: Vec<Case>,
    check: impl Fn(&Case) -> Result<f64, String> + Sync,
) {
    let results: Vec<_> = cases
        .par_iter()
        .map(|c| (c.op.name(), c.label.clone(), check(c)))
        .collect();
    let mut worst: BTreeMap<&str, (f64, String)> = BTreeMap::new();
    let mut failures = Vec::new();
    for (op, label, result) in results {
        match result {
            Ok(error) => {
                let entry = worst.entry(op).or_insert((0.0, label.clone()));
                if error >= entry.0 {
                    *entry = (error, label);
                }
            }
            Err(e) => failures.push(e),
        }
    }
    for (op, (error, label)) in worst {
        println!("{what:<12} {op:<20} worst {error:.1e} ({label})");
    }
    let (failed, all) = (failures.len(), cases.len());
    assert!(
        failures.is_empty(),
        "{what}, {failed} of {all}:\n{}",
        failures.join("\n")
    );
}
