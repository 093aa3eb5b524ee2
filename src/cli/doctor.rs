//! `hafuse doctor`: what this machine has and what this binary can use of it.

use super::{cpu_features, terminal};
use crate::device::Card;
use crate::device::cuda::{self, Cuda};
use crate::device::simd::simd;
use crate::device::{Device, kernels};
use crate::infer::{DEFAULT_MODEL, Engine, Model, Precision};
use crate::tape::SessionOptions;
use crate::units;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::fmt::Write;

const AFTER_HELP: &str = "\
Examples:
  hafuse doctor                what was found, and which device `--device auto` takes
  hafuse doctor --json         the same for scripts
  hafuse doctor --strict       exit code 5 unless a card passes its trial

Each card that can be used fuses a small picture in f32 and f16, compared with the CPU's result.
It passes if no grey value of 0 to 1 is off by more than 1e-4 in f32 and 2e-2 in f16.
f16 is the default on a card with tensor cores, f32 on others.
HAFUSE_SYNC=1 checks after every kernel and names the operator that failed.
HAFUSE_KERNELS=DIR loads kernels from DIR instead of those in the binary.
HAFUSE_CUDA_WAIT=spin, block or auto waits for a card by watching it, asleep, or as the driver does.
HAFUSE_SIMD=avx2 or portable has the CPU run narrower code than its best, to compare.";

/// Show driver, cards, kernels and CPU, and try every card
#[derive(clap::Args, Clone, Debug)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub struct DoctorArgs {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// End with exit code 5 unless a card passes its trial
    #[arg(long)]
    pub strict: bool,
}

/// Prints.
///
/// # Errors
/// Those of writing; with `--strict`, [`Error::Device`] if no card passed. Else what is missing is the finding, not a failure.
pub fn run(args: &DoctorArgs) -> Result<()> {
    let driver = cuda::driver_version();
    let (cards, problem) = match cuda::cards() {
        Ok(cards) => (cards, None),
        Err(e) => (Vec::new(), Some(e)),
    };
    let tried = cards.into_iter().map(|card| {
        let card = card?;
        let trial = try_card(&card);
        Ok((card, trial))
    });
    let tried: Vec<Result<Tried>> = tried.collect();
    let (auto, reason) = Device::auto();
    let precision = Precision::default_on(&auto);
    let driver_text = match &driver {
        Ok((major, minor)) => format!("for CUDA up to {major}.{minor}"),
        Err(e) => e.to_string(),
    };
    if args.json {
        terminal::print(
            &json!({
                "version": env!("CARGO_PKG_VERSION"),
                "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
                "cpu_features": cpu_features(),
                "simd": simd().name(),
                "threads": rayon::current_num_threads(),
                "driver": driver.as_ref().ok().map(|(major, minor)| format!("{major}.{minor}")),
                "driver_problem": driver.as_ref().err().map(ToString::to_string),
                "kernels": {"toolkit": kernels::TOOLKIT, "archs": kernels::ARCHS, "ptx": kernels::PTX},
                "cards_problem": problem.map(|e| e.to_string()),
                "cards": tried.iter().enumerate().map(card_json).collect::<Vec<_>>(),
                "auto": auto.to_string(),
                "auto_precision": precision.dtype().to_string(),
            })
            .to_string(),
        )?;
        return verdict(args, &tried);
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "hafuse   {} for {}-{}\ncpu      {} threads, {}; runs {}\nkernels  {}\ndriver   {driver_text}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
        rayon::current_num_threads(),
        cpu_features(),
        simd().name(),
        kernels::describe(),
    );
    for (ordinal, tried) in tried.iter().enumerate() {
        let _ = match tried {
            Ok((card, trial)) => writeln!(
                text,
                "cuda:{ordinal}   {card}, {} multiprocessors, {}\n         {}",
                card.multiprocessors,
                units::bytes(card.memory as u64),
                match trial {
                    Ok(t) => format!(
                        "{}: off from the CPU by {:.1e} in f32, {:.1e} in f16",
                        if t.passes() {
                            "works"
                        } else {
                            "computes wrong"
                        },
                        t.f32_error,
                        t.f16_error
                    ),
                    Err(e) => format!("cannot be used: {e}"),
                }
            ),
            Err(e) => writeln!(text, "cuda:{ordinal}   cannot be read: {e}"),
        };
    }
    let reason = reason.map_or(String::new(), |e| format!(" ({e})"));
    let _ = writeln!(text, "auto     takes {}{reason}", precision.place(&auto));
    terminal::print(&text)?;
    verdict(args, &tried)
}

