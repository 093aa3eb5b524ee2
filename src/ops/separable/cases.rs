//! Cases of the separable convolution: tile remainders, several chunks and blocks of channels,
//! channels for each kind of access, every epilogue.

use super::{SeparableConv2d, SeparableOptions};
use crate::ops::Activation;
use crate::ops::registry::{Case, CaseInput, Fill};

/// Input, output channels, kernel side, dilation, first slope, activation, residual.
type Row = (
    [usize; 4],
    usize,
    usize,
    usize,
    Option<f32>,
    Activation,
    bool,
);

pub(crate) fn cases() -> Vec<Case> {
    let (none, sigmoid) = (Activation::None, Activation::Sigmoid);
    let leaky = Activation::LeakyRelu(0.2);
    let slope = Some(0.2);
    let fast = [
        ([1, 1, 1, 1], 1, 3, 1, slope, none, true),
        ([2, 4, 5, 3], 3, 3, 1, slope, leaky, false),
        ([1, 1, 19, 5], 4, 5, 1, None, none, true),
        ([1, 19, 1, 2], 7, 5, 2, slope, sigmoid, true),
        ([1, 9, 17, 8], 8, 3, 2, slope, none, true), // one pixel beyond a tile
        ([1, 3, 4, 16], 8, 5, 2, slope, leaky, true), // tensor cores in f16
        ([2, 9, 18, 32], 32, 3, 1, slope, leaky, false),
        ([1, 8, 16, 32], 32, 5, 2, slope, none, true),
        ([1, 5, 9, 40], 44, 3, 1, None, sigmoid, true), // a second chunk of 8 channels
        ([1, 5, 9, 48], 40, 5, 1, slope, none, false),  // likewise of 16, tensor cores in f16
        ([1, 3, 5, 64], 72, 3, 2, slope, leaky, true),  // two blocks of output channels
        ([1, 3, 5, 37], 67, 3, 1, slope, none, false),
    ];
    let naive = [
        ([1, 6, 7, 6], 5, 3, 2, slope, leaky, true),
        ([2, 4, 5, 16], 8, 5, 1, None, none, false),
    ];
    let fast = fast.into_iter().map(|row| case(row, false));
    fast.chain(naive.into_iter().map(|row| case(row, true)))
        .collect()
}

fn case((x, cout, k, dilation, slope, activation, residual): Row, naive: bool) -> Case {
    let op = SeparableConv2d {
        options: SeparableOptions {
            dilation,
            slope,
            activation,
        },
        residual,
        naive,
    };
    let [n, h, w, c] = x;
    let mut inputs = vec![
        // Keeps clear of the kink of the first leaky ReLU.
        CaseInput::new(x, Fill::AwayFromZero(0.1, 1.0)),
        CaseInput::any([k, k, 1, c]),
        CaseInput::any([c]),
        CaseInput::any([1, 1, c, cout]),
        CaseInput::any([cout]),
    ];
    if residual {
        inputs.push(CaseInput::any([n, h, w, cout]));
    }
    let plain = if naive { " naive" } else { "" };
    let label = format!(
        "separable {x:?} to {cout}, {k}x{k} d{dilation} {slope:?} {activation:?} residual {residual}{plain}"
    );
    Case::new(label, op, inputs, k * k * c)
}
