//! How bytes become an object: written beside it, made durable, then put in its place at once.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, fstat, futimens, linkat, openat,
    renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use uuid::Uuid;

use super::path::{At, Disk, Found, etag, look, modified_ns, sync};
use crate::store::{Body, ETag, ErrorKind, Key, PutMode, Result};

/// An unfinished file; its name goes when this is dropped, unless it has become an object's.
struct Temp<'a> {
    at: At<'a>,
    folder: &'a OwnedFd,
    name: String,
    file: File,
    renamed: bool,
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed now is never listed, and swept later.
            let _ = unlinkat(self.folder, &self.name, AtFlags::empty());
        }
    }
}

impl Disk {
    /// Stores `body` under `key`. Everything that `Ok` promises has reached the medium by then.
    pub(super) fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        let at = At { operation: "put", key: key.as_str() };
        let folder = self.make_folder(at, key)?;
        let result = self.put_into(at, &folder, key, body, mode);
        if result.as_ref().is_err_and(|e| e.kind == ErrorKind::AlreadyExists) {
            // Who made the object may still be waiting for the medium, and the caller builds on its being there.
            sync(&folder).map_err(|e| at.unknown(e))?;
        }
        result
    }

    fn put_into(&self, at: At<'_>, folder: &OwnedFd, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        // Asked again when it counts; asked here so that a put that cannot succeed costs no writing.
        permit(at, mode, &look(at, folder, key.name())?)?;

        let mut temp = Temp::create(at, folder)?;
        temp.fill(body)?;
        let stat = self.stamp(at, &temp.file)?;
        sync(&temp.file).map_err(|e| at.io(e))?;
        if *mode == PutMode::Create {
            temp.publish_new(key.name())?;
        } else {
            let lock = self.lock(at)?;
            permit(at, mode, &look(at, folder, key.name())?)?;
            temp.publish_over(key.name())?;
            // Listings compare this; should it fail, they are no worse off than with a file system's own word.
            let _ = futimens(&lock, &Timestamps { last_access: timespec(modified_ns(&stat)), last_modification: KEEP });
        }

        let published = etag(&stat);
        sync(folder).map_err(|e| {
            if *mode == PutMode::Create {
                self.withdraw(at, folder, key.name(), &published);
            }
            at.unknown(e)
        })?;
        Ok(published)
    }

    /// Removes the object under `key`; without a `version` it need not exist, with one it must be that.
    pub(super) fn delete(&self, key: &Key, version: Option<&ETag>) -> Result<()> {
        let at = At { operation: "delete", key: key.as_str() };
        let expect = |found: &Found| match version {
            Some(etag) => permit(at, &PutMode::Update(etag.clone()), found),
            None => Ok(()),
        };
        let Some(folder) = self.folder(at, key)? else { return expect(&Found::Nothing) };
        if let Found::Object(_) = look(at, &folder, key.name())? {
            // An update must not put back what was deleted after it had looked.
            let _lock = match self.lock(at) {
                // On a full disk without a lock file nobody can be updating, and deleting is the way out.
                Err(e) if e.kind == ErrorKind::Full => None,
                lock => Some(lock?),
            };
            expect(&look(at, &folder, key.name())?)?;
            match unlinkat(&folder, key.name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(at.io(e)),
            }
        } else {
            expect(&Found::Nothing)?;
        }
        // Also where it was gone already: who removed it may still be waiting for the medium.
        sync(&folder).map_err(|e| at.unknown(e))
    }

    /// Gives a file a time of modification that no object of this store has had before, and returns what the file then
    /// is. Inode numbers are used again and the kernel's clock stands still for milliseconds, so that without this two
    /// versions of an object could look the same.
    fn stamp(&self, at: At<'_>, file: &File) -> Result<Stat> {
        let failed = |e: Errno| at.io(e);
        // The latest stamp is kept as the lock file's own time.
        let lock = self.lock(at)?;
        let after = modified_ns(&fstat(&lock).map_err(failed)?).max(modified_ns(&fstat(file).map_err(failed)?));
        // Some file systems keep times only to the microsecond, to ten milliseconds or to two seconds.
        for granule in [1, 1_000, 10_000_000, 2_000_000_000] {
            let stamp = (after / granule + 1) * granule;
            let times = Timestamps { last_access: KEEP, last_modification: timespec(stamp) };
            futimens(&lock, &times).map_err(failed)?;
            futimens(file, &times).map_err(failed)?;
            let stat = fstat(file).map_err(failed)?;
            if modified_ns(&stat) == stamp && modified_ns(&fstat(&lock).map_err(failed)?) == stamp {
                return Ok(stat);
            }
        }
        Err(at.because(ErrorKind::Refused, "this file system does not keep the time of a file"))
    }

    /// Takes a new object back whose place could not be made durable, unless it has been replaced since.
    fn withdraw(&self, at: At<'_>, folder: &OwnedFd, name: &str, published: &ETag) {
        let Ok(_lock) = self.lock(at) else { return };
        if let Ok(Found::Object(stat)) = look(at, folder, name)
            && etag(&stat) == *published
        {
            let _ = unlinkat(folder, name, AtFlags::empty());
        }
    }
}

