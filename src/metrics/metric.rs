//! The list of metrics: names, labels, whose convention each follows.

use super::{mef_ssim, ms_ssim, ssim_cdd, vif};
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A number by which a fused picture is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Metric {
    /// Entropy of the histogram of F, in bits; higher is better.
    En,
    /// Standard deviation, in grey levels; higher is better.
    Sd,
    /// Standard deviation in saturating 8-bit arithmetic, as in the paper; higher is better.
    SdU8sat,
    /// Spatial frequency, in grey levels; higher is better.
    Sf,
    /// Average gradient, the sum divided by (H - 1)(W - 1), in grey levels; higher is better.
    Ag,
    /// Average gradient, the mean over all pixels, in grey levels; higher is better.
    AgMean,
    /// Mutual information with both sources, in bits; higher is better.
    Mi,
    /// Mutual information with both sources, in nats; higher is better.
    MiNats,
    /// Mutual information in bits, joint levels 254 and 255 taken for one; higher is better.
    MiLt,
    /// Feature mutual information of raw pixels in 3 x 3 windows; higher is better.
    FmiPixel,
    /// Correlation coefficient with both sources, their mean, -1 to 1; higher is better.
    Cc,
    /// Sum of the correlations of differences, -2 to 2; higher is better.
    Scd,
    /// Mean squared error against both sources, levels in 0..1; lower is better.
    Mse,
    /// Peak signal-to-noise ratio against both sources, in dB, peak 1; higher is better.
    Psnr,
    /// Peak signal-to-noise ratio with peak 255 on levels 0..1, in dB; higher is better.
    PsnrLt,
    /// Visual information fidelity, summed over both sources; higher is better.
    Vif,
    /// Visual information fidelity in saturating 8-bit arithmetic, the paper's; higher is better.
    VifU8sat,
    /// Visual information fidelity for fusion (Han et al. 2013); higher is better.
    Viff,
    /// Share of the sources' edges that F keeps, levels 0..255; higher is better.
    Qabf,
    /// Share of the sources' edges that F keeps, levels 0..1; higher is better.
    QabfUnit,
    /// Share of edges of F that neither source has, levels 0..255; lower is better.
    Nabf,
    /// Share of edges of F that neither source has, levels 0..1; lower is better.
    NabfUnit,
    /// Structural similarity with both sources, their mean, L = 255; higher is better.
    Ssim,
    /// Structural similarity with both sources, their mean, L = 1; higher is better.
    SsimLt,
    /// Structural similarity with both sources, their sum, L = 2; higher is better.
    SsimCdd,
    /// Multi-scale structural similarity over five scales; higher is better.
    MsSsim,
    /// Structural similarity for multi-exposure fusion over three scales; higher is better.
    MefMsSsim,
    /// Percent of pixels that a source shows and F has lost in black; lower is better.
    NewBlack,
    /// Percent of pixels that no source has near white and F has lost in white; lower is better.
    NewWhite,
    /// Share of the fine detail of F that a tone curve of both sources explains; lower is better.
    ToneDetail,
}

struct Facts {
    name: &'static str,
    label: &'static str,
    convention: &'static str,
    higher_is_better: bool,
    least_side: usize,
}

impl Metric {
    /// All of them, in the order of tables.
    pub const ALL: [Metric; 30] = [
        Metric::En,
        Metric::Sd,
        Metric::SdU8sat,
        Metric::Sf,
        Metric::Ag,
        Metric::AgMean,
        Metric::Mi,
        Metric::MiNats,
        Metric::MiLt,
        Metric::FmiPixel,
        Metric::Cc,
        Metric::Scd,
        Metric::Mse,
        Metric::Psnr,
        Metric::PsnrLt,
        Metric::Vif,
        Metric::VifU8sat,
        Metric::Viff,
        Metric::Qabf,
        Metric::QabfUnit,
        Metric::Nabf,
        Metric::NabfUnit,
        Metric::Ssim,
        Metric::SsimLt,
        Metric::SsimCdd,
        Metric::MsSsim,
        Metric::MefMsSsim,
        Metric::NewBlack,
        Metric::NewWhite,
        Metric::ToneDetail,
    ];

    /// The four of the paper's tables, in the variants that they were printed with.
    pub const PAPER: [Metric; 4] = [Metric::SdU8sat, Metric::VifU8sat, Metric::Cc, Metric::Scd];

