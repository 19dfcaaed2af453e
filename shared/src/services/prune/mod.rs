//! Pruning: older automatic backups are thinned out, and what nothing names any more is removed from the archive.
//!
//! Chunks and images lie in the archive by digest and are shared, so that who stores one may find it there, put by
//! another long ago. What keeps a prune from removing an object on which someone has just begun to rely:
//!
//! - **An object younger than [`SAFE_AGE`] stays.** Nothing relies on an object for a day without being seen to name it.
//! - **Who relies on an object of more than [`AGING`](crate::core::ages::AGING) before anything names it puts it anew**, which makes it young and
//!   another version: `Archive::put` and `Archive::verify` for images, `store_chunks` for chunks. A prune deletes only
//!   the version that it was told of, by a listing or a head, so of a prune and such a put one fails or comes after the
//!   other.
//! - **The versions that might go are taken first, and what names them is read after that**, and again before each
//!   [`BATCH`]: the manifests, the intents, and the catalog, in which deleted images name their contents for as long as
//!   their tombstones are kept. What was named before the last look stays. What is named after it was put anew before.
//! - **A backup writes down what it will name before it looks for one to be based on** (an *intent*). A prune deletes
//!   manifests first and then looks for intents, so either the backup does not find its base or the prune finds the intent.
//!   So nothing that a new backup takes over from its base has to be touched.
//! - **A prune and the delete of a backup take the lease of a restore**, which reads a backup for as long as it runs.
//! - **Nothing goes where something that names contents cannot be read**: a damaged manifest or commit, or a damaged chunk
//!   that might name an image which is to go. Chunks of the state as it is need no reading: their digests say that they name
//!   what is known here.
//!
//! Who relies on an archived image, and why that is safe: an upload, the completion of a ticket and recovery, where it
//! adopts a file or completes a record, put it anew before their commit; `follow_commits` and `catch_up` after it, and
//! they run for each commit. A backup checks images that live records name. Deleting an image and finishing a delete rely
//! on the copy of what a record and then its tombstone names. Repairs write. A restore holds the lease, and its backup
//! names what it brings back.
//!
//! # What a prune looks at
//!
//! A *sweep* lists every chunk and image, and finds whatever nothing names. That costs what the archive holds. So
//! [by schedule](Keepsake::prune_by_schedule) it is made once in [`SWEEP_EVERY`], and a prune in between looks only at
//! what it is told of by those who take names away ([`crate::catalog::leftovers`]):
//!
//! - Chunks lose a name where a backup goes: in this prune, or where one is deleted, which leaves a list of its chunks. And
//!   where a backup was cut off, whose intent tells which chunks it may have stored.
//! - Images lose one where such a chunk goes; the chunk tells which. And where a fold drops tombstones, which leaves a list
//!   of their contents.
//!
//! What still is named then needs no looking after: who takes that name away will tell. A list is dealt with once it is as
//! old as [`SAFE_AGE`], so that who wrote it has done by then what he wrote it for.
//!
//! How names are looked up is one and the same for both, and so is all that is said above: a sweep only has more to ask
//! for. Of the few, the versions are asked for one by one, after a first look has told most of them to be named, and
//! before the look that precedes each batch.
//!
//! # Crashes
//!
//! Before the first manifest goes, a list of what only those that go name is put. Images go before chunks, and lists and
//! old intents last. So a prune that is cut off leaves to the next one what tells it of the rest, and no manifest ever
//! stands without its parts. What nobody could tell of waits for the next sweep: second copies of uploads that failed, chunks
//! of a backup that failed, what an older version left. Where a list cannot be written or read, [`Swept`] is deleted, so that
//! the next prune is a sweep.

mod named;
mod suspects;

use crate::services::backup::Backups;
use crate::services::migrate;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::SignedDuration;
use std::sync::Arc;

use self::named::{Stored, Unnamed};
use self::suspects::Suspects;
use crate::catalog::leftovers::Swept;
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::core::lease::Lease;
use crate::digest::Digest;
use crate::layout::{self, BackupName};
use crate::store::{ObjectMeta, StoreError};
/// How long after a sweep a prune by schedule is one again.
pub const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Objects removed between two looks at what names them.
const BATCH: usize = 100;
const UNCONDITIONAL_DELETES: &str = "The service of the archive has no conditional deletes (If-Match), so an object could go \
                                     on which an upload or a backup has just begun to rely. Nothing is pruned there.";
/// Objects removed at a time.
const DELETES: usize = 8;

/// What a prune removed, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Backups that went, newest first.
    pub removed: Vec<BackupName>,
    /// Backups that stay, newest first.
    pub kept: Vec<BackupName>,
    /// Catalog chunks that went.
    pub chunks: Vec<Digest>,
    /// Second copies of images that went.
    pub images: Vec<Digest>,
    /// Length of those chunks and images in bytes.
    pub bytes: u64,
    /// Why nothing was removed, or no more: one plain sentence.
    pub held_back: Option<&'static str>,
}

/// Something in the archive that is named by its digest.
#[derive(Clone)]
struct Candidate {
    what: What,
    digest: Digest,
    version: ObjectMeta,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Chunk,
    Image,
}

impl Pruned {
    /// How many chunks and images went.
    pub fn objects(&self) -> usize {
        self.chunks.len() + self.images.len()
    }

    fn add(&mut self, candidate: &Candidate) {
        self.bytes += candidate.version.size;
        match candidate.what {
            What::Chunk => self.chunks.push(candidate.digest),
            What::Image => self.images.push(candidate.digest),
        }
    }
}

