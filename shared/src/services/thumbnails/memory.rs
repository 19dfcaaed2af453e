//! Determines how much memory this process may use: what the machine has, and what its cgroups allow.
//!
//! The kernel kills a process that uses more than its cgroup allows, without a log entry. So the budget for decoding
//! images follows the smallest limit that applies, at each level of the hierarchy and in both versions of cgroups.

use std::path::{Path, PathBuf};

/// Enough for the largest accepted JPEG.
pub(super) const LARGE_JPEG: u64 = 384 << 20;
/// Enough for a JPEG of 12 megapixels at the size of a tile in the gallery.
pub(super) const LEAST: u64 = 64 << 20;
/// Memory for everything except thumbnails on a small machine: requests, the catalog, code.
const RESERVE: u64 = 96 << 20;

/// How many bytes thumbnails may use if the process may use `available` bytes in total: a quarter. On a small machine
/// more, because there a quarter is too little for large images; and never less than a photograph takes.
pub(super) fn budget(available: Option<u64>) -> u64 {
    match available {
        Some(available) => (available / 4).max(available.saturating_sub(RESERVE).min(LARGE_JPEG)).max(LEAST),
        None => LARGE_JPEG,
    }
}

/// The bytes of memory that this process may use, if the system reports a limit. Blocks briefly.
pub fn available() -> Option<u64> {
    available_by(&|path| std::fs::read_to_string(path).ok())
}

/// Like [`available`], with the files of `/proc` and `/sys` as `read` returns them.
fn available_by(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|meminfo| {
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let cgroups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let limits = mounts.lines().filter_map(Hierarchy::parse).filter_map(|hierarchy| hierarchy.limit(&cgroups, read));
    limits.chain(machine).min()
}

/// A mounted cgroup hierarchy that can limit memory.
struct Hierarchy<'a> {
    /// The cgroup at the mount point; not `/` in a container without a cgroup namespace of its own.
    root: &'a str,
    point: &'a Path,
    is_v2: bool,
}

impl<'a> Hierarchy<'a> {
    /// Parses a line of `/proc/self/mountinfo`; see proc_pid_mountinfo(5). Cgroup paths need none of that file's
    /// escapes.
    fn parse(line: &'a str) -> Option<Self> {
        let (first, second) = line.split_once(" - ")?;
        let mut first = first.split(' ').skip(3);
        let (root, point) = (first.next()?, Path::new(first.next()?));
        let mut second = second.split(' ');
        let (kind, options) = (second.next()?, second.nth(1).unwrap_or_default());
        let is_v2 = kind == "cgroup2";
        let limits_memory = is_v2 || (kind == "cgroup" && options.split(',').any(|option| option == "memory"));
        limits_memory.then_some(Self { root, point, is_v2 })
    }

    /// The smallest limit from this process's cgroup up to the mount point; `cgroups` is `/proc/self/cgroup`.
    fn limit(&self, cgroups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
        let own = cgroups.lines().find_map(|line| {
            // Number, controllers, path; the line of version 2 has no controllers.
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let is_this =
                if self.is_v2 { controllers.is_empty() } else { controllers.split(',').any(|c| c == "memory") };
            is_this.then_some(path)
        });
        let below = own.and_then(|own| Path::new(own).strip_prefix(self.root).ok()).unwrap_or(Path::new(""));
        // Above `memory.high` a process is not killed but throttled until it hardly runs.
        let names: &[&str] = if self.is_v2 { &["memory.max", "memory.high"] } else { &["memory.limit_in_bytes"] };
        let levels = below.ancestors().map(|level| self.point.join(level));
        let files = levels.flat_map(|level: PathBuf| names.iter().map(move |name| level.join(name)));
        // Without a limit, version 2 contains `max`, and version 1 a number larger than any machine's memory.
        files.filter_map(|file| read(&file)?.trim().parse().ok()).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const MIB: u64 = 1 << 20;
    const V1: &str = "14 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
    const V2: &str = "14 31 0:32 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn available_with(files: &[(&str, &str)]) -> Option<u64> {
        let files: HashMap<&Path, &str> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
        available_by(&|path| files.get(path).map(|text| (*text).to_owned()))
    }

    #[test]
    fn memory_of_the_machine_is_the_limit_without_cgroups() {
        assert_eq!(available_with(&[("/proc/meminfo", "MemTotal:  524288 kB\nMemFree: 1 kB\n")]), Some(512 * MIB));
        assert_eq!(available_with(&[]), None);
    }

    #[test]
    fn smallest_limit_of_nested_v2_cgroups_applies() {
        let path = "/sys/fs/cgroup/a/b/memory";
        let (max, high) = (format!("{path}.max"), format!("{path}.high"));
        let with = |files: &[(&str, &str)]| {
            let common = [
                ("/proc/meminfo", "MemTotal: 4194304 kB"),
                ("/proc/self/cgroup", "0::/a/b\n"),
                ("/proc/self/mountinfo", V2),
            ];
            available_with(&[&common[..], files].concat())
        };
        assert_eq!(with(&[(&max, "max\n"), (&high, "max\n")]), Some(4096 * MIB));
        assert_eq!(with(&[(&max, "268435456\n"), (&high, "max\n")]), Some(256 * MIB));
        assert_eq!(with(&[(&max, "268435456\n"), (&high, "134217728\n")]), Some(128 * MIB));
        assert_eq!(with(&[(&max, "max\n"), ("/sys/fs/cgroup/a/memory.max", "134217728\n")]), Some(128 * MIB));
        assert_eq!(with(&[("/sys/fs/cgroup/memory.max", "67108864\n")]), Some(64 * MIB));
    }

    #[test]
    fn smallest_limit_of_nested_v1_cgroups_applies() {
        let cgroups = "5:cpu,cpuacct:/x\n4:hugetlb,memory:/a/b\n0::/other\n";
        let unlimited = ("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        let with = |files: &[(&str, &str)]| {
            let common = [("/proc/meminfo", "MemTotal: 4194304 kB"), ("/proc/self/cgroup", cgroups)];
            available_with(&[&common[..], &[("/proc/self/mountinfo", V1)], files].concat())
        };
        assert_eq!(with(&[unlimited]), Some(4096 * MIB));
        assert_eq!(
            with(&[unlimited, ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "268435456\n")]),
            Some(256 * MIB)
        );
    }

    #[test]
    fn container_finds_its_cgroup_where_the_mount_begins_below_the_root() {
        let mount = "14 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        for path in ["/docker/abc", "/docker/elsewhere", "/"] {
            let found = available_with(&[
                ("/proc/self/cgroup", &format!("4:memory:{path}\n")),
                ("/proc/self/mountinfo", mount),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
            ]);
            assert_eq!(found, Some(256 * MIB), "{path}");
        }
    }

    #[test]
    fn budget_is_a_share_of_a_large_machine_and_leaves_a_reserve_on_a_small_one() {
        for (available, expected) in [
            (None, 384),
            (Some(65_536), 16_384),
            (Some(4096), 1024),
            (Some(1024), 384),
            (Some(512), 384),
            (Some(256), 160),
            (Some(128), 64),
            (Some(64), 64),
        ] {
            assert_eq!(budget(available.map(|mib| mib * MIB)), expected * MIB, "{available:?}");
        }
    }
}
