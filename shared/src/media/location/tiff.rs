//! GPS directories of TIFFs, such as Exif: the entry that points to one is removed from its directory, and its target
//! is zeroed.
//!
//! The entries after it move up by one, as if it had never been written, so that every reader accepts the file.
//! Everything else keeps its position, since offsets count from the header.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use super::fill;
use super::patches::Patch;
use store::ReadAt;

/// The entry that points to a GPS directory, and the one that points to the other Exif data.
const GPS: u16 = 0x8825;
const EXIF: u16 = 0x8769;
/// The entry that points to directories of other pictures, as in raws and DNGs.
const SUB_DIRECTORIES: u16 = 0x014a;
const ORIENTATION: u16 = 0x0112;
/// The entry of a directory that would otherwise be empty, which is not allowed: bytes without meaning.
const PADDING: u16 = 0xea1c;
const UNDEFINED: u16 = 7;
/// A GPS directory has no tag beyond this; 31 are defined.
const LAST_GPS_TAG: u16 = 0x3f;
/// The most entries of a directory.
const MOST_ENTRIES: u64 = 1024;
/// The most directories reachable from one header, and from one of its entries.
const MOST_DIRECTORIES: usize = 1024;
const MOST_SUB_DIRECTORIES: u64 = 64;
/// The most bytes reachable from all headers of a file together.
const MOST_BYTES: u64 = 4 << 20;
/// The longest value of a GPS directory, in bytes; most have up to 24.
const LONGEST_VALUE: u64 = 64 * 1024;
/// The length of a TIFF whose end is unknown.
const REACH: u64 = 1 << 20;

/// The patches for all TIFFs that begin at these offsets.
pub(super) fn patches(body: &dyn ReadAt, headers: &[u64]) -> io::Result<Vec<Patch>> {
    let (mut patches, mut left) = (Vec::new(), MOST_BYTES);
    for header in headers {
        if let Some(mut tiff) = Tiff::open(body, *header, &mut left)? {
            tiff.walk(&mut patches)?;
        }
    }
    Ok(patches)
}

/// The same bytes reduced to the orientation in their first TIFF, and what precedes that TIFF; `None` if it has none.
pub(super) fn orientation_alone(body: &dyn ReadAt) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(body.size()).ok()?];
    fill(body, 0, &mut bytes).ok().filter(|is_whole| *is_whole)?;
    let at = bytes.windows(4).position(|start| matches!(start, b"II*\0" | b"MM\0*"))?;
    let mut left = MOST_BYTES;
    let mut tiff = Tiff::open(body, at as u64, &mut left).ok()??;
    let first = tiff.directory(tiff.first).ok()??;
    let orientation = first.entries.iter().find(|entry| entry.tag == ORIENTATION)?;
    let (header, entry) =
        (at + 4, [&tiff.written(8, 4)[..], &tiff.written(1, 2), &orientation.bytes, &[0; 4]].concat());
    let end = header + entry.len();
    bytes.get_mut(header..end)?.copy_from_slice(&entry);
    bytes[end..].fill(0);
    Some(bytes)
}

/// A TIFF inside a file.
struct Tiff<'a> {
    body: &'a dyn ReadAt,
    /// Its range in the file.
    part: Range<u64>,
    is_big_endian: bool,
    /// Whether it is a BigTIFF, whose numbers are longer.
    is_big: bool,
    first: u64,
    /// Bytes that may still be read.
    left: &'a mut u64,
}

/// One of its directories.
struct Directory {
    /// Its range in the file, with the link to the next one if there is room for one.
    part: Range<u64>,
    entries: Vec<Entry>,
    /// The link to the next one as stored; empty if there is none.
    link: Vec<u8>,
}

#[derive(Clone)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// The entry as stored.
    bytes: Vec<u8>,
    /// Its value, if that is an offset.
    offset: u64,
}

impl<'a> Tiff<'a> {
    fn open(body: &'a dyn ReadAt, at: u64, left: &'a mut u64) -> io::Result<Option<Self>> {
        let mut start = [0; 16];
        let is_whole = fill(body, at, &mut start)?;
        if !is_whole && !fill(body, at, &mut start[..8])? {
            return Ok(None);
        }
        let (is_big_endian, is_big) = (start[0] == b'M', start[..4].contains(&b'+'));
        let part = at..end(body, at)?;
        let mut tiff = Self { body, part, is_big_endian, is_big, first: 0, left };
        tiff.first = if is_big { tiff.number(&start[8..]) } else { tiff.number(&start[4..8]) };
        Ok((is_whole || !is_big).then_some(tiff))
    }

