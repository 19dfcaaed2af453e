//! A trial: whether the file system below a folder supports everything that the store needs.
//!
//! A server runs one at each start, so that an unsuitable file system stops the start with a sentence that names what
//! is missing. Otherwise every upload would be refused, or successful changes would be taken for lost races.

use std::fmt;

use rustix::io::{Errno, retry_on_intr};

use super::fs::{Handle, Open};
use super::path::{At, Disk, Found, LOCK, etag, look, sync_names};
use super::publish::{Temp, temp_name};
use crate::body::Body;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, PutMode};
use crate::sync::Ordering;

/// What a file system does not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("fails when a small file is written")]
    Write,
    #[error("does not lock files (flock), so that two writers could undo each other's changes")]
    Lock,
    #[error("does not keep the time of modification that is set on a file, which distinguishes the versions of a file")]
    Times,
    #[error("does not write a file through to the medium (fsync), so that a power cut could lose what was stored")]
    SyncFile,
    #[error("does not write a folder through to the medium (fsync), so that a power cut could lose what was stored")]
    SyncFolder,
    #[error(
        "can neither rename a file without replacing another (RENAME_NOREPLACE) nor make hard links, so that two writers \
         could overwrite each other's files"
    )]
    NewName,
    #[error("does not replace one file by another (rename)")]
    Replace,
    #[error(
        "reports another size or time of modification for a file once it has its name or was read, so that what was stored \
         looks lost"
    )]
    Tag,
    #[error("reports two versions of a file as the same")]
    SameTag,
    #[error("lets a second file take a name that is taken")]
    TakenName,
    #[error("returns other bytes than those that were written")]
    Bytes,
    #[error("does not list a file that was just written")]
    Listing,
}

/// Why a folder cannot hold a store, and what to do.
#[derive(Debug, thiserror::Error)]
struct Unsuitable {
    folder: String,
    file_system: Option<&'static str>,
    fault: Fault,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, file_system, fault, .. } = self;
        write!(f, "the file system of {folder}")?;
        if let Some(name) = file_system {
            write!(f, " ({name})")?;
        }
        write!(f, " {fault}; ")?;
        f.write_str(match file_system {
            Some("fuse") => {
                "it is served by a program (FUSE: rclone, s3fs, exfat-fuse and others). Give Keepsake a folder on ext4, xfs, \
                 btrfs or ZFS instead, run it on the NAS itself, or mount the NAS by NFS; for a bucket use \
                 STORE_URL=s3://…, without a mount"
            }
            Some("cifs") => {
                "it is a Windows share (SMB), of which Linux reports a wrong time for a second after a file was closed, unless \
                 it is mounted with the option closetimeo=0. Mount it so, run Keepsake on the NAS itself, or mount the NAS by \
                 NFS"
            }
            _ => "give Keepsake a folder on ext4, xfs, btrfs or ZFS, run it on the NAS itself, or mount the NAS by NFS",
        })?;
        f.write_str(". docs/file-systems.md lists the file systems that were tried")
    }
}

/// One trial in one folder.
struct Trial<'a> {
    disk: &'a Disk,
    at: At<'a>,
    folder: &'a dyn Handle,
    /// A name that no listing shows, and that a sweep removes if this process dies.
    name: String,
}

impl Disk {
    /// Puts, reads, updates and reads again in the folder of `scratch`, or in its nearest existing parent; removes what
    /// it created. [`ErrorKind::Refused`] carries a sentence that names what the file system lacks.
    ///
    /// A folder that is read-only or full is not tried: the store is served from it all the same, and its status
    /// reports it.
    pub(super) fn try_out(&self, scratch: &Key) -> Result<()> {
        let at = At { operation: "probe", key: scratch.as_str() };
        if self.status()?.read_only.is_some() {
            return Ok(());
        }
        let folder = self.nearest_folder(at, scratch)?;
        if folder.may_write().is_err() {
            return Ok(());
        }
        let trial = Trial { disk: self, at, folder: &*folder, name: temp_name() };
        let outcome = trial.calls().and_then(|()| trial.versions());
        let _ = folder.unlink_at(&trial.name);
        match outcome {
            Err(e) if matches!(e.kind, ErrorKind::Full | ErrorKind::ReadOnly) => Ok(()),
            outcome => outcome,
        }
    }

    fn nearest_folder(&self, at: At<'_>, key: &Key) -> Result<Box<dyn Handle>> {
        let mut folders = key.as_str();
        while let Some((path, _)) = folders.rsplit_once('/') {
            if let Some(folder) = self.descend(at, path.split('/'))? {
                return Ok(folder);
            }
            folders = path;
        }
        self.root(at)
    }
}

