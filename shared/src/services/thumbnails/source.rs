//! [`ThumbnailSource`]: access to the images, and to the cached thumbnails.

use std::sync::Arc;

use futures::TryStreamExt;

use crate::core::Core;
use crate::layout;
use crate::services::images::bytes::ImageBytes;
use crate::services::room::Room;
use store::digest::Digest;
use store::sync::{AtomicBool, Ordering};

/// Where the images and cached thumbnails are.
#[derive(Debug)]
pub struct ThumbnailSource {
    pub(super) core: Arc<Core>,
    pub(super) room: Arc<Room>,
    pub(super) bytes: Arc<ImageBytes>,
    /// Whether this process caches thumbnails, so that those of deleted images must be removed.
    kept: AtomicBool,
}

impl ThumbnailSource {
    /// A source for the images in the stores of `core`.
    pub fn new(core: Arc<Core>, room: Arc<Room>, bytes: Arc<ImageBytes>) -> Self {
        Self { core, room, bytes, kept: AtomicBool::new(false) }
    }

    /// Sets whether thumbnails are cached from now on, so that those of deleted images must be removed.
    pub fn set_kept(&self, kept: bool) {
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Removes cached thumbnails of the content of a deleted image. If the store fails, a sweep removes the rest.
    pub(crate) async fn forget(&self, content: &Digest) {
        if !self.kept.load(Ordering::Relaxed) {
            return;
        }
        let mut kept = self.core.primary.list(&layout::thumbnails_of(content), None);
        while let Ok(Some(meta)) = kept.try_next().await {
            if self.core.primary.delete(&meta.key).await.is_err() {
                return;
            }
        }
    }
}
