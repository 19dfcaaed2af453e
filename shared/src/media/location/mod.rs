//! Finds the positions in a file, and makes what it takes to send the file without them: GPS directories of Exif, GPS fields
//! of XMP and JSON, texts of PNGs, and the locations that telephones write into videos.
//!
//! A file is not rewritten, and what it shows stays as it is. A position is found by what it looks like wherever it lies,
//! whichever format surrounds it: while the bytes pass by ([`Scanner`]), and with a few reads of what Exif leads to and of
//! packed texts ([`Found::settle`]). It becomes [`Patches`] of the same length, so that lengths, ranges and offsets hold.
//!
//! Whatever a file holds, this ends, in time that grows by its length and in bounded memory. What is not found stands in
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

pub use patches::Patches;
pub use scan::{Found, Scanner};

use store::ReadAt;

/// How much is read at a time.
const CHUNK: usize = 64 * 1024;

/// Finds what says where the image or video in `body` was taken. Blocks where the bytes are not in memory.
pub fn find(body: &dyn ReadAt) -> io::Result<Patches> {
    let (mut scanner, mut chunk, mut at) = (Scanner::default(), vec![0; CHUNK], 0);
    loop {
        let length = body.read_at(at, &mut chunk)?;
        if length == 0 {
            return scanner.finish().settle(body);
        }
        scanner.update(&chunk[..length]);
        at += length as u64;
    }
}

/// Fills `buffer` from `offset` on; false where the body has not so many bytes, or a reader of headers will not go there.
fn fill(body: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
    if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > body.size()) {
        return Ok(false);
    }
    match body.read_at(offset, buffer) {
        Ok(length) => Ok(length == buffer.len()),
        // It has read so often that only a hostile file can want it.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(error),
    }
}
