//! Windows, resizing and padding: gradients, precision, thread counts and independent references.

mod common;
#[path = "spatial/windows.rs"]
mod windows;

use common::{Harness, SEED, check_gradient, cotangent, dot, relative_error};
use hafuse::ops::registry::{Case, CaseInput, registry};
use hafuse::ops::{self, DepthwiseOptions, Padding};
use hafuse::{DType, ParamStore, Session, Tape, Tensor, Var};
use rand::SeedableRng;

const ENTRIES: &[&str] = &[
    "depthwise",
    "reflect_pad",
    "pool",
    "resize",
    "box_filter",
    "guided",
    "channel_conv",
];

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
    let residual = random([2, 90, 77, 7], 4);
    compare("resize", &[&x, &residual], &|t, v| {
        ops::resize_bilinear(t, v[0], 90, 77, Some(v[1]))
    });
    compare("box", &[&x], &|t, v| ops::box_filter(t, v[0], 5));
    let guide = random([2, 61, 53, 1], 5);
    compare("guided", &[&guide, &x], &|t, v| {
        ops::guided_filter(t, v[0], v[1], 3, 1e-2)
    });
    compare("reflect", &[&x], &|t, v| ops::reflect_pad(t, v[0], 4));
    compare("pool", &[&x], &|t, v| ops::max_pool2d(t, v[0]));
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

#[test]
fn linear_operators_have_their_adjoint() {
    let x = random([2, 31, 70, 7], 1);
    assert_adjoint("reflect_pad", &[&x], |t, v| ops::reflect_pad(t, v[0], 9));
    for (h, w) in [(31, 70), (62, 140), (13, 11), (47, 69), (1, 200)] {
        assert_adjoint("resize", &[&x], |t, v| {
            ops::resize_bilinear(t, v[0], h, w, None)
        });
    }
    for r in [0, 1, 4, 40, 1000] {
        assert_adjoint("box", &[&x], |t, v| ops::box_filter(t, v[0], r));
    }
    // Second order: the gradient is linear in the cotangent.
    let g = random([2, 40, 50, 7], 2);
    assert_adjoint("resize dx", &[&g], |t, v| {
        let x = t.input("x", [2, 31, 70, 7])?;
        let y = ops::resize_bilinear(t, x, 40, 50, None)?;
        Ok(t.vjp(y, v[0], &[x])?[0])
    });
    assert_adjoint("box dx", &[&g], |t, v| {
        let x = t.input("x", [2, 40, 50, 7])?;
        let y = ops::box_filter(t, x, 3)?;
        Ok(t.vjp(y, v[0], &[x])?[0])
    });
    assert_adjoint("reflect_pad dx", &[&g], |t, v| {
        let x = t.input("x", [2, 34, 44, 7])?;
        let y = ops::reflect_pad(t, x, 3)?;
        Ok(t.vjp(y, v[0], &[x])?[0])
    });
    let (c, w) = (random([3, 1, 1, 9], 3), random([5], 4));
    assert_adjoint("channel_conv1d", &[&c, &w], |t, v| {
        ops::channel_conv1d(t, v[0], v[1])
    });
    let g = random([3, 1, 1, 9], 5);
    assert_adjoint("channel_conv1d dx", &[&g, &w], |t, v| {
        let x = t.input("x", [3, 1, 1, 9])?;
        let y = ops::channel_conv1d(t, x, v[1])?;
        Ok(t.vjp(y, v[0], &[x])?[0])
    });
    assert_adjoint("channel_conv1d dw", &[&g, &c], |t, v| {
        let w = t.input("w", [5])?;
        let y = ops::channel_conv1d(t, v[1], w)?;
        Ok(t.vjp(y, v[0], &[w])?[0])
    });
}

