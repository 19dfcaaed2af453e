//! [`Source`]: the source of an import, as a list of files that can be read.
//!
//! A zip is untrusted. It is refused as a whole if it is truncated or has other bytes around it, if a name leads
//! outside, if an entry is a link, encrypted or compressed by another method than deflate, if entries overlap, if its
//! directory is excessively large, or if it would unpack to far more than its size. No entry is read beyond its
//! declared length. Nested archives are never unpacked, and no name in it ever becomes a path.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::names;
use super::source_file::{Origin, SourceFile, unspooled, unusable};
use super::zip_reader::ZipReader;
use crate::core::blocking;
use crate::core::error::{Error, Result};
use store::{Body, ReadAt, Spool};

/// The source of an import: a zip or a folder, listed but not read yet.
#[derive(Debug)]
pub struct Source {
    /// Its files, sorted by path, without files that operating systems leave.
    pub(super) files: Vec<SourceFile>,
    /// Entries that are not readable files, such as links.
    pub(super) passed_over: Vec<String>,
    /// The length of the zip, if it is one.
    pub(super) packed: Option<u64>,
    zip: Option<ZipReader>,
}

impl Source {
    /// A zip in these bytes; [`Error::UnusableArchive`] with a sentence if it is not a zip or is refused.
    pub async fn zip(bytes: impl ReadAt + 'static) -> Result<Self> {
        let bytes: Arc<dyn ReadAt> = Arc::new(bytes);
        blocking(move || Self::open_zip(bytes)).await?
    }

    /// A zip in a file; the same errors.
    pub async fn zip_file(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let open = move || -> Result<FileAt> {
            let file = File::open(&path).map_err(|e| unreadable(&path, &e))?;
            let size = file.metadata().map_err(|e| unreadable(&path, &e))?.len();
            Ok(FileAt { file, size })
        };
        Self::zip(blocking(open).await??).await
    }

    /// A folder. Links in it are not followed.
    pub async fn folder(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        blocking(move || Self::list_folder(&path)).await?
    }

    fn open_zip(bytes: Arc<dyn ReadAt>) -> Result<Self> {
        let (zip, files) = ZipReader::open(bytes)?;
        Ok(Self { packed: Some(zip.length()), zip: Some(zip), ..Self::sorted(files, Vec::new()) })
    }

    fn list_folder(root: &Path) -> Result<Self> {
        let (mut files, mut passed_over) = (Vec::new(), Vec::new());
        let mut folders = vec![(root.to_owned(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(|e| unreadable(&folder, &e))? {
                let entry = entry.map_err(|e| unreadable(&folder, &e))?;
                let name = entry.file_name();
                let path = format!("{prefix}{}", name.to_string_lossy());
                let kind = entry.file_type().map_err(|e| unreadable(&entry.path(), &e))?;
                if name.to_str().is_none() {
                    passed_over.push(path);
                } else if kind.is_dir() {
                    folders.push((entry.path(), format!("{path}/")));
                } else if !kind.is_file() {
                    passed_over.push(path);
                } else if !names::is_litter(&path) {
                    let status = entry.metadata().map_err(|e| unreadable(&entry.path(), &e))?;
                    let modified = status.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
                    let origin = Origin::Path(entry.path());
                    files.push(SourceFile { path, stored_name: None, size: status.len(), modified, origin });
                }
            }
        }
        Ok(Self::sorted(files, passed_over))
    }

    fn sorted(mut files: Vec<SourceFile>, mut passed_over: Vec<String>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        passed_over.sort();
        Self { files, passed_over, packed: None, zip: None }
    }

    /// Reads a file into a body; `spool` is for a long one.
    pub(super) async fn read(&self, file: &SourceFile, spool: Spool) -> Result<Body> {
        let (file, zip) = (file.clone(), self.zip.clone());
        let read = move || match (&file.origin, zip) {
            (Origin::Entry(packed), Some(zip)) => fill(&file, zip.read(packed), spool),
            (Origin::Path(path), _) => {
                let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
                let opened = File::options().read(true).custom_flags(no_link).open(path);
                fill(&file, opened.map_err(|e| unreadable(path, &e))?, spool)
            }
            (Origin::Entry(_), None) => Err(unusable("The zip is gone.")),
        };
        blocking(read).await?
    }
}

/// Reads exactly as many bytes as the file declares.
fn fill(file: &SourceFile, from: impl Read, spool: Spool) -> Result<Body> {
    let body = spool.take_all(from.take(file.size.saturating_add(1))).map_err(|e| unread(file, e))?;
    if body.size() == file.size {
        return Ok(body);
    }
    Err(unusable(format!("{:?} does not have its declared length.", file.path)))
}

/// An error for a file or folder given on the command line.
fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Unreadable(path.display().to_string(), error.to_string())
}

fn unread(file: &SourceFile, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => unspooled(&file.path, error),
        None => unusable(format!("The entry {:?} of the zip is damaged: {error}.", file.path)),
    }
}

/// A file with concurrent readers.
struct FileAt {
    file: File,
    size: u64,
}

impl ReadAt for FileAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }
}
