//! Fused pictures judged by the field's own numbers.
//!
//! A is the first source (infrared, MRI), B the second (visible, PET), F the fused picture; all are 8-bit grey
//! ([`Grey`]) and all arithmetic is in f64 or in integers. Papers print different numbers under one name, so each variant is a
//! [`Metric`] of its own that says [whose it is](Metric::convention); the module of each holds its formula, constants, range and source.
//!
//! | metric | names | module |
//! |---|---|---|
//! | entropy | `en` | [`entropy`] |
//! | standard deviation | `sd`, `sd_u8sat` | [`contrast`] |
//! | spatial frequency, average gradient | `sf`, `ag`, `ag_mean` | [`detail`] |
//! | mutual information | `mi`, `mi_nats`, `mi_lt` | [`mutual`] |
//! | feature mutual information | `fmi_pixel` | [`fmi`] |
//! | correlations | `cc`, `scd` | [`correlation`] |
//! | distances | `mse`, `psnr`, `psnr_lt` | [`difference`] |
//! | visual information fidelity | `vif`, `vif_u8sat`, `viff` | [`vif`] |
//! | edges kept, edges added | `qabf`, `qabf_unit`; `nabf`, `nabf_unit` | [`qabf`], [`nabf`] |
//! | structural similarity | `ssim`, `ssim_lt`; `ssim_cdd` | [`ssim`], [`ssim_cdd`] |
//! | the same over scales | `ms_ssim`; `mef_ms_ssim` | [`ms_ssim`], [`mef_ssim`] |
//! | places lost at the ends of the range | `new_black`, `new_white` | [`clipping`] |
//! | detail that a tone curve explains | `tone_detail` | [`tone`] |
//!
//! [`gates`] judges a method over a set of pictures, with two measures more: [`plane`] and [`border`].
//!
//! What several metrics need (histograms, sums, differences, windows of a pyramid) is computed once for a [`measure`]. It runs
//! on the calling thread: give each thread a picture of its own.
//!
//! ```
//! use hafuse::metrics::{Grey, Metric, measure};
//!
//! let a = Grey::from_fn(20, 20, |x, y| (x * y / 2) as u8)?;
//! let b = Grey::from_fn(20, 20, |x, y| (10 * (x + y) / 2) as u8)?;
//! let fused = Grey::from_fn(20, 20, |x, y| a.values()[20 * y + x].max(b.values()[20 * y + x]))?;
//! let metrics = [Metric::En, "scd".parse()?, Metric::Vif];
//! let scores = measure(&a, &b, &fused, &metrics)?;
//! assert!(scores[0]? > 5.0 && scores[1].is_ok());
//! let reason = scores[2].unwrap_err();
//! assert_eq!(reason.to_string(), "20x20 pixels are too few, it needs 41 along each side");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod approx;
pub mod border;
mod cells;
pub mod clipping;
pub mod contrast;
pub mod correlation;
mod counts;
pub mod detail;
pub mod difference;
pub mod entropy;
pub mod fmi;
pub mod gates;
mod grey;
pub mod mef_ssim;
mod metric;
pub mod ms_ssim;
pub mod mutual;
pub mod nabf;
pub mod plane;
pub mod qabf;
mod sobel;
pub mod ssim;
pub mod ssim_cdd;
mod structure;
#[cfg(test)]
mod tests;
pub mod tone;
pub mod vif;
mod window;

pub use grey::Grey;
pub use metric::Metric;

use crate::{Error, Result};
use counts::{Joint, Sums};
use std::cell::OnceCell;

/// Why a metric has no value for some pictures; a table prints "-" and this below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undefined {
    /// The metric's windows do not fit.
    #[error("{width}x{height} pixels are too few, it needs {side} along each side")]
    TooSmall {
        /// Fewest pixels along each side.
        side: usize,
        /// Pixels in a row of the picture.
        width: usize,
        /// Rows of the picture.
        height: usize,
    },
    /// Qabf weighs by the sources' edges.
    #[error("neither source has an edge")]
    NoEdges,
    /// Shares of a variation need one.
    #[error("all pixels have one level")]
    Constant,
    /// Nothing to fit.
    #[error("no pixel lies between black and white")]
    Clipped,
    /// A mean needs a picture.
    #[error("no picture was judged")]
    NoPicture,
    /// The border needs the fusion itself.
    #[error("only what is fused here can be fused again with a margin")]
    NotFused,
}

/// A finite value, or why there is none.
pub type Score = std::result::Result<f64, Undefined>;

/// The metrics of a fused picture, in the order asked for.
///
/// Constant pictures and pictures of one row or one pixel have values wherever the formula, or the convention in the metric's module, gives one.
///
/// # Errors
/// [`Error::Shape`] if the three pictures differ in size.
pub fn measure(a: &Grey, b: &Grey, fused: &Grey, metrics: &[Metric]) -> Result<Vec<Score>> {
    same_size(a, b, fused)?;
    let shared = Shared::new(a, b, fused, metrics);
    Ok(metrics.iter().map(|&m| shared.score(m)).collect())
}

/// # Errors
/// [`Error::Shape`] if the three pictures differ in size.
fn same_size(a: &Grey, b: &Grey, fused: &Grey) -> Result<()> {
    let size = |x: &Grey| (x.width(), x.height());
    if size(a) != size(fused) || size(b) != size(fused) {
        let text = |x: &Grey| format!("{}x{}", x.width(), x.height());
        return Err(Error::shape(
            "metrics",
            format!(
                "source A is {}, source B {}, the fused picture {}; give three pictures of one size",
                text(a),
                text(b),
                text(fused)
            ),
        ));
    }
    Ok(())
}

