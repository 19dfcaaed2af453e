//! Thumbnails that were made before, kept in the primary until the room is needed or their image is gone.
//!
//! Nobody relies on what lies here. Each object ends in the digest of what precedes it, so that one that has rotted is
//! made anew; viewers pass over those bytes. A store that takes no writes, or has no room to spare, is used without.

use super::source::ThumbnailSource;
use std::collections::HashSet;

use bytes::Bytes;
use futures::TryStreamExt;

use super::form::Form;
use super::scaler::Thumbnail;
use crate::core::error::Result;
use crate::layout;
use crate::media::Format;
use store::digest::Digest;
use store::sync::{AtomicU64, Ordering};
use store::{Body, Key, ObjectMeta, PutMode};

/// One in so many bytes of its size may be put into the cache before it is looked at again.
const SHARE: u64 = 8;
/// Length of a digest in bytes.
const DIGEST: usize = 32;

/// Where thumbnails are kept.
#[derive(Debug)]
pub(super) struct Cache {
    max_bytes: u64,
    /// What was put since the last look at all of it.
    put_bytes: AtomicU64,
    sweeping: tokio::sync::Mutex<()>,
}

impl Cache {
    /// A cache of so many bytes, and a little more for a while; of none at all where that is zero.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, put_bytes: AtomicU64::new(0), sweeping: tokio::sync::Mutex::default() }
    }

    pub(super) fn key(content: &Digest, version: u32, form: Form) -> Key {
        layout::thumbnail(content, &format!("{version}-{form}"))
    }

    /// What lies under this key, where it is whole.
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

    /// Keeps a thumbnail of an image that still has this content, as far as there is room.
    pub(super) async fn keep(&self, from: &ThumbnailSource, content: Digest, key: &Key, made: &Thumbnail) {
        let sealed = seal(made);
        let bytes = sealed.size();
        if bytes > self.max_bytes / SHARE || from.room.check_each(bytes, 0).await.is_err() {
            return;
        }
        // An outcome that is unknown is as good as none: whoever asks next looks for himself.
        if from.core.primary.put(key, &sealed, &PutMode::Overwrite).await.is_err() {
            return;
        }
        if !is_live(from, content) {
            // It was deleted meanwhile, and whoever did that found nothing here yet.
            let _ = from.core.primary.delete(key).await;
        }
        let put = self.put_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if put > self.max_bytes / SHARE
            && let Err(error) = self.sweep(from).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "old derivatives could not be cleared away");
        }
    }

    /// Removes thumbnails of what is no image any more, and then the oldest until there is room for new ones; all of them
    /// where the store has none left for images. Returns how many went. One at a time: a second caller has nothing to do.
    pub(super) async fn sweep(&self, from: &ThumbnailSource) -> Result<u64> {
        let Ok(_sweeping) = self.sweeping.try_lock() else { return Ok(0) };
        self.put_bytes.store(0, Ordering::Relaxed);
        let mut found: Vec<ObjectMeta> = from.core.primary.list(layout::THUMBNAILS, None).try_collect().await?;
        let live: HashSet<Digest> =
            from.core.catalog.read(|state| state.live().filter_map(|(_, record)| record.sha256).collect());
        let room = if from.room.check_each(0, 0).await.is_ok() { self.max_bytes - self.max_bytes / SHARE } else { 0 };
        let is_live = |meta: &ObjectMeta| layout::parse_thumbnail(&meta.key).is_some_and(|of| live.contains(&of));
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

/// Whether a live image has this content.
fn is_live(from: &ThumbnailSource, content: Digest) -> bool {
    from.core.catalog.read(|state| state.live().any(|(_, record)| record.sha256 == Some(content)))
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
