//! Restores a backup in two steps: a read-only plan, then its application in one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::catalog::{CatalogError, Change, CommitError, Content, Difference, Entry, Record, Stamp, Tombstone, View};
use crate::core::archive::Archived;
use crate::core::error::{Error, Result};
use crate::core::lease::Lease;
use crate::core::{COPIES, Core};
use crate::layout::{self, BackupName, ImageId};
use crate::services::backup::{Backups, Kind};
use crate::services::images::Images;
use crate::services::images::files::Paired;
use crate::services::images::records::ImageRecords;
use crate::services::room::Room;
use store::digest::Digest;
use store::sync::{AtomicBool, Mutex, Ordering, lock};
use store::{ErrorKind, Optional, StoreError};

/// Approximate size of a record in a commit, in bytes.
const RECORD_BYTES: u64 = 1_024;

/// What a restore does with images that were added after the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Keeps them.
    #[default]
    Merge,
    /// Deletes them: the state equals that of the backup.
    Exact,
}

/// What a restore would do, image by image.
#[derive(Debug, Default)]
pub struct Plan {
    /// Deleted or unknown images that are restored.
    pub restored: BTreeSet<ImageId>,
    /// Images whose record reverts to that of the backup.
    pub changed: BTreeSet<ImageId>,
    /// Images that stay as they are.
    pub kept: u64,
    /// Images that are deleted.
    pub removed: BTreeSet<ImageId>,
    /// Images of the backup whose bytes are in neither the primary nor the archive; they stay as they are.
    pub missing: BTreeSet<ImageId>,
    /// Images of the backup whose bytes must be copied from the archive.
    pub bytes_to_bring: BTreeSet<ImageId>,
    /// How many more free bytes this needs, besides the reserve; 0 if there is enough space or the stores do not report
    /// it.
    pub lacking_bytes: u64,
    /// Those among them whose key holds a file with other bytes, and the length of that file.
    in_the_way: BTreeMap<ImageId, u64>,
    /// The change of each image, and the image state that the change was planned from.
    changes: BTreeMap<ImageId, (Option<Stamp>, Change)>,
    /// The entries in the backup of the images that change or whose bytes are not in the primary.
    entries: BTreeMap<ImageId, Arc<Entry>>,
    /// The original upload names of the deleted images.
    removed_names: BTreeMap<ImageId, String>,
    /// The images whose files this restore has begun to write, with the digests of the written bytes.
    begun: Vec<(ImageId, Digest)>,
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

/// A state to restore.
struct BackupState {
    name: BackupName,
    view: View,
    /// The images that had no bytes when the backup was made.
    without_bytes: BTreeSet<ImageId>,
}

/// An image of a backup whose bytes are not in the primary.
#[derive(Clone)]
struct Lacking {
    id: ImageId,
    entry: Arc<Entry>,
    /// The length of a file with other bytes under the image's key.
    in_the_way: Option<u64>,
    archived: bool,
}

impl BackupState {
    /// The error of a read of this state.
    fn failure(&self, error: CatalogError) -> Error {
        if error.is_damage() { Error::DamagedBackup(self.name) } else { error.into() }
    }
}

impl Restores {
    /// What restoring a backup would do. Changes nothing.
    pub async fn plan(&self, name: BackupName, mode: Mode) -> Result<Plan> {
        let [plan] = self.plan_each(name, [mode]).await?;
        Ok(plan)
    }

    /// Like [`plan`](Self::plan) for several modes, from a single look at the backup and the store.
    pub async fn plan_each<const N: usize>(&self, name: BackupName, modes: [Mode; N]) -> Result<[Plan; N]> {
        let backup = self.state_of(name).await?;
        let lacking = self.lacking(&backup).await?;
        // After the listing: a file that was listed and deleted since belongs to an image that is deleted now, and the
        // files of those are looked at again.
        self.core.catalog.refresh().await?;
        let now = self.core.catalog.view();
        let mut plans = modes.map(|_| Plan::default());
        for (plan, mode) in plans.iter_mut().zip(modes) {
            *plan = self.compare(&now, &backup, mode).await?;
            self.plan_bytes(plan, &lacking).await?;
            self.plan_room(plan).await?;
        }
        Ok(plans)
    }

