//! Cases of the convolution: stride remainders, dilation, borders wider than the picture, odd
//! channels, every epilogue, and every kernel of a card.

use super::{Conv2d, ConvOptions, Variant};
use crate::ops::registry::{Case, CaseInput, Fill};
use crate::ops::{Activation, Padding};

pub(crate) fn cases() -> Vec<Case> {
    let same = ConvOptions::default();
    let leaky = Activation::LeakyRelu(0.2);
    let mut out = Vec::new();
    let mut add = |label: &str, x, k, cout, options, bias, residual| {
        out.push(case(
            label,
            Variant::Auto,
            x,
            k,
            cout,
            options,
            bias,
            residual,
        ));
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
    // Enough tiles of 8 x 8 for the convolution of fewer products, cut at the borders.
    add(
        "tiles",
        [1, 21, 23, 8],
        (3, 3),
        16,
        with(1, 1, Padding::Same, leaky),
        true,
        true,
    );
    add("tiles, 5x5", [2, 11, 12, 8], (5, 5), 8, same, true, false);
    add(
        "tiles, a short panel",
        [1, 22, 24, 16],
        (3, 3),
        24,
        same,
        false,
        false,
    );
    add(
        "tiles, valid",
        [1, 24, 23, 16],
        (3, 3),
        8,
        with(1, 1, Padding::Valid, Activation::Sigmoid),
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
        "large 5x5, half a panel",
        [2, 19, 28, 24],
        (5, 5),
        8,
        with(1, 1, Padding::Same, leaky),
        true,
        true,
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
    out.extend(card_cases());
    out
}

/// Tiles of kernels, their remainders and the ways through them; numbers of channels decide which.
fn card_cases() -> Vec<Case> {
    use Variant::{Auto, Large, Naive};
    let leaky = Activation::LeakyRelu(0.2);
    let with = |stride, dilation, padding, activation| ConvOptions {
        stride,
        dilation,
        padding,
        activation,
    };
    let same = |activation| with(1, 1, Padding::Same, activation);
    let (plain, sigmoid) = (same(Activation::None), same(Activation::Sigmoid));
    let strided = |n| with(n, 1, Padding::Same, leaky);
    let wide = with(1, 2, Padding::Same, leaky);
    let valid = with(2, 1, Padding::Valid, Activation::Sigmoid);
    let mut out = Vec::new();
    for (label, kernels, x, k, cout, options, residual) in [
        // Channels that divide by 8: tensor cores in f16.
        ("8 to 1", Auto, [1, 9, 21, 8], (3, 3), 1, sigmoid, false),
        (
            "40 to 1, wide tile",
            Large,
            [2, 9, 19, 40],
            (3, 3),
            1,
            same(leaky),
            true,
        ),
        ("16 to 8", Large, [1, 7, 17, 16], (1, 3), 8, sigmoid, true),
        (
            "8 to 24",
            Auto,
            [1, 5, 18, 8],
            (3, 3),
            24,
            same(leaky),
            true,
        ),
        (
            "32 to 24, wide tile",
            Large,
            [1, 18, 19, 32],
            (5, 5),
            24,
            sigmoid,
            true,
        ),
        (
            "40 to 32, wide tile",
            Large,
            [1, 17, 33, 40],
            (3, 3),
            32,
            same(leaky),
            true,
        ),
        ("8 to 17", Large, [1, 6, 18, 8], (3, 3), 17, sigmoid, true),
        (
            "72 to 32, 1x1",
            Auto,
            [2, 5, 19, 72],
            (1, 1),
            32,
            plain,
            false,
        ),
        (
            "72 to 32, 1x1, wide tile",
            Large,
            [1, 17, 18, 72],
            (1, 1),
            32,
            same(leaky),
            true,
        ),
        (
            "8 to 40",
            Auto,
            [1, 7, 18, 8],
            (3, 3),
            40,
            same(leaky),
            true,
        ),
        (
            "40 to 50, wide tile",
            Large,
            [1, 9, 17, 40],
            (3, 3),
            50,
            sigmoid,
            true,
        ),
        (
            "72 to 64, stride 2",
            Auto,
            [1, 17, 37, 72],
            (3, 3),
            64,
            strided(2),
            false,
        ),
        (
            "16 to 130",
            Large,
            [1, 9, 10, 16],
            (3, 3),
            130,
            plain,
            false,
        ),
        (
            "16 to 16, dilation 2",
            Large,
            [1, 19, 17, 16],
            (5, 3),
            16,
            wide,
            true,
        ),
        (
            "8 to 8, stride 3",
            Auto,
            [1, 14, 20, 8],
            (3, 3),
            8,
            strided(3),
            true,
        ),
        (
            "16 to 8, valid",
            Auto,
            [1, 13, 20, 16],
            (3, 5),
            8,
            valid,
            false,
        ),
        ("tall", Auto, [1, 41, 1, 8], (3, 3), 8, plain, true),
        // Others: the same kernels in both element types.
        (
            "12 to 24, wide tile",
            Large,
            [1, 23, 29, 12],
            (3, 3),
            24,
            same(leaky),
            true,
        ),
        (
            "6 to 33, wide tile",
            Large,
            [2, 11, 17, 6],
            (3, 3),
            33,
            sigmoid,
            true,
        ),
        (
            "3 to 64, wide tile",
            Large,
            [1, 13, 17, 3],
            (3, 3),
            64,
            same(leaky),
            true,
        ),
        (
            "20 to 13",
            Large,
            [1, 12, 17, 20],
            (3, 3),
            13,
            sigmoid,
            true,
        ),
        (
            "36 to 36, stride 2",
            Large,
            [1, 12, 17, 36],
            (3, 3),
            36,
            strided(2),
            true,
        ),
        (
            "4 to 4, stride 4",
            Large,
            [1, 11, 9, 4],
            (3, 3),
            4,
            strided(4),
            true,
        ),
        (
            "12 to 12, stride 2 dilation 2",
            Auto,
            [1, 9, 11, 12],
            (3, 3),
            12,
            with(2, 2, Padding::Same, leaky),
            false,
        ),
        ("4 to 2", Auto, [2, 9, 11, 4], (3, 3), 2, sigmoid, true),
        (
            "1 to 1, stride 2",
            Auto,
            [1, 9, 11, 1],
            (5, 5),
            1,
            strided(2),
            true,
        ),
        (
            "11x11 to one channel",
            Auto,
            [1, 6, 5, 28],
            (11, 11),
            1,
            plain,
            false,
        ),
        ("naive", Naive, [2, 5, 6, 3], (3, 5), 4, sigmoid, true),
        (
            "naive, stride 2",
            Naive,
            [1, 8, 7, 8],
            (3, 3),
            5,
            strided(2),
            true,
        ),
        (
            "naive, dilation 2, valid",
            Naive,
            [1, 9, 8, 2],
            (3, 3),
            3,
            with(1, 2, Padding::Valid, leaky),
            false,
        ),
    ] {
        out.push(case(label, kernels, x, k, cout, options, true, residual));
    }
    out
}

#[allow(clippy::too_many_arguments)] // one line for each case
fn case(
    label: &str,
    variant: Variant,
    x: [usize; 4],
    k: (usize, usize),
    cout: usize,
    options: ConvOptions,
    bias: bool,
    residual: bool,
) -> Case {
    let op = |bias, residual| Conv2d {
        options,
        bias,
        residual,
        variant,
    };
    let w = [k.0, k.1, x[3], cout];
    let mut inputs = vec![CaseInput::any(x), CaseInput::any(w)];
    if bias {
        inputs.push(CaseInput::any([cout]));
    }
    if residual {
        let meta = |s: [usize; 4]| crate::tape::Meta::new(s, crate::DType::F32);
        let y = crate::tape::Operator::output(&op(false, false), &[meta(x), meta(w)]);
        inputs.extend(y.map(|y| CaseInput::new(y.shape, Fill::Uniform(-1.0, 1.0))));
    }
    let label = format!("conv2d {label}");
    Case::new(label, op(bias, residual), inputs, k.0 * k.1 * x[3])
}
