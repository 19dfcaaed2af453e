//! [`Error`]: the errors of client requests.
//!
//! Which error to use where: a failure of a store or the catalog is passed on unchanged; every error that a client
//! caused or can act on has a variant of its own, which `http::problem` turns into a status code. `Display` is one
//! plain sentence fit for a client, except for the first three variants, whose text is for the log only.

use crate::catalog::{CatalogError, CommitError};
use crate::layout::BackupName;
use crate::media::MediaError;
use store::{ErrorKind, StoreError};

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most characters of a name that a response repeats.
const MAX_NAME_SHOWN: usize = 200;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store failed.
    #[error("a store failed")]
    Store(#[from] StoreError),
    /// The catalog could not be read or compacted.
    #[error("the catalog failed")]
    Catalog(#[from] CatalogError),
    /// A change could not be made durable.
    #[error("a change could not be stored")]
    Commit(#[from] CommitError),
    /// The image does not exist.
    #[error("There is no image {0:?}.")]
    NoSuchImage(String),
    /// No image belongs to this group.
    #[error("There is no group {0:?}.")]
    NoSuchGroup(String),
    /// The backup does not exist, or has no valid manifest.
    #[error("There is no backup {0:?}.")]
    NoSuchBackup(String),
    /// A part of a backup is missing or damaged.
    #[error("A part of {0} is missing or damaged, so nothing was changed. Another backup may serve.")]
    DamagedBackup(BackupName),
    /// The image is in the catalog, but neither the primary nor the archive has its bytes.
    #[error("The image's bytes are missing from the store and from its archive.")]
    MissingBytes,
    /// The image does not have the version that the client requested.
    #[error("The image has changed since the version in If-Match.")]
    Changed,
    /// A restore or an import is running, or an operation that must not run beside one.
    #[error("Another restore or import, or a prune or a delete of a backup, is running. Try again when it has ended.")]
    RestoreRunning,
    /// Too little space is left to store more.
    #[error("There is too little room left in the store. Deleting images still works.")]
    NoRoom,
    /// Too little space is left for a restore.
    #[error(
        "There is too little room for this restore: {lacking} bytes more would have to be free. Nothing was changed. Prune old backups, or make the volume larger."
    )]
    NoRoomToRestore {
        /// How many more bytes are needed, beside the reserve.
        lacking: u64,
    },
    /// Too many uploads were begun and not finished.
    #[error(
        "Too many uploads were begun and are not finished. Finish them, or give them up with DELETE; idle ones may be deleted after an hour."
    )]
    TooMuchUnfinished,
    /// The file system can hold too few more files, however many bytes are free.
    #[error(
        "The file system has too few free inodes, so it cannot hold more files. Deleting images still works. Remove files \
         that are not needed from it, or move the store to a file system with more inodes."
    )]
    NoFiles,
    /// Too many replicas are pending for more uploads to be accepted.
    #[error("The archive is too far behind. Deleting images still works; try the rest again later.")]
    ArchiveBehind,
    /// The request carried no image.
    #[error("The request holds no image: send one in the multipart field \"image\", or as the body.")]
    NoFile,
    /// An uploaded image is empty.
    #[error("The image is empty.")]
    EmptyFile,
    /// The ticket does not exist, was used, or has expired.
    #[error("There is no such ticket; it may have expired.")]
    NoSuchTicket,
    /// The token does not exist.
    #[error("There is no token {0:?}.")]
    NoSuchToken(String),
    /// The stored tokens are damaged.
    #[error("tokens.json is damaged, so that no token in it works. Delete it, and make new ones.")]
    DamagedTokens,
    /// The bytes of a ticket have not arrived.
    #[error("The bytes for this ticket have not arrived: send them to its uploadUrl first.")]
    NothingArrived,
    /// The bytes of a ticket are arriving over another connection.
    #[error("The bytes for this ticket are arriving already.")]
    ArrivingNow,
    /// A migration into this store was begun and has not ended.
    #[error("A migration into this store has not ended, so that images may be missing from it. Run `migrate` again.")]
    MigrationUnfinished,
    /// A migration between these locations is not possible.
    #[error("{0}")]
    MigrationRefused(String),
    /// Another verification is running.
    #[error("Another verification is running. Try again when it has ended.")]
    VerificationRunning,
    /// The bytes of a ticket were already received.
    #[error("The bytes for this ticket are here already: complete the upload.")]
    ArrivedBefore,
    /// An export cannot be written: the target, and why.
    #[error("{0} cannot be written ({1}).")]
    Unwritable(String, String),
    /// An import cannot be read: the source, and why.
    #[error("{0} cannot be read ({1}).")]
    Unreadable(String, String),
    /// Something in the request is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The body is longer than the limit.
    #[error("The upload is larger than {limit} bytes.")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// One image is the reason why the whole request is refused.
    #[error("{}", of_file_text(file, *among_others, error))]
    OfFile {
        /// The image's original name, or its position in the request.
        file: String,
        /// Whether the request contained other images.
        among_others: bool,
        /// What is wrong with it.
        error: Box<Error>,
    },
    /// The bytes are not a supported image.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// An archive file cannot be imported as a whole; nothing was imported.
    #[error("{0}")]
    UnusableArchive(String),
    /// The image cannot have a thumbnail, for this reason.
    #[error("{0}")]
    NotScalable(String),
    /// Too many thumbnails are being made.
    #[error("Too many images are being scaled. Try again soon.")]
    TooBusy,
    /// The bytes do not have the digest that the client declared.
    #[error("The bytes that arrived do not match the digest that was sent with them.")]
    DigestMismatch,
    /// An idempotency key was used before, for a different request.
    #[error("This Idempotency-Key was used before for another upload.")]
    IdempotencyMismatch,
    /// The images stored under an idempotency key were deleted since.
    #[error(
        "The upload with this Idempotency-Key was stored, and its images were deleted since. To store them anew, send them with another key."
    )]
    DeletedSince,
    /// The upload with this idempotency key is still running.
    #[error("An upload with this Idempotency-Key is still running.")]
    IdempotencyInProgress,
}

