//! The size of a picture as browsers show it, from its headers.
//!
//! If a crate reads a format's header correctly, it is used here too. The formats parsed here are those for which
//! crates refuse files that viewers open (a JPEG with fill bytes, a raw photo, a HEIF whose pixels come first), misread
//! common files (a top-down BMP, a HEIF with several images), do not rotate what viewers rotate, or do not check enough
//! to distinguish an image from another file with the same start (BMP, ICO).

use super::geometry::{Geometry, Orientation};
use super::reader::BodyReader;
use super::{Fault, Format, frames, heif, tiff, video};

/// Reads the geometry of an image of this format; its width or height may be zero.
pub(super) fn read(format: Format, reader: &mut BodyReader<'_>) -> Result<Geometry, Fault> {
    match format {
        Format::Jpeg => jpeg(reader),
        Format::Png => png(reader),
        Format::Gif => frames::gif_size(reader).map(Geometry::upright),
        // All browsers ignore the orientation in its Exif.
        Format::WebP => webp(reader).map(Geometry::upright),
        Format::Bmp => bmp(reader).map(Geometry::upright),
        Format::Ico => ico(reader).map(Geometry::upright),
        Format::Tiff => tiff::read(reader).map(|(geometry, _)| geometry),
        Format::Avif | Format::Heic => heif::read(format, reader).map(|(geometry, _)| geometry),
        Format::Mp4 => video::mp4(reader),
        Format::WebM => video::webm(reader).map(Geometry::upright),
    }
}

/// Visits each segment, over EXIF and color profiles of any length, to the frame header and on to the start of the
/// pixels, so that a truncated header is detected.
fn jpeg(reader: &mut BodyReader<'_>) -> Result<Geometry, Fault> {
    let (mut dimensions, mut orientation) = (None, None);
    reader.skip(2);
    loop {
        // Fill bytes may precede a marker (ITU-T T.81, B.1.1.2); other bytes are ignored too, as by all decoders.
        while reader.bytes()? != [0xff] {}
        let marker = loop {
            match reader.bytes()? {
                [0xff] => {}
                [marker] => break marker,
            }
        };
        match marker {
            // A stuffed zero and markers without content.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            0xd9 => return Err(Fault::Damaged("it holds no picture")),
            0xda => {
                let dimensions = dimensions.ok_or(Fault::Damaged("its pixels come before their dimensions"))?;
                return Ok(Geometry::upright(dimensions).turned(orientation.unwrap_or(Orientation::UPRIGHT)));
            }
            // Every kind of frame header; the three between them are tables.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [length_1, length_2, _precision, h1, h2, w1, w2, components] = reader.bytes()?;
                if u16::from_be_bytes([length_1, length_2]) != 8 + 3 * u16::from(components) {
                    return Err(Fault::Damaged("its frame header is damaged"));
                }
                reader.skip(3 * u64::from(components));
                dimensions = Some((u16::from_be_bytes([w1, w2]).into(), u16::from_be_bytes([h1, h2]).into()));
            }
            _ => {
                let length = u16::from_be_bytes(reader.bytes()?);
                let end = reader.position() + u64::from(length).saturating_sub(2);
                // The first Exif segment counts, even if it has no orientation.
                if marker == 0xe1 && orientation.is_none() && length >= 8 && &reader.bytes()? == b"Exif\0" {
                    let exif = reader.position() + 1;
                    orientation = tiff::exif_orientation(reader, exif, end).or(Some(Orientation::UPRIGHT));
                }
                reader.skip_to(end);
            }
        }
    }
}

/// The `png` crate checks all of the first chunk, including its checksum. Exif counts if it precedes the pixels.
fn png(reader: &mut BodyReader<'_>) -> Result<Geometry, Fault> {
    const FIRST_CHUNK: u64 = 8;
    let dimensions = match png::Decoder::new(&mut *reader).read_header_info() {
        Ok(info) => (info.width, info.height),
        Err(png::DecodingError::IoError(error)) => return Err(error.into()),
        Err(_) => return Err(Fault::Damaged("its header is damaged")),
    };
    let mut orientation = None;
    let mut position = FIRST_CHUNK;
    while orientation.is_none() && position < reader.size() {
        let length = u32::from_be_bytes(reader.bytes_at(position)?);
        match &reader.bytes()? {
            b"IDAT" | b"IEND" => break,
            b"eXIf" => {
                let exif = reader.position();
                let end = exif + u64::from(length);
                orientation = tiff::exif_orientation(reader, exif, end).or(Some(Orientation::UPRIGHT));
            }
            _ => {}
        }
        position += 12 + u64::from(length);
    }
    Ok(Geometry::upright(dimensions).turned(orientation.unwrap_or(Orientation::UPRIGHT)))
}

