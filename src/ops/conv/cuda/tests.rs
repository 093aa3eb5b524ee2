//! Which kernel runs where: the network's shapes on cards of different sizes.

use super::*;
use crate::device::Card;
use crate::device::launch::DeviceView;
use crate::ops::ConvOptions;

fn card(multiprocessors: u32, capability: (u32, u32)) -> Card {
    Card {
        ordinal: 0,
        name: "test".into(),
        capability,
        code: Some(10 * capability.0 + capability.1),
        multiprocessors,
        memory: 0,
        l2: 0,
    }
}

/// Kernel and blocks for a square kernel of side `k` and "same" padding.
fn chosen(
    card: &Card,
    dtype: DType,
    x: [usize; 4],
    (k, cout, stride): (usize, usize, usize),
) -> (String, u32) {
    let w = [k, k, x[3], cout];
    let options = ConvOptions {
        stride,
        ..Default::default()
    };
    let sizes = options.sizes("test", x, w).expect("is valid");
    let y = [x[0], sizes.rows.y, sizes.cols.y, cout];
    let view = |shape: [usize; 4]| DeviceView {
        ptr: DevicePtr::NULL,
        shape: shape.into(),
        dtype,
    };
    let inputs = [view(x), view(w)];
    let mut io = CudaIo::new("test", &inputs, view(y), (DevicePtr::NULL, 0), card);
    let job = Job {
        sizes,
        channels: (x[3], cout),
        variant: Variant::Auto,
    };
    forward(&mut io, &job, None, None, Activation::None).expect("fits");
    let launch = io.into_launches().remove(0);
    (launch.kernel, launch.blocks)
}

#[test]
fn tiles_suit_the_network_and_the_card() {
    use DType::{F16, F32};
    let (large, small) = (card(108, (8, 0)), card(8, (8, 7)));
    let (picture, patches) = ([1, 448, 620, 32], [8, 64, 64, 32]);
    for (card, dtype, x, layer, kernel, blocks) in [
        (&large, F32, picture, (3, 32, 1), "m256n32_f32", 1085),
        (&large, F16, picture, (5, 32, 1), "mma_m256n32_f16", 28 * 39),
        (&large, F16, picture, (3, 1, 1), "mma_m128n16_f16", 56 * 39),
        (&large, F32, picture, (3, 1, 1), "narrow1_f32", 2170),
        // A stride of 2 reads a larger patch: the small tile.
        (&large, F16, picture, (3, 64, 2), "mma_m64n64_f16", 56 * 20),
        // Training fills a large card with small tiles, a small one with large ones.
        (&large, F32, patches, (3, 32, 1), "m64n32_f32", 512),
        (&small, F32, patches, (3, 32, 1), "m256n32_f32", 128),
        (&large, F32, [8, 32, 32, 64], (3, 64, 1), "m64n32_f32", 256),
        (&small, F32, [8, 32, 32, 64], (3, 64, 1), "m128n64_f32", 64),
        // Two channels in: no tensor cores.
        (
            &large,
            F16,
            [1, 448, 620, 2],
            (3, 32, 1),
            "m64n32_f16",
            4340,
        ),
    ] {
        let found = chosen(card, dtype, x, layer);
        assert_eq!(
            found,
            (format!("conv2d_fwd_{kernel}"), blocks),
            "{x:?} {layer:?}"
        );
    }
    let volta = card(80, (7, 0));
    let found = chosen(&volta, F16, picture, (3, 32, 1));
    assert_eq!(found.0, "conv2d_fwd_m64n32_f16", "no tensor cores");
}

#[test]
fn weight_gradients_are_split_by_shape_alone_within_bounds() {
    for (pixels, rows, cout) in [
        (1, 1, 1),
        (32768, 288, 32),
        (277_760, 800, 32),
        (8192, 1152, 128),
    ] {
        let s = Split::new(pixels, rows, cout, DType::F32);
        let blocks = s.parts * s.tiles;
        assert!(
            s.parts >= 1 && s.parts <= pixels.div_ceil(64),
            "{rows} x {cout}"
        );
        assert!(
            blocks * s.warps < 1536 + s.tiles * s.warps,
            "{rows} x {cout}: {blocks}"
        );
    }
    // 3 x 3, 32 to 32 channels: three exact tiles of 96 rows.
    let s = Split::new(32768, 288, 32, DType::F32);
    assert_eq!((s.warps, s.tiles, s.parts), (3, 3, 171));
}