/// Verdict of `--strict`, after all has been told.
fn verdict(args: &DoctorArgs, tried: &[Result<Tried>]) -> Result<()> {
    let passed = |tried: &Result<Tried>| {
        let trial = tried
            .as_ref()
            .ok()
            .and_then(|(_, trial)| trial.as_ref().ok());
        trial.is_some_and(Trial::passes)
    };
    if !args.strict || tried.iter().any(passed) {
        return Ok(());
    }
    Err(Error::Device {
        device: "cuda".into(),
        detail: format!("no card passed its trial (tried: {})", tried.len()),
        way_out: "the report on standard output says why".into(),
    })
}

/// A card and how it did.
type Tried = (Card, Result<Trial>);

/// Largest difference from the CPU's result, in grey values of 0 to 1.
struct Trial {
    f32_error: f32,
    f16_error: f32,
}

impl Trial {
    fn passes(&self) -> bool {
        // Wide enough for any order of sums; NaN passes nowhere.
        self.f32_error <= 1e-4 && self.f16_error <= 2e-2
    }
}

fn try_card(card: &Card) -> Result<Trial> {
    let device = Device::Cuda(Cuda::open(card.ordinal)?);
    let model = Model::builtin(DEFAULT_MODEL)?;
    let (h, w) = (48, 64);
    let wave = |k: usize| (0..h * w).map(|i| (i * k % 97) as f32 / 96.0).collect();
    let (a, b): (Vec<f32>, Vec<f32>) = (wave(5), wave(11));
    let fuse = |device: &Device, precision| {
        Engine::on(device, precision, &model, SessionOptions::default())?.fuse(h, w, &a, &b)
    };
    let cpu = fuse(&Device::Cpu, Precision::F32)?;
    let error = |precision| -> Result<f32> {
        let found = fuse(&device, precision)?;
        let pairs = found.iter().zip(&cpu);
        // `max` of f32 would swallow NaN.
        Ok(pairs.fold(0.0, |m: f32, (a, b)| {
            let d = (a - b).abs();
            if d > m || d.is_nan() { d } else { m }
        }))
    };
    Ok(Trial {
        f32_error: error(Precision::F32)?,
        f16_error: error(Precision::F16)?,
    })
}

fn card_json((ordinal, tried): (usize, &Result<Tried>)) -> Value {
    let (card, trial) = match tried {
        Ok(tried) => tried,
        Err(e) => return json!({"ordinal": ordinal, "problem": e.to_string()}),
    };
    let (major, minor) = card.capability;
    json!({
        "ordinal": ordinal, "name": card.name, "capability": format!("{major}.{minor}"),
        "multiprocessors": card.multiprocessors, "memory_bytes": card.memory, "l2_bytes": card.l2,
        "passes": trial.as_ref().is_ok_and(Trial::passes),
        "problem": trial.as_ref().err().map(ToString::to_string),
        "f32_error": trial.as_ref().ok().map(|t| t.f32_error),
        "f16_error": trial.as_ref().ok().map(|t| t.f16_error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_passes_within_its_limits_only() {
        let passes = |f32_error, f16_error| {
            let trial = Trial {
                f32_error,
                f16_error,
            };
            trial.passes()
        };
        assert!(passes(1e-6, 1e-3));
        assert!(!passes(1e-3, 1e-3) && !passes(1e-6, 0.1));
        assert!(!passes(f32::NAN, 1e-3) && !passes(1e-6, f32::NAN));
    }
}
