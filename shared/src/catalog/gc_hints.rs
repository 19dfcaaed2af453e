//! Hints for the next prune: each operation that removes references first records which objects may become
//! unreferenced, so that a prune need not scan everything.
//!
//! A hint is no proof: a prune checks itself whether the hinted objects are referenced. Unreferenced objects without a
//! hint are found by a sweep, a prune that scans everything; [`Swept`] records when the last one ran.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::clock::millis;
use crate::base::seal;
use crate::layout;
use store::digest::Digest;
use store::{Body, ErrorKind, Key, PutMode, Store, StoreError};

/// Objects that may have become unreferenced; immutable sealed JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GcHints {
    /// Catalog chunks. The images they reference are read from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) chunks: Vec<Digest>,
    /// Contents of images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<Digest>,
}

/// When everything in the archive was last scanned; sealed JSON. If it does not exist, a sweep is due.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Swept {
    #[serde(with = "millis")]
    pub(crate) at: Timestamp,
}

impl GcHints {
    /// Hints for a backup about to be removed.
    pub(crate) fn of_chunks(chunks: Vec<Digest>) -> Self {
        Self { chunks, images: Vec::new() }
    }

    /// Hints for tombstones about to be dropped.
    pub(crate) fn of_images(images: Vec<Digest>) -> Self {
        Self { chunks: Vec::new(), images }
    }

    /// Writes the hints into `archive`, before the references are removed; returns the key, or `None` if there is
    /// nothing to write. On a full disk, where references are removed all the same, it makes the next prune a sweep
    /// instead.
    pub(crate) async fn put(&self, archive: &Store, id: Uuid) -> Result<Option<Key>, StoreError> {
        if self.chunks.is_empty() && self.images.is_empty() {
            return Ok(None);
        }
        let key = layout::leftovers(id);
        match archive.put(&key, &Body::from(seal::seal(self)), &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::Full => Swept::forget(archive).await.map(|()| None),
            put => put.map(|_| Some(key)),
        }
    }

    /// Decodes the hints; `None` if the bytes are damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        seal::open(bytes)
    }
}

impl Swept {
    /// Records that everything was scanned. On a full disk the next prune sweeps again.
    pub(crate) async fn put(archive: &Store, at: Timestamp) -> Result<(), StoreError> {
        let body = Body::from(seal::seal(&Self { at }));
        match archive.put(&layout::swept(), &body, &PutMode::Overwrite).await {
            Err(e) if e.kind != ErrorKind::Full => Err(e),
            _ => Ok(()),
        }
    }

    /// Makes the next prune a sweep.
    pub(crate) async fn forget(archive: &Store) -> Result<(), StoreError> {
        archive.delete(&layout::swept()).await
    }

    /// Decodes it; `None` if the bytes are damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        seal::open(bytes)
    }
}
