//! What follows a change where nothing runs all the time, besides replicas: automatic backups, compaction.
//!
//! Each step may be done again, late, by several processes at once and in any order.

use crate::services::backup::Backups;
use crate::services::replication::Replicator;
use jiff::SignedDuration;
use std::sync::Arc;

use crate::core::Core;
use crate::core::error::Result;
use crate::layout::BackupName;

/// What follows a change.
#[derive(Debug)]
pub struct Maintenance {
    core: Arc<Core>,
    backups: Arc<Backups>,
    replication: Arc<Replicator>,
}

impl Maintenance {
    /// What follows a change, in the store that `core` has.
    pub fn new(core: Arc<Core>, backups: Arc<Backups>, replication: Arc<Replicator>) -> Self {
        Self { core, backups, replication }
    }

    /// Does what changes left for later: replicas, and with them the automatic backups that are due.
    pub async fn catch_up(&self) -> Result<()> {
        if self.core.settings.archive_sync {
            return Ok(());
        }
        self.core.catalog.refresh().await?;
        self.core.note_upkeep(self.replication.replicate_queue(&self.core.catalog.listed()).await)?;
        self.backups.make_due().await.map(drop)
    }

    /// Makes the automatic backups that are due, and compacts where that is worth its requests.
    pub async fn follow_up(&self) -> Result<()> {
        self.backups.make_due().await?;
        if self.core.catalog.compaction_is_worthwhile() {
            self.replication.compact().await?;
        }
        Ok(())
    }

    /// Likewise, and finishes what others began and left: for a schedule.
    pub async fn tidy(&self) -> Result<()> {
        self.backups.make_due().await?;
        self.backups.resume_automatic().await?;
        self.replication.compact().await?;
        Ok(self.core.catalog.sweep_strays().await?)
    }

    /// For how long an automatic backup has been overdue: nothing while fewer uploads than make one are outside the
    /// newest backup, else that backup's age; where there is none at all, the time since the first of them.
    pub async fn backup_overdue(&self) -> Result<SignedDuration> {
        self.core.catalog.refresh().await?;
        let newest = self.backups.newest_manifest(false).await?;
        let name = newest.as_ref().map(|manifest| manifest.name);
        if self.backups.uploaded_after(name) < self.core.settings.backup_every {
            return Ok(SignedDuration::ZERO);
        }
        let since = name
            .map(BackupName::moment)
            .or_else(|| self.core.catalog.read(|state| state.span().map(|(_, oldest)| oldest)));
        Ok(since.map_or(SignedDuration::ZERO, |since| self.core.clock.now().duration_since(since)))
    }
}
