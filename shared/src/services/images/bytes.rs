//! [`ImageBytes`]: an image's bytes, from the primary or else from the archive.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::catalog::Record;
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout::{self, ImageId};
use crate::media::location::Scanner;
use crate::services::recovery::RecoveryState;
use store::digest::{Digest, Hasher};
use store::sync::{Mutex, lock};
use store::{ErrorKind, Key, Object, ObjectMeta, Observer, Optional, Store, StoreError};

use super::read_through::ReadThrough;

/// Finds the bytes of images, in the primary or else in the archive.
#[derive(Debug)]
pub struct ImageBytes {
    core: Arc<Core>,
    recovering: Arc<RecoveryState>,
    /// Images whose bytes were found damaged when they were served, to be repaired soon.
    suspects: Mutex<BTreeSet<ImageId>>,
    read_through: ReadThrough,
    /// Permits to read large objects through before a part of them is sent.
    reading_through: Semaphore,
}

/// Objects up to this length, in bytes, are read through in memory.
const SMALL: u64 = 2 * 1024 * 1024;
/// Large objects that are read through at a time, so that requests for them leave room for all others.
const READ_THROUGH: usize = 2;

impl ImageBytes {
    /// Image bytes for the stores of `core`.
    pub fn new(core: Arc<Core>, recovering: Arc<RecoveryState>) -> Self {
        let reading_through = Semaphore::new(READ_THROUGH);
        Self { core, recovering, suspects: Mutex::default(), read_through: ReadThrough::default(), reading_through }
    }

    /// Opens an image for sending, or a range of it: only bytes that are right are sent. A copy that was read through
    /// within [`TRUSTED`](super::TRUSTED) is not read through again. With [`Check::WhileSending`], a large one that was
    /// not is read through while it is sent, and the body fails before its last bytes if they are wrong; the next
    /// request then gets the replica.
    pub async fn open(
        self: &Arc<Self>,
        id: &ImageId,
        (digest, size): (Digest, u64),
        range: Option<Range<u64>>,
        check: Check,
    ) -> Result<Object> {
        // Players begin with a range of everything.
        let range = range.filter(|range| *range != (0..size));
        if let Some(object) = self.open_read_through(id, (digest, size), &range).await {
            return Ok(object);
        }
        if size <= SMALL {
            let mut bytes = AtMost { bytes: BytesMut::new(), most: size };
            let (_, meta) = self.verified_seen_by(&mut bytes, id, digest).await?;
            if meta.size != size {
                return Err(Error::MissingBytes);
            }
            let Range { start, end } = range.unwrap_or(0..size);
            let part = bytes.bytes.freeze().slice(start as usize..end as usize);
            return Ok(Object { meta, body: stream::iter([Ok(part)]).boxed() });
        }
        let opened = self.core.clock.now();
        if range.is_none()
            && check == Check::WhileSending
            && let Ok(object) = self.core.primary.get(&layout::image(id), None).await
            && object.meta.size == size
            && !self.read_through.is_wrong(id, digest, &object.meta.etag, opened)
        {
            return Ok(self.checked(id.clone(), digest, object, opened));
        }
        // It is never closed, so this is a permit.
        let _permit = self.reading_through.acquire().await;
        // Another request may have read it through meanwhile.
        if let Some(object) = self.open_read_through(id, (digest, size), &range).await {
            return Ok(object);
        }
        let (store, meta) = self.verified(id, digest).await?;
        if meta.size != size {
            return Err(Error::MissingBytes);
        }
        Self::open_version(id, &store, &meta, range).await
    }

    /// Whether the primary's copy was read through within [`TRUSTED`](super::TRUSTED), and was still the version that was
    /// right within [`UNCHANGED`](super::UNCHANGED), so that another program may send the file.
    pub async fn is_trusted(&self, id: &ImageId, (digest, size): (Digest, u64)) -> bool {
        let now = self.core.clock.now();
        let Some(right) = self.read_through.right(id, digest, now) else { return false };
        if right.was_seen(now) {
            return true;
        }
        // A failure is met again, and handled, by a read.
        let meta = self.core.primary.head(&layout::image(id)).await;
        let is_right = meta.is_ok_and(|meta| meta.etag == right.etag && meta.size == size);
        if is_right {
            right.see(now);
        }
        is_right
    }

