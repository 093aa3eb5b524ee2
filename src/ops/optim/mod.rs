//! Optimiser steps: effects that update parameters in place at the end of a run.

use crate::device::cpu::{CpuIo, SendPtr, for_chunks};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tape::{Meta, Operator, Tape, Var, check_inputs};
use crate::tensor::{DType, Real};
use crate::{Error, Result, dispatch_real};
use bytemuck::{Pod, Zeroable};

/// Elements of one unit of work.
const CHUNK: usize = 8192;

/// Options of [`sgd`]; the default is plain gradient descent.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct SgdOptions {
    /// `mu`, in `[0, 1)`.
    pub momentum: f64,
    /// `lambda`, not negative.
    pub weight_decay: f64,
}

/// Stochastic gradient descent with momentum `mu` and L2 weight decay `lambda`, as in PyTorch
/// (no dampening, no Nesterov):
///
/// `b <- mu b + (g + lambda p)`, then `p <- p - lr b`
///
/// # Shapes
/// `param` and `momentum_buf` are [parameters](Tape::param) of the shape of `grad`; `lr` is `[]`.
/// The buffer starts at zero. The returned node has shape `[0]`; nothing reads it, and no node
/// recorded later may read `param` or `momentum_buf`.
///
/// # Gradient
/// None ([`Error::NotDifferentiable`]).
///
/// # Errors
/// [`Error::Shape`] if shapes differ, [`Error::Config`] for an option out of range,
/// [`Error::Tape`] if `param` or `momentum_buf` is not a parameter.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let store = ParamStore::default();
/// store.set("p", &Tensor::full([2], DType::F64, 1.0))?;
/// store.set("p.momentum", &Tensor::full([2], DType::F64, 0.0))?;
/// let mut t = Tape::new(DType::F64);
/// let (p, b) = (t.param("p", [2])?, t.param("p.momentum", [2])?);
/// let (g, lr) = (t.input("g", [2])?, t.input("lr", [])?);
/// ops::sgd(&mut t, p, b, g, lr, ops::SgdOptions { momentum: 0.5, ..Default::default() })?;
/// let mut s = Session::new(&t, &store)?;
/// s.set_scalar("lr", 0.25)?;
/// s.set("g", &Tensor::full([2], DType::F64, 1.0))?;
/// s.run()?;
/// s.run()?;
/// assert_eq!(store.get("p")?.to_f64(), [0.375, 0.375]); // 1 - 0.25 * 1 - 0.25 * 1.5
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn sgd(
    t: &mut Tape,
    param: Var,
    momentum_buf: Var,
    grad: Var,
    lr: Var,
    options: SgdOptions,
) -> Result<Var> {
    t.record(Sgd { options }, &[param, momentum_buf, grad, lr])
}

/// Options of [`adam`]; the default is that of the paper and of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// In `[0, 1)`.
    pub beta1: f64,
    /// In `[0, 1)`.
    pub beta2: f64,
    /// Positive.
    pub eps: f64,
    /// `lambda`, not negative; added to the gradient (this is not AdamW).
    pub weight_decay: f64,
}

impl Default for AdamOptions {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// Adam (Kingma and Ba 2015) with L2 weight decay `lambda`, as in PyTorch. In step `k`, from 1:
///
/// `g' = g + lambda p`, `m <- beta1 m + (1 - beta1) g'`, `v <- beta2 v + (1 - beta2) g'^2`,
/// `p <- p - lr m / (1 - beta1^k) / (sqrt(v / (1 - beta2^k)) + eps)`
///
/// The corrections are computed in f64.
///
/// # Shapes
/// `param`, `m` and `v` are [parameters](Tape::param) of the shape of `grad`, `m` and `v` start at
/// zero; `lr` and `step` are `[]`. The returned node has shape `[0]`; nothing reads it, and no node
/// recorded later may read `param`, `m` or `v`.
///
/// # Gradient
/// None ([`Error::NotDifferentiable`]).
///
/// # Errors
/// [`Error::Shape`] if shapes differ, [`Error::Config`] for an option out of range,
/// [`Error::Tape`] if `param`, `m` or `v` is not a parameter, or in a run whose `step` is below 1
/// (nothing is updated then).
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let store = ParamStore::default();
/// for name in ["p", "p.m", "p.v"] {
///     store.set(name, &Tensor::full([3], DType::F64, 0.0))?;
/// }
/// let mut t = Tape::new(DType::F64);
/// let (p, m, v) = (t.param("p", [3])?, t.param("p.m", [3])?, t.param("p.v", [3])?);
/// let (g, lr, step) = (t.input("g", [3])?, t.input("lr", [])?, t.input("step", [])?);
/// ops::adam(&mut t, p, m, v, g, lr, step, ops::AdamOptions::default())?;
/// let mut s = Session::new(&t, &store)?;
/// s.set("g", &Tensor::full([3], DType::F64, 7.0))?;
/// s.set_scalar("lr", 0.01)?;
/// s.set_scalar("step", 1.0)?;
/// s.run()?;
/// assert!((store.get("p")?.to_f64()[0] + 0.01).abs() < 1e-10); // the first step has length lr
/// # Ok::<(), hafuse::Error>(())
/// ```
#[allow(clippy::too_many_arguments)] // the state of the method
pub fn adam(
    t: &mut Tape,
    param: Var,
    m: Var,
    v: Var,
    grad: Var,
    lr: Var,
    step: Var,
    options: AdamOptions,
) -> Result<Var> {
    t.record(Adam { options }, &[param, m, v, grad, lr, step])
}

/// `Sgd` of `kernels/optim.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SgdParams {
    param: DevicePtr,
    momentum: DevicePtr,
    g: DevicePtr,
    lr: DevicePtr,
    n: i32,
    mu: f32,
    decay: f32,
    unused: i32,
}

