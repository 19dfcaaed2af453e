//! The errors of the catalog.

use std::sync::Arc;

use uuid::Uuid;

use super::piece::PieceError;
use store::{ErrorKind, Key, StoreError};
use tree::TreeError;

/// A failure of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A page of a root is missing or damaged in every location, or was written by a newer Keepsake.
    #[error(transparent)]
    Page(TreeError),
    /// A root, metadata file or commit was written by a newer Keepsake.
    #[error("{key:?} cannot be used")]
    Piece {
        /// The key of the piece.
        key: Key,
        /// Why it cannot be decoded.
        #[source]
        source: PieceError,
    },
    /// Two locations hold the metadata of different stores.
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
    /// The root kept changing while it was read.
    #[error("the root of the catalog kept changing while it was read")]
    TooContended,
    /// A refresh failed, for all callers that waited for it.
    #[error(transparent)]
    Shared(Arc<Self>),
    /// A refresh that another caller began did not end in time.
    #[error("the store did not answer the request before this one in time")]
    TimedOut,
}

impl From<TreeError> for CatalogError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Store(error) => Self::Store(error),
            other => Self::Page(other),
        }
    }
}

impl CatalogError {
    /// The error itself, if several callers share it.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Shared(shared) => shared.cause(),
            own => own,
        }
    }

    /// Whether a part of a state is missing or damaged.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.cause(), Self::Page(error) if error.is_damage())
    }

    /// The store's failure, if it was one.
    pub fn store_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Store(e) => Some(e.kind),
            Self::TooContended | Self::TimedOut => Some(ErrorKind::Unavailable),
            Self::Shared(shared) => shared.store_kind(),
            Self::Page(_) => Some(ErrorKind::Corrupt),
            Self::Piece { .. } | Self::ForeignStore { .. } => None,
        }
    }
}

/// Whether a failed commit may still become visible.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It never reached the primary and was rolled back elsewhere: no reader will ever see it.
    #[error("the change was not stored")]
    NotStored(#[source] StoreError),
    /// A store did not answer, so the commit may have been readable for a while, or may still exist.
    #[error("it is not known whether the change was stored")]
    Unknown(#[source] StoreError),
}