    /// The state in a backup, and the images that had no bytes when it was made.
    async fn state_of(&self, name: BackupName) -> Result<BackupState> {
        let manifest = self.backups.manifest(name).await?;
        let view = self.backups.view(&manifest).await?;
        Ok(BackupState { name, view, without_bytes: manifest.missing.into_iter().collect() })
    }

    /// Compares the state in the backup with the present one.
    async fn compare(&self, now: &View, backup: &BackupState, mode: Mode) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut differences = now.differences(&backup.view);
        while let Some(Difference { id, before, after }) =
            differences.try_next().await.map_err(|error| backup.failure(error))?
        {
            let present = before.as_ref().and_then(|entry| entry.live());
            let then = after.as_ref().and_then(|entry| Some((entry, entry.live()?)));
            // An image that had no bytes at the time of the backup has none now. A link needs none.
            let then = then.filter(|(_, record)| record.sha256.is_some() || !backup.without_bytes.contains(&id));
            let version = now.next_version(id.as_str()).await?;
            let change = match (present, then) {
                // Only their stamps differ.
                (Some(present), Some((_, record))) if present == record => continue,
                (_, Some((entry, record))) => {
                    let images = if present.is_some() { &mut plan.changed } else { &mut plan.restored };
                    images.insert(id.clone());
                    plan.entries.insert(id.clone(), Arc::clone(entry));
                    let version = version.max(entry.stamp.version + 1);
                    Change { version, content: Content::Live(record.clone()) }
                }
                (Some(present), None) if mode == Mode::Exact => {
                    plan.removed.insert(id.clone());
                    plan.removed_names.extend(present.original_name.clone().map(|name| (id.clone(), name)));
                    let tombstone = Tombstone { deleted_at: self.core.clock.now(), sha256: present.sha256 };
                    Change { version, content: Content::Deleted(tombstone) }
                }
                _ => continue,
            };
            plan.changes.insert(id, (before.map(|entry| entry.stamp), change));
        }
        plan.kept = now.totals().live - (plan.changed.len() + plan.removed.len()) as u64;
        Ok(plan)
    }

    /// The images of a backup that have no file of the right length in the primary, in the order of their names.
    async fn lacking(&self, backup: &BackupState) -> Result<Vec<Lacking>> {
        let live = backup.view.live().map_err(|error| backup.failure(error));
        let lacking = |Paired { id, entry, file }: Paired| {
            let entry = entry?;
            let (digest, size) = entry.live().and_then(|record| Some((record.sha256?, record.size)))?;
            let in_the_way = file.map(|file| file.size);
            let there = in_the_way.is_some_and(|found| size.is_none_or(|wanted| wanted == found));
            (!there).then_some((Lacking { id, entry, in_the_way, archived: false }, digest, size))
        };
        let check = async |(lacking, digest, size)| {
            let archived = self.core.archive.has(&digest, size).await?;
            Ok::<_, Error>(Lacking { archived, ..lacking })
        };
        let lacking = self.records.with_files(live).try_filter_map(|image| ready(Ok(lacking(image))));
        lacking.map_ok(check).try_buffered(COPIES).try_collect().await
    }

    /// Finds the images whose bytes must be copied, and those whose bytes are unavailable.
    async fn plan_bytes(&self, plan: &mut Plan, lacking: &[Lacking]) -> Result<()> {
        let wrong = self.wrong_leftovers(plan, lacking).await?;
        for Lacking { id, entry, in_the_way, archived } in lacking.iter().cloned().chain(wrong) {
            plan.entries.insert(id.clone(), entry);
            if archived {
                plan.in_the_way.extend(in_the_way.map(|size| (id.clone(), size)));
                plan.bytes_to_bring.insert(id);
            } else {
                plan.give_up(id);
            }
        }
        Ok(())
    }