/// The size is in the first chunk, in one of three encodings.
fn webp(reader: &mut BodyReader<'_>) -> Result<(u32, u32), Fault> {
    match &reader.bytes_at(12)? {
        b"VP8 " => {
            let [_, _, _, 0x9d, 0x01, 0x2a, w1, w2, h1, h2] = reader.bytes_at(20)? else {
                return Err(Fault::Damaged("its first frame is damaged"));
            };
            // The two upper bits are a scaling hint.
            let length = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
            Ok((length([w1, w2]), length([h1, h2])))
        }
        b"VP8L" => {
            let [0x2f, bits @ ..] = reader.bytes_at::<5>(20)? else {
                return Err(Fault::Damaged("its first frame is damaged"));
            };
            let bits = u32::from_le_bytes(bits);
            Ok(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => {
            let [w1, w2, w3, h1, h2, h3] = reader.bytes_at(24)?;
            Ok((u32::from_le_bytes([w1, w2, w3, 0]) + 1, u32::from_le_bytes([h1, h2, h3, 0]) + 1))
        }
        _ => Err(Fault::Damaged("its first chunk is not a picture")),
    }
}

/// Many texts begin with "BM": the length of the second header, which has few valid values, decides.
fn bmp(reader: &mut BodyReader<'_>) -> Result<(u32, u32), Fault> {
    if reader.size() < 18 {
        return Err(Fault::NotThisFormat);
    }
    let pixels_start: u64 = u32::from_le_bytes(reader.bytes_at(10)?).into();
    let (width, height, _planes, depth): (_, _, [u8; 2], _) = match u32::from_le_bytes(reader.bytes()?) {
        // OS/2's first header; its second one may omit trailing zeros, down to 16 bytes.
        12 => {
            let [width, height] = [reader.bytes()?, reader.bytes()?].map(u16::from_le_bytes);
            (width.into(), height.into(), reader.bytes()?, reader.bytes()?)
        }
        16 | 20 | 24 | 28 | 32 | 36 | 40 | 42 | 44 | 46 | 48 | 52 | 56 | 60 | 64 | 108 | 124 => {
            let [width, height] = [reader.bytes()?, reader.bytes()?].map(i32::from_le_bytes);
            // A negative height means rows from the top down; a negative width is invalid.
            (u32::try_from(width).unwrap_or(0), height.unsigned_abs(), reader.bytes()?, reader.bytes()?)
        }
        _ => return Err(Fault::NotThisFormat),
    };
    if !matches!(u16::from_le_bytes(depth), 0 | 1 | 2 | 4 | 8 | 16 | 24 | 32) {
        return Err(Fault::Damaged("its header is damaged"));
    }
    if pixels_start >= reader.size() { Err(Fault::Damaged("it ends before its pixels")) } else { Ok((width, height)) }
}

/// Other files begin with the same four bytes as an icon or a cursor: the directory has to fit the file, and each entry
/// has to point to a picture. The pictures' own dimensions count, since decoders use those.
fn ico(reader: &mut BodyReader<'_>) -> Result<(u32, u32), Fault> {
    let [_, _, kind, _, count_1, count_2] = reader.bytes_at(0)?;
    let is_cursor = kind == 2;
    let count = u16::from_le_bytes([count_1, count_2]);
    let directory_end = 6 + 16 * u64::from(count);
    let mut largest = None;
    for entry in 0..u64::from(count) {
        // Dimensions, colors and a byte that should be zero come first and are not reliable; neither is the depth. A
        // cursor stores its hot spot in place of planes and depth.
        let [_, _, _, _, p1, p2, _, _, s1, s2, s3, s4, o1, o2, o3, o4] = reader.bytes_at(6 + 16 * entry)?;
        let (size, offset) = (u32::from_le_bytes([s1, s2, s3, s4]), u32::from_le_bytes([o1, o2, o3, o4]).into());
        if (!is_cursor && u16::from_le_bytes([p1, p2]) > 1) || size < 40 || offset < directory_end {
            return Err(Fault::NotThisFormat);
        }
        if offset + u64::from(size) > reader.size() {
            return Err(Fault::Damaged("it ends before its pictures do"));
        }
        let (width, height) = ico_picture(&reader.bytes_at(offset)?).ok_or(Fault::NotThisFormat)?;
        let picture = (u64::from(width) * u64::from(height), width, height);
        largest = largest.max(Some(picture));
    }
    largest.map(|(_, width, height)| (width, height)).ok_or(Fault::NotThisFormat)
}

/// Dimensions of one picture of an icon: a whole PNG, or a bitmap whose height includes its mask.
fn ico_picture(start: &[u8; 24]) -> Option<(u32, u32)> {
    let is_png = start.starts_with(b"\x89PNG\r\n\x1a\n") && start[12..16] == *b"IHDR";
    match start {
        [.., w1, w2, w3, w4, h1, h2, h3, h4] if is_png => {
            Some((u32::from_be_bytes([*w1, *w2, *w3, *w4]), u32::from_be_bytes([*h1, *h2, *h3, *h4])))
        }
        [40 | 108 | 124, 0, 0, 0, w1, w2, w3, w4, h1, h2, h3, h4, 1, 0, ..] => {
            let width = i32::from_le_bytes([*w1, *w2, *w3, *w4]);
            let height = i32::from_le_bytes([*h1, *h2, *h3, *h4]);
            Some((u32::try_from(width).unwrap_or(0), height.unsigned_abs() / 2))
        }
        _ => None,
    }
}
