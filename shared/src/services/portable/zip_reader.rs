//! [`ZipReader`]: the entries of an untrusted zip.
//!
//! The `zip` crate parses the directory. Entries are read here, by their offset, because two of them may have the same
//! name. A zip must begin at its first byte and end at its last: otherwise a truncated zip could be mistaken for a zip
//! stored in it.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use flate2::read::DeflateDecoder;
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

use super::names;
use super::source_file::{Origin, Packed, SourceFile, unspooled, unusable};
use crate::core::error::Result;
use crate::layout;
use store::ReadAt;

/// The most bytes that are read to list a zip's entries, which bounds the memory for them: the directory of the million
/// images that a store can hold has 110 MB.
const MAX_DIRECTORY: u64 = 128 * 1024 * 1024;
/// The unpacked size that any zip may have, whatever its length, in bytes.
const ALWAYS_ALLOWED: u64 = 64 * 1024 * 1024;
/// How many times its own length a zip may unpack to beyond that. Images hardly compress, and text does not compress
/// this much.
const MAX_RATIO: u64 = 200;
/// The most entries of a zip: those of a million images, with a margin.
const MAX_ENTRIES: u64 = 1_200_000;
/// How much of a zip is read at a time.
const WINDOW: usize = 64 * 1024;
/// Length of the record at the end of a zip, without its comment.
const END: usize = 22;
/// Length of a local header, without its name and its extra fields.
const LOCAL_HEADER: usize = 30;

/// A zip whose entries can be read.
#[derive(Clone)]
pub(super) struct ZipReader {
    bytes: Arc<dyn ReadAt>,
}

/// The directory of a zip.
struct Directory {
    start: u64,
    entries: u64,
}

/// The local header of an entry: where its extra fields begin and how long they are; its bytes follow.
struct Local {
    extra: u64,
    extra_length: usize,
}

impl std::fmt::Debug for ZipReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZipReader").field("length", &self.bytes.size()).finish_non_exhaustive()
    }
}

impl ZipReader {
    /// Opens a zip and lists its files; [`Error::UnusableArchive`](crate::Error::UnusableArchive) if it is refused.
    pub(super) fn open(bytes: Arc<dyn ReadAt>) -> Result<(Self, Vec<SourceFile>)> {
        let length = bytes.size();
        let no_zip =
            || unusable("This is not a complete zip: it was cut off, or there are other bytes before or behind it.");
        let directory = directory(&*bytes).map_err(|e| unspooled("zip", e))?.ok_or_else(no_zip)?;
        if directory.entries > MAX_ENTRIES {
            return Err(unusable(format!("The zip has {} entries: its directory is too long.", directory.entries)));
        }
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut listed =
            ZipIterable::try_new(Position::new(Arc::clone(&bytes), MAX_DIRECTORY), config).map_err(refused)?;
        if listed.len() as u64 != directory.entries {
            return Err(no_zip());
        }
        let (mut files, mut raw_names, mut ranges, mut locals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for entry in listed.files().map_err(refused)? {
            let entry = entry.map_err(refused)?;
            if ranges.is_empty() && entry.central_header_start() != directory.start {
                return Err(no_zip());
            }
            let path = entry.name().map_err(refused)?.into_owned();
            let fault = match entry.compression() {
                _ if entry.is_symlink() => Some("is a link"),
                _ if entry.encrypted() => Some("is encrypted"),
                CompressionMethod::Stored | CompressionMethod::Deflated => None,
                _ => Some("is compressed with a method other than deflate"),
            };
            if let Some(fault) = fault {
                return Err(unusable(format!("The entry {path:?} of the zip {fault}, which is not accepted.")));
            }
            let local = Local::read(&*bytes, entry.header_start(), &path)?;
            let packed = Packed {
                start: local.extra + local.extra_length as u64,
                length: entry.compressed_size(),
                deflated: entry.compression() == CompressionMethod::Deflated,
                crc: entry.crc32(),
            };
            ranges.push(entry.header_start()..packed.start.saturating_add(packed.length));
            let raw = entry.name_raw();
            raw_names.push(std::str::from_utf8(raw).is_err().then(|| Box::<[u8]>::from(raw)));
            locals.push(local);
            files.push(SourceFile {
                path,
                stored_name: None,
                size: entry.size(),
                modified: entry.last_modified().and_then(moment),
                origin: Origin::Entry(packed),
            });
        }
        if let Some(first) = ranges.iter().map(|range| range.start).min()
            && !begins_at(&*bytes, first).map_err(|e| unspooled("zip", e))?
        {
            return Err(no_zip());
        }
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        let beyond = ranges.last().is_some_and(|last| last.end > directory.start);
        if beyond || ranges.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err(unusable("The zip has entries that overlap."));
        }
        // After the checks, so that no byte is read for more than one entry.
        for (file, local) in files.iter_mut().zip(&locals) {
            file.modified = local.modified(&*bytes)?.or(file.modified);
        }
        let files = named(files, &raw_names)?;
        let unpacked = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        if unpacked > ALWAYS_ALLOWED && unpacked / MAX_RATIO > length {
            return Err(unusable(format!("The zip of {length} bytes would unpack to {unpacked}, which is too much.")));
        }
        Ok((Self { bytes }, files))
    }

