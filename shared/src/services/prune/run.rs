//! Runs a prune.

use futures::stream::{self, StreamExt, TryStreamExt};

use super::Pruner;
use super::candidates::{Candidate, ObjectKind, Stored, Unreferenced};
use crate::core::counts::LastPrune;
use crate::core::error::Result;
use crate::core::lease::Lease;
use crate::layout::{self, BackupName};
use crate::services::migrate;
use store::digest::Digest;
use store::{Store, StoreError};

/// Objects removed between two reference checks.
const BATCH: usize = 100;
const UNCONDITIONAL_DELETES: &str = "The service of the archive has no conditional deletes (If-Match), so an object could go \
                                     on which an upload or a backup has just begun to rely. Nothing is pruned there.";
/// Objects removed concurrently.
const DELETES: usize = 8;

/// What a prune removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Removed backups, newest first.
    pub removed: Vec<BackupName>,
    /// Remaining backups, newest first.
    pub kept: Vec<BackupName>,
    /// Removed pages of the catalog, in every location, and chunks of backups of format 1.
    pub pages: Vec<Digest>,
    /// Removed replicas of images.
    pub images: Vec<Digest>,
    /// Total size of those pages and images in bytes.
    pub bytes: u64,
    /// Why the prune removed nothing, or stopped early: one sentence.
    pub held_back: Option<&'static str>,
}

impl Pruned {
    /// The number of removed pages and images.
    pub fn objects(&self) -> usize {
        self.pages.len() + self.images.len()
    }

    fn add(&mut self, candidate: &Candidate) {
        self.bytes += candidate.version.size;
        match candidate.kind {
            ObjectKind::Page | ObjectKind::Chunk => self.pages.push(candidate.digest),
            ObjectKind::Image => self.images.push(candidate.digest),
        }
    }
}

/// What a prune examines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All objects in the archive: a sweep.
    Everything,
    /// What may have lost references since the last prune.
    SinceLast,
}

impl Pruner {
    /// Thins out automatic and safety backups by the retention rules in [`Keep`], and removes all pages and replicas
    /// of images that neither a remaining backup nor the catalog references. Manual backups stay. With `dry_run`,
    /// only reports what would be removed. [`Error::RestoreRunning`] beside a restore or another prune.
    pub async fn prune(&self, dry_run: bool) -> Result<Pruned> {
        migrate::check_migration(&self.core.primary).await?;
        if dry_run {
            return self.prune_leased(None, Extent::Everything).await;
        }
        self.prune_with_lease(Extent::Everything).await
    }

    /// Like [`prune`](Self::prune), for a schedule: its cost follows from what changed, except for one sweep per
    /// [`SWEEP_EVERY`].
    pub async fn prune_by_schedule(&self) -> Result<Pruned> {
        migrate::check_migration(&self.core.primary).await?;
        self.prune_with_lease(Extent::SinceLast).await
    }

    async fn prune_with_lease(&self, extent: Extent) -> Result<Pruned> {
        let lease = self.core.restore_lease_to_delete().await?;
        let pruned = self.prune_leased(Some(&lease), extent).await;
        lease.end().await;
        self.core.counts.note_prune(LastPrune {
            at: self.core.clock.now(),
            complete: pruned.as_ref().is_ok_and(|pruned| pruned.held_back.is_none()),
            removed_bytes: pruned.as_ref().map_or(0, |pruned| pruned.bytes),
        });
        self.core.note_write(pruned)
    }

    /// Changes nothing if there is no lease.
    async fn prune_leased(&self, lease: Option<&Lease<'_>>, extent: Extent) -> Result<Pruned> {
        let began = self.core.clock.now();
        let mut existing = self.existing_backups().await?;
        let (stay, go) = self.thin_out(std::mem::take(&mut existing.manifests));
        let names = |backups: &[Stored]| backups.iter().map(|(_, m)| m.name).collect::<Vec<_>>();
        let mut pruned = Pruned { kept: names(&stay), ..Pruned::default() };
        let held_back = |reason: &'static str| {
            let mut kept = [names(&stay), names(&go)].concat();
            kept.sort_by(|a, b| b.cmp(a));
            Ok(Pruned { kept, held_back: Some(reason), ..Pruned::default() })
        };

