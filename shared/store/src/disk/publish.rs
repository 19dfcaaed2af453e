//! Publishing an object: write the bytes to a file beside it, make them durable, then rename the file.

use std::io::{self, Write};

use rustix::io::Errno;
use uuid::Uuid;

use super::fs::{Handle, Open, Stat};
use super::path::{At, Disk, Found, etag, look, sync_names};
use crate::body::Body;
use crate::error::{ErrorKind, NoInodes, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, PutMode};

/// An unfinished file; dropping it removes its name, unless it has been published as an object.
pub(super) struct Temp<'a> {
    at: At<'a>,
    folder: &'a dyn Handle,
    name: String,
    pub(super) file: Box<dyn Handle>,
    renamed: bool,
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // A file that cannot be removed now is never listed, and is swept later.
            let _ = self.folder.unlink_at(&self.name);
        }
    }
}

impl Disk {
    /// Stores `body` under `key`. When it returns `Ok`, the object is durable.
    pub(super) fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        let at = At { operation: "put", key: key.as_str() };
        self.put_at(at, key, body, mode).map_err(|error| {
            let files = || self.count_files(&self.root(at).ok()?.space().ok()?);
            match error.kind {
                ErrorKind::Full if files().is_some_and(|files| files.free == 0) => {
                    StoreError::caused(at.operation, at.key, ErrorKind::Full, NoInodes)
                }
                _ => error,
            }
        })
    }

    fn put_at(&self, at: At<'_>, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        let folder = self.make_folder(at, key)?;
        let result = self.put_into(at, &*folder, key.name(), body, mode);
        if result.as_ref().is_err_and(|e| e.kind == ErrorKind::AlreadyExists) {
            // The writer that created the object may not have synced it yet, but our caller relies on it.
            sync_names(&*folder).map_err(|e| at.unknown(e))?;
        }
        result
    }

    /// Like [`put`](Self::put), in an existing folder and under any name.
    pub(super) fn put_into(
        &self,
        at: At<'_>,
        folder: &dyn Handle,
        name: &str,
        body: &Body,
        mode: &PutMode,
    ) -> Result<ETag> {
        // Checked again under the lock; checked here so that a put that cannot succeed writes nothing.
        permit(at, mode, &look(at, folder, name)?)?;

        let mut temp = Temp::create(at, folder)?;
        temp.fill(body)?;
        let stat = self.stamp(at, &*temp.file)?;
        temp.file.sync().map_err(|e| at.io(e))?;
        if *mode == PutMode::Create {
            temp.publish_new(name)?;
        } else {
            let lock = self.lock(at)?;
            permit(at, mode, &look(at, folder, name)?)?;
            temp.publish_over(name)?;
            // Listings compare this time; if setting it fails, they are no worse off than with the file system's own
            // times.
            let _ = lock.stat().and_then(|locked| lock.set_times(stat.modified_ns, locked.modified_ns));
        }

        let published = etag(&stat);
        sync_names(folder).map_err(|e| {
            if *mode == PutMode::Create {
                self.withdraw(at, folder, name, &published);
            }
            at.unknown(e)
        })?;
        Ok(published)
    }

    /// Removes the object under `key`. Without a `version`, the object need not exist; with one, that version must be
    /// current.
    pub(super) fn delete(&self, key: &Key, version: Option<&ETag>) -> Result<()> {
        let at = At { operation: "delete", key: key.as_str() };
        let expect = |found: &Found| match version {
            Some(etag) => permit(at, &PutMode::Update(etag.clone()), found),
            None => Ok(()),
        };
        let Some(folder) = self.folder(at, key)? else { return expect(&Found::Nothing) };
        if let Found::Object(_) = look(at, &*folder, key.name())? {
            // An update must not restore an object that was deleted after it had looked.
            let _lock = match self.lock(at) {
                // On a full disk without a lock file no update can be running, and deleting frees space.
                Err(e) if e.kind == ErrorKind::Full => None,
                lock => Some(lock?),
            };
            expect(&look(at, &*folder, key.name())?)?;
            match folder.unlink_at(key.name()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(at.io(e)),
            }
        } else {
            expect(&Found::Nothing)?;
        }
        // Also if it was gone already: the process that removed it may not have synced yet.
        sync_names(&*folder).map_err(|e| at.unknown(e))
    }

    /// Gives a file a modification time that no object of this store has had before, and returns its metadata. The
    /// kernel's clock only advances every few milliseconds, so without this two versions of an object could look the
    /// same.
    pub(super) fn stamp(&self, at: At<'_>, file: &dyn Handle) -> Result<Stat> {
        let failed = |e: Errno| at.io(e);
        // The modification time of the lock file records the latest stamp.
        let lock = self.lock(at)?;
        let (locked, written) = (lock.stat().map_err(failed)?, file.stat().map_err(failed)?);
        let after = locked.modified_ns.max(written.modified_ns);
        // Some file systems round times to the microsecond, to ten milliseconds, to one second or to two.
        for granule in [1, 1_000, 10_000_000, 1_000_000_000, 2_000_000_000] {
            let stamp = (after / granule + 1) * granule;
            lock.set_times(locked.accessed_ns, stamp).map_err(failed)?;
            file.set_times(written.accessed_ns, stamp).map_err(failed)?;
            let stat = file.stat().map_err(failed)?;
            if stat.modified_ns == stamp && lock.stat().map_err(failed)?.modified_ns == stamp {
                return Ok(stat);
            }
        }
        Err(at.because(ErrorKind::Refused, "this file system does not keep the time of a file"))
    }

    /// Removes a new object whose name could not be made durable, unless it has been replaced since.
    fn withdraw(&self, at: At<'_>, folder: &dyn Handle, name: &str, published: &ETag) {
        let Ok(_lock) = self.lock(at) else { return };
        if let Ok(Found::Object(stat)) = look(at, folder, name)
            && etag(&stat) == *published
        {
            let _ = folder.unlink_at(name);
        }
    }
}

