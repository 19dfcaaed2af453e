//! [`TextBudget`]: how much of a source may be text, which is read as a whole and parsed.
//!
//! Text compresses well, and parsed text takes many times its length: a small zip could require more memory than there
//! is. So the text budget of a zip depends on its own length.

use super::source::Source;
use super::source_file::SourceFile;
use crate::core::blocking;
use crate::core::error::{Error, Result};
use store::{Spool, StoreError};

/// The most bytes of text for any source: records of a million images.
const MAX_TEXT: u64 = 1024 * 1024 * 1024;
/// The text that any zip may hold, whatever its length, in bytes.
const ALWAYS_ALLOWED_TEXT: u64 = 16 * 1024 * 1024;
/// How many times its own length a zip may hold beyond that. Records with digests compress to a fifth.
const MAX_RATIO: u64 = 20;
/// The number of values that any zip may hold, whatever its length.
const ALWAYS_ALLOWED_VALUES: u64 = 2_000_000;
/// Beyond that, the bytes of its own length that a zip needs per value.
const BYTES_OF_A_VALUE: u64 = 8;
/// How many additional values an object counts as: a record takes about two kilobytes until the plan exists, however
/// short it is.
const VALUES_OF_AN_OBJECT: u64 = 16;

/// The remaining budget for a source.
pub(super) struct TextBudget {
    bytes: u64,
    values: u64,
}

impl TextBudget {
    pub(super) fn of(source: &Source) -> Self {
        match source.packed {
            Some(length) => Self {
                bytes: MAX_TEXT.min(ALWAYS_ALLOWED_TEXT.max(length.saturating_mul(MAX_RATIO))),
                values: ALWAYS_ALLOWED_VALUES.saturating_add(length / BYTES_OF_A_VALUE),
            },
            // A folder is already on the caller's disk.
            None => Self { bytes: MAX_TEXT, values: u64::MAX },
        }
    }

    /// Reads a whole text file.
    pub(super) async fn read(&mut self, source: &Source, file: &SourceFile, spool: Spool) -> Result<Vec<u8>> {
        self.bytes = self.bytes.checked_sub(file.size).ok_or_else(|| too_much(file))?;
        let body = source.read(file, spool).await?;
        let read = move || {
            let mut bytes = Vec::with_capacity(body.size() as usize);
            body.write_to(&mut bytes)?;
            // One of these bytes precedes each value; those inside strings are counted too.
            let weigh = |byte: &u8| match byte {
                b',' | b':' | b'[' => 1,
                b'{' => VALUES_OF_AN_OBJECT,
                _ => 0,
            };
            let values: u64 = bytes.iter().map(weigh).sum();
            Ok((bytes, values))
        };
        let read: std::io::Result<_> = blocking(read).await?;
        let (bytes, values) = read.map_err(|error| StoreError::io("spool", &file.path, error))?;
        self.values = self.values.checked_sub(values).ok_or_else(|| too_much(file))?;
        Ok(bytes)
    }
}

fn too_much(file: &SourceFile) -> Error {
    Error::UnusableArchive(format!("{:?} contains too much text for the size of its archive.", file.path))
}
