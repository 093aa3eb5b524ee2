//! Line charts, and grouped bars with error bars.

use super::svg::{Anchor, Figure, WIDTH, digits, number, text_width};

/// The round distance (1, 2 or 5 times a power of ten) at which about `count` ticks span this much.
pub fn tick_step(span: f64, count: usize) -> f64 {
    let rough = span / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|&s| s >= rough * 0.999)
        .unwrap_or(10.0 * power)
}

/// Round numbers in `[low, high]`, about `count` of them.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) {
        return vec![low];
    }
    let step = tick_step(span, count);
    let first = (low / step - 1e-6).ceil() as i64;
    let last = (high / step + 1e-6).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Decimals that tell these ticks apart.
pub fn decimals(ticks: &[f64]) -> usize {
    let step = match ticks {
        [a, b, ..] => b - a,
        [a] if *a != 0.0 => a.abs() / 10.0,
        _ => 1.0,
    };
    (-(step * 1.001).log10().floor()).clamp(0.0, 9.0) as usize
}

/// A rectangle of the figure that holds a chart with its labels.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    /// A whole figure of this height.
    pub fn figure(height: f64) -> Self {
        Self {
            x: 0.0,
            y: 0.0,
            width: WIDTH,
            height,
        }
    }
}

/// A named line. A value that is no number leaves a gap.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Lines over a common axis.
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    pub title: String,
    /// Axis labels, with units.
    pub x: String,
    pub y: String,
    pub series: Vec<Series>,
    /// Dashed upright lines and what they say.
    pub marks: Vec<(f64, String)>,
    /// Range of x; `None` spans the points.
    pub range: Option<(f64, f64)>,
    /// Whether y begins at 0.
    pub from_zero: bool,
}

/// Height of title and legend above a plot, of ticks and label below it, width of ticks and label beside it.
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
pub(super) const LEFT: f64 = 72.0;
pub(super) const RIGHT: f64 = 16.0;
/// Height of a line of text.
const LINE: f64 = 15.0;
/// Colours that the style has.
pub(super) const COLOURS: usize = 6;

impl LineChart {
    /// As a figure of its own.
    pub fn svg(&self, height: f64) -> String {
        let mut fig = Figure::new();
        self.draw(&mut fig, Area::figure(height));
        fig.finish(height, &self.title)
    }

    /// Draws into a part of a figure.
    pub fn draw(&self, fig: &mut Figure, area: Area) {
        let points = || self.series.iter().flat_map(|s| &s.points).copied();
        let finite = points().filter(|p| p.0.is_finite() && p.1.is_finite());
        let xs = self
            .range
            .unwrap_or_else(|| reach(finite.clone().map(|p| p.0)));
        let ys = span(finite.map(|p| p.1), self.from_zero);
        let plot = Plot::new(area, xs, ys);
        plot.frame(fig, &self.title, &self.y);
        let whole = points().all(|p| p.0.fract() == 0.0 || !p.0.is_finite());
        plot.x_ticks(fig, &self.x, whole);
        for (x, name) in &self.marks {
            let at = plot.x(*x);
            fig.line("mark later", &[(at, plot.top), (at, plot.bottom)]);
            fig.text("small", at, plot.top - 4.0, Anchor::Middle, name);
        }
        for (i, series) in self.series.iter().enumerate() {
            let class = format!("curve s{}", i % COLOURS);
            for part in series
                .points
                .split(|p| !(p.0.is_finite() && p.1.is_finite()))
            {
                let at: Vec<_> = part.iter().map(|p| (plot.x(p.0), plot.y(p.1))).collect();
                if at.len() > 1 {
                    fig.line(&class, &at);
                }
                // Few points would hardly show as a line, a single one not at all.
                if at.len() == 1 || series.points.len() <= 40 {
                    for &(x, y) in &at {
                        fig.circle(&format!("f{}", i % COLOURS), x, y, 2.4);
                    }
                }
            }
        }
        let names: Vec<&str> = self.series.iter().map(|s| s.name.as_str()).collect();
        legend(fig, area, &names, |fig, i, x, y| {
            fig.line(&format!("curve s{i}"), &[(x, y), (x + 24.0, y)]);
        });
        if points().next().is_none() {
            let (x, y) = (
                0.5 * (plot.left + plot.right),
                0.5 * (plot.top + plot.bottom),
            );
            fig.text("dim", x, y, Anchor::Middle, "nothing yet");
        }
    }
}

