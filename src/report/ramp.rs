//! The colours of heatmaps: one hue, even steps of perceived lightness, away from the paper as values grow.

use super::chart::tick_step;
use super::svg::{Anchor, Figure, number};
use std::fmt::Write;

/// Number of colours. Classes `r0`, `r1`, ... name them, so that a style can turn them round for dark paper.
pub const LEVELS: usize = 32;
/// From this level on, text on the colour takes the other colour.
const TURN: usize = 17;

/// A range of values that the colours span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub low: f64,
    pub high: f64,
}

impl Scale {
    /// Spans these values, rounded outwards; what is no number does not count.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.into_iter().filter(|v| v.is_finite()) {
            low = low.min(v);
            high = high.max(v);
        }
        if low > high {
            return Self {
                low: 0.0,
                high: 1.0,
            };
        }
        // Values that hardly differ should look so.
        let middle = 0.5 * (low + high);
        let half = (0.5 * (high - low)).max(0.005);
        let step = tick_step(2.0 * half, 4);
        Self {
            low: (((middle - half) / step + 1e-9).floor() * step).max(low.min(0.0)),
            high: ((middle + half) / step - 1e-9).ceil() * step,
        }
    }

    /// The colour of a value; the nearer end for what lies outside, `None` for what is no number.
    pub fn level(self, v: f64) -> Option<usize> {
        let t = (v - self.low) / (self.high - self.low);
        t.is_finite()
            .then(|| ((t.clamp(0.0, 1.0) * LEVELS as f64) as usize).min(LEVELS - 1))
    }

    /// The class of a value's colour.
    pub fn class(self, v: f64) -> String {
        self.level(v).map_or("none".into(), |l| format!("r{l}"))
    }

    /// The class of text on that colour.
    pub fn text_class(self, v: f64) -> &'static str {
        match self.level(v) {
            Some(l) if l >= TURN => "on",
            _ => "",
        }
    }

    /// A colour bar with its numbers, `name` on its left; `x` is its right end. It is 34 high.
    pub fn draw(self, fig: &mut Figure, name: &str, x: f64, y: f64) {
        let (w, h) = (160.0, 12.0);
        let x = x - w;
        fig.text("dim", x - 8.0, y + 10.0, Anchor::End, name);
        let each = w / LEVELS as f64;
        for l in 0..LEVELS {
            // A little wider than they are: no seams.
            let wide = if l + 1 < LEVELS { each + 0.4 } else { each };
            fig.rect(&format!("r{l}"), x + l as f64 * each, y, wide, h);
        }
        let middle = 0.5 * (self.low + self.high);
        let places = places(&[self.low, middle, self.high]);
        for (v, at) in [(self.low, x), (middle, x + 0.5 * w), (self.high, x + w)] {
            fig.line("axis", &[(at, y + h), (at, y + h + 3.0)]);
            let text = number(v, places);
            fig.text("small dim", at, y + h + 13.0, Anchor::Middle, &text);
        }
    }
}

/// Decimals that these values need, at most 6.
fn places(values: &[f64]) -> usize {
    let whole = |v: &f64, p: i32| {
        let scaled = v * 10f64.powi(p);
        (scaled - scaled.round()).abs() < 1e-6
    };
    let found = (0..6).find(|&p| values.iter().all(|v| whole(v, p)));
    found.unwrap_or(6) as usize
}

/// Rules for the classes of all levels.
pub fn css(dark: bool) -> String {
    let mut css = String::new();
    for l in 0..LEVELS {
        let t = l as f64 / (LEVELS - 1) as f64;
        let lightness = if dark {
            0.27 + 0.66 * t
        } else {
            0.965 - 0.635 * t
        };
        let chroma = 0.012 + 0.115 * (std::f64::consts::PI * (0.03 + 0.83 * t)).sin();
        let [r, g, b] = oklch(lightness, chroma, 240.0 + 24.0 * t);
        // Writing to a String cannot fail.
        let _ = write!(css, ".fig .r{l}{{fill:#{r:02x}{g:02x}{b:02x}}}");
    }
    css + if dark {
        ".fig text.on{fill:#0d1117}"
    } else {
        ".fig text.on{fill:#fff}"
    }
}

/// Oklab's lightness, chroma and hue (in degrees) as sRGB (Ottosson, 2020).
fn oklch(lightness: f64, chroma: f64, hue: f64) -> [u8; 3] {
    let (b, a) = hue.to_radians().sin_cos();
    let (a, b) = (chroma * a, chroma * b);
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701 * s,
    ]
    .map(|v| {
        let v = v.clamp(0.0, 1.0);
        let v = if v <= 0.003_130_8 {
            12.92 * v
        } else {
            1.055 * v.powf(1.0 / 2.4) - 0.055
        };
        (255.0 * v).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_known_and_lightness_is_monotone() {
        assert_eq!(oklch(1.0, 0.0, 0.0), [255; 3]);
        assert_eq!(oklch(0.627_955, 0.257_683, 29.2339), [255, 0, 0]);
        for dark in [false, true] {
            let luma: Vec<f64> = css(dark)
                .split("fill:#")
                .skip(1)
                .take(LEVELS)
                .map(|c| {
                    let n = u32::from_str_radix(&c[..6], 16).unwrap();
                    let [_, r, g, b] = n.to_be_bytes().map(f64::from);
                    0.2126 * r + 0.7152 * g + 0.0722 * b
                })
                .collect();
            assert_eq!(luma.len(), LEVELS);
            assert!(luma.windows(2).all(|p| (p[0] < p[1]) == dark), "{luma:?}");
        }
    }

    #[test]
    fn ends_and_middle_are_written_in_full() {
        assert_eq!(places(&[0.0, 0.15, 0.3]), 2);
        assert_eq!(places(&[0.0, 1.0, 2.0]), 0);
        assert_eq!(places(&[1.0 / 3.0]), 6);
    }

    #[test]
    fn a_scale_spans_its_values_and_knows_no_nan() {
        let scale = Scale::of([0.07, f64::NAN, 0.31]);
        assert!(
            scale.low >= 0.0 && scale.low <= 0.07 && scale.high >= 0.31,
            "{scale:?}"
        );
        assert!(scale.high < 0.5, "{scale:?}");
        assert_eq!(scale.level(-1.0), Some(0));
        assert_eq!(scale.level(9.0), Some(LEVELS - 1));
        assert_eq!(
            (scale.level(f64::NAN), scale.class(f64::NAN).as_str()),
            (None, "none")
        );
        // One round number lies between these.
        let wide = Scale::of([0.022, 0.951]);
        assert_eq!((wide.low, wide.high), (0.0, 1.0));
        let flat = Scale::of([0.1, 0.1]);
        assert!(flat.low < 0.1 && 0.1 < flat.high, "{flat:?}");
        assert_eq!(
            Scale::of([]),
            Scale {
                low: 0.0,
                high: 1.0
            }
        );
    }
}
