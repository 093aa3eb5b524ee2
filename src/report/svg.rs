//! SVG as text: escaping, numbers, shapes, and one style for light and dark.

use super::ramp;
use std::fmt::Write;
use std::sync::LazyLock;

/// Width of all figures in pixels: they fit a window of 1200.
pub const WIDTH: f64 = 1160.0;

/// Where a text stands, relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A figure under way. Classes are those of [`STYLE`]; all text is escaped.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    body: String,
}

// Writing to a String cannot fail, so its results are dropped below.
impl Figure {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn rect(&mut self, class: &str, x: f64, y: f64, w: f64, h: f64) {
        let [x, y, w, h] = [x, y, w.max(0.0), h.max(0.0)].map(coordinate);
        let _ = write!(
            self.body,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/>"
        );
    }

    /// A rectangle with round corners.
    pub fn round(&mut self, class: &str, x: f64, y: f64, w: f64, h: f64) {
        let [x, y, w, h] = [x, y, w.max(0.0), h.max(0.0)].map(coordinate);
        let _ = write!(
            self.body,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"5\"/>"
        );
    }

    pub fn circle(&mut self, class: &str, x: f64, y: f64, r: f64) {
        let [x, y, r] = [x, y, r].map(coordinate);
        let _ = write!(
            self.body,
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\"/>"
        );
    }

    /// A line through these points.
    pub fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points
            .iter()
            .map(|&(x, y)| format!("{},{}", coordinate(x), coordinate(y)))
            .collect();
        let _ = write!(
            self.body,
            "<polyline class=\"{class}\" points=\"{}\"/>",
            points.join(" ")
        );
    }

    /// [`Figure::line`] with an arrow head at its end.
    pub fn arrow(&mut self, class: &str, points: &[(f64, f64)]) {
        self.line(class, points);
        let [.., (x0, y0), (x, y)] = *points else {
            return;
        };
        let length = (x - x0).hypot(y - y0).max(1e-9);
        let (dx, dy) = ((x - x0) / length, (y - y0) / length);
        let back = |side: f64| (x - 6.0 * dx - side * dy, y - 6.0 * dy + side * dx);
        self.line(class, &[back(3.5), (x, y), back(-3.5)]);
    }

    /// Filled with the outline `d`, in SVG's path language.
    pub fn path(&mut self, class: &str, d: &str) {
        let _ = write!(self.body, "<path class=\"{class}\" d=\"{}\"/>", escape(d));
    }

    pub fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        self.turned_text(class, x, y, anchor, 0.0, text);
    }

    /// Text that is turned by so many degrees, clockwise.
    pub fn turned_text(
        &mut self,
        class: &str,
        x: f64,
        y: f64,
        anchor: Anchor,
        degrees: f64,
        text: &str,
    ) {
        let (x, y) = (coordinate(x), coordinate(y));
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let turn = match degrees {
            0.0 => String::new(),
            d => format!(" transform=\"rotate({} {x} {y})\"", coordinate(d)),
        };
        let _ = write!(
            self.body,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}{turn}>{}</text>",
            escape(text)
        );
    }

    /// Draws `inside` as a group that tells `title` under the pointer and to a screen reader.
    pub fn titled(&mut self, title: &str, inside: impl FnOnce(&mut Self)) {
        let _ = write!(self.body, "<g><title>{}</title>", escape(title));
        inside(self);
        self.body.push_str("</g>");
    }

    /// The whole file, `WIDTH` by `height`, with what it shows in a few words.
    pub fn finish(self, height: f64, label: &str) -> String {
        self.finish_wide(WIDTH, height, label)
    }

    /// [`Figure::finish`] with a width of its own.
    pub fn finish_wide(self, width: f64, height: f64, label: &str) -> String {
        let (w, h, label) = (coordinate(width), coordinate(height), escape(label));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"fig\" width=\"{w}\" height=\"{h}\" style=\"min-width:{}px\" viewBox=\"0 0 {w} {h}\" \
             role=\"img\" aria-label=\"{label}\"><style>{}</style>\
             <rect class=\"paper\" width=\"{w}\" height=\"{h}\"/>{}</svg>\n",
            coordinate(0.83 * width),
            *STYLE,
            self.body
        )
    }
}

/// A coordinate with at most two decimals; what is no number becomes 0.
fn coordinate(v: f64) -> String {
    let v = if v.is_finite() { v } else { 0.0 };
    let text = format!("{v:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".into(),
        _ => text.into(),
    }
}

/// A value for readers; a dash for what is no number.
pub fn number(v: f64, decimals: usize) -> String {
    match v.is_finite() {
        true => format!("{v:.decimals$}"),
        false => "–".into(),
    }
}

/// A value with about four digits, whatever its size; a dash for what is no number.
pub fn digits(v: f64) -> String {
    let size = v.abs();
    if v == 0.0 {
        "0".into()
    } else if v.is_finite() && !(1e-4..1e7).contains(&size) {
        format!("{v:.3e}")
    } else {
        let decimals = (3 - size.log10().floor() as i64).clamp(0, 7);
        number(v, decimals as usize)
    }
}

/// Text for XML and HTML, in elements and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no way to write other control characters.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// About how wide a text of this size is, in pixels.
pub fn text_width(text: &str, size: f64) -> f64 {
    0.58 * size * text.chars().count() as f64
}

