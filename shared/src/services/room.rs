//! [`Room`]: checks that there is enough free space for an upload.

use std::sync::Arc;

use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout;
use crate::services::unfinished::UnfinishedUploads;
use store::{ErrorKind, Store, StoreError};

/// Checks that there is enough free space for new data.
#[derive(Debug)]
pub struct Room {
    pub(crate) core: Arc<Core>,
    pub(crate) unfinished: Arc<UnfinishedUploads>,
}

impl Room {
    /// Refuses images of so many bytes that would leave less than the reserve free, in the primary or, where replicas are
    /// made at once, in the archive. [`Error::NoRoom`], or [`Error::NoFiles`] where files are what is short.
    pub async fn check(&self, bytes: u64) -> Result<()> {
        let replicas = if self.core.settings.archive_sync { bytes } else { 0 };
        self.check_each(bytes, replicas).await
    }

    /// Like [`check`](Self::check), for so many bytes in the primary and so many in the archive.
    pub async fn check_each(&self, primary: u64, archive: u64) -> Result<()> {
        if self.core.is_fenced() {
            return Err(StoreError::new("put", layout::uploads_folder(), ErrorKind::Fenced).into());
        }
        // Unfinished uploads lie in the primary, which the archive may share a disk with.
        let lacks = async || Ok::<_, Error>(self.lacking(primary, archive).await? > 0);
        if lacks().await? && (!self.unfinished.make_room().await || lacks().await?) {
            return Err(Error::NoRoom);
        }
        for store in std::iter::once(&self.core.primary).chain(self.archive(archive)) {
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
        let primary_free = self.core.primary.free_bytes().await?;
        let archive_free = match self.archive(archive) {
            Some(store) => store.free_bytes().await?,
            None => None,
        };
        // Stores with equally many free bytes are taken for stores on one disk, where all that is stored counts. Others may
        // write between the two looks, so the primary is looked at again.
        let primary_then = self.core.primary.free_bytes().await?;
        let (least, most) = (primary_free.min(primary_then), primary_free.max(primary_then));
        let is_shared = archive_free.is_some() && (least..=most).contains(&archive_free);
        let shared = if is_shared { archive } else { 0 };
        let lacking = |free: Option<u64>, needed: u64| {
            free.map_or(0, |free| needed.saturating_add(self.core.settings.reserve_bytes).saturating_sub(free))
        };
        Ok(lacking(least, primary.saturating_add(shared)).max(lacking(archive_free, archive)))
    }

    /// The archive, if so many bytes go there or replicas are made at once.
    fn archive(&self, bytes: u64) -> Option<&Store> {
        (bytes > 0 || self.core.settings.archive_sync).then(|| self.core.archive.store())
    }
}