/// `Adam` of `kernels/optim.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct AdamParams {
    param: DevicePtr,
    m: DevicePtr,
    v: DevicePtr,
    g: DevicePtr,
    lr: DevicePtr,
    step: DevicePtr,
    beta1: f64,
    beta2: f64,
    n: i32,
    eps: f32,
    decay: f32,
    unused: i32,
}

/// See [`sgd`]. Inputs: parameter, momentum buffer, gradient, learning rate.
#[derive(Clone, Debug)]
pub struct Sgd {
    pub options: SgdOptions,
}

/// See [`adam`]. Inputs: parameter, first and second moment, gradient, learning rate, step.
#[derive(Clone, Debug)]
pub struct Adam {
    pub options: AdamOptions,
}

/// The first `same` inputs must have one shape, the others must be scalars.
fn state(op: &'static str, inputs: &[Meta], same: usize, total: usize) -> Result<Meta> {
    let dtype = check_inputs(op, inputs, total..=total)?;
    let shape = inputs[0].shape;
    if let Some(other) = inputs[1..same].iter().find(|m| m.shape != shape) {
        return Err(Error::shape(
            op,
            format!(
                "parameter {shape}, but its state or gradient {}",
                other.shape
            ),
        ));
    }
    if let Some(other) = inputs[same..].iter().find(|m| m.shape.rank() != 0) {
        return Err(Error::shape(
            op,
            format!("learning rate and step must be [], found {}", other.shape),
        ));
    }
    Ok(Meta::new([0], dtype))
}

fn check_option(op: &'static str, name: &str, value: f64, range: (f64, f64)) -> Result<()> {
    if value >= range.0 && value < range.1 {
        return Ok(());
    }
    Err(Error::config(
        format!("{op}, {name}"),
        format!("{value} is not in [{}, {})", range.0, range.1),
    ))
}

fn only_f32(io: &CudaIo<'_>) -> Result<()> {
    match io.dtype() {
        DType::F32 => Ok(()),
        found => Err(Error::DType {
            what: "optimiser on CUDA".into(),
            expected: "f32".into(),
            found: found.to_string(),
        }),
    }
}

fn no_derivative<T>(op: &'static str) -> Result<T> {
    Err(Error::NotDifferentiable {
        op,
        detail: "it updates parameters in place".into(),
    })
}

