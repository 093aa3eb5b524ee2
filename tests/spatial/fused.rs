//! Fused operators against the nodes that they stand for, and their refusals.

use super::{eval, random};
use hafuse::ops::{
    self, Activation, ConvOptions, DepthwiseOptions, SeparableOptions, SeparableWeights,
};
use hafuse::{DType, Tape, Tensor, Var};

fn weights(v: &[Var]) -> SeparableWeights {
    SeparableWeights {
        depthwise: v[1],
        depthwise_bias: v[2],
        pointwise: v[3],
        pointwise_bias: v[4],
    }
}

#[test]
fn a_separable_convolution_has_the_bits_of_its_parts() {
    let activation = Activation::LeakyRelu(0.2);
    // One band; bands of rows, the last one short; several pictures in a band, the last one short.
    for (x, k, dilation, cout) in [
        ([1, 7, 9, 5], 3, 1, 4),
        ([1, 131, 401, 32], 5, 2, 8),
        ([5, 60, 75, 64], 3, 2, 8),
    ] {
        let [n, h, w, c] = x;
        let inputs = [
            random(x, 1),
            random([k, k, 1, c], 2),
            random([c], 3),
            random([1, 1, c, cout], 4),
            random([cout], 5),
            random([n, h, w, cout], 6),
        ];
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let fused = eval(DType::F32, &inputs, |t, v| {
            let options = SeparableOptions {
                dilation,
                slope: Some(0.2),
                activation,
            };
            ops::separable_conv2d(t, v[0], weights(v), Some(v[5]), options)
        });
        let apart = eval(DType::F32, &inputs, |t, v| {
            let options = DepthwiseOptions {
                dilation,
                ..Default::default()
            };
            let y = ops::leaky_relu(t, v[0], f64::from(0.2f32))?;
            let y = ops::depthwise_conv2d(t, y, v[1], Some(v[2]), options)?;
            let options = ConvOptions {
                activation,
                ..Default::default()
            };
            ops::conv2d(t, y, v[3], Some(v[4]), Some(v[5]), options)
        });
        assert!(fused.unwrap().to_f64() == apart.unwrap().to_f64(), "{x:?}");
    }
}

#[test]
fn an_upsampled_1x1_has_the_bits_of_its_parts() {
    let inputs = [
        random([2, 5, 7, 12], 1),
        random([1, 1, 12, 9], 2),
        random([2, 9, 14, 9], 3),
    ];
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let fused = eval(DType::F32, &inputs, |t, v| {
        ops::pointwise_upsample(t, v[0], v[1], (9, 14), Some(v[2]))
    });
    let apart = eval(DType::F32, &inputs, |t, v| {
        let y = ops::conv2d(t, v[0], v[1], None, None, ConvOptions::default())?;
        ops::resize_bilinear(t, y, 9, 14, Some(v[2]))
    });
    assert_eq!(fused.unwrap().to_f64(), apart.unwrap().to_f64());
}

#[test]
fn errors_name_the_way_out() {
    let mut t = Tape::new(DType::F32);
    let x = t.input("x", [1, 4, 6, 3]).unwrap();
    let seven = t.input("seven", [7, 7, 1, 3]).unwrap();
    let three = t.input("three", [3, 3, 1, 3]).unwrap();
    let bias = t.input("bias", [3]).unwrap();
    let pointwise = t.input("pointwise", [1, 1, 3, 5]).unwrap();
    let last = t.input("last", [5]).unwrap();
    let good = [x, three, bias, pointwise, last];
    let mut separable = |v: [Var; 5], residual, dilation| {
        let options = SeparableOptions {
            dilation,
            ..Default::default()
        };
        ops::separable_conv2d(&mut t, v[0], weights(&v), residual, options)
    };
    assert!(separable(good, None, 2).is_ok());
    let errors = [
        (
            separable([x, seven, bias, pointwise, last], None, 1),
            "side 7",
        ),
        (separable(good, None, 3), "dilation 3"),
        (
            separable([x, three, last, pointwise, last], None, 1),
            "depthwise bias",
        ),
        (
            separable([x, three, bias, three, last], None, 1),
            "1 x 1 kernel",
        ),
        (
            separable([x, three, bias, pointwise, bias], None, 1),
            "1 x 1 bias",
        ),
        (separable(good, Some(x), 1), "residual"),
        (
            ops::pointwise_upsample(&mut t, x, pointwise, (3, 6), None),
            "use conv2d",
        ),
        (
            ops::pointwise_upsample(&mut t, x, three, (4, 6), None),
            "kernel has shape",
        ),
        (
            ops::pointwise_upsample(&mut t, x, pointwise, (4, 6), Some(x)),
            "residual",
        ),
        (
            ops::pointwise_upsample(&mut t, x, pointwise, (0, 6), None),
            "0 x 6",
        ),
    ];
    for (result, part) in errors {
        let text = result.expect_err(part).to_string();
        assert!(text.contains(part) && !text.contains('\n'), "{text}");
    }
}