    /// Follows the directories and collects the patches that remove their GPS entries.
    fn walk(&mut self, patches: &mut Vec<Patch>) -> io::Result<()> {
        let (mut waiting, mut seen) = (vec![self.first], BTreeSet::new());
        let mut values = Vec::new();
        while let Some(offset) = waiting.pop() {
            if seen.len() == MOST_DIRECTORIES || !seen.insert(offset) {
                continue;
            }
            let Some(directory) = self.directory(offset)? else { continue };
            waiting.push(self.number(&directory.link));
            let leads_to =
                |tag| directory.entries.iter().filter(move |entry| entry.tag == tag).map(|entry| entry.offset);
            waiting.extend(leads_to(EXIF));
            for entry in directory.entries.iter().filter(|entry| entry.tag != GPS) {
                waiting.extend(self.sub_directories(entry)?);
            }
            let gps: Vec<u64> = leads_to(GPS).collect();
            if gps.is_empty() {
                continue;
            }
            patches.push(self.without(&directory));
            for offset in gps {
                let found = self.directory(offset)?;
                if let Some(gps) = found.filter(|gps| gps.entries.iter().all(|entry| entry.tag <= LAST_GPS_TAG)) {
                    values.push(Patch::fill(gps.part.clone(), 0));
                    values.extend(
                        gps.entries.iter().filter_map(|entry| self.value(entry)).map(|part| Patch::fill(part, 0)),
                    );
                }
            }
        }
        // The directories come first: a value that claims to overlap one does not change it.
        patches.append(&mut values);
        Ok(())
    }

    /// The directory at this offset, if it is one.
    fn directory(&mut self, offset: u64) -> io::Result<Option<Directory>> {
        let (number, length) = if self.is_big { (8, 20) } else { (2, 12) };
        let link = if self.is_big { 8 } else { 4 };
        let Some(start) = self.part.start.checked_add(offset).filter(|start| offset >= 8 && *start < self.part.end)
        else {
            return Ok(None);
        };
        let Some(count) = self.read(start, number)? else { return Ok(None) };
        let count = self.number(&count);
        if !(1..=MOST_ENTRIES).contains(&count) {
            return Ok(None);
        }
        let Some(bytes) = self.read(start + number, count * length)? else { return Ok(None) };
        let entries: Vec<Entry> = bytes.chunks_exact(length as usize).map(|bytes| self.entry(bytes)).collect();
        // Random bytes hardly ever pass this check; a camera's small mistakes do.
        if 2 * entries.iter().filter(|entry| size_of_kind(entry.kind).is_some()).count() < entries.len() {
            return Ok(None);
        }
        let end = start + number + count * length;
        let link = self.read(end, link)?.unwrap_or_default();
        Ok(Some(Directory { part: start..end + link.len() as u64, entries, link }))
    }

    /// The directories that an entry points to, if its tag or its type allows that.
    fn sub_directories(&mut self, entry: &Entry) -> io::Result<Vec<u64>> {
        let size = match entry.kind {
            4 if entry.tag == SUB_DIRECTORIES => 4,
            13 => 4,
            16 if entry.tag == SUB_DIRECTORIES => 8,
            18 => 8,
            _ => return Ok(Vec::new()),
        };
        let length = size * entry.count.min(MOST_SUB_DIRECTORIES);
        let width = if self.is_big { 8 } else { 4 };
        let offsets = if size.saturating_mul(entry.count) <= width {
            entry.bytes[entry.bytes.len() - width as usize..][..length as usize].to_vec()
        } else {
            let at = self.part.start.saturating_add(entry.offset);
            self.read(at, length)?.unwrap_or_default()
        };
        Ok(offsets.chunks_exact(size as usize).map(|offset| self.number(offset)).collect())
    }

