//! How much memory something takes and how much there is.

use super::terminal;
use crate::device::Device;
use crate::infer::Engine;
use crate::{Error, Result};
use std::path::Path;

/// Most memory this process has held so far; `None` where the system does not say.
pub fn peak_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

const FUSING: &str = "fusing that";

/// Says so if `what` needs more bytes than are free.
pub fn lacking(what: &str, needed: usize) -> Option<String> {
    let needed = needed as u64;
    let free = available_bytes().filter(|&free| free < needed)?;
    Some(format!(
        "{what} needs {} of memory, {} are free",
        terminal::bytes(needed),
        terminal::bytes(free)
    ))
}

/// The process itself with its weights.
pub const BASE_BYTES: usize = 64 << 20;

/// A number of bytes as a person writes it: `4GiB`, `500 MB`, `1.5G`, `1000000`.
///
/// # Errors
/// What is wrong with it, for clap.
pub fn parse_bytes(text: &str) -> std::result::Result<usize, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_lowercase();
    let scale: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => {
            return Err(format!(
                "`{unit}` is no unit of memory; write 4GiB, 500MB or a number of bytes"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` is no number; write 4GiB, 500MB or a number of bytes"))?;
    let bytes = number * scale as f64;
    match (1.0..=1e18).contains(&bytes) {
        true => Ok(bytes as usize),
        false => Err(format!("{text} is out of range; give at least one byte")),
    }
}

/// Bytes of a pair of pictures from reading to writing, beside what fusing takes: planes of both sources with colour
/// in f32, the result, samples and files.
pub fn picture_bytes(width: usize, height: usize) -> usize {
    width.saturating_mul(height).saturating_mul(32)
}

/// `--max-memory`, and what a worker may take of it.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub asked: usize,
    /// Beside [`BASE_BYTES`], with the pictures.
    pub bytes: usize,
}

impl Limit {
    /// All of it for one worker.
    pub fn new(asked: usize) -> Self {
        let bytes = asked.saturating_sub(BASE_BYTES);
        Self { asked, bytes }
    }

    /// Refuses a picture that needs more than this.
    fn check(self, needed: usize, path: &Path, size: (usize, usize)) -> Result<()> {
        if needed <= self.bytes {
            return Ok(());
        }
        let all = needed.saturating_add(BASE_BYTES) as u64;
        let (all, asked) = (terminal::bytes(all), terminal::bytes(self.asked as u64));
        let shortage = format!("{FUSING} needs {all}, --max-memory is {asked}; allow that much or");
        Err(too_large(path, size, &shortage))
    }
}

/// Has `engine` take no more than the limit with the pictures or, without one, than is free beside them; refuses a
/// picture for which that is too little: trying would end the process. Best asked before the pictures are read.
pub fn check_fits(
    engine: &mut Engine,
    most: Option<Limit>,
    path: &Path,
    (width, height): (usize, usize),
) -> Result<()> {
    let pictures = picture_bytes(width, height);
    // A card says so itself when it cannot allocate.
    if matches!(engine.device(), Device::Cuda(_)) {
        return most.map_or(Ok(()), |most| most.check(pictures, path, (width, height)));
    }
    engine.limit_memory(usize::MAX);
    let free = || available_bytes().map_or(usize::MAX, |free| free as usize);
    let limit = most.map_or_else(free, |most| most.bytes);
    let limit = limit.saturating_sub(pictures);
    if engine.planned_bytes(1, height, width)? <= limit {
        return Ok(());
    }
    engine.limit_memory(limit);
    let needed = engine.planned_bytes(1, height, width)?;
    match needed <= limit {
        true => Ok(()),
        false => check_bytes(needed, most, path, (width, height)),
    }
}

/// Refuses a picture whose fusion needs more bytes, beside the pictures, than the limit leaves or are free.
pub fn check_bytes(
    needed: usize,
    most: Option<Limit>,
    path: &Path,
    size: (usize, usize),
) -> Result<()> {
    let needed = needed.saturating_add(picture_bytes(size.0, size.1));
    match (most, lacking(FUSING, needed)) {
        (Some(most), _) => most.check(needed, path, size),
        (None, Some(shortage)) => Err(too_large(path, size, &format!("{shortage};"))),
        (None, None) => Ok(()),
    }
}

fn too_large(path: &Path, (width, height): (usize, usize), shortage: &str) -> Error {
    Error::input(
        path,
        format!("is {width}x{height}; {shortage} downscale it"),
    )
}

/// Memory that can be had without swapping; `None` where the system does not say.
pub fn available_bytes() -> Option<u64> {
    let system = field("/proc/meminfo", "MemAvailable:");
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok();
    let group = groups.and_then(|g| group_bytes(Path::new("/sys/fs/cgroup"), &g));
    system.into_iter().chain(group).min()
}

/// What a control group says of its memory: files of its limit, of its use, and the fields of `memory.stat` that count
/// cached files.
struct GroupFiles {
    limit: &'static str,
    used: &'static str,
    cached: [&'static str; 2],
}

const V1: GroupFiles = GroupFiles {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: ["total_active_file", "total_inactive_file"],
};
const V2: GroupFiles = GroupFiles {
    limit: "memory.max",
    used: "memory.current",
    cached: ["active_file", "inactive_file"],
};

/// What the limits of control groups leave; `groups` is the text of `/proc/self/cgroup`, `root` where groups are mounted.
/// A limit holds for all groups below, so each one up to the root is asked; within a container some are not to be seen.
fn group_bytes(root: &Path, groups: &str) -> Option<u64> {
    let mut free = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (top, files) = match controllers {
            "" => (root.to_path_buf(), V2),
            c if c.split(',').any(|c| c == "memory") => (root.join("memory"), V1),
            _ => continue,
        };
        let own = top.join(path.trim_start_matches('/'));
        let dirs = own.ancestors().take_while(|dir| dir.starts_with(&top));
        free.extend(dirs.filter_map(|dir| free_in(dir, &files)));
    }
    free.into_iter().min()
}

/// What a group's limit leaves. Cached files count as free: they give way.
fn free_in(dir: &Path, files: &GroupFiles) -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
    let number = |file: &str| -> Option<u64> { read(file)?.trim().parse().ok() };
    let limit = number(files.limit)?; // "max" is no number: no limit
    let used = number(files.used)?;
    let stat = read("memory.stat").unwrap_or_default();
    let cached: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| files.cached.contains(name))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

/// A field in kB of one of Linux's text files.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    let kb: u64 = line.split_whitespace().next()?.parse().ok()?;
    kb.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("500MB", 500_000_000),
            ("1.5 k", 1536),
            ("7", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "4 apples", "-3", "0", "1e99", "nan", "..GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn linux_tells_both() {
        assert!(peak_bytes() > Some(1 << 20));
        assert!(available_bytes() > Some(1 << 20));
    }

    #[test]
    fn cached_files_of_a_control_group_count_as_free() {
        let root = tempfile::tempdir().unwrap();
        let put = |dir: &str, files: &[(&str, &str)]| {
            let dir = root.path().join(dir);
            std::fs::create_dir_all(&dir).unwrap();
            for (name, text) in files {
                std::fs::write(dir.join(name), text).unwrap();
            }
        };
        // 8000 bytes of which 7800 are taken, 7000 of them by files; no limit of its own below.
        let stat = "anon 700\nfile 7100\nactive_file 3000\ninactive_file 4000\nshmem 100\n";
        put(
            "box",
            &[
                ("memory.max", "8000\n"),
                ("memory.current", "7800\n"),
                ("memory.stat", stat),
            ],
        );
        put(
            "box/job",
            &[("memory.max", "max\n"), ("memory.current", "10\n")],
        );
        put(
            "memory/job",
            &[
                ("memory.limit_in_bytes", "900\n"),
                ("memory.usage_in_bytes", "500\n"),
                (
                    "memory.stat",
                    "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 50\n",
                ),
            ],
        );
        let free = |groups: &str| group_bytes(root.path(), groups);
        assert_eq!(free("0::/box/job\n"), Some(7200));
        assert_eq!(free("0::/\n"), None);
        assert_eq!(free("5:cpu,memory:/job\n4:devices:/\n0::/\n"), Some(550));
        // The group's path outside of the container.
        assert_eq!(free("5:memory:/far/away\n"), None);
        assert_eq!(free("5:memory:/job/inner\n0::/box\n"), Some(550));
    }
}