        let parts = self.old_parts_of_catalog().await?;
        self.core.catalog.refresh().await?;
        let state = self.core.catalog.view();
        let last = if extent == Extent::Everything { None } else { self.last_references().await? };
        let dropped = match &last {
            Some(last) => self.dropped_images(last, &state, &stay, &go).await?,
            None => None,
        };
        let listed = if dropped.is_none() { Some(self.all_old_replicas().await?) } else { None };
        let images = match &listed {
            Some(listed) => listed.iter().map(|candidate| candidate.digest).collect(),
            None => dropped.unwrap_or_default(),
        };
        let mut unreferenced = Unreferenced { images, ..Unreferenced::default() };
        if let Some(reason) = self.check_references(&stay, &go, &mut unreferenced).await? {
            return held_back(reason);
        }
        let swept_at = if listed.is_some() { began } else { last.as_ref().map_or(began, |last| last.swept_at) };
        let mut candidates = match listed {
            Some(listed) => listed,
            None => self.old_replicas(&unreferenced.images).await?,
        };
        candidates.extend(parts);
        candidates.retain(|candidate| unreferenced.has(candidate));
        if !self.may_delete(&go, &candidates).await? {
            return held_back(UNCONDITIONAL_DELETES);
        }
        let Some(lease) = lease else {
            pruned.removed = names(&go);
            candidates.iter().for_each(|candidate| pruned.add(candidate));
            return Ok(pruned);
        };
        for (version, manifest) in &go {
            lease.renew_if_due().await?;
            let deleted = self.delete_if_same(self.core.archive.store(), version).await?;
            let target = if deleted { &mut pruned.removed } else { &mut pruned.kept };
            target.push(manifest.name);
            self.backups.forget(manifest.name);
        }
        let (images, parts): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|candidate| candidate.kind == ObjectKind::Image);
        let mut pruned = self.remove(images, &mut unreferenced, lease, pruned).await?;
        if pruned.held_back.is_some() {
            return Ok(pruned);
        }
        // Before the pages of what was referenced last go: without them, the next prune would have to sweep.
        self.put_references(swept_at, &state, &stay).await?;
        pruned = self.remove(parts, &mut unreferenced, lease, pruned).await?;
        if pruned.held_back.is_some() {
            return Ok(pruned);
        }
        for intent in &existing.old_intents {
            self.core.archive.store().delete(&intent.key).await?;
        }
        Ok(pruned)
    }

    /// Whether the services of all locations with something to remove have conditional deletes.
    async fn may_delete(&self, go: &[Stored], candidates: &[Candidate]) -> Result<bool> {
        if self.core.is_fenced() {
            return Ok(true);
        }
        for (place, location) in self.core.catalog.locations().enumerate() {
            let removes = (place == 1 && !go.is_empty()) || candidates.iter().any(|candidate| candidate.place == place);
            if removes && !location.check_conditional_deletes(&layout::scratch()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the candidates that are unreferenced.
    async fn remove(
        &self,
        candidates: Vec<Candidate>,
        unreferenced: &mut Unreferenced,
        lease: &Lease<'_>,
        mut pruned: Pruned,
    ) -> Result<Pruned> {
        let locations: Vec<&Store> = self.core.catalog.locations().collect();
        for batch in candidates.chunks(BATCH) {
            lease.renew_if_due().await?;
            pruned.held_back = self.check_again(unreferenced).await?;
            if pruned.held_back.is_some() {
                break;
            }
            let unreferenced: Vec<Candidate> =
                batch.iter().filter(|candidate| unreferenced.has(candidate)).cloned().collect();
            let delete = async |candidate: Candidate| {
                let deleted = self.delete_if_same(locations[candidate.place], &candidate.version).await?;
                Ok::<_, StoreError>(deleted.then_some(candidate))
            };
            let mut deleted = stream::iter(unreferenced).map(delete).buffered(DELETES);
            while let Some(deleted) = deleted.try_next().await? {
                deleted.iter().for_each(|candidate| pruned.add(candidate));
            }
        }
        Ok(pruned)
    }
}