/// What a prune looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Whatever lies in the archive: a sweep.
    Everything,
    /// What those tell of who took names away.
    Told,
}

/// Thins out backups and removes what is referenced by nothing.
#[derive(Debug)]
pub struct Pruner {
    core: Arc<Core>,
    backups: Arc<Backups>,
}

impl Pruner {
    /// Thins out backups and removes what is referenced by nothing, in the store that `core` has.
    pub fn new(core: Arc<Core>, backups: Arc<Backups>) -> Self {
        Self { core, backups }
    }

    /// Thins out automatic backups as [`Keep`] says, those made for safety among them, and removes chunks and second
    /// copies that neither a remaining backup nor the catalog names, whatever the archive holds. Backups made by hand stay.
    /// With `dry_run`, only tells what would go. [`Error::RestoreRunning`] beside a restore or another prune.
    pub async fn prune(&self, dry_run: bool) -> Result<Pruned> {
        migrate::check_migration(&self.core.primary).await?;
        if dry_run {
            return self.prune_leased(None, Extent::Everything).await;
        }
        self.prune_for_real(Extent::Everything).await
    }

    /// Likewise, to be called now and then: costs what has changed, but for a sweep each [`SWEEP_EVERY`].
    pub async fn prune_by_schedule(&self) -> Result<Pruned> {
        migrate::check_migration(&self.core.primary).await?;
        self.prune_for_real(Extent::Told).await
    }

    async fn prune_for_real(&self, extent: Extent) -> Result<Pruned> {
        let lease = Lease::acquire_to_delete(self.core.archive.store(), &self.core.clock)
            .await?
            .ok_or(Error::RestoreRunning)?;
        let pruned = self.prune_leased(Some(&lease), extent).await;
        lease.end().await;
        self.core.counts.note_prune(pruned.as_ref().ok(), self.core.clock.now());
        self.core.note_write(pruned)
    }

    /// Without a lease nothing is changed.
    async fn prune_leased(&self, lease: Option<&Lease<'_>>, extent: Extent) -> Result<Pruned> {
        let began = self.core.clock.now();
        let mut standing = self.standing_backups().await?;
        let told = self.told(&standing).await?;
        let sweeps = extent == Extent::Everything || told.damaged || self.sweep_is_due().await?;
        let listed = if sweeps { Some(self.all_old_ones().await?) } else { None };
        let (stay, go) = self.thin_out(std::mem::take(&mut standing.manifests));
        let suspects = match &listed {
            Some(listed) => Suspects::of(listed),
            None => self.suspects(&told, &stay, &go).await?,
        };
        let names = |backups: &[Stored]| backups.iter().map(|(_, m)| m.name).collect::<Vec<_>>();
        let mut pruned = Pruned { kept: names(&stay), ..Pruned::default() };
        let mut unnamed = Unnamed::new(suspects);
        let held_back = |reason: &'static str| {
            let mut kept = [names(&stay), names(&go)].concat();
            kept.sort_by(|a, b| b.cmp(a));
            Ok(Pruned { kept, held_back: Some(reason), ..Pruned::default() })
        };
        if let Some(reason) = self.look(&stay, &go, &mut unnamed).await? {
            return held_back(reason);
        }
        let candidates = match listed {
            Some(listed) => listed.into_iter().filter(|candidate| unnamed.has(candidate)).collect(),
            None => self.old_ones(&unnamed).await?,
        };
        if !(go.is_empty() && candidates.is_empty())
            && !self.core.is_withheld()
            && !self.core.archive.store().check_conditional_deletes(&layout::scratch()).await?
        {
            return held_back(UNCONDITIONAL_DELETES);
        }
        let Some(lease) = lease else {
            pruned.removed = names(&go);
            candidates.iter().for_each(|candidate| pruned.add(candidate));
            return Ok(pruned);
        };
        let written = self.tell_of(&stay, &go).await?;
        for (version, manifest) in go {
            lease.renew_if_due().await?;
            let target = if self.delete_if_same(&version).await? { &mut pruned.removed } else { &mut pruned.kept };
            target.push(manifest.name);
            self.backups.forget(manifest.name);
        }
        let pruned = self.remove(candidates, unnamed, lease, pruned).await?;
        if pruned.held_back.is_some() {
            return Ok(pruned);
        }
        if sweeps {
            Swept::put(self.core.archive.store(), began).await?;
        }
        for key in told.by.iter().map(|version| &version.key).chain(&written) {
            self.core.archive.store().delete(key).await?;
        }
        Ok(pruned)
    }

    /// Removes those candidates that nothing names.
    async fn remove(
        &self,
        candidates: Vec<Candidate>,
        mut unnamed: Unnamed,
        lease: &Lease<'_>,
        mut pruned: Pruned,
    ) -> Result<Pruned> {
        for batch in candidates.chunks(BATCH) {
            lease.renew_if_due().await?;
            pruned.held_back = self.look_again(&mut unnamed).await?;
            if pruned.held_back.is_some() {
                break;
            }
            let unnamed: Vec<Candidate> = batch.iter().filter(|candidate| unnamed.has(candidate)).cloned().collect();
            let delete = async |candidate: Candidate| {
                let deleted = self.delete_if_same(&candidate.version).await?;
                Ok::<_, StoreError>(deleted.then_some(candidate))
            };
            let mut deleted = stream::iter(unnamed).map(delete).buffered(DELETES);
            while let Some(deleted) = deleted.try_next().await? {
                deleted.iter().for_each(|candidate| pruned.add(candidate));
            }
        }
        Ok(pruned)
    }
}
