//! Caches thumbnails in the primary until the space is needed or their image is deleted.
//!
//! No data depends on this cache. Each object ends in the digest of the preceding bytes, so that a rotted one is made
//! again; image viewers ignore those bytes. A store that is read-only or out of space is used without a cache.

use std::collections::HashSet;

use bytes::Bytes;
use futures::TryStreamExt;

use super::form::Form;
use super::scaler::Thumbnail;
use super::source::ThumbnailSource;
use crate::core::error::Result;
use crate::layout::{self, ImageId};
use crate::media::Format;
use store::digest::Digest;
use store::sync::{AtomicU64, Ordering};
use store::{Body, Key, ObjectMeta, PutMode};

/// After writing this fraction of its size (one part in eight), the cache is swept before it takes more.
const SHARE: u64 = 8;
/// Length of a digest in bytes.
const DIGEST: usize = 32;

/// The thumbnail cache.
#[derive(Debug)]
pub(super) struct Cache {
    max_bytes: u64,
    /// Bytes written since the last sweep.
    put_bytes: AtomicU64,
    sweeping: tokio::sync::Mutex<()>,
}

impl Cache {
    /// A cache of this many bytes, and slightly more for a while; zero disables it.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, put_bytes: AtomicU64::new(0), sweeping: tokio::sync::Mutex::default() }
    }

    pub(super) fn key(content: &Digest, version: u32, form: Form) -> Key {
        layout::thumbnail(content, &format!("{version}-{form}"))
    }

    /// The intact thumbnail under this key, if there is one.
    pub(super) async fn find(&self, from: &ThumbnailSource, key: &Key) -> Option<Thumbnail> {
        if self.max_bytes == 0 {
            return None;
        }
        let object = from.core.primary.get(key, None).await.ok()?;
        if object.meta.size > self.max_bytes {
            return None;
        }
        unseal(object.bytes().await.ok()?)
    }

    /// Caches a thumbnail of an image that still has this content, as far as there is space.
    pub(super) async fn keep(
        &self,
        from: &ThumbnailSource,
        id: &ImageId,
        content: Digest,
        key: &Key,
        made: &Thumbnail,
    ) {
        let sealed = seal(made);
        let bytes = sealed.size();
        if bytes > self.max_bytes / SHARE || from.room.check_each(bytes, 0).await.is_err() {
            return;
        }
        // An unknown outcome counts as a failure: the next request looks the key up.
        if from.core.primary.put(key, &sealed, &PutMode::Overwrite).await.is_err() {
            return;
        }
        if !has_content(from, id, content).await.unwrap_or(false) {
            // The image was deleted meanwhile, and the delete found no thumbnail here yet.
            let _ = from.core.primary.delete(key).await;
        }
        let put = self.put_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if put > self.max_bytes / SHARE
            && let Err(error) = self.sweep(from).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "old thumbnails could not be deleted");
        }
    }

    /// Removes thumbnails of deleted images, and then the oldest until there is space for new ones; removes all if the
    /// store has no space left for images. Returns the number removed. One sweep at a time: a second caller has nothing
    /// to do.
    pub(super) async fn sweep(&self, from: &ThumbnailSource) -> Result<u64> {
        let Ok(_sweeping) = self.sweeping.try_lock() else { return Ok(0) };
        self.put_bytes.store(0, Ordering::Relaxed);
        let mut found: Vec<ObjectMeta> = from.core.primary.list(layout::THUMBNAILS, None).try_collect().await?;
        let mut gone: HashSet<Digest> = found.iter().filter_map(|meta| layout::parse_thumbnail(&meta.key)).collect();
        let mut live = from.core.catalog.view().live();
        while let Some((_, entry)) = live.try_next().await? {
            if let Some(content) = entry.content_digest() {
                gone.remove(&content);
            }
        }
        let room = if from.room.check_each(0, 0).await.is_ok() { self.max_bytes - self.max_bytes / SHARE } else { 0 };
        let is_live = |meta: &ObjectMeta| layout::parse_thumbnail(&meta.key).is_some_and(|of| !gone.contains(&of));
        // The newest first.
        found.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.key.cmp(&b.key)));
        let (mut kept_bytes, mut removed) = (0_u64, 0);
        for meta in found {
            let with_it = kept_bytes.saturating_add(meta.size);
            if is_live(&meta) && with_it <= room {
                kept_bytes = with_it;
                continue;
            }
            from.core.primary.delete(&meta.key).await?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// Whether this image is live and has this content.
async fn has_content(from: &ThumbnailSource, id: &ImageId, content: Digest) -> Result<bool> {
    let entry = from.core.catalog.view().get_live(id.as_str()).await?;
    Ok(entry.is_some_and(|entry| entry.content_digest() == Some(content)))
}

fn seal(made: &Thumbnail) -> Body {
    let mut bytes = made.bytes.to_vec();
    bytes.extend_from_slice(Digest::of(&made.bytes).as_bytes());
    Body::from(bytes).of_type(made.format.content_type())
}

fn unseal(sealed: Bytes) -> Option<Thumbnail> {
    let length = sealed.len().checked_sub(DIGEST)?;
    let bytes = sealed.slice(..length);
    if Digest::of(&bytes).as_bytes()[..] != sealed[length..] {
        return None;
    }
    let format = match bytes.first()? {
        0xff => Format::Jpeg,
        0x89 => Format::Png,
        b'G' => Format::Gif,
        _ => Format::WebP,
    };
    Some(Thumbnail { bytes, format })
}
