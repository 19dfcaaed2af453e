//! Resolving a key to an open folder and a name in it, without ever following a symbolic link.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::FileType;
use rustix::io::{Errno, retry_on_intr};

use super::fs::{FileSystem, Handle, Open, Space, Stat};
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, Files, ObjectMeta};
use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// The file in a store's root that writers lock; it is not an object.
pub(super) const LOCK: &str = ".keepsake.lock";
const LINK: &str = "a symbolic link lies in the way, and links are never followed";

/// The folder itself: everything that the blocking half of an operation needs.
#[derive(Debug)]
pub(super) struct Disk {
    files: Arc<dyn FileSystem>,
    /// The root, as shown in errors.
    pub(super) shown: String,
    /// Whether the file system reports no free inodes although it can create files, as rclone mounts do.
    pub(super) miscounts_files: AtomicBool,
    /// The file system that held the root when the store was opened.
    pub(super) device: u64,
    /// Folders, by device and inode, whose entry in their parent is known to be durable.
    durable: Mutex<HashSet<(u64, u64)>>,
}

/// The operation and its key, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) operation: &'static str,
    pub(super) key: &'a str,
}

/// What has a name.
pub(super) enum Found {
    Nothing,
    /// A folder; it can hold objects, but is not one.
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

    /// A change was made but is not durable: whatever the reason, it may be lost after a power cut.
    pub(super) fn unknown(self, error: Errno) -> StoreError {
        StoreError::caused(self.operation, self.key, ErrorKind::Unavailable, error)
    }

    pub(super) fn io(self, error: impl Into<io::Error>) -> StoreError {
        let error = error.into();
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => self.because(ErrorKind::Refused, LINK),
            // A name that this file system cannot hold, or a folder where a file should be.
            Some(Errno::NAMETOOLONG | Errno::ILSEQ | Errno::ISDIR) => {
                StoreError::caused(self.operation, self.key, ErrorKind::Refused, error)
            }
            _ => StoreError::io(self.operation, self.key, error),
        }
    }
}

impl Disk {
    pub(super) fn open(files: Arc<dyn FileSystem>, shown: &str) -> Result<Self> {
        let at = At { operation: "open", key: shown };
        let root = files.root().map_err(|e| match e {
            Errno::NOTDIR => at.because(ErrorKind::Refused, "it is not a folder"),
            e => at.io(e),
        })?;
        let device = root.stat().map_err(|e| at.io(e))?.device;
        let (shown, miscounts_files, durable) = (shown.to_owned(), AtomicBool::new(false), Mutex::default());
        Ok(Self { files, shown, miscounts_files, device, durable })
    }

