//! Every operator of the registry: gradients, adjoints, precision, determinism.

mod common;

use common::*;
use hafuse::device::cpu::CpuIo;
use hafuse::device::fuses_multiply_adds;
use hafuse::ops::registry::{Case, CaseInput, registry};
use hafuse::tape::{Meta, Operator, check_inputs};
use hafuse::{DType, Error, Shape, Tape, Tensor, Var};

/// Inputs larger than this are not probed element by element.
const MAX_PROBED: usize = 1000;
/// Rounding grows with the root of the number of terms; this is the factor in front.
const ROUNDING: f64 = 8.0;

fn text(case: &Case, e: Error) -> String {
    format!("{}: {e}", case.label)
}

/// Output and gradients in `dtype` for inputs and a cotangent that f32 represents exactly.
fn evaluate(case: &Case, dtype: DType) -> Result<Vec<Vec<f64>>, String> {
    let fail = |e| text(case, e);
    let mut h = Harness::new(case, dtype, true).map_err(fail)?;
    let xs = case.tensors(SEED, DType::F32);
    let xs: Vec<Tensor> = xs.iter().map(|x| x.to_dtype(dtype)).collect();
    let g = cotangent(&h, dtype).to_dtype(DType::F32).to_dtype(dtype);
    h.set(&xs).map_err(fail)?;
    let mut out = h.gradients(&g).map_err(fail)?;
    out.insert(0, h.session.get("y").map_err(fail)?.to_f64());
    Ok(out)
}

#[test]
fn gradients_match_central_differences() {
    let mut cases = all_cases();
    cases.retain(|c| c.inputs.iter().all(|i| i.shape.len() <= MAX_PROBED));
    // Small inputs may still be broadcast to an output too large to run thousands of times.
    cases.retain(|c| output_len(c) <= 4 * MAX_PROBED);
    check_all("gradient", cases, check_gradient);
}

fn output_len(case: &Case) -> usize {
    let metas = case.inputs.iter().map(|i| Meta::new(i.shape, DType::F32));
    let meta = case.op.output(&metas.collect::<Vec<_>>());
    meta.expect("cases are well formed").shape.len()
}

#[test]
fn vjp_is_the_adjoint_of_the_directional_derivative() {
    check_all("adjoint", all_cases(), |case| {
        let h = Harness::new(case, DType::F64, false).map_err(|e| text(case, e))?;
        let error = adjoint_error(case, &cotangent(&h, DType::F64))?;
        match error <= 1e-6 {
            true => Ok(error),
            false => Err(format!("{}: off by {error:e} (seed {SEED})", case.label)),
        }
    });
}

/// `|<g, J dx> - <J^T g, dx>| / (|g| |J dx|)` for a random `dx` over all inputs at once.
fn adjoint_error(case: &Case, g: &Tensor) -> Result<f64, String> {
    let fail = |e| text(case, e);
    let mut forward = Harness::new(case, DType::F64, false).map_err(fail)?;
    let mut backward = Harness::new(case, DType::F64, true).map_err(fail)?;
    let xs = case.tensors(SEED, DType::F64);
    let steps: Vec<Vec<f64>> = Case {
        inputs: case
            .inputs
            .iter()
            .map(|i| CaseInput::any(i.shape))
            .collect(),
        ..case.clone()
    }
    .tensors(SEED + 2, DType::F64)
    .iter()
    .map(Tensor::to_f64)
    .collect();
    // Small, so that hardly any element crosses a kink.
    let h = 1e-7;
    let mut at = |h: f64| -> Result<Vec<f64>, String> {
        let moved = xs.iter().zip(&steps).map(|(x, d)| {
            let v = x.to_f64().iter().zip(d).map(|(x, d)| x + h * d).collect();
            Tensor::from_vec(x.shape(), v)
        });
        forward
            .set(&moved.collect::<hafuse::Result<Vec<_>>>().map_err(fail)?)
            .map_err(fail)?;
        forward.output().map_err(fail)
    };
    let (after, before) = (at(h)?, at(-h)?);
    let jdx: Vec<f64> = after
        .iter()
        .zip(&before)
        .map(|(a, b)| (a - b) / (2.0 * h))
        .collect();
    backward.set(&xs).map_err(fail)?;
    let gradients = backward.gradients(g).map_err(fail)?;
    let gv = g.to_f64();
    let right: f64 = gradients.iter().zip(&steps).map(|(a, b)| dot(a, b)).sum();
    let difference = (dot(&gv, &jdx) - right).abs();
    // An operator that is constant here has nothing but rounding noise on the left.
    let scale = (dot(&gv, &gv) * dot(&jdx, &jdx)).sqrt().max(1e-3);
    Ok(difference / scale)
}

