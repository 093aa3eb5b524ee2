//! The guided filter as standard ONNX nodes, in f32.

use super::{GuidedFilter, NAME, eps_f32};
use crate::onnx::{Attribute, Graph, Value};
use crate::{Error, Result};

/// `box(a) I + box(b)`. The guide is taken about its mean over the picture, which changes nothing but
/// rounding: `mean(I^2) - mean(I)^2` then cancels less.
pub(super) fn write(f: &GuidedFilter, g: &mut Graph, guide: &Value, x: &Value) -> Result<Value> {
    let r = i64::try_from(f.radius).ok().filter(|&r| r <= 1 << 20);
    let r = r.ok_or_else(|| {
        let detail = format!("{NAME} of radius {}; ONNX windows end at 2^20", f.radius);
        Error::config("export", detail)
    })?;
    let eps = eps_f32(f.eps);
    let eps = g.floats(&format!("{NAME}.eps {eps}"), &[], &[eps])?;
    let level = g.node("GlobalAveragePool", &[guide], &[]);
    let guide = &g.node("Sub", &[guide, &level], &[]);

    let (mean_i, mean_x) = (mean(g, guide, r), mean(g, x, r));
    let squares = g.node("Mul", &[guide, guide], &[]);
    let spread = covariance(g, &squares, [&mean_i, &mean_i], r);
    // Rounding may not make a variance negative.
    let spread = g.node("Relu", &[&spread], &[]);
    let spread = g.node("Add", &[&spread, &eps], &[]);
    let products = g.node("Mul", &[x, guide], &[]);
    let common = covariance(g, &products, [&mean_x, &mean_i], r);
    let slope = g.node("Div", &[&common, &spread], &[]);
    let at_mean = g.node("Mul", &[&slope, &mean_i], &[]);
    let value = g.node("Sub", &[&mean_x, &at_mean], &[]);

    let (slope, value) = (mean(g, &slope, r), mean(g, &value, r));
    let risen = g.node("Mul", &[&slope, guide], &[]);
    Ok(g.node("Add", &[&risen, &value], &[]))
}

/// `mean(products) - mean * mean`.
fn covariance(g: &mut Graph, products: &Value, [a, b]: [&Value; 2], r: i64) -> Value {
    let of_products = mean(g, products, r);
    let of_means = g.node("Mul", &[a, b], &[]);
    g.node("Sub", &[&of_products, &of_means], &[])
}

/// The mean over windows that the borders cut, along rows and then along columns: a cut window is still a
/// rectangle, so the mean of its rows' means is its mean.
fn mean(g: &mut Graph, x: &Value, r: i64) -> Value {
    let mut pool = |x: &Value, [h, w]: [i64; 2]| {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![2 * h + 1, 2 * w + 1])),
            ("pads", Attribute::Ints(vec![h, w, h, w])),
            ("strides", Attribute::Ints(vec![1, 1])),
            ("count_include_pad", Attribute::Int(0)),
        ];
        g.node("AveragePool", &[x], &attributes)
    };
    let rows = pool(x, [0, r]);
    pool(&rows, [r, 0])
}
