//! What is left to the next prune: who takes a name away writes down beforehand what may be named by nothing any more, so
//! that a prune need not look at everything to find it.
//!
//! That is a help and no proof: a prune finds out for itself whether anything names what it is told of. What nobody told it
//! of, a sweep finds, a prune that looks at everything; [`Swept`] says when the last one was.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::clock::millis;
use crate::base::seal;
use crate::layout;
use store::digest::Digest;
use store::{Body, ErrorKind, Key, PutMode, Store, StoreError};

/// What may be named by nothing any more; sealed JSON that nobody changes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Leftovers {
    /// Catalog chunks. Which images they name is in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) chunks: Vec<Digest>,
    /// Contents of images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<Digest>,
}

/// When everything in the archive was last looked at; sealed JSON. Where there is none, it is time to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Swept {
    #[serde(with = "millis")]
    pub(crate) at: Timestamp,
}

impl Leftovers {
    /// Of a backup that goes.
    pub(crate) fn of_chunks(chunks: Vec<Digest>) -> Self {
        Self { chunks, images: Vec::new() }
    }

    /// Of tombstones that go.
    pub(crate) fn of_images(images: Vec<Digest>) -> Self {
        Self { chunks: Vec::new(), images }
    }

    /// Writes it into `archive`, before what names these goes; returns where, or `None` where there is nothing to write. On a
    /// full disk, where names go all the same, the next prune is made to look at everything instead.
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

    /// Reads it; `None` where its bytes are not those that were written.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        seal::open(bytes)
    }
}

impl Swept {
    /// Takes note that everything was looked at. Where there is no room for it, the next prune does so again.
    pub(crate) async fn put(archive: &Store, at: Timestamp) -> Result<(), StoreError> {
        let body = Body::from(seal::seal(&Self { at }));
        match archive.put(&layout::swept(), &body, &PutMode::Overwrite).await {
            Err(e) if e.kind != ErrorKind::Full => Err(e),
            _ => Ok(()),
        }
    }

    /// Makes the next prune look at everything.
    pub(crate) async fn forget(archive: &Store) -> Result<(), StoreError> {
        archive.delete(&layout::swept()).await
    }

    /// Reads it; `None` where its bytes are not those that were written.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        seal::open(bytes)
    }
}
