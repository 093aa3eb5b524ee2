//! The options that choose where and in which precision to compute.

use super::terminal;
use crate::Result;
use crate::device::Device;
use crate::device::cuda::driver_version;
use crate::infer::Precision;
use clap::ValueEnum;

/// `--device`.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceArg {
    /// Where to compute: cpu, cuda (the first card), cuda:N, or auto: a card if one can be used
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
}

impl DeviceArg {
    /// Opens the device. With `auto`, a card that is there but cannot be used is named in a line; which
    /// device it became stands in the result.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if a card was asked for and cannot be used.
    pub fn open(&self) -> Result<Device> {
        if self.device != "auto" {
            return Device::open(&self.device);
        }
        let (device, reason) = Device::auto();
        // Most machines have no driver; that is no news.
        if let Some(reason) = reason.filter(|_| driver_version().is_ok()) {
            terminal::say(&format!("note: computing on the CPU: {reason}"));
        }
        Ok(device)
    }
}

/// `--precision`.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct PrecisionArg {
    /// Element type of the network [default: f16 on a card, f32 on the CPU]
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
    /// What was asked for, or what suits the device.
    pub fn on(self, device: &Device) -> Precision {
        match self.precision {
            None => Precision::default_on(device),
            Some(PrecisionName::F32) => Precision::F32,
            Some(PrecisionName::F16) => Precision::F16,
        }
    }
}
