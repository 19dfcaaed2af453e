//! What can go wrong with the catalog.

use uuid::Uuid;

use super::piece::PieceError;
use crate::store::{ErrorKind, Key, StoreError};

/// A failure of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint or commit was written by a newer Keepsake.
    #[error("{key:?} cannot be used")]
    Piece {
        /// Where it lies.
        key: Key,
        /// What is wrong with it.
        #[source]
        source: PieceError,
    },
    /// Two places hold the metadata of different stores.
    #[error(
        "the place {place} belongs to another store ({found}, not {expected}); nothing was changed; point BACKUP_URL and \
         DATA_DIR at places of one store, or at empty ones"
    )]
    ForeignStore {
        /// 0 is the primary, 1 the archive, 2 the mirror in `uploads/`.
        place: usize,
        /// The store it belongs to.
        found: Uuid,
        /// The store that was expected.
        expected: Uuid,
    },
    /// The checkpoint kept changing while it was read.
    #[error("the checkpoint kept changing while it was read")]
    Restless,
}

impl CatalogError {
    /// The store's failure, where it was one.
    pub fn store_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Store(e) => Some(e.kind),
            Self::Restless => Some(ErrorKind::Unavailable),
            Self::Piece { .. } | Self::ForeignStore { .. } => None,
        }
    }
}

/// Whether a failed commit may yet become visible.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It never reached the primary and was taken back elsewhere: no reader will ever see it.
    #[error("the change was not stored")]
    NotStored(#[source] StoreError),
    /// A store did not answer, so that the commit may have been there long enough to be read, or may be there still.
    #[error("it is not known whether the change was stored")]
    Unknown(#[source] StoreError),
}
