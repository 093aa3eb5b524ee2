//! The kernel images that `build.rs` compiled into this binary.

/// Images hold structures of 8 bytes, which a driver may read as such.
#[repr(C, align(16))]
#[cfg_attr(not(test), allow(dead_code))] // a build without kernels has no image
struct Aligned<T>(T);

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Names a folder of `<module>.fatbin` files to load instead of those in the binary.
pub const FOLDER_VARIABLE: &str = "HAFUSE_KERNELS";

/// Chips of Tegra. Machine code of desktop cards of the same generation does not run on them, nor theirs on those (CUDA C++
/// Programming Guide, "Binary Compatibility").
const TEGRA: [u32; 6] = [53, 62, 72, 87, 101, 110];

/// The architecture of the code that a card of this compute capability runs, times 10: the newest
/// machine code of its generation, of Tegra chips their own alone, else the PTX. A folder of other kernels is taken to suit
/// the card.
pub fn code_for((major, minor): (u32, u32)) -> Option<u32> {
    let capability = 10 * major + minor;
    if std::env::var_os(FOLDER_VARIABLE).is_some() {
        return Some(capability);
    }
    choose(ARCHS, PTX, capability)
}

fn choose(archs: &[u32], ptx: Option<u32>, capability: u32) -> Option<u32> {
    let native = |arch: &u32| match TEGRA.contains(arch) || TEGRA.contains(&capability) {
        true => *arch == capability,
        false => arch / 10 == capability / 10 && *arch <= capability,
    };
    let best = archs.iter().copied().filter(native).max();
    best.or(ptx.filter(|&ptx| ptx <= capability))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_aligned() {
        for (name, image) in IMAGES {
            let at = image.map_or(0, |i| i.as_ptr() as usize);
            assert_eq!(at % 16, 0, "{name}");
        }
        assert_eq!(align_of_val(&Aligned(*b"x")), 16);
    }

    #[test]
    fn machine_code_of_the_generation_comes_before_ptx() {
        let archs = &[75, 80, 86, 90];
        for (card, code) in [(75, 75), (80, 80), (89, 86), (90, 90), (120, 80), (100, 80)] {
            assert_eq!(choose(archs, Some(80), card), Some(code), "sm_{card}");
        }
        assert_eq!(choose(archs, Some(80), 70), None);
        // Neither way between desktop cards and Tegra.
        assert_eq!(choose(archs, Some(80), 87), Some(80));
        assert_eq!(choose(&[80, 87], Some(80), 89), Some(80));
        assert_eq!(choose(&[80, 87], Some(80), 87), Some(87));
        assert_eq!(choose(&[70, 72], None, 72), Some(72));
        assert_eq!(choose(&[70], None, 72), None);
        assert_eq!(choose(&[100], Some(80), 101), Some(80));
        // A build for an old card alone runs its PTX on newer ones, without their instructions.
        assert_eq!(choose(&[61], Some(61), 86), Some(61));
        assert_eq!(choose(&[], None, 86), None);
    }
}
