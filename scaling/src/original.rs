//! Whether an image can be sent unchanged in place of a thumbnail: it must contain its picture and nothing else.
//!
//! A thumbnail has no metadata, no second picture and no data after its end. Data that is not recognized here as a part
//! of the picture counts as something else.

use shared::media::Format;

/// Whether `bytes`, which were decoded as an image of this format, contain only the picture.
pub(crate) fn is_bare(bytes: &[u8], format: Format) -> bool {
    let end = match format {
        Format::Jpeg => jpeg(bytes),
        Format::Png => png(bytes),
        Format::Gif => gif(bytes),
        Format::WebP => webp(bytes),
        _ => None,
    };
    end == Some(bytes.len())
}

/// The end of a JPEG that has only tables, scans and the usual first segments.
fn jpeg(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let marker = *bytes.get(at + 1).filter(|_| bytes[at] == 0xff)?;
        at += 2;
        if marker == 0xd9 {
            return Some(at);
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let content = bytes.get(at + 2..at + length)?;
        let known = match marker {
            // Without an embedded thumbnail, whose size is at the end of the segment.
            0xe0 => content.starts_with(b"JFIF\0") && content.len() == 14 && content[12..] == [0, 0],
            0xee => content.starts_with(b"Adobe") && content.len() == 12,
            0xc0..=0xc2 | 0xc4 | 0xda | 0xdb | 0xdd => true,
            _ => false,
        };
        if !known {
            return None;
        }
        at += length;
        if marker == 0xda {
            // Up to a marker that is not part of the scan.
            while !matches!(bytes.get(at..at + 2)?, [0xff, next] if !matches!(next, 0 | 0xd0..=0xd7)) {
                at += 1;
            }
        }
    }
}

/// The end of a PNG that is not an animation and has no texts.
fn png(bytes: &[u8]) -> Option<usize> {
    let mut at = 8;
    loop {
        let (length, name) = bytes.get(at..at + 8)?.split_first_chunk::<4>()?;
        let known = [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs"];
        if !known.iter().any(|known| name == *known) {
            return None;
        }
        at = at.checked_add(u32::from_be_bytes(*length) as usize)?.checked_add(12)?;
        if name == b"IEND" {
            return Some(at);
        }
    }
}

/// The end of a GIF that has one picture and no comments.
fn gif(bytes: &[u8]) -> Option<usize> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10)?);
    let mut pictures = 0;
    loop {
        match *bytes.get(at)? {
            0x3b => return Some(at + 1),
            0x2c if pictures == 0 => {
                pictures += 1;
                at += 10 + table(*bytes.get(at + 9)?) + 1;
            }
            // A display option: transparency.
            0x21 if bytes.get(at + 1) == Some(&0xf9) => at += 2,
            _ => return None,
        }
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

/// The end of a WebP that is one picture in the simple file format.
fn webp(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    if !matches!(bytes.get(12..16)?, b"VP8 " | b"VP8L") {
        return None;
    }
    let end = 20 + number(16)?.checked_next_multiple_of(2)?;
    (number(4)? + 8 == end).then_some(end)
}
