//! Sums in a fixed order: parts of fixed size, each in several lanes, combined in f64. The result
//! does not depend on the number of threads. On CUDA, the sums of `kernels/reduce.cu`.

use super::broadcast::Repeat;
use super::lanes::{Columns, ColumnsParams, group};
use crate::Result;
use crate::device::cpu::for_chunks_of_work;
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::tensor::{DType, Real};
use bytemuck::{Pod, Zeroable};

/// Elements of one part.
const PART: usize = 4096;
const LANES: usize = 16;
/// Contiguous runs up to this length are summed in the element type.
const SHORT: usize = 256;

impl Repeat {
    fn rows_per_part(self) -> usize {
        (PART / self.inner).max(LANES)
    }

    fn parts(self) -> usize {
        self.rep.div_ceil(self.rows_per_part())
    }

    /// Number of f64 that [`sum`] wants as scratch.
    pub fn sum_scratch(self) -> usize {
        match self.parts() {
            1 => 0,
            parts => self.outer * parts * self.inner,
        }
    }
}

/// `out[o, c] = scale * sum over r of term(a[o, r, c], b[o, r, c])`.
pub(crate) fn sum<T: Real>(
    r: Repeat,
    (a, b): (&[T], &[T]),
    term: impl Fn(T, T) -> T + Copy + Sync + Send,
    scale: f64,
    out: &mut [T],
    scratch: &mut [f64],
) {
    let Repeat { outer, rep, inner } = r;
    let (group, parts) = (rep * inner, r.parts());
    if inner == 1 && rep <= SHORT {
        let block = (PART / rep).max(1);
        let scale = T::lit(scale);
        for_chunks_of_work(a.len(), out, block, |i, out| {
            let at = i * block * rep..(i * block + out.len()) * rep;
            let pairs = a[at.clone()].chunks_exact(rep).zip(b[at].chunks_exact(rep));
            for (o, (a, b)) in out.iter_mut().zip(pairs) {
                *o = scale * short_sum(a, b, term);
            }
        });
    } else if parts == 1 {
        let block = (PART / group).max(1);
        for_chunks_of_work(a.len(), out, block * inner, |i, out| {
            for (j, o) in out.chunks_exact_mut(inner).enumerate() {
                let at = (i * block + j) * group..(i * block + j + 1) * group;
                let pair = (&a[at.clone()], &b[at]);
                column_sums(pair, inner, term, |c, v| o[c] = T::lit(v * scale));
            }
        });
    } else {
        let rows = r.rows_per_part();
        let partials = &mut scratch[..outer * parts * inner];
        for_chunks_of_work(a.len(), partials, inner, |i, p| {
            let (o, k) = (i / parts, i % parts);
            let at = o * group + k * rows * inner..o * group + rep.min((k + 1) * rows) * inner;
            column_sums((&a[at.clone()], &b[at]), inner, term, |c, v| p[c] = v);
        });
        let groups = partials.chunks_exact_mut(parts * inner);
        for (out, p) in out.chunks_exact_mut(inner).zip(groups) {
            let (total, rest) = p.split_at_mut(inner);
            for row in rest.chunks_exact(inner) {
                for (t, &v) in total.iter_mut().zip(row) {
                    *t += v;
                }
            }
            for (o, &t) in out.iter_mut().zip(&*total) {
                *o = T::lit(t * scale);
            }
        }
    }
}

#[inline(always)]
fn add_terms<T: Real>(acc: &mut [T], a: &[T], b: &[T], term: impl Fn(T, T) -> T) {
    for ((s, &a), &b) in acc.iter_mut().zip(a).zip(b) {
        *s += term(a, b);
    }
}

#[inline(always)]
fn plus<T: Real>(
    acc: [T; LANES],
    a: &[T; LANES],
    b: &[T; LANES],
    term: impl Fn(T, T) -> T,
) -> [T; LANES] {
    std::array::from_fn(|l| acc[l] + term(a[l], b[l]))
}

