//! Nothing stays on the card. A process of its own, since other tests allocate as well.

#[path = "cuda/card.rs"]
#[allow(dead_code)]
mod card;

use hafuse::device::Device;
use hafuse::infer::{Engine, Model, Precision};
use hafuse::tape::SessionOptions;
use hafuse::{DType, ParamStore, Session, Tape, Tensor, ops};

#[test]
fn memory_returns_to_where_it_was() {
    let Some(device) = card::card() else { return };
    let Device::Cuda(cuda) = &device else {
        panic!("a card was opened")
    };
    let free = || cuda.memory().expect("tells").0;
    // Modules stay loaded, so they are loaded first.
    let during = [update(&device, &free), fuse(&device, &free)];
    let before = free();
    // A real driver hands out memory in large pieces and counts other processes too.
    let slack = if card::real() { 64 << 20 } else { 0 };
    if !card::real() {
        assert!(during.iter().all(|&d| d < before), "sessions hold memory");
    }
    for _ in 0..if card::real() { 100 } else { 3 } {
        update(&device, &free);
        fuse(&device, &free);
    }
    let after = free();
    assert!(
        after.abs_diff(before) <= slack,
        "{before} bytes free before, {after} after"
    );
}

/// A store and a session that updates it, replayed.
fn update(device: &Device, free: &dyn Fn() -> usize) -> usize {
    let mut t = Tape::new(DType::F32);
    let x = t.input("x", [1, 64, 64, 8]).expect("records");
    let lr = t.input("lr", []).expect("records");
    let w = t.param("w", [8]).expect("records");
    let m = t.param("m", [8]).expect("records");
    let y = ops::mul(&mut t, x, w).expect("records");
    let loss = ops::sum_all(&mut t, y).expect("records");
    let dw = t.grad(loss, &[w]).expect("records")[0];
    ops::sgd(&mut t, w, m, dw, lr, ops::SgdOptions::default()).expect("records");
    t.output("y", y).expect("records");
    let store = ParamStore::on(device);
    let set = |name, value| store.set(name, &Tensor::full([8], DType::F32, value));
    set("w", 2.0).expect("uploads");
    set("m", 0.0).expect("uploads");
    let mut s = Session::new(&t, &store).expect("binds");
    s.input_mut::<f32>("x").expect("is used").fill(0.5);
    s.set_scalar("lr", 1.0 / 4096.0).expect("is used");
    for step in 0..3 {
        s.run().expect("runs");
        // w falls by lr * sum of x = 1/2 in each step.
        let expected = 0.5 * (2.0 - 0.5 * step as f32);
        assert_eq!(s.output::<f32>("y").expect("is there")[7], expected);
    }
    let w = store.get("w").expect("downloads").to_f64();
    assert_eq!(w, [0.5; 8]);
    free()
}

fn fuse(device: &Device, free: &dyn Fn() -> usize) -> usize {
    let model = Model::builtin("ivif-fast").expect("is built in");
    let options = SessionOptions::default();
    let mut engine = Engine::on(device, Precision::F16, &model, options).expect("opens");
    for (h, w) in [(16, 24), (11, 7)] {
        let (a, b) = (vec![0.25; h * w], vec![0.75; h * w]);
        engine.fuse(h, w, &a, &b).expect("fuses");
    }
    free()
}
