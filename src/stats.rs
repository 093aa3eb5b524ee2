//! Statistics of a handful of numbers.

/// The mean; 0 of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Mean and population standard deviation; `None` of nothing.
pub(crate) fn mean_std(values: &[f64]) -> Option<(f64, f64)> {
    let m = mean(values);
    let squares: Vec<f64> = values.iter().map(|x| (x - m).powi(2)).collect();
    (!values.is_empty()).then_some((m, mean(&squares).sqrt()))
}

/// Mean and its standard error; `None` of fewer than two values.
pub(crate) fn mean_error(values: &[f64]) -> Option<[f64; 2]> {
    let n = values.len() as f64;
    // `mean_std` is of the whole, not of a sample.
    let (mean, std) = mean_std(values)?;
    (n > 1.0).then(|| [mean, std / (n - 1.0).sqrt()])
}

/// The value below which a `share` of `sorted` lies, interpolated: at place `share (n - 1)` of x_0 .. x_(n-1). That is type 7 of
/// Hyndman and Fan (1996), which R, NumPy and spreadsheets take by default. `sorted` must hold a value.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    low + place.fract() * (high - low)
}

/// Spearman's rank correlation; equal values share their mean rank.
pub(crate) fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

fn ranks(v: &[f64]) -> Vec<f64> {
    let below = |x: f64| v.iter().filter(|&&y| y < x).count() as f64;
    let equal = |x: f64| v.iter().filter(|&&y| y == x).count() as f64;
    v.iter()
        .map(|&x| below(x) + (equal(x) - 1.0) / 2.0)
        .collect()
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let (mx, my) = (mean(x), mean(y));
    let sum = |f: &dyn Fn(f64, f64) -> f64| {
        x.iter()
            .zip(y)
            .map(|(&x, &y)| f(x - mx, y - my))
            .sum::<f64>()
    };
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlation_of_known_lists() {
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]): 0.8207826817
        let rho = spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[5.0, 6.0, 7.0, 8.0, 7.0]);
        assert!((rho - 0.820_782_681_7).abs() < 1e-9);
        assert_eq!(spearman(&[1.0, 2.0, 9.0], &[3.0, 2.0, 1.0]), -1.0);
    }
    #[test]
    fn mean_and_deviation_of_known_lists() {
        assert_eq!(mean_std(&[1.0, 3.0]), Some((2.0, 1.0)));
        assert_eq!((mean_std(&[]), mean(&[])), (None, 0.0));
    }
}
