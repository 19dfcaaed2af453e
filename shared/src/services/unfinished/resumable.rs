//! Resumable uploads: a request body that arrives in parts, over several requests, each stored as far as it arrived.
//!
//! Each part is an object below `incoming/`, named by the upload and the offset of its first byte, and put create-only:
//! of two parts at the same offset, one is kept. The progress of an upload follows from its parts, so it stays correct
//! whichever process crashes at whatever time. Abandoned uploads are cleared with old tickets.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::base::seal;
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout;
use crate::services::room::Room;
use crate::services::unfinished::UnfinishedUploads;
use store::{Body, ErrorKind, ObjectMeta, Optional, PutMode, StoreError};

pub use super::descriptions::Begun;

/// The most parts of one upload: a client that needs more sends too little at a time.
const MAX_PARTS: usize = 1_000;

/// The progress of an upload.
#[derive(Debug)]
pub struct Standing {
    /// The content of the first request.
    pub begun: Begun,
    /// How many bytes are stored.
    pub offset: u64,
    parts: Vec<ObjectMeta>,
}

/// How an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Images were made of it.
    Stored,
    /// It was refused as a whole.
    Refused,
    /// Its first part begins no image.
    NotAnImage,
}

/// Uploads in parts.
#[derive(Debug)]
pub struct ResumableUploads {
    pub(crate) core: Arc<Core>,
    pub(crate) room: Arc<Room>,
    pub(crate) unfinished: Arc<UnfinishedUploads>,
}

impl ResumableUploads {
    /// Begins an upload in parts; returns its id and its progress, without any bytes yet.
    pub async fn begin(&self, begun: Begun) -> Result<(Uuid, Standing)> {
        self.room.check(begun.length.unwrap_or_default()).await?;
        let _guard = self.unfinished.beginning.lock().await;
        let longest = self.core.settings.max_upload_bytes;
        self.unfinished.check(begun.client.as_deref(), begun.length.unwrap_or(longest)).await?;
        let id = self.core.clock.new_id();
        self.put_begun(id, &begun, &PutMode::Create).await?;
        Ok((id, Standing { begun, offset: 0, parts: Vec::new() }))
    }

    async fn put_begun(&self, id: Uuid, begun: &Begun, mode: &PutMode) -> Result<()> {
        let put = self.core.primary.put(&layout::resumable(id), &Body::from(seal::seal(begun)), mode).await;
        self.core.note_write(put.map(drop).map_err(Error::from))
    }

    /// The progress of an upload; [`Error::NoSuchTicket`] if it does not exist.
    pub async fn standing(&self, id: Uuid) -> Result<Standing> {
        let key = layout::resumable(id);
        let (bytes, _) = self.core.primary.read(&key).await.optional()?.ok_or(Error::NoSuchTicket)?;
        let begun = seal::open::<Begun>(&bytes).ok_or_else(|| StoreError::new("read", key, ErrorKind::Corrupt))?;
        let mut listed = self.core.primary.list(&layout::parts(id), None);
        let (mut offset, mut parts) = (0, Vec::new());
        while let Some(part) = listed.try_next().await? {
            // A part that does not start where the last one ends came from a slower request, and is skipped.
            if layout::parse_part(&part.key) == Some(offset) {
                offset += part.size;
                parts.push(part);
            }
        }
        let offset = begun.ended.unwrap_or(offset);
        Ok(Standing { begun, offset, parts })
    }

    /// Stores a part; false if another part was stored at the same offset first.
    pub async fn append(&self, id: Uuid, standing: &Standing, part: &Body) -> Result<bool> {
        if standing.parts.len() >= MAX_PARTS {
            return Err(Error::Invalid(format!("An upload may come in {MAX_PARTS} parts at most.")));
        }
        if part.size() == 0 {
            return Ok(true);
        }
        self.room.check(part.size()).await?;
        match self.core.primary.put(&layout::part(id, standing.offset), part, &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => Ok(false),
            put => self.core.note_write(put.map(|_| true).map_err(Error::from)),
        }
    }

    /// All stored bytes, in order.
    pub fn bytes(&self, standing: &Standing) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let (store, parts) = (self.core.primary.clone(), standing.parts.clone());
        let read = move |part: ObjectMeta| {
            let store = store.clone();
            async move { Ok(store.get(&part.key, None).await?.body) }
        };
        stream::iter(parts).then(read).try_flatten().boxed()
    }

    /// Records that an upload has ended, and how, so that a client that lost the answer can query it; deletes the stored
    /// parts.
    pub async fn end(&self, id: Uuid, standing: &Standing, ending: Ending) -> Result<()> {
        let (stored, not_an_image) = (ending == Ending::Stored, ending == Ending::NotAnImage);
        let ended = Begun { ended: Some(standing.offset), stored, not_an_image, ..standing.begun.clone() };
        self.put_begun(id, &ended, &PutMode::Overwrite).await?;
        self.delete_parts(standing).await
    }

    /// Deletes an upload that was cancelled.
    pub async fn cancel(&self, id: Uuid) -> Result<()> {
        let standing = self.standing(id).await?;
        self.core.primary.delete(&layout::resumable(id)).await?;
        self.delete_parts(&standing).await
    }

    async fn delete_parts(&self, standing: &Standing) -> Result<()> {
        for part in &standing.parts {
            self.core.primary.delete(&part.key).await?;
        }
        Ok(())
    }
}
