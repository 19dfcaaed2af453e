//! Deferred work after a change, for deployments without a background task: replication, automatic backups, compaction.
//!
//! Each step may be repeated, late, by several processes at once and in any order.

use std::sync::Arc;

use jiff::SignedDuration;

use crate::core::Core;
use crate::core::error::Result;
use crate::services::backup::Backups;
use crate::services::replication::Replicator;

/// Deferred work after a change.
#[derive(Debug)]
pub struct Maintenance {
    pub(crate) core: Arc<Core>,
    pub(crate) backups: Arc<Backups>,
    pub(crate) replication: Arc<Replicator>,
}

impl Maintenance {
    /// Does the work that changes have deferred: replication, and with it the automatic backups that are due.
    pub async fn catch_up(&self) -> Result<()> {
        if self.core.settings.archive_sync {
            return Ok(());
        }
        self.core.catalog.refresh().await?;
        self.core.note_upkeep(self.replication.replicate_queue(&self.core.catalog.listed()).await)?;
        self.backups.make_due().await.map(drop)
    }

    /// Makes the automatic backups that are due, and compacts if that is worth its requests.
    pub async fn follow_up(&self) -> Result<()> {
        self.backups.make_due().await?;
        if self.core.catalog.compaction_is_worthwhile() {
            self.replication.compact().await?;
        }
        Ok(())
    }

    /// Like [`follow_up`](Self::follow_up), and finishes interrupted work of other processes: for a schedule.
    pub async fn tidy(&self) -> Result<()> {
        self.backups.make_due().await?;
        self.backups.resume_automatic().await?;
        self.replication.compact().await?;
        Ok(self.core.catalog.sweep_strays().await?)
    }

    /// How long an automatic backup has been overdue. Zero while the newest backup lacks fewer uploads than trigger
    /// one; otherwise that backup's age, or without any backup the time since the first upload.
    pub async fn backup_overdue(&self) -> Result<SignedDuration> {
        self.core.catalog.refresh().await?;
        let newest = self.backups.newest_manifest(false).await?;
        let name = newest.as_ref().map(|manifest| manifest.name);
        if self.backups.uploaded_after(name).await? < self.core.settings.backup_every {
            return Ok(SignedDuration::ZERO);
        }
        let since = match name {
            Some(name) => Some(name.moment()),
            None => self.core.catalog.view().span().await?.map(|(_, oldest)| oldest),
        };
        Ok(since.map_or(SignedDuration::ZERO, |since| self.core.clock.now().duration_since(since)))
    }
}
