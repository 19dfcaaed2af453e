//! File systems of a test's own, below a temporary folder: small ones, ones that turn read-only, and ones whose power
//! can be cut. Needs root; `.ci/disks` runs the tests that use them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; unmounted and gone when dropped.
pub struct Mount {
    folder: tempfile::TempDir,
    kind: &'static str,
}

impl Mount {
    /// A file system of this kind (`tmpfs`, or any that has an `mkfs`) and size.
    pub fn new(kind: &'static str, mebibytes: u32) -> Self {
        let mount = Self { folder: tempfile::tempdir().unwrap(), kind };
        std::fs::create_dir(mount.point()).unwrap();
        if kind == "tmpfs" {
            let size = format!("size={mebibytes}m");
            run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", as_str(&mount.point())]);
        } else {
            let image = mount.image();
            std::fs::File::create(&image).unwrap().set_len(u64::from(mebibytes) << 20).unwrap();
            // Without blocks that are kept for root: the tests are root.
            let options: &[&str] = if kind == "ext4" { &["-q", "-m", "0"] } else { &["-q"] };
            run(&format!("mkfs.{kind}"), &[options, &[as_str(&image)]].concat());
            mount.mount();
        }
        mount
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn point(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Where the store lies.
    pub fn data(&self) -> PathBuf {
        let data = self.point().join("data");
        let _ = std::fs::create_dir(&data);
        data
    }

    fn mount(&self) {
        run("mount", &["-o", "loop", as_str(&self.image()), as_str(&self.point())]);
    }

    /// Takes away everything that has not reached the medium, at once and without warning.
    pub fn cut_power(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", as_str(&self.point())]);
    }

    /// The medium after a power cut, as the next start finds it. Nobody may use it any more.
    pub fn power_on(&self) {
        run("umount", &[as_str(&self.point())]);
        self.mount();
    }

    pub fn remount(&self, mode: &str) {
        run("mount", &["-o", &format!("remount,{mode}"), as_str(&self.point())]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Also where a test failed with files open. A loop device goes with its mount.
        let _ = Command::new("umount").arg("--lazy").arg(self.point()).status();
    }
}

impl std::fmt::Display for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind)
    }
}

fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