#[test]
fn f32_agrees_with_f64() {
    check_all("f32 vs f64", all_cases(), |case| {
        let (single, double) = (evaluate(case, DType::F32)?, evaluate(case, DType::F64)?);
        let mut worst = 0.0f64;
        for (i, (a, b)) in single.iter().zip(&double).enumerate() {
            // An element of a gradient may sum over the whole output.
            let terms = match i {
                0 => case.terms,
                _ => case.terms.max(double[0].len()),
            };
            // Tiles of 8 x 8 (docs/numerics.md).
            let unfused = case.op.name().starts_with("conv") && !fuses_multiply_adds();
            let rounding = if unfused { 2.0 * ROUNDING } else { ROUNDING };
            let limit = rounding * f64::from(f32::EPSILON) * (terms as f64).sqrt();
            let error = relative_error(a, b);
            if error.is_nan() || error > limit {
                let which = match i {
                    0 => "output".to_string(),
                    _ => format!("gradient of input {}", i - 1),
                };
                return Err(format!(
                    "{}: {which} is off by {error:e}, limit {limit:e}",
                    case.label
                ));
            }
            worst = worst.max(error);
        }
        Ok(worst)
    });
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let bits = |case: &Case, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("a pool of threads");
        let values = pool.install(|| evaluate(case, DType::F32)).expect("runs");
        let values = values.into_iter().flatten();
        values.map(f64::to_bits).collect::<Vec<_>>()
    };
    for case in all_cases() {
        assert!(bits(&case, 1) == bits(&case, 2), "{}", case.label);
    }
}

#[test]
fn every_operator_has_enough_cases() {
    for entry in registry() {
        let cases = (entry.cases)();
        assert!(cases.len() >= 3, "{} has {} cases", entry.name, cases.len());
        let pictures: Vec<[usize; 4]> = cases
            .iter()
            .flat_map(|c| &c.inputs)
            .filter_map(|i| i.shape.dims4("case").ok())
            .collect();
        if pictures.is_empty() {
            continue;
        }
        let thin = |d: &[usize; 4]| (d[1] == 1) != (d[2] == 1);
        let odd = |d: &[usize; 4]| d[3] > 8 && !d[3].is_multiple_of(8);
        // An operator on channel vectors has no picture to be thin.
        let vectors = pictures.iter().all(|d| d[1] * d[2] == 1);
        assert!(
            vectors || pictures.iter().any(thin),
            "{}: no thin picture",
            entry.name
        );
        // One on grey pictures and their levels, mean and deviation, has no other channels.
        let grey = pictures.iter().all(|d| d[3] <= 2);
        assert!(
            grey || pictures.iter().any(odd),
            "{}: no odd channels",
            entry.name
        );
    }
}

/// Mirrors the columns. The adjoint mirrors them back; `forgets` leaves that out.
#[derive(Debug)]
struct Flip {
    forgets: bool,
}

impl Operator for Flip {
    fn name(&self) -> &'static str {
        "flip"
    }

    fn output(&self, inputs: &[Meta]) -> hafuse::Result<Meta> {
        check_inputs("flip", inputs, 1..=1)?;
        Ok(inputs[0])
    }

    fn vjp(&self, t: &mut Tape, _: Var, g: Var) -> hafuse::Result<Vec<Option<Var>>> {
        if self.forgets {
            return Ok(vec![Some(g)]);
        }
        Ok(vec![Some(t.record(Flip { forgets: false }, &[g])?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> hafuse::Result<()> {
        let [_, _, w, c] = io.shape(0).dims4("flip")?;
        let (x, out) = (io.input::<f64>(0)?, io.output::<f64>()?);
        for (x, out) in x.chunks_exact(w * c).zip(out.chunks_exact_mut(w * c)) {
            for (x, out) in x.chunks_exact(c).rev().zip(out.chunks_exact_mut(c)) {
                out.copy_from_slice(x);
            }
        }
        Ok(())
    }

    fn flops(&self, _: &[Meta], _: Meta) -> u64 {
        0
    }
}

#[test]
fn a_wrong_vjp_is_caught_but_not_with_a_cotangent_of_ones() {
    let shape = Shape::from([1, 3, 5, 2]);
    let flip = |forgets| Case::new("flip", Flip { forgets }, vec![CaseInput::any(shape)], 1);
    let (right, wrong) = (flip(false), flip(true));
    check_gradient(&right).expect("the right adjoint passes");
    let message = check_gradient(&wrong).expect_err("the wrong adjoint is caught");
    assert!(message.contains("gradient of input 0"), "{message}");
    // Ones look the same when mirrored: they would have let it through.
    let ones = Tensor::full(shape, DType::F64, 1.0);
    let h = Harness::new(&wrong, DType::F64, false).expect("records");
    let random = cotangent(&h, DType::F64);
    let error = |g: &Tensor| adjoint_error(&wrong, g).expect("runs");
    assert!(error(&ones) < 1e-6, "blind to it");
    assert!(error(&random) > 1e-3, "sees it");
}

/// CI runs this suite as older CPUs would; a name that nobody knows would run the widest version again.
#[test]
fn the_version_asked_for_is_the_one_that_runs() {
    let asked = std::env::var("HAFUSE_SIMD").unwrap_or_default();
    if cfg!(target_arch = "x86_64") && !asked.is_empty() {
        let known = ["portable", "avx2", "avx512"].contains(&asked.as_str());
        let right = fuses_multiply_adds() == (asked != "portable");
        assert!(known && right, "HAFUSE_SIMD={asked}");
    }
}