    /// Computes how much free space is missing for the bytes, the safety backup and the commit.
    async fn plan_room(&self, plan: &mut Plan) -> Result<()> {
        if plan.does_nothing() || !self.room.is_limited().await? {
            return Ok(());
        }
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let size = |id: &ImageId| plan.record(id).and_then(|record| record.size);
        let brought = sum(&mut plan.bytes_to_bring.iter().filter_map(size));
        let set_aside = sum(&mut plan.in_the_way.values().copied());
        let commit = plan.changes.len() as u64 * RECORD_BYTES;
        let for_archive = self.backups.backup_bytes().await? + set_aside + commit;
        plan.lacking_bytes = self.room.lacking(brought.saturating_add(commit), for_archive).await?;
        Ok(())
    }

    /// The restored images whose key holds a file of the right length with other bytes. The file of a deleted image has
    /// not been verified since the delete, so its length alone proves nothing.
    async fn wrong_leftovers(&self, plan: &Plan, lacking: &[Lacking]) -> Result<Vec<Lacking>> {
        let is_lacking = |id: &ImageId| lacking.binary_search_by(|lacking| lacking.id.cmp(id)).is_ok();
        let left = plan.restored.iter().filter(|id| !is_lacking(id));
        let left = left.filter_map(|id| {
            let entry = plan.entries.get(id)?;
            let record = entry.live()?;
            Some((id.clone(), Arc::clone(entry), record.sha256?, record.size))
        });
        let look = async |(id, entry, wanted, size): (ImageId, Arc<Entry>, Digest, Option<u64>)| {
            let found = self.core.primary.digest(&layout::image(&id)).await.intact()?;
            if found.as_ref().is_some_and(|(_, digest)| *digest == wanted) {
                return Ok(None);
            }
            // A file that cannot be read is in the way, too.
            let in_the_way = Some(found.map_or(size.unwrap_or_default(), |(meta, _)| meta.size));
            let archived = self.core.archive.has(&wanted, size).await?;
            Ok::<_, Error>(Some(Lacking { id, entry, in_the_way, archived }))
        };
        let looked = stream::iter(left.collect::<Vec<_>>()).map(look).buffer_unordered(COPIES);
        looked.try_filter_map(async |wrong| Ok(wrong)).try_collect().await
    }

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

impl Plan {
    /// The original upload name of an image in the plan, if known.
    pub fn original_name(&self, id: &ImageId) -> Option<&str> {
        let back = self.record(id).and_then(|record| record.original_name.as_ref());
        back.or_else(|| self.removed_names.get(id)).map(String::as_str)
    }

    /// The plan as users see it: an image of which only the bytes return counts as restored, since to a user it was
    /// gone.
    #[must_use]
    pub fn with_bytes_restored(mut self) -> Self {
        let before = self.restored.len();
        self.restored.extend(self.bytes_to_bring.iter().filter(|id| !self.changed.contains(*id)).cloned());
        self.kept = self.kept.saturating_sub((self.restored.len() - before) as u64);
        self
    }

    /// The record in the backup.
    fn record(&self, id: &ImageId) -> Option<&Record> {
        self.entries.get(id)?.live()
    }

    /// Whether the restore would change nothing.
    fn does_nothing(&self) -> bool {
        self.changes.is_empty() && self.bytes_to_bring.is_empty()
    }

    /// Leaves an image as it is because its bytes are unavailable.
    fn give_up(&mut self, id: ImageId) {
        self.restored.remove(&id);
        self.changed.remove(&id);
        self.changes.remove(&id);
        self.bytes_to_bring.remove(&id);
        self.missing.insert(id);
    }

    /// Skips what changed after the plan was made, and therefore after the safety backup.
    async fn skip_changed(&mut self, now: &View) -> Result<()> {
        let mut moved = Vec::new();
        for (id, (planned, _)) in &self.changes {
            if now.get(id.as_str()).await?.map(|entry| entry.stamp) != *planned {
                moved.push(id.clone());
            }
        }
        for id in moved {
            self.changes.remove(&id);
            self.restored.remove(&id);
            self.changed.remove(&id);
            self.removed.remove(&id);
            self.kept += 1;
        }
        Ok(())
    }
}
