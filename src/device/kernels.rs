//! The kernel images that `build.rs` compiled into this binary, and those of a folder that take their place.

use super::Card;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

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
/// the card until it is opened.
pub fn code_for((major, minor): (u32, u32)) -> Option<u32> {
    let capability = 10 * major + minor;
    if std::env::var_os(FOLDER_VARIABLE).is_some() {
        return Some(capability);
    }
    choose(ARCHS, PTX.as_slice(), capability)
}

fn choose(archs: &[u32], ptx: &[u32], capability: u32) -> Option<u32> {
    let native = |arch: &u32| match TEGRA.contains(arch) || TEGRA.contains(&capability) {
        true => *arch == capability,
        false => arch / 10 == capability / 10 && *arch <= capability,
    };
    let best = archs.iter().copied().filter(native).max();
    let older = ptx.iter().copied().filter(|&ptx| ptx <= capability);
    best.or(older.max())
}

fn path_in(folder: &Path, module: &str) -> PathBuf {
    folder.join(format!("{module}.fatbin"))
}

/// The image of a module in a folder of [`FOLDER_VARIABLE`].
pub(super) fn read_from(folder: &Path, module: &str) -> Result<Vec<u8>> {
    let path = path_in(folder, module);
    std::fs::read(&path).map_err(|e| Error::input(&path, e))
}

/// What [`code_for`] is of a folder, whose files may be for different cards: the oldest.
///
/// # Errors
/// [`Error::Input`] that names a file that is not there, [`Error::Device`] one that has nothing for the card. What is
/// no fatbin is left to the driver.
pub(super) fn check_folder(folder: &Path, card: &Card) -> Result<u32> {
    let (major, minor) = card.capability;
    let capability = 10 * major + minor;
    let mut oldest = capability;
    for (module, _) in IMAGES {
        let Some(contents) = contents(&read_from(folder, module)?) else {
            continue;
        };
        let code = choose(&contents.archs, &contents.ptx, capability);
        oldest = oldest.min(code.ok_or_else(|| Error::Device {
            device: format!("cuda:{}", card.ordinal),
            detail: format!(
                "{} has kernels for {}, not for {card}",
                path_in(folder, module).display(),
                list(&contents.archs, &contents.ptx)
            ),
            way_out: format!("name a folder for sm_{capability} in {FOLDER_VARIABLE}, or unset it"),
        })?);
    }
    Ok(oldest)
}

/// Compute capabilities of what a fatbin holds, times 10.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    archs: Vec<u32>,
    ptx: Vec<u32>,
}

