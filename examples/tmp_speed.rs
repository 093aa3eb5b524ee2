use hafuse::{DType, ParamStore, Session, SessionOptions, Tape, Tensor, ops};
fn main() {
    for (n, h, w, ci, co, k) in [
        (1, 448, 620, 32, 32, 3),
        (8, 64, 64, 32, 32, 3),
        (8, 32, 32, 64, 64, 3),
        (8, 16, 16, 128, 128, 3),
        (8, 64, 64, 32, 32, 1),
        (8, 64, 64, 64, 64, 3),
        (8, 64, 64, 2, 32, 3),
        (8, 64, 64, 32, 1, 3),
        (1, 448, 620, 32, 32, 5),
    ] {
        let mut t = Tape::new(DType::F32);
        let x = t.input("x", [n, h, w, ci]).unwrap();
        let wt = t.param("w", [k, k, ci, co]).unwrap();
        let b = t.param("b", [co]).unwrap();
        let y = ops::conv2d(
            &mut t,
            x,
            wt,
            Some(b),
            None,
            ops::ConvOptions {
                activation: ops::Activation::LeakyRelu(0.2),
                ..Default::default()
            },
        )
        .unwrap();
        t.output("y", y).unwrap();
        let g = t.input("g", t.shape(y)).unwrap();
        let d = t.vjp(y, g, &[x, wt]).unwrap();
        t.output("dx", d[0]).unwrap();
        t.output("dw", d[1]).unwrap();
        let p = ParamStore::default();
        p.set("w", &Tensor::full([k, k, ci, co], DType::F32, 0.01))
            .unwrap();
        p.set("b", &Tensor::full([co], DType::F32, 0.01)).unwrap();
        let mut s = Session::with_options(
            &t,
            &p,
            SessionOptions {
                profile: true,
                poison: false,
            },
        )
        .unwrap();
        s.input_mut::<f32>("x").unwrap().fill(0.3);
        s.input_mut::<f32>("g").unwrap().fill(0.3);
        let mut best: Vec<f64> = vec![f64::MAX; 10];
        for _ in 0..8 {
            s.run().unwrap();
            for (i, r) in s.report().iter().enumerate() {
                best[i] = best[i].min(r.time.as_secs_f64());
            }
        }
        println!("{n}x{h}x{w} {ci}->{co} k{k}");
        for (r, b) in s.report().iter().zip(&best) {
            println!(
                "   {:<22} {:8.3} ms {:7.1} GFLOP/s",
                r.op,
                b * 1e3,
                r.cost.flops as f64 / b / 1e9
            );
        }
    }
}
