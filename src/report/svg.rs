//! SVG as text: what the drawings share.

use std::fmt::Write;

/// Colours of series, apart in hue and in brightness.
pub const COLOURS: [&str; 6] = [
    "#3b6fb6", "#c8642a", "#4b9153", "#8a5aa8", "#a08a2d", "#5b6770",
];
/// What frames a choice, as in the paper's figures.
pub const RED: &str = "#d81e2c";

const STYLE: &str = "<style>text{font:13px sans-serif;fill:#222}.b{font-weight:bold}.s{font-size:11px}.m{text-anchor:middle}\
                     .e{text-anchor:end}.w{fill:#fff}.grid{stroke:#ddd}.axis{stroke:#222;fill:none}\
                     .cut{stroke:#888;stroke-dasharray:4 3}.flow{stroke:#555;fill:none;marker-end:url(#tip)}</style>\
                     <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
                     orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>";

/// A drawing under way, on white.
pub struct Svg {
    out: String,
}

pub type Point = (f64, f64);

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        Self {
            out: format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
                 height=\"{height:.0}\">{STYLE}<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
            ),
        }
    }

    pub fn finish(self) -> String {
        self.out + "</svg>\n"
    }

    /// `class`: of the style above, several with spaces between.
    pub fn text(&mut self, (x, y): Point, class: &str, words: &str) {
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escape(words)
        ));
    }

    /// Text that reads upwards.
    pub fn text_up(&mut self, (x, y): Point, class: &str, words: &str) {
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" transform=\"rotate(-90 {x:.1} {y:.1})\">{}</text>",
            escape(words)
        ));
    }

    pub fn line(&mut self, class: &str, (x1, y1): Point, (x2, y2): Point) {
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    pub fn rect(&mut self, (x, y): Point, (w, h): Point, fill: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{fill}\"/>"
        ));
    }

    /// An empty rectangle with an edge.
    pub fn frame(&mut self, (x, y): Point, (w, h): Point, colour: &str, width: f64) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"none\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"/>"
        ));
    }

    pub fn circle(&mut self, (x, y): Point, radius: f64, fill: &str) {
        self.push(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{fill}\" fill-opacity=\"0.8\"/>"
        ));
    }

    pub fn polyline(&mut self, points: &[Point], colour: &str) {
        let at: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.push(format_args!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            at.join(" ")
        ));
    }

    /// A rectangle coloured by a share in [0, 1], with what it says.
    pub fn heat(&mut self, at: Point, size: Point, share: f64, words: &str) {
        self.rect(at, size, &ramp(share));
        if !words.is_empty() {
            let class = if share > 0.55 { "s m w" } else { "s m" };
            let middle = (at.0 + size.0 / 2.0, at.1 + size.1 / 2.0 + 4.0);
            self.text(middle, class, words);
        }
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{element}");
    }
}

/// Text that is safe between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}

/// From nearly white to dark blue, even in brightness.
pub fn ramp(share: f64) -> String {
    const STOPS: [[f64; 3]; 5] = [
        [247.0, 251.0, 255.0],
        [198.0, 219.0, 239.0],
        [107.0, 174.0, 214.0],
        [33.0, 113.0, 181.0],
        [8.0, 48.0, 107.0],
    ];
    let x = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let i = (x as usize).min(STOPS.len() - 2);
    let mix =
        |k: usize| (STOPS[i][k] + (x - i as f64) * (STOPS[i + 1][k] - STOPS[i][k])).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

/// At most 7 round numbers that enclose `low..=high`.
pub fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(1e-9);
    let power = 10f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|k| k * power)
        .into_iter()
        .find(|s| span / s <= 5.0)
        .unwrap_or(10.0 * power);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last.max(first + 1))
        .map(|i| i as f64 * step)
        .collect()
}

/// Three decimals at most.
pub fn short(v: f64) -> String {
    let text = format!("{v:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose() {
        assert_eq!(ticks(0.0, 9.7), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.0, 0.0).len(), 2);
        for (low, high) in [(-3.2, 7.7), (0.11, 0.12), (5.0, 5.0), (0.0, 1e6)] {
            let t = ticks(low, high);
            assert!(
                t[0] <= low && high <= t[t.len() - 1] && t.len() <= 8,
                "{t:?}"
            );
        }
        assert_eq!((short(0.25), short(100.0)), ("0.25".into(), "100".into()));
    }

    #[test]
    fn colours_run_from_light_to_dark() {
        assert_eq!(
            (ramp(-1.0), ramp(1.0)),
            ("#f7fbff".into(), "#08306b".into())
        );
        assert_eq!(ramp(f64::NAN).len(), 7);
    }
}
