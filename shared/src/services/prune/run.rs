//! Runs a prune.

use futures::stream::{self, StreamExt, TryStreamExt};

use super::Pruner;
use super::candidates::{Candidate, Candidates, ObjectKind, Stored, Unreferenced};
use crate::catalog::gc_hints::Swept;
use crate::core::counts::LastPrune;
use crate::core::error::Result;
use crate::core::lease::Lease;
use crate::layout::{self, BackupName};
use crate::services::migrate;
use store::StoreError;
use store::digest::Digest;

/// Objects removed between two reference checks.
const BATCH: usize = 100;
const UNCONDITIONAL_DELETES: &str = "The service of the archive has no conditional deletes (If-Match), so an object could go \
                                     on which an upload or a backup has just begun to rely. Nothing is pruned there.";
/// Objects removed concurrently.
const DELETES: usize = 8;

/// ObjectKind a prune removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Removed backups, newest first.
    pub removed: Vec<BackupName>,
    /// Remaining backups, newest first.
    pub kept: Vec<BackupName>,
    /// Removed catalog chunks.
    pub chunks: Vec<Digest>,
    /// Removed replicas of images.
    pub images: Vec<Digest>,
    /// Total size of those chunks and images in bytes.
    pub bytes: u64,
    /// Why the prune removed nothing, or stopped early: one sentence.
    pub held_back: Option<&'static str>,
}

impl Pruned {
    /// The number of removed chunks and images.
    pub fn objects(&self) -> usize {
        self.chunks.len() + self.images.len()
    }

    fn add(&mut self, candidate: &Candidate) {
        self.bytes += candidate.version.size;
        match candidate.kind {
            ObjectKind::Chunk => self.chunks.push(candidate.digest),
            ObjectKind::Image => self.images.push(candidate.digest),
        }
    }
}

/// ObjectKind a prune examines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All objects in the archive: a sweep.
    Everything,
    /// The objects in gc hints.
    Hinted,
}

impl Pruner {
    /// Thins out automatic and safety backups by the retention rules in [`Keep`], and removes all chunks and replicas
    /// in the archive that neither a remaining backup nor the catalog references. Manual backups stay. With `dry_run`,
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
        self.prune_with_lease(Extent::Hinted).await
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
        let hinted = self.read_hints(&existing).await?;
        let sweeps = extent == Extent::Everything || hinted.damaged || self.sweep_is_due().await?;
        let listed = if sweeps { Some(self.all_old_objects().await?) } else { None };
        let (stay, go) = self.thin_out(std::mem::take(&mut existing.manifests));
        let candidates = match &listed {
            Some(listed) => Candidates::of(listed),
            None => self.hinted_candidates(&hinted, &stay, &go).await?,
        };
        let names = |backups: &[Stored]| backups.iter().map(|(_, m)| m.name).collect::<Vec<_>>();
        let mut pruned = Pruned { kept: names(&stay), ..Pruned::default() };
        let mut unreferenced = Unreferenced::new(candidates);
        let held_back = |reason: &'static str| {
            let mut kept = [names(&stay), names(&go)].concat();
            kept.sort_by(|a, b| b.cmp(a));
            Ok(Pruned { kept, held_back: Some(reason), ..Pruned::default() })
        };
        if let Some(reason) = self.check_references(&stay, &go, &mut unreferenced).await? {
            return held_back(reason);
        }
        let candidates = match listed {
            Some(listed) => listed.into_iter().filter(|candidate| unreferenced.has(candidate)).collect(),
            None => self.old_candidates(&unreferenced).await?,
        };
        let removes_something = !go.is_empty() || !candidates.is_empty();
        if removes_something
            && !self.core.is_fenced()
            && !self.core.archive.store().check_conditional_deletes(&layout::scratch()).await?
        {
            return held_back(UNCONDITIONAL_DELETES);
        }
        let Some(lease) = lease else {
            pruned.removed = names(&go);
            candidates.iter().for_each(|candidate| pruned.add(candidate));
            return Ok(pruned);
        };
        let written = self.write_hints(&stay, &go).await?;
        for (version, manifest) in go {
            lease.renew_if_due().await?;
            let target = if self.delete_if_same(&version).await? { &mut pruned.removed } else { &mut pruned.kept };
            target.push(manifest.name);
            self.backups.forget(manifest.name);
        }
        let pruned = self.remove(candidates, unreferenced, lease, pruned).await?;
        if pruned.held_back.is_some() {
            return Ok(pruned);
        }
        if sweeps {
            Swept::put(self.core.archive.store(), began).await?;
        }
        for key in hinted.by.iter().map(|version| &version.key).chain(&written) {
            self.core.archive.store().delete(key).await?;
        }
        Ok(pruned)
    }

    /// Removes the candidates that are unreferenced.
    async fn remove(
        &self,
        candidates: Vec<Candidate>,
        mut unreferenced: Unreferenced,
        lease: &Lease<'_>,
        mut pruned: Pruned,
    ) -> Result<Pruned> {
        for batch in candidates.chunks(BATCH) {
            lease.renew_if_due().await?;
            pruned.held_back = self.check_again(&mut unreferenced).await?;
            if pruned.held_back.is_some() {
                break;
            }
            let unreferenced: Vec<Candidate> =
                batch.iter().filter(|candidate| unreferenced.has(candidate)).cloned().collect();
            let delete = async |candidate: Candidate| {
                let deleted = self.delete_if_same(&candidate.version).await?;
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
