//! How much memory this machine has left and how much this process took.

use std::path::Path;

/// Most memory this process has held so far; `None` where the system does not say.
pub fn peak_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
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
