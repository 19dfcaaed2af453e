//! [`Plan`]: what a restore would do, from a comparison of the backup with the present state and the files.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Mode, Restores};
use crate::catalog::{CatalogError, Change, Content, Difference, Entry, Record, Stamp, Tombstone, View};
use crate::core::COPIES;
use crate::core::error::{Error, Result};
use crate::layout::{self, BackupName, ImageId};
use crate::services::images::files::Paired;
use store::Optional;
use store::digest::Digest;

/// Approximate size of a record in a commit, in bytes.
const RECORD_BYTES: u64 = 1_024;

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
    pub(super) in_the_way: BTreeMap<ImageId, u64>,
    /// The change of each image, and the image state that the change was planned from.
    pub(super) changes: BTreeMap<ImageId, (Option<Stamp>, Change)>,
    /// The entries in the backup of the images that change or whose bytes are not in the primary.
    pub(super) entries: BTreeMap<ImageId, Arc<Entry>>,
    /// The original upload names of the deleted images.
    pub(super) removed_names: BTreeMap<ImageId, String>,
    /// The images whose files this restore has begun to write, with the digests of the written bytes.
    pub(super) begun: Vec<(ImageId, Digest)>,
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
    pub(super) fn record(&self, id: &ImageId) -> Option<&Record> {
        self.entries.get(id)?.live()
    }

    /// Whether the restore would change nothing.
    pub(super) fn does_nothing(&self) -> bool {
        self.changes.is_empty() && self.bytes_to_bring.is_empty()
    }

    /// Leaves an image as it is because its bytes are unavailable.
    pub(super) fn give_up(&mut self, id: ImageId) {
        self.restored.remove(&id);
        self.changed.remove(&id);
        self.changes.remove(&id);
        self.bytes_to_bring.remove(&id);
        self.missing.insert(id);
    }

    /// Skips what changed after the plan was made, and therefore after the safety backup.
    pub(super) async fn skip_changed(&mut self, now: &View) -> Result<()> {
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
