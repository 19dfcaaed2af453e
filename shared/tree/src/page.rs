//! Where pages are stored, and what can go wrong with them.

use async_trait::async_trait;
use bytes::Bytes;
use store::StoreError;
use store::digest::Digest;

/// A set of pages, each named by the digest of its bytes.
#[async_trait]
pub trait Pages: Send + Sync {
    /// The bytes of a page; `None` if it does not exist. The caller compares them with the digest.
    async fn read(&self, page: &Digest) -> Result<Option<Bytes>, StoreError>;

    /// Stores a page durably. It may exist already.
    async fn write(&self, page: &Digest, bytes: Bytes) -> Result<(), StoreError>;
}

/// Why a tree cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A page does not exist: a prune removed it because no root referenced it any more, or it was lost.
    #[error("page {0} of the catalog does not exist")]
    Missing(Digest),
    /// The bytes under this name are others, or are not a page.
    #[error("page {page} of the catalog is damaged: {reason}")]
    Damaged {
        /// The page.
        page: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a newer Keepsake.
    #[error(
        "page {page} of the catalog has format {format}, which this version does not know; use the version of Keepsake that wrote it"
    )]
    Newer {
        /// The page.
        page: Digest,
        /// Its format.
        format: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TreeError {
    /// Whether a page is missing or damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Damaged { .. })
    }
}
