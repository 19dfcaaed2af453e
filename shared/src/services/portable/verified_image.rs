//! An image's bytes for an export, verified before any of them is sent.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::catalog::Record;
use crate::core::error::{Error, Result};
use crate::layout::ImageId;
use crate::media::location::Patches;
use crate::services::gps::{GpsPositions, gps_in};
use crate::services::images::bytes::ImageBytes;
use store::digest::{Digest, Hasher};
use store::{Body, ErrorKind, ObjectMeta, Observer, Spool, Store, StoreError};

/// Images up to this many bytes are read once and sent from memory; longer ones are read twice.
const IN_MEMORY: u64 = 4 * 1024 * 1024;

/// An image's verified bytes.
#[derive(Clone)]
pub(super) struct VerifiedImage {
    pub(super) digest: Digest,
    /// Replacements for some of the bytes.
    patches: Patches,
    pub(super) crc: u32,
    pub(super) size: u64,
    bytes: Held,
}

#[derive(Clone)]
enum Held {
    InMemory(Bytes),
    At(Store, ObjectMeta),
}

/// What is kept of an image while it is read: its checksum, and its bytes if it is small.
#[derive(Default)]
struct Kept {
    crc: crc32fast::Hasher,
    bytes: Option<BytesMut>,
}

impl Observer for Kept {
    fn begin(&mut self, size: u64) {
        let bytes = (size <= IN_MEMORY).then(|| BytesMut::with_capacity(size as usize));
        *self = Self { crc: crc32fast::Hasher::new(), bytes };
    }

    fn see(&mut self, chunk: &[u8]) {
        self.crc.update(chunk);
        self.bytes.iter_mut().for_each(|bytes| bytes.extend_from_slice(chunk));
    }
}

impl VerifiedImage {
    /// An image's verified bytes; `None` if neither the primary nor the archive has the bytes with that digest.
    pub(super) async fn find(images: &ImageBytes, id: &ImageId, digest: Digest) -> Result<Option<Self>> {
        let mut kept = Kept::default();
        let (store, meta) = match images.verified_seen_by(&mut kept, id, digest).await {
            Err(Error::MissingBytes) => return Ok(None),
            found => found?,
        };
        let size = meta.size;
        let bytes = kept.bytes.map_or_else(|| Held::At(store, meta), |bytes| Held::InMemory(bytes.freeze()));
        Ok(Some(Self { digest, patches: Patches::default(), crc: kept.crc.finalize(), size, bytes }))
    }

    /// The bytes, ending with an error if they differ from the verified ones.
    pub(super) async fn stream(self, id: &ImageId) -> Result<stream::BoxStream<'static, Result<Bytes>>> {
        let patches = self.patches;
        let (store, meta) = match self.bytes {
            Held::InMemory(bytes) => return Ok(stream::iter([Ok(bytes)]).boxed()),
            Held::At(store, meta) => (store, meta),
        };
        let changed = StoreError::new("read", id, ErrorKind::Corrupt);
        let object = store.get(&meta.key, None).await?;
        let state = Some((object.body, Hasher::default(), self.digest, changed));
        let checked = stream::try_unfold(state, async |state| {
            let Some((mut body, mut hasher, digest, changed)) = state else { return Ok(None) };
            match body.next().await.transpose()? {
                Some(chunk) => {
                    hasher.update(&chunk);
                    Ok(Some((chunk, Some((body, hasher, digest, changed)))))
                }
                None if hasher.finish() == digest => Ok(None),
                None => Err(changed.into()),
            }
        });
        Ok(patches.over(0, checked).boxed())
    }

    /// The same image without its GPS positions.
    pub(super) async fn without_gps(self, gps: &GpsPositions, id: &ImageId, record: &Record) -> Result<Self> {
        if let Held::InMemory(bytes) = self.bytes {
            let bytes = gps_in(bytes.clone()).await?.applied(0, bytes);
            return Ok(Self { crc: crc32fast::hash(&bytes), bytes: Held::InMemory(bytes), ..self });
        }
        let patches = gps.find(id, record).await?;
        if patches.is_empty() {
            return Ok(self);
        }
        let patched = Self { patches, ..self };
        let (mut crc, mut bytes) = (crc32fast::Hasher::new(), patched.clone().stream(id).await?);
        while let Some(chunk) = bytes.try_next().await? {
            crc.update(&chunk);
        }
        Ok(Self { crc: crc.finalize(), ..patched })
    }

    pub(super) async fn body(self, id: &ImageId, target: &Store) -> Result<Body> {
        if let Held::InMemory(bytes) = self.bytes {
            return Ok(bytes.into());
        }
        spooled(target.spool(), self.stream(id).await?).await
    }
}

pub(super) async fn spooled(mut spool: Spool, pieces: impl Stream<Item = Result<impl AsRef<[u8]>>>) -> Result<Body> {
    let mut pieces = pin!(pieces);
    while let Some(piece) = pieces.try_next().await? {
        spool.write(piece.as_ref()).await.map_err(unwritten)?;
    }
    spool.finish().await.map_err(unwritten)
}

pub(super) fn unwritten(error: std::io::Error) -> Error {
    StoreError::io("write", "export", error).into()
}
