//! Whether a file ends before its picture does.
//!
//! Such an image is accepted, since it may be the only copy, and its record is marked. For nearly every complete file,
//! its last bytes are enough to tell. A file that cannot be judged counts as complete: the result is only a warning.

use std::io::BufRead;

use super::reader::BodyReader;
use super::{Fault, Format, heif, tiff};

/// The most chunks and segments that are visited.
const MOST_PARTS: u32 = 100_000;

/// Whether the file ends before the displayed picture does. For a GIF and a WebP, counting the frames finds that out.
/// Fails only if the body cannot be read.
pub(super) fn is_truncated(format: Format, reader: &mut BodyReader<'_>) -> Result<bool, Fault> {
    let found = match format {
        Format::Jpeg => jpeg(reader),
        Format::Png => png(reader),
        Format::Bmp => bmp(reader),
        Format::Tiff => tiff::read(reader).map(|(_, is_truncated)| is_truncated),
        Format::Avif | Format::Heic => heif::read(format, reader).map(|(_, is_truncated)| is_truncated),
        Format::Gif | Format::WebP => Ok(false),
        // Truncated ones are refused.
        Format::Ico | Format::Mp4 | Format::WebM => Ok(false),
    };
    match found {
        Err(Fault::Read(error)) => Err(Fault::Read(error)),
        found => Ok(found.unwrap_or(false)),
    }
}

/// Reaching the end of the body within a part is not an error here.
fn or_end<T>(read: std::io::Result<T>) -> Result<Option<T>, Fault> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A JPEG ends with a marker that does not occur within its pixels. If other data follows, such as the video of a
/// motion photo, the marker is searched from the start.
fn jpeg(reader: &mut BodyReader<'_>) -> Result<bool, Fault> {
    if reader.bytes_at(reader.size().saturating_sub(2))? == [0xff, 0xd9] {
        return Ok(false);
    }
    let _start: [u8; 2] = reader.bytes_at(0)?;
    for _ in 0..MOST_PARTS {
        let mut marker = 0;
        // In the pixels, a zero or a restart marker follows a byte that looks like the start of a marker.
        while matches!(marker, 0x00 | 0x01 | 0xd0..=0xd8 | 0xff) {
            if marker != 0xff {
                reader.skip_until(0xff)?;
            }
            match or_end(reader.bytes())? {
                Some([found]) => marker = found,
                None => return Ok(true),
            }
        }
        if marker == 0xd9 {
            return Ok(false);
        }
        let Some(length) = or_end(reader.bytes())? else { return Ok(true) };
        reader.skip(u64::from(u16::from_be_bytes(length)).saturating_sub(2));
    }
    Ok(false)
}

/// A PNG ends with an end chunk.
fn png(reader: &mut BodyReader<'_>) -> Result<bool, Fault> {
    const LAST: [u8; 8] = *b"\0\0\0\0IEND";
    if reader.size() >= 12 && reader.bytes_at(reader.size() - 12)? == LAST {
        return Ok(false);
    }
    let mut position = 8;
    for _ in 0..MOST_PARTS {
        let Some(length) = or_end(reader.bytes_at(position))? else { return Ok(true) };
        match or_end(reader.bytes())?.as_ref() {
            None => return Ok(true),
            Some(b"IEND") => return Ok(false),
            Some(_) => position += 12 + u64::from(u32::from_be_bytes(length)),
        }
    }
    Ok(false)
}

/// The length of a BMP's pixels follows from its header, unless they are compressed.
fn bmp(reader: &mut BodyReader<'_>) -> Result<bool, Fault> {
    let start: u64 = u32::from_le_bytes(reader.bytes_at(10)?).into();
    if u32::from_le_bytes(reader.bytes()?) < 40 {
        return Ok(false);
    }
    let [width, height] = [reader.bytes()?, reader.bytes()?].map(i32::from_le_bytes).map(i32::unsigned_abs);
    let [_, _, depth_1, depth_2] = reader.bytes()?;
    let is_compressed = !matches!(u32::from_le_bytes(reader.bytes()?), 0 | 3);
    let row = (u64::from(width) * u64::from(u16::from_le_bytes([depth_1, depth_2]))).div_ceil(8);
    // Some programs do not pad the last row.
    let end = start + row.next_multiple_of(4) * u64::from(height).saturating_sub(1) + row;
    Ok(!is_compressed && end > reader.size())
}
