//! Machines and containers as hosts make them: a container's root is an overlay over the image, a volume is a file system
//! of its own or a folder of the machine's disk.
//!
//! Everything is mounted in the mount namespace of the test, which `.ci/hosts` has made for it, and unmounted when dropped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::deploy::Image;

/// Something that is mounted; unmounted when dropped.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Mounted {
    fn new(options: &[&str], at: PathBuf) -> Self {
        run("mount", &[options, &[as_str(&at)]].concat());
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Also where a test failed with files open. A loop device goes with its mount.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A disk: an ext4 file system in a file.
#[derive(Debug)]
pub struct Disk {
    mounted: Mounted,
    _folder: TempDir,
}

impl Disk {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (image, point) = (folder.path().join("image"), folder.path().join("mounted"));
        fs::create_dir(&point).unwrap();
        fs::File::create(&image).unwrap().set_len(1 << 29).unwrap();
        run("mkfs.ext4", &["-q", as_str(&image)]);
        Self { mounted: Mounted::new(&["-o", "loop", as_str(&image)], point), _folder: folder }
    }

    /// Likewise, and it belongs to a user.
    pub fn of(user: u32) -> Self {
        let disk = Self::new();
        chown(disk.path(), Some(user), Some(user)).unwrap();
        disk
    }

    pub fn path(&self) -> &Path {
        &self.mounted.0
    }

    /// A file on it that anyone may write, or, if its name ends with a slash, such a folder.
    pub fn made(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        let folder = if name.ends_with('/') { &path } else { path.parent().unwrap() };
        fs::create_dir_all(folder).unwrap();
        if !name.ends_with('/') {
            fs::write(&path, "").unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// A folder on it that belongs to a user.
    pub fn folder_of(&self, name: &str, user: u32) -> PathBuf {
        let folder = self.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        chown(&folder, Some(user), Some(user)).unwrap();
        folder
    }
}

/// What the image holds: the binary, what it is linked with, and the folders that the Dockerfile makes.
pub struct Layer(TempDir);

impl Layer {
    pub fn of(image: &Image) -> Self {
        let layer = Self(tempfile::tempdir().unwrap());
        let root = layer.0.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["proc", "tmp", "etc/ssl/certs", "var/lib", "usr/local/bin"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        for (folder, owner) in &image.folders {
            let folder = root.join(folder.trim_start_matches('/'));
            fs::create_dir_all(&folder).unwrap();
            chown(folder, Some(*owner), Some(*owner)).unwrap();
        }
        let binary = env!("CARGO_BIN_EXE_keepsake");
        fs::copy(binary, root.join("usr/local/bin/keepsake")).unwrap();
        let linked = Command::new("ldd").arg(binary).output().unwrap();
        let linked = String::from_utf8(linked.stdout).unwrap();
        let certificates = "/etc/ssl/certs/ca-certificates.crt";
        let present = Path::new(certificates).exists().then_some(certificates);
        for file in linked.split_whitespace().filter(|word| word.starts_with('/')).chain(present) {
            let copy = root.join(file.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(file, copy).unwrap();
        }
        layer
    }
}

/// A root folder that processes run in, and what is mounted there.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    // Unmounted from the last one to the first.
    mounted: Vec<Mounted>,
    /// What files of the system say instead.
    said: TempDir,
    _folder: Option<TempDir>,
}

impl Root {
    /// A new container on a machine's disk: it shows the image, and keeps what is written in a folder of its own.
    pub fn container(layer: &Layer, machine: &Disk) -> Self {
        let folder = tempfile::tempdir_in(machine.path()).unwrap();
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| folder.path().join(name));
        for folder in [&upper, &work, &merged] {
            fs::create_dir(folder).unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", layer.0.path().display(), upper.display(), work.display());
        let overlay = Mounted::new(&["-t", "overlay", "overlay", "-o", &options], merged.clone());
        Self { path: merged, mounted: vec![overlay], said: tempfile::tempdir().unwrap(), _folder: Some(folder) }
            .with_proc()
    }

    /// A machine that is nobody's container: the root is its disk, on which the image's files were installed.
    pub fn machine(layer: &Layer, disk: &Disk) -> Self {
        run("cp", &["--archive", "--no-target-directory", as_str(layer.0.path()), as_str(disk.path())]);
        // A root must be something mounted there, or the system does not name it.
        let path = disk.path().to_owned();
        let mounted = vec![Mounted::new(&["--bind", as_str(&path)], path.clone())];
        Self { path, mounted, said: tempfile::tempdir().unwrap(), _folder: None }.with_proc()
    }

    fn with_proc(mut self) -> Self {
        let at = self.path.join("proc");
        self.mounted.push(Mounted::new(&["-t", "proc", "proc"], at));
        self
    }

    /// The folder that processes see as `path`.
    pub fn at(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// Mounts a folder of a disk.
    pub fn bind(&mut self, source: &Path, at: &str) {
        let at = self.at(at);
        if source.is_dir() {
            fs::create_dir_all(&at).unwrap();
        } else {
            fs::write(&at, "").unwrap();
        }
        self.mounted.push(Mounted::new(&["--bind", as_str(source)], at));
    }

    /// Makes an empty file.
    pub fn write(&self, path: &str) {
        fs::write(self.at(path), "").unwrap();
    }

    /// Has a file of the system say something else.
    pub fn show(&mut self, path: &str, text: &str) {
        let file = self.said.path().join(self.mounted.len().to_string());
        fs::write(&file, text).unwrap();
        let at = self.at(path);
        self.mounted.push(Mounted::new(&["--bind", as_str(&file)], at));
    }

    /// Has the root take no more writes; what is mounted in it still does.
    pub fn make_read_only(&self) {
        run("mount", &["-o", "remount,bind,ro", as_str(&self.path)]);
    }

    /// A command in this root, as this user, with nothing in its environment.
    pub fn command(&self, (user, group): (u32, u32), folder: &str, command: &[String]) -> Command {
        let mut unshare = Command::new("unshare");
        unshare.arg(format!("--root={}", self.path.display())).arg(format!("--wd={folder}"));
        unshare.args(["--setuid", &user.to_string(), "--setgid", &group.to_string(), "--"]).args(command);
        unshare.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        unshare
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        while self.mounted.pop().is_some() {}
    }
}

fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