/// A time that is not to be changed.
const KEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };

fn timespec(nanoseconds: i128) -> Timespec {
    Timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as _ }
}

/// Whether a put of this mode may take place over what is there.
fn permit(at: At<'_>, mode: &PutMode, found: &Found) -> Result<()> {
    match (mode, found) {
        (PutMode::Create, Found::Object(_)) => Err(at.error(ErrorKind::AlreadyExists)),
        (PutMode::Update(expected), Found::Object(stat)) if etag(stat) == *expected => Ok(()),
        (PutMode::Update(_), _) => Err(at.error(ErrorKind::Changed)),
        (_, Found::Folder) => Err(at.because(ErrorKind::Refused, "a folder lies under this name")),
        _ => Ok(()),
    }
}

#[expect(clippy::disallowed_methods, reason = "nobody above ever sees it, and it must be new in every process")]
fn temp_name() -> String {
    format!("{}{}", Key::RESERVED_PREFIX, Uuid::new_v4())
}

impl<'a> Temp<'a> {
    fn create(at: At<'a>, folder: &'a OwnedFd) -> Result<Self> {
        let name = temp_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, &name, flags, Mode::from_raw_mode(0o644)).map_err(|e| at.io(e))?;
        Ok(Self { at, folder, name, file: file.into(), renamed: false })
    }

    fn fill(&mut self, body: &Body) -> Result<()> {
        let written = body.write_to(&mut self.file).map_err(|e| self.at.io(e))?;
        let stat = fstat(&self.file).map_err(|e| self.at.io(e))?;
        if written != body.size() || stat.st_size as u64 != written {
            return Err(self.at.error(ErrorKind::Corrupt));
        }
        Ok(())
    }

    /// Gives the file its name only if there is nothing of that name.
    fn publish_new(&mut self, name: &str) -> Result<()> {
        let (at, folder) = (self.at, self.folder);
        let result = match renameat_with(folder, &self.name, folder, name, RenameFlags::NOREPLACE) {
            // NFS and others have no such rename; a link does not replace either, and leaves the first name to drop.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                linkat(folder, &self.name, folder, name, AtFlags::empty())
            }
            result => result.inspect(|()| self.renamed = true),
        };
        match result {
            Err(Errno::EXIST) => {
                permit(at, &PutMode::Create, &look(at, folder, name)?)?;
                // It was there and is gone again; to have lost against it is still true.
                Err(at.error(ErrorKind::AlreadyExists))
            }
            result => result.map_err(|e| at.io(e)),
        }
    }

    /// Gives the file its name, replacing what bears it.
    fn publish_over(&mut self, name: &str) -> Result<()> {
        renameat(self.folder, &self.name, self.folder, name).map_err(|e| self.at.io(e))?;
        self.renamed = true;
        Ok(())
    }
}
