//! [`Room`]: checks that there is enough free space for an upload.

use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout;
use crate::services::unfinished::UnfinishedUploads;
use std::sync::Arc;
use store::{ErrorKind, StoreError};

/// Checks that there is enough free space for new data.
#[derive(Debug)]
pub struct Room {
    core: Arc<Core>,
    unfinished: Arc<UnfinishedUploads>,
}

impl Room {
    /// Space checks for the stores of `core`.
    pub fn new(core: Arc<Core>, unfinished: Arc<UnfinishedUploads>) -> Self {
        Self { core, unfinished }
    }

    /// Refuses data that would leave less than the reserve free, in the primary or, with synchronous replication, in
    /// the archive.
    pub async fn check(&self, bytes: u64) -> Result<()> {
        if self.core.is_fenced() {
            return Err(StoreError::new("put", layout::uploads_folder(), ErrorKind::Fenced).into());
        }
        let needed = self.core.settings.reserve_bytes.saturating_add(bytes);
        let archive = self.core.settings.archive_sync.then(|| self.core.archive.store());
        for store in std::iter::once(&self.core.primary).chain(archive) {
            let lacks = async || Ok::<_, Error>(store.free_bytes().await?.is_some_and(|free| free < needed));
            // Unfinished uploads are in the primary, which may share a disk with the archive.
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
