use super::*;
use crate::{DType, ParamStore, Session, Tensor};

fn store(names: &[&str], dtype: DType, n: usize) -> ParamStore {
    let store = ParamStore::default();
    for name in names {
        store.set(name, &Tensor::full([n], dtype, 0.0)).unwrap();
    }
    store
}

fn wave(n: usize, phase: f64) -> Vec<f64> {
    (0..n).map(|i| (0.7 * i as f64 + phase).sin()).collect()
}

fn tensor(values: Vec<f64>, dtype: DType) -> Tensor {
    Tensor::from_vec([values.len()], values)
        .unwrap()
        .to_dtype(dtype)
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .fold(0.0, |m, (a, b)| f64::max(m, (a - b).abs()))
}

fn sgd_session(store: &ParamStore, dtype: DType, n: usize, options: SgdOptions) -> Session {
    let mut t = Tape::new(dtype);
    let (p, b) = (t.param("p", [n]).unwrap(), t.param("b", [n]).unwrap());
    let (g, lr) = (t.input("g", [n]).unwrap(), t.input("lr", []).unwrap());
    let e = sgd(&mut t, p, b, g, lr, options).unwrap();
    assert_eq!(t.shape(e).dims(), [0]);
    Session::new(&t, store).unwrap()
}

fn adam_session(store: &ParamStore, dtype: DType, n: usize, options: AdamOptions) -> Session {
    let mut t = Tape::new(dtype);
    let p = t.param("p", [n]).unwrap();
    let (m, v) = (t.param("m", [n]).unwrap(), t.param("v", [n]).unwrap());
    let (g, lr) = (t.input("g", [n]).unwrap(), t.input("lr", []).unwrap());
    let step = t.input("step", []).unwrap();
    adam(&mut t, p, m, v, g, lr, step, options).unwrap();
    Session::new(&t, store).unwrap()
}

/// Runs each optimiser for some steps next to the textbook formulas in f64.
fn follow_sgd(dtype: DType, n: usize, tolerance: f64) {
    let o = SgdOptions {
        momentum: 0.9,
        weight_decay: 0.01,
    };
    let store = store(&["p", "b"], dtype, n);
    store.set("p", &tensor(wave(n, 0.3), dtype)).unwrap();
    let mut s = sgd_session(&store, dtype, n, o);
    let (mut p, mut b) = (wave(n, 0.3), vec![0.0; n]);
    for k in 0..6 {
        let g = wave(n, 1.1 * f64::from(k));
        let lr = 0.05 / f64::from(k + 1);
        s.set("g", &tensor(g.clone(), dtype)).unwrap();
        s.set_scalar("lr", lr).unwrap();
        s.run().unwrap();
        for i in 0..n {
            b[i] = o.momentum * b[i] + g[i] + o.weight_decay * p[i];
            p[i] -= lr * b[i];
        }
    }
    let error = worst(&store.get("p").unwrap().to_f64(), &p);
    assert!(error <= tolerance, "p: {error:e}");
    let error = worst(&store.get("b").unwrap().to_f64(), &b);
    assert!(error <= 10.0 * tolerance, "b: {error:e}");
}

fn follow_adam(dtype: DType, n: usize, tolerance: f64) {
    let o = AdamOptions {
        weight_decay: 0.01,
        ..Default::default()
    };
    let store = store(&["p", "m", "v"], dtype, n);
    store.set("p", &tensor(wave(n, 0.3), dtype)).unwrap();
    let mut s = adam_session(&store, dtype, n, o);
    let (mut p, mut m, mut v) = (wave(n, 0.3), vec![0.0; n], vec![0.0; n]);
    for k in 1..=6 {
        // Bounded away from zero: there f32 and f64 may disagree on the sign of the step.
        let g: Vec<f64> = wave(n, 1.1 * f64::from(k))
            .iter()
            .map(|g| 1.5 + g)
            .collect();
        s.set("g", &tensor(g.clone(), dtype)).unwrap();
        s.set_scalar("lr", 0.05).unwrap();
        s.set_scalar("step", f64::from(k)).unwrap();
        s.run().unwrap();
        for i in 0..n {
            let g = g[i] + o.weight_decay * p[i];
            m[i] = o.beta1 * m[i] + (1.0 - o.beta1) * g;
            v[i] = o.beta2 * v[i] + (1.0 - o.beta2) * g * g;
            let m_hat = m[i] / (1.0 - o.beta1.powi(k));
            let v_hat: f64 = v[i] / (1.0 - o.beta2.powi(k));
            p[i] -= 0.05 * m_hat / (v_hat.sqrt() + o.eps);
        }
    }
    for (name, expected) in [("p", &p), ("m", &m), ("v", &v)] {
        let error = worst(&store.get(name).unwrap().to_f64(), expected);
        assert!(error <= tolerance, "{name}: {error:e}");
    }
}

