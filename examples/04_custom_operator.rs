//! An operator from outside the crate, y = ln(1 + e^x): its shape rule, derivative and CPU code.
//! It is recorded like those of `hafuse::ops`; its derivative is compared with differences.
//!
//!     cargo run --example 04_custom_operator

use hafuse::device::cpu::{CpuIo, for_chunks};
use hafuse::tape::{Meta, Operator, check_inputs};
use hafuse::{DType, ParamStore, Result, Session, Tape, Tensor, Var, dispatch_real, ops};

const CHUNK: usize = 4096;

#[derive(Debug)]
struct Softplus;

impl Operator for Softplus {
    fn name(&self) -> &'static str {
        "softplus"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let dtype = check_inputs(self.name(), inputs, 1..=1)?;
        Ok(Meta::new(inputs[0].shape, dtype))
    }

    // y' = sigmoid(x), recorded with operators that are there; so it has derivatives in turn.
    fn vjp(&self, t: &mut Tape, y: Var, g: Var) -> Result<Vec<Option<Var>>> {
        let x = t.inputs_of(y)[0];
        let slope = ops::sigmoid(t, x)?;
        Ok(vec![Some(ops::mul(t, g, slope)?)])
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        dispatch_real!(io.dtype(), self.name(), T => {
            let (x, y) = (io.input::<T>(0)?, io.output::<T>()?);
            for_chunks(y, CHUNK, |i, y| {
                for (y, x) in y.iter_mut().zip(&x[i * CHUNK..]) {
                    *y = x.max(0.0) + (-x.abs()).exp().ln_1p();
                }
            });
            Ok(())
        })
    }

    // `fn cuda` would stand here and list launches of a kernel; without it a session on a card is
    // refused. The library holds its own kernels only: one of yours has to lie, as
    // `<module>.fatbin`, beside copies of all others in the folder that HAFUSE_KERNELS names.

    fn flops(&self, _inputs: &[Meta], output: Meta) -> u64 {
        4 * output.shape.len() as u64
    }
}

fn main() -> Result<()> {
    let mut t = Tape::new(DType::F64);
    let x = t.input("x", [5])?;
    let y = t.record(Softplus, &[x])?;
    let loss = ops::sum_all(&mut t, y)?;
    let dx = t.grad(loss, &[x])?[0];
    t.output("y", y)?;
    t.output("dx", dx)?;
    let mut session = Session::new(&t, &ParamStore::default())?;
    let points = [-4.0, -1.0, 0.0, 1.0, 4.0];
    session.set("x", &Tensor::from_vec([5], points.to_vec())?)?;
    session.run()?;
    let (y, dx) = (session.output::<f64>("y")?, session.output::<f64>("dx")?);
    let f = |x: f64| (1.0 + x.exp()).ln();
    for (i, x) in points.into_iter().enumerate() {
        let slope = (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
        println!(
            "x {x:4}, y {:.6}, dx {:.8}, by differences {slope:.8}",
            y[i], dx[i]
        );
        assert!((y[i] - f(x)).abs() < 1e-12 && (dx[i] - slope).abs() < 1e-8);
    }
    Ok(())
}
