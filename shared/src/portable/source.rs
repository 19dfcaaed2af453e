//! [`Source`]: what is to be taken in, as a list of files that can be read.
//!
//! A zip comes from anyone. It is refused as a whole where a name leads astray or comes twice, an entry is a link,
//! encrypted or packed by other means than deflate, entries overlap, its directory is beyond all measure, or it would
//! unpack to far more than it is. No entry is read beyond the length that it declares. What lies inside is never unpacked
//! in turn, and no name from it ever becomes a path.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;
use zip::CompressionMethod;
use zip::read::ZipArchive;
use zip::result::ZipError;

use super::names;
use crate::error::{Error, Result};
use crate::keepsake::blocking;
use crate::store::{Body, ReadAt, Spool, StoreError};

/// The most bytes that are read to open a zip, which bounds its entries: the directory of the million images that a store
/// can hold has 110 MB.
const MAX_DIRECTORY: u64 = 128 * 1024 * 1024;
/// Up to this many bytes a zip may unpack to whatever its own length.
const HARMLESS: u64 = 64 * 1024 * 1024;
/// How many times its own length it may unpack to beyond that. Images hardly shrink, and text does not shrink so far.
const MAX_RATIO: u64 = 200;
/// The most entries of a zip: those of a million images, and then some.
const MAX_ENTRIES: u64 = 1_200_000;
/// What each entry begins with in the directory.
const ENTRY: &[u8] = b"PK\x01\x02";
/// How much of a zip is read at a time.
const WINDOW: usize = 64 * 1024;

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// Its path below the root, `/` between the segments.
    pub(super) path: String,
    /// Length in bytes, as declared.
    pub(super) size: u64,
    /// When it was last changed, where that is known.
    pub(super) modified: Option<Timestamp>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Entry(usize),
    Path(PathBuf),
}

/// What is to be taken in: a zip or a folder, listed but not read yet.
#[derive(Debug)]
pub struct Source {
    /// Its files in the order of their paths; litter is left out.
    pub(super) files: Vec<SourceFile>,
    /// What is there and is no file that could be read, such as links.
    pub(super) passed_over: Vec<String>,
    /// The length of the zip, where it is one.
    pub(super) packed: Option<u64>,
    zip: Option<ZipArchive<Position>>,
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
        let length = bytes.size();
        let position = Position::new(bytes, MAX_DIRECTORY);
        let mut zip = ZipArchive::new(position.clone()).map_err(refused)?;
        position.left.store(u64::MAX, Ordering::Relaxed);
        position.entries_left.store(u64::MAX, Ordering::Relaxed);
        if zip.has_duplicate_names() {
            return Err(unusable("The zip has two entries of one name."));
        }
        if zip.has_overlapping_entries().map_err(refused)? {
            return Err(unusable("The zip has entries that overlap, as no honest program writes them."));
        }
        let metadata = zip.metadata();
        let mut files = Vec::new();
        for index in 0..metadata.len() {
            let entry = metadata.entry(index).map_err(refused)?;
            let path = entry.name().map_err(refused)?.into_owned();
            let folder = entry.is_dir();
            if let Some(reason) = names::leads_astray(path.strip_suffix('/').filter(|_| folder).unwrap_or(&path)) {
                return Err(unusable(format!("The zip has an entry named {path:?}, which is refused: {reason}.")));
            }
            let fault = match entry.compression() {
                _ if entry.is_symlink() => Some("is a link"),
                _ if entry.encrypted() => Some("is encrypted"),
                CompressionMethod::Stored | CompressionMethod::Deflated => None,
                _ => Some("is packed by other means than deflate"),
            };
            if let Some(fault) = fault {
                return Err(unusable(format!("The entry {path:?} of the zip {fault}, which is not taken.")));
            }
            if !folder && !names::is_litter(&path) {
                let modified = entry.last_modified().and_then(moment);
                files.push(SourceFile { path, size: entry.size(), modified, place: Place::Entry(index) });
            }
        }
        let unpacked = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        if unpacked > HARMLESS && unpacked / MAX_RATIO > length {
            return Err(unusable(format!("The zip of {length} bytes would unpack to {unpacked}, which is too much.")));
        }
        Ok(Self { packed: Some(length), zip: Some(zip), ..Self::sorted(files, Vec::new()) })
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
                    files.push(SourceFile { path, size: status.len(), modified, place: Place::Path(entry.path()) });
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
        let read = move || match (&file.place, zip) {
            (Place::Entry(index), Some(mut zip)) => fill(&file, zip.by_index(*index).map_err(refused)?, spool),
            (Place::Path(path), _) => {
                let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
                let opened = File::options().read(true).custom_flags(no_link).open(path);
                fill(&file, opened.map_err(|e| unreadable(path, &e))?, spool)
            }
            (Place::Entry(_), None) => Err(unusable("The zip is gone.")),
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

fn unusable(sentence: impl Into<String>) -> Error {
    Error::UnusableArchive(sentence.into())
}

/// A file or folder of whoever runs a command.
fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Unreadable(path.display().to_string(), error.to_string())
}

/// Bytes that were there to be read a moment ago, in the source or spooled.
fn unspooled(path: &str, error: io::Error) -> Error {
    StoreError::io("read", path, error).into()
}

/// What a zip's bytes are to blame for, unless the system says that it was it.
fn refused(error: ZipError) -> Error {
    match error {
        ZipError::Io(error) if error.raw_os_error().is_some() => unspooled("zip", error),
        ZipError::Io(error) => unusable(format!("The zip is damaged or breaks off: {error}.")),
        error => unusable(format!("The zip cannot be read: {error}.")),
    }
}

fn unread(file: &SourceFile, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => unspooled(&file.path, error),
        None => unusable(format!("The entry {:?} of the zip is damaged: {error}.", file.path)),
    }
}

