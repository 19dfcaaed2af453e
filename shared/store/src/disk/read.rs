//! Reading an object from the file that had its name when the read began.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use rustix::fs::FileType;
use rustix::io::{Errno, retry_on_intr};

use super::blocking;
use super::fs::{Handle, Open};
use super::path::{At, Disk, Found, look, meta};
use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::object::{Object, ObjectMeta};

/// How many bytes of a file are read at a time.
const CHUNK: u64 = 128 * 1024;

impl Disk {
    pub(super) fn head(&self, key: &Key) -> Result<ObjectMeta> {
        let at = At { operation: "head", key: key.as_str() };
        let folder = self.folder(at, key)?.ok_or_else(|| at.error(ErrorKind::NotFound))?;
        match look(at, &*folder, key.name())? {
            Found::Object(stat) => Ok(meta(key.clone(), &stat)),
            Found::Folder | Found::Nothing => Err(at.error(ErrorKind::NotFound)),
        }
    }

    /// Opens an object and reads the first chunk of the requested range, which for most objects is all of it.
    pub(super) fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        let at = At { operation: "get", key: key.as_str() };
        let not_found = || at.error(ErrorKind::NotFound);
        let folder = self.folder(at, key)?.ok_or_else(not_found)?;
        let Found::Object(_) = look(at, &*folder, key.name())? else { return Err(not_found()) };
        let file = match folder.open_at(key.name(), Open::Read) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(not_found()),
            Err(e) => return Err(at.io(e)),
        };
        let stat = file.stat().map_err(|e| at.io(e))?;
        // Another process may have put a pipe there since.
        if stat.kind != FileType::RegularFile {
            return Err(not_found());
        }

        let meta = meta(key.clone(), &stat);
        let Range { start, end } = range.unwrap_or(0..meta.size);
        let end = end.min(meta.size);
        let first = read(at, &*file, start, end)?;
        let (file, name) = (Arc::<dyn Handle>::from(file), key.to_string());
        let next = start.saturating_add(first.len() as u64);
        let rest = stream::try_unfold(next, move |start| {
            let (file, name) = (file.clone(), name.clone());
            async move {
                if start >= end {
                    return Ok(None);
                }
                let key = name.clone();
                let work = move || read(At { operation: "get", key: &name }, &*file, start, end);
                let chunk = blocking("get", &key, work).await?;
                let next = start + chunk.len() as u64;
                Ok(Some((chunk, next)))
            }
        });
        Ok(Object { meta, body: stream::iter([Ok(first)]).chain(rest).boxed() })
    }
}

/// Reads the next bytes before `end`; empty only at the end.
fn read(at: At<'_>, file: &dyn Handle, start: u64, end: u64) -> Result<Bytes> {
    let mut buffer = BytesMut::zeroed(end.saturating_sub(start).min(CHUNK) as usize);
    let mut filled = 0;
    while filled < buffer.len() {
        match retry_on_intr(|| file.read_at(&mut buffer[filled..], start + filled as u64)) {
            Ok(0) => return Err(at.because(ErrorKind::Corrupt, "the file has become shorter while it was read")),
            Ok(length) => filled += length,
            // A bad sector does not mean that the rest of the disk is bad.
            Err(Errno::IO) => return Err(at.because(ErrorKind::Corrupt, "the disk cannot read it")),
            Err(e) => return Err(at.io(e)),
        }
    }
    Ok(buffer.freeze())
}
