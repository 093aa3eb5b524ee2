//! Bars and points.

use super::svg::{COLOURS, Svg, short, ticks};

/// A bar with the standard deviation of what it is the mean of.
#[derive(Clone, Debug)]
pub struct Bar {
    pub label: String,
    pub value: f64,
    pub deviation: f64,
}

/// Bars of one quantity.
#[derive(Clone, Debug)]
pub struct Panel {
    pub title: String,
    pub bars: Vec<Bar>,
}

/// One panel for each quantity side by side, bars from zero, whiskers of one standard deviation.
pub fn bars(panels: &[Panel]) -> String {
    const W: f64 = 250.0;
    const H: f64 = 220.0;
    let labels = panels.first().map_or(0, |p| p.bars.len());
    let mut svg = Svg::new(W * panels.len() as f64, H + 40.0 + 20.0 * labels as f64);
    for (k, panel) in panels.iter().enumerate() {
        let x0 = W * k as f64 + 50.0;
        svg.text((x0 + 95.0, 20.0), "b m", &panel.title);
        let ends = |sign: f64| panel.bars.iter().map(move |b| b.value + sign * b.deviation);
        let ticks = ticks(
            ends(-1.0).fold(0.0, f64::min),
            ends(1.0).fold(0.0, f64::max),
        );
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        let y = |v: f64| 40.0 + (H - 40.0) * (1.0 - (v - low) / (high - low));
        for &tick in &ticks {
            svg.line("grid", (x0, y(tick)), (x0 + 190.0, y(tick)));
            svg.text((x0 - 6.0, y(tick) + 4.0), "e", &short(tick));
        }
        let step = 190.0 / panel.bars.len().max(1) as f64;
        for (i, bar) in panel.bars.iter().enumerate() {
            let x = x0 + step * i as f64 + 0.15 * step;
            let (top, bottom) = (y(bar.value.max(0.0)), y(bar.value.min(0.0)));
            let colour = COLOURS[i % COLOURS.len()];
            svg.rect((x, top), (0.7 * step, bottom - top), colour);
            let middle = x + 0.35 * step;
            let at = |sign: f64| (middle, y(bar.value + sign * bar.deviation));
            svg.line("axis", at(-1.0), at(1.0));
        }
    }
    let first = panels.first().map_or(&[][..], |p| &p.bars);
    for (i, bar) in first.iter().enumerate() {
        let y = H + 30.0 + 20.0 * i as f64;
        svg.rect((50.0, y - 11.0), (14.0, 14.0), COLOURS[i % COLOURS.len()]);
        svg.text((70.0, y), "", &bar.label);
    }
    svg.finish()
}

/// Points and the line where both axes are equal.
pub fn scatter(points: &[(f64, f64)], x_title: &str, y_title: &str) -> String {
    const SIDE: f64 = 420.0;
    let ticks = ticks(0.0, points.iter().fold(0.0f64, |m, p| m.max(p.0).max(p.1)));
    let high = ticks[ticks.len() - 1];
    let at = |(x, y): (f64, f64)| (60.0 + SIDE * x / high, 20.0 + SIDE * (1.0 - y / high));
    let mut svg = Svg::new(SIDE + 90.0, SIDE + 80.0);
    for &tick in &ticks {
        svg.line("grid", at((0.0, tick)), at((high, tick)));
        svg.line("grid", at((tick, 0.0)), at((tick, high)));
        let (x, y) = at((tick, 0.0));
        svg.text((x, y + 18.0), "m", &short(tick));
        let (x, y) = at((0.0, tick));
        svg.text((x - 6.0, y + 4.0), "e", &short(tick));
    }
    svg.line("cut", at((0.0, 0.0)), at((high, high)));
    for &p in points {
        svg.circle(at(p), 4.0, COLOURS[0]);
    }
    svg.text((60.0 + SIDE / 2.0, SIDE + 62.0), "m", x_title);
    svg.text_up((16.0, 20.0 + SIDE / 2.0), "m", y_title);
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_every_name_and_no_missing_number() {
        let bar = |value| Bar {
            label: "a <b>".into(),
            value,
            deviation: 0.5,
        };
        let panel = Panel {
            title: "SD".into(),
            bars: vec![bar(-1.0), bar(2.0)],
        };
        let svg = bars(&[panel]);
        assert!(svg.contains("SD") && svg.contains("a &lt;b&gt;") && !svg.contains("NaN"));
        assert_eq!(svg.matches("<rect x").count(), 4);
        assert!(!scatter(&[(1.0, 2.0)], "x", "y").contains("NaN"));
    }
}
