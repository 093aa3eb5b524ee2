//! Records a small computation on the tape, differentiates it and runs it.
//! Some derivatives are then compared with finite differences, in f64.
//!
//!     cargo run --example 03_tape

use hafuse::{DType, ParamStore, Session, Tape, Tensor, ops};

/// Half the distance of the two points of a difference.
const STEP: f64 = 1e-5;

fn main() -> hafuse::Result<()> {
    // Record mean(tanh(conv(x, w))^2). Shapes are checked; nothing is computed yet.
    let mut t = Tape::new(DType::F64);
    let x = t.input("x", [1, 8, 8, 3])?;
    let w = t.param("w", [3, 3, 3, 2])?;
    let y = ops::conv2d(&mut t, x, w, None, None, ops::ConvOptions::default())?;
    let y = ops::tanh(&mut t, y)?;
    let squares = ops::square(&mut t, y)?;
    let loss = ops::mean_all(&mut t, squares)?;
    let forward = t.nodes().len();

    // Differentiate: the derivative is made of further nodes on the same tape.
    let dw = t.grad(loss, &[w])?[0];
    t.output("loss", loss)?;
    t.output("dw", dw)?;
    println!("{forward} nodes, {} with the derivative", t.nodes().len());

    // Bind to parameters: memory is planned once, and runs allocate nothing.
    let values: Vec<f64> = (0..54).map(|i| 0.3 * f64::from(i).sin()).collect();
    let params = ParamStore::default();
    params.set("w", &Tensor::from_vec([3, 3, 3, 2], values.clone())?)?;
    let mut session = Session::new(&t, &params)?;
    for (i, x) in session.input_mut::<f64>("x")?.iter_mut().enumerate() {
        *x = (i % 7) as f64 / 7.0;
    }
    session.run()?;
    let derivative = session.output::<f64>("dw")?.to_vec();
    println!(
        "loss {:.6}, {} bytes of memory",
        session.scalar("loss")?,
        session.arena_bytes()
    );

    for i in [0, 20, 53] {
        // The loss with one weight moved.
        let mut at = |step: f64| {
            let mut moved = values.clone();
            moved[i] += step;
            params.set("w", &Tensor::from_vec([3, 3, 3, 2], moved)?)?;
            session.run()?;
            session.scalar("loss")
        };
        let difference = (at(STEP)? - at(-STEP)?) / (2.0 * STEP);
        println!(
            "dw[{i}]: {:+.10}, by differences {difference:+.10}",
            derivative[i]
        );
        assert!((difference - derivative[i]).abs() < 1e-8);
    }
    Ok(())
}
