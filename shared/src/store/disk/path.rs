//! How a key becomes an open folder and a name in it, without ever following a symbolic link.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, fstat, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::store::{ETag, ErrorKind, Key, ObjectMeta, Result, StoreError};

/// The file in a store's root that writers lock; it is no object.
pub(super) const LOCK: &str = ".keepsake.lock";
/// How a folder is opened: itself, not what a link in its place leads to.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LINK: &str = "a symbolic link lies in the way, and links are never followed";

/// The folder itself: everything that the blocking half of an operation needs.
#[derive(Debug)]
pub(super) struct Disk {
    /// Absolute, and free of links when the store was opened.
    root: PathBuf,
    /// The file system the root lay on when the store was opened.
    pub(super) device: u64,
    /// Folders, by device and inode, whose own entry in their parent is known to be durable.
    settled: Mutex<HashSet<(u64, u64)>>,
}

/// What is being done and to which key, so that every error says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) operation: &'static str,
    pub(super) key: &'a str,
}

/// What lies under a name.
pub(super) enum Found {
    Nothing,
    /// A folder; it can hold objects, but is none.
    Folder,
    /// A regular file.
    Object(Stat),
}

impl At<'_> {
    pub(super) fn error(self, kind: ErrorKind) -> StoreError {
        StoreError::new(self.operation, self.key, kind)
    }

    pub(super) fn because(self, kind: ErrorKind, reason: &'static str) -> StoreError {
        StoreError::caused(self.operation, self.key, kind, reason)
    }

    /// A change was made, but not made durable: whatever the reason, it may or may not be there after a power cut.
    pub(super) fn unknown(self, error: Errno) -> StoreError {
        StoreError::caused(self.operation, self.key, ErrorKind::Unavailable, error)
    }

    pub(super) fn io(self, error: impl Into<io::Error>) -> StoreError {
        let error = error.into();
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => self.because(ErrorKind::Refused, LINK),
            // A name this file system cannot hold, or a folder where a file should be.
            Some(Errno::NAMETOOLONG | Errno::ILSEQ | Errno::ISDIR) => {
                StoreError::caused(self.operation, self.key, ErrorKind::Refused, error)
            }
            _ => StoreError::io(self.operation, self.key, error),
        }
    }
}

impl Disk {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let shown = root.display().to_string();
        let at = At { operation: "open", key: &shown };
        let absolute = std::path::absolute(root).map_err(|e| at.io(e))?;
        create_durably(&absolute).map_err(|e| at.io(e))?;
        let root = absolute.canonicalize().map_err(|e| at.io(e))?;
        let folder = rustix::fs::open(&root, FOLDER, Mode::empty()).map_err(|e| match e {
            Errno::NOTDIR => at.because(ErrorKind::Refused, "it is not a folder"),
            e => at.io(e),
        })?;
        let device = device(&fstat(folder).map_err(|e| at.io(e))?);
        Ok(Self { root, device, settled: Mutex::default() })
    }

    /// Opens the root anew for every operation: a store whose folder went away or was unmounted is not an empty store.
    pub(super) fn root(&self, at: At<'_>) -> Result<OwnedFd> {
        let root = rustix::fs::open(&self.root, FOLDER, Mode::empty()).map_err(|e| match e {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                at.because(ErrorKind::Unavailable, "the store's own folder is gone")
            }
            e => at.io(e),
        })?;
        if device(&fstat(&root).map_err(|e| at.io(e))?) != self.device {
            let reason = "the store's folder lies on another file system than when it was opened; was it unmounted?";
            return Err(at.because(ErrorKind::Unavailable, reason));
        }
        Ok(root)
    }

    /// Opens the folder that holds `key`, `None` where there is no such folder.
    pub(super) fn folder(&self, at: At<'_>, key: &Key) -> Result<Option<OwnedFd>> {
        self.descend(at, folders(at, key)?)
    }

    /// Opens a folder below the root, `None` where there is none.
    pub(super) fn descend<'a>(&self, at: At<'_>, path: impl Iterator<Item = &'a str>) -> Result<Option<OwnedFd>> {
        let mut folder = self.root(at)?;
        for segment in path {
            match step(at, &folder, segment)? {
                Some(next) => folder = next,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// Opens the folder that is to hold `key`, making what is missing of it. When it returns, every folder on the way
    /// is durable but for what it holds.
    pub(super) fn make_folder(&self, at: At<'_>, key: &Key) -> Result<OwnedFd> {
        let mut folder = self.root(at)?;
        for segment in folders(at, key)? {
            let mut made = false;
            let next = match step(at, &folder, segment)? {
                Some(next) => next,
                None => {
                    match mkdirat(&folder, segment, Mode::from_raw_mode(0o755)) {
                        Ok(()) => made = true,
                        Err(Errno::EXIST) => {}
                        Err(e) => return Err(at.io(e)),
                    }
                    let in_the_way = || at.because(ErrorKind::Refused, "a file lies where a folder is needed");
                    step(at, &folder, segment)?.ok_or_else(in_the_way)?
                }
            };
            if let Err(e) = self.settle(&folder, &next, made) {
                // Whoever comes next makes it anew, rather than trust a second sync after the first one failed.
                if made {
                    let _ = unlinkat(&folder, segment, AtFlags::REMOVEDIR);
                }
                return Err(at.io(e));
            }
            folder = next;
        }
        Ok(folder)
    }

    /// Makes the entry of a folder in its parent durable; once per process is enough, whoever made the folder.
    fn settle(&self, parent: &OwnedFd, folder: &OwnedFd, made: bool) -> Result<(), Errno> {
        let stat = fstat(folder)?;
        let id = (device(&stat), inode(&stat));
        if !made && self.settled().contains(&id) {
            return Ok(());
        }
        sync(parent)?;
        self.settled().insert(id);
        Ok(())
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, HashSet<(u64, u64)>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the store's one lock, which excludes other threads and other processes until the file is dropped.
    pub(super) fn lock(&self, at: At<'_>) -> Result<File> {
        let failed = |e: Errno| {
            let error = io::Error::from(e);
            at.io(io::Error::new(error.kind(), format!("{LOCK}: {error}")))
        };
        let root = self.root(at)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = openat(&root, LOCK, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
            rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive)).map_err(failed)?;
            // Whoever removed the file while we waited has let others lock a new one.
            if fstat(&file).map_err(failed)?.st_nlink > 0 {
                return Ok(file.into());
            }
        }
    }

    /// As [`Disk::lock`], but waits only for those that change something, and does not make the file; `None` where
    /// there is none, because nothing has been put yet, or where this process may not open it.
    pub(super) fn lock_shared(&self, at: At<'_>) -> Result<Option<File>> {
        match openat(self.root(at)?, LOCK, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                let locked = rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared));
                locked.map_err(|e| at.io(e))?;
                Ok(Some(file.into()))
            }
            Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
            Err(e) => Err(at.io(e)),
        }
    }
}

