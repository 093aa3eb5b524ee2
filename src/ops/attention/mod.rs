//! The two attention blocks of the paper's search space, from weights to gate and residual in one
//! operator each.

mod channel;
mod spatial;

use self::channel::ChannelAttention;
use self::spatial::SpatialAttention;
use super::registry::{Case, CaseInput, Fill};
use crate::device::cpu::{CpuIo, RawView};
use crate::tape::Operator;
use crate::tensor::{Element, Shape};
use crate::{Error, Result};

pub use self::channel::channel_attention;
pub use self::spatial::spatial_attention;

/// Runs `op` on slices, as a part of another operator.
fn run<T: Element, const N: usize>(
    op: &dyn Operator,
    inputs: [(&[T], Shape); N],
    output: (&mut [T], Shape),
    scratch: &mut [f64],
) -> Result<()> {
    let fits = |len: usize, shape: Shape| len == shape.len();
    if !inputs.iter().all(|(v, s)| fits(v.len(), *s)) || !fits(output.0.len(), output.1) {
        return Err(Error::Internal(format!("{} on slices", op.name())));
    }
    let dtype = T::DTYPE;
    let views = inputs.map(|(v, shape)| RawView {
        ptr: v.as_ptr().cast_mut().cast(),
        shape,
        dtype,
    });
    let to = RawView {
        ptr: output.0.as_mut_ptr().cast(),
        shape: output.1,
        dtype,
    };
    let room = (scratch.as_mut_ptr().cast(), size_of_val(scratch));
    // SAFETY: the views are borrowed slices of the lengths that their shapes say; output and scratch
    // are borrowed mutably, so nothing overlaps them; no input is updated in place.
    op.cpu(unsafe { CpuIo::new(&views, &[], to, room) })
}

/// Words of scratch for `len` elements of `size` bytes; whole cache lines.
fn words(len: usize, size: usize) -> usize {
    (len * size).div_ceil(64) * 8
}

/// Takes `len` elements from the front of scratch.
fn take<'a, T: Element>(scratch: &mut &'a mut [f64], len: usize) -> &'a mut [T] {
    let (front, rest) = std::mem::take(scratch).split_at_mut(words(len, size_of::<T>()));
    *scratch = rest;
    &mut bytemuck::cast_slice_mut(front)[..len]
}

pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    // The last ones span several tiles, parts of a sum and blocks of channels, with remainders.
    for (u, k, naive) in [
        ([2, 5, 7, 3], 5, true),
        ([1, 1, 1, 1], 3, true),
        ([1, 1, 9, 8], 3, true),
        ([1, 9, 1, 11], 7, true),
        ([1, 35, 18, 32], 5, false),
        ([2, 17, 33, 11], 7, false),
        ([1, 20, 17, 1], 3, false),
    ] {
        for naive in [false, true].into_iter().take(1 + usize::from(naive)) {
            let suffix = if naive { ", naive" } else { "" };
            let op = SpatialAttention { naive };
            let inputs = vec![
                // No two channels of a pixel are close: the maximum is unique.
                CaseInput::new(u, Fill::Distinct),
                CaseInput::any([k, k, 2, 1]),
                CaseInput::any([1]),
                CaseInput::any(u),
            ];
            let label = format!("spatial_attention {u:?} k {k}{suffix}");
            out.push(Case::new(label, op, inputs, 2 * k * k));
        }
    }
    for (u, k, naive) in [
        ([2, 5, 7, 3], 3, true),
        ([1, 1, 1, 1], 3, true),
        ([1, 1, 9, 8], 5, true),
        ([1, 9, 1, 11], 1, true),
        ([1, 2, 3, 37], 31, true),
        ([2, 40, 33, 32], 3, false),
        ([1, 67, 61, 3], 3, false),
        ([1, 2, 3, 300], 5, false),
        ([1, 3, 2, 304], 31, false),
    ] {
        for naive in [false, true].into_iter().take(1 + usize::from(naive)) {
            let suffix = if naive { ", naive" } else { "" };
            let op = ChannelAttention { naive };
            let inputs = vec![CaseInput::any(u), CaseInput::any([k]), CaseInput::any(u)];
            let label = format!("channel_attention {u:?} k {k}{suffix}");
            out.push(Case::new(label, op, inputs, k));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::spatial::MAP_OPTIONS;
    use super::*;
    use crate::ops::{channel_conv1d, channel_stats, conv2d, gate, mean_positions, sigmoid};
    use crate::tape::{Tape, Var};
    use crate::{DType, ParamStore, Session, Tensor};

    /// Values of `y0`, `y1`, and the gradients of both in all inputs.
    fn compare(
        record: impl Fn(&mut Tape, &[Var]) -> Result<[Var; 2]>,
        shapes: &[Shape],
    ) -> Result<()> {
        let mut t = Tape::new(DType::F32);
        let names: Vec<String> = (0..shapes.len()).map(|i| format!("x{i}")).collect();
        let xs = names.iter().zip(shapes).map(|(name, s)| t.input(name, *s));
        let xs: Vec<Var> = xs.collect::<Result<_>>()?;
        let ys = record(&mut t, &xs)?;
        let g = t.input("g", t.shape(ys[0]))?;
        for (y, name) in ys.into_iter().zip(["fused", "nodes"]) {
            t.output(name, y)?;
            for (i, d) in t.vjp(y, g, &xs)?.into_iter().enumerate() {
                t.output(&format!("{name} d{i}"), d)?;
            }
        }
        let mut s = Session::new(&t, &ParamStore::default())?;
        for (name, &shape) in names
            .iter()
            .chain([&"g".to_string()])
            .zip(shapes.iter().chain([&t.shape(g)]))
        {
            let values = (0..shape.len()).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0);
            s.set(name, &Tensor::from_vec(shape, values.collect::<Vec<_>>())?)?;
        }
        s.run()?;
        for i in std::iter::once(String::new()).chain((0..xs.len()).map(|i| format!(" d{i}"))) {
            let [a, b] = ["fused", "nodes"].map(|name| s.get(&format!("{name}{i}")));
            assert_eq!(a?, b?, "output{i}");
        }
        Ok(())
    }

    #[test]
    fn fused_spatial_attention_has_the_bits_of_its_nodes() -> Result<()> {
        let u = Shape::from([2, 21, 19, 12]);
        compare(
            |t, x| {
                let stats = channel_stats(t, x[0])?;
                let map = conv2d(t, stats, x[1], Some(x[2]), None, MAP_OPTIONS)?;
                let nodes = gate(t, x[0], map, Some(x[3]))?;
                Ok([spatial_attention(t, x[0], x[1], x[2], x[3])?, nodes])
            },
            &[u, [5, 5, 2, 1].into(), [1].into(), u],
        )
    }

    #[test]
    fn fused_channel_attention_has_the_bits_of_its_nodes() -> Result<()> {
        let u = Shape::from([2, 45, 49, 12]);
        compare(
            |t, x| {
                let mean = mean_positions(t, x[0])?;
                let z = channel_conv1d(t, mean, x[1])?;
                let weights = sigmoid(t, z)?;
                let nodes = gate(t, x[0], weights, Some(x[2]))?;
                Ok([channel_attention(t, x[0], x[1], x[2])?, nodes])
            },
            &[u, [3].into(), u],
        )
    }

    #[test]
    fn a_residual_that_is_the_input_counts_once() -> Result<()> {
        let mut t = Tape::new(DType::F64);
        let u = t.input("u", [1, 1, 1, 1])?;
        let w = t.constant(&Tensor::full([3], DType::F64, 0.0))?;
        let y = channel_attention(&mut t, u, w, u)?;
        let d = t.grad(y, &[u])?[0];
        t.output("d", d)?;
        let mut s = Session::new(&t, &ParamStore::default())?;
        s.set("u", &Tensor::full([1, 1, 1, 1], DType::F64, 3.0))?;
        s.run()?;
        assert_eq!(s.scalar("d")?, 1.5); // sigmoid(0) + 1
        Ok(())
    }
}
