//! Windows, resizing and padding against independent references. Gradients, precision and thread
//! counts of all operators are in `operators.rs`.

mod common;
#[path = "spatial/fused.rs"]
mod fused;
#[path = "spatial/windows.rs"]
mod windows;

use common::relative_error;
use hafuse::ops::registry::CaseInput;
use hafuse::ops::{self, DepthwiseOptions, Padding};
use hafuse::{DType, ParamStore, Session, Tape, Tensor, Var};
use rand::SeedableRng;

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
        (ops::crop(&mut t, x, 2), "[1, 4, 6, 3]"),
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
