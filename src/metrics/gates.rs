//! Gates: limits that a method keeps over a set of pictures, whatever it scores otherwise.
//!
//! ```text
//! new_black, new_white, tone_detail    mean over the pictures at most a constant; of the first two also the worst picture
//! plane_r2, border_error               of the whole set, at most a constant
//! ssim                                >= SSIM(maximum) - 0.07
//! vif, en, mean_level                 >= 0.95 VIF(average),  EN(average) - 0.2,  0.9 mean level(average)
//! ```
//!
//! `maximum` is max(A, B), `average` (A + B + 1) / 2 in whole levels, judged over the same pictures. The limits are those that
//! published networks which look good keep on seven sets, and fusions that clip, copy a constant sum or wash out do not;
//! [`Gate::why`] says what each is for. They are for infrared and visible pictures. A gate without a value is not passed, but for the border
//! of pictures that were not fused here.
//!
//! ```
//! use hafuse::metrics::gates::{Gate, Reference, Tally};
//! use hafuse::metrics::{Grey, measure};
//!
//! let a = Grey::from_fn(48, 48, |x, y| (40 + 3 * x + y) as u8)?;
//! let b = Grey::from_fn(48, 48, |x, y| (30 + 2 * (x ^ y)) as u8)?;
//! let black = Grey::from_fn(48, 48, |_, _| 0)?;
//! let mut tally = Tally::default();
//! let scores = measure(&a, &b, &black, &Tally::METRICS)?;
//! tally.add("one", [&a, &b, &black], &scores, &Reference::of(&a, &b)?)?;
//! let verdicts = tally.judge();
//! let of = |gate| verdicts.iter().find(|v| v.gate == gate).unwrap();
//! assert_eq!((of(Gate::NewBlack).value, of(Gate::NewBlack).passes), (Ok(100.0), Some(false)));
//! assert_eq!(of(Gate::NewWhite).passes, Some(true));
//! assert_eq!(of(Gate::Border).passes, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::border::BorderError;
use super::plane::PlaneR2;
use super::{Grey, Metric, Score, Undefined, measure};
use crate::stats::mean;
use crate::{Error, Result};
use std::fmt;

/// A limit that a method keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gate {
    /// Mean over the pictures of [`Metric::NewBlack`], in percent; at most a constant.
    NewBlack,
    /// Largest [`Metric::NewBlack`] of a picture, in percent; at most a constant.
    NewBlackWorst,
    /// Mean over the pictures of [`Metric::NewWhite`], in percent; at most a constant.
    NewWhite,
    /// Largest [`Metric::NewWhite`] of a picture, in percent; at most a constant.
    NewWhiteWorst,
    /// Share of the levels that a plane of both sources explains ([`PlaneR2`]); at most a constant.
    PlaneR2,
    /// Mean over the pictures of [`Metric::ToneDetail`]; at most a constant.
    ToneDetail,
    /// Mean [`Metric::Ssim`]; at least that of the maximum, less a constant.
    Structure,
    /// Mean [`Metric::Vif`]; at least a share of that of the average.
    Fidelity,
    /// Mean [`Metric::En`]; at least that of the average, less a constant.
    Entropy,
    /// Mean grey level; at least a share of that of the average.
    Level,
    /// Border error in grey levels ([`border`](super::border)); at most a constant.
    Border,
}

/// A rule of fusion that sets a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// max(A, B) at each pixel.
    Maximum,
    /// (A + B + 1) / 2 at each pixel, in whole levels.
    Average,
}

/// The values that pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Up to this constant.
    AtMost(f64),
    /// At least `times` the value of `rule`, less `less`.
    AtLeast {
        /// Rule whose value, over the same pictures, sets the limit.
        rule: Rule,
        /// Factor on the rule's value.
        times: f64,
        /// Constant that is taken from the product.
        less: f64,
    },
}

struct Facts {
    name: &'static str,
    label: &'static str,
    limit: Limit,
    why: &'static str,
}

impl Gate {
    /// All of them, in the order of tables.
    pub const ALL: [Gate; 11] = [
        Gate::NewBlack,
        Gate::NewBlackWorst,
        Gate::NewWhite,
        Gate::NewWhiteWorst,
        Gate::PlaneR2,
        Gate::ToneDetail,
        Gate::Structure,
        Gate::Fidelity,
        Gate::Entropy,
        Gate::Level,
        Gate::Border,
    ];

