//! The options that choose where and in which precision to compute.

use super::terminal;
use crate::baseline::Baseline;
use crate::device::Device;
use crate::device::cuda::has_driver;
use crate::infer::Precision;
use crate::{Error, Fuser, FuserBuilder, Result};
use clap::ValueEnum;

/// `--device`.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceArg {
    /// Where to compute: cpu, cuda (the first card), cuda:N, or auto: a card if one can be used
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
}

impl DeviceArg {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`] if a card was asked for and cannot be used.
    pub fn open(&self) -> Result<Device> {
        self.open_or_why().map(|(device, _)| device)
    }

    /// Opens the device. With `auto`, a card or a driver that is there but cannot be used is named in a line; where the
    /// CPU is taken for want of a card, the reason comes too, without a way out.
    ///
    /// # Errors
    /// As [`DeviceArg::open`].
    pub fn open_or_why(&self) -> Result<(Device, Option<String>)> {
        if self.device != "auto" {
            return Ok((Device::open(&self.device)?, None));
        }
        let (device, reason) = Device::auto();
        let on_cpu = matches!(device, Device::Cpu);
        // Most machines have no driver; that is no news.
        if let Some(reason) = reason.as_ref().filter(|_| has_driver()) {
            let place = match on_cpu {
                true => "the CPU".into(),
                false => device.to_string(),
            };
            terminal::say(&format!("note: computing on {place}: {reason}"));
        }
        let why = reason.filter(|_| on_cpu).map(|e| match e {
            Error::Device { device, detail, .. } => format!("device {device}: {detail}"),
            e => e.to_string(),
        });
        Ok((device, why))
    }
}

/// `--precision`.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct PrecisionArg {
    /// Element type of the network [default: f16 on a card with tensor cores, else f32]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
}

/// [`Precision`] as a command line value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    F32,
    F16,
}

impl PrecisionArg {
    /// A fuser of this precision or, if none was asked for, of what suits its device.
    pub fn of(self, builder: FuserBuilder) -> FuserBuilder {
        match self.precision {
            None => builder,
            Some(PrecisionName::F32) => builder.precision(Precision::F32),
            Some(PrecisionName::F16) => builder.precision(Precision::F16),
        }
    }

    /// The fuser of a rule; it runs on the CPU in f32 only, so nothing else may have been asked for.
    ///
    /// # Errors
    /// [`Error::Config`] if it was.
    pub fn of_rule(self, rule: Baseline, device: &DeviceArg) -> Result<FuserBuilder> {
        if !matches!(device.device.as_str(), "auto" | "cpu") {
            return Err(Error::config(
                "--device",
                format!(
                    "{rule} runs on the CPU only, {} was asked for; leave --device out",
                    device.device
                ),
            ));
        }
        Ok(self.of(Fuser::builder().rule(rule).device(Device::Cpu)))
    }

    /// What was asked for, or what suits the device.
    pub fn on(self, device: &Device) -> Precision {
        match self.precision {
            None => Precision::default_on(device),
            Some(PrecisionName::F32) => Precision::F32,
            Some(PrecisionName::F16) => Precision::F16,
        }
    }
}
