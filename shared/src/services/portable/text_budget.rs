//! [`TextBudget`]: how much of a source may be text, which is read whole and parsed.
//!
//! Text shrinks well, and what is parsed takes many times its length: a small zip could ask for more memory than there
//! is. What a zip may hold is therefore measured by what it is itself.

use super::source::Source;
use super::source_file::SourceFile;
use crate::core::blocking;
use crate::core::error::{Error, Result};
use store::{Spool, StoreError};

/// The most bytes of text whatever the source: records of a million images.
const MAX_TEXT: u64 = 1024 * 1024 * 1024;
/// Up to this many bytes a zip may hold whatever its own length.
const HARMLESS_TEXT: u64 = 16 * 1024 * 1024;
/// How many times its own length it may hold beyond that. Records with digests in them shrink to a fifth.
const MAX_RATIO: u64 = 20;
/// Up to this many values a zip may hold whatever its own length.
const HARMLESS_VALUES: u64 = 2_000_000;
/// Beyond that, of how many of its own bytes each value must be.
const BYTES_OF_A_VALUE: u64 = 8;
/// As how many further values an object counts: a record takes some two kilobytes until the plan stands, however short it is.
const VALUES_OF_AN_OBJECT: u64 = 16;

/// What may still be read of a source.
pub(super) struct TextBudget {
    bytes: u64,
    values: u64,
}

impl TextBudget {
    pub(super) fn of(source: &Source) -> Self {
        match source.packed {
            Some(length) => Self {
                bytes: MAX_TEXT.min(HARMLESS_TEXT.max(length.saturating_mul(MAX_RATIO))),
                values: HARMLESS_VALUES.saturating_add(length / BYTES_OF_A_VALUE),
            },
            // Whoever names a folder has it on a disk already.
            None => Self { bytes: MAX_TEXT, values: u64::MAX },
        }
    }

    /// Reads a file that is text, whole.
    pub(super) async fn read(&mut self, source: &Source, file: &SourceFile, spool: Spool) -> Result<Vec<u8>> {
        self.bytes = self.bytes.checked_sub(file.size).ok_or_else(|| too_much(file))?;
        let body = source.read(file, spool).await?;
        let read = move || {
            let mut bytes = Vec::with_capacity(body.size() as usize);
            body.write_to(&mut bytes)?;
            // Before each value stands one of these; those in strings are counted with them.
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
    Error::UnusableArchive(format!("{:?} holds too much text for what it comes in.", file.path))
}
