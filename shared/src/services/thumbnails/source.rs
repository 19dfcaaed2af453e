//! [`ThumbnailSource`]: what thumbnails are made from, and those that are kept.

use std::sync::Arc;

use futures::TryStreamExt;

use crate::core::Core;
use crate::layout;
use crate::services::images::bytes::ImageBytes;
use crate::services::room::Room;
use store::digest::Digest;
use store::sync::{AtomicBool, Ordering};

/// What thumbnails are made from and kept in.
#[derive(Debug)]
pub struct ThumbnailSource {
    pub(super) core: Arc<Core>,
    pub(super) room: Arc<Room>,
    pub(super) bytes: Arc<ImageBytes>,
    /// Whether this process keeps thumbnails, so that those of a deleted image have to go.
    kept: AtomicBool,
}

impl ThumbnailSource {
    /// Thumbnails of the images in the store that `core` has.
    pub fn new(core: Arc<Core>, room: Arc<Room>, bytes: Arc<ImageBytes>) -> Self {
        Self { core, room, bytes, kept: AtomicBool::new(false) }
    }

    /// Says whether thumbnails are kept from now on, so that those of a deleted image have to go.
    pub fn set_kept(&self, kept: bool) {
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Removes what is kept of a content whose image was deleted. What stays, because the store fails, goes at a sweep.
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