impl Operator for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let o = self.options;
        check_option("sgd", "momentum", o.momentum, (0.0, 1.0))?;
        check_option("sgd", "weight_decay", o.weight_decay, (0.0, f64::INFINITY))?;
        state("sgd", inputs, 3, 4)
    }

    fn vjp(&self, _: &mut Tape, _: Var, _: Var) -> Result<Vec<Option<Var>>> {
        no_derivative("sgd")
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(options: SgdOptions, io: &mut CpuIo<'_>) -> Result<()> {
            let (p, b) = (io.update::<T>(0)?, io.update::<T>(1)?);
            let (g, lr) = (io.input::<T>(2)?, io.input::<T>(3)?[0]);
            let momentum = T::lit(options.momentum);
            let decay = T::lit(options.weight_decay);
            let update = |p: &mut [T], b: &mut [T], g: &[T]| {
                for ((p, b), &g) in p.iter_mut().zip(b).zip(g) {
                    *b = momentum * *b + (g + decay * *p);
                    *p = *p - lr * *b;
                }
            };
            let b = SendPtr::new(&mut b[..p.len()]);
            for_chunks(p, CHUNK, |i, p| {
                let at = i * CHUNK;
                // SAFETY: `b` is as long as `p`, and each chunk of it is taken once.
                let b = unsafe { b.slice(at, p.len()) };
                update(p, b, &g[at..at + p.len()]);
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), "sgd", T => run::<T>(self.options, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        only_f32(io)?;
        let n = io.shape(0).len();
        let params = SgdParams {
            param: io.input(0),
            momentum: io.input(1),
            g: io.input(2),
            lr: io.input(3),
            n: io.int(n)?,
            mu: self.options.momentum as f32,
            decay: self.options.weight_decay as f32,
            unused: 0,
        };
        io.launch("optim", "sgd_step", io.blocks_for(n), THREADS, params)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        6 * inputs[0].shape.len() as u64
    }

    fn mutates(&self) -> &'static [usize] {
        &[0, 1]
    }
}

impl Operator for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let o = self.options;
        check_option("adam", "beta1", o.beta1, (0.0, 1.0))?;
        check_option("adam", "beta2", o.beta2, (0.0, 1.0))?;
        check_option("adam", "eps", o.eps, (f64::MIN_POSITIVE, f64::INFINITY))?;
        check_option("adam", "weight_decay", o.weight_decay, (0.0, f64::INFINITY))?;
        state("adam", inputs, 4, 6)
    }

    fn vjp(&self, _: &mut Tape, _: Var, _: Var) -> Result<Vec<Option<Var>>> {
        no_derivative("adam")
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        fn run<T: Real>(o: AdamOptions, io: &mut CpuIo<'_>) -> Result<()> {
            let g = io.input::<T>(3)?;
            let lr = io.input::<T>(4)?[0].to_f64();
            let step = io.input::<T>(5)?[0].to_f64();
            if step.is_nan() || step < 1.0 {
                return Err(Error::Tape(format!(
                    "adam counts steps from 1, `step` is {step}"
                )));
            }
            let (p, m, v) = (io.update::<T>(0)?, io.update::<T>(1)?, io.update::<T>(2)?);
            let (rest1, rest2) = (T::lit(1.0 - o.beta1), T::lit(1.0 - o.beta2));
            let (beta2, eps, decay) = (T::lit(o.beta2), T::lit(o.eps), T::lit(o.weight_decay));
            let size = T::lit(lr / (1.0 - o.beta1.powf(step)));
            let root2 = T::lit((1.0 - o.beta2.powf(step)).sqrt());
            let update = |p: &mut [T], m: &mut [T], v: &mut [T], g: &[T]| {
                for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                    let g = g + decay * *p;
                    *m = *m + rest1 * (g - *m);
                    *v = beta2 * *v + rest2 * g * g;
                    *p = *p - size * (*m / (v.sqrt() / root2 + eps));
                }
            };
            let (m, v) = (&mut m[..p.len()], &mut v[..p.len()]);
            let (m, v) = (SendPtr::new(m), SendPtr::new(v));
            for_chunks(p, CHUNK, |i, p| {
                let at = i * CHUNK;
                // SAFETY: `m` and `v` are as long as `p`, and each chunk of them is taken once.
                let (m, v) = unsafe { (m.slice(at, p.len()), v.slice(at, p.len())) };
                update(p, m, v, &g[at..at + p.len()]);
            });
            Ok(())
        }
        dispatch_real!(io.dtype(), "adam", T => run::<T>(self.options, &mut io))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        only_f32(io)?;
        let (n, o) = (io.shape(0).len(), self.options);
        let params = AdamParams {
            param: io.input(0),
            m: io.input(1),
            v: io.input(2),
            g: io.input(3),
            lr: io.input(4),
            step: io.input(5),
            beta1: o.beta1,
            beta2: o.beta2,
            n: io.int(n)?,
            eps: o.eps as f32,
            decay: o.weight_decay as f32,
            unused: 0,
        };
        io.launch("optim", "adam_step", io.blocks_for(n), THREADS, params)
    }

    fn flops(&self, inputs: &[Meta], _output: Meta) -> u64 {
        15 * inputs[0].shape.len() as u64
    }

    fn mutates(&self) -> &'static [usize] {
        &[0, 1, 2]
    }
}

#[cfg(test)]
mod tests;
