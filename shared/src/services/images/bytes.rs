//! [`ImageBytes`]: an image's bytes, from the primary or else from the archive.

use crate::services::recovery::RecoveryState;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::Record;
use crate::core::Core;
use crate::core::blocking;
use crate::core::error::{Error, Result};
use crate::layout::{self, ImageId};
use crate::media::location::Scanner;
use store::digest::Digest;
use store::sync::{Mutex, lock};
use store::{ErrorKind, Key, ObjectMeta, Optional, Store, StoreError};

/// The bytes of images, from the primary or else from the archive.
#[derive(Debug)]
pub struct ImageBytes {
    core: Arc<Core>,
    recovering: Arc<RecoveryState>,
    /// Images whose bytes were found wrong when they were to be served, to be repaired soon.
    suspects: Mutex<BTreeSet<ImageId>>,
}

impl ImageBytes {
    /// The bytes of images, from the primary or else from the archive, in the store that `core` has.
    pub fn new(core: Arc<Core>, recovering: Arc<RecoveryState>) -> Self {
        Self { core, recovering, suspects: Mutex::default() }
    }

    /// Where an image's bytes lie whole: in the primary, else in the archive. A copy of another length than the record
    /// says is passed over.
    pub async fn locate(&self, id: &ImageId, record: &Record) -> Result<(Store, ObjectMeta)> {
        let whole = |meta: &ObjectMeta| record.size.is_none_or(|size| size == meta.size);
        let primary = self.core.primary.head(&layout::image(id)).await.optional();
        if let Ok(Some(meta)) = &primary
            && whole(meta)
        {
            return Ok((self.core.primary.clone(), meta.clone()));
        }
        if let Some(digest) = &record.sha256 {
            let archived = self.core.archive.store().head(&layout::archived_image(digest)).await.optional()?;
            if let Some(meta) = archived.filter(whole) {
                return Ok((self.core.archive.store().clone(), meta));
            }
        }
        primary?;
        Err(Error::MissingBytes)
    }

    /// Where an image's bytes lie that have its digest, read through: in the primary, else in the archive. What is wrong
    /// is noted for [`repair_suspects`](Self::repair_suspects).
    pub async fn verified(&self, id: &ImageId, digest: Digest) -> Result<(Store, ObjectMeta)> {
        self.verified_told(id, digest, None).await
    }

    /// Likewise; the scanner has been told of those very bytes.
    pub(crate) async fn verified_told(
        &self,
        id: &ImageId,
        digest: Digest,
        mut scanner: Option<&mut Scanner>,
    ) -> Result<(Store, ObjectMeta)> {
        let mut failure = None;
        for (store, key) in
            [(&self.core.primary, layout::image(id)), (self.core.archive.store(), layout::archived_image(&digest))]
        {
            // Of what was read elsewhere and found wrong it is told nothing.
            let mut scanner = scanner.as_deref_mut();
            if let Some(scanner) = &mut scanner {
                **scanner = Scanner::default();
            }
            let mut tell = |chunk: &[u8]| scanner.iter_mut().for_each(|scanner| scanner.update(chunk));
            match store.inspect_told(&key, &mut tell).await.sound() {
                Ok(Some((meta, found))) if found == digest => return Ok((store.clone(), meta)),
                Ok(None) if self.recovering.restoring().is_some() => {
                    tracing::debug!(image = %id, "an image is asked for before it is back");
                    self.suspect(id);
                }
                Ok(_) => {
                    if self.suspect(id) {
                        tracing::error!(image = %id, "an image's bytes are missing or not theirs where they were read");
                    }
                }
                Err(error) => {
                    self.suspect_unreadable(id, store, &key, &error).await;
                    failure = failure.or(Some(error));
                }
            }
        }
        Err(failure.map_or(Error::MissingBytes, Error::from))
    }

    /// Where an image's bytes lie whole and its store returns the first of them: in the primary, else in the archive. A
    /// service that checks what it keeps refuses to return any byte of an object that has rotted, so that this finds such
    /// an object at the cost of a HEAD. What cannot be read is noted for [`repair_suspects`](Self::repair_suspects).
    pub async fn readable(&self, id: &ImageId, record: &Record) -> Result<(Store, ObjectMeta)> {
        let mut failure = None;
        let archived = record.sha256.map(|digest| (self.core.archive.store(), layout::archived_image(&digest)));
        for (store, key) in std::iter::once((&self.core.primary, layout::image(id))).chain(archived) {
            match first_byte(store, &key).await.sound() {
                Ok(Some(meta)) if record.size.is_none_or(|size| size == meta.size) => return Ok((store.clone(), meta)),
                Ok(_) => {}
                Err(error) => {
                    self.suspect_unreadable(id, store, &key, &error).await;
                    failure = failure.or(Some(error));
                }
            }
        }
        Err(failure.map_or(Error::MissingBytes, Error::from))
    }

    /// The images that were found wrong since this was last called.
    pub(crate) fn take_suspects(&self) -> BTreeSet<ImageId> {
        std::mem::take(&mut *lock(&self.suspects))
    }

    /// Notes an image for a repair; returns whether that is new. Where nothing is written, nothing could be repaired.
    fn suspect(&self, id: &ImageId) -> bool {
        let is_new = !self.core.is_withheld() && lock(&self.suspects).insert(id.clone());
        if is_new {
            self.core.changed.notify_one();
        }
        is_new
    }

    async fn suspect_unreadable(&self, id: &ImageId, store: &Store, key: &Key, error: &StoreError) {
        if is_unreadable(store, key, error).await && self.suspect(id) {
            let error = error as &dyn std::error::Error;
            tracing::error!(image = %id, error, "an image's store holds its bytes and fails to return them");
        }
    }

    /// An image's bytes in memory, of which it is known that they are the right ones: read once where nothing is amiss.
    pub(crate) async fn load(&self, id: &ImageId, record: &Record) -> Result<Bytes> {
        let (store, meta) = self.locate(id, record).await?;
        let read = match store.get(&meta.key, None).await {
            Ok(object) => object.bytes().await,
            Err(error) => Err(error),
        };
        let Some(digest) = record.sha256 else { return Ok(read?) };
        if let Ok(bytes) = read
            && has_digest(&bytes, digest).await?
        {
            return Ok(bytes);
        }
        // This finds the other copy, and takes note of what is wrong with this one.
        let (store, meta) = self.verified(id, digest).await?;
        let bytes = store.get(&meta.key, None).await?.bytes().await?;
        if has_digest(&bytes, digest).await? { Ok(bytes) } else { Err(Error::MissingBytes) }
    }
}

/// Whether reading an object failed though its store answers and has it, so that the fault is the object's and not an outage.
pub(crate) async fn is_unreadable(store: &Store, key: &Key, error: &StoreError) -> bool {
    match error.kind {
        ErrorKind::Corrupt => true,
        // An outage or lost rights would also fail the request for its metadata.
        ErrorKind::Unavailable | ErrorKind::Refused => store.head(key).await.is_ok(),
        _ => false,
    }
}

/// Describes an object by reading its first byte.
async fn first_byte(store: &Store, key: &Key) -> Result<ObjectMeta, StoreError> {
    let mut object = store.get(key, Some(0..1)).await?;
    while object.body.next().await.transpose()?.is_some() {}
    Ok(object.meta)
}

async fn has_digest(bytes: &Bytes, digest: Digest) -> Result<bool> {
    let bytes = bytes.clone();
    blocking(move || Digest::of(&bytes) == digest).await
}
