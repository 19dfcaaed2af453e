//! [`Scaler`]: makes images smaller; its results and errors.

use std::{fmt, io};

use bytes::Bytes;

use super::form::Form;
use crate::media::Format;
use store::ReadAt;

/// The most memory that reading a header may take, in bytes, besides the image itself, which can be all header.
pub const LOOKING: u64 = 8 << 20;

const MIB: u64 = 1 << 20;

/// Makes images smaller.
pub trait Scaler: fmt::Debug + Send + Sync {
    /// Raised whenever the output bytes for the same image change.
    fn version(&self) -> u32;

    /// An upper bound, in bytes, on the memory that [`scale`](Self::scale) takes for this image, itself included. Reads
    /// headers only, and takes no more than the image's length and [`LOOKING`] for it. Blocks.
    fn cost(&self, source: &dyn ReadAt, format: Format, form: Form) -> Result<u64, Unscalable>;

    /// Makes a thumbnail of an image: rotated by its EXIF orientation, without any metadata. Refuses images that would
    /// take more than `most` bytes. Blocks.
    fn scale(&self, source: &Bytes, format: Format, form: Form, most: u64) -> Result<Thumbnail, Unscalable>;
}

/// A thumbnail of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Its bytes.
    pub bytes: Bytes,
    /// Their format.
    pub format: Format,
}

/// Why there is no thumbnail of an image. All causes but `Read` lie in the image, and each reads as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Unscalable {
    /// There is no decoder for this format.
    #[error("{0} images cannot be scaled here.")]
    Format(Format),
    /// The decoder for this format does not support this variant.
    #[error("Images that are stored in this way cannot be scaled here.")]
    Kind,
    /// It cannot be decoded.
    #[error("The image is damaged.")]
    Damaged,
    /// Decoding it would take too much.
    #[error("The image is too large to be scaled.")]
    TooLarge,
    /// It would take more memory than all thumbnails may use together; both in bytes.
    #[error(
        "The image is too large to be scaled here: that takes {} MiB of memory, and this server may use {} MiB for it.",
        .needed.div_ceil(MIB),
        .allowed / MIB
    )]
    Memory {
        /// The memory for decoding, resizing and encoding.
        needed: u64,
        /// [`Limits::memory_bytes`].
        allowed: u64,
    },
    /// The bytes could not be read; the cause lies outside the image.
    #[error("The image could not be read.")]
    Read(#[source] io::Error),
}