/// The style of every figure. Plain values and no variables: other programs than browsers read it too.
pub static STYLE: LazyLock<String> = LazyLock::new(|| {
    let series = |colours: [&str; 6]| {
        let mut css = String::new();
        for (i, c) in colours.into_iter().enumerate() {
            let _ = write!(css, ".fig .s{i}{{stroke:{c}}}.fig .f{i}{{fill:{c}}}");
        }
        css
    };
    format!(
        "{SHAPES}{LIGHT}{}{}@media(prefers-color-scheme:dark){{{DARK}{}{}}}",
        series([
            "#1f5fa8", "#c4560f", "#2f7d4f", "#8a3f9e", "#8c6d00", "#50606f"
        ]),
        ramp::css(false),
        series([
            "#74b0f4", "#f79a55", "#74cf98", "#d294e6", "#e0c050", "#a9b7c6"
        ]),
        ramp::css(true),
    )
});

const SHAPES: &str = "\
.fig{font:12px system-ui,\"Segoe UI\",\"DejaVu Sans\",sans-serif}\
.fig polyline{fill:none}.fig .small{font-size:10px}.fig .big{font-size:14px;font-weight:600}.fig .bold{font-weight:600}\
.fig .curve{stroke-width:1.8;stroke-linejoin:round}.fig .s1.curve{stroke-dasharray:7 3}.fig .s2.curve{stroke-dasharray:2 3}\
.fig .pick{fill:none;stroke-width:2.2}.fig .pick.thin{stroke-width:1.4}.fig .later{stroke-dasharray:4 2}\
.fig .mark{stroke-width:1.2}.fig .flow{stroke-width:1.4}\
.fig .quartiles{fill-opacity:.22;stroke-width:1.3}.fig .median{stroke-width:2.4}.fig .whisker{stroke-width:1.3}.fig .outlier{fill:none;stroke-width:1.2}.fig .axis,.fig .grid{stroke-width:1}";

const LIGHT: &str = "\
.fig .paper{fill:#fff}.fig text{fill:#1c2530}.fig .dim{fill:#566270}.fig .axis,.fig .flow,.fig .error{stroke:#7c8793}.fig .grid{stroke:#e4e8ec}\
.fig .mark{stroke:#1c2530}.fig .pick{stroke:#d9141e}.fig .red{fill:#c00f18}\
.fig .none{fill:#eceff2}.fig .weights{fill:#b9c2cc}.fig .cells{fill:#f3c98b}.fig .operators{fill:#a9d3c0}.fig .both{fill:#d3c2e6}\
.fig .box{fill:#eef3f9;stroke:#7c93ad}.fig .frame{fill:#fafbfc;stroke:#b3bdc7}.fig .end{fill:#f7efe2;stroke:#b99a66}";

const DARK: &str = "\
.fig .paper{fill:#161b22}.fig text{fill:#e4e9ef}.fig .dim{fill:#a3afbb}.fig .axis,.fig .flow,.fig .error{stroke:#8b96a2}.fig .grid{stroke:#2b333d}\
.fig .mark{stroke:#e4e9ef}.fig .pick{stroke:#ff5148}.fig .red{fill:#ff7068}\
.fig .none{fill:#252c35}.fig .weights{fill:#4a5563}.fig .cells{fill:#7a5620}.fig .operators{fill:#2b6350}.fig .both{fill:#5b4579}\
.fig .box{fill:#22303f;stroke:#5f7b98}.fig .frame{fill:#1b222b;stroke:#4b5763}.fig .end{fill:#3a3122;stroke:#98804f}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_nan_is_never_printed() {
        let mut fig = Figure::new();
        fig.text("", f64::NAN, 1.25, Anchor::End, "<a> & \"b\"\u{1}");
        fig.rect("none", f64::INFINITY, 0.0, -3.0, 2.0);
        fig.arrow("flow", &[(0.0, 0.0), (0.0, f64::NAN)]);
        fig.titled("a < b", |f| f.circle("f0", 1.0, 2.0, 3.0));
        let svg = fig.finish(10.0, "it's <this>");
        assert!(svg.contains("&lt;a&gt; &amp; &quot;b&quot;\u{fffd}</text>"));
        assert!(svg.contains("aria-label=\"it&#39;s &lt;this&gt;\""));
        assert!(svg.contains("<title>a &lt; b</title>"));
        let body = svg.split("</style>").nth(1).unwrap();
        assert!(!body.contains("NaN") && !body.contains("inf"), "{body}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, -0.001, 12.0, 1.504].map(coordinate),
            ["0", "0", "12", "1.5"]
        );
        assert_eq!(number(f64::NAN, 2), "–");
        assert_eq!(number(1.256, 2), "1.26");
        let cases = [
            (0.0, "0"),
            (123.456, "123.5"),
            (0.012_345, "0.01235"),
            (1.0, "1.000"),
        ];
        for (v, text) in cases {
            assert_eq!(digits(v), text);
        }
        assert_eq!(digits(1.5e-7), "1.500e-7");
        assert_eq!(digits(f64::INFINITY), "–");
        assert_eq!(digits(f64::NAN), "–");
    }
}