    #[rustfmt::skip]
    fn facts(self) -> Facts {
        const LT: &str = "Evaluation-for-Image-Fusion";
        const LT_NOW: &str = "Evaluation-for-Image-Fusion since March 2023, MMIF-CDDFuse";
        const LT_2022: &str = "Evaluation-for-Image-Fusion before March 2023, as in the paper's tables";
        const CDD: &str = "MMIF-CDDFuse";
        const ALL: &str = "all toolboxes";
        const GATES: &str = "hafuse's gates, no toolbox";
        let (name, label, convention, higher_is_better, least_side) = match self {
            Metric::En => ("en", "EN", ALL, true, 1),
            Metric::Sd => ("sd", "SD", LT_NOW, true, 1),
            Metric::SdU8sat => ("sd_u8sat", "SD (paper)", LT_2022, true, 1),
            Metric::Sf => ("sf", "SF", "MMIF-CDDFuse, Evaluation-for-Image-Fusion since March 2023 (before, it printed this / 255)", true, 2),
            Metric::Ag => ("ag", "AG", LT, true, 2),
            Metric::AgMean => ("ag_mean", "AG (mean)", CDD, true, 2),
            Metric::Mi => ("mi", "MI", "Evaluation-for-Image-Fusion in bits, without its slip at levels 254 and 255", true, 1),
            Metric::MiNats => ("mi_nats", "MI (nats)", CDD, true, 1),
            Metric::MiLt => ("mi_lt", "MI (LT)", "Evaluation-for-Image-Fusion in bits, with its slip at levels 254 and 255", true, 1),
            Metric::FmiPixel => ("fmi_pixel", "FMI (pixel)", "Fast-FMI (Haghighat and Razian 2014), raw pixels", true, 3),
            Metric::Cc => ("cc", "CC", ALL, true, 1),
            Metric::Scd => ("scd", "SCD", ALL, true, 1),
            Metric::Mse => ("mse", "MSE", LT, false, 1),
            Metric::Psnr => ("psnr", "PSNR", "no toolbox: peak 1 on levels 0..1", true, 1),
            Metric::PsnrLt => ("psnr_lt", "PSNR (LT)", "Evaluation-for-Image-Fusion: peak 255 on levels 0..1", true, 1),
            Metric::Vif => ("vif", "VIF", LT_NOW, true, vif::LEAST_SIDE),
            Metric::VifU8sat => ("vif_u8sat", "VIF (paper)", LT_2022, true, vif::LEAST_SIDE),
            Metric::Viff => ("viff", "VIFF", "published code of Han et al. 2013", true, vif::LEAST_SIDE),
            Metric::Qabf => ("qabf", "Qabf", LT_NOW, true, 1),
            Metric::QabfUnit => ("qabf_unit", "Qabf (0..1)", "Evaluation-for-Image-Fusion before March 2023, hli1221", true, 1),
            Metric::Nabf => ("nabf", "Nabf", "IVIF_ZOO, levels 0..255", false, 1),
            Metric::NabfUnit => ("nabf_unit", "Nabf (0..1)", "hli1221, levels 0..1", false, 1),
            Metric::Ssim => ("ssim", "SSIM", "hli1221, L = 255", true, 1),
            Metric::SsimLt => ("ssim_lt", "SSIM (LT)", "Evaluation-for-Image-Fusion since March 2023, L = 1", true, 1),
            Metric::SsimCdd => ("ssim_cdd", "SSIM (CDD)", "MMIF-CDDFuse, a sum, L = 2", true, ssim_cdd::SIDE),
            Metric::MsSsim => ("ms_ssim", "MS-SSIM", "Wang et al. 2003", true, ms_ssim::LEAST_SIDE),
            Metric::MefMsSsim => ("mef_ms_ssim", "MEF-SSIM", "\"MS_SSIM\" of Evaluation-for-Image-Fusion and hli1221", true, mef_ssim::LEAST_SIDE),
            Metric::NewBlack => ("new_black", "new black (%)", GATES, false, 1),
            Metric::NewWhite => ("new_white", "new white (%)", GATES, false, 1),
            Metric::ToneDetail => ("tone_detail", "tone detail", GATES, false, 1),
        };
        Facts { name, label, convention, higher_is_better, least_side }
    }

    /// The name on the command line and in files: `vif_u8sat`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name at the head of a table's column: `VIF (paper)`.
    pub fn label(self) -> &'static str {
        self.facts().label
    }

    /// The label with what is not as for most: `MSE (lower is better)`.
    pub fn heading(self) -> String {
        match self.higher_is_better() {
            true => self.label().to_string(),
            false => format!("{} (lower is better)", self.label()),
        }
    }

    /// Whose numbers these are comparable with, and what sets them apart.
    pub fn convention(self) -> &'static str {
        self.facts().convention
    }

    /// Whether a larger value is meant to be a better picture.
    pub fn higher_is_better(self) -> bool {
        self.facts().higher_is_better
    }

    /// The fewest pixels along the shorter side for which the metric is defined.
    pub fn least_side(self) -> usize {
        self.facts().least_side
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    /// From [`Metric::name`], in any case.
    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL
            .into_iter()
            .find(|m| m.name().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| {
            Error::config(
                "metric",
                format!(
                    "{text:?} is not known; give one of {}",
                    Self::ALL.map(Self::name).join(", ")
                ),
            )
        })
    }
}
