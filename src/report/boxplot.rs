//! Box plots: how the scores of methods spread over the pictures.

use super::chart::{Area, COLOURS, LEFT, Plot, RIGHT, span};
use super::scores::Scores;
use super::svg::{Anchor, Figure, WIDTH, digits, text_width};
use crate::stats::{mean, quantile};

/// Height of a panel, and of a line of the legend.
const PANEL: f64 = 250.0;
const LINE: f64 = 19.0;
/// A box with air beside it takes at least this width; panels are as many in a row as that allows.
const BOX: f64 = 28.0;
const PANELS: usize = 4;
/// Letters of a name in the legend.
const NAME: usize = 48;

/// What a box stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The lower quartile, the median, the upper quartile.
    pub quartiles: [f64; 3],
    /// The least and the largest value that lie within 1.5 interquartile ranges of the box.
    pub whiskers: (f64, f64),
    /// Values beyond the whiskers, ascending.
    pub outliers: Vec<f64>,
    pub mean: f64,
    pub count: usize,
}

impl Spread {
    /// Of finite values; `None` if there is none.
    ///
    /// Quartiles are those of `stats::quantile`.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        if sorted.is_empty() {
            return None;
        }
        let quartiles = [0.25, 0.5, 0.75].map(|q| quantile(&sorted, q));
        let [q1, _, q3] = quartiles;
        let reach = 1.5 * (q3 - q1);
        let inside = |v: &f64| (q1 - reach..=q3 + reach).contains(v);
        let (near, outliers): (Vec<f64>, Vec<f64>) = sorted.iter().partition(|v| inside(v));
        // Rounding of the interpolation may put equal values beside their own quartiles.
        let whiskers = match near[..] {
            [] => (q1, q3),
            [low, .., high] => (low, high),
            [one] => (one, one),
        };
        Some(Self {
            quartiles,
            whiskers,
            outliers,
            mean: mean(&sorted),
            count: sorted.len(),
        })
    }
}

/// A panel for each metric with a box for each method: quartiles, whiskers, outliers as circles, the mean as a diamond.
/// The legend is above; boxes have their names below them where these fit, else their numbers.
pub fn boxplots(scores: &Scores) -> String {
    let (methods, panels) = (scores.rows.len().max(1), scores.metrics.len().max(1));
    let fit = (WIDTH / (LEFT + RIGHT + BOX * methods as f64)) as usize;
    let most = fit.clamp(1, PANELS).min(panels);
    let rows = panels.div_ceil(most);
    let columns = panels.div_ceil(rows);
    let width = WIDTH / columns as f64;
    let names: Vec<&str> = scores.rows.iter().map(|r| r.name.as_str()).collect();
    let wide = (width - LEFT - RIGHT) / methods as f64;
    let fits = names.iter().all(|n| text_width(n, 12.0) < wide - 4.0);
    let mut fig = Figure::new();
    let top = legend(&mut fig, &names, fits);
    for k in 0..scores.metrics.len() {
        let area = Area {
            x: width * (k % columns) as f64,
            y: top + PANEL * (k / columns) as f64,
            width,
            height: PANEL,
        };
        panel(&mut fig, area, scores, k, fits);
    }
    fig.finish(top + PANEL * rows as f64, "Box plots of the scores")
}

fn panel(fig: &mut Figure, area: Area, scores: &Scores, k: usize, named: bool) {
    let metric = scores.metrics[k];
    let values: Vec<Vec<f64>> = scores
        .rows
        .iter()
        .map(|r| r.values(k).map(|v| v.1).collect())
        .collect();
    let range = span(values.iter().flatten().copied(), false);
    let plot = Plot::new(area, (0.0, values.len().max(1) as f64), range);
    plot.frame(fig, &metric.heading(), "");
    let half = (0.31 * (plot.right - plot.left) / values.len().max(1) as f64).min(22.0);
    for (i, (row, values)) in scores.rows.iter().zip(&values).enumerate() {
        let x = plot.x(i as f64 + 0.5);
        let label = match named {
            true => row.name.clone(),
            false => (i + 1).to_string(),
        };
        fig.text("dim", x, plot.bottom + 17.0, Anchor::Middle, &label);
        match Spread::of(values) {
            Some(spread) => draw(fig, &plot, &spread, (i, x, half), &row.name),
            None => fig.text("dim", x, plot.bottom - 6.0, Anchor::Middle, "–"),
        }
    }
}

