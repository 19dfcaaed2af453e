//! Width and height of videos, and whether they are complete: the boxes of an MP4, the elements of a WebM.
//!
//! Both formats store the length of each of their parts, so a file that was cut off, or that has something else
//! appended, is detected by adding up the lengths, without decoding. The maintained crates for these formats read a
//! whole index into memory, or support one of the two; only the outermost structure is needed here.

use super::Fault;
use super::geometry::{Geometry, Orientation};
use super::reader::BodyReader;

/// The most parts of a file that are visited. A stream in fragments of one second has two for each.
const MAX_PARTS: u32 = 100_000;

const CUT_OFF: Fault = Fault::Damaged("it is cut off, or something was added to its end");
const NO_PICTURE: Fault = Fault::Damaged("it holds no picture");
const DAMAGED: Fault = Fault::Damaged("its header is damaged");

/// A box of an MP4, or an element of a WebM: its name, and the position of its content.
pub(super) struct Part<Name> {
    pub(super) name: Name,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The major brands of an MP4 that browsers may play.
const MP4_BRANDS: [&[u8]; 20] = [
    b"isom", b"iso2", b"iso3", b"iso4", b"iso5", b"iso6", b"iso7", b"iso8", b"iso9", b"mp41", b"mp42", b"avc1",
    b"av01", b"M4V ", b"M4VH", b"M4VP", b"MSNV", b"dash", b"msdh", b"mmp4",
];

/// Whether this is the major brand of an MP4 that browsers may play.
pub(super) fn is_mp4_brand(major: &[u8]) -> bool {
    MP4_BRANDS.contains(&major)
}

/// Counts a part that was visited; an error if there are more than `most`.
pub(super) fn count(parts: &mut u32, most: u32) -> Result<(), Fault> {
    *parts += 1;
    if *parts > most { Err(Fault::Damaged("it has too many parts")) } else { Ok(()) }
}

/// An MP4's largest picture, as displayed.
pub(super) fn mp4(reader: &mut BodyReader<'_>) -> Result<Geometry, Fault> {
    let end = reader.size();
    let (mut at, mut parts, mut dimensions, mut has_content) = (0, 0, None, false);
    while at < end {
        let part = mp4_box(reader, at, end)?;
        match &part.name {
            // The brand box is short. Another file that begins like a box can contain any length.
            b"ftyp" if at == 0 && part.end > 4096 => return Err(Fault::NotThisFormat),
            b"moov" => dimensions = dimensions.or(mp4_pictures(reader, &part, &mut parts)?),
            b"mdat" => has_content |= part.end > part.start,
            name if !name.iter().all(|sign| sign.is_ascii_graphic() || *sign == b' ') => return Err(CUT_OFF),
            _ => {}
        }
        at = part.end;
        count(&mut parts, MAX_PARTS)?;
    }
    // Without an index it cannot be played: while a file is being recorded, its index is still missing.
    if has_content { dimensions.ok_or(NO_PICTURE) } else { Err(NO_PICTURE) }
}

/// The box at this position, which must end before `end`.
pub(super) fn mp4_box(reader: &mut BodyReader<'_>, at: u64, end: u64) -> Result<Part<[u8; 4]>, Fault> {
    if end - at < 8 {
        return Err(CUT_OFF);
    }
    let length = u32::from_be_bytes(reader.bytes_at(at)?);
    let name = reader.bytes()?;
    let (head, length) = match length {
        0 => (8, end - at),
        1 => (16, u64::from_be_bytes(reader.bytes()?)),
        length => (8, length.into()),
    };
    if length < head {
        return Err(DAMAGED);
    }
    let stop = at.checked_add(length).filter(|stop| *stop <= end).ok_or(CUT_OFF)?;
    Ok(Part { name, start: at + head, end: stop })
}

/// The largest track in this box; `None` if no track has a picture.
pub(super) fn mp4_pictures(
    reader: &mut BodyReader<'_>,
    of: &Part<[u8; 4]>,
    parts: &mut u32,
) -> Result<Option<Geometry>, Fault> {
    let (mut at, mut largest) = (of.start, None);
    while at < of.end {
        let part = mp4_box(reader, at, of.end)?;
        let found = match &part.name {
            // A track in a track is ignored, so that a file cannot nest them without limit.
            b"trak" if of.name == *b"moov" => mp4_pictures(reader, &part, parts)?,
            b"tkhd" => Some(mp4_track(reader, &part)?),
            _ => None,
        };
        let area = |track: &Geometry| u64::from(track.width) * u64::from(track.height);
        largest = largest.into_iter().chain(found).filter(|found| area(found) > 0).max_by_key(area);
        at = part.end;
        count(parts, MAX_PARTS)?;
    }
    Ok(largest)
}

/// The geometry in a track's header: its dimensions as 16.16, and a matrix that may rotate them.
fn mp4_track(reader: &mut BodyReader<'_>, part: &Part<[u8; 4]>) -> Result<Geometry, Fault> {
    let [version] = reader.bytes_at(part.start)?;
    let matrix = part.start + if version == 1 { 52 } else { 40 };
    if matrix + 44 > part.end {
        return Err(DAMAGED);
    }
    // Two numbers and a zero for each of x and y.
    let [a, b, _, c, d]: [[u8; 4]; 5] =
        [reader.bytes_at(matrix)?, reader.bytes()?, reader.bytes()?, reader.bytes()?, reader.bytes()?];
    let [w1, w2, _, _, h1, h2, _, _] = reader.bytes_at(matrix + 36)?;
    let dimensions = (u16::from_be_bytes([w1, w2]).into(), u16::from_be_bytes([h1, h2]).into());
    let orientation = Orientation::of_matrix([a, c, b, d].map(i32::from_be_bytes));
    Ok(Geometry::upright(dimensions).turned(orientation))
}

const EBML: u32 = 0x1a45_dfa3;
const DOC_TYPE: u32 = 0x4282;
const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK: u32 = 0xae;
const VIDEO: u32 = 0xe0;
const PIXEL_WIDTH: u32 = 0xb0;
const PIXEL_HEIGHT: u32 = 0xba;
const CLUSTER: u32 = 0x1f43_b675;
/// What may be beside a segment.
const VOID: u32 = 0xec;

/// The dimensions of the first picture of a WebM. Other Matroska files are refused: browsers do not play them.
pub(super) fn webm(reader: &mut BodyReader<'_>) -> Result<(u32, u32), Fault> {
    let end = reader.size();
    let head = element(reader, 0, end)?;
    // A header is short. In another file, its length can be anything.
    if head.name != EBML || head.end - head.start > 1024 {
        return Err(Fault::NotThisFormat);
    }
    if !is_webm(reader, &head)? {
        return Err(Fault::NotThisFormat);
    }
    let segment = element(reader, head.end, end)?;
    if segment.name != SEGMENT {
        return Err(DAMAGED);
    }
    let (mut at, mut parts, mut dimensions, mut has_content) = (segment.start, 0, None, false);
    while at < segment.end {
        let part = element(reader, at, segment.end)?;
        match part.name {
            TRACKS => dimensions = dimensions.or(track(reader, &part, &mut parts)?),
            CLUSTER => has_content |= part.end > part.start,
            _ => {}
        }
        at = part.end;
        count(&mut parts, MAX_PARTS)?;
    }
    // Beside the segment only padding is allowed.
    while at < end {
        let part = element(reader, at, end)?;
        if part.name != VOID {
            return Err(CUT_OFF);
        }
        at = part.end;
    }
    if has_content { dimensions.ok_or(NO_PICTURE) } else { Err(NO_PICTURE) }
}

/// The element at this position, which must end before `end`. An element of unknown length, as in a live recording,
/// extends to `end`.
fn element(reader: &mut BodyReader<'_>, at: u64, end: u64) -> Result<Part<u32>, Fault> {
    let [first] = reader.bytes_at(at)?;
    let longer = first.leading_zeros();
    if longer > 3 {
        return Err(CUT_OFF);
    }
    let mut name = u32::from(first);
    for _ in 0..longer {
        let [next] = reader.bytes()?;
        name = name << 8 | u32::from(next);
    }
    let [first] = reader.bytes()?;
    let more = first.leading_zeros();
    if more > 7 {
        return Err(DAMAGED);
    }
    let mut length = u64::from(first) & (0x7f >> more);
    let mut is_unknown = length == 0x7f >> more;
    for _ in 0..more {
        let [next] = reader.bytes()?;
        length = length << 8 | u64::from(next);
        is_unknown &= next == 0xff;
    }
    let start = at + u64::from(1 + longer + 1 + more);
    let stop = if is_unknown { Some(end) } else { start.checked_add(length) };
    let stop = stop.filter(|stop| start <= *stop && *stop <= end).ok_or(CUT_OFF)?;
    Ok(Part { name, start, end: stop })
}

/// Whether this header is that of a WebM, not of another kind of Matroska. The text may be padded with zeros.
fn is_webm(reader: &mut BodyReader<'_>, head: &Part<u32>) -> Result<bool, Fault> {
    let mut at = head.start;
    while at < head.end {
        let part = element(reader, at, head.end)?;
        if part.name == DOC_TYPE {
            // The header is short, so this text is, too.
            let mut text = vec![0; (part.end - part.start) as usize];
            reader.fill_at(part.start, &mut text)?;
            return Ok(text.split(|byte| *byte == 0).next() == Some(b"webm"));
        }
        at = part.end;
    }
    Ok(false)
}

/// The dimensions of the first track in this element that has a picture.
fn track(reader: &mut BodyReader<'_>, tracks: &Part<u32>, parts: &mut u32) -> Result<Option<(u32, u32)>, Fault> {
    let mut at = tracks.start;
    while at < tracks.end {
        let part = element(reader, at, tracks.end)?;
        let found = match part.name {
            TRACK if tracks.name == TRACKS => track(reader, &part, parts)?,
            VIDEO => Some((number(reader, &part, PIXEL_WIDTH)?, number(reader, &part, PIXEL_HEIGHT)?)),
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
        at = part.end;
        count(parts, MAX_PARTS)?;
    }
    Ok(None)
}

/// The number with this name in this element; zero if there is none.
fn number(reader: &mut BodyReader<'_>, of: &Part<u32>, name: u32) -> Result<u32, Fault> {
    let mut at = of.start;
    while at < of.end {
        let part = element(reader, at, of.end)?;
        if part.name == name {
            let mut number = 0_u32;
            for at in part.start..part.end.min(part.start + 8) {
                let [byte] = reader.bytes_at(at)?;
                number = number.checked_mul(256).ok_or(DAMAGED)? | u32::from(byte);
            }
            return Ok(number);
        }
        at = part.end;
    }
    Ok(0)
}
