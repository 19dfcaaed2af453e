//! Chunks of a PNG that may say a place: `eXIf` and texts. Each has a checksum.

use std::io;
use std::ops::Range;

use super::patches::{Patch, Patches};
use super::{CHUNK, fill};
use crate::store::ReadAt;

/// What a PNG begins with.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// A chunk's length and name.
pub(super) const HEADER: usize = 8;
const CHECKSUM: u64 = 4;
/// The name of a chunk that means nothing: ancillary, private and safe to copy, so that every reader passes over it.
const NOTHING: &[u8; 4] = b"blNk";
/// Texts in which Exif or XMP is packed, or written in hexadecimal digits. They cannot be looked into here.
const PACKED: [&[u8]; 3] = [b"Raw profile type exif\0", b"Raw profile type APP1\0", b"Raw profile type xmp\0"];
const XMP: &[u8] = b"XML:com.adobe.xmp\0";

/// One chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    at: u64,
    length: u32,
    name: [u8; 4],
}

impl Chunk {
    /// The chunk whose header `bytes` begin with; `None` where there is none, or the last.
    pub(super) fn read(at: u64, bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (length, name) = (u32::from_be_bytes(*length), *rest.first_chunk()?);
        let is_chunk = length <= i32::MAX as u32 && name.iter().all(u8::is_ascii_alphabetic) && &name != b"IEND";
        is_chunk.then_some(Self { at, length, name })
    }

    /// Where the next one begins.
    pub(super) fn next(&self) -> u64 {
        self.checked().end + CHECKSUM
    }

    pub(super) fn may_say_a_place(&self) -> bool {
        matches!(&self.name, b"eXIf" | b"tEXt" | b"zTXt" | b"iTXt")
    }

    /// The part of the file that its checksum is of: its name and its content.
    pub(super) fn checked(&self) -> Range<u64> {
        self.at + 4..self.at + HEADER as u64 + u64::from(self.length)
    }

    /// What makes it say nothing at all, where it is a text that may hold a place and cannot be looked into; `content` is
    /// what begins its content.
    pub(super) fn blanked(&self, content: &[u8]) -> Option<[Patch; 2]> {
        let is_packed = match &self.name {
            b"tEXt" | b"zTXt" => PACKED.iter().any(|keyword| content.starts_with(keyword)),
            b"iTXt" => content.strip_prefix(XMP).is_some_and(|rest| rest.first() == Some(&1)),
            _ => false,
        };
        let content = self.checked().start + 4..self.checked().end;
        is_packed.then(|| [Patch::bytes(self.checked().start, *NOTHING), Patch::fill(content, 0)])
    }

    /// Its checksum once these patches are made; none where the chunk is not whole.
    pub(super) fn mended(&self, body: &dyn ReadAt, patches: &Patches) -> io::Result<Option<Patch>> {
        let Range { start: mut at, end } = self.checked();
        if end + CHECKSUM > body.size() {
            return Ok(None);
        }
        let (mut checksum, mut buffer) = (crc32fast::Hasher::new(), vec![0; CHUNK]);
        while at < end {
            let part = &mut buffer[..CHUNK.min((end - at) as usize)];
            if !fill(body, at, part)? {
                return Ok(None);
            }
            patches.apply(at, part);
            checksum.update(part);
            at += part.len() as u64;
        }
        Ok(Some(Patch::bytes(end, checksum.finalize().to_be_bytes())))
    }
}