/// The names of the folders on the way to `key`.
fn folders<'a>(at: At<'_>, key: &'a Key) -> Result<impl Iterator<Item = &'a str> + use<'a>> {
    // At any depth, since another store's root may lie below this one; in any case, since some file systems ignore it.
    if key.name().eq_ignore_ascii_case(LOCK) {
        return Err(at.because(ErrorKind::Refused, "the store keeps this name for its lock"));
    }
    let path = key.as_str().rsplit_once('/').map(|(path, _)| path);
    Ok(path.into_iter().flat_map(|path| path.split('/')))
}

/// Opens the folder `segment` of `folder`; `None` where there is no folder of this name.
pub(super) fn step(at: At<'_>, folder: impl AsFd, segment: &str) -> Result<Option<OwnedFd>> {
    match openat(&folder, segment, FOLDER, Mode::empty()) {
        Ok(next) => Ok(Some(next)),
        Err(Errno::NOENT) => Ok(None),
        // Systems differ in what they answer for a link; a file is no folder, and nothing lies below it.
        Err(Errno::NOTDIR | Errno::LOOP) => match statat(&folder, segment, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if file_type(&stat) == FileType::Symlink => Err(at.because(ErrorKind::Refused, LINK)),
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(at.io(e)),
        },
        Err(e) => Err(at.io(e)),
    }
}

/// Looks at what lies under `name`; what is neither a file nor a folder is refused.
pub(super) fn look(at: At<'_>, folder: impl AsFd, name: &str) -> Result<Found> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match file_type(&stat) {
            FileType::RegularFile => Ok(Found::Object(stat)),
            FileType::Directory => Ok(Found::Folder),
            FileType::Symlink => Err(at.because(ErrorKind::Refused, LINK)),
            _ => Err(at.because(ErrorKind::Refused, "what lies there is not a file")),
        },
        Err(Errno::NOENT) => Ok(Found::Nothing),
        Err(e) => Err(at.io(e)),
    }
}

/// Waits until the medium has what was written to a file or folder.
pub(super) fn sync(file: impl AsFd) -> Result<(), Errno> {
    // On macOS a plain fsync leaves the bytes in the drive's cache.
    #[cfg(target_vendor = "apple")]
    return rustix::fs::fcntl_fullfsync(file);
    #[cfg(not(target_vendor = "apple"))]
    rustix::fs::fsync(file)
}

/// Creates a folder and those above it, each one durable before the next.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    create_durably(parent)?;
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(sync(File::open(parent)?)?),
    }
}

pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[allow(clippy::unnecessary_cast, reason = "the type differs between systems")]
pub(super) fn device(stat: &Stat) -> u64 {
    stat.st_dev as u64
}

#[allow(clippy::unnecessary_cast, reason = "the type differs between systems")]
pub(super) fn inode(stat: &Stat) -> u64 {
    stat.st_ino as u64
}

/// When a file was last written, in nanoseconds since 1970.
#[allow(clippy::unnecessary_cast, reason = "the type differs between systems")]
pub(super) fn modified_ns(stat: &Stat) -> i128 {
    stat.st_mtime as i128 * 1_000_000_000 + stat.st_mtime_nsec as i128
}

/// When a file was last read; of the lock file, the stamp of the last file that replaced another.
#[allow(clippy::unnecessary_cast, reason = "the type differs between systems")]
pub(super) fn accessed_ns(stat: &Stat) -> i128 {
    stat.st_atime as i128 * 1_000_000_000 + stat.st_atime_nsec as i128
}

/// The version of a file: no two of one key have the same, because `publish` gives no two files the same time.
pub(super) fn etag(stat: &Stat) -> ETag {
    ETag(format!("{:x}-{:x}-{:x}", inode(stat), stat.st_size, modified_ns(stat)))
}

pub(super) fn meta(key: Key, stat: &Stat) -> ObjectMeta {
    // A time that jiff cannot hold lies ten thousand years off; whoever asks for an age gets a very old one.
    let modified = Timestamp::from_nanosecond(modified_ns(stat)).unwrap_or(Timestamp::UNIX_EPOCH);
    ObjectMeta { key, size: stat.st_size as u64, etag: etag(stat), modified }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_on_another_file_system_than_before_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let at = At { operation: "get", key: "x" };
        let disk = Disk::open(folder.path()).unwrap();
        assert!(disk.root(at).is_ok());
        let unmounted = Disk { device: disk.device + 1, ..disk };
        assert_eq!(unmounted.root(at).unwrap_err().kind, ErrorKind::Unavailable);
    }
}
