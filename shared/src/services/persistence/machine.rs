//! Facts about the machine: what is mounted where, and what distinguishes this boot or container from the last one.
//!
//! Only this module reads `/proc`; tests supply the same as text. Without `/proc`, nothing is known.

use std::path::Path;

/// What the kernel reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// `/proc/self/mountinfo`.
    mounts: Vec<Mount>,
    /// A random number that each boot generates.
    boot_id: Option<String>,
    hostname: Option<String>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The mount point.
    pub point: String,
    /// The mounted folder of its file system; `/` except for bind mounts and subvolumes.
    pub root: String,
    /// The kind of file system, in the kernel's terms.
    pub file_system: String,
    /// The options of the file system itself.
    options: String,
}

impl Machine {
    /// The machine that this process runs on. Blocks briefly.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self::of_texts(
            &read("/proc/self/mountinfo").unwrap_or_default(),
            read("/proc/sys/kernel/random/boot_id").as_deref(),
            read("/proc/sys/kernel/hostname").as_deref(),
        )
    }

    /// A machine whose kernel reports this.
    pub fn of_texts(mountinfo: &str, boot_id: Option<&str>, hostname: Option<&str>) -> Self {
        let said = |text: Option<&str>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Self {
            mounts: mountinfo.lines().filter_map(Mount::parse).collect(),
            boot_id: said(boot_id),
            hostname: said(hostname),
        }
    }

    /// The mount that holds an absolute path without links.
    pub fn mount_of(&self, path: &Path) -> Option<&Mount> {
        let holding = self.mounts.iter().filter(|mount| path.starts_with(&mount.point));
        // Of mounts on the same point the last, which covers the others.
        holding.max_by_key(|mount| Path::new(&mount.point).components().count())
    }

    pub(super) fn boot_id(&self) -> Option<&str> {
        self.boot_id.as_deref()
    }

    pub(super) fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// A value that is new with each container and stays when only its process restarts: the folder that holds the
    /// container's writable layer, and the host folder that holds its `/etc/hostname`.
    pub(super) fn container(&self) -> Option<String> {
        let upper = self.mount_of(Path::new("/")).and_then(|root| root.option("upperdir"));
        let hostname = self.mounts.iter().find(|mount| mount.point == "/etc/hostname").map(|mount| mount.root.as_str());
        let marks: Vec<&str> = [upper, hostname].into_iter().flatten().collect();
        (!marks.is_empty()).then(|| marks.join(" "))
    }

    /// The id of the pod whose files Kubernetes has mounted here.
    pub(super) fn pod(&self) -> Option<&str> {
        let below_pods =
            |mount: &'_ Mount| mount.root.split_once("/pods/").map(|(before, _)| before.len() + "/pods/".len());
        let mount = self.mounts.iter().find(|mount| below_pods(mount).is_some())?;
        mount.root[below_pods(mount)?..].split('/').next().filter(|pod| !pod.is_empty())
    }
}

impl Mount {
    /// Parses a line of `/proc/self/mountinfo`; see proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Self> {
        // A variable number of optional fields and a hyphen separate the two halves.
        let (first, second) = line.split_once(" - ")?;
        let mut first = first.split(' ').skip(3);
        let mut second = second.split(' ');
        let (root, point) = (unescape(first.next()?), unescape(first.next()?));
        let file_system = second.next()?.to_owned();
        let options = unescape(second.nth(1).unwrap_or_default());
        Some(Self { point, root, file_system, options })
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Decodes the kernel's escapes for space, tab, newline and backslash: a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(code.into());
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
25 27 0:23 / /dev/shm rw - tmpfs tmpfs rw,size=24684084k
30 25 0:27 / /dev/shm rw - ramfs ramfs rw
40 27 8:1 /@photos /srv/my\\040photos rw,relatime - btrfs /dev/sdb rw,subvol=/@photos
41 40 8:2 / /srv/my\\040photos/uploads rw - xfs /dev/sdc rw
not a line
";

    #[test]
    fn a_path_lies_on_what_is_mounted_deepest_and_last_above_it() {
        let machine = Machine::of_texts(HOST, None, None);
        let cases = [
            ("/home/me", "/", "ext4"),
            ("/dev/shm/x", "/dev/shm", "ramfs"),
            ("/dev/shmx", "/", "ext4"),
            ("/srv/my photos", "/srv/my photos", "btrfs"),
            ("/srv/my photos/uploads", "/srv/my photos/uploads", "xfs"),
            ("/srv/my photos/uploadsx", "/srv/my photos", "btrfs"),
        ];
        for (path, point, file_system) in cases {
            let mount = machine.mount_of(Path::new(path)).unwrap();
            assert_eq!((mount.point.as_str(), mount.file_system.as_str()), (point, file_system), "{path}");
        }
        assert_eq!(machine.mount_of(Path::new("/srv/my photos")).unwrap().root, "/@photos", "a bind mount's folder");
        assert_eq!(Machine::of_texts("", None, None).mount_of(Path::new("/")), None);
    }

    #[test]
    fn a_container_is_told_by_what_is_mounted_in_it() {
        let docker = "\
1 0 0:50 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/ab12/diff,workdir=/w
2 1 254:1 /var/lib/docker/containers/c0ffee/hostname /etc/hostname rw - ext4 /dev/vda1 rw
";
        let mark = Machine::of_texts(docker, None, None).container();
        let expected = "/var/lib/docker/overlay2/ab12/diff /var/lib/docker/containers/c0ffee/hostname";
        assert_eq!(mark.as_deref(), Some(expected));
        assert_eq!(Machine::of_texts(HOST, None, None).container(), None);
    }

    #[test]
    fn a_pod_is_told_by_the_files_that_are_mounted_into_it() {
        let pod = "3 1 8:1 /var/lib/kubelet/pods/7f9c-42/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n";
        assert_eq!(Machine::of_texts(pod, None, None).pod(), Some("7f9c-42"));
        assert_eq!(Machine::of_texts(HOST, None, None).pod(), None);
    }

    #[test]
    fn this_machine_says_where_it_runs() {
        // Whatever the machine is, at least one of its lines must parse.
        let here = Machine::here();
        assert_eq!(here.mount_of(Path::new("/")).is_some(), Path::new("/proc/self/mountinfo").exists());
    }
}
