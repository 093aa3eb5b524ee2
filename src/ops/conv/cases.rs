//! Cases of the convolution: stride remainders, dilation, borders wider than the picture, odd
//! channels, every epilogue.

use super::{Conv2d, ConvOptions};
use crate::ops::registry::{Case, CaseInput, Fill};
use crate::ops::{Activation, Padding};

pub(crate) fn cases() -> Vec<Case> {
    let same = ConvOptions::default();
    let leaky = Activation::LeakyRelu(0.2);
    let mut out = Vec::new();
    let mut add = |label: &str, x: [usize; 4], k: (usize, usize), cout, options, bias, residual| {
        let op = Conv2d {
            options,
            bias,
            residual,
        };
        let w = [k.0, k.1, x[3], cout];
        let mut inputs = vec![CaseInput::any(x), CaseInput::any(w)];
        if bias {
            inputs.push(CaseInput::any([cout]));
        }
        if residual {
            let meta = |s: [usize; 4]| crate::tape::Meta::new(s, crate::DType::F32);
            let plain = Conv2d {
                residual: false,
                bias: false,
                options,
            };
            let y = crate::tape::Operator::infer(&plain, &[meta(x), meta(w)]);
            inputs.extend(y.map(|y| CaseInput::new(y.shape, Fill::Uniform(-1.0, 1.0))));
        }
        let label = format!("conv2d {label}");
        out.push(Case::new(label, op, inputs, k.0 * k.1 * x[3]));
    };
    let with = |stride, dilation, padding, activation| ConvOptions {
        stride,
        dilation,
        padding,
        activation,
    };
    add("1x1 pixel", [1, 1, 1, 1], (3, 3), 1, same, true, false);
    add("1x1 kernel", [1, 4, 3, 5], (1, 1), 7, same, true, true);
    add("3x3 prime size", [2, 7, 5, 3], (3, 3), 2, same, true, false);
    add("one row", [1, 1, 11, 2], (3, 3), 3, same, false, false);
    add("one column", [1, 11, 1, 2], (5, 5), 3, same, false, false);
    add("few outputs", [1, 5, 6, 9], (3, 3), 1, same, true, true);
    add(
        "stride 2, even",
        [1, 6, 8, 2],
        (3, 3),
        3,
        with(2, 1, Padding::Same, leaky),
        true,
        false,
    );
    add(
        "stride 2, odd",
        [1, 7, 5, 2],
        (3, 3),
        3,
        with(2, 1, Padding::Same, leaky),
        true,
        true,
    );
    add(
        "stride 3, remainder",
        [1, 8, 7, 1],
        (5, 5),
        2,
        with(3, 1, Padding::Same, Activation::None),
        false,
        false,
    );
    add(
        "stride 2, 1x1 kernel",
        [1, 5, 4, 2],
        (1, 1),
        2,
        with(2, 1, Padding::Same, Activation::None),
        true,
        false,
    );
    add(
        "dilation 2",
        [1, 7, 6, 2],
        (3, 3),
        2,
        with(1, 2, Padding::Same, Activation::Sigmoid),
        true,
        false,
    );
    add(
        "dilation 2, border wider than picture",
        [1, 3, 2, 1],
        (5, 5),
        2,
        with(1, 2, Padding::Same, Activation::None),
        true,
        false,
    );
    add(
        "stride 2 dilation 2",
        [1, 9, 7, 1],
        (3, 3),
        2,
        with(2, 2, Padding::Same, Activation::None),
        false,
        false,
    );
    add(
        "valid",
        [1, 6, 7, 2],
        (3, 5),
        2,
        with(1, 1, Padding::Valid, Activation::None),
        true,
        false,
    );
    add(
        "valid, stride remainder",
        [1, 8, 6, 2],
        (3, 3),
        2,
        with(2, 1, Padding::Valid, leaky),
        true,
        false,
    );
    add(
        "17 channels",
        [1, 3, 4, 5],
        (3, 3),
        17,
        with(1, 1, Padding::Same, leaky),
        true,
        true,
    );
    add(
        "many in, two out",
        [1, 4, 4, 19],
        (3, 3),
        2,
        with(1, 1, Padding::Same, Activation::Sigmoid),
        true,
        false,
    );
    // Large enough for every tile shape and several bands; f32 against f64 only.
    add(
        "large 3x3",
        [2, 37, 41, 16],
        (3, 3),
        32,
        with(1, 1, Padding::Same, leaky),
        true,
        true,
    );
    add(
        "large 5x5 stride 2",
        [1, 33, 30, 24],
        (5, 5),
        40,
        with(2, 1, Padding::Same, Activation::None),
        true,
        false,
    );
    add(
        "large 3x3 to one channel",
        [1, 40, 53, 32],
        (3, 3),
        1,
        same,
        true,
        false,
    );
    add(
        "large 3x3 from two channels",
        [1, 40, 53, 2],
        (3, 3),
        32,
        same,
        true,
        false,
    );
    out
}
