//! Broadcasting: which axes of an operand repeat, and loops over the result.

use crate::device::cpu::for_chunks;
use crate::tape::Meta;
use crate::tensor::{Real, Shape};
use crate::{Error, Result};
use std::ops::Range;

/// How a small operand lies in a full one: `full [outer, rep, inner]`, `part [outer, 1, inner]`.
///
/// `[C]`, `[N, 1, 1, C]`, `[N, H, W, 1]`, `[N, 1, 1, 1]` and `[]` in `[N, H, W, C]` all have this
/// form once neighbouring axes are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub outer: usize,
    pub rep: usize,
    pub inner: usize,
}

impl Repeat {
    /// `None` if `part` does not broadcast to `full`, if it repeats along two separate groups of
    /// axes, or if there are no elements.
    pub fn new(full: Shape, part: Shape) -> Option<Self> {
        if part.rank() > full.rank() || full.len() == 0 {
            return None;
        }
        let mut r = Self {
            outer: 1,
            rep: 1,
            inner: 1,
        };
        for (f, p) in full.padded4().into_iter().zip(part.padded4()) {
            match (f == p, p) {
                (true, 1) => {}
                (true, _) if r.rep == 1 => r.outer *= f,
                (true, _) => r.inner *= f,
                (false, 1) if r.inner == 1 => r.rep *= f,
                (false, _) => return None,
            }
        }
        if r.rep == 1 {
            (r.outer, r.inner) = (1, r.outer);
        }
        Some(r)
    }
}

/// Rows of picture `i` of several that broadcast that `rows` of the result read.
pub(crate) fn broadcast_rows(i: usize, whole: &[Meta], rows: Range<usize>) -> Range<usize> {
    let height = |m: &Meta| m.shape.padded4()[1];
    let full = whole.iter().map(height).max();
    match height(&whole[i]) {
        1 if full != Some(1) => 0..1,
        _ => rows,
    }
}

/// Whether `part` broadcasts to `full`.
pub(crate) fn broadcasts(full: Shape, part: Shape) -> bool {
    let mut axes = full.padded4().into_iter().zip(part.padded4());
    part.rank() <= full.rank() && full.len() > 0 && axes.all(|(f, p)| f == p || p == 1)
}

/// The shape that two operands broadcast to.
pub(crate) fn broadcast_shape(op: &'static str, a: Shape, b: Shape) -> Result<Shape> {
    let mut dims = a.padded4();
    for (d, other) in dims.iter_mut().zip(b.padded4()) {
        if *d == 1 {
            *d = other;
        }
    }
    let full = Shape::new(&dims[4 - a.rank().max(b.rank())..])?;
    if !broadcasts(full, a) || !broadcasts(full, b) {
        return Err(Error::shape(
            op,
            format!("shapes {a} and {b} do not broadcast"),
        ));
    }
    Ok(full)
}

/// A shape between `full` and `part` that differs from `full` in the last repeated group of axes
/// only: two steps then lead from one to the other, each with a [`Repeat`].
pub(crate) fn halfway(full: Shape, part: Shape) -> Result<Shape> {
    let mut dims = full.padded4();
    let mut inside = false;
    for (d, p) in dims.iter_mut().zip(part.padded4()).rev() {
        if *d != p {
            inside = true;
            *d = 1;
        } else if inside && *d > 1 {
            break;
        }
    }
    Shape::new(&dims[4 - full.rank()..])
}

/// The small operand over one piece of the result.
pub(crate) enum Piece<'a, T> {
    /// The same value everywhere.
    One(T),
    /// As many values as the piece has.
    Row(&'a [T]),
}

/// Elements that one task handles.
const CHUNK: usize = 4096;
/// Rows shorter than this are put side by side, so that whole registers come out.
const SHORT: usize = 32;

