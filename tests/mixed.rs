//! Channels and the mixed operator: gradients, f32 against f64, values worked out by hand.

mod common;

use common::{Harness, SEED, check_gradient, cotangent, relative_error};
use hafuse::ops::registry::{Case, registry};
use hafuse::{DType, Error, ParamStore, Session, Tape, Tensor, ops};

fn cases() -> Vec<Case> {
    registry()
        .iter()
        .filter(|e| ["concat", "mixed"].contains(&e.name))
        .flat_map(|e| (e.cases)())
        .collect()
}

/// Output and gradients in one vector each.
fn run(case: &Case, dtype: DType) -> Vec<Vec<f64>> {
    // Both dtypes see values that f32 can hold.
    let xs: Vec<Tensor> = case
        .tensors(SEED, DType::F32)
        .iter()
        .map(|x| x.to_dtype(dtype))
        .collect();
    let mut h = Harness::new(case, dtype, true).unwrap();
    let g = cotangent(&h, DType::F32).to_dtype(dtype);
    h.set(&xs).unwrap();
    let mut all = h.gradients(&g).unwrap();
    all.push(h.session.get("y").unwrap().to_f64());
    all
}

#[test]
fn gradients_match_differences() {
    let cases = cases();
    assert!(cases.len() > 15);
    for case in cases {
        if case.inputs.iter().all(|i| i.shape.len() <= 200) {
            check_gradient(&case).unwrap();
        }
    }
}

#[test]
fn f32_is_f64_up_to_rounding() {
    for case in cases() {
        let tolerance = 4.0 * f64::from(f32::EPSILON) * (case.terms as f64).sqrt();
        let (single, double) = (run(&case, DType::F32), run(&case, DType::F64));
        for (i, (a, b)) in single.iter().zip(&double).enumerate() {
            let error = relative_error(a, b);
            assert!(
                error <= tolerance,
                "{}: array {i} is off by {error:e}, allowed {tolerance:e}",
                case.label
            );
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    for case in cases() {
        let pool = |n| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(n)
                .build()
                .unwrap()
                .install(|| run(&case, DType::F32))
        };
        assert_eq!(pool(1), pool(3), "{}", case.label);
    }
}

fn evaluate(t: &Tape) -> Vec<f64> {
    let mut s = Session::new(t, &ParamStore::default()).unwrap();
    s.run().unwrap();
    s.get("y").unwrap().to_f64()
}

#[test]
fn slices_undo_concat() {
    let mut t = Tape::new(DType::F64);
    let array = |t: &mut Tape, c: usize, first: f64| {
        let values = (0..4 * c).map(|i| first + i as f64).collect();
        t.constant(&Tensor::from_vec([1, 2, 2, c], values).unwrap())
            .unwrap()
    };
    let (a, b) = (array(&mut t, 1, 0.0), array(&mut t, 2, 10.0));
    let y = ops::concat(&mut t, &[a, b]).unwrap();
    let last = ops::slice_channels(&mut t, y, 1, 2).unwrap();
    t.output("y", y).unwrap();
    t.output("last", last).unwrap();
    let mut s = Session::new(&t, &ParamStore::default()).unwrap();
    s.run().unwrap();
    let expected = [0., 10., 11., 1., 12., 13., 2., 14., 15., 3., 16., 17.];
    assert_eq!(s.output::<f64>("y").unwrap(), expected);
    let expected = [10., 11., 12., 13., 14., 15., 16., 17.];
    assert_eq!(s.output::<f64>("last").unwrap(), expected);
}

#[test]
fn softmax_survives_large_entries() {
    for dtype in [DType::F32, DType::F64] {
        let mut t = Tape::new(dtype);
        let v = Tensor::from_vec([2, 2], vec![1e4, 1e4, -1e30, 1e30]).unwrap();
        let v = t.constant(&v).unwrap();
        let y = ops::softmax(&mut t, v).unwrap();
        t.output("y", y).unwrap();
        assert_eq!(evaluate(&t), [0.5, 0.5, 0.0, 1.0]);
    }
}

/// The mixed operator end to end: d/da of `g . sum softmax(a)_i x_i` against the formula.
#[test]
fn mixed_operator_gradient() {
    let (x, a) = ([3.0, -1.0, 2.0], [0.2f64, -0.4, 1.0]);
    let mut t = Tape::new(DType::F64);
    let alpha = t.input("a", [3]).unwrap();
    let w = ops::softmax(&mut t, alpha).unwrap();
    let xs: Vec<_> = x
        .iter()
        .map(|&v| t.constant(&Tensor::full([1], DType::F64, v)).unwrap())
        .collect();
    let y = ops::weighted_sum(&mut t, w, &xs).unwrap();
    let d = t.grad(y, &[alpha]).unwrap()[0];
    t.output("d", d).unwrap();
    let mut s = Session::new(&t, &ParamStore::default()).unwrap();
    s.set("a", &Tensor::from_vec([3], a.to_vec()).unwrap())
        .unwrap();
    s.run().unwrap();
    let total: f64 = a.iter().map(|a| a.exp()).sum();
    let w: Vec<f64> = a.iter().map(|a| a.exp() / total).collect();
    let y: f64 = w.iter().zip(x).map(|(w, x)| w * x).sum();
    for i in 0..3 {
        let found = s.output::<f64>("d").unwrap()[i];
        assert!((found - w[i] * (x[i] - y)).abs() < 1e-14);
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let mut t = Tape::new(DType::F32);
    let a = t.input("a", [1, 2, 2, 3]).unwrap();
    let b = t.input("b", [1, 2, 3, 3]).unwrap();
    let w = t.input("w", [2]).unwrap();
    let scalar = t.input("s", []).unwrap();
    let shape = |r: hafuse::Result<hafuse::Var>| matches!(r, Err(Error::Shape { .. }));
    assert!(shape(ops::concat(&mut t, &[])));
    assert!(shape(ops::concat(&mut t, &[a, b])));
    assert!(shape(ops::concat(&mut t, &[scalar, scalar])));
    assert!(shape(ops::concat(&mut t, &[a; 17])));
    assert!(shape(ops::slice_channels(&mut t, a, 2, 2)));
    assert!(shape(ops::slice_channels(&mut t, a, 1, 0)));
    assert!(shape(ops::slice_channels(&mut t, scalar, 0, 1)));
    assert!(shape(ops::softmax(&mut t, scalar)));
    assert!(shape(ops::weighted_sum(&mut t, w, &[a])));
    assert!(shape(ops::weighted_sum(&mut t, w, &[a, b])));
    assert!(shape(ops::weighted_sum(&mut t, w, &[])));
}