    /// Opens this version of an image's object, or a range of it.
    pub async fn open_version(
        id: &ImageId,
        store: &Store,
        meta: &ObjectMeta,
        range: Option<Range<u64>>,
    ) -> Result<Object> {
        let object = match store.get(&meta.key, range).await {
            Err(error) if error.is_not_found() => return Err(Error::NoSuchImage(id.to_string())),
            object => object?,
        };
        if object.meta.etag == meta.etag { Ok(object) } else { Err(Error::MissingBytes) }
    }

    /// Opens a copy that was read through lately and is right.
    async fn open_read_through(
        &self,
        id: &ImageId,
        (digest, size): (Digest, u64),
        range: &Option<Range<u64>>,
    ) -> Option<Object> {
        let right = self.read_through.right(id, digest, self.core.clock.now())?;
        // A failure is met again, and handled, by what follows.
        let object = self.core.primary.get(&layout::image(id), range.clone()).await.ok()?;
        (object.meta.etag == right.etag && object.meta.size == size).then_some(object)
    }

    /// The object with a body that fails before its last chunk if the bytes are wrong.
    fn checked(self: &Arc<Self>, id: ImageId, digest: Digest, object: Object, opened: Timestamp) -> Object {
        struct Reading {
            images: Arc<ImageBytes>,
            id: ImageId,
            meta: ObjectMeta,
            body: BoxStream<'static, store::Result<Bytes>>,
            hasher: Hasher,
            /// The chunk that is not sent before the next one was read.
            held: Option<Bytes>,
        }
        let Object { meta, body } = object;
        let (images, described, hasher) = (Arc::clone(self), meta.clone(), Hasher::default());
        let reading = Reading { images, id, meta, body, hasher, held: None };
        let body = stream::try_unfold(Some(reading), move |reading| async move {
            let Some(mut reading) = reading else { return Ok(None) };
            loop {
                let Some(chunk) = reading.body.next().await.transpose()? else { break };
                reading.hasher.update(&chunk);
                if let Some(held) = reading.held.replace(chunk) {
                    return Ok(Some((held, Some(reading))));
                }
            }
            let Reading { images, id, meta, hasher, held, .. } = reading;
            let is_right = hasher.finish() == digest;
            images.read_through.remember(&id, meta.etag.clone(), digest, is_right, opened);
            if is_right {
                return Ok(held.map(|held| (held, None)));
            }
            images.suspect(&id).await;
            Err(StoreError::new("read", meta.key, ErrorKind::Corrupt))
        });
        Object { meta: described, body: body.boxed() }
    }

    /// Where an image's bytes are complete: in the primary, else in the archive. Skips a copy whose length differs from
    /// the record.
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

    /// Where an image's verified bytes are: in the primary, else in the archive. Reads the bytes in full. Records
    /// damage for [`Verifier::repair_suspects`](crate::services::verify::Verifier::repair_suspects).
    pub async fn verified(&self, id: &ImageId, digest: Digest) -> Result<(Store, ObjectMeta)> {
        self.verified_seen_by(&mut (), id, digest).await
    }

