//! Points with names over a logarithmic axis.

use super::chart::{Area, COLOURS, Plot, legend};
use super::svg::{Anchor, Figure, digits};

/// A point and what it is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub name: String,
    /// Above 0.
    pub x: f64,
    pub y: f64,
    /// Its name is written beside it, not only told under the pointer.
    pub named: bool,
}

/// Points of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    pub name: String,
    pub points: Vec<Point>,
}

/// One value over the logarithm of another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scatter {
    pub title: String,
    pub x: String,
    pub y: String,
    pub kinds: Vec<Kind>,
}

impl Scatter {
    /// Draws into a part of a figure.
    pub fn draw(&self, fig: &mut Figure, area: Area) {
        let points = || self.kinds.iter().flat_map(|k| &k.points);
        let ends = |of: fn(&Point) -> f64| {
            points().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| {
                (low.min(of(p)), high.max(of(p)))
            })
        };
        let (x, y) = (ends(|p| p.x.log10()), ends(|p| p.y));
        if !(x.0.is_finite() && y.0.is_finite()) {
            return;
        }
        let room = |(low, high): (f64, f64)| {
            let more = (0.06 * (high - low)).max(1e-3);
            (low - more, high + more)
        };
        let xs = room(x);
        let plot = Plot::new(area, xs, room(y));
        plot.frame(fig, &self.title, &self.y);
        let (first, last) = (xs.0.floor() as i32, xs.1.ceil() as i32);
        for power in first..=last {
            for step in [1.0, 2.0, 5.0] {
                let v = step * 10f64.powi(power);
                if (xs.0..=xs.1).contains(&v.log10()) {
                    let at = plot.x(v.log10());
                    fig.line("axis", &[(at, plot.bottom), (at, plot.bottom + 4.0)]);
                    fig.text("dim", at, plot.bottom + 17.0, Anchor::Middle, &digits(v));
                }
            }
        }
        let middle = 0.5 * (plot.left + plot.right);
        fig.text("dim", middle, plot.bottom + 35.0, Anchor::Middle, &self.x);
        for (i, kind) in self.kinds.iter().enumerate() {
            for p in &kind.points {
                let (x, y) = (plot.x(p.x.log10()), plot.y(p.y));
                let told = format!("{}: {} {}, {}", p.name, digits(p.x), self.x, digits(p.y));
                fig.titled(&told, |fig| {
                    fig.circle(&format!("f{}", i % COLOURS), x, y, 3.4);
                });
                if p.named {
                    let (at, anchor) = match x > 0.8 * plot.right + 0.2 * plot.left {
                        true => (x - 6.0, Anchor::End),
                        false => (x + 6.0, Anchor::Start),
                    };
                    fig.text("small dim", at, y - 4.0, anchor, &p.name);
                }
            }
        }
        let names: Vec<&str> = self.kinds.iter().map(|k| k.name.as_str()).collect();
        legend(fig, area, &names, |fig, i, x, y| {
            fig.circle(&format!("f{i}"), x + 16.0, y, 3.4);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decade_is_as_wide_as_another_and_names_are_escaped() {
        let point = |name: &str, x: f64| Point {
            name: name.into(),
            x,
            y: x,
            named: true,
        };
        let scatter = Scatter {
            x: "ms".into(),
            kinds: vec![Kind {
                name: "all".into(),
                points: vec![
                    point("a<b", 1.0),
                    point("ten", 10.0),
                    point("hundred", 100.0),
                ],
            }],
            ..Scatter::default()
        };
        let mut fig = Figure::new();
        scatter.draw(&mut fig, Area::figure(300.0));
        let svg = fig.finish(300.0, "test");
        assert!(svg.contains("a&lt;b") && !svg.contains("NaN"));
        let at: Vec<f64> = { svg.split("cx=\"").skip(1) }
            .map(|s| s.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((at[1] - at[0] - (at[2] - at[1])).abs() < 0.5, "{at:?}");
        // Nothing to show is nothing drawn.
        Scatter::default().draw(&mut Figure::new(), Area::figure(300.0));
    }
}