#[test]
fn resize_follows_pytorch_convention() {
    let row = |values: &[f64]| Tensor::from_vec([1, 1, values.len(), 1], values.to_vec()).unwrap();
    let resize = |x: &Tensor, h, w| {
        eval(DType::F64, &[x], |t, v| {
            ops::resize_bilinear(t, v[0], h, w, None)
        })
        .unwrap()
        .to_f64()
    };
    // Worked out by hand from src = (i + 0.5) in / out - 0.5.
    let x = row(&[0.0, 1.0, 4.0]);
    let wanted = [0.0, 0.25, 0.75, 1.75, 3.25, 4.0];
    assert_close(&resize(&x, 1, 6), &wanted, 1e-15, "3 to 6");
    // Positions 1/4, 7/4.
    assert_close(&resize(&x, 1, 2), &[0.25, 3.25], 1e-15, "3 to 2");
    assert_close(&resize(&x, 1, 1), &[1.0], 1e-15, "3 to 1");
    // Without antialiasing 5 to 2 reads positions 0.75 and 3.25.
    let x = row(&[0.0, 4.0, 8.0, 16.0, 20.0]);
    assert_close(&resize(&x, 1, 2), &[3.0, 17.0], 1e-15, "5 to 2");
    assert_eq!(
        resize(&x, 3, 5),
        [x.to_f64(), x.to_f64(), x.to_f64()].concat()
    );
    // [[1, 2], [3, 4]] to 3 x 3 is a bilinear surface through the corners.
    let x = Tensor::from_vec([1, 2, 2, 1], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    let wanted = [1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0];
    assert_close(&resize(&x, 3, 3), &wanted, 1e-15, "2x2 to 3x3");
}

#[test]
fn max_pool_cuts_odd_windows_and_takes_the_first_maximum() {
    let x = vec![
        1.0, 5.0, 2.0, //
        5.0, 0.0, 2.0, //
        7.0, 7.0, 3.0,
    ];
    let x = Tensor::from_vec([1, 3, 3, 1], x).unwrap();
    let y = eval(DType::F64, &[&x], |t, v| ops::max_pool2d(t, v[0])).unwrap();
    assert_eq!(y.shape().dims(), [1, 2, 2, 1]);
    assert_eq!(y.to_f64(), [5.0, 2.0, 7.0, 3.0]);
    let g = Tensor::from_vec([1, 2, 2, 1], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    let dx = eval(DType::F64, &[&x, &g], |t, v| {
        let y = ops::max_pool2d(t, v[0])?;
        Ok(t.vjp(y, v[1], &[v[0]])?[0])
    })
    .unwrap();
    assert_eq!(dx.to_f64(), [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0, 4.0]);
    let nan = Tensor::from_vec([1, 2, 2, 1], vec![1.0, f64::NAN, 3.0, 2.0]).unwrap();
    let y = eval(DType::F64, &[&nan], |t, v| ops::max_pool2d(t, v[0])).unwrap();
    assert!(y.to_f64()[0].is_nan());
}

#[test]
fn reflect_pad_mirrors_without_the_edge() {
    let x = Tensor::from_vec([1, 3, 4, 1], (0..12).map(f64::from).collect()).unwrap();
    let y = eval(DType::F64, &[&x], |t, v| ops::reflect_pad(t, v[0], 2)).unwrap();
    let columns = [2, 1, 0, 1, 2, 3, 2, 1];
    let rows = [2, 1, 0, 1, 2, 1, 0];
    let wanted: Vec<f64> = rows
        .iter()
        .flat_map(|r| columns.map(|c| f64::from(r * 4 + c)))
        .collect();
    assert_eq!(y.shape().dims(), [1, 7, 8, 1]);
    assert_eq!(y.to_f64(), wanted);
}

#[test]
fn errors_name_the_sizes() {
    let mut t = Tape::new(DType::F32);
    let x = t.input("x", [1, 4, 6, 3]).unwrap();
    let w = t.input("w", [5, 5, 1, 3]).unwrap();
    let even = t.input("even", [2, 2, 1, 3]).unwrap();
    let guide = t.input("guide", [1, 4, 5, 1]).unwrap();
    let options = DepthwiseOptions::default();
    let valid = DepthwiseOptions {
        padding: Padding::Valid,
        ..options
    };
    let zero = DepthwiseOptions {
        stride: 0,
        ..options
    };
    for (result, part) in [
        (
            ops::depthwise_conv2d(&mut t, x, w, None, valid),
            "window of 5",
        ),
        (
            ops::depthwise_conv2d(&mut t, x, even, None, options),
            "even",
        ),
        (ops::depthwise_conv2d(&mut t, x, w, None, zero), "stride 0"),
        (
            ops::depthwise_conv2d(&mut t, x, x, None, options),
            "[kh, kw, 1, 3]",
        ),
        (
            ops::depthwise_conv2d(&mut t, x, w, Some(w), options),
            "bias",
        ),
        (ops::reflect_pad(&mut t, x, 4), "[1, 4, 6, 3]"),
        (
            ops::max_pool2d(&mut t, guide)
                .and_then(|y| ops::resize_bilinear(&mut t, y, 0, 3, None)),
            "0 x 3",
        ),
        (ops::resize_bilinear(&mut t, x, 5, 5, Some(x)), "residual"),
        (
            ops::guided_filter(&mut t, guide, x, 2, 0.1),
            "guide [1, 4, 6, 1]",
        ),
        (ops::guided_filter(&mut t, guide, guide, 2, 0.0), "eps 0"),
        (ops::channel_conv1d(&mut t, x, w), "[N, 1, 1, C]"),
    ] {
        let text = result.expect_err(part).to_string();
        assert!(text.contains(part) && !text.contains('\n'), "{text}");
    }
}
