//! Channels and the mixed operator: values worked out by hand. Gradients and precision of all
//! operators are in `operators.rs`.

use hafuse::{DType, Error, ParamStore, Session, Tape, Tensor, ops};

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