/// What several metrics need, made when the first one asks.
struct Shared<'a> {
    a: &'a Grey,
    b: &'a Grey,
    f: &'a Grey,
    metrics: &'a [Metric],
    histogram: OnceCell<[u64; 256]>,
    joints: OnceCell<[Joint; 2]>,
    sums: OnceCell<Sums>,
    gradient: OnceCell<f64>,
    mi: OnceCell<f64>,
    qabf: OnceCell<qabf::Qabf>,
    nabf: OnceCell<nabf::Nabf>,
    fidelity: OnceCell<vif::Fidelity>,
    structure: OnceCell<structure::Structure>,
}

impl<'a> Shared<'a> {
    fn new(a: &'a Grey, b: &'a Grey, f: &'a Grey, metrics: &'a [Metric]) -> Self {
        Self {
            a,
            b,
            f,
            metrics,
            histogram: OnceCell::new(),
            joints: OnceCell::new(),
            sums: OnceCell::new(),
            gradient: OnceCell::new(),
            mi: OnceCell::new(),
            qabf: OnceCell::new(),
            nabf: OnceCell::new(),
            fidelity: OnceCell::new(),
            structure: OnceCell::new(),
        }
    }

    fn score(&self, metric: Metric) -> Score {
        let score = self.compute(metric);
        debug_assert!(
            score.is_err() || score.is_ok_and(f64::is_finite),
            "{metric}"
        );
        score
    }

    fn compute(&self, metric: Metric) -> Score {
        if !self.fits(metric) {
            return Err(Undefined::TooSmall {
                side: metric.least_side(),
                width: self.f.width(),
                height: self.f.height(),
            });
        }
        let pixels = self.f.len() as f64;
        Ok(match metric {
            Metric::En => entropy::en(self.histogram()),
            Metric::Sd => contrast::sd(self.f),
            Metric::SdU8sat => contrast::sd_u8sat(self.histogram()),
            Metric::Sf => detail::sf(self.f),
            Metric::Ag => {
                self.gradient_sum() / ((self.f.width() - 1) * (self.f.height() - 1)) as f64
            }
            Metric::AgMean => self.gradient_sum() / pixels,
            Metric::Mi => self.mi(),
            Metric::MiNats => self.mi() * std::f64::consts::LN_2,
            Metric::MiLt => mutual::mi_lt(self.joints()),
            Metric::FmiPixel => fmi::fmi_pixel(self.a, self.b, self.f),
            Metric::Cc => correlation::cc(self.sums()),
            Metric::Scd => correlation::scd(self.sums()),
            Metric::Mse => difference::mse(self.sums()),
            Metric::Psnr => difference::psnr(self.sums()),
            Metric::PsnrLt => difference::psnr_lt(self.sums()),
            Metric::Vif => self.fidelity().vif,
            Metric::VifU8sat => self.fidelity().u8sat,
            Metric::Viff => self.fidelity().viff,
            Metric::Qabf => self.qabf().levels?,
            Metric::QabfUnit => self.qabf().unit?,
            Metric::Nabf => self.nabf().levels,
            Metric::NabfUnit => self.nabf().unit,
            Metric::Ssim => self.structure().ssim,
            Metric::SsimLt => self.structure().ssim_lt,
            Metric::SsimCdd => ssim_cdd::ssim_cdd(self.a, self.b, self.f),
            Metric::MsSsim => self.structure().ms_ssim,
            Metric::MefMsSsim => self.structure().mef_ms_ssim,
            Metric::NewBlack => clipping::new_black(self.a, self.b, self.f),
            Metric::NewWhite => clipping::new_white(self.a, self.b, self.f),
            Metric::ToneDetail => tone::tone_detail(self.a, self.b, self.f)?,
        })
    }

    fn fits(&self, metric: Metric) -> bool {
        self.f.width().min(self.f.height()) >= metric.least_side()
    }

    fn wants(&self, metric: Metric) -> bool {
        self.metrics.contains(&metric) && self.fits(metric)
    }

    fn histogram(&self) -> &[u64; 256] {
        self.histogram.get_or_init(|| counts::histogram(self.f))
    }

    fn joints(&self) -> &[Joint; 2] {
        let make = || [self.a, self.b].map(|x| Joint::new(x, self.f));
        self.joints.get_or_init(make)
    }

    fn sums(&self) -> &Sums {
        self.sums.get_or_init(|| Sums::new(self.a, self.b, self.f))
    }

    fn gradient_sum(&self) -> f64 {
        *self.gradient.get_or_init(|| detail::gradient_sum(self.f))
    }

    fn mi(&self) -> f64 {
        *self.mi.get_or_init(|| mutual::mi(self.joints()))
    }

    fn qabf(&self) -> &qabf::Qabf {
        self.qabf.get_or_init(|| qabf::qabf(self.a, self.b, self.f))
    }

    fn nabf(&self) -> &nabf::Nabf {
        self.nabf.get_or_init(|| nabf::nabf(self.a, self.b, self.f))
    }

    fn fidelity(&self) -> &vif::Fidelity {
        self.fidelity.get_or_init(|| {
            let wanted = vif::Wanted {
                vif: self.wants(Metric::Vif),
                u8sat: self.wants(Metric::VifU8sat),
                viff: self.wants(Metric::Viff),
            };
            vif::fidelity(self.a, self.b, self.f, wanted)
        })
    }

    fn structure(&self) -> &structure::Structure {
        self.structure.get_or_init(|| {
            let wanted = structure::Wanted {
                ssim: self.wants(Metric::Ssim),
                ssim_lt: self.wants(Metric::SsimLt),
                ms_ssim: self.wants(Metric::MsSsim),
                mef_ms_ssim: self.wants(Metric::MefMsSsim),
            };
            structure::structure(self.a, self.b, self.f, wanted)
        })
    }
}
