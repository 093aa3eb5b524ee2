//! What a latency table was measured for.

use crate::device::Device;
use crate::device::simd::{Portable, Simd, simd};
use crate::tensor::DType;
use serde::{Deserialize, Serialize};

/// What a table was measured for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyKey {
    /// A card by its name; the CPU by model, threads and vector extension, which all change its times.
    pub device: String,
    /// Element type: `f32` or `f16`.
    pub dtype: String,
    /// Pixels in a row of the measured pictures.
    pub width: usize,
    /// Rows of pixels of the measured pictures.
    pub height: usize,
    /// Channels C at full size.
    pub channels: usize,
    /// Version of `hafuse`, whose kernels these are.
    pub version: String,
}

impl LatencyKey {
    /// Of a table that this process would measure now.
    pub fn here(
        device: &Device,
        dtype: DType,
        (width, height): (usize, usize),
        channels: usize,
    ) -> Self {
        Self {
            device: match device {
                Device::Cpu => cpu_name(&cpu_model(), rayon::current_num_threads()),
                card => card.to_string(),
            },
            dtype: dtype.to_string(),
            width,
            height,
            channels,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// The first thing but channels in which two keys differ: its name, ours, theirs.
    pub(crate) fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let of = |k: &Self| {
            [
                ("device", k.device.clone()),
                ("dtype", k.dtype.clone()),
                ("size", format!("{}x{}", k.width, k.height)),
                ("version", k.version.clone()),
            ]
        };
        let mut both = of(self).into_iter().zip(of(other));
        let ((what, ours), (_, theirs)) = both.find(|(a, b)| a != b)?;
        Some((what, ours, theirs))
    }
}

/// `cpu (AMD EPYC 7B13, 2 threads, AVX2)`.
fn cpu_name(model: &str, threads: usize) -> String {
    let s = if threads == 1 { "" } else { "s" };
    format!("cpu ({model}, {threads} thread{s}{})", extension(simd()))
}

/// The vector extension that the kernels take.
fn extension(simd: Simd) -> &'static str {
    match simd {
        Simd::Avx512 => ", AVX-512",
        Simd::Avx2 => ", AVX2",
        Simd::Portable if Portable::FUSES => ", NEON",
        Simd::Portable => "",
    }
}

/// The CPU's own name where the system tells it, else the architecture.
fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    model_in(&text)
        .or_else(|| std::env::var("PROCESSOR_IDENTIFIER").ok())
        .unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// x86 has a name there; Arm has numbers of its maker and design.
fn model_in(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        let mut lines = cpuinfo.lines().filter_map(|l| l.split_once(':'));
        let (_, value) = lines.find(|(k, _)| k.trim() == key)?;
        let words: Vec<&str> = value.split_whitespace().collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    value("model name").or_else(|| {
        let (maker, part) = (value("CPU implementer")?, value("CPU part")?);
        Some(format!("implementer {maker} part {part}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_named_by_model_threads_and_extension() {
        let name = cpu_name("AMD EPYC 7B13", 2);
        assert!(name.starts_with("cpu (AMD EPYC 7B13, 2 threads"), "{name}");
        assert!(cpu_name("X", 1).starts_with("cpu (X, 1 thread"));
        assert_eq!(
            [Simd::Avx2, Simd::Avx512].map(extension),
            [", AVX2", ", AVX-512"]
        );
        let x86 =
            "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC  7B13\nmodel name\t: other\n";
        assert_eq!(model_in(x86).as_deref(), Some("AMD EPYC 7B13"));
        let arm = "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd42\n";
        assert_eq!(
            model_in(arm).as_deref(),
            Some("implementer 0x41 part 0xd42")
        );
        assert_eq!(model_in(""), None);
        let here = LatencyKey::here(&Device::Cpu, DType::F32, (24, 16), 4);
        let threads = format!(", {} thread", rayon::current_num_threads());
        assert!(here.device.contains(&threads), "{}", here.device);
    }
}
