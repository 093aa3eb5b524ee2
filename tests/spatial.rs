//! Windows, resizing and padding: gradients, precision, thread counts and independent references.

mod common;

use common::{Harness, SEED, check_gradient, cotangent, dot, relative_error};
use hafuse::ops::registry::{Case, CaseInput, registry};
use hafuse::ops::{self, DepthwiseOptions, Padding};
use hafuse::{DType, ParamStore, Session, Tape, Tensor, Var};
use rand::SeedableRng;

const ENTRIES: &[&str] = &["depthwise"];

fn cases() -> Vec<Case> {
    registry()
        .iter()
        .filter(|e| ENTRIES.contains(&e.name))
        .flat_map(|e| (e.cases)())
        .collect()
}

/// Values in [-1, 1).
fn random(shape: impl Into<hafuse::Shape>, seed: u64) -> Tensor {
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(seed);
    CaseInput::any(shape).tensor(&mut rng, DType::F64)
}

/// Runs what `f` records on the inputs, all in `dtype`.
fn eval(
    dtype: DType,
    inputs: &[&Tensor],
    f: impl FnOnce(&mut Tape, &[Var]) -> hafuse::Result<Var>,
) -> hafuse::Result<Tensor> {
    let mut t = Tape::new(dtype);
    let xs: Vec<Var> = inputs
        .iter()
        .enumerate()
        .map(|(i, x)| t.input(&format!("x{i}"), x.shape()))
        .collect::<hafuse::Result<_>>()?;
    let y = f(&mut t, &xs)?;
    t.output("y", y)?;
    let mut s = Session::new(&t, &ParamStore::default())?;
    for (i, x) in inputs.iter().enumerate() {
        // A gradient may not depend on every value.
        if s.uses_input(&format!("x{i}")) {
            s.set(&format!("x{i}"), &x.to_dtype(dtype))?;
        }
    }
    s.run()?;
    s.get("y")
}

fn assert_close(found: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    let error = relative_error(found, wanted);
    assert!(
        error <= tolerance,
        "{what}: error {error:e} > {tolerance:e}"
    );
}

#[test]
fn gradients_agree_with_differences() {
    let mut worst = std::collections::BTreeMap::<String, f64>::new();
    for case in cases() {
        let error = check_gradient(&case).unwrap_or_else(|e| panic!("{e}"));
        let name = case.op.name().to_string();
        let w = worst.entry(name).or_default();
        *w = w.max(error);
    }
    println!("worst gradient errors: {worst:?}");
}

#[test]
fn single_precision_agrees_with_double() {
    for case in cases() {
        let run = |dtype| {
            let xs = case.tensors(SEED, DType::F32);
            let mut h = Harness::new(&case, dtype, true).unwrap();
            let g = cotangent(&h, DType::F32).to_dtype(dtype);
            let xs: Vec<_> = xs.iter().map(|x| x.to_dtype(dtype)).collect();
            h.set(&xs).unwrap();
            let grads = h.gradients(&g).unwrap();
            (h.output().unwrap(), grads)
        };
        let (y32, g32) = run(DType::F32);
        let (y64, g64) = run(DType::F64);
        let eps = f64::from(f32::EPSILON);
        let tolerance = 4.0 * eps * (case.terms as f64).sqrt();
        assert_close(&y32, &y64, tolerance, &case.label);
        // A gradient may sum over a whole input.
        let terms = case.terms.max(y32.len());
        let tolerance = 4.0 * eps * (terms as f64).sqrt();
        for (a, b) in g32.iter().zip(&g64) {
            assert_close(a, b, tolerance, &format!("gradient of {}", case.label));
        }
    }
}

/// Output and gradients of `f` as bits, for a pool of `threads`.
fn bits(
    threads: usize,
    inputs: &[&Tensor],
    f: impl Fn(&mut Tape, &[Var]) -> hafuse::Result<Var> + Sync,
) -> Vec<Vec<u32>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let mut t = Tape::new(DType::F32);
        let xs: Vec<Var> = inputs
            .iter()
            .enumerate()
            .map(|(i, x)| t.input(&format!("x{i}"), x.shape()).unwrap())
            .collect();
        let y = f(&mut t, &xs).unwrap();
        let g = random(t.shape(y), 99);
        let g = t.constant(&g).unwrap();
        t.output("y", y).unwrap();
        let mut names = vec!["y".to_string()];
        for (i, dx) in t.vjp(y, g, &xs).unwrap().into_iter().enumerate() {
            names.push(format!("dx{i}"));
            t.output(&names[i + 1], dx).unwrap();
        }
        let mut s = Session::new(&t, &ParamStore::default()).unwrap();
        for (i, x) in inputs.iter().enumerate() {
            if s.uses_input(&format!("x{i}")) {
                s.set(&format!("x{i}"), &x.to_dtype(DType::F32)).unwrap();
            }
        }
        s.run().unwrap();
        names
            .iter()
            .map(|n| {
                s.output::<f32>(n)
                    .unwrap()
                    .iter()
                    .map(|v| v.to_bits())
                    .collect()
            })
            .collect()
    })
}

#[test]
fn bits_do_not_depend_on_threads() {
    // Large enough to run in parallel.
    let x = random([2, 61, 53, 7], 1);
    let w = random([3, 3, 1, 7], 2);
    let b = random([7], 3);
    let compare =
        |what: &str,
         inputs: &[&Tensor],
         f: &(dyn Fn(&mut Tape, &[Var]) -> hafuse::Result<Var> + Sync)| {
            assert_eq!(bits(1, inputs, f), bits(2, inputs, f), "{what}");
        };
    compare("depthwise", &[&x, &w, &b], &|t, v| {
        ops::depthwise_conv2d(t, v[0], v[1], Some(v[2]), DepthwiseOptions::default())
    });
}