/// Reads the headers of a fatbin: one of the file (magic number, version, its own size, size of what follows), then one
/// before each image (kind, version, its own size, size of the image, and from byte 28 the architecture). `None` for
/// what is no whole fatbin.
fn contents(image: &[u8]) -> Option<Contents> {
    const MAGIC: u32 = 0xba55_ed50;
    const PTX_KIND: u16 = 1;
    const MACHINE_CODE: u16 = 2;
    let half = |at: usize| Some(u16::from_le_bytes(*image.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_le_bytes(*image.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_le_bytes(*image.get(at..)?.first_chunk()?));
    if word(0)? != MAGIC {
        return None;
    }
    let mut at = usize::from(half(6)?);
    let end = at.checked_add(usize::try_from(long(8)?).ok()?)?;
    if end > image.len() {
        return None;
    }
    let (mut archs, mut ptx) = (Vec::new(), Vec::new());
    while at < end {
        match half(at)? {
            PTX_KIND => ptx.push(word(at + 28)?),
            MACHINE_CODE => archs.push(word(at + 28)?),
            _ => {}
        }
        let size = usize::try_from(long(at + 8)?).ok()?;
        let size = size.checked_add(word(at + 4)? as usize)?;
        // Nothing would go round for ever.
        at = at.checked_add(Some(size).filter(|&size| size > 0)?)?;
    }
    (at == end).then_some(Contents { archs, ptx })
}

fn list(archs: &[u32], ptx: &[u32]) -> String {
    let archs = archs.iter().map(|a| format!("sm_{a}"));
    let ptx = ptx.iter().map(|p| format!("PTX compute_{p}"));
    let all: Vec<String> = archs.chain(ptx).collect();
    match all.is_empty() {
        true => "no card".into(),
        false => all.join(", "),
    }
}

/// What kind of cards this binary has kernels for, for people.
pub fn describe() -> String {
    let Some(toolkit) = TOOLKIT else {
        return "none (built without nvcc)".into();
    };
    format!("{} ({toolkit})", list(ARCHS, PTX.as_slice()))
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
            assert_eq!(choose(archs, &[80], card), Some(code), "sm_{card}");
        }
        assert_eq!(choose(archs, &[80], 70), None);
        // Neither way between desktop cards and Tegra.
        assert_eq!(choose(archs, &[80], 87), Some(80));
        assert_eq!(choose(&[80, 87], &[80], 89), Some(80));
        assert_eq!(choose(&[80, 87], &[80], 87), Some(87));
        assert_eq!(choose(&[70, 72], &[], 72), Some(72));
        assert_eq!(choose(&[70], &[], 72), None);
        assert_eq!(choose(&[100], &[80], 101), Some(80));
        // A build for an old card alone runs its PTX on newer ones, without their instructions.
        assert_eq!(choose(&[61], &[61], 86), Some(61));
        assert_eq!(choose(&[], &[], 86), None);
        assert_eq!(choose(&[], &[61, 80, 90], 86), Some(80));
    }

    /// The headers of a fatbin with images of 24 bytes: kind (1 is PTX) and architecture.
    fn fatbin(images: &[(u16, u32)]) -> Vec<u8> {
        let mut all = Vec::new();
        for &(kind, arch) in images {
            let mut header = [0u8; 64 + 24];
            header[..2].copy_from_slice(&kind.to_le_bytes());
            header[4..8].copy_from_slice(&64u32.to_le_bytes());
            header[8..16].copy_from_slice(&24u64.to_le_bytes());
            header[28..32].copy_from_slice(&arch.to_le_bytes());
            all.extend(header);
        }
        let mut file = 0xba55_ed50_u32.to_le_bytes().to_vec();
        file.extend([1, 0, 16, 0]);
        file.extend((all.len() as u64).to_le_bytes());
        [file, all].concat()
    }

    #[test]
    fn a_fatbin_says_what_it_holds() {
        let image = fatbin(&[(2, 75), (2, 87), (1, 80)]);
        let (archs, ptx) = (vec![75, 87], vec![80]);
        assert_eq!(contents(&image), Some(Contents { archs, ptx }));
        // Cut or foreign files are the driver's to judge.
        for cut in 0..image.len() {
            assert_eq!(contents(&image[..cut]), None, "{cut} bytes");
        }
        assert_eq!(contents(b"hafuse-emulated:conv\n"), None);
        // Sizes that lead nowhere: nothing, too much, to the middle of another image.
        for (from, value) in [(20, 0), (24, 0xff), (24, 1)] {
            let mut wrong = image.clone();
            wrong[from..32].fill(value);
            assert_eq!(contents(&wrong), None, "{value} from byte {from}");
        }
        // Those of this binary, if it has any, say what the build says.
        for (name, image) in IMAGES {
            let Some(found) = image.map(|i| contents(i).expect(name)) else {
                continue;
            };
            assert_eq!(
                (&*found.archs, &*found.ptx),
                (ARCHS, PTX.as_slice()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_file_for_another_card_is_named() {
        let card = Card {
            ordinal: 1,
            name: "card".into(),
            capability: (8, 0),
            code: Some(80),
            multiprocessors: 4,
            memory: 0,
            l2: 0,
        };
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, image: &[u8]| {
            std::fs::write(path_in(folder.path(), name), image).unwrap();
        };
        for (name, _) in IMAGES {
            write(name, &fatbin(&[(2, 80), (1, 75)]));
        }
        assert_eq!(check_folder(folder.path(), &card).unwrap(), 80);
        write("conv", &fatbin(&[(2, 90), (1, 75)]));
        assert_eq!(check_folder(folder.path(), &card).unwrap(), 75);
        write("conv", &fatbin(&[(2, 90), (1, 90)]));
        let e = check_folder(folder.path(), &card).unwrap_err();
        let said = e.to_string();
        assert!(matches!(e, Error::Device { .. }), "{said}");
        for words in ["conv.fatbin", "sm_90, PTX compute_90", "card (sm_80)"] {
            assert!(said.contains(words), "{said}");
        }
        std::fs::remove_file(path_in(folder.path(), "conv")).unwrap();
        let e = check_folder(folder.path(), &card).unwrap_err();
        assert!(matches!(e, Error::Input { .. }), "{e}");
    }
}
