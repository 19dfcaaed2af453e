//! The directories of a TIFF, and those of Exif, which have the same structure: sizes and orientation.

use super::Fault;
use super::geometry::{Geometry, Orientation};
use super::reader::BodyReader;

/// The most directories that are read. A raw photo has about five, and those after the first picture do not matter.
const MOST_DIRECTORIES: usize = 16;
/// The most entries of a directory that are read; cameras write about sixty.
const MOST_ENTRIES: u64 = 4096;

const NEW_SUBFILE_TYPE: u16 = 0x00fe;
const SUBFILE_TYPE: u16 = 0x00ff;
const WIDTH: u16 = 0x0100;
const HEIGHT: u16 = 0x0101;
const BITS_PER_SAMPLE: u16 = 0x0102;
const COMPRESSION: u16 = 0x0103;
const STRIP_OFFSETS: u16 = 0x0111;
const ORIENTATION: u16 = 0x0112;
const SAMPLES_PER_PIXEL: u16 = 0x0115;
const STRIP_BYTE_COUNTS: u16 = 0x0117;
const TILE_OFFSETS: u16 = 0x0144;
const TILE_BYTE_COUNTS: u16 = 0x0145;
const SUB_DIRECTORIES: u16 = 0x014a;

const SHORT: u16 = 3;

const DAMAGED: Fault = Fault::Damaged("its header is damaged");

/// The encoding of the numbers in a TIFF.
#[derive(Clone, Copy)]
struct Layout {
    /// Offsets count from here.
    base: u64,
    is_big_endian: bool,
    /// BigTIFF: offsets and counts of eight bytes.
    is_big: bool,
}

/// What is needed to find the values of an entry.
#[derive(Clone, Copy)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// The position of its value, or of the offset of its value.
    at: u64,
}

/// The properties of a directory's picture.
struct Picture {
    dimensions: (u32, u32),
    is_reduced: bool,
    orientation: Option<Orientation>,
    /// The end of its last strip or tile, if it has any.
    end: Option<u64>,
}

/// The picture of a TIFF: its first page; for a raw photo, whose first directory is a preview, the photo itself. Also
/// returns whether the file ends before that picture does.
pub(super) fn read(reader: &mut BodyReader<'_>) -> Result<(Geometry, bool), Fault> {
    let pictures = pictures(reader)?;
    let area = |picture: &&Picture| u64::from(picture.dimensions.0) * u64::from(picture.dimensions.1);
    let with_pixels = || pictures.iter().filter(|picture| area(picture) > 0);
    let chosen = with_pixels().find(|picture| !picture.is_reduced).or_else(|| with_pixels().max_by_key(area));
    let picture = chosen.ok_or(DAMAGED)?;
    // A raw photo stores the orientation in its first directory.
    let orientation = picture.orientation.or_else(|| pictures.first()?.orientation).unwrap_or(Orientation::UPRIGHT);
    let is_truncated = picture.end.is_some_and(|end| end > reader.size());
    Ok((Geometry::upright(picture.dimensions).turned(orientation), is_truncated))
}

/// The orientation in Exif data between `base` and `end`: as browsers read it, one SHORT in the first directory.
pub(super) fn exif_orientation(reader: &mut BodyReader<'_>, base: u64, end: u64) -> Option<Orientation> {
    let (layout, first) = header(reader, base).ok()?;
    let (entries, _) = directory(reader, layout, first).ok()?;
    let entry = entries.iter().find(|entry| entry.tag == ORIENTATION && (entry.kind, entry.count) == (SHORT, 1))?;
    if entry.at + 4 > end {
        return None;
    }
    Orientation::new(layout.value(reader, *entry, 0).ok()??)
}

/// The pictures of the first directories, each followed by those of its subdirectories.
fn pictures(reader: &mut BodyReader<'_>) -> Result<Vec<Picture>, Fault> {
    let (layout, first) = header(reader, 0)?;
    let (mut pictures, mut waiting) = (Vec::new(), vec![first]);
    let mut seen = Vec::new();
    while let Some(offset) = waiting.pop() {
        if offset == 0 || seen.contains(&offset) || seen.len() == MOST_DIRECTORIES {
            continue;
        }
        seen.push(offset);
        let (entries, next) = match directory(reader, layout, offset) {
            Ok(found) => found,
            Err(fault) if pictures.is_empty() => return Err(fault),
            Err(Fault::Read(error)) => return Err(Fault::Read(error)),
            // Earlier findings remain valid.
            Err(_) => continue,
        };
        let picture = layout.picture(reader, &entries)?;
        let is_main = !picture.is_reduced && picture.dimensions.0 > 0 && picture.dimensions.1 > 0;
        pictures.push(picture);
        if is_main {
            break;
        }
        // The last one pushed is read first: subdirectories come before the next directory.
        waiting.push(next);
        if let Some(below) = entries.iter().find(|entry| entry.tag == SUB_DIRECTORIES) {
            for index in (0..below.count.min(MOST_DIRECTORIES as u64)).rev() {
                waiting.extend(layout.value(reader, *below, index)?);
            }
        }
    }
    Ok(pictures)
}

