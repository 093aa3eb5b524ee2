//! Statistics of the aggregation: does the mask decide anything, and what do both rows give?

use crate::data::{Picture, read_pair};
use crate::device::Device;
use crate::fuser::memory::check_bytes;
use crate::infer::{Model, Precision};
use crate::net::{PARTS, parts_tape};
use crate::stats::{mean, mean_std, quantile};
use crate::synth::{Scene, render};
use crate::tape::Session;
use crate::tensor::Tensor;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};

/// Standard deviation below which a mask is constant.
const CONSTANT: f64 = 0.02;
/// The drawn pair.
const SAMPLE: (Scene, u64, [u32; 2]) = (Scene::StreetNight, 9, [320, 240]);

/// The pair that the network fuses.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Files([PathBuf; 2]),
    Drawn,
}

impl Source {
    /// From the values of `--mask`.
    ///
    /// # Errors
    /// [`Error::Config`] for a single name.
    pub fn new(names: &[PathBuf]) -> Result<Self> {
        match names {
            [] => Ok(Source::Drawn),
            [a, b] => Ok(Source::Files([a.clone(), b.clone()])),
            _ => Err(Error::config(
                "--mask",
                "takes two pictures, infrared first, or none for a drawn street; one was given",
            )),
        }
    }

    fn read(&self) -> Result<(Picture, Picture)> {
        let (scene, seed, [width, height]) = SAMPLE;
        match self {
            Source::Files([a, b]) => read_pair(a, b),
            Source::Drawn => {
                let pair = render(scene, seed, width, height)?;
                // BT.601, as of a file.
                let grey = |p: &image::Rgb<u8>| {
                    let [r, g, b] = p.0.map(f32::from);
                    (0.299 * r + 0.587 * g + 0.114 * b) / 255.0
                };
                let a = pair.a.as_raw().iter().map(|&v| f32::from(v) / 255.0);
                let picture = |luma| Picture::from_luma(width as usize, height as usize, luma);
                Ok((
                    picture(a.collect())?,
                    picture(pair.b.pixels().map(grey).collect())?,
                ))
            }
        }
    }

    /// Names it in errors.
    fn path(&self) -> &Path {
        match self {
            Source::Files([a, _]) => a,
            Source::Drawn => Path::new("the drawn pair"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Files([a, b]) => write!(f, "{} and {}", a.display(), b.display()),
            Source::Drawn => {
                let (scene, seed, [w, h]) = SAMPLE;
                let scene = scene.name();
                write!(
                    f,
                    "the pair of `hafuse synth OUT --scene {scene} --seed {seed} --size {w}x{h} --count 1`"
                )
            }
        }
    }
}

/// Description of the aggregation on one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregation {
    model: String,
    source: String,
    place: String,
    size: [usize; 2],
    mask: Mask,
    /// Mean grey levels of A, B, I_t, I_d and the output.
    levels: [f64; 5],
    /// Mean of |I_t - I_d| in grey levels.
    difference: f64,
}

/// Statistics of M.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mask {
    mean: f64,
    std: f64,
    /// 5, 50 and 95 percentile.
    percentiles: [f64; 3],
    /// Shares below 0.1 and above 0.9.
    ends: [f64; 2],
}

const LEVELS: [&str; 5] = ["a", "b", "target", "detail", "output"];

/// Runs the network on a pair.
///
/// # Errors
/// Those of reading the pair; [`Error::Config`] for f16 on the CPU; [`Error::Input`] if it does not fit in memory;
/// [`Error::Device`] of a card.
pub fn describe(
    model: &Model,
    device: &Device,
    precision: Precision,
    source: &Source,
) -> Result<Aggregation> {
    precision.check(device)?;
    let (a, b) = source.read()?;
    let (width, height) = (a.width, a.height);
    let tape = parts_tape(&model.genotype, [1, height, width], precision.dtype())?;
    if matches!(device, Device::Cpu) {
        let needed = Session::planned_bytes(&tape);
        check_bytes(needed, None, (width, height)).map_err(|e| e.of_file(source.path()))?;
    }
    let params = model.params_on(device, precision.dtype())?;
    let mut session = Session::new(&tape, &params)?;
    for (name, picture) in [("a", &a), ("b", &b)] {
        let values = Tensor::from_vec([1, height, width, 1], picture.luma.clone())?;
        session.set(name, &values.to_dtype(precision.dtype()))?;
    }
    session.run()?;
    let [_, target, detail, mask, output] = PARTS.map(|part| session.get(part));
    let (target, detail) = (target?.to_f64(), detail?.to_f64());
    let output: Vec<f64> = output?.to_f64();
    let output: Vec<f64> = output.iter().map(|v| v.clamp(0.0, 1.0)).collect();
    let of_picture = |p: &Picture| p.luma.iter().map(|&v| f64::from(v)).collect();
    let planes: [Vec<f64>; 5] = [of_picture(&a), of_picture(&b), target, detail, output];
    let rows = planes[2].iter().zip(&planes[3]);
    let differences: Vec<f64> = rows.map(|(t, d)| (t - d).abs()).collect();
    Ok(Aggregation {
        model: model.name.clone(),
        source: source.to_string(),
        place: format!("{device} in {}", precision.dtype()),
        size: [width, height],
        mask: Mask::of(mask?.to_f64())?,
        levels: planes.map(|plane| 255.0 * mean(&plane)),
        difference: 255.0 * mean(&differences),
    })
}

