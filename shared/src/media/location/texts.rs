//! Texts of a PNG, which may be compressed or in hexadecimal digits: `zTXt` and `iTXt` with XMP, `Raw profile type
//! exif` as written by ImageMagick, and texts whose keyword itself is the name of a position.
//!
//! A compressed text is decompressed, patched, and compressed again to exactly the same length. If it does not fit,
//! Exif keeps only its orientation, and any other text is removed.

use std::io::{self, Read};
use std::ops::Range;

use flate2::read::ZlibDecoder;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::patches::{Patch, Patches};
use super::png::Chunk;
use super::{fill, names, tiff};
use store::{Body, ReadAt};

/// Maximum length of a text that is examined, in bytes, both stored and decompressed.
const LONGEST: u64 = 4 << 20;
/// How many bytes are decompressed per file.
const MOST_UNPACKED: u64 = 32 << 20;
/// A keyword has at most 79 bytes, and two short fields precede the text.
const LONGEST_HEAD: usize = 512;
const RAW_PROFILE: &[u8] = b"Raw profile type ";
const XMP: &[u8] = b"XML:com.adobe.xmp";

/// Scans the content of a text, passed both as bytes and as a body for random access.
pub(super) type Scan = fn(&[u8], &Body) -> io::Result<Patches>;

/// The patches for all texts among these chunks.
pub(super) fn patches(body: &dyn ReadAt, chunks: &[Chunk], scan: Scan) -> io::Result<Vec<Patch>> {
    let (mut patches, mut left) = (Vec::new(), MOST_UNPACKED);
    for chunk in chunks.iter().filter(|chunk| chunk.is_to_be_read()) {
        let Range { start, end } = chunk.content();
        let mut head = vec![0; LONGEST_HEAD.min((end - start) as usize)];
        if !fill(body, start, &mut head)? {
            continue;
        }
        let Some(text) = Text::of(&chunk.name, &head) else { continue };
        let blanked = || chunk.blanked();
        if names::is_position_with_prefix(text.keyword) {
            patches.extend(blanked());
            continue;
        }
        if !text.is_packed && !text.is_hex() {
            // The scanner has already examined it.
            continue;
        }
        let length = end - start;
        let mut content = vec![0; if length <= LONGEST { length as usize } else { 0 }];
        if !fill(body, start, &mut content)? {
            continue;
        }
        let content = content.get(text.at..).unwrap_or_default();
        match text.without_positions(content, content.len(), &mut left, scan) {
            Rewritten::Same => {}
            Rewritten::As(bytes) => patches.push(Patch::bytes(start + text.at as u64, bytes)),
            Rewritten::Unknown if text.is_suspect() => patches.extend(blanked()),
            Rewritten::Unknown => {}
            Rewritten::NoRoom => patches.extend(blanked()),
        }
    }
    Ok(patches)
}

/// The header of a chunk's text.
pub(super) struct Text<'a> {
    keyword: &'a [u8],
    is_packed: bool,
    /// The offset of the text itself in the chunk's content.
    at: usize,
}

/// The result of removing the positions from a text.
pub(super) enum Rewritten {
    /// It contains none.
    Same,
    /// The new content, of the same length.
    As(Vec<u8>),
    /// It contains one, and the rest does not fit.
    NoRoom,
    /// It cannot be examined.
    Unknown,
}

impl<'a> Text<'a> {
    pub(super) fn of(name: &[u8; 4], head: &'a [u8]) -> Option<Self> {
        if name == b"zxIf" {
            // A byte for the compression method, and the decompressed length.
            return Some(Self { keyword: b"Raw profile type zxIf", is_packed: true, at: 5 });
        }
        let end = |from: usize| Some(from + memchr::memchr(0, head.get(from..)?)?);
        let keyword_end = end(0)?;
        let keyword = &head[..keyword_end];
        let (is_packed, at) = match name {
            b"tEXt" => (false, keyword_end + 1),
            b"zTXt" => (true, keyword_end + 2),
            // Two bytes for the compression, a language, and the translated keyword.
            _ => (head.get(keyword_end + 1) == Some(&1), end(end(keyword_end + 3)? + 1)? + 1),
        };
        Some(Self { keyword, is_packed, at })
    }

    /// Whether the text is in hexadecimal digits.
    fn is_hex(&self) -> bool {
        self.keyword.starts_with(RAW_PROFILE) && !self.keyword.ends_with(b"zxIf")
    }

