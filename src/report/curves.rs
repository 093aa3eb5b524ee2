//! Losses, LAT and entropies over the inner epochs.

use super::run::Epoch;
use super::svg::{COLOURS, Point, Svg, short, ticks};

/// Three charts in a row.
pub fn svg(epochs: &[Epoch]) -> String {
    let mut svg = Svg::new(1260.0, 330.0);
    let of = |f: fn(&Epoch) -> f64| epochs.iter().map(f).collect::<Vec<f64>>();
    let charts: [(&str, bool, Vec<(&str, Vec<f64>)>); 3] = [
        (
            "loss (logarithmic)",
            true,
            vec![("L_train", of(|e| e.train)), ("L_val", of(|e| e.val))],
        ),
        ("LAT (ms)", false, vec![("LAT", of(|e| e.lat))]),
        (
            "entropy, share of that of equal weights",
            false,
            vec![
                ("alpha", of(|e| e.alpha_entropy)),
                ("beta", of(|e| e.beta_entropy)),
            ],
        ),
    ];
    for (k, (title, log, series)) in charts.into_iter().enumerate() {
        chart(&mut svg, 420.0 * k as f64, title, log, &series, epochs);
    }
    svg.finish()
}

/// Logarithms of 1, 2 and 5 times powers of ten that enclose `low..=high`.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    let all = (first..=last).flat_map(|p| [1.0f64, 2.0, 5.0].map(|k| k.log10() + f64::from(p)));
    let all: Vec<f64> = all.collect();
    let from = all.iter().rposition(|&t| t <= low).unwrap_or(0);
    let to = all.iter().position(|&t| t >= high).unwrap_or(all.len() - 1);
    all[from..=to.max(from + 1)].to_vec()
}

fn chart(
    svg: &mut Svg,
    x0: f64,
    title: &str,
    log: bool,
    series: &[(&str, Vec<f64>)],
    epochs: &[Epoch],
) {
    const W: f64 = 330.0;
    const H: f64 = 220.0;
    let scaled = |v: f64| if log { v.max(1e-12).log10() } else { v };
    let all = || series.iter().flat_map(|(_, v)| v).map(|&v| scaled(v));
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    let ticks = if log {
        decades(low, high)
    } else {
        ticks(low, high)
    };
    let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
    let last = (epochs.len().max(2) - 1) as f64;
    let at = |i: usize, v: f64| -> Point {
        (
            x0 + 60.0 + W * i as f64 / last,
            40.0 + H * (1.0 - (v - low) / (high - low)),
        )
    };
    svg.text((x0 + 60.0 + W / 2.0, 20.0), "b m", title);
    for &tick in &ticks {
        let (x, y) = at(0, tick);
        svg.line("grid", (x, y), (x + W, y));
        let label = if log { 10f64.powf(tick) } else { tick };
        svg.text((x - 6.0, y + 4.0), "e", &short(label));
    }
    for (i, pair) in epochs.windows(2).enumerate() {
        if pair[0].stage != pair[1].stage {
            let x = (at(i, low).0 + at(i + 1, low).0) / 2.0;
            svg.line("cut", (x, 40.0), (x, 40.0 + H));
            svg.text((x + 4.0, 52.0), "s", "stage 2");
        }
    }
    for (k, (name, values)) in series.iter().enumerate() {
        // A line from the loss of one stage to that of the next would join two different losses.
        let mut from = 0;
        for i in 0..values.len() {
            if i + 1 == values.len() || epochs[i].stage != epochs[i + 1].stage {
                let points: Vec<Point> = (from..=i).map(|i| at(i, scaled(values[i]))).collect();
                svg.polyline(&points, COLOURS[k]);
                from = i + 1;
            }
        }
        let x = x0 + 60.0 + 90.0 * k as f64;
        svg.rect((x, H + 78.0), (14.0, 4.0), COLOURS[k]);
        svg.text((x + 20.0, H + 84.0), "", name);
    }
    svg.text((at(0, low).0, H + 58.0), "m", "1");
    svg.text((x0 + 60.0 + W / 2.0, H + 58.0), "m", "inner epoch");
    svg.text((x0 + 60.0 + W, H + 58.0), "m", &epochs.len().to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_ticks_are_round_and_enclose() {
        let values = |low: f64, high: f64| -> Vec<String> {
            let ticks = decades(low.log10(), high.log10());
            ticks.iter().map(|t| short(10f64.powf(*t))).collect()
        };
        assert_eq!(values(0.7, 14.0), ["0.5", "1", "2", "5", "10", "20"]);
        assert_eq!(values(1.0, 1.0), ["1", "2"]);
    }
}
