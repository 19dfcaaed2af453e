//! Looking at an image before it is served.

use bytes::Bytes;

use super::Fault;
use crate::catalog::Record;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keepsake::{Keepsake, blocking};
use crate::layout::{self, ImageId};
use crate::media::location::Scanner;
use crate::store::{ObjectMeta, Optional, Store};
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
                Ok(found) => {
                    // Where nothing is written there is nothing to note: it could not be repaired.
                    if self.withheld().is_none() && lock(&self.suspects).insert(id.clone()) {
                        if found.is_none() && self.restoring().is_some() {
                            tracing::debug!(image = %id, "an image is asked for before it is back");
                        } else {
                            tracing::error!(image = %id, "an image's bytes are missing or not theirs where they were read");
                        }
                        self.changed.notify_one();
                    }
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.map_or(Error::MissingBytes, Error::from))
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

    /// Repairs the images that were found wrong when they were to be served; those that cannot be are left to the next
    /// verification.
    pub async fn repair_suspects(&self) -> Result<()> {
        let suspects = std::mem::take(&mut *lock(&self.suspects));
        let mut failure = None;
        for id in suspects {
            let digest = self.catalog.read(|state| state.get(id.as_str())?.live()?.sha256);
            let Some(digest) = digest else { continue };
            let repaired = match self.look_at(&id, digest).await {
                Ok(Some(Fault::Primary)) => self.repair_image(&id, digest).await,
                Ok(Some(Fault::SecondCopy)) => self.repair_copy(&id, digest).await,
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            failure = failure.or(repaired.err());
        }
        failure.map_or(Ok(()), Err)
    }
}

async fn has_digest(bytes: &Bytes, digest: Digest) -> Result<bool> {
    let bytes = bytes.clone();
    blocking(move || Digest::of(&bytes) == digest).await
}