/// Depthwise convolution by its definition.
fn depthwise_naive(x: &Tensor, w: &Tensor, b: Option<&Tensor>, o: DepthwiseOptions) -> Vec<f64> {
    let [n, h, wd, c] = x.shape().padded4();
    let [kh, kw, ..] = w.shape().padded4();
    let (s, d) = (o.stride as isize, o.dilation as isize);
    let size = |len: usize, k: usize| match o.padding {
        Padding::Same => len.div_ceil(o.stride),
        Padding::Valid => (len - o.dilation * (k - 1) - 1) / o.stride + 1,
    };
    let pad = |k: usize| match o.padding {
        Padding::Same => d * (k as isize - 1) / 2,
        Padding::Valid => 0,
    };
    let (xv, wv) = (x.to_f64(), w.to_f64());
    let mut out = Vec::new();
    for n in 0..n {
        for i in 0..size(h, kh) as isize {
            for j in 0..size(wd, kw) as isize {
                for c0 in 0..c {
                    let mut sum = b.map_or(0.0, |b| b.to_f64()[c0]);
                    for p in 0..kh {
                        for q in 0..kw {
                            let y = i * s + p as isize * d - pad(kh);
                            let z = j * s + q as isize * d - pad(kw);
                            if (0..h as isize).contains(&y) && (0..wd as isize).contains(&z) {
                                let at = ((n * h + y as usize) * wd + z as usize) * c + c0;
                                sum += wv[(p * kw + q) * c + c0] * xv[at];
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

#[test]
fn depthwise_follows_its_definition() {
    let shapes = [
        [1, 9, 30, 32],
        [2, 7, 41, 5],
        [1, 13, 90, 1],
        [1, 5, 6, 70],
        [1, 1, 64, 1],
        [1, 64, 1, 3],
        [1, 3, 3, 130],
    ];
    let mut seed = 10;
    for shape in shapes {
        for (k, stride, dilation) in [(3, 1, 1), (3, 2, 1), (5, 1, 2), (7, 3, 1), (1, 1, 1)] {
            for padding in [Padding::Same, Padding::Valid] {
                let extent = dilation * (k - 1);
                if padding == Padding::Valid && (extent >= shape[1] || extent >= shape[2]) {
                    continue;
                }
                seed += 3;
                let o = DepthwiseOptions {
                    stride,
                    dilation,
                    padding,
                };
                let x = random(shape, seed);
                let w = random([k, k, 1, shape[3]], seed + 1);
                let b = random([shape[3]], seed + 2);
                let y = eval(DType::F64, &[&x, &w, &b], |t, v| {
                    ops::depthwise_conv2d(t, v[0], v[1], Some(v[2]), o)
                })
                .unwrap();
                let wanted = depthwise_naive(&x, &w, Some(&b), o);
                assert_close(&y.to_f64(), &wanted, 1e-14, &format!("{shape:?} {k} {o:?}"));
            }
        }
    }
}

/// `<f(x), g> = <x, f'(g)>` for every input in which `f` is linear.
fn assert_adjoint(
    what: &str,
    inputs: &[&Tensor],
    f: impl Fn(&mut Tape, &[Var]) -> hafuse::Result<Var>,
) {
    let y = eval(DType::F64, inputs, &f).unwrap();
    let g = random(y.shape(), 3);
    let yg = dot(&y.to_f64(), &g.to_f64());
    let n = inputs.len();
    let mut with_g = inputs.to_vec();
    with_g.push(&g);
    for (i, x) in inputs.iter().enumerate() {
        let d = eval(DType::F64, &with_g, |t, v| {
            let y = f(t, &v[..n])?;
            Ok(t.vjp(y, v[n], &[v[i]])?[0])
        })
        .unwrap();
        let xd = dot(&d.to_f64(), &x.to_f64());
        assert!(
            (yg - xd).abs() <= 1e-11 * yg.abs().max(1.0),
            "{what}, input {i}: {yg} {xd}"
        );
    }
}

#[test]
fn depthwise_gradients_are_adjoint() {
    for (shape, stride) in [
        ([2, 31, 70, 7], 1),
        ([1, 33, 71, 40], 1),
        ([1, 33, 71, 9], 2),
    ] {
        let o = DepthwiseOptions {
            stride,
            ..Default::default()
        };
        let (x, w) = (random(shape, 1), random([3, 3, 1, shape[3]], 2));
        let f = |t: &mut Tape, v: &[Var]| ops::depthwise_conv2d(t, v[0], v[1], None, o);
        assert_adjoint("depthwise", &[&x, &w], f);
        let y = eval(DType::F64, &[&x, &w], f).unwrap();
        let g = random(y.shape(), 4);
        // Second order: dx is linear in g and w, dw in x and g.
        assert_adjoint("depthwise dx", &[&w, &g], |t, v| {
            let x = t.input("x", shape)?;
            let y = f(t, &[x, v[0]])?;
            Ok(t.vjp(y, v[1], &[x])?[0])
        });
        assert_adjoint("depthwise dw", &[&x, &g], |t, v| {
            let w = t.input("w", [3, 3, 1, shape[3]])?;
            let y = f(t, &[v[0], w])?;
            Ok(t.vjp(y, v[1], &[w])?[0])
        });
    }
}