/// One box: its number, middle and half its width.
fn draw(fig: &mut Figure, plot: &Plot, s: &Spread, (i, x, half): (usize, f64, f64), name: &str) {
    let [q1, median, q3] = s.quartiles;
    let title = format!(
        "{name}: median {}, quartiles {} and {}, mean {}, {} pictures",
        digits(median),
        digits(q1),
        digits(q3),
        digits(s.mean),
        s.count
    );
    let colour = i % COLOURS;
    let class = |what: &str| format!("{what} s{colour}");
    fig.titled(&title, |fig| {
        let (low, high) = (plot.y(q1), plot.y(q3));
        for (end, quartile) in [(s.whiskers.0, low), (s.whiskers.1, high)] {
            let end = plot.y(end);
            fig.line(&class("whisker"), &[(x, quartile), (x, end)]);
            fig.line(
                &class("whisker"),
                &[(x - 0.5 * half, end), (x + 0.5 * half, end)],
            );
        }
        let fill = format!("quartiles s{colour} f{colour}");
        fig.rect(&fill, x - half, high, 2.0 * half, low - high);
        let y = plot.y(median);
        fig.line(&class("median"), &[(x - half, y), (x + half, y)]);
        for &v in &s.outliers {
            fig.circle(&class("outlier"), x, plot.y(v), 2.6);
        }
        diamond(fig, colour, x, plot.y(s.mean));
    });
}

fn diamond(fig: &mut Figure, colour: usize, x: f64, y: f64) {
    let r = 4.0;
    let d = format!("M{:.2} {:.2}l{r} {r}l-{r} {r}l-{r} -{r}z", x, y - r);
    fig.path(&format!("f{colour}"), &d);
}

/// Names in as many lines as they need, with their numbers unless they stand below the boxes; returns the height.
fn legend(fig: &mut Figure, names: &[&str], named: bool) -> f64 {
    let (mut x, mut y) = (LEFT, 22.0);
    for (i, name) in names.iter().enumerate() {
        let mut text = name.to_string();
        if name.chars().count() > NAME {
            text = name.chars().take(NAME - 1).chain(['…']).collect();
        }
        if !named {
            text = format!("{} {text}", i + 1);
        }
        let wide = 18.0 + text_width(&text, 12.0) + 16.0;
        if x > LEFT && x + wide > WIDTH {
            (x, y) = (LEFT, y + LINE);
        }
        let colour = i % COLOURS;
        let class = format!("quartiles s{colour} f{colour}");
        fig.rect(&class, x, y - 10.0, 12.0, 11.0);
        fig.text("", x + 18.0, y, Anchor::Start, &text);
        x += wide;
    }
    y + 8.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metric, Undefined};
    use crate::report::scores::Row;
    use crate::tone::Tone;

    #[test]
    fn quartiles_of_known_lists() {
        // numpy.percentile([1, 2, 3, 4], [25, 50, 75]): 1.75, 2.5, 3.25
        let s = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((s.quartiles, s.whiskers), ([1.75, 2.5, 3.25], (1.0, 4.0)));
        assert_eq!((s.mean, s.count, s.outliers), (2.5, 4, vec![]));
        // numpy.percentile([1, 2, 3, 4, 5, 30, -20], ...): 1.5, 3, 4.5; whiskers within -3 and 9.
        let s = Spread::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 30.0, -20.0]).unwrap();
        assert_eq!((s.quartiles, s.whiskers), ([1.5, 3.0, 4.5], (1.0, 5.0)));
        assert_eq!((s.outliers, s.count), (vec![-20.0, 30.0], 7));
        let s = Spread::of(&[0.1; 3]).unwrap();
        assert_eq!((s.quartiles, s.whiskers), ([0.1; 3], (0.1, 0.1)));
        assert_eq!(Spread::of(&[7.0]).unwrap().quartiles, [7.0; 3]);
        assert_eq!(Spread::of(&[]), None);
    }

    fn scores(methods: usize, metrics: &[Metric]) -> Scores {
        let row = |i: usize| Row {
            name: format!("method <{i}>"),
            origin: "here".into(),
            tone: Tone::None,
            scores: (0..9)
                .map(|p| {
                    let v = (p * p) as f64 + i as f64;
                    (p.to_string(), vec![Ok(v); metrics.len()])
                })
                .collect(),
        };
        Scores {
            metrics: metrics.to_vec(),
            pairs: 9,
            unpaired: 0,
            folders: ["a".into(), "b".into()],
            rows: (0..methods).map(row).collect(),
            gates: vec![],
            problems: vec![],
        }
    }

    #[test]
    fn each_metric_has_a_box_for_each_method() {
        for (methods, metrics) in [(1, 1), (3, 4), (10, 27), (40, 2)] {
            let svg = boxplots(&scores(methods, &Metric::ALL[..metrics]));
            let count = |what: &str| svg.matches(what).count();
            assert_eq!(count("class=\"median"), methods * metrics);
            // The legend has a sample of each.
            assert_eq!(count("class=\"quartiles"), methods * (metrics + 1));
            assert_eq!(count("class=\"whisker"), 4 * methods * metrics);
            assert!(svg.contains("method &lt;0&gt;: median 16") && !svg.contains("NaN"));
        }
        let mut few = scores(2, &[Metric::Mse]);
        few.rows[1].scores.clear();
        few.rows[0].scores[0].1[0] = Err(Undefined::NoEdges);
        let svg = boxplots(&few);
        assert!(
            svg.contains(">–<") && svg.contains("8 pictures") && svg.contains("lower is better")
        );
        assert!(boxplots(&scores(0, &[])).contains("</svg>"));
    }
}
