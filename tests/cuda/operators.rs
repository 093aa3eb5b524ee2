//! Every case of the registry, forward and vjp, in f32 and f16, in several orders of threads.

use crate::card::{card, fault, orders, set_order};
use crate::common::*;
use hafuse::device::Device;
use hafuse::device::launch::{CudaIo, DevicePtr};
use hafuse::ops::registry::{Case, CaseInput, Fill};
use hafuse::tape::{Meta, Operator, SessionOptions};
use hafuse::{DType, Error, Shape, Tape, Tensor, Var};

/// As in `tests/operators.rs`.
const ROUNDING: f64 = 8.0;

type Values = Vec<Vec<f64>>;

/// Output and gradients, from inputs and a cotangent that `stored` represents exactly.
fn evaluate(
    device: &Device,
    case: &Case,
    (dtype, stored): (DType, DType),
    options: SessionOptions,
) -> Result<Values, String> {
    let fail = |e: Error| format!("{}: {e} {}", case.label, fault());
    let mut h = Harness::on(device, case, dtype, true, options).map_err(fail)?;
    let exact = |t: &Tensor| t.to_dtype(stored).to_dtype(dtype);
    let xs: Vec<Tensor> = case.tensors(SEED, DType::F64).iter().map(exact).collect();
    let g = exact(&cotangent(&h, DType::F64));
    h.set(&xs).map_err(fail)?;
    let mut out = h.gradients(&g).map_err(fail)?;
    out.insert(0, h.session.get("y").map_err(fail)?.to_f64());
    Ok(out)
}

/// The same bits in every order of threads.
fn on_card(device: &Device, case: &Case, dtype: DType) -> Result<Values, String> {
    let options = SessionOptions {
        poison: true,
        eager: true,
        ..Default::default()
    };
    let mut first: Option<Values> = None;
    for &order in orders() {
        set_order(order);
        let values = evaluate(device, case, (dtype, dtype), options)?;
        let bits = |v: &Values| v.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        match &first {
            None => first = Some(values),
            Some(f) if bits(f) == bits(&values) => {}
            Some(_) => {
                return Err(format!(
                    "{}: other bits when threads run in order {order:?}: a barrier is missing",
                    case.label
                ));
            }
        }
    }
    first.ok_or_else(|| "no order was run".into())
}

fn on_cpu(case: &Case, dtypes: (DType, DType), round_to_f16: bool) -> Result<Values, String> {
    let options = SessionOptions {
        poison: true,
        round_to_f16,
        ..Default::default()
    };
    evaluate(&Device::Cpu, case, dtypes, options)
}

/// Error over its limit for the output and each gradient.
fn check_f32(device: &Device, case: &Case) -> Result<f64, String> {
    let found = on_card(device, case, DType::F32)?;
    let exact = on_cpu(case, (DType::F64, DType::F32), false)?;
    let mut worst = 0.0f64;
    for (i, (a, b)) in found.iter().zip(&exact).enumerate() {
        let terms = match i {
            0 => case.terms,
            _ => case.terms.max(exact[0].len()),
        };
        let limit = ROUNDING * f64::from(f32::EPSILON) * (terms as f64).sqrt();
        worst = worst.max(compare(case, i, relative_error(a, b), limit)?);
    }
    Ok(worst)
}

fn check_f16(device: &Device, case: &Case) -> Result<f64, String> {
    let found = on_card(device, case, DType::F16)?;
    let exact = on_cpu(case, (DType::F64, DType::F16), false)?;
    let plain = on_cpu(case, (DType::F32, DType::F16), true)?;
    let mut worst = 0.0f64;
    for (i, ((a, b), p)) in found.iter().zip(&exact).zip(&plain).enumerate() {
        // Half a unit in the last place is what any stored result may be off.
        let limit = 2.0 * relative_error(p, b).max(0.5 * 2f64.powi(-10));
        worst = worst.max(compare(case, i, relative_error(a, b), limit)?);
    }
    Ok(worst)
}

fn compare(case: &Case, i: usize, error: f64, limit: f64) -> Result<f64, String> {
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
    Ok(error / limit)
}

/// [`check_all`] on a card, of all cases or of those that `HAFUSE_TEST_CASE` names; errors are shares of
/// their limits.
fn check_on_card(what: &str, check: fn(&Device, &Case) -> Result<f64, String>) {
    let Some(device) = card() else { return };
    let only = std::env::var("HAFUSE_TEST_CASE").unwrap_or_default();
    let mut cases = all_cases();
    cases.retain(|c| c.label.contains(&only));
    check_all(what, cases, |case| check(&device, case));
}

#[test]
fn f32_agrees_with_f64_on_the_cpu_in_every_order_of_threads() {
    check_on_card("f32 / limit", check_f32);
}

#[test]
fn f16_is_as_good_as_a_plain_f16_evaluation() {
    check_on_card("f16 / limit", check_f16);
}

/// Where a maximum is attained several times, the gradient goes to the same one as on the CPU.
#[test]
fn ties_are_broken_as_on_the_cpu() {
    let Some(device) = card() else { return };
    let mut operators = std::collections::BTreeSet::new();
    for mut case in all_cases() {
        let distinct = |i: &CaseInput| matches!(i.fill, Fill::Distinct);
        if !case.inputs.iter().any(distinct) {
            continue;
        }
        for input in case.inputs.iter_mut().filter(|i| distinct(i)) {
            input.fill = Fill::Ties;
        }
        operators.insert(case.op.name());
        for check in [check_f32, check_f16] {
            check(&device, &case).unwrap_or_else(|e| panic!("ties: {e}"));
        }
    }
    assert!(operators.contains("max_pool2d"), "{operators:?}");
}

/// Launches an existing kernel with parameters of another size.
#[derive(Debug)]
struct WrongParameters;

impl Operator for WrongParameters {
    fn name(&self) -> &'static str {
        "wrong_parameters"
    }
    fn output(&self, inputs: &[Meta]) -> hafuse::Result<Meta> {
        Ok(inputs[0])
    }
    fn vjp(&self, _: &mut Tape, _: Var, _: Var) -> hafuse::Result<Vec<Option<Var>>> {
        Ok(vec![None])
    }
    fn cpu(&self, _: hafuse::device::cpu::CpuIo<'_>) -> hafuse::Result<()> {
        Ok(())
    }
    fn cuda(&self, io: &mut CudaIo<'_>) -> hafuse::Result<()> {
        let params: DevicePtr = io.input(0);
        io.launch("unary", "unary_fwd", 1, 32, params)
    }
    fn flops(&self, _: &[Meta], _: Meta) -> u64 {
        0
    }
}

#[test]
fn parameters_of_the_wrong_size_never_reach_a_kernel() {
    let Some(device) = card() else { return };
    let inputs = vec![CaseInput::any(Shape::from([4]))];
    let case = Case::new("wrong", WrongParameters, inputs, 1);
    let message = Harness::on(&device, &case, DType::F32, false, SessionOptions::default())
        .err()
        .map(|e| e.to_string())
        .expect("is refused");
    assert!(
        message.contains("unary_fwd_f32 takes 32 bytes"),
        "{message}"
    );
    assert!(message.contains("8 were given"), "{message}");
}
