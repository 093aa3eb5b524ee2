//! Distribution of a plane's values.

use crate::device::cpu::{SERIAL_BELOW, for_chunks_of_work};

/// Bins over \[0, 1\].
pub(super) const BINS: usize = 4096;

/// Counts of values by bin, with the exact extremes. Counts are whole numbers, so the result does
/// not depend on how a plane was divided among threads.
pub(super) struct Histogram {
    counts: Vec<u64>,
    pixels: u64,
    pub min: f64,
    pub max: f64,
}

/// Counts of one part of a plane.
struct Part {
    counts: Vec<u32>,
    min: f32,
    max: f32,
}

impl Histogram {
    /// Of all finite values, clamped to \[0, 1\]; `None` if there are none.
    pub fn of(plane: &[f32]) -> Option<Self> {
        let threads = rayon::current_num_threads().max(1);
        // No longer than a count of 32 bits holds.
        let len = plane.len().div_ceil(threads).clamp(SERIAL_BELOW, 1 << 31);
        let mut parts: Vec<Part> = plane.chunks(len).map(|_| Part::new()).collect();
        for_chunks_of_work(plane.len(), &mut parts, 1, |i, part| {
            let values = plane.chunks(len).nth(i).unwrap_or_default();
            part.iter_mut().for_each(|part| part.add(values));
        });
        let mut counts = vec![0; BINS];
        for part in &parts {
            for (sum, &count) in counts.iter_mut().zip(&part.counts) {
                *sum += u64::from(count);
            }
        }
        let pixels = counts.iter().sum();
        let extremes = |part: &Part| [f64::from(part.min), f64::from(part.max)];
        let [min, max] = { parts.iter() }
            .map(extremes)
            .reduce(|[a, b], [c, d]| [a.min(c), b.max(d)])?;
        (pixels > 0).then_some(Self {
            counts,
            pixels,
            min,
            max,
        })
    }

    /// Percentile: the value of rank `percent` / 100 * pixels, linear within its bin. It lies between
    /// the extremes; 0 and 100 give these.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = percent / 100.0 * self.pixels as f64;
        let mut below = 0.0;
        for (i, &count) in self.counts.iter().enumerate() {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                let value = (i as f64 + (rank - below) / count) / BINS as f64;
                return match percent {
                    0.0 => self.min,
                    100.0 => self.max,
                    _ => value.max(self.min).min(self.max),
                };
            }
            below += count;
        }
        self.max
    }

    /// Mean of the values, each taken as the middle of its bin.
    pub fn mean(&self) -> f64 {
        let middle = |i: usize| (i as f64 + 0.5) / BINS as f64;
        let sum: f64 = { self.counts.iter().enumerate() }
            .map(|(i, &count)| count as f64 * middle(i))
            .sum();
        sum / self.pixels as f64
    }
}

impl Part {
    fn new() -> Self {
        Self {
            counts: vec![0; BINS],
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
        }
    }

    fn add(&mut self, values: &[f32]) {
        for &v in values {
            if v.is_finite() {
                let v = v.clamp(0.0, 1.0);
                self.counts[((v * BINS as f32) as usize).min(BINS - 1)] += 1;
                self.min = self.min.min(v);
                self.max = self.max.max(v);
            }
        }
    }
}
