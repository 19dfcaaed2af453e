//! [`Archive`]: the replicas of images, each content once.

use super::ages::AGING;
use crate::base::clock::Clock;
use crate::catalog::quarantine::quarantine;
use crate::layout::{self, ImageId};
use store::digest::Digest;
use store::{Body, ErrorKind, Key, ObjectMeta, Optional, PutMode, Store, StoreError};

/// The place of replicas, backups and quarantine.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Store,
    clock: Clock,
}

/// What became of one image whose replica was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archived {
    /// The archive had it, or has it now.
    Yes,
    /// Its bytes are in neither place.
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

    /// Stores a replica of an image's bytes, which no record needs to name yet. Where one stands that is right, it is
    /// left alone, but for one so old that a prune might take it away.
    pub async fn put(&self, body: &Body) -> Result<(), StoreError> {
        self.put_unless(body, |meta| !self.is_aging(meta)).await
    }

    /// Likewise for bytes that a record or a tombstone names, so that no prune takes them away: writes nothing where a
    /// replica stands, which goes on a full disk too.
    pub async fn put_named(&self, body: &Body) -> Result<(), StoreError> {
        self.put_unless(body, |_| true).await
    }

    async fn put_unless(&self, body: &Body, serves: impl Fn(&ObjectMeta) -> bool) -> Result<(), StoreError> {
        let key = layout::archived_image(&body.digest());
        match self.store.put(&key, body, &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => {}
            done => return done.map(drop),
        }
        // It may have rotted since the last image of this content was deleted, and it would stand for this one then.
        let stands = self.store.digest(&key).await.intact()?;
        if !stands.is_some_and(|(meta, digest)| digest == body.digest() && serves(&meta)) {
            self.store.put(&key, body, &PutMode::Overwrite).await?;
        }
        Ok(())
    }

    /// Whether whoever relies on an object of this age without being named in the catalog or in a backup must put it anew.
    pub(crate) fn is_aging(&self, meta: &ObjectMeta) -> bool {
        self.clock.now().duration_since(meta.modified) > AGING
    }

    /// Whether a replica stands that has the right length.
    pub async fn has(&self, digest: &Digest, size: Option<u64>) -> Result<bool, StoreError> {
        let meta = self.store.head(&layout::archived_image(digest)).await.optional()?;
        Ok(meta.is_some_and(|meta| size.is_none_or(|size| size == meta.size)))
    }

    /// Makes sure that a replica of `id`'s bytes stands and has their digest, as the backend keeps it or as reading it
    /// back tells. A copy that is wrong is made anew from the primary, if the bytes there are right, and so is one that is
    /// so old that a prune might take it away.
    pub async fn verify(&self, primary: &Store, id: &ImageId, digest: Digest) -> Result<Archived, StoreError> {
        self.verify_unless(primary, id, digest, |meta| !self.is_aging(meta)).await
    }

    /// Likewise for bytes that a record has named for a while, so that no prune takes them away: what is right is left
    /// alone, which goes on a full disk too.
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

    /// Brings an image's bytes back into the primary, verified; replaces what lies there.
    pub async fn bring_back(&self, primary: &Store, id: &ImageId, digest: Digest) -> Result<Archived, StoreError> {
        let from = layout::archived_image(&digest);
        let copied = self.store.copy_if_right(&from, primary, &layout::image(id), digest).await?;
        Ok(if copied { Archived::Yes } else { Archived::Missing })
    }

    /// Copies an object of `place` into quarantine, where a person can look at it; returns whether it lies there now, which
    /// it does not where it is gone or cannot be read.
    pub async fn quarantine(&self, place: &Store, key: &Key) -> Result<bool, StoreError> {
        quarantine(&self.store, place, key).await
    }
}