    /// The one place of all limits.
    #[rustfmt::skip]
    fn facts(self) -> Facts {
        use Limit::AtMost;
        let at_least = |rule, times, less| Limit::AtLeast { rule, times, less };
        let (name, label, limit, why) = match self {
            Gate::NewBlack => ("new_black", "new black, %", AtMost(0.5),
                "what a source shows is not to vanish in black; subtracting a constant blackens a quarter of night scenes"),
            Gate::NewBlackWorst => ("new_black_worst", "new black of the worst picture, %", AtMost(5.0),
                "a mean hides one scene that is lost"),
            Gate::NewWhite => ("new_white", "new white, %", AtMost(0.5),
                "what a source shows is not to vanish in white; sums and stretches of contrast burn out skies and lamps"),
            Gate::NewWhiteWorst => ("new_white_worst", "new white of the worst picture, %", AtMost(5.0),
                "a mean hides one scene that is lost"),
            Gate::PlaneR2 => ("plane_r2", "plane R2", AtMost(0.985),
                "a constant weighted sum of the sources has 1, published networks that look good have at most 0.983"),
            Gate::ToneDetail => ("tone_detail", "tone detail", AtMost(0.97),
                "a tone curve of both levels has 1, also a stretched average; published networks that look good have at most 0.968"),
            Gate::Structure => ("ssim", "SSIM", at_least(Rule::Maximum, 1.0, 0.07),
                "structure of the sources is kept about as well as the brighter source keeps it; a clipped picture has far less"),
            Gate::Fidelity => ("vif", "VIF", at_least(Rule::Average, 0.95, 0.0),
                "a fusion tells no less of its sources than their mean"),
            Gate::Entropy => ("en", "EN", at_least(Rule::Average, 1.0, 0.2),
                "a fusion has no fewer levels than the mean of its sources"),
            Gate::Level => ("mean_level", "mean level", at_least(Rule::Average, 0.9, 0.0),
                "a fusion is not darker than the mean of its sources"),
            Gate::Border => ("border_error", "border error, levels", AtMost(1.5),
                "the outermost pixels hardly depend on how a network pads its inner pictures"),
        };
        Facts { name, label, limit, why }
    }

    /// The name in files: `plane_r2`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name in tables: `plane R2`.
    pub fn label(self) -> &'static str {
        self.facts().label
    }

    /// The values that pass.
    pub fn limit(self) -> Limit {
        self.facts().limit
    }

    /// What the gate is for, and where its limit is from.
    pub fn why(self) -> &'static str {
        self.facts().why
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Scores of the rules that set limits on one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// Of max(A, B).
    pub ssim: Score,
    /// Of the average.
    pub vif: Score,
    /// Entropy of the average, in bits.
    pub en: Score,
    /// Mean grey level of the average, 0 to 255.
    pub level: f64,
}

impl Reference {
    /// Fuses two sources by both rules and measures them.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sources differ in size.
    pub fn of(a: &Grey, b: &Grey) -> Result<Self> {
        super::same_size(a, b, a)?;
        let fuse = |rule: fn(u8, u8) -> u8| {
            let pixels = a.values().iter().zip(b.values());
            let values = pixels.map(|(&a, &b)| rule(a, b)).collect();
            Grey::new(a.width(), a.height(), values)
        };
        let maximum = fuse(u8::max)?;
        let average = fuse(|a, b| (u16::from(a) + u16::from(b)).div_ceil(2) as u8)?;
        let of_average = measure(a, b, &average, &[Metric::Vif, Metric::En])?;
        Ok(Self {
            ssim: measure(a, b, &maximum, &[Metric::Ssim])?[0],
            vif: of_average[0],
            en: of_average[1],
            level: level(&average),
        })
    }
}

/// Mean grey level.
fn level(x: &Grey) -> f64 {
    let sum: u64 = x.values().iter().map(|&v| u64::from(v)).sum();
    sum as f64 / x.len() as f64
}

/// A method's value at a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Limit that is judged.
    pub gate: Gate,
    /// The method's value over the pictures, or why there is none.
    pub value: Score,
    /// Over how many pictures.
    pub pictures: usize,
    /// The largest value of a picture (of the border: the largest difference), and whose it is; of gates that tell it.
    pub worst: Option<(f64, String)>,
    /// What the value is held against; `None` if the rule has no value either.
    pub limit: Option<f64>,
    /// `None` if there is nothing to judge: the border of pictures that were not fused here.
    pub passes: Option<bool>,
}

/// A method's pictures of one set.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    plane: PlaneR2,
    pictures: Vec<Picture>,
    borders: Vec<(String, BorderError)>,
}

#[derive(Clone, Debug)]
struct Picture {
    name: String,
    /// Of [`Tally::METRICS`].
    scores: [Score; Tally::METRICS.len()],
    level: f64,
    reference: Reference,
}

impl Tally {
    /// What is to be measured of each picture.
    pub const METRICS: [Metric; 6] = [
        Metric::NewBlack,
        Metric::NewWhite,
        Metric::ToneDetail,
        Metric::Ssim,
        Metric::Vif,
        Metric::En,
    ];

    /// Adds a picture: its name, `[A, B, F]`, its scores of [`Tally::METRICS`] and what the rules score on its sources.
    ///
    /// # Errors
    /// [`Error::Shape`] if the three differ in size or there are not as many scores.
    pub fn add(
        &mut self,
        name: &str,
        [a, b, fused]: [&Grey; 3],
        scores: &[Score],
        reference: &Reference,
    ) -> Result<()> {
        let scores = scores.try_into().map_err(|_| {
            Error::shape(
                "gates",
                format!(
                    "{} scores of {name}; give one for each of the {} metrics",
                    scores.len(),
                    Self::METRICS.len()
                ),
            )
        })?;
        self.plane.add(a, b, fused)?;
        self.pictures.push(Picture {
            name: name.to_string(),
            scores,
            level: level(fused),
            reference: *reference,
        });
        Ok(())
    }