#[inline(always)]
fn short_sum<T: Real>(a: &[T], b: &[T], term: impl Fn(T, T) -> T + Copy) -> T {
    let mut s = [T::zero(); 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail = (a.remainder(), b.remainder());
    for (a, b) in a.zip(b) {
        add_terms(&mut s, a, b, term);
    }
    add_terms(&mut s, tail.0, tail.1, term);
    ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
}

/// Calls `write(c, sum of column c)` for rows of `inner` elements.
#[inline(always)]
fn column_sums<T: Real>(
    (a, b): (&[T], &[T]),
    inner: usize,
    term: impl Fn(T, T) -> T + Copy,
    mut write: impl FnMut(usize, f64),
) {
    if inner >= LANES {
        for c0 in (0..inner).step_by(LANES) {
            let mut acc = [T::zero(); LANES];
            let width = LANES.min(inner - c0);
            let rows = a.chunks_exact(inner).zip(b.chunks_exact(inner));
            if width == LANES {
                for (a, b) in rows {
                    // Arrays of known length keep the sums in registers.
                    if let (Some(a), Some(b)) = (a[c0..].first_chunk(), b[c0..].first_chunk()) {
                        acc = plus(acc, a, b, term);
                    }
                }
            } else {
                for (a, b) in rows {
                    add_terms(&mut acc, &a[c0..], &b[c0..], term);
                }
            }
            for (c, &v) in acc[..width].iter().enumerate() {
                write(c0 + c, v.to_f64());
            }
        }
        return;
    }
    // Several rows side by side, so that whole registers come out: lane l belongs to column
    // l % inner. `blocks` is inner / gcd(inner, 16).
    let blocks = inner >> inner.trailing_zeros().min(4);
    let wide = blocks * LANES;
    let mut acc = [[T::zero(); LANES]; LANES];
    let (a, b) = (a.chunks_exact(wide), b.chunks_exact(wide));
    let tail = (a.remainder(), b.remainder());
    if blocks == 1 {
        let mut one = [T::zero(); LANES];
        for (a, b) in a.zip(b) {
            if let (Some(a), Some(b)) = (a.first_chunk(), b.first_chunk()) {
                one = plus(one, a, b, term);
            }
        }
        acc[0] = one;
    } else {
        for (a, b) in a.zip(b) {
            let pairs = a.chunks_exact(LANES).zip(b.chunks_exact(LANES));
            for (acc, (a, b)) in acc.iter_mut().zip(pairs) {
                add_terms(acc, a, b, term);
            }
        }
    }
    let flat = &mut acc.as_flattened_mut()[..wide];
    add_terms(flat, tail.0, tail.1, term);
    for c in 0..inner {
        let lanes = flat.iter().skip(c).step_by(inner);
        write(c, lanes.map(|&v| v.to_f64()).sum());
    }
}

/// `Sum` of `kernels/reduce.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SumParams {
    a: DevicePtr,
    b: DevicePtr,
    y: DevicePtr,
    partials: DevicePtr,
    columns: ColumnsParams,
    group: i32,
    scale: f32,
    unused: i32,
}

/// Parts of a sum on CUDA, at most.
const MAX_PARTS: usize = 256;
/// Contiguous runs up to this length are left to the lanes of one warp on CUDA.
const WARP_SUM: usize = 1024;

fn in_a_warp(r: Repeat) -> bool {
    r.inner == 1 && r.rep <= WARP_SUM
}

/// Launches `output[o, c] = scale * sum over r of input_0[o, r, c] (* input_1[o, r, c])`, with the
/// product if there are two inputs. `naive`: one thread for each sum.
pub(crate) fn launch(io: &mut CudaIo<'_>, r: Repeat, scale: f64, naive: bool) -> Result<()> {
    let columns = Columns::new(r, io.dtype(), MAX_PARTS);
    let group = group(io.dtype(), r.rep);
    let params = SumParams {
        a: io.input(0),
        b: io.optional((io.len() == 2).then_some(1)),
        y: io.output(),
        partials: io.scratch().0,
        columns: columns.params(io)?,
        group: io.int(group)?,
        scale: scale as f32,
        unused: 0,
    };
    let (each, rows) = (
        io.blocks_for(r.outer * r.inner),
        io.blocks_for(r.outer * group),
    );
    let mut launch = |kernel, blocks| io.launch("reduce", kernel, blocks, THREADS, params);
    if naive {
        return launch("sum_naive_fwd", each);
    }
    if in_a_warp(r) {
        return launch("sum_rows_fwd", rows);
    }
    launch("sum_columns_fwd", columns.blocks())?;
    launch("sum_finish_fwd", r.outer * r.inner.div_ceil(32))
}

/// Bytes of scratch that [`launch`] wants.
pub(crate) fn cuda_workspace(r: Option<Repeat>, dtype: DType, naive: bool) -> usize {
    match r {
        Some(r) if !naive && !in_a_warp(r) => Columns::new(r, dtype, MAX_PARTS).partial_bytes(),
        _ => 0,
    }
}