    /// The length of the zip in bytes.
    pub(super) fn length(&self) -> u64 {
        self.bytes.size()
    }

    /// The bytes of an entry, ending with an error if their checksum is wrong.
    pub(super) fn read(&self, packed: &Packed) -> impl Read + use<> {
        let mut raw = Position::new(Arc::clone(&self.bytes), u64::MAX);
        raw.at = packed.start;
        let raw = raw.take(packed.length);
        let plain: Box<dyn Read> = if packed.deflated { Box::new(DeflateDecoder::new(raw)) } else { Box::new(raw) };
        Checked { plain, crc: crc32fast::Hasher::new(), expected: packed.crc }
    }
}

/// Gives each file its path, and leaves out folders and files that operating systems leave. A path that leads out of
/// the zip refuses it.
fn named(files: Vec<SourceFile>, raw_names: &[Option<Box<[u8]>>]) -> Result<Vec<SourceFile>> {
    // A zip does not state the encoding of names that are not UTF-8. One name can show it for all.
    let japanese = raw_names.iter().flatten().any(|raw| names::shows_shift_jis(raw));
    let mut taken = Vec::with_capacity(files.len());
    for (mut file, raw) in files.into_iter().zip(raw_names) {
        let read = raw.as_deref().filter(|_| japanese).and_then(names::in_shift_jis);
        // Some Windows programs separate folders by backslashes.
        let path = read.unwrap_or_else(|| file.path.clone()).replace('\\', "/");
        let below = path.strip_suffix('/');
        if let Some(reason) = names::why_unsafe(below.unwrap_or(&path)) {
            return Err(unusable(format!("The zip has an entry named {:?}, which is refused: {reason}.", file.path)));
        }
        if below.is_some() || names::is_litter(&path) {
            continue;
        }
        if path != file.path {
            file.stored_name = Some(std::mem::replace(&mut file.path, path));
        }
        taken.push(file);
    }
    let metadata = layout::metadata_file();
    let refused = |path: &str| path.rsplit('/').next() == Some(metadata.as_str());
    match names::make_distinct(&mut taken, refused) {
        Ok(()) => Ok(taken),
        Err(path) => Err(unusable(format!(
            "The zip has two entries named {path:?}, and it is not clear whose records count. Pack it with one of them."
        ))),
    }
}

/// The directory of a zip that ends at the last of these bytes, and whose offsets count from the first.
fn directory(bytes: &dyn ReadAt) -> io::Result<Option<Directory>> {
    let from = bytes.size().saturating_sub((END + usize::from(u16::MAX)) as u64);
    let tail = read_at(bytes, from, (bytes.size() - from) as usize)?;
    for at in (0..=tail.len().saturating_sub(END)).rev() {
        let end = &tail[at..];
        if !end.starts_with(b"PK\x05\x06") || end.len() < END || END + number(end, 20, 2) as usize != end.len() {
            continue;
        }
        let found = from + at as u64;
        if let Some(directory) = zip64_directory(bytes, found)? {
            return Ok(Some(directory));
        }
        let directory = Directory { start: number(end, 16, 4), entries: number(end, 10, 2) };
        if directory.start + number(end, 12, 4) == found {
            return Ok(Some(directory));
        }
    }
    Ok(None)
}

