//! Losses, LAT and entropies of a search over its inner epochs.

use super::chart::{Area, LineChart, Series};
use super::svg::{Figure, WIDTH};
use super::timeline::{stage_title, stages};
use crate::search::EpochReport;

const LOSS: f64 = 250.0;
const REST: f64 = 220.0;

/// Losses by stage (each stage has a loss of its own), LAT, and entropies.
pub fn curves_svg(epochs: &[EpochReport]) -> String {
    let mut fig = Figure::new();
    let stages = stages(epochs);
    let series = |name: &str, first: usize, epochs: &[EpochReport], f: fn(&EpochReport) -> f64| {
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(epochs.len() + 1);
        for (i, e) in epochs.iter().enumerate() {
            // The stages are not joined: their values are of different layers.
            if i > 0 && epochs[i - 1].stage != e.stage {
                points.push((f64::NAN, f64::NAN));
            }
            points.push(((first + i + 1) as f64, f(e)));
        }
        Series {
            name: name.into(),
            points,
        }
    };
    let range =
        |first: usize, end: usize| Some((first as f64 + 0.5, end.max(first + 1) as f64 + 0.5));
    let width = WIDTH / stages.len().max(1) as f64;
    for (k, &(stage, first)) in stages.iter().enumerate() {
        let end = stages.get(k + 1).map_or(epochs.len(), |next| next.1);
        let part = &epochs[first..end];
        let chart = LineChart {
            title: format!("Loss, {}", stage_title(epochs, stage)),
            x: "inner epoch".into(),
            y: "loss, mean of the epoch".into(),
            series: vec![
                series("L_train", first, part, |e| e.train),
                series("L_val", first, part, |e| e.val.unwrap_or(f64::NAN)),
            ],
            range: range(first, end),
            ..LineChart::default()
        };
        let area = Area {
            x: k as f64 * width,
            y: 6.0,
            width,
            height: LOSS,
        };
        chart.draw(&mut fig, area);
    }
    let marks: Vec<(f64, String)> = stages
        .iter()
        .skip(1)
        .map(|&(stage, first)| (first as f64 + 0.5, format!("stage {stage}")))
        .collect();
    let lat = LineChart {
        title: "LAT of the searched layers at the end of each epoch".into(),
        x: "inner epoch, all stages counted on".into(),
        y: "LAT in ms".into(),
        series: vec![series("LAT", 0, epochs, |e| e.lat)],
        marks: marks.clone(),
        range: range(0, epochs.len()),
        ..LineChart::default()
    };
    let entropy = LineChart {
        title: "Entropy as a share of that of equal weights: 1 undecided, 0 decided".into(),
        x: "inner epoch, all stages counted on".into(),
        y: "mean entropy".into(),
        series: vec![
            series("alpha", 0, epochs, |e| e.alpha_entropy),
            series("beta", 0, epochs, |e| e.beta_entropy),
        ],
        marks,
        range: range(0, epochs.len()),
        ..LineChart::default()
    };
    let mut y = if stages.is_empty() { 6.0 } else { LOSS + 14.0 };
    for chart in [lat, entropy] {
        let area = Area {
            y,
            ..Area::figure(REST)
        };
        chart.draw(&mut fig, area);
        y += REST + 8.0;
    }
    fig.finish(
        y,
        "Losses, LAT and entropies over the inner epochs of the search",
    )
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::epochs;
    use super::*;

    #[test]
    fn each_stage_has_its_loss_and_nan_leaves_a_gap() {
        let mut epochs = epochs(5);
        epochs[2].train = f64::NAN;
        let svg = curves_svg(&epochs);
        for part in [
            "Loss, stage 1: feature-level module",
            "Loss, stage 2: object-level module",
            "LAT in ms",
            ">inner epoch<",
            ">stage 2<",
        ] {
            assert!(svg.contains(part), "no {part}");
        }
        assert!(!svg.contains("NaN"));
        assert!(curves_svg(&[]).contains("nothing yet"));
    }
}
