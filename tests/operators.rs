mod common;
use common::*;
use hafuse::DType;
use hafuse::ops::registry::registry;

#[test]
fn grads() {
    for e in registry() {
        for c in (e.cases)() {
            if c.inputs.iter().all(|i| i.shape.len() <= 1000) {
                let w = check_gradient(&c).unwrap();
                println!("{} {w:e}", c.label);
            }
            let run = |d| {
                let xs = c.tensors(SEED, d);
                let mut h = Harness::new(&c, d, true).unwrap();
                let g = cotangent(&h, d);
                h.set(&xs).unwrap();
                let gr = h.gradients(&g).unwrap();
                (h.session.get("y").unwrap().to_f64(), gr)
            };
            let (a, b) = (run(DType::F32), run(DType::F64));
            println!(
                "   f32: {:e} {:?}",
                relative_error(&a.0, &b.0),
                a.1.iter()
                    .zip(&b.1)
                    .map(|(a, b)| relative_error(a, b))
                    .collect::<Vec<_>>()
            );
        }
    }
}
