//! Looking at an image before it is served.

use bytes::Bytes;
use futures::StreamExt;

use super::{Copies, Copy, Findings, Slice, is_unreadable};
use crate::catalog::Record;
use crate::core::error::{Error, Result};
use crate::digest::Digest;
use crate::keepsake::{Keepsake, blocking};
use crate::layout::{self, ImageId};
use crate::media::location::Scanner;
use crate::store::{Key, ObjectMeta, Optional, Store, StoreError};
use crate::sync::lock;

impl Keepsake {
    /// Where an image's bytes lie that have its digest, read through: in the primary, else in the archive. What is wrong
    /// is noted for [`repair_suspects`](Self::repair_suspects).
    pub async fn sound_bytes(&self, id: &ImageId, digest: Digest) -> Result<(Store, ObjectMeta)> {
        self.sound_bytes_told(id, digest, None).await
    }

    /// Likewise; the scanner has been told of those very bytes.
    pub(crate) async fn sound_bytes_told(
        &self,
        id: &ImageId,
        digest: Digest,
        mut scanner: Option<&mut Scanner>,
    ) -> Result<(Store, ObjectMeta)> {
        let mut failure = None;
        for (store, key) in
            [(&self.primary, layout::image(id)), (self.archive.store(), layout::archived_image(&digest))]
        {
            // Of what was read elsewhere and found wrong it is told nothing.
            let mut scanner = scanner.as_deref_mut();
            if let Some(scanner) = &mut scanner {
                **scanner = Scanner::default();
            }
            let mut tell = |chunk: &[u8]| scanner.iter_mut().for_each(|scanner| scanner.update(chunk));
            match store.inspect_told(&key, &mut tell).await.sound() {
                Ok(Some((meta, found))) if found == digest => return Ok((store.clone(), meta)),
                Ok(None) if self.restoring().is_some() => {
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
    pub async fn readable_bytes(&self, id: &ImageId, record: &Record) -> Result<(Store, ObjectMeta)> {
        let mut failure = None;
        let archived = record.sha256.map(|digest| (self.archive.store(), layout::archived_image(&digest)));
        for (store, key) in std::iter::once((&self.primary, layout::image(id))).chain(archived) {
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

    /// Notes an image for a repair; returns whether that is new. Where nothing is written, nothing could be repaired.
    fn suspect(&self, id: &ImageId) -> bool {
        let is_new = self.withheld().is_none() && lock(&self.suspects).insert(id.clone());
        if is_new {
            self.changed.notify_one();
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
    pub(crate) async fn load_bytes(&self, id: &ImageId, record: &Record) -> Result<Bytes> {
        let (store, meta) = self.locate_bytes(id, record).await?;
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
        let (store, meta) = self.sound_bytes(id, digest).await?;
        let bytes = store.get(&meta.key, None).await?.bytes().await?;
        if has_digest(&bytes, digest).await? { Ok(bytes) } else { Err(Error::MissingBytes) }
    }

    /// Repairs the images that were found wrong when they were to be served. Those that cannot be repaired are kept for
    /// health, until a verification finds them right.
    pub async fn repair_suspects(&self) -> Result<()> {
        let suspects = std::mem::take(&mut *lock(&self.suspects));
        let (mut failure, mut findings) = (None, Findings::default());
        for id in suspects {
            let digest = self.catalog.read(|state| state.get(id.as_str())?.live()?.sha256);
            let Some(digest) = digest else { continue };
            let repaired = match self.look_at(&id, digest).await {
                // Nothing is known to be right, so that there is nothing to repair it from.
                Ok(Some(Copies { primary: Copy::Wrong, archive: Copy::Wrong }) | None) => Ok(()),
                Ok(Some(copies)) => self.settle(&id, digest, copies, true, &mut findings).await,
                Err(error) => Err(error),
            };
            failure = failure.or(repaired.err());
        }
        if findings != Findings::default() {
            // Only what was found is added to the record: this was no verification of everything.
            let noted = self.note_findings(Slice::WHOLE, &findings, None, false).await;
            failure = failure.or(noted.err());
        }
        failure.map_or(Ok(()), Err)
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