impl Trial<'_> {
    /// Makes each call of a put once, so that the error can name the call that fails.
    fn calls(&self) -> Result<()> {
        let Self { disk, at, folder, name } = self;
        let full_of_files = folder.space().is_ok_and(|space| space.files.is_some_and(|files| files.free == 0));
        let mut temp = Temp::create(*at, *folder)?;
        disk.miscounts_files.store(full_of_files, Ordering::SeqCst);
        temp.fill(&Body::from(b"0".to_vec())).map_err(|e| self.blame(Fault::Write, e))?;
        let lock = disk.root(*at)?.open_at(LOCK, Open::Lock).map_err(|e| at.io(e))?;
        retry_on_intr(|| lock.lock(false)).map_err(|e| self.blame_errno(Fault::Lock, e))?;
        drop(lock);
        disk.stamp(*at, &*temp.file).map_err(|e| self.blame(Fault::Times, e))?;
        temp.file.sync().map_err(|e| self.blame_errno(Fault::SyncFile, e))?;
        temp.publish_new(name).map_err(|e| self.blame(Fault::NewName, e))?;
        sync_names(*folder).map_err(|e| self.blame_errno(Fault::SyncFolder, e))?;
        folder.unlink_at(name).map_err(|e| at.io(e))
    }

    /// Puts three versions of one object and reads each.
    fn versions(&self) -> Result<()> {
        let first = self.put(b"1", &PutMode::Create)?;
        self.look_at(&first, b"1")?;
        if !self.is_refused(&PutMode::Create, ErrorKind::AlreadyExists)? {
            return Err(self.fault(Fault::TakenName));
        }
        let second = self.put(b"2", &PutMode::Update(first.clone()))?;
        self.look_at(&second, b"2")?;
        if second == first || !self.is_refused(&PutMode::Update(first), ErrorKind::Changed)? {
            return Err(self.fault(Fault::SameTag));
        }
        let third = self.put(b"3", &PutMode::Update(second.clone()))?;
        self.look_at(&third, b"3")?;
        if third == second { Err(self.fault(Fault::SameTag)) } else { Ok(()) }
    }

    fn put(&self, bytes: &[u8], mode: &PutMode) -> Result<ETag> {
        let put = self.disk.put_into(self.at, self.folder, &self.name, &Body::from(bytes.to_vec()), mode);
        put.map_err(|e| match e.kind {
            // No other process has this name, so the description of an unchanged file has changed.
            ErrorKind::Changed => self.blame(Fault::Tag, e),
            _ => self.blame(Fault::Replace, e),
        })
    }

    /// Whether a put whose condition does not hold fails with this error.
    fn is_refused(&self, mode: &PutMode, with: ErrorKind) -> Result<bool> {
        match self.disk.put_into(self.at, self.folder, &self.name, &Body::from(b"x".to_vec()), mode) {
            Ok(_) => Ok(false),
            Err(e) if e.kind == with => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Whether the object is found under its name with the bytes that were put, twice.
    fn look_at(&self, tag: &ETag, bytes: &[u8]) -> Result<()> {
        // On CIFS, Linux changes the reported time when the first reader closes the file.
        self.look_once(tag, bytes)?;
        self.look_once(tag, bytes)
    }

    fn look_once(&self, tag: &ETag, bytes: &[u8]) -> Result<()> {
        let Self { at, folder, name, .. } = self;
        match look(*at, *folder, name)? {
            Found::Object(stat) if etag(&stat) == *tag => {}
            _ => return Err(self.fault(Fault::Tag)),
        }
        let file = folder.open_at(name, Open::Read).map_err(|e| at.io(e))?;
        if etag(&file.stat().map_err(|e| at.io(e))?) != *tag {
            return Err(self.fault(Fault::Tag));
        }
        let mut read = [0; 2];
        let length = retry_on_intr(|| file.read_at(&mut read, 0)).map_err(|e| at.io(e))?;
        if read[..length] != *bytes {
            return Err(self.fault(Fault::Bytes));
        }
        let mut entries = folder.entries().map_err(|e| at.io(e))?;
        if entries.any(|entry| entry.is_ok_and(|(listed, _)| listed == name.as_str())) {
            Ok(())
        } else {
            Err(self.fault(Fault::Listing))
        }
    }

    fn fault(&self, fault: Fault) -> StoreError {
        self.unsuitable(fault, ErrorKind::Refused, None)
    }

    fn blame_errno(&self, fault: Fault, errno: Errno) -> StoreError {
        let kind = match errno {
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::NOLCK => ErrorKind::Refused,
            errno => self.at.io(errno).kind,
        };
        self.unsuitable(fault, kind, Some(errno.into()))
    }

    /// Names the missing feature after a failed call. A lack of space or of permission stays what it is.
    fn blame(&self, fault: Fault, error: StoreError) -> StoreError {
        let cause = error.source.as_deref().and_then(|source| source.downcast_ref::<std::io::Error>());
        match cause.and_then(Errno::from_io_error) {
            Some(errno) => self.blame_errno(fault, errno),
            // An error of the medium or of this process (EIO, EMFILE) is not a fault of the file system.
            None if matches!(error.kind, ErrorKind::Full | ErrorKind::ReadOnly | ErrorKind::Unavailable) => error,
            None => self.unsuitable(fault, ErrorKind::Refused, error.source),
        }
    }

    fn unsuitable(
        &self,
        fault: Fault,
        kind: ErrorKind,
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        let file_system = self.folder.file_system();
        let unsuitable = Unsuitable { folder: self.disk.shown.clone(), file_system, fault, cause };
        StoreError::caused(self.at.operation, self.at.key, kind, unsuitable)
    }
}
