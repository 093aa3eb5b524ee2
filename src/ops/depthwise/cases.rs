//! Cases of the depthwise convolution.

use super::{DepthwiseConv2d, DepthwiseOptions};
use crate::ops::Padding;
use crate::ops::registry::{Case, CaseInput};

pub(crate) fn cases() -> Vec<Case> {
    use Padding::{Same, Valid};
    let any_device = [
        ([2, 5, 7, 3], [3, 3], 1, 1, Same, true),
        ([1, 4, 23, 2], [3, 5], 1, 1, Same, false), // rows long enough for the block loop
        ([1, 2, 3, 32], [3, 3], 1, 1, Same, true),
        ([1, 3, 67, 1], [3, 3], 1, 2, Same, false),
        ([1, 7, 6, 3], [3, 3], 2, 1, Same, true),
        ([1, 8, 7, 2], [5, 3], 3, 1, Same, false),
        ([1, 7, 9, 2], [3, 3], 2, 2, Valid, true),
        ([1, 4, 37, 1], [2, 4], 1, 1, Valid, true),
        ([1, 6, 5, 5], [2, 2], 2, 1, Valid, false),
        ([1, 1, 11, 5], [7, 7], 1, 1, Same, true),
        ([1, 11, 1, 9], [3, 3], 1, 1, Same, false),
        ([2, 1, 1, 13], [3, 3], 1, 1, Same, true),
        ([1, 1, 1, 1], [1, 1], 1, 1, Valid, true),
    ];
    // Runs, channel vectors, and several parts of a kernel gradient.
    let fast_kernels = [
        ([1, 4, 5, 8], [5, 5], 1, 1, Same, true),
        ([1, 5, 6, 8], [3, 3], 1, 2, Valid, false),
        ([1, 3, 9, 12], [5, 5], 1, 2, Same, true), // vectors of 4, not of 8
        ([1, 6, 3, 2], [5, 5], 1, 3, Same, false), // the window is wider than the picture
        ([2, 9, 13, 40], [3, 3], 1, 1, Same, true), // register tiles of 16 and of 8 channels
        ([1, 4, 31, 24], [5, 5], 1, 1, Same, true), // likewise with pixels left over
        ([1, 3, 29, 8], [3, 3], 1, 2, Same, false),
        ([2, 9, 13, 40], [5, 5], 1, 2, Same, true),
        ([2, 9, 13, 40], [3, 3], 2, 1, Same, true),
        ([2, 65, 5, 17], [3, 3], 1, 1, Same, true), // more parts than the second stage has warps
        ([1, 40, 131, 1], [11, 1], 1, 1, Valid, false),
        ([1, 40, 131, 1], [3, 3], 1, 1, Valid, true),
    ];
    let naive_kernels = [
        ([1, 5, 6, 8], [3, 3], 1, 1, Same, true),
        ([1, 4, 9, 2], [5, 5], 1, 2, Same, false),
        ([1, 5, 7, 3], [3, 3], 2, 1, Same, true),
    ];
    let case = |(x, k, stride, dilation, padding, bias): (_, [usize; 2], _, _, _, _), naive| {
        let (x, [kh, kw]): ([usize; 4], _) = (x, k);
        let options = DepthwiseOptions {
            stride,
            dilation,
            padding,
        };
        let mut inputs = vec![CaseInput::any(x), CaseInput::any([kh, kw, 1, x[3]])];
        if bias {
            inputs.push(CaseInput::any([x[3]]));
        }
        let mut label =
            format!("depthwise {x:?} {kh}x{kw} s{stride} d{dilation} {padding:?} bias {bias}");
        if naive {
            label += " naive";
        }
        let op = DepthwiseConv2d { options, naive };
        Case::new(label, op, inputs, kh * kw + 1)
    };
    let fast = any_device.into_iter().chain(fast_kernels);
    let cases = fast.map(|c| case(c, false));
    cases
        .chain(naive_kernels.into_iter().map(|c| case(c, true)))
        .collect()
}
