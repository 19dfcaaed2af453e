//! [`Room`]: whether there is room for what is to be stored.

use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout;
use crate::services::unfinished::UnfinishedUploads;
use std::sync::Arc;
use store::{ErrorKind, StoreError};

/// Whether there is room for what is to be stored.
#[derive(Debug)]
pub struct Room {
    core: Arc<Core>,
    unfinished: Arc<UnfinishedUploads>,
}

impl Room {
    /// Whether there is room for what is to be stored, in the store that `core` has.
    pub fn new(core: Arc<Core>, unfinished: Arc<UnfinishedUploads>) -> Self {
        Self { core, unfinished }
    }

    /// Refuses what would leave less than the reserve free, in the primary or, where replicas are made at once, in the
    /// archive.
    pub async fn check(&self, bytes: u64) -> Result<()> {
        if self.core.is_fenced() {
            return Err(StoreError::new("put", layout::uploads_folder(), ErrorKind::Fenced).into());
        }
        let needed = self.core.settings.reserve_bytes.saturating_add(bytes);
        let archive = self.core.settings.archive_sync.then(|| self.core.archive.store());
        for store in std::iter::once(&self.core.primary).chain(archive) {
            let lacks = async || Ok::<_, Error>(store.free_bytes().await?.is_some_and(|free| free < needed));
            // Unfinished uploads lie in the primary, which the archive may share a disk with.
            if lacks().await? && (!self.unfinished.make_room().await || lacks().await?) {
                return Err(Error::NoRoom);
            }
            if store.files().await?.is_some_and(|files| files.free < self.core.reserve_files(files)) {
                return Err(Error::NoFiles);
            }
        }
        Ok(())
    }
}