/// Calls `f(offset, piece of out, part there)` until all of `out` is covered.
pub(crate) fn for_pieces<T: Real>(
    r: Repeat,
    part: &[T],
    out: &mut [T],
    f: impl Fn(usize, &mut [T], Piece<'_, T>) + Sync + Send,
) {
    let Repeat { rep, inner, .. } = r;
    if rep == 1 {
        for_chunks(out, CHUNK, |i, out| {
            let at = i * CHUNK;
            f(at, out, Piece::Row(&part[at..at + out.len()]));
        });
        return;
    }
    if inner == 1 && rep < SHORT / 2 {
        // A call for every few elements would cost more than the work: spell the values out.
        let groups = 4 * SHORT / rep;
        for_chunks(out, 32 * groups * rep, |i, out| {
            let at = i * 32 * groups;
            let mut row = [T::zero(); 4 * SHORT];
            for (j, o) in out.chunks_mut(groups * rep).enumerate() {
                let at = at + j * groups;
                for (r, &v) in row.chunks_exact_mut(rep).zip(&part[at..at + o.len() / rep]) {
                    r.fill(v);
                }
                let n = o.len();
                f(at * rep, o, Piece::Row(&row[..n]));
            }
        });
        return;
    }
    let rows = (CHUNK / inner).max(1);
    for_chunks(out, rows * inner, |i, mut out| {
        let mut at = i * rows * inner;
        let mut group = i * rows / rep;
        let mut left = rep - i * rows % rep; // rows that this group still has
        while !out.is_empty() {
            let count = left.min(out.len() / inner) * inner;
            let (now, rest) = std::mem::take(&mut out).split_at_mut(count);
            repeat_row(at, now, &part[group * inner..(group + 1) * inner], &f);
            at += count;
            group += 1;
            left = rep;
            out = rest;
        }
    });
}

#[inline(always)]
fn repeat_row<T: Real>(
    at: usize,
    out: &mut [T],
    row: &[T],
    f: &impl Fn(usize, &mut [T], Piece<'_, T>),
) {
    match row {
        &[value] => f(at, out, Piece::One(value)),
        _ if row.len() < SHORT => {
            let mut pattern = [T::zero(); 2 * SHORT];
            let len = (pattern.len() / row.len() * row.len()).min(out.len());
            for p in pattern[..len].chunks_exact_mut(row.len()) {
                p.copy_from_slice(row);
            }
            for (j, o) in out.chunks_mut(len).enumerate() {
                let n = o.len();
                f(at + j * len, o, Piece::Row(&pattern[..n]));
            }
        }
        _ => {
            for (j, o) in out.chunks_exact_mut(row.len()).enumerate() {
                f(at + j * row.len(), o, Piece::Row(row));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_operands_repeat_along_one_group_of_axes() {
        let full = Shape::from([2, 5, 7, 3]);
        let found = |part: Shape| Repeat::new(full, part).map(|r| (r.outer, r.rep, r.inner));
        assert_eq!(found(full), Some((1, 1, 210)));
        assert_eq!(found([3].into()), Some((1, 70, 3)));
        assert_eq!(found([2, 1, 1, 3].into()), Some((2, 35, 3)));
        assert_eq!(found([2, 5, 7, 1].into()), Some((70, 3, 1)));
        assert_eq!(found([2, 1, 1, 1].into()), Some((2, 105, 1)));
        assert_eq!(found([].into()), Some((1, 210, 1)));
        assert_eq!(found([1, 5, 1, 3].into()), None);
        assert_eq!(found([4].into()), None);
    }

    #[test]
    fn two_steps_cover_every_broadcast() {
        let full = Shape::from([2, 5, 7, 3]);
        for mask in 0..16 {
            let mut dims = full.padded4();
            for (i, d) in dims.iter_mut().enumerate() {
                if mask >> i & 1 == 1 {
                    *d = 1;
                }
            }
            let part = Shape::from(dims);
            let mid = halfway(full, part).unwrap();
            assert!(Repeat::new(full, mid).is_some(), "{full} {mid}");
            assert!(Repeat::new(mid, part).is_some(), "{mid} {part}");
        }
    }

    #[test]
    fn shapes_follow_numpy() {
        let shape = |a: Shape, b: Shape| broadcast_shape("add", a, b);
        let s = shape([4, 1].into(), [3].into()).unwrap();
        assert_eq!(s.dims(), [4, 3]);
        assert!(shape([2, 3].into(), [2].into()).is_err());
        assert!(shape([0].into(), [1].into()).is_err());
    }
}
