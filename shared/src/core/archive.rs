//! [`Archive`]: the replicas of images, each content once.

use jiff::Timestamp;

use super::ages::AGING;
use crate::base::clock::Clock;
use crate::catalog::quarantine::quarantine;
use crate::layout::{self, ImageId};
use store::digest::Digest;
use store::{Body, ErrorKind, Key, ObjectMeta, Optional, PutMode, Store, StoreError};

/// The store of replicas, backups and quarantine.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Store,
    clock: Clock,
}

/// The outcome of replicating one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archived {
    /// The archive has the replica.
    Yes,
    /// Neither the primary nor the archive has the bytes.
    Missing,
}

impl Archive {
    /// An archive in `store`.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// The store it lies in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stores a replica of an image's bytes, which no record needs to reference yet. An existing intact replica is left
    /// alone, unless it is so old that a prune might remove it.
    pub async fn put(&self, body: &Body) -> Result<(), StoreError> {
        self.put_unless(body, |meta| !self.is_aging(meta)).await
    }

    /// Stores a replica of bytes that a record or a tombstone references, so that no prune removes it: writes nothing
    /// if a replica exists, which works on a full disk too.
    pub async fn put_named(&self, body: &Body) -> Result<(), StoreError> {
        self.put_unless(body, |_| true).await
    }

    async fn put_unless(&self, body: &Body, serves: impl Fn(&ObjectMeta) -> bool) -> Result<(), StoreError> {
        let key = layout::archived_image(&body.digest());
        match self.store.put(&key, body, &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => {}
            done => return done.map(drop),
        }
        // It may have been damaged since the last image with this content was deleted, and would then serve for this
        // one.
        let existing = self.store.digest(&key).await.intact()?;
        if !existing.is_some_and(|(meta, digest)| digest == body.digest() && serves(&meta)) {
            self.store.put(&key, body, &PutMode::Overwrite).await?;
        }
        Ok(())
    }

    /// Whether an operation that relies on an object of this age, unreferenced by the catalog and any backup, must put
    /// it again.
    pub(crate) fn is_aging(&self, meta: &ObjectMeta) -> bool {
        self.clock.now().duration_since(meta.modified) > AGING
    }

    /// Since when an object was stored that need not be put again, as [`is_aging`](Self::is_aging) decides.
    pub(crate) fn young_since(&self) -> Timestamp {
        self.clock.now() - AGING
    }

    /// Whether a replica with the right length exists.
    pub async fn has(&self, digest: &Digest, size: Option<u64>) -> Result<bool, StoreError> {
        let meta = self.store.head(&layout::archived_image(digest)).await.optional()?;
        Ok(meta.is_some_and(|meta| size.is_none_or(|size| size == meta.size)))
    }

    /// Ensures that a replica of `id`'s bytes exists and has their digest, as stored by the backend or computed by
    /// reading the replica. A damaged replica is rewritten from the primary, if the bytes there are intact, and so is
    /// one that is so old that a prune might remove it.
    pub async fn verify(&self, primary: &Store, id: &ImageId, digest: Digest) -> Result<Archived, StoreError> {
        self.verify_unless(primary, id, digest, |meta| !self.is_aging(meta)).await
    }

    /// Like [`verify`](Self::verify), for bytes that a record has referenced for a while, so that no prune removes
    /// them: leaves an intact replica alone, which works on a full disk too.
    pub async fn verify_named(&self, primary: &Store, id: &ImageId, digest: Digest) -> Result<Archived, StoreError> {
        self.verify_unless(primary, id, digest, |_| true).await
    }

    async fn verify_unless(
        &self,
        primary: &Store,
        id: &ImageId,
        digest: Digest,
        serves: impl Fn(&ObjectMeta) -> bool,
    ) -> Result<Archived, StoreError> {
        let key = layout::archived_image(&digest);
        let present = self.store.digest(&key).await.intact()?.filter(|(_, found)| *found == digest);
        if present.as_ref().is_some_and(|(meta, _)| serves(meta)) {
            return Ok(Archived::Yes);
        }
        if !primary.copy_if_right(&layout::image(id), &self.store, &key, digest).await? {
            if present.is_none() {
                return Ok(Archived::Missing);
            }
            let Some(body) = self.store.fetch(&key).await.intact()?.filter(|body| body.digest() == digest) else {
                return Ok(Archived::Missing);
            };
            self.store.put(&key, &body, &PutMode::Overwrite).await?;
        }
        match self.store.digest(&key).await? {
            (_, found) if found == digest => Ok(Archived::Yes),
            _ => Err(StoreError::new("verify", key, ErrorKind::Corrupt)),
        }
    }

    /// Restores an image's bytes to the primary, verified; replaces the object there.
    pub async fn bring_back(&self, primary: &Store, id: &ImageId, digest: Digest) -> Result<Archived, StoreError> {
        let from = layout::archived_image(&digest);
        let copied = self.store.copy_if_right(&from, primary, &layout::image(id), digest).await?;
        Ok(if copied { Archived::Yes } else { Archived::Missing })
    }

    /// Copies an object of `from` into quarantine, where the operator can inspect it; returns whether it is there now,
    /// which it is not if the object is gone or cannot be read.
    pub async fn quarantine(&self, from: &Store, key: &Key) -> Result<bool, StoreError> {
        quarantine(&self.store, from, key).await
    }
}