    fn entry(&self, bytes: &[u8]) -> Entry {
        let short = |at| self.number(&bytes[at..at + 2]) as u16;
        let (count, value) = bytes[4..].split_at((bytes.len() - 4) / 2);
        let (kind, count) = (short(2), self.number(count));
        // A single short number is at the start of its field.
        let length =
            size_of_kind(kind).filter(|_| count == 1).map_or(value.len(), |size| value.len().min(size as usize));
        Entry { tag: short(0), kind, count, bytes: bytes.to_vec(), offset: self.number(&value[..length]) }
    }

    /// The replacement for a directory without the entries that point to GPS directories.
    fn without(&self, directory: &Directory) -> Patch {
        let mut kept: Vec<&[u8]> =
            directory.entries.iter().filter(|entry| entry.tag != GPS).map(|entry| &entry.bytes[..]).collect();
        let padding = self.padding();
        if kept.is_empty() {
            kept.push(&padding);
        }
        let mut bytes = self.written(kept.len() as u64, if self.is_big { 8 } else { 2 });
        kept.iter().for_each(|entry| bytes.extend_from_slice(entry));
        bytes.extend_from_slice(&directory.link);
        bytes.resize((directory.part.end - directory.part.start) as usize, 0);
        Patch::bytes(directory.part.start, bytes)
    }

    fn padding(&self) -> Vec<u8> {
        let width = if self.is_big { 8 } else { 4 };
        let fields = [(u64::from(PADDING), 2), (u64::from(UNDEFINED), 2), (width as u64, width), (0, width)];
        fields.iter().flat_map(|(value, width)| self.written(*value, *width)).collect()
    }

    /// The range of an entry's value, if it is outside the entry.
    fn value(&self, entry: &Entry) -> Option<Range<u64>> {
        let length = size_of_kind(entry.kind)?.checked_mul(entry.count).filter(|length| *length <= LONGEST_VALUE)?;
        let start = self.part.start.checked_add(entry.offset)?;
        let is_apart = length > if self.is_big { 8 } else { 4 };
        (is_apart && entry.offset >= 8 && start.checked_add(length)? <= self.part.end).then(|| start..start + length)
    }

    /// Reads bytes of this TIFF; `None` if it is too short, or the limit is reached.
    fn read(&mut self, at: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        if at.checked_add(length).is_none_or(|end| end > self.part.end) || length > *self.left {
            return Ok(None);
        }
        *self.left -= length;
        let mut bytes = vec![0; length as usize];
        Ok(fill(self.body, at, &mut bytes)?.then_some(bytes))
    }

    /// Up to eight bytes as a number.
    fn number(&self, bytes: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.is_big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    }

    fn written(&self, number: u64, width: usize) -> Vec<u8> {
        if self.is_big_endian {
            number.to_be_bytes()[8 - width..].to_vec()
        } else {
            number.to_le_bytes()[..width].to_vec()
        }
    }
}

/// The end of the TIFF that begins at `at`, according to what surrounds it: an APP1 of a JPEG, a chunk of a PNG or a
/// WebP.
fn end(body: &dyn ReadAt, at: u64) -> io::Result<u64> {
    const EXIF: &[u8] = b"Exif\0\0";
    let size = body.size();
    if at == 0 {
        return Ok(size);
    }
    let mut before = [0; 14];
    let known = before.len().min(usize::try_from(at).unwrap_or(usize::MAX));
    let start = before.len() - known;
    fill(body, at - known as u64, &mut before[start..])?;
    let big = |at: usize| before[at..].first_chunk().map(|bytes| u64::from(u32::from_be_bytes(*bytes)));
    let little = |at: usize| before[at..].first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
    let length = match &before {
        // The length of the segment includes the length field itself.
        [_, _, _, _, 0xff, 0xe1, high, low, marker @ ..] if marker == EXIF => {
            Some(u64::from(u16::from_be_bytes([*high, *low])).saturating_sub(8))
        }
        [_, _, _, _, _, _, _, _, _, _, b'e', b'X', b'I', b'f'] => big(6),
        [b'E', b'X', b'I', b'F', _, _, _, _, marker @ ..] if marker == EXIF => little(4).map(|n| n.saturating_sub(6)),
        [_, _, _, _, _, _, b'E', b'X', b'I', b'F', ..] => little(10),
        _ => None,
    };
    Ok(at.saturating_add(length.unwrap_or(REACH)).min(size))
}

/// The size of one value of a type, in bytes.
fn size_of_kind(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 | 129 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 | 17 | 18 => Some(8),
        _ => None,
    }
}