/// A bar: its value and, if there are several runs, the ends of its error bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// What is no number is drawn as a dash.
    pub value: f64,
    pub error: Option<(f64, f64)>,
}

/// Bars side by side.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    /// In the order of [`BarChart::series`].
    pub bars: Vec<Bar>,
}

/// Grouped bars with error bars.
#[derive(Clone, Debug, Default)]
pub struct BarChart {
    pub title: String,
    /// Label of the value axis, with its unit.
    pub y: String,
    /// What the bars of a group stand for.
    pub series: Vec<String>,
    pub groups: Vec<Group>,
    /// Range of values; `None` spans them and 0.
    pub range: Option<(f64, f64)>,
}

impl BarChart {
    /// As a figure of its own.
    pub fn svg(&self, height: f64) -> String {
        let mut fig = Figure::new();
        self.draw(&mut fig, Area::figure(height));
        fig.finish(height, &self.title)
    }

    /// Draws into a part of a figure.
    pub fn draw(&self, fig: &mut Figure, area: Area) {
        let groups = self.groups.len().max(1) as f64;
        let wide = (area.width - LEFT - RIGHT) / groups;
        // Long names take several lines; the plot gives them room.
        let names: Vec<Vec<String>> = self
            .groups
            .iter()
            .map(|g| wrap(&g.name, wide - 10.0))
            .collect();
        let lines = names.iter().map(Vec::len).max().unwrap_or(1);
        let mut inner = area;
        inner.height -= LINE * lines.saturating_sub(2) as f64;
        let values = self.groups.iter().flat_map(|g| &g.bars).flat_map(|b| {
            let (low, high) = b.error.unwrap_or((b.value, b.value));
            [b.value, low, high]
        });
        let ys = self
            .range
            .unwrap_or_else(|| span(values.filter(|v| v.is_finite()), true));
        let plot = Plot::new(inner, (0.0, groups), ys);
        plot.frame(fig, &self.title, &self.y);
        let zero = plot.y(0f64.clamp(ys.0, ys.1));
        for (g, group) in self.groups.iter().enumerate() {
            let bar = (0.8 * wide / group.bars.len().max(1) as f64).min(70.0);
            let middle = plot.x(g as f64 + 0.5);
            let first = middle - 0.5 * bar * group.bars.len() as f64;
            for (i, b) in group.bars.iter().enumerate() {
                let x = first + i as f64 * bar;
                self.bar(fig, &plot, *b, (i, x, bar, zero), &group.name);
            }
            for (i, line) in names[g].iter().enumerate() {
                let y = plot.bottom + 18.0 + LINE * i as f64;
                fig.text("", middle, y, Anchor::Middle, line);
            }
        }
        fig.line("axis", &[(plot.left, zero), (plot.right, zero)]);
        let names: Vec<&str> = self.series.iter().map(String::as_str).collect();
        legend(fig, area, &names, |fig, i, x, y| {
            fig.rect(&format!("f{i}"), x + 10.0, y - 5.0, 12.0, 10.0);
        });
    }

    /// One bar: its number in the series, left edge, width and the height of 0.
    fn bar(&self, fig: &mut Figure, plot: &Plot, b: Bar, at: (usize, f64, f64, f64), group: &str) {
        let (i, x, width, zero) = at;
        let middle = x + 0.5 * width;
        if !b.value.is_finite() {
            fig.text("dim", middle, zero - 5.0, Anchor::Middle, "–");
            return;
        }
        let y = plot.y(b.value);
        let error = b.error.filter(|e| e.0.is_finite() && e.1.is_finite());
        let mut title = format!("{group}: {}", digits(b.value));
        if let Some(name) = self.series.get(i) {
            title = format!("{name}, {title}");
        }
        if let Some((low, high)) = error {
            title += &format!(" ({} to {})", digits(low), digits(high));
        }
        fig.titled(&title, |fig| {
            let class = format!("f{}", i % COLOURS);
            fig.rect(&class, x + 1.0, y.min(zero), width - 2.0, (y - zero).abs());
            let mut top = y.min(zero);
            if let Some((low, high)) = error {
                let (low, high) = (plot.y(low), plot.y(high));
                fig.line("mark", &[(middle, low), (middle, high)]);
                for end in [low, high] {
                    fig.line("mark", &[(middle - 4.0, end), (middle + 4.0, end)]);
                }
                top = top.min(high).min(low);
            }
            let text = digits(b.value);
            if text_width(&text, 10.0) < width + 2.0 {
                fig.text("small", middle, top - 4.0, Anchor::Middle, &text);
            }
        });
    }
}

