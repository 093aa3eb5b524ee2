//! Distribution of a plane's values.

use crate::device::cpu::{SERIAL_BELOW, for_chunks_of_work};
use crate::device::simd::simd_fn;

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

/// Counts of one part of a plane. Neighbours often have one level, and a count that was just
/// written is slow to read, so they are counted in tables of their own.
struct Part {
    /// With a bin for what is not finite.
    counts: [Vec<u32>; 2],
    extremes: Extremes,
}

/// Least and greatest value, as bits: those of numbers that are not negative have their order.
struct Extremes {
    min: u32,
    max: u32,
}

/// Bits of 1, and what is right of a bin's bits in a mantissa.
const ONE: u32 = 1.0f32.to_bits();
const SHIFT: u32 = f32::MANTISSA_DIGITS - 1 - BINS.ilog2();
/// Values whose bins are found at a time.
const BLOCK: usize = 512;

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
        for table in parts.iter().flat_map(|part| &part.counts) {
            for (sum, &count) in counts.iter_mut().zip(table) {
                *sum += u64::from(count);
            }
        }
        let pixels = counts.iter().sum();
        let min = parts.iter().map(|p| p.extremes.min).min()?;
        let max = parts.iter().map(|p| p.extremes.max).max()?;
        (pixels > 0).then(|| Self {
            counts,
            pixels,
            min: f32::from_bits(min).into(),
            max: f32::from_bits(max).into(),
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
            counts: [(); 2].map(|_| vec![0; BINS + 1]),
            extremes: Extremes {
                min: u32::MAX,
                max: 0,
            },
        }
    }

    fn add(&mut self, values: &[f32]) {
        let [even, odd] = &mut self.counts;
        let mut bins = [0; BLOCK];
        for values in values.chunks(BLOCK) {
            let bins = &mut bins[..values.len()];
            find_bins(values, bins, &mut self.extremes);
            let pairs = bins.chunks_exact(2);
            for &bin in pairs.remainder() {
                even[bin as usize] += 1;
            }
            for pair in pairs {
                even[pair[0] as usize] += 1;
                odd[pair[1] as usize] += 1;
            }
        }
    }
}

simd_fn! {
    /// The bin of each value, [`BINS`] for what is not finite; `extremes` are widened to the others.
    fn find_bins(values: &[f32], bins: &mut [u32], extremes: &mut Extremes) {
        let (mut min, mut max) = (extremes.min, extremes.max);
        for (bin, &v) in bins.iter_mut().zip(values) {
            // 0 and not -0, which has other bits.
            let level = if v > 0.0 { v } else { 0.0 };
            let level = if level < 1.0 { level } else { 1.0 };
            // The first bits of the mantissa: a conversion to integers would not be vectorised.
            let found = (1.0 + level).to_bits().wrapping_sub(ONE) >> SHIFT;
            let found = found.min(BINS as u32 - 1);
            let finite = v.is_finite();
            *bin = if finite { found } else { BINS as u32 };
            min = min.min(if finite { level.to_bits() } else { u32::MAX });
            max = max.max(if finite { level.to_bits() } else { 0 });
        }
        *extremes = Extremes { min, max };
    }
}