fn header(reader: &mut BodyReader<'_>, base: u64) -> Result<(Layout, u64), Fault> {
    let start: [u8; 4] = reader.bytes_at(base)?;
    let is_big_endian = start.starts_with(b"MM");
    let layout = match &start {
        b"II\x2a\0" | b"MM\0\x2a" => Layout { base, is_big_endian, is_big: false },
        b"II\x2b\0" | b"MM\0\x2b" => {
            let layout = Layout { base, is_big_endian, is_big: true };
            if (layout.number(reader, base + 4, 2)?, layout.number(reader, base + 6, 2)?) != (8, 0) {
                return Err(DAMAGED);
            }
            layout
        }
        _ => return Err(DAMAGED),
    };
    let first = if layout.is_big { layout.number(reader, base + 8, 8) } else { layout.number(reader, base + 4, 4) };
    Ok((layout, first?))
}

/// The entries of the directory at this offset, and the offset of the next one.
fn directory(reader: &mut BodyReader<'_>, layout: Layout, offset: u64) -> Result<(Vec<Entry>, u64), Fault> {
    let at = layout.base.checked_add(offset).ok_or(DAMAGED)?;
    let (head, each, word) = if layout.is_big { (8, 20, 8) } else { (2, 12, 4) };
    let count = layout.number(reader, at, head)?;
    if count > MOST_ENTRIES {
        return Err(DAMAGED);
    }
    let mut entries = Vec::new();
    for index in 0..count {
        let at = at + head + index * each;
        let tag = layout.number(reader, at, 2)? as u16;
        let kind = layout.number(reader, at + 2, 2)? as u16;
        entries.push(Entry { tag, kind, count: layout.number(reader, at + 4, word)?, at: at + 4 + word });
    }
    // Some programs omit the final zero.
    let next = layout.number(reader, at + head + count * each, word).unwrap_or(0);
    Ok((entries, next))
}

impl Layout {
    fn number(self, reader: &mut BodyReader<'_>, at: u64, bytes: u64) -> Result<u64, Fault> {
        let mut number = [0; 8];
        let digits: &mut [u8] = &mut number[..bytes as usize];
        reader.fill_at(at, digits)?;
        if self.is_big_endian {
            digits.reverse();
        }
        Ok(u64::from_le_bytes(number))
    }

    /// The value at this index of an entry, if it is an integer.
    fn value(self, reader: &mut BodyReader<'_>, entry: Entry, index: u64) -> Result<Option<u64>, Fault> {
        let bytes = match entry.kind {
            1 => 1,
            SHORT => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => return Ok(None),
        };
        if index >= entry.count {
            return Ok(None);
        }
        let word = if self.is_big { 8 } else { 4 };
        let start = if entry.count.saturating_mul(bytes) <= word {
            entry.at
        } else {
            self.base.checked_add(self.number(reader, entry.at, word)?).ok_or(DAMAGED)?
        };
        let at = start.checked_add(index * bytes).ok_or(DAMAGED)?;
        self.number(reader, at, bytes).map(Some)
    }

    fn picture(self, reader: &mut BodyReader<'_>, entries: &[Entry]) -> Result<Picture, Fault> {
        let mut number = |tag: u16| {
            let entry = entries.iter().find(|entry| entry.tag == tag);
            entry.map_or(Ok(None), |entry| self.value(reader, *entry, 0))
        };
        let pixels = |number: Option<u64>| number.map_or(Ok(0), |number| u32::try_from(number).map_err(|_| DAMAGED));
        let dimensions = (pixels(number(WIDTH)?)?, pixels(number(HEIGHT)?)?);
        // Bit 0 of the tag means that a larger picture exists, bit 2 that it is a mask; in the older tag, 2 means the
        // same as bit 0.
        let is_reduced = number(NEW_SUBFILE_TYPE)?.unwrap_or(0) & 5 != 0 || number(SUBFILE_TYPE)? == Some(2);
        let orientation = number(ORIENTATION)?.and_then(Orientation::new);
        // Uncompressed strips are never longer than the picture requires, whatever their lengths say.
        let is_plain = number(COMPRESSION)?.unwrap_or(1) == 1 && entries.iter().all(|entry| entry.tag != TILE_OFFSETS);
        let depth = number(BITS_PER_SAMPLE)?.unwrap_or(1).saturating_mul(number(SAMPLES_PER_PIXEL)?.unwrap_or(1));
        let row = u64::from(dimensions.0).saturating_mul(depth).div_ceil(8);
        let most = if is_plain { row.saturating_mul(dimensions.1.into()) } else { u64::MAX };
        let end = self.last(reader, entries, [STRIP_OFFSETS, TILE_OFFSETS])?.map(|offset| {
            let length = self.last(reader, entries, [STRIP_BYTE_COUNTS, TILE_BYTE_COUNTS]).ok().flatten();
            self.base.saturating_add(offset).saturating_add(length.unwrap_or(1).min(most).max(1))
        });
        Ok(Picture { dimensions, is_reduced, orientation, end })
    }

    /// The last value of an entry with one of these tags; one beyond the end of the file counts as larger than any.
    fn last(self, reader: &mut BodyReader<'_>, entries: &[Entry], tags: [u16; 2]) -> Result<Option<u64>, Fault> {
        let Some(entry) = entries.iter().find(|entry| tags.contains(&entry.tag) && entry.count > 0) else {
            return Ok(None);
        };
        match self.value(reader, *entry, entry.count - 1) {
            Err(Fault::Damaged(_)) => Ok(Some(u64::MAX)),
            last => last,
        }
    }
}