    /// Like [`verified`](Self::verified); the observer has seen exactly the verified bytes.
    pub(crate) async fn verified_seen_by(
        &self,
        observer: &mut impl Observer,
        id: &ImageId,
        digest: Digest,
    ) -> Result<(Store, ObjectMeta)> {
        let (mut failure, began) = (None, self.core.clock.now());
        let (primary, archive) = (&self.core.primary, self.core.archive.store());
        let copies = [(true, primary, layout::image(id)), (false, archive, layout::archived_image(&digest))];
        for (is_primary, store, key) in copies {
            match store.inspect_seen_by(observer, &key).await.intact() {
                Ok(Some((meta, found))) if found == digest => {
                    if is_primary {
                        self.read_through.remember(id, meta.etag.clone(), digest, true, began);
                    }
                    return Ok((store.clone(), meta));
                }
                Ok(None) if self.recovering.restoring().is_some() => {
                    tracing::debug!(image = %id, "an image is requested before it is restored");
                    self.suspect(id).await;
                }
                Ok(found) => {
                    if let Some((meta, _)) = found.filter(|_| is_primary) {
                        self.read_through.remember(id, meta.etag, digest, false, began);
                    }
                    if self.suspect(id).await {
                        tracing::error!(image = %id, "a copy of an image is missing or does not match its digest");
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

    /// Where an image's bytes are complete and its store returns the first byte: in the primary, else in the archive. A
    /// service that checks its own data returns no byte of a rotted object, so this detects such an object at the cost
    /// of a HEAD. Records unreadable copies for
    /// [`Verifier::repair_suspects`](crate::services::verify::Verifier::repair_suspects).
    pub async fn readable(&self, id: &ImageId, record: &Record) -> Result<(Store, ObjectMeta)> {
        let mut failure = None;
        let archived = record.sha256.map(|digest| (self.core.archive.store(), layout::archived_image(&digest)));
        for (store, key) in std::iter::once((&self.core.primary, layout::image(id))).chain(archived) {
            match first_byte(store, &key).await.intact() {
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

    /// Takes the images that were found damaged since the last call.
    pub(crate) fn take_suspects(&self) -> BTreeSet<ImageId> {
        std::mem::take(&mut *lock(&self.suspects))
    }

    /// Records an image for a repair; returns whether it is new. Skips images while writes are fenced, since a repair
    /// would fail, and deleted images of a backup, whose bytes are in the archive alone.
    async fn suspect(&self, id: &ImageId) -> bool {
        // It may have been deleted since. A repair looks again, so an image that cannot be looked up may be recorded.
        if let Err(error) = self.core.catalog.refresh().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the catalog could not be refreshed");
        }
        let lives = self.core.catalog.view().is_live(id.as_str()).await.unwrap_or(true);
        let is_new = lives && !self.core.is_fenced() && lock(&self.suspects).insert(id.clone());
        if is_new {
            self.core.changed.notify_one();
        }
        is_new
    }

    async fn suspect_unreadable(&self, id: &ImageId, store: &Store, key: &Key, error: &StoreError) {
        if is_unreadable(store, key, error).await && self.suspect(id).await {
            let error = error as &dyn std::error::Error;
            tracing::error!(image = %id, error, "a store lists an image's bytes and fails to return them");
        }
    }

    /// An image's bytes in memory, verified if the record contains their digest.
    pub(crate) async fn load(&self, id: &ImageId, record: &Record) -> Result<Bytes> {
        match record.sha256 {
            Some(digest) => {
                let mut bytes = BytesMut::new();
                self.verified_seen_by(&mut bytes, id, digest).await?;
                Ok(bytes.freeze())
            }
            None => {
                let (store, meta) = self.locate(id, record).await?;
                Ok(store.get(&meta.key, None).await?.bytes().await?)
            }
        }
    }
}

/// When a large image is compared with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Before the first byte is sent.
    BeforeSending,
    /// While it is sent; before the last bytes.
    WhileSending,
}

/// Collects bytes as long as there are not more than are wanted.
struct AtMost {
    bytes: BytesMut,
    most: u64,
}

impl Observer for AtMost {
    fn begin(&mut self, size: u64) {
        self.bytes = BytesMut::with_capacity(size.min(self.most) as usize);
    }

    fn see(&mut self, chunk: &[u8]) {
        if (self.bytes.len() + chunk.len()) as u64 <= self.most {
            self.bytes.extend_from_slice(chunk);
        }
    }
}

/// Whether reading an object failed although its store answers and lists it, so that the fault is the object's and not
/// an outage.
pub(crate) async fn is_unreadable(store: &Store, key: &Key, error: &StoreError) -> bool {
    match error.kind {
        ErrorKind::Corrupt => true,
        // An outage or a lack of permissions would also fail the request for its metadata.
        ErrorKind::Unavailable | ErrorKind::Refused => store.head(key).await.is_ok(),
        _ => false,
    }
}

impl Observer for Scanner {
    fn begin(&mut self, _size: u64) {
        *self = Self::default();
    }

    fn see(&mut self, chunk: &[u8]) {
        self.update(chunk);
    }
}

/// Returns an object's description by reading its first byte.
async fn first_byte(store: &Store, key: &Key) -> Result<ObjectMeta, StoreError> {
    let mut object = store.get(key, Some(0..1)).await?;
    while object.body.next().await.transpose()?.is_some() {}
    Ok(object.meta)
}
