//! Pictures for tests.

use super::sheet::{Crop, Scene};
use crate::data::Picture;

/// A grey picture of one level.
pub fn grey(w: usize, h: usize, v: f32) -> Picture {
    Picture::from_luma(w, h, vec![v; w * h]).unwrap()
}

/// A scene of two flat sources.
pub fn scene(w: usize, h: usize, fused: Vec<Option<Picture>>, crops: Vec<Crop>) -> Scene {
    Scene {
        name: "street".into(),
        a: grey(w, h, 0.25),
        b: grey(w, h, 0.5),
        fused,
        crops,
    }
}