/// Where the values of a plot lie.
pub(super) struct Plot {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    xs: (f64, f64),
    ys: (f64, f64),
}

impl Plot {
    pub fn new(area: Area, xs: (f64, f64), ys: (f64, f64)) -> Self {
        Self {
            left: area.x + LEFT,
            right: area.x + area.width - RIGHT,
            top: area.y + TOP,
            bottom: area.y + area.height - BOTTOM,
            xs,
            ys,
        }
    }

    pub fn x(&self, v: f64) -> f64 {
        let t = (v - self.xs.0) / (self.xs.1 - self.xs.0);
        self.left + t.clamp(0.0, 1.0) * (self.right - self.left)
    }

    pub fn y(&self, v: f64) -> f64 {
        let t = (v - self.ys.0) / (self.ys.1 - self.ys.0);
        self.bottom - t.clamp(0.0, 1.0) * (self.bottom - self.top)
    }

    /// Title, grid, ticks and label of y.
    pub fn frame(&self, fig: &mut Figure, title: &str, label: &str) {
        let (left, right) = (self.left, self.right);
        fig.text("bold", left, self.top - 16.0, Anchor::Start, title);
        let count = ((self.bottom - self.top) / 34.0).max(2.0) as usize;
        let marks = ticks(self.ys.0, self.ys.1, count);
        let places = decimals(&marks);
        for v in marks {
            let y = self.y(v);
            fig.line("grid", &[(left, y), (right, y)]);
            fig.text("dim", left - 7.0, y + 4.0, Anchor::End, &number(v, places));
        }
        fig.line(
            "axis",
            &[(left, self.top), (left, self.bottom), (right, self.bottom)],
        );
        let (x, y) = (left - LEFT + 14.0, 0.5 * (self.top + self.bottom));
        fig.turned_text("dim", x, y, Anchor::Middle, -90.0, label);
    }

    /// Ticks and label of x; of whole numbers only, if all are `whole`.
    fn x_ticks(&self, fig: &mut Figure, label: &str, whole: bool) {
        let count = ((self.right - self.left) / 80.0).max(2.0) as usize;
        let mut marks = ticks(self.xs.0, self.xs.1, count);
        if whole {
            marks.retain(|v| (v - v.round()).abs() < 1e-9);
        }
        let places = decimals(&marks);
        for v in marks {
            let x = self.x(v);
            fig.line("axis", &[(x, self.bottom), (x, self.bottom + 4.0)]);
            fig.text(
                "dim",
                x,
                self.bottom + 17.0,
                Anchor::Middle,
                &number(v, places),
            );
        }
        let middle = 0.5 * (self.left + self.right);
        fig.text("dim", middle, self.bottom + 35.0, Anchor::Middle, label);
    }
}

/// Names of series at the top right, each with what `sample` draws in a width of 24.
pub(super) fn legend(
    fig: &mut Figure,
    area: Area,
    names: &[&str],
    sample: impl Fn(&mut Figure, usize, f64, f64),
) {
    let y = area.y + TOP - 20.0;
    let mut x = area.x + area.width - RIGHT;
    for (i, name) in names.iter().enumerate().rev() {
        x -= text_width(name, 12.0);
        fig.text("", x, y + 4.0, Anchor::Start, name);
        x -= 30.0;
        sample(fig, i % COLOURS, x, y);
        x -= 14.0;
    }
}

