//! Dense convolutions against the `gemm` crate on the matrix product of the same size
//! (`M` = pixels, `K` = kh kw cin, `N` = cout, operands already laid out), in one run.
//!
//! `cargo bench --bench conv --features criterion`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hafuse::ops::{self, ConvOptions};
use hafuse::{DType, ParamStore, Session, Tape, Tensor};
use std::hint::black_box;

/// Batch, height, width, input channels, output channels, kernel side.
const SIZES: [[usize; 6]; 6] = [
    [1, 448, 620, 32, 32, 3],
    [1, 448, 620, 32, 32, 5],
    [8, 64, 64, 32, 32, 3],
    [8, 32, 32, 64, 64, 3],
    [8, 16, 16, 128, 128, 3],
    [1, 448, 620, 32, 32, 1],
];

fn convolution([n, h, w, cin, cout, k]: [usize; 6]) -> hafuse::Result<Session> {
    let mut t = Tape::new(DType::F32);
    let x = t.input("x", [n, h, w, cin])?;
    let weight = t.param("w", [k, k, cin, cout])?;
    let y = ops::conv2d(&mut t, x, weight, None, None, ConvOptions::default())?;
    t.output("y", y)?;
    let store = ParamStore::default();
    store.set("w", &Tensor::full([k, k, cin, cout], DType::F32, 0.01))?;
    let mut session = Session::new(&t, &store)?;
    for (i, v) in session.input_mut::<f32>("x")?.iter_mut().enumerate() {
        *v = (i % 251) as f32 / 251.0;
    }
    Ok(session)
}

/// `c = a b` with row-major `a [m, k]`, `b [k, n]`.
fn gemm(c: &mut [f32], a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) {
    assert!(c.len() == m * n && a.len() == m * k && b.len() == k * n);
    // SAFETY: the lengths were just checked.
    unsafe {
        (gemm_f32::gemm::f32::get_gemm_fn())(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            1,
            n as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm_common::Parallelism::Rayon(0),
        );
    }
}

fn bench(c: &mut Criterion) {
    for size in SIZES {
        let [n, h, w, cin, cout, k] = size;
        let shape = [n * h * w, k * k * cin, cout];
        let mut group = c.benchmark_group(format!("{n}x{h}x{w} {cin}->{cout} {k}x{k}"));
        group.sample_size(20);
        // Elements are floating-point operations: Gelem/s reads as GFLOP/s.
        group.throughput(Throughput::Elements(
            2 * shape.iter().product::<usize>() as u64,
        ));
        let mut session = convolution(size).expect("the sizes are valid");
        group.bench_function("hafuse conv2d", |b| b.iter(|| session.run().expect("runs")));
        drop(session);
        let a = vec![0.3f32; shape[0] * shape[1]];
        let b = vec![0.01f32; shape[1] * shape[2]];
        let mut out = vec![0.0f32; shape[0] * shape[2]];
        group.bench_function("gemm crate", |bench| {
            bench.iter(|| gemm(black_box(&mut out), &a, &b, shape));
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
