//! [`Room`]: checks that there is enough free space for an upload.

use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout;
use crate::services::unfinished::UnfinishedUploads;
use std::sync::Arc;
use store::{ErrorKind, Store, StoreError};

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

    /// Refuses images of so many bytes that would leave less than the reserve free, in the primary or, where replicas are
    /// made at once, in the archive. [`Error::NoRoom`], or [`Error::NoFiles`] where files are what is short.
    pub async fn check(&self, bytes: u64) -> Result<()> {
        let replicas = if self.core.settings.archive_sync { bytes } else { 0 };
        self.check_each(bytes, replicas).await
    }

    /// Likewise for so many bytes in the primary and so many in the archive.
    pub async fn check_each(&self, primary: u64, archive: u64) -> Result<()> {
        if self.core.is_fenced() {
            return Err(StoreError::new("put", layout::uploads_folder(), ErrorKind::Fenced).into());
        }
        // Unfinished uploads lie in the primary, which the archive may share a disk with.
        let lacks = async || Ok::<_, Error>(self.lacking(primary, archive).await? > 0);
        if lacks().await? && (!self.unfinished.make_room().await || lacks().await?) {
            return Err(Error::NoRoom);
        }
        for store in self.used(archive) {
            if store.files().await?.is_some_and(|files| files.free < self.core.reserve_files(files)) {
                return Err(Error::NoFiles);
            }
        }
        Ok(())
    }

    /// Whether any of the stores knows how much room it has.
    pub async fn is_limited(&self) -> Result<bool> {
        let archive = self.core.archive.store().free_bytes();
        Ok(self.core.primary.free_bytes().await?.is_some() || archive.await?.is_some())
    }

    /// How many bytes more would have to be free to store so many in the primary and so many in the archive and leave the
    /// reserve. 0 where there is room, or where the stores do not know.
    pub async fn lacking(&self, primary: u64, archive: u64) -> Result<u64> {
        let mut free = Vec::new();
        for store in self.used(archive) {
            free.push(store.free_bytes().await?);
        }
        // Stores with equally many free bytes are taken for stores on one disk, where all that is stored counts.
        let (primary_free, archive_free) = (free[0], free.get(1).copied().flatten());
        let shared = if primary_free.is_some() && primary_free == archive_free { archive } else { 0 };
        let lacking = |free: Option<u64>, needed: u64| {
            free.map_or(0, |free| needed.saturating_add(self.core.settings.reserve_bytes).saturating_sub(free))
        };
        Ok(lacking(primary_free, primary.saturating_add(shared)).max(lacking(archive_free, archive)))
    }

    /// The stores that so many bytes for the archive concern: the primary, and the archive where it gets any or gets replicas
    /// at once.
    fn used(&self, archive: u64) -> impl Iterator<Item = &Store> {
        let uses_archive = archive > 0 || self.core.settings.archive_sync;
        std::iter::once(&self.core.primary).chain(uses_archive.then(|| self.core.archive.store()))
    }
}