/// The directory that the zip64 records point to, which precede the end record.
fn zip64_directory(bytes: &dyn ReadAt, end: u64) -> io::Result<Option<Directory>> {
    const LOCATOR: u64 = 20;
    const RECORD: usize = 56;
    let Some(at) = end.checked_sub(LOCATOR) else { return Ok(None) };
    let locator = read_at(bytes, at, LOCATOR as usize)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let record_at = number(&locator, 8, 8);
    let record = read_at(bytes, record_at, RECORD)?;
    let is_whole = record.len() == RECORD && record.starts_with(b"PK\x06\x06");
    if !is_whole || record_at.checked_add(12).and_then(|begun| begun.checked_add(number(&record, 4, 8))) != Some(at) {
        return Ok(None);
    }
    let directory = Directory { start: number(&record, 48, 8), entries: number(&record, 32, 8) };
    Ok((directory.start.checked_add(number(&record, 40, 8)) == Some(record_at)).then_some(directory))
}

/// Whether the first entry of a zip is at its beginning: at once, or after the marker of a zip that was to be split.
fn begins_at(bytes: &dyn ReadAt, first: u64) -> io::Result<bool> {
    Ok(match first {
        0 => true,
        4 => [b"PK\x07\x08", b"PK00"].iter().any(|mark| read_at(bytes, 0, 4).is_ok_and(|start| start == *mark)),
        _ => false,
    })
}

impl Local {
    fn read(bytes: &dyn ReadAt, at: u64, path: &str) -> Result<Self> {
        let header = read_at(bytes, at, LOCAL_HEADER).map_err(|e| unspooled("zip", e))?;
        if header.len() < LOCAL_HEADER || !header.starts_with(b"PK\x03\x04") {
            return Err(unusable(format!("The entry {path:?} of the zip is damaged: it has no header.")));
        }
        let (name, extra) = (number(&header, 26, 2), number(&header, 28, 2));
        Ok(Self { extra: at + LOCAL_HEADER as u64 + name, extra_length: extra as usize })
    }

    /// When the entry was changed in UTC, if the zip contains it.
    fn modified(&self, bytes: &dyn ReadAt) -> Result<Option<Timestamp>> {
        let fields = read_at(bytes, self.extra, self.extra_length).map_err(|e| unspooled("zip", e))?;
        Ok(universal_time(&fields))
    }
}

/// When a file was changed, if the extra fields of its header contain it in UTC, as those of Info-ZIP do.
fn universal_time(mut fields: &[u8]) -> Option<Timestamp> {
    while fields.len() >= 4 {
        let (head, rest) = fields.split_at(4);
        let field = rest.get(..number(head, 2, 2) as usize)?;
        if head.starts_with(b"UT") && field.len() >= 5 && field[0] & 1 == 1 {
            let second = i64::from(number(field, 1, 4) as u32 as i32);
            return Timestamp::from_second(second).ok().filter(|_| second != 0);
        }
        fields = &rest[field.len()..];
    }
    None
}

/// When an entry was last changed, from the zip's time without a time zone. The earliest possible time means that there
/// is none.
fn moment(time: zip::DateTime) -> Option<Timestamp> {
    let (month, day) = (i8::try_from(time.month()).ok()?, i8::try_from(time.day()).ok()?);
    let (hour, minute) = (i8::try_from(time.hour()).ok()?, i8::try_from(time.minute()).ok()?);
    let second = i8::try_from(time.second()).ok()?;
    let civil = civil::DateTime::new(i16::try_from(time.year()).ok()?, month, day, hour, minute, second, 0).ok()?;
    let none = civil == civil::DateTime::constant(1980, 1, 1, 0, 0, 0, 0);
    TimeZone::UTC.to_timestamp(civil).ok().filter(|_| !none)
}

/// Up to `length` bytes from an offset. A zip may contain an offset so large that a file system rejects it.
fn read_at(bytes: &dyn ReadAt, at: u64, length: usize) -> io::Result<Vec<u8>> {
    if at >= bytes.size() {
        return Ok(Vec::new());
    }
    let mut read = vec![0; length];
    let n = bytes.read_at(at, &mut read)?;
    read.truncate(n);
    Ok(read)
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Treats an error as one of the zip, unless the system reports one of its own.
fn refused(error: ZipError) -> crate::Error {
    match error {
        ZipError::Io(error) if error.raw_os_error().is_some() => unspooled("zip", error),
        ZipError::Io(error) => unusable(format!("The zip is damaged or breaks off: {error}.")),
        error => unusable(format!("The zip cannot be read: {error}.")),
    }
}

/// Compares the bytes with their checksum once all of them have been read.
struct Checked<R> {
    plain: R,
    crc: crc32fast::Hasher,
    expected: u32,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.plain.read(buffer)?;
        self.crc.update(&buffer[..n]);
        if n == 0 && !buffer.is_empty() && self.crc.clone().finalize() != self.expected {
            return Err(io::Error::other("its checksum is wrong"));
        }
        Ok(n)
    }
}

