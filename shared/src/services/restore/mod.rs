//! Restores a backup in two steps: a read-only plan, then its application in one commit.

mod plan;

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::catalog::{CommitError, Entry};
use crate::core::archive::Archived;
use crate::core::error::{Error, Result};
use crate::core::lease::Lease;
use crate::core::{COPIES, Core};
use crate::layout::{self, BackupName, ImageId};
use crate::services::backup::{Backups, Kind};
use crate::services::images::Images;
use crate::services::images::records::ImageRecords;
use crate::services::room::Room;
use store::digest::Digest;
use store::sync::{AtomicBool, Mutex, Ordering, lock};
use store::{ErrorKind, Optional, StoreError};

pub use plan::Plan;

/// What a restore does with images that were added after the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Keeps them.
    #[default]
    Merge,
    /// Deletes them: the state equals that of the backup.
    Exact,
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// The plan as it was applied.
    pub plan: Plan,
    /// The backup of the previous state, if there was anything to do; restoring it undoes the restore.
    pub safety_backup: Option<BackupName>,
}

/// Restores backups.
#[derive(Debug)]
pub struct Restores {
    pub(crate) core: Arc<Core>,
    pub(crate) backups: Arc<Backups>,
    pub(crate) images: Arc<Images>,
    pub(crate) records: Arc<ImageRecords>,
    pub(crate) room: Arc<Room>,
}

impl Restores {
    /// Restores a backup. A crash at any point leaves the old state or the new one; running it again completes the
    /// restore.
    pub async fn restore(&self, name: BackupName, mode: Mode) -> Result<Restored> {
        let lease = self.core.restore_lease().await?;
        let outcome = self.restore_leased(name, mode, &lease).await;
        lease.end().await;
        outcome
    }

