//! [`Archive`]: the second copies of images, each content once.

use crate::digest::Digest;
use crate::layout::{self, ImageId};
use crate::store::{Body, ErrorKind, Key, Optional, PutMode, Store, StoreError};

/// The place of second copies, backups and quarantine.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Store,
}

/// What became of one image whose second copy was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archived {
    /// The archive had it, or has it now.
    Yes,
    /// Its bytes are in neither place.
    Missing,
}

impl Archive {
    /// An archive in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The store it lies in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stores a second copy of an image's bytes. Does nothing where one of the same length stands: it lies under the
    /// digest of its bytes.
    pub async fn put(&self, body: &Body) -> Result<(), StoreError> {
        let key = layout::archived_image(&body.digest());
        match self.store.put(&key, body, &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => {}
            done => return done.map(drop),
        }
        if self.store.head(&key).await?.size != body.size() {
            self.store.put(&key, body, &PutMode::Overwrite).await?;
        }
        Ok(())
    }

    /// Whether a second copy stands that has the right length.
    pub async fn has(&self, digest: &Digest, size: Option<u64>) -> Result<bool, StoreError> {
        let meta = self.store.head(&layout::archived_image(digest)).await.optional()?;
        Ok(meta.is_some_and(|meta| size.is_none_or(|size| size == meta.size)))
    }

    /// Makes sure that a second copy of `id`'s bytes stands and has their digest, as the backend keeps it or as reading it
    /// back tells. A copy that is wrong is made anew from the primary, if the bytes there are right.
    pub async fn verify(&self, primary: &Store, id: &ImageId, digest: Digest) -> Result<Archived, StoreError> {
        let key = layout::archived_image(&digest);
        if self.store.digest(&key).await.sound()?.is_some_and(|(_, found)| found == digest) {
            return Ok(Archived::Yes);
        }
        match primary.copy_to(&layout::image(id), &self.store, &key, digest, None).await {
            Ok(()) => {}
            Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(Archived::Missing),
            Err(e) => return Err(e),
        }
        match self.store.digest(&key).await? {
            (_, found) if found == digest => Ok(Archived::Yes),
            _ => Err(StoreError::new("verify", key, ErrorKind::Corrupt)),
        }
    }

    /// Brings an image's bytes back into the primary, verified; replaces what lies there.
    pub async fn bring_back(&self, primary: &Store, id: &ImageId, digest: Digest) -> Result<Archived, StoreError> {
        match self.store.copy_to(&layout::archived_image(&digest), primary, &layout::image(id), digest, None).await {
            Ok(()) => Ok(Archived::Yes),
            Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(Archived::Missing),
            Err(e) => Err(e),
        }
    }

    /// Copies an object of `place` into quarantine, where a person can look at it; returns whether it lies there now, which
    /// it does not where it is gone or cannot be read.
    pub async fn quarantine(&self, place: &Store, key: &Key) -> Result<bool, StoreError> {
        quarantine(&self.store, place, key).await
    }
}

/// Copies an object of `place` into the quarantine of `archive`.
pub(crate) async fn quarantine(archive: &Store, place: &Store, key: &Key) -> Result<bool, StoreError> {
    let Some(body) = place.fetch(key).await.sound()? else { return Ok(false) };
    let to = layout::quarantined(&body.digest(), key.name());
    match archive.put(&to, &body, &PutMode::Create).await {
        Err(e) if e.kind != ErrorKind::AlreadyExists => Err(e),
        _ => Ok(true),
    }
}