/// A read position in bytes.
struct Position {
    bytes: Arc<dyn ReadAt>,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Bytes that may still be read.
    left: u64,
}

impl Position {
    fn new(bytes: Arc<dyn ReadAt>, left: u64) -> Self {
        Self { bytes, at: 0, window: Vec::new(), window_at: 0, left }
    }
}

impl Read for Position {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let in_window = self.at.checked_sub(self.window_at).filter(|at| *at < self.window.len() as u64);
        let Some(start) = in_window else {
            let window = read_at(&*self.bytes, self.at, WINDOW)?;
            let left = self.left.checked_sub(window.len() as u64);
            self.left = left.ok_or_else(|| io::Error::other("its directory is too long"))?;
            (self.window, self.window_at) = (window, self.at);
            return if self.window.is_empty() || buffer.is_empty() { Ok(0) } else { self.read(buffer) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_fields_say_the_time_in_utc() {
        let moment = "2026-11-20T08:09:11Z".parse::<Timestamp>().unwrap();
        let time = (moment.as_second() as i32).to_le_bytes();
        let field = |flags: u8| [b"ux\x01\0\x01UT\x05\0".as_slice(), &[flags], &time].concat();
        assert_eq!(universal_time(&field(3)), Some(moment));
        assert_eq!(universal_time(&field(2)), None, "it says when the file was opened");
        assert_eq!(universal_time(b"UT\x05\0\x01\0\0\0\0"), None);
        for broken in [&b"UT"[..], b"UT\x09\0\x01\0", b"UT\x01\0\x01", b""] {
            assert_eq!(universal_time(broken), None);
        }
    }

    /// Bytes that count how many of them were requested.
    struct Counted(Vec<u8>, std::sync::atomic::AtomicU64);

    impl ReadAt for Counted {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.1.fetch_add(buffer.len() as u64, std::sync::atomic::Ordering::Relaxed);
            let rest = &self.0[self.0.len().min(offset as usize)..];
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }
    }

    #[test]
    fn entries_that_share_a_long_header_are_refused_before_it_is_read() {
        let entries = 1_000_u16;
        let mut zip = b"PK\x03\x04\x14\0".to_vec();
        zip.resize(26, 0);
        zip.extend(b"\x01\0\xff\xffa");
        zip.resize(LOCAL_HEADER + 1 + usize::from(u16::MAX), 0);
        let start = zip.len() as u32;
        let mut one = b"PK\x01\x02\x14\0\x14\0".to_vec();
        one.resize(28, 0);
        one.push(1);
        one.resize(46, 0);
        one.push(b'a');
        zip.extend(one.repeat(entries.into()));
        let length = zip.len() as u32 - start;
        zip.extend(b"PK\x05\x06\0\0\0\0");
        zip.extend([entries, entries].map(u16::to_le_bytes).concat());
        zip.extend([length, start].map(u32::to_le_bytes).concat());
        zip.extend([0, 0]);
        let (size, bytes) = (zip.len() as u64, Arc::new(Counted(zip, 0.into())));
        let refused = ZipReader::open(bytes.clone()).unwrap_err().to_string();
        assert!(refused.contains("overlap"), "{refused}");
        let read = bytes.1.load(std::sync::atomic::Ordering::Relaxed);
        assert!(read < 5 * size, "{read} bytes of {size} were read");
    }

    #[test]
    fn a_zip_has_no_date_at_the_first_moment_there_is() {
        let time = |year, month| zip::DateTime::from_date_and_time(year, month, 1, 0, 0, 0).unwrap();
        assert_eq!(moment(time(1980, 1)), None);
        assert_eq!(moment(time(1980, 2)), Some("1980-02-01T00:00:00Z".parse().unwrap()));
    }
}