    async fn restore_leased(&self, name: BackupName, mode: Mode, lease: &Lease<'_>) -> Result<Restored> {
        let mut plan = self.plan(name, mode).await?;
        if plan.does_nothing() {
            return Ok(Restored { plan, safety_backup: None });
        }
        if plan.lacking_bytes > 0 {
            return Err(Error::NoRoomToRestore { lacking: plan.lacking_bytes });
        }
        lease.renew_if_due().await?;
        let safety_backup = Some(self.backups.create(Kind::Safety).await?.name);
        lease.renew_if_due().await?;
        let applied = self.apply(&mut plan, lease).await;
        // If the commit may exist, its bytes stay.
        if applied.as_ref().is_err_and(|error| !matches!(error, Error::Commit(CommitError::Unknown(_))))
            && let Err(error) = self.delete_restored(&plan.begun, lease).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the files that a failed restore copied could not be deleted; a start quarantines them after a day"
            );
        }
        applied.map(|()| Restored { plan, safety_backup })
    }

    /// Restores the bytes, commits the changes, and deletes the bytes of removed images.
    async fn apply(&self, plan: &mut Plan, lease: &Lease<'_>) -> Result<()> {
        self.restore_bytes(plan, lease).await?;
        let mut removed: Vec<(ImageId, Arc<Entry>)> = Vec::new();
        {
            lease.renew().await?;
            let _guard = self.core.editing.lock().await;
            self.core.catalog.refresh().await?;
            let now = self.core.catalog.view();
            plan.skip_changed(&now).await?;
            for id in &plan.removed {
                removed.extend(now.get(id.as_str()).await?.map(|entry| (id.clone(), entry)));
            }
            if !plan.changes.is_empty() {
                let changes = std::mem::take(&mut plan.changes).into_iter().map(|(id, (_, change))| (id, change));
                let committed = self.core.catalog.commit(changes.collect()).await;
                // Also if the outcome is unknown: the background task resolves it.
                self.core.changed.notify_one();
                committed?;
            }
        }
        // Deletes each file only after its replica was verified. Files that remain are deleted at the next start.
        for (id, before) in &removed {
            if let Err(error) = self.images.delete_bytes(id, before).await {
                tracing::warn!(image = %id, error = &error as &dyn std::error::Error, "a removed image's bytes could not be deleted; the next start deletes them");
            }
        }
        Ok(())
    }

    /// Deletes what a failed restore has copied into the primary: files of images that are not live. A file with other
    /// bytes is not its copy and may be the only one, so it stays. Requires the lease, since another restore may rely
    /// on the files.
    async fn delete_restored(&self, begun: &[(ImageId, Digest)], lease: &Lease<'_>) -> Result<()> {
        for some in begun.chunks(COPIES) {
            let look = async |(id, digest): (ImageId, Digest)| {
                let found = self.core.primary.digest(&layout::image(&id)).await.intact()?;
                Ok::<_, StoreError>(found.filter(|(_, found)| *found == digest).map(|(version, _)| (id, version)))
            };
            let copies: Vec<_> = stream::iter(some.to_vec()).map(look).buffer_unordered(COPIES).try_collect().await?;
            // On a full disk a lease cannot be renewed, but it may still be valid for long enough.
            match lease.renew_if_due().await {
                Err(e) if e.store_kind() == Some(ErrorKind::Full) => {}
                renewed => renewed?,
            }
            if !lease.still_holds().await? {
                return Err(Error::RestoreRunning);
            }
            self.core.catalog.refresh().await?;
            for (id, version) in copies.into_iter().flatten() {
                if self.core.catalog.view().is_live(id.as_str()).await? {
                    continue;
                }
                match self.core.primary.delete_version(&version).await {
                    Err(e) if e.kind == ErrorKind::Changed => {}
                    deleted => deleted?,
                }
            }
        }
        Ok(())
    }

    async fn restore_bytes(&self, plan: &mut Plan, lease: &Lease<'_>) -> Result<()> {
        let wanted = plan.bytes_to_bring.iter().filter_map(|id| {
            let record = plan.record(id)?;
            Some((id.clone(), record.sha256?, record.size.unwrap_or_default()))
        });
        let wanted: Vec<(ImageId, Digest, u64)> = wanted.collect();
        let in_the_way = std::mem::take(&mut plan.in_the_way);
        self.core.progress.begin("images", plan.bytes_to_bring.len() as u64);
        let failed = AtomicBool::new(false);
        let begun = Mutex::new(Vec::new());
        // Each transfer that has begun runs to its end, even after one has failed: a file that is still being written
        // cannot be removed.
        let bring = async |(id, digest, size): (ImageId, Digest, u64)| {
            if failed.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let brought = async {
                self.clear_key(&id, size, in_the_way.contains_key(&id)).await?;
                lock(&begun).push((id.clone(), digest));
                self.restore_one(&id, digest, lease).await
            };
            let brought = brought.await;
            failed.fetch_or(brought.is_err(), Ordering::Relaxed);
            brought.map(|outcome| Some((id, outcome)))
        };
        let brought: Vec<Result<_>> = stream::iter(wanted).map(bring).buffer_unordered(COPIES).collect().await;
        plan.begun = std::mem::take(&mut *lock(&begun));
        let brought = brought.into_iter().collect::<Result<Vec<_>>>()?;
        for (id, outcome) in brought.into_iter().flatten() {
            if outcome == Archived::Missing {
                plan.give_up(id);
            }
        }
        Ok(())
    }

    /// Checks that there is space for an image's bytes, and quarantines a file that occupies their key.
    async fn clear_key(&self, id: &ImageId, size: u64, in_the_way: bool) -> Result<()> {
        // Other processes write too, so the space that was free for the plan may be used by now.
        let needed = self.core.settings.reserve_bytes.saturating_add(size);
        if self.core.primary.free_bytes().await?.is_some_and(|free| free < needed) {
            return Err(Error::NoRoom);
        }
        if in_the_way {
            self.core.archive.quarantine(&self.core.primary, &layout::image(id)).await?;
        }
        Ok(())
    }

    async fn restore_one(&self, id: &ImageId, digest: Digest, lease: &Lease<'_>) -> Result<Archived> {
        let outcome = self.core.archive.bring_back(&self.core.primary, id, digest).await?;
        self.core.progress.advance();
        lease.renew_if_due().await?;
        Ok(outcome)
    }
}
