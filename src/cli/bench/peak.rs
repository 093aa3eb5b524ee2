//! What a CPU reaches when nothing is in the way: multiply-adds in registers, bytes copied.

use crate::device::simd::{self, CHAINS};
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;

/// Measured ceilings of all threads of a CPU together.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    pub threads: usize,
    /// f32 multiply-adds in registers for each vector width in bits, GFLOP/s; ascending.
    pub f32_gflop_per_s: Vec<(usize, f64)>,
    /// Read and written bytes of a copy that no cache holds, GB/s.
    pub copy_gb_per_s: f64,
}

/// Multiply-adds of a chain in one timed run.
const ROUNDS: usize = 2_000_000;
/// Bytes that each thread copies.
const COPY: usize = 64 << 20;

impl Peak {
    /// Measures for about a second.
    pub fn measure() -> Self {
        let threads = rayon::current_num_threads();
        let mut widths = Vec::new();
        for bits in simd::vector_bits() {
            let seconds = seconds(|| {
                rayon::broadcast(|_| black_box(simd::multiply_adds(bits, black_box(ROUNDS))));
            });
            let flops = 2 * ROUNDS * CHAINS * (bits / 32) * threads;
            widths.push((bits, flops as f64 / seconds / 1e9));
        }
        let from: Vec<Vec<u8>> = (0..threads).map(|i| vec![i as u8; COPY]).collect();
        let to: Vec<_> = from
            .iter()
            .map(|v| std::sync::Mutex::new(v.clone()))
            .collect();
        let seconds = seconds(|| {
            rayon::broadcast(|at| {
                let mut to = to[at.index()].lock().unwrap_or_else(|e| e.into_inner());
                to.copy_from_slice(black_box(&from[at.index()]));
            });
        });
        Self {
            threads,
            f32_gflop_per_s: widths,
            copy_gb_per_s: (2 * COPY * threads) as f64 / seconds / 1e9,
        }
    }

    /// The most of any width, GFLOP/s.
    pub fn f32(&self) -> f64 {
        self.f32_gflop_per_s.iter().map(|w| w.1).fold(0.0, f64::max)
    }

    /// Share of the multiply-adds' ceiling, in percent.
    pub fn percent(&self, flops: u64, seconds: f64) -> f64 {
        100.0 * flops as f64 / 1e9 / seconds / self.f32()
    }
}

/// The shortest of a few runs: what else the machine does only adds.
fn seconds(mut run: impl FnMut()) -> f64 {
    let mut shortest = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        run();
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    shortest
}
