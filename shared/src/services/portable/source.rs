//! [`Source`]: what is to be taken in, as a list of files that can be read.
//!
//! A zip comes from anyone. It is refused as a whole where it is cut off or has other bytes around it, a name leads
//! astray, an entry is a link, encrypted or packed by other means than deflate, entries overlap, its directory is beyond
//! all measure, or it would unpack to far more than it is. No entry is read beyond the length that it declares. What lies
//! inside is never unpacked in turn, and no name from it ever becomes a path.

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

/// What is to be taken in: a zip or a folder, listed but not read yet.
#[derive(Debug)]
pub struct Source {
    /// Its files in the order of their paths; litter is left out.
    pub(super) files: Vec<SourceFile>,
    /// What is there and is no file that could be read, such as links.
    pub(super) passed_over: Vec<String>,
    /// The length of the zip, where it is one.
    pub(super) packed: Option<u64>,
    zip: Option<ZipReader>,
}

impl Source {
    /// A zip in these bytes; [`Error::UnusableArchive`] with a sentence where it is none, or one that is refused.
    pub async fn zip(bytes: impl ReadAt + 'static) -> Result<Self> {
        let bytes: Arc<dyn ReadAt> = Arc::new(bytes);
        blocking(move || Self::open_zip(bytes)).await?
    }

    /// A zip in a file; likewise.
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
    Err(unusable(format!("{:?} is not as long as it was said to be.", file.path)))
}

/// A file or folder of whoever runs a command.
fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Unreadable(path.display().to_string(), error.to_string())
}

fn unread(file: &SourceFile, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => unspooled(&file.path, error),
        None => unusable(format!("The entry {:?} of the zip is damaged: {error}.", file.path)),
    }
}

/// A file that several read at once.
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