/// When an entry was last changed. Zips know no time zone.
fn moment(time: zip::DateTime) -> Option<Timestamp> {
    let (month, day) = (i8::try_from(time.month()).ok()?, i8::try_from(time.day()).ok()?);
    let (hour, minute) = (i8::try_from(time.hour()).ok()?, i8::try_from(time.minute()).ok()?);
    let second = i8::try_from(time.second()).ok()?;
    let civil = civil::DateTime::new(i16::try_from(time.year()).ok()?, month, day, hour, minute, second, 0).ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
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

/// A place in bytes from which one reads on; each clone has a place of its own.
#[derive(Clone)]
struct Position {
    bytes: Arc<dyn ReadAt>,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Bytes that may still be read, by all clones together.
    left: Arc<AtomicU64>,
    /// Entries of the directory that may still be met, before the whole of it stands in memory.
    entries_left: Arc<AtomicU64>,
}

impl Position {
    fn new(bytes: Arc<dyn ReadAt>, limit: u64) -> Self {
        let (left, entries_left) = (Arc::new(AtomicU64::new(limit)), Arc::new(AtomicU64::new(MAX_ENTRIES)));
        Self { bytes, at: 0, window: Vec::new(), window_at: 0, left, entries_left }
    }
}

impl std::fmt::Debug for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Position").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Read for Position {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let in_window = self.at.checked_sub(self.window_at).filter(|at| *at < self.window.len() as u64);
        let Some(start) = in_window else {
            let mut window = vec![0; WINDOW];
            let n = self.bytes.read_at(self.at, &mut window)?;
            window.truncate(n);
            // Once it stands, nothing is counted any more.
            let counted =
                if self.entries_left.load(Ordering::Relaxed) <= MAX_ENTRIES { window.as_slice() } else { &[] };
            let entries = counted.windows(ENTRY.len()).filter(|bytes| *bytes == ENTRY).count();
            for (left, met) in [(&self.left, n), (&self.entries_left, entries)] {
                let spend = |left: u64| left.checked_sub(met as u64);
                if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
                    return Err(io::Error::other("its directory is too long"));
                }
            }
            (self.window, self.window_at) = (window, self.at);
            return if n == 0 || buffer.is_empty() { Ok(0) } else { self.read(buffer) };
        };
        let ready = &self.window[start as usize..];
        let n = ready.len().min(buffer.len());
        buffer[..n].copy_from_slice(&ready[..n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Position {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