    /// Whether it probably contains a position although it cannot be examined.
    fn is_suspect(&self) -> bool {
        self.keyword == XMP
            || [&b"exif"[..], b"APP1", b"xmp", b"zxIf"]
                .iter()
                .any(|kind| self.keyword.strip_prefix(RAW_PROFILE) == Some(kind))
    }

    /// The replacement for `content`: `room` bytes. `left` is how much may still be decompressed.
    pub(super) fn without_positions(&self, content: &[u8], room: usize, left: &mut u64, scan: Scan) -> Rewritten {
        let text = if self.is_packed { unpacked(content, left) } else { Some(content.to_vec()) };
        let Some(mut text) = text.filter(|text| !text.is_empty()) else { return Rewritten::Unknown };
        let digits = if self.is_hex() { Some(hexadecimal(&text)) } else { None };
        let mut bytes = match &digits {
            Some(digits) if digits.len() < 2 => return Rewritten::Unknown,
            Some(digits) => {
                digits.chunks_exact(2).map(|pair| value(text[pair[0]]) << 4 | value(text[pair[1]])).collect()
            }
            None => text.clone(),
        };
        let body = Body::from(bytes.clone());
        // Bytes in memory can always be read.
        let Ok(found) = scan(&bytes, &body) else { return Rewritten::Unknown };
        if found.is_empty() {
            return Rewritten::Same;
        }
        found.apply(0, &mut bytes);
        let fit = |bytes: &[u8], text: &mut Vec<u8>| {
            match &digits {
                Some(digits) => write_hexadecimal(bytes, digits, text),
                None => *text = bytes.to_vec(),
            }
            if self.is_packed { packed(text, room) } else { Some(text.clone()) }
        };
        let made =
            fit(&bytes, &mut text).or_else(|| tiff::orientation_alone(&body).and_then(|alone| fit(&alone, &mut text)));
        made.map_or(Rewritten::NoRoom, Rewritten::As)
    }
}

/// Decompresses a text; `None` if it is damaged or too long.
fn unpacked(packed: &[u8], left: &mut u64) -> Option<Vec<u8>> {
    let most = LONGEST.min(*left);
    let mut text = Vec::new();
    let result = ZlibDecoder::new(packed).take(most + 1).read_to_end(&mut text);
    *left = left.saturating_sub(text.len() as u64);
    (result.is_ok() && text.len() as u64 <= most).then_some(text)
}

/// Compresses a text to exactly `length` bytes; `None` if it needs more.
pub(super) fn packed(text: &[u8], length: usize) -> Option<Vec<u8>> {
    /// An empty block that ends at a byte boundary, and empty last blocks of two to six bytes.
    const EMPTY: [u8; 5] = [0, 0, 0, 0xff, 0xff];
    const LAST: [&[u8]; 5] = [&[3, 0], &[2, 12, 0], &[2, 8, 48, 0], &[1, 0, 0, 0xff, 0xff], &[2, 4, 0, 0, 0xff, 0xff]];
    let room = length.checked_sub(2 + LAST[0].len() + 4)?;
    let mut bytes = vec![0x78, 0xda];
    bytes.reserve(length + EMPTY.len());
    let mut deflate = Compress::new(Compression::best(), false);
    // A flush ends at a byte boundary, so that blocks can be appended.
    let status = deflate.compress_vec(text, &mut bytes, FlushCompress::Sync).ok()?;
    let is_whole = status == Status::Ok && deflate.total_in() == text.len() as u64 && bytes.len() < bytes.capacity();
    let padding = (2 + room).checked_sub(bytes.len()).filter(|_| is_whole)? + LAST[0].len();
    let last = LAST[(padding - 2) % EMPTY.len()];
    for _ in 0..(padding - last.len()) / EMPTY.len() {
        bytes.extend(EMPTY);
    }
    bytes.extend(last);
    bytes.extend(adler32(text).to_be_bytes());
    Some(bytes)
}

/// The checksum of zlib's format.
fn adler32(text: &[u8]) -> u32 {
    let (low, high) = text.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

/// The offsets of the digits in a profile: after its name and its length, each on a separate line.
fn hexadecimal(text: &[u8]) -> Vec<usize> {
    let mut lines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let Some(start) = lines.nth(2) else { return Vec::new() };
    (start..text.len()).filter(|at| text[*at].is_ascii_hexdigit()).collect()
}

fn value(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or_default() as u8
}

/// Writes bytes as hexadecimal digits over the existing digits.
fn write_hexadecimal(bytes: &[u8], digits: &[usize], text: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact(2)) {
        for (at, half) in pair.iter().zip([byte >> 4, byte & 15]) {
            text[*at] = b"0123456789abcdef"[usize::from(half)];
        }
    }
}
