//! Exact counts and sums over 8-bit pictures, shared by the metrics that need nothing else.

use super::Grey;
use crate::device::simd::simd_fn;

const LEVELS: usize = 256;

/// How often each grey level occurs.
pub(super) fn histogram(x: &Grey) -> [u64; LEVELS] {
    // Runs of one level would wait for their own counter: neighbours count in different tables.
    let mut tables = [[0u32; LEVELS]; 8];
    let (blocks, rest) = x.values().as_chunks::<8>();
    for block in blocks {
        for (table, &v) in tables.iter_mut().zip(block) {
            table[usize::from(v)] += 1;
        }
    }
    for &v in rest {
        tables[0][usize::from(v)] += 1;
    }
    let mut sums = [0; LEVELS];
    for table in &tables {
        for (sum, &n) in sums.iter_mut().zip(table) {
            *sum += u64::from(n);
        }
    }
    sums
}

/// How often each pair of levels of two pictures occurs at one place: the row is x's, the column y's.
pub(super) struct Joint(Vec<[u32; LEVELS]>);

impl Joint {
    pub fn new(x: &Grey, y: &Grey) -> Self {
        let mut cells = vec![[0; LEVELS]; LEVELS];
        for (&x, &y) in x.values().iter().zip(y.values()) {
            cells[usize::from(x)][usize::from(y)] += 1;
        }
        Self(cells)
    }

    /// Histograms of x and of y.
    pub fn marginals(&self) -> [[u64; LEVELS]; 2] {
        let (mut of_x, mut of_y) = ([0; LEVELS], [0; LEVELS]);
        for (row, x) in self.0.iter().zip(&mut of_x) {
            for (&n, y) in row.iter().zip(&mut of_y) {
                *x += u64::from(n);
                *y += u64::from(n);
            }
        }
        [of_x, of_y]
    }

    pub fn entropy(&self) -> f64 {
        entropy(self.0.as_flattened().iter().copied().map(u64::from))
    }

    /// The same counts with levels 254 and 255 taken for one.
    pub fn with_top_levels_merged(&self) -> Self {
        let mut cells = self.0.clone();
        let top = cells[255];
        for (to, n) in cells[254].iter_mut().zip(top) {
            *to += n;
        }
        cells[255] = [0; LEVELS];
        for row in &mut cells {
            row[254] += row[255];
            row[255] = 0;
        }
        Self(cells)
    }
}

/// Shannon entropy of a histogram in bits.
pub(super) fn entropy(counts: impl Iterator<Item = u64> + Clone) -> f64 {
    let all = counts.clone().sum::<u64>() as f64;
    // From 0 downward: a single level gives 0, not -0.
    counts.filter(|&n| n > 0).fold(0.0, |sum, n| {
        let p = n as f64 / all;
        sum - p * p.log2()
    })
}

/// Sums of the levels of two sources and a fused picture, and of their products.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub n: u64,
    pub a: u64,
    pub b: u64,
    pub f: u64,
    pub aa: u64,
    pub bb: u64,
    pub ff: u64,
    pub af: u64,
    pub bf: u64,
    pub ab: u64,
}

impl Sums {
    pub fn new(a: &Grey, b: &Grey, f: &Grey) -> Self {
        let mut sums = Self::default();
        add_sums(a.values(), b.values(), f.values(), &mut sums);
        sums
    }
}

/// A sum of squares of so many levels fits in 32 bits.
const CHUNK: usize = 1 << 15;

simd_fn! {
    fn add_sums(a: &[u8], b: &[u8], f: &[u8], sums: &mut Sums) {
        for ((a, b), f) in a.chunks(CHUNK).zip(b.chunks(CHUNK)).zip(f.chunks(CHUNK)) {
            sums.n += f.len() as u64;
            sums.a += plain(a);
            sums.b += plain(b);
            sums.f += plain(f);
            sums.aa += product(a, a);
            sums.bb += product(b, b);
            sums.ff += product(f, f);
            sums.af += product(a, f);
            sums.bf += product(b, f);
            sums.ab += product(a, b);
        }
    }
}

/// Sum of the levels and of their squares.
pub(super) fn sum_and_squares(x: &Grey) -> [u64; 2] {
    let mut sums = [0; 2];
    add_sum_and_squares(x.values(), &mut sums);
    sums
}

simd_fn! {
    fn add_sum_and_squares(x: &[u8], sums: &mut [u64; 2]) {
        for x in x.chunks(CHUNK) {
            sums[0] += plain(x);
            sums[1] += product(x, x);
        }
    }
}

#[inline(always)]
fn plain(x: &[u8]) -> u64 {
    x.iter().map(|&v| u32::from(v)).sum::<u32>().into()
}

#[inline(always)]
fn product(x: &[u8], y: &[u8]) -> u64 {
    let products = x.iter().zip(y).map(|(&x, &y)| u32::from(x) * u32::from(y));
    products.sum::<u32>().into()
}

/// n^2 times the covariance of two quantities, from their sums and the sum of their products.
pub(super) fn scaled_covariance(n: u64, x: i128, y: i128, xy: i128) -> f64 {
    (i128::from(n) * xy - x * y) as f64
}