#[test]
fn sgd_follows_the_formula() {
    follow_sgd(DType::F64, 5, 1e-14);
    follow_sgd(DType::F64, 3 * CHUNK + 17, 1e-14);
    follow_sgd(DType::F32, 3 * CHUNK + 17, 1e-6);
}

#[test]
fn adam_follows_the_formula() {
    follow_adam(DType::F64, 5, 1e-13);
    follow_adam(DType::F64, 3 * CHUNK + 17, 1e-13);
    follow_adam(DType::F32, 3 * CHUNK + 17, 3e-6);
}

/// `p` is updated by one session and read by another on the same store.
#[test]
fn sessions_share_the_update() {
    let store = store(&["p", "m", "v", "b"], DType::F64, 3);
    let mut t = Tape::new(DType::F64);
    let p = t.param("p", [3]).unwrap();
    assert!(
        t.output("p", p).is_err(),
        "a parameter is read from the store"
    );
    let q = crate::ops::scale(&mut t, p, 1.0).unwrap();
    t.output("q", q).unwrap();
    let mut reader = Session::new(&t, &store).unwrap();
    let mut first = adam_session(&store, DType::F64, 3, AdamOptions::default());
    let mut second = sgd_session(&store, DType::F64, 3, SgdOptions::default());
    for s in [&mut first, &mut second] {
        s.set("g", &Tensor::full([3], DType::F64, 2.0)).unwrap();
        s.set_scalar("lr", 0.5).unwrap();
    }
    first.set_scalar("step", 1.0).unwrap();
    first.run().unwrap();
    reader.run().unwrap();
    assert!(worst(reader.output("q").unwrap(), &[-0.5; 3]) < 1e-8);
    second.run().unwrap();
    reader.run().unwrap();
    assert!(worst(reader.output("q").unwrap(), &[-1.5; 3]) < 1e-8);
}

#[test]
fn misuse_is_an_error() {
    let mut t = Tape::new(DType::F32);
    let (p, b) = (t.param("p", [2]).unwrap(), t.param("b", [2]).unwrap());
    let (g, lr) = (t.input("g", [2]).unwrap(), t.input("lr", []).unwrap());
    let other = t.input("other", [3]).unwrap();
    let o = SgdOptions::default();
    assert!(matches!(
        sgd(&mut t, p, b, other, lr, o),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        sgd(&mut t, p, b, g, g, o),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(sgd(&mut t, p, g, g, lr, o), Err(Error::Tape(_))));
    let wrong = SgdOptions { momentum: 1.0, ..o };
    assert!(matches!(
        sgd(&mut t, p, b, g, lr, wrong),
        Err(Error::Config { .. })
    ));
    let e = sgd(&mut t, p, b, g, lr, o).unwrap();
    assert!(
        matches!(sgd(&mut t, p, b, g, lr, o), Err(Error::Tape(_))),
        "read after update"
    );
    let one = t.input("one", [0]).unwrap();
    assert!(matches!(
        t.vjp(e, one, &[g]),
        Err(Error::NotDifferentiable { .. })
    ));

    let store = store(&["p", "m", "v"], DType::F32, 2);
    let mut s = adam_session(&store, DType::F32, 2, AdamOptions::default());
    s.set("g", &Tensor::full([2], DType::F32, 1.0)).unwrap();
    assert!(matches!(s.run(), Err(Error::Tape(_))), "step 0");
    assert_eq!(store.get("p").unwrap().to_f64(), [0.0, 0.0]);
}
