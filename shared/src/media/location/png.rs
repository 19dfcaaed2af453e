//! Chunks of a PNG that may hold a position: `eXIf` and texts. Each has a checksum.

use std::io;
use std::ops::Range;

use super::patches::{Patch, Patches};
use super::{CHUNK, fill};
use store::ReadAt;

/// The signature of a PNG.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// A chunk's length and name.
const HEADER: u64 = 8;
const CHECKSUM: u64 = 4;
/// The name of a chunk without meaning: ancillary, private and safe to copy, so that every reader skips it.
const NOTHING: &[u8; 4] = b"blNk";

/// One chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    at: u64,
    length: u32,
    pub(super) name: [u8; 4],
}

impl Chunk {
    /// The chunk whose header is at the start of `bytes`; `None` if there is none, or if it is the last.
    pub(super) fn read(at: u64, bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (length, name) = (u32::from_be_bytes(*length), *rest.first_chunk()?);
        let is_chunk = length <= i32::MAX as u32 && name.iter().all(u8::is_ascii_alphabetic) && &name != b"IEND";
        is_chunk.then_some(Self { at, length, name })
    }

    /// The offset of the next chunk.
    pub(super) fn next(&self) -> u64 {
        self.checked().end + CHECKSUM
    }

    /// Whether it is a text, whose content has to be read to find out whether it contains a position. `zxIf` is
    /// compressed Exif.
    pub(super) fn is_to_be_read(&self) -> bool {
        matches!(&self.name, b"tEXt" | b"zTXt" | b"iTXt" | b"zxIf")
    }

    pub(super) fn may_be_patched(&self) -> bool {
        self.is_to_be_read() || &self.name == b"eXIf"
    }

    /// The part of the file that its checksum covers: its name and its content.
    pub(super) fn checked(&self) -> Range<u64> {
        self.at + 4..self.content().end
    }

    pub(super) fn content(&self) -> Range<u64> {
        self.at + HEADER..self.at + HEADER + u64::from(self.length)
    }

    /// The patches that remove its meaning.
    pub(super) fn blanked(&self) -> [Patch; 2] {
        [Patch::bytes(self.checked().start, *NOTHING), Patch::fill(self.content(), 0)]
    }

    /// Its checksum after these patches; `None` if the chunk is incomplete.
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
