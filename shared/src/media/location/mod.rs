//! Finds the positions in a file, and the changes needed to send the file without them: GPS directories of Exif, GPS
//! fields of XMP and JSON, texts of PNGs, and the locations that phones write into videos.
//!
//! The file is not re-encoded, and its picture stays unchanged. A position is recognized by its own pattern anywhere in
//! the file, whatever the surrounding format: while the bytes stream through ([`Scanner`]), and with a few reads of the
//! targets of Exif offsets and of compressed texts ([`Found::resolve`]). It becomes [`Patches`] of the same length, so
//! that lengths, ranges and offsets remain valid.
//!
//! For any file, the search ends in time linear in its length and in bounded memory. What it does not find is listed in
//! `docs/adr/0055-which-positions-are-found.md`.

mod boxes;
#[cfg(test)]
mod field_tests;
mod flir;
mod json;
mod names;
mod patches;
mod png;
mod scan;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod text_tests;
mod texts;
mod tiff;
mod xmp;

use std::io;

use store::ReadAt;

pub use patches::Patches;
pub use scan::{Found, Scanner};

/// How many bytes are read at a time.
const CHUNK: usize = 64 * 1024;

/// Finds the positions in the image or video in `body`. Blocks if the bytes are not in memory.
pub fn find(body: &dyn ReadAt) -> io::Result<Patches> {
    let (mut scanner, mut chunk, mut at) = (Scanner::default(), vec![0; CHUNK], 0);
    loop {
        let length = body.read_at(at, &mut chunk)?;
        if length == 0 {
            return scanner.finish().resolve(body);
        }
        scanner.update(&chunk[..length]);
        at += length as u64;
    }
}

/// Fills `buffer` from `offset`; false if the body is too short, or its reader has exceeded its limit.
fn fill(body: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
    if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > body.size()) {
        return Ok(false);
    }
    match body.read_at(offset, buffer) {
        Ok(length) => Ok(length == buffer.len()),
        // Only a hostile file requires so many reads.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(error),
    }
}
