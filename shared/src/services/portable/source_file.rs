//! [`SourceFile`]: a file of a source, and where its bytes are.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::core::error::Error;
use store::StoreError;

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// Its path below the root, `/` between the segments.
    pub(super) path: String,
    /// Its name in the zip, if its path differs.
    pub(super) stored_name: Option<String>,
    /// Length in bytes, as declared.
    pub(super) size: u64,
    /// When it was last changed, if known.
    pub(super) modified: Option<Timestamp>,
    pub(super) origin: Origin,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Entry(Packed),
    Path(PathBuf),
}

/// Where the bytes of an entry are, and how they are compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) deflated: bool,
    pub(super) crc: u32,
}

pub(super) fn unusable(sentence: impl Into<String>) -> Error {
    Error::UnusableArchive(sentence.into())
}

/// The error for bytes, in the source or spooled, that were readable a moment ago.
pub(super) fn unspooled(path: &str, error: io::Error) -> Error {
    StoreError::io("read", path, error).into()
}