/// Whether a put of this mode may replace what is there.
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
pub(super) fn temp_name() -> String {
    format!("{}{}", Key::RESERVED_PREFIX, Uuid::new_v4())
}

impl<'a> Temp<'a> {
    pub(super) fn create(at: At<'a>, folder: &'a dyn Handle) -> Result<Self> {
        let name = temp_name();
        let file = folder.open_at(&name, Open::New).map_err(|e| at.io(e))?;
        Ok(Self { at, folder, name, file, renamed: false })
    }

    pub(super) fn fill(&mut self, body: &Body) -> Result<()> {
        let written = body.write_to(&mut Writer(&*self.file)).map_err(|e| self.at.io(e))?;
        let stat = self.file.stat().map_err(|e| self.at.io(e))?;
        if written != body.size() || stat.size != written {
            return Err(self.at.error(ErrorKind::Corrupt));
        }
        Ok(())
    }

    /// Gives the file its name only if the name is free.
    pub(super) fn publish_new(&mut self, name: &str) -> Result<()> {
        let (at, folder) = (self.at, self.folder);
        let result = match folder.rename_new_at(&self.name, name) {
            // NFS and others lack this rename; a link does not replace either, and the first name is then dropped.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => folder.link_at(&self.name, name),
            result => result.inspect(|()| self.renamed = true),
        };
        match result {
            Err(Errno::EXIST) => {
                permit(at, &PutMode::Create, &look(at, folder, name)?)?;
                // The other file existed and is gone again; this put has still lost against it.
                Err(at.error(ErrorKind::AlreadyExists))
            }
            result => result.map_err(|e| at.io(e)),
        }
    }

    /// Gives the file its name, replacing the file that has it.
    fn publish_over(&mut self, name: &str) -> Result<()> {
        self.folder.rename_at(&self.name, name).map_err(|e| self.at.io(e))?;
        self.renamed = true;
        Ok(())
    }
}

/// An [`io::Write`] for an open file.
struct Writer<'a>(&'a dyn Handle);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