/// The sentence of [`Error::OfFile`].
pub(crate) fn of_file_text(file: &str, among_others: bool, error: impl std::fmt::Display) -> String {
    if among_others { format!("{file:?}: {error}") } else { error.to_string() }
}

impl Error {
    /// The name of the store that failed, if a store failed and has a name.
    pub fn store_name(&self) -> Option<&'static str> {
        match self {
            Self::Store(e)
            | Self::Catalog(CatalogError::Store(e))
            | Self::Commit(CommitError::NotStored(e) | CommitError::Unknown(e)) => e.store,
            _ => None,
        }
    }

    /// Whether the file system has too few free inodes.
    pub fn is_out_of_inodes(&self) -> bool {
        match self {
            Self::NoFiles => true,
            Self::Store(e) | Self::Commit(CommitError::NotStored(e) | CommitError::Unknown(e)) => e.is_out_of_inodes(),
            _ => false,
        }
    }

    /// The same error, about the image of this name. A store failure is not about an image and stays unchanged.
    #[must_use]
    pub fn of_file(self, file: Option<&str>, among_others: bool) -> Self {
        match file {
            Some(file) if self.store_kind().is_none() => {
                let file = file.chars().take(MAX_NAME_SHOWN).collect();
                Self::OfFile { file, among_others, error: Box::new(self) }
            }
            _ => self,
        }
    }

    /// Whether a page of the catalog is missing or damaged.
    pub fn is_damaged_catalog(&self) -> bool {
        matches!(self, Self::Catalog(error) if error.is_damage())
    }

    /// The kind of the underlying store failure, if there is one.
    pub fn store_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Store(e) => Some(e.kind),
            Self::Catalog(e) => e.store_kind(),
            Self::Commit(CommitError::NotStored(e) | CommitError::Unknown(e)) => Some(e.kind),
            Self::NoRoom | Self::NoFiles => Some(ErrorKind::Full),
            Self::OfFile { error, .. } => error.store_kind(),
            // The bytes are in a store, so the store failed.
            Self::Media(MediaError::Read(e)) => {
                let store = e.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>());
                Some(store.map_or(ErrorKind::Unavailable, |store| store.kind))
            }
            _ => None,
        }
    }
}