impl Mask {
    fn of(mut values: Vec<f64>) -> Result<Self> {
        let (mean, std) = mean_std(&values)
            .ok_or_else(|| Error::Internal("the mask of a picture has no values".into()))?;
        let share = |is: fn(f64) -> bool| {
            values.iter().filter(|&&v| is(v)).count() as f64 / values.len() as f64
        };
        let ends = [share(|v| v < 0.1), share(|v| v > 0.9)];
        values.sort_by(f64::total_cmp);
        Ok(Self {
            mean,
            std,
            percentiles: [0.05, 0.5, 0.95].map(|q| quantile(&values, q)),
            ends,
        })
    }

    fn is_constant(&self) -> bool {
        self.std < CONSTANT
    }
}

impl Aggregation {
    /// Everything, levels in 0 to 255.
    pub fn json(&self) -> Value {
        let m = &self.mask;
        let levels: serde_json::Map<String, Value> = LEVELS
            .iter()
            .zip(self.levels)
            .map(|(name, level)| (name.to_string(), json!(level)))
            .collect();
        json!({
            "model": self.model, "source": self.source, "place": self.place,
            "width": self.size[0], "height": self.size[1],
            "mean": m.mean, "std": m.std,
            "p5": m.percentiles[0], "p50": m.percentiles[1], "p95": m.percentiles[2],
            "below_0.1": m.ends[0], "above_0.9": m.ends[1],
            "levels": levels, "row_difference": self.difference,
            "verdict": self.verdict(),
        })
    }

    /// `None` if the mask varies.
    fn verdict(&self) -> Option<String> {
        let std = self.mask.std;
        self.mask.is_constant().then(|| {
            format!("standard deviation {std:.3} is below {CONSTANT}: the mask decides nothing")
        })
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [w, h] = self.size;
        writeln!(
            f,
            "aggregation of {} on {}, {w}x{h}, {}",
            self.model, self.source, self.place
        )?;
        let m = &self.mask;
        let [p5, p50, p95] = m.percentiles;
        writeln!(
            f,
            "mask M     mean {:.3}, standard deviation {:.3}, 5 % {p5:.3}, 50 % {p50:.3}, 95 % {p95:.3}",
            m.mean, m.std
        )?;
        let [below, above] = m.ends.map(|share| 100.0 * share);
        writeln!(
            f,
            "           {below:.1} % of it below 0.1, {above:.1} % above 0.9"
        )?;
        let [a, b, target, detail, output] = self.levels;
        writeln!(
            f,
            "levels     A {a:.1}, B {b:.1}, I_t {target:.1}, I_d {detail:.1}, output {output:.1}"
        )?;
        writeln!(f, "rows       mean |I_t - I_d| {:.1}", self.difference)?;
        match self.verdict() {
            Some(verdict) => writeln!(f, "verdict    {verdict}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_known_masks() {
        let values = (0..=100).map(|i| f64::from(i) / 100.0).collect();
        let m = Mask::of(values).unwrap();
        assert!((m.mean - 0.5).abs() < 1e-12 && (m.std - 0.291_547_6).abs() < 1e-6);
        for (found, expected) in m.percentiles.iter().zip([0.05, 0.5, 0.95]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
        assert_eq!(m.ends, [10.0 / 101.0, 10.0 / 101.0]);
        assert!(!m.is_constant());

        let flat = Mask::of(vec![0.49, 0.51, 0.5]).unwrap();
        assert!(flat.is_constant() && flat.ends == [0.0, 0.0]);
        // Between two values.
        assert_eq!(Mask::of(vec![0.0, 1.0]).unwrap().percentiles[1], 0.5);
        assert!(Mask::of(Vec::new()).is_err());
    }

    #[test]
    fn one_name_is_refused_and_none_is_the_drawn_pair() {
        let names: Vec<PathBuf> = ["a.png", "b.png"].map(PathBuf::from).into();
        assert_eq!(Source::new(&[]).unwrap(), Source::Drawn);
        assert!(matches!(Source::new(&names).unwrap(), Source::Files(_)));
        let text = Source::new(&names[..1]).unwrap_err().to_string();
        assert!(text.contains("takes two pictures"), "{text}");
        let (a, b) = Source::Drawn.read().unwrap();
        assert_eq!((a.width, a.luma.len()), (320, b.luma.len()));
    }
}
