//! The kernel images that `build.rs` compiled into this binary.

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Names a folder of `<module>.fatbin` files to load instead of those in the binary.
pub const FOLDER_VARIABLE: &str = "HAFUSE_KERNELS";

/// Whether any image, or else the PTX, runs on a card of this compute capability.
pub fn fits((major, minor): (u32, u32)) -> bool {
    let capability = 10 * major + minor;
    let native = |arch: &u32| arch / 10 == major && *arch <= capability;
    ARCHS.iter().any(native) || PTX.is_some_and(|ptx| ptx <= capability)
}

/// What kind of cards this binary has kernels for, for people.
pub fn describe() -> String {
    let Some(toolkit) = TOOLKIT else {
        return "none (built without nvcc)".into();
    };
    let archs: Vec<String> = ARCHS.iter().map(|a| format!("sm_{a}")).collect();
    let ptx = PTX.map_or(String::new(), |p| format!(", PTX compute_{p}"));
    format!("{}{ptx} ({toolkit})", archs.join(" "))
}