/// Lines of at most this width, broken between words and, where one is too long, within.
fn wrap(text: &str, width: f64) -> Vec<String> {
    let most = (width / text_width("x", 12.0)).max(4.0) as usize;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(most) {
            let last = lines.len() - 1;
            let used = lines[last].chars().count();
            if used == 0 {
                lines[last].extend(piece);
            } else if used + 1 + piece.len() <= most {
                lines[last].push(' ');
                lines[last].extend(piece);
            } else {
                lines.push(piece.iter().collect());
            }
        }
    }
    lines
}

/// The least and the largest value; of one value, something around it.
fn reach(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = |(low, high): (f64, f64), v| (low.min(v), high.max(v));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), ends);
    if low > high || (low, high) == (0.0, 0.0) {
        (0.0, 1.0)
    } else if low == high {
        let half = (0.05 * high.abs()).max(1e-3);
        (low - half, high + half)
    } else {
        (low, high)
    }
}

/// [`reach`] with a little air.
pub(super) fn span(values: impl Iterator<Item = f64>, from_zero: bool) -> (f64, f64) {
    let (low, high) = match from_zero {
        true => reach(values.chain([0.0])),
        false => reach(values),
    };
    let air = 0.06 * (high - low);
    let bottom = if from_zero && low == 0.0 {
        0.0
    } else {
        low - air
    };
    (bottom, high + 1.5 * air)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_told_apart() {
        assert_eq!(ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let t = ticks(0.071, 0.312, 4);
        assert!(
            t.len() >= 2 && t[0] >= 0.071 && t[t.len() - 1] <= 0.3121,
            "{t:?}"
        );
        assert_eq!(decimals(&[0.1, 0.2]), 1);
        assert_eq!(decimals(&[0.05, 0.10]), 2);
        assert_eq!(decimals(&[10.0, 20.0]), 0);
        assert_eq!(ticks(1.0, 1.0, 3), [1.0]);
        assert_eq!(ticks(0.0, f64::NAN, 3), [0.0]);
    }

    #[test]
    fn bars_show_values_errors_and_gaps() {
        let bar = |value, error| Bar { value, error };
        let chart = BarChart {
            title: "SD <by> loss".into(),
            y: "SD".into(),
            series: vec!["ours".into(), "w/o".into()],
            groups: vec![Group {
                name: "TNO & co".into(),
                bars: vec![bar(10.04, Some((9.5, 10.5))), bar(f64::NAN, None)],
            }],
            range: None,
        };
        let svg = chart.svg(260.0);
        for part in [
            "SD &lt;by&gt; loss",
            "TNO &amp; co",
            "10.04 (9.500 to 10.50)",
            ">10.04<",
            ">–<",
        ] {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
        assert!(!svg.contains("NaN"));
        // The bar's error bar has a stem and two ends.
        assert_eq!(svg.matches("class=\"mark\"").count(), 3);
    }

    #[test]
    fn long_names_wrap_and_lines_break_at_gaps() {
        let group = |i: usize| Group {
            name: format!("a long name of experiment number {i}"),
            bars: vec![Bar {
                value: 1.0,
                error: None,
            }],
        };
        let chart = BarChart {
            groups: (0..9).map(group).collect(),
            ..BarChart::default()
        };
        let svg = chart.svg(300.0);
        assert_eq!(svg.matches(">experiment<").count(), 9, "{svg}");
        assert_eq!(wrap("a bc", 1.0), ["a bc"]);
        assert_eq!(wrap("abcdefgh ij", 1.0), ["abcd", "efgh", "ij"]);
        let line = LineChart {
            series: vec![Series {
                name: "x".into(),
                points: vec![
                    (1.0, 1.0),
                    (2.0, 2.0),
                    (3.0, f64::NAN),
                    (4.0, 1.0),
                    (5.0, 0.5),
                ],
            }],
            ..LineChart::default()
        };
        let svg = line.svg(200.0);
        assert_eq!(
            svg.matches("polyline class=\"curve s0\"").count(),
            3,
            "two parts and the legend"
        );
        assert!(!svg.contains("NaN"));
        assert!(LineChart::default().svg(200.0).contains("nothing yet"));
    }
}
