//! FMI: mutual information of small windows.
//!
//! ```text
//! p, q   the 9 pixels of a 3 x 3 window of X and of F, less their least, divided by their sum (1/9 each if all are equal);
//!        distributions of an index 1..9, scanned column by column
//! c      Pearson's r of p and q;   s(p) the standard deviation of the index under p
//! M      the joint distribution of p and q with the largest (c >= 0) or the smallest (c < 0) covariance (Frechet's bounds)
//! phi    = c s(p) s(q) / cov(M);   J = phi M + (1 - phi) q p
//! I      = 2 (H(p) + H(q) - H(J)) / (H(p) + H(q)),   H = - sum J log2 |J|;   1 where the two windows are equal
//! FMI    = mean over windows of (I(A) + I(B)) / 2
//! ```
//!
//! About 0 to 1, without unit. Fast-FMI, Haghighat and Razian 2014, with raw pixels as the feature. I is 0 where an s is 0.
//! Evaluation-for-Image-Fusion prints under FMI_pixel the same measure of an edge map. Undefined below 3 x 3 pixels.
//!
//! M has at most 17 entries that are not 0 and the other terms of H(J) split into H(p) and H(q): no window of 81 logarithms here.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let a = Grey::from_fn(5, 5, |x, y| (x * y) as u8)?;
//! assert_eq!(measure(&a, &a, &a, &[Metric::FmiPixel])?, [Ok(1.0)]);
//! # Ok::<(), hafuse::Error>(())
//! ```

use super::Grey;

const N: usize = 9;
/// Largest sum of a window.
const MOST: usize = 255 * N;

/// One window less its least pixel, and the sums that do not need the other picture. Integers:
/// probabilities are `mass / total`.
#[derive(Clone, Copy, Default)]
struct Window {
    pixels: [u8; N],
    mass: [i64; N],
    total: i64,
    /// Sums of mass^2, index * mass.
    squares: i64,
    first: i64,
    /// total^2 times the variance of the index.
    spread: i64,
    /// Entropy in bits.
    entropy: f64,
}

struct Logs {
    /// log2 of 0..=MOST, 0 at 0.
    of: Vec<f64>,
}

impl Window {
    fn new(pixels: [u8; N], logs: &Logs) -> Self {
        let (mut least, mut most) = (255, 0);
        for &v in &pixels {
            least = v.min(least);
            most = v.max(most);
        }
        let mut w = Window {
            pixels,
            ..Self::default()
        };
        let mut second = 0;
        let mut plogp = 0.0;
        for (i, &v) in (1i64..).zip(&pixels) {
            // A flat window counts as nine equal masses.
            let m = if most == least {
                1
            } else {
                i64::from(v - least)
            };
            w.mass[i as usize - 1] = m;
            w.total += m;
            w.squares += m * m;
            w.first += i * m;
            second += i * i * m;
            plogp += m as f64 * logs.of[m as usize];
        }
        w.spread = w.total * second - w.first * w.first;
        w.entropy = logs.of[w.total as usize] - plogp / w.total as f64;
        w
    }

    /// 9 times the sum of squared deviations of the masses from their mean.
    fn variation(&self) -> i64 {
        N as i64 * self.squares - self.total * self.total
    }
}

/// I of the windows of a source and of the fused picture.
fn information(x: &Window, f: &Window, logs: &Logs) -> f64 {
    if x.pixels == f.pixels {
        return 1.0;
    }
    let dot: i64 = x.mass.iter().zip(&f.mass).map(|(x, f)| x * f).sum();
    let cov = N as i64 * dot - x.total * f.total;
    if cov == 0 || x.spread == 0 || f.spread == 0 {
        return 0.0;
    }
    let r = cov as f64 / (x.variation() as f64 * f.variation() as f64).sqrt();

    // Walk the entries of M: both cumulative sums upward, or one of them downward.
    let opposed = cov < 0;
    let mut cells = [(0, 0, 0); 2 * N];
    let mut count = 0;
    let (mut i, mut j) = (0, 0);
    let column = |j: usize| if opposed { N - 1 - j } else { j };
    // In units of 1 / (x.total * f.total).
    let (mut rest_f, mut rest_x) = (f.mass[0] * x.total, x.mass[column(0)] * f.total);
    let mut cross = 0;
    loop {
        let mass = rest_f.min(rest_x);
        if mass > 0 {
            let c = column(j);
            cells[count] = (i, c, mass);
            count += 1;
            cross += mass * (i as i64 + 1) * (c as i64 + 1);
            rest_f -= mass;
            rest_x -= mass;
        }
        if rest_f == 0 {
            i += 1;
            if i == N {
                break;
            }
            rest_f = f.mass[i] * x.total;
        } else {
            j += 1;
            if j == N {
                break;
            }
            rest_x = x.mass[column(j)] * f.total;
        }
    }
    let bound = (cross - x.first * f.first) as f64;
    let phi = r * (x.spread as f64 * f.spread as f64).sqrt() / bound;

    // H(J) as if M were 0 everywhere, then the entries of M.
    let s = 1.0 - phi;
    let log_s = if s == 0.0 { 0.0 } else { s.abs().log2() };
    let both = x.entropy + f.entropy;
    let mut joint = s * (both - log_s);
    let unit = 1.0 / (x.total as f64 * f.total as f64);
    let log_scale = log_s - logs.of[x.total as usize] - logs.of[f.total as usize];
    for &(i, j, mass) in &cells[..count] {
        let (mf, mx) = (f.mass[i], x.mass[j]);
        let product = s * (mf * mx) as f64 * unit;
        let entry = phi * mass as f64 * unit + product;
        joint += product * (log_scale + logs.of[mf as usize] + logs.of[mx as usize]);
        if entry != 0.0 {
            joint -= entry * entry.abs().log2();
        }
    }
    2.0 * (both - joint) / both
}

/// At least 3 x 3 pixels.
pub(super) fn fmi_pixel(a: &Grey, b: &Grey, f: &Grey) -> f64 {
    let logs = Logs {
        of: (0..=MOST).map(|n| (n.max(1) as f64).log2()).collect(),
    };
    let columns = f.width() - 2;
    let mut sum = 0.0;
    for y in 0..f.height() - 2 {
        let rows = [a, b, f].map(|p| [p.row(y), p.row(y + 1), p.row(y + 2)]);
        let mut of_row = 0.0;
        for x in 0..columns {
            let [a, b, f] = rows
                .map(|rows| Window::new(std::array::from_fn(|i| rows[i % 3][x + i / 3]), &logs));
            of_row += information(&a, &f, &logs) + information(&b, &f, &logs);
        }
        sum += of_row;
    }
    sum / (2 * columns * (f.height() - 2)) as f64
}