    /// Opens the root again for every operation: a store whose folder was removed or unmounted is not an empty store.
    pub(super) fn root(&self, at: At<'_>) -> Result<Box<dyn Handle>> {
        let root = self.files.root().map_err(|e| match e {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                at.because(ErrorKind::Unavailable, "the store's own folder is gone")
            }
            e => at.io(e),
        })?;
        if root.stat().map_err(|e| at.io(e))?.device != self.device {
            let reason = "the store's folder lies on another file system than when it was opened; was it unmounted?";
            return Err(at.because(ErrorKind::Unavailable, reason));
        }
        Ok(root)
    }

    /// How many files a file system can hold, if it reports that.
    pub(super) fn count_files(&self, space: &Space) -> Option<Files> {
        space.files.filter(|_| !self.miscounts_files.load(Ordering::SeqCst))
    }

    /// Opens the folder that holds `key`; `None` if it does not exist.
    pub(super) fn folder(&self, at: At<'_>, key: &Key) -> Result<Option<Box<dyn Handle>>> {
        self.descend(at, folders(at, key)?)
    }

    /// Opens a folder below the root; `None` if it does not exist.
    pub(super) fn descend<'a>(
        &self,
        at: At<'_>,
        path: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Box<dyn Handle>>> {
        let mut folder = self.root(at)?;
        for segment in path {
            match step(at, &*folder, segment)? {
                Some(next) => folder = next,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// Opens the folder for `key` and creates the missing parts of its path. When it returns, every folder on the path
    /// is durable, except for its contents.
    pub(super) fn make_folder(&self, at: At<'_>, key: &Key) -> Result<Box<dyn Handle>> {
        let mut folder = self.root(at)?;
        for segment in folders(at, key)? {
            let mut made = false;
            let next = match step(at, &*folder, segment)? {
                Some(next) => next,
                None => {
                    match folder.make_folder_at(segment) {
                        Ok(()) => made = true,
                        Err(Errno::EXIST) => {}
                        Err(e) => return Err(at.io(e)),
                    }
                    let in_the_way = || at.because(ErrorKind::Refused, "a file lies where a folder is needed");
                    step(at, &*folder, segment)?.ok_or_else(in_the_way)?
                }
            };
            if let Err(e) = self.make_entry_durable(&*folder, &*next, made) {
                // Remove the folder so that the next writer creates it again: a second sync after a failed one proves
                // nothing.
                if made {
                    let _ = folder.remove_folder_at(segment);
                }
                return Err(at.io(e));
            }
            folder = next;
        }
        Ok(folder)
    }

    /// Makes the entry of a folder in its parent durable; once per process is enough, whichever process created the
    /// folder.
    fn make_entry_durable(&self, parent: &dyn Handle, folder: &dyn Handle, made: bool) -> Result<(), Errno> {
        let stat = folder.stat()?;
        let id = (stat.device, stat.inode);
        if !made && lock(&self.durable).contains(&id) {
            return Ok(());
        }
        sync_names(parent)?;
        lock(&self.durable).insert(id);
        Ok(())
    }

    /// Waits for the store's only lock, which excludes other threads and other processes until the file is dropped.
    pub(super) fn lock(&self, at: At<'_>) -> Result<Box<dyn Handle>> {
        let failed = |e: Errno| {
            let error = io::Error::from(e);
            at.io(io::Error::new(error.kind(), format!("{LOCK}: {error}")))
        };
        let root = self.root(at)?;
        loop {
            let file = root.open_at(LOCK, Open::Lock).map_err(failed)?;
            retry_on_intr(|| file.lock(false)).map_err(failed)?;
            // If the file was removed while we waited, other writers can lock a new one. Some FUSE file systems report
            // no links for any file.
            if file.stat().map_err(failed)?.links > 0 || root.stat_at(LOCK).is_ok_and(|named| named.links == 0) {
                return Ok(file);
            }
        }
    }

    /// Like [`Disk::lock`], but waits only for writers and does not create the file; `None` if the file does not exist,
    /// because no object has been put yet, or if this process may not open it.
    pub(super) fn lock_shared(&self, at: At<'_>) -> Result<Option<Box<dyn Handle>>> {
        match self.root(at)?.open_at(LOCK, Open::Read) {
            Ok(file) => {
                retry_on_intr(|| file.lock(true)).map_err(|e| at.io(e))?;
                Ok(Some(file))
            }
            Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
            Err(e) => Err(at.io(e)),
        }
    }
}

/// The names of the folders on the path of `key`.
fn folders<'a>(at: At<'_>, key: &'a Key) -> Result<impl Iterator<Item = &'a str> + use<'a>> {
    // At any depth, since another store's root may be below this one; in any letter case, since some file systems
    // ignore case.
    if key.name().eq_ignore_ascii_case(LOCK) {
        return Err(at.because(ErrorKind::Refused, "the store keeps this name for its lock"));
    }
    let path = key.as_str().rsplit_once('/').map(|(path, _)| path);
    Ok(path.into_iter().flat_map(|path| path.split('/')))
}

/// Opens the folder `segment` of `folder`; `None` if there is no folder of this name.
pub(super) fn step(at: At<'_>, folder: &dyn Handle, segment: &str) -> Result<Option<Box<dyn Handle>>> {
    match folder.open_at(segment, Open::Folder) {
        Ok(next) => Ok(Some(next)),
        Err(Errno::NOENT) => Ok(None),
        // Systems differ in the error for a link. A file is not a folder, and contains no objects.
        Err(Errno::NOTDIR | Errno::LOOP) => match folder.stat_at(segment) {
            Ok(stat) if stat.kind == FileType::Symlink => Err(at.because(ErrorKind::Refused, LINK)),
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(at.io(e)),
        },
        Err(e) => Err(at.io(e)),
    }
}

/// Finds out what has this `name`; fails if it is neither a file nor a folder.
pub(super) fn look(at: At<'_>, folder: &dyn Handle, name: &str) -> Result<Found> {
    match folder.stat_at(name) {
        Ok(stat) => match stat.kind {
            FileType::RegularFile => Ok(Found::Object(stat)),
            FileType::Directory => Ok(Found::Folder),
            FileType::Symlink => Err(at.because(ErrorKind::Refused, LINK)),
            _ => Err(at.because(ErrorKind::Refused, "what lies there is not a file")),
        },
        Err(Errno::NOENT) => Ok(Found::Nothing),
        Err(e) => Err(at.io(e)),
    }
}

/// Waits until the names in a folder are durable.
///
/// If XFS shuts itself down between the creation of a name and this sync, it discards the name and the sync succeeds.
/// Any later call then fails, so a call on the folder follows the sync.
pub(super) fn sync_names(folder: &dyn Handle) -> Result<(), Errno> {
    folder.sync()?;
    folder.stat().map(drop)
}

/// The version of a file. No two versions of one key are equal, because `publish` gives each file a different time.
///
/// It depends only on values that a put sets itself, so it is the same before and after the file gets its name. The
/// inode number is not: on sshfs and mergerfs it changes with the name, and on FAT whenever the kernel drops the file.
pub(super) fn etag(stat: &Stat) -> ETag {
    ETag(format!("{:x}-{:x}", stat.size, stat.modified_ns))
}

pub(super) fn meta(key: Key, stat: &Stat) -> ObjectMeta {
    // A time that jiff cannot hold is ten thousand years away; report a very old one.
    let modified = Timestamp::from_nanosecond(stat.modified_ns).unwrap_or(Timestamp::UNIX_EPOCH);
    ObjectMeta { key, size: stat.size, etag: etag(stat), modified }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fs::SimulatedDisk;

    #[test]
    fn a_root_on_another_file_system_than_before_is_unavailable() {
        let at = At { operation: "get", key: "x" };
        let disk = Disk::open(Arc::new(SimulatedDisk::new()), "/").unwrap();
        assert!(disk.root(at).is_ok());
        let unmounted = Disk { device: disk.device + 1, ..disk };
        assert_eq!(unmounted.root(at).unwrap_err().kind, ErrorKind::Unavailable);
    }
}