    /// Adds the border error of a picture.
    pub fn add_border(&mut self, name: &str, error: BorderError) {
        self.borders.push((name.to_string(), error));
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// A verdict for each gate, in the order of [`Gate::ALL`].
    pub fn judge(&self) -> Vec<Verdict> {
        Gate::ALL.map(|gate| self.verdict(gate)).into()
    }

    fn verdict(&self, gate: Gate) -> Verdict {
        match gate {
            Gate::NewBlack => self.mean(gate, 0),
            Gate::NewBlackWorst => self.most(gate, 0),
            Gate::NewWhite => self.mean(gate, 1),
            Gate::NewWhiteWorst => self.most(gate, 1),
            Gate::PlaneR2 => {
                let score = match self.is_empty() {
                    true => Err(Undefined::NoPicture),
                    false => self.plane.score(),
                };
                verdict(gate, score, self.len(), 0.0)
            }
            Gate::ToneDetail => self.mean(gate, 2),
            Gate::Structure => self.compare(gate, |p| (p.scores[3], p.reference.ssim)),
            Gate::Fidelity => self.compare(gate, |p| (p.scores[4], p.reference.vif)),
            Gate::Entropy => self.compare(gate, |p| (p.scores[5], p.reference.en)),
            Gate::Level => self.compare(gate, |p| (Ok(p.level), Ok(p.reference.level))),
            Gate::Border => self.border(),
        }
    }

    /// Values of metric `k`, and why the first picture without one has none.
    fn values(&self, k: usize) -> (Vec<(f64, &str)>, Undefined) {
        let mut values = Vec::new();
        let mut reason = None;
        for p in &self.pictures {
            match p.scores[k] {
                Ok(value) => values.push((value, p.name.as_str())),
                Err(e) => reason = reason.or(Some(e)),
            }
        }
        (values, reason.unwrap_or(Undefined::NoPicture))
    }

    fn mean(&self, gate: Gate, k: usize) -> Verdict {
        let (values, reason) = self.values(k);
        let values: Vec<f64> = values.into_iter().map(|v| v.0).collect();
        let value = match values.is_empty() {
            true => Err(reason),
            false => Ok(mean(&values)),
        };
        verdict(gate, value, values.len(), 0.0)
    }

    fn most(&self, gate: Gate, k: usize) -> Verdict {
        let (values, reason) = self.values(k);
        // Of equal ones the first.
        let most = { values.iter().copied() }.reduce(|x, y| if y.0 > x.0 { y } else { x });
        let value = most.map(|v| v.0).ok_or(reason);
        Verdict {
            worst: most.map(|(v, name)| (v, name.to_string())),
            ..verdict(gate, value, values.len(), 0.0)
        }
    }

    /// Means of a value and of the rule's, over the pictures that have both.
    fn compare(&self, gate: Gate, of: impl Fn(&Picture) -> (Score, Score)) -> Verdict {
        let both = |p: &Picture| {
            let (value, rule) = of(p);
            Ok((value?, rule?))
        };
        let results: Vec<Result<_, Undefined>> = self.pictures.iter().map(both).collect();
        let reason = results.iter().find_map(|r| r.err());
        let pairs: Vec<(f64, f64)> = results.into_iter().flatten().collect();
        if pairs.is_empty() {
            let reason = reason.unwrap_or(Undefined::NoPicture);
            return verdict(gate, Err(reason), 0, f64::NAN);
        }
        let (values, rule): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        verdict(gate, Ok(mean(&values)), values.len(), mean(&rule))
    }

    fn border(&self) -> Verdict {
        let means: Vec<f64> = self.borders.iter().map(|b| b.1.mean).collect();
        if means.is_empty() {
            return Verdict {
                passes: None,
                ..verdict(Gate::Border, Err(Undefined::NotFused), 0, 0.0)
            };
        }
        let most =
            { self.borders.iter() }.reduce(|x, y| if y.1.maximum > x.1.maximum { y } else { x });
        Verdict {
            worst: most.map(|(name, error)| (f64::from(error.maximum), name.clone())),
            ..verdict(Gate::Border, Ok(mean(&means)), means.len(), 0.0)
        }
    }
}

/// A value held against the gate's limit, for which the rule has the value `rule`.
fn verdict(gate: Gate, value: Score, pictures: usize, rule: f64) -> Verdict {
    let (limit, passes): (f64, fn(f64, f64) -> bool) = match gate.limit() {
        Limit::AtMost(most) => (most, |value, limit| value <= limit),
        Limit::AtLeast { times, less, .. } => (times * rule - less, |value, limit| value >= limit),
    };
    Verdict {
        gate,
        value,
        pictures,
        worst: None,
        limit: limit.is_finite().then_some(limit),
        passes: Some(value.is_ok_and(|v| passes(v, limit))),
    }
}
