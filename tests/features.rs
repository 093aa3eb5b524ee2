//! The feature network against golden sums computed elsewhere from the same weights.

use hafuse::loss::FeatureNet;
use hafuse::{DType, ParamStore, Session, Tape, Tensor};
use std::path::PathBuf;

/// `HAFUSE_FEATURES`, else the file in the data folder beside the checkout.
fn weights() -> Option<PathBuf> {
    let beside = "../shared/data/vgg/vgg19_normalised_to_conv3_1.safetensors";
    let path = std::env::var_os("HAFUSE_FEATURES").map_or_else(|| beside.into(), PathBuf::from);
    path.exists().then_some(path)
}

#[test]
fn vgg_19_gives_the_golden_sums() {
    let Some(path) = weights() else {
        println!("skipped: no VGG-19 weights; set HAFUSE_FEATURES to the safetensors file");
        return;
    };
    let net = FeatureNet::load(&path).expect("loads");
    let store = ParamStore::default();
    net.install(&store, DType::F64).expect("installs");
    let mut t = Tape::new(DType::F64);
    let x = t.input("x", [1, 16, 16, 1]).expect("records");
    for (i, tap) in net
        .record(&mut t, x, 5)
        .expect("records")
        .into_iter()
        .enumerate()
    {
        t.output(&i.to_string(), tap).expect("records");
    }
    let mut session = Session::new(&t, &store).expect("binds");
    let pixels = (0..256)
        .map(|i| (i / 16, i % 16))
        .map(|(y, x)| f64::from((7 * y + 13 * x + x * y) % 32) / 31.0)
        .collect();
    session
        .set("x", &Tensor::from_vec([1, 16, 16, 1], pixels).expect("256"))
        .expect("sets");
    session.run().expect("runs");
    let golden = [31324.431, 36429.808, 11960.046, 10232.709, 5345.524];
    for (i, expected) in golden.into_iter().enumerate() {
        let sum: f64 = session
            .output::<f64>(&i.to_string())
            .expect("output")
            .iter()
            .sum();
        let error = (sum - expected).abs();
        assert!(error <= 2e-3, "tap {i}: sum {sum}, golden {expected}");
    }
    let at = |tap: &str| session.output::<f64>(tap).expect("output")[0];
    for (tap, expected) in [("1", 4.607077), ("3", 0.347393), ("4", 3.359660)] {
        assert!((at(tap) - expected).abs() <= 2e-6, "tap {tap}: {}", at(tap));
    }
}
