//! Sums over many rows in a fixed order, whatever the number of threads.

use crate::device::cpu::{SendPtr, for_chunks, for_chunks_of_work};
use crate::tensor::Real;

/// At most this many partial results: enough to keep any CPU busy, few enough to add up fast.
const MAX_PARTS: usize = 64;

/// Rows in each part and number of parts, from the shape alone.
pub(crate) fn split(rows: usize) -> (usize, usize) {
    let per_part = rows.div_ceil(MAX_PARTS).max(1);
    (per_part, rows.div_ceil(per_part))
}

/// Number of partial results for `rows` rows.
pub(crate) fn count(rows: usize) -> usize {
    split(rows).1
}

/// `f(rows, slot)` for each part with its slot of `slot` elements of `scratch`; in parallel if
/// `work`, the number of elements visited in all, is large.
pub(crate) fn for_parts<T: Real>(
    scratch: &mut [T],
    slot: usize,
    rows: usize,
    work: usize,
    f: impl Fn(std::ops::Range<usize>, &mut [T]) + Sync + Send,
) {
    let (per_part, parts) = split(rows);
    for_chunks_of_work(work, &mut scratch[..parts * slot], slot, |i, slot| {
        f(i * per_part..rows.min((i + 1) * per_part), slot);
    });
}

/// `out = sum of the first out.len() elements of every slot`, from first to last.
pub(crate) fn reduce<T: Real>(out: &mut [T], scratch: &[T], slot: usize, rows: usize) {
    out.fill(T::zero());
    for s in scratch[..count(rows) * slot].chunks(slot) {
        for (o, &v) in out.iter_mut().zip(s) {
            *o += v;
        }
    }
}

/// `f(row, slot, out_row)` for each row of `out`, where rows of one part share a slot of scratch.
pub(crate) fn for_rows_with<T: Real>(
    out: &mut [T],
    row: usize,
    scratch: &mut [T],
    slot: usize,
    f: impl Fn(usize, &mut [T], &mut [T]) + Sync + Send,
) {
    let (per_part, parts) = split(out.len() / row);
    assert!(out.len().is_multiple_of(row), "whole rows");
    let slots = SendPtr::new(&mut scratch[..parts * slot]);
    for_chunks(out, per_part * row, |i, out| {
        // SAFETY: whole rows are `parts` parts (`split`), and each has a slot of its own.
        let slot = unsafe { slots.slice(i * slot, slot) };
        for (k, out) in out.chunks_mut(row).enumerate() {
            f(i * per_part + k, slot, out);
        }
    });
}
