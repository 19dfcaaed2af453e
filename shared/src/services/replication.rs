//! Asynchronous replication (`ARCHIVE=async`), from a queue that is durable without being written.
//!
//! The queue consists of the commits that `image-metadata.d/` holds in the primary and not in the archive. A commit is
//! replicated after the images that it references, and a compaction reaches the archive once all of its commits are
//! replicated. So a starting process finds the pending commits by two listings, and whenever the primary is lost, the
//! archive has the bytes of every image that its records contain. Each step may be repeated, late, by several processes
//! at once and in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use uuid::Uuid;

use crate::catalog::{Commit, Compacted};
use crate::core::archive::Archived;
use crate::core::error::{Error, Result};
use crate::core::{COPIES, Core};
use crate::layout::{self, ImageId};
use store::digest::Digest;
use store::sync::{Mutex, lock};
use store::{Body, Contention, ErrorKind};

/// Commits replicated as a batch: none of them counts as replicated before the images of all are.
const BATCH: usize = 64;

/// The replication state that this process has cached.
#[derive(Debug, Default)]
struct State {
    /// Commits of the primary that are replicated.
    replicated: BTreeSet<Uuid>,
    /// Whether this process has not yet compared the primary with the archive, so that the archive's gaps are unknown.
    uncompared: bool,
    /// Images whose replica was missing in the comparison and is still pending.
    pending_images: BTreeSet<ImageId>,
    /// Images whose present record is missing in the archive, though it is in the primary's root.
    unrecorded: BTreeSet<ImageId>,
}

/// What a loss of the primary would lose at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationLag {
    /// Images that have changed since the state that the archive has.
    pub images: u64,
    /// Live ones among them: images or metadata with a single copy.
    pub single_copies: u64,
    /// When the oldest of those changes was made.
    pub since: Option<Timestamp>,
}

/// Makes replicas after the answer.
#[derive(Debug)]
pub struct Replicator {
    core: Arc<Core>,
    /// The cached replication state.
    state: Mutex<State>,
}

impl Replicator {
    /// A replicator for the stores of `core`.
    pub fn new(core: Arc<Core>) -> Self {
        // With synchronous replication, nothing is pending until a comparison finds otherwise.
        let uncompared = !core.settings.archive_sync;
        Self { core, state: Mutex::new(State { uncompared, ..State::default() }) }
    }

    /// Moves commits into the roots: into the primary's at once, and into the archive's after their replicas.
    pub async fn compact(&self) -> Result<Compacted> {
        self.core.note_upkeep(self.compact_in_order().await)
    }

    async fn compact_in_order(&self) -> Result<Compacted> {
        let unrecorded = lock(&self.state).unrecorded.clone();
        match self.core.catalog.begin_compaction().await? {
            Err(ended) => Ok(ended),
            Ok(compaction) => {
                if !self.core.settings.archive_sync {
                    self.replicate_queue(compaction.commits()).await?;
                }
                let compacted = compaction.finish().await?;
                // Only now does the archive have them. Records found missing meanwhile are left to the next compaction.
                lock(&self.state).unrecorded.retain(|id| !unrecorded.contains(id));
                Ok(compacted)
            }
        }
    }

    /// Compacts until the roots hold everything committed before this call, for a reader of
    /// `image-metadata.json`. A compaction by another process may have begun earlier.
    pub async fn compact_all(&self) -> Result<()> {
        let mut contention = Contention::new(layout::metadata_file());
        while self.compact().await? == Compacted::Superseded {
            contention.lost().await?;
        }
        Ok(())
    }

    /// Replicates those of these commits that are not known to be replicated. Images without bytes block nothing.
    pub(crate) async fn replicate_queue(&self, commits: &BTreeSet<Uuid>) -> Result<()> {
        if self.not_replicated(commits).is_empty() {
            return Ok(());
        }
        self.note_mirrored().await?;
        let mut failure = None;
        for batch in self.not_replicated(commits).chunks(BATCH) {
            for (commit, error) in self.replicate_batch(batch).await {
                if matches!(error, Error::MissingBytes) {
                    tracing::error!(%commit, "an image's bytes were lost before it was replicated");
                    lock(&self.state).replicated.insert(commit);
                } else if failure.as_ref().is_none_or(is_refusal) {
                    failure = Some(error);
                }
            }
            // A rejected commit, which may be rejected permanently, blocks no other.
            if failure.as_ref().is_some_and(|failure| !is_refusal(failure)) {
                break;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Replicates these commits and their images; returns the commits that failed, each with its reason.
    ///
    /// A commit that has been compacted meanwhile was replicated before, or was taken back.
    pub async fn replicate_commits(&self, commits: &BTreeSet<Uuid>) -> Result<Vec<(Uuid, Error)>> {
        self.core.catalog.refresh().await?;
        let mut failed = Vec::new();
        for batch in Vec::from_iter(commits.iter().copied()).chunks(BATCH) {
            failed.extend(self.replicate_batch(batch).await);
        }
        Ok(failed)
    }

    /// Replicates the images first, and then the commits whose images are all replicated or have no bytes to replicate.
    async fn replicate_batch(&self, batch: &[Uuid]) -> Vec<(Uuid, Error)> {
        let mut failed: BTreeMap<Uuid, Error> = BTreeMap::new();
        let mut bodies = Vec::new();
        self.forget_compacted();
        let mut images: BTreeMap<(Uuid, Digest), ImageId> = BTreeMap::new();
        let read = async |commit: Uuid| (commit, self.core.catalog.intact_commit(commit).await);
        let mut reading = stream::iter(batch.iter().copied()).map(read).buffer_unordered(COPIES);
        while let Some((commit, read)) = reading.next().await {
            match read {
                Ok(Some((content, body))) => {
                    images.extend(contents(&content).map(|(id, digest)| ((commit, digest), id)));
                    bodies.push((commit, body));
                }
                // A compaction replicates the images of commits before it deletes them.
                Ok(None) => {}
                Err(error) => _ = failed.insert(commit, error.into()),
            }
        }
        let copy =
            async |((commit, digest), id): ((Uuid, Digest), ImageId)| (commit, self.replicate_image(&id, digest).await);
        let mut copying = stream::iter(images).map(copy).buffer_unordered(COPIES);
        while let Some((commit, copied)) = copying.next().await {
            // A permanent loss must not hide a transient failure.
            if let Err(error) = copied
                && failed.get(&commit).is_none_or(|first| matches!(first, Error::MissingBytes))
            {
                failed.insert(commit, error);
            }
        }
        // An image without bytes must not block the records of the others.
        bodies.retain(|(commit, _)| failed.get(commit).is_none_or(|error| matches!(error, Error::MissingBytes)));
        let mirror =
            async |(commit, body): (Uuid, Body)| (commit, self.core.catalog.mirror_commit(commit, &body).await);
        let mut mirroring = stream::iter(bodies).map(mirror).buffer_unordered(COPIES);
        while let Some((commit, mirrored)) = mirroring.next().await {
            match mirrored {
                Ok(()) if failed.contains_key(&commit) => {}
                Ok(()) => _ = lock(&self.state).replicated.insert(commit),
                Err(error) => _ = failed.insert(commit, error.into()),
            }
        }
        failed.into_iter().collect()
    }

    async fn replicate_image(&self, id: &ImageId, digest: Digest) -> Result<()> {
        match self.core.archive.verify(&self.core.primary, id, digest).await? {
            Archived::Yes => Ok(()),
            Archived::Missing => {
                self.core.catalog.refresh().await?;
                let lives = self.core.catalog.view().is_live(id.as_str()).await?;
                if lives { Err(Error::MissingBytes) } else { Ok(()) }
            }
        }
    }

    /// Those of these commits that are not known to be replicated.
    fn not_replicated(&self, commits: &BTreeSet<Uuid>) -> Vec<Uuid> {
        commits.difference(&lock(&self.state).replicated).copied().collect()
    }

    /// The commits made after `since` that may still be pending, as far as this process knows.
    pub(crate) fn queued_since(&self, since: Timestamp) -> BTreeSet<Uuid> {
        if self.core.settings.archive_sync {
            return BTreeSet::new();
        }
        let not_replicated = self.not_replicated(&self.core.catalog.listed());
        not_replicated.into_iter().filter(|commit| made_at(commit).is_some_and(|at| at > since)).collect()
    }

    /// Records the commits that were replicated by other processes, or by an earlier run of this one.
    async fn note_mirrored(&self) -> Result<()> {
        let mirrored = self.core.catalog.mirrored().await?;
        lock(&self.state).replicated.extend(mirrored);
        self.forget_compacted();
        Ok(())
    }

    /// Drops compacted commits from the cache.
    fn forget_compacted(&self) {
        let listed = self.core.catalog.listed();
        lock(&self.state).replicated.retain(|commit| listed.contains(commit));
    }

    /// Refuses new uploads while the replication lag has reached the limit of the queue.
    pub(crate) fn check_lag(&self) -> Result<()> {
        let limit = self.core.settings.behind_max;
        if self.core.settings.archive_sync || self.core.catalog.uncompacted() < limit {
            return Ok(());
        }
        if self.not_replicated(&self.core.catalog.listed()).len() < limit { Ok(()) } else { Err(Error::ArchiveBehind) }
    }

    /// What a loss of the primary would lose now, as far as is cached; `None` if that is unknown, since the primary and
    /// the archive have not been compared since the start, or since the catalog cannot be read. Queries the archive
    /// only if it is `reachable`.
    pub(crate) async fn behind(&self, reachable: bool) -> Option<ReplicationLag> {
        let mut waiting = Vec::new();
        if !self.core.settings.archive_sync {
            let listed = self.core.catalog.listed();
            waiting = self.not_replicated(&listed);
            if reachable && !waiting.is_empty() && self.note_mirrored().await.is_ok() {
                waiting = self.not_replicated(&listed);
            }
        }
        let (uncompared, pending_images) = {
            let known = lock(&self.state);
            (known.uncompared, known.pending_images.union(&known.unrecorded).cloned().collect::<BTreeSet<_>>())
        };
        let queued = waiting.iter().filter_map(made_at).min();
        let waiting: BTreeSet<Uuid> = waiting.into_iter().collect();
        if uncompared || waiting.is_empty() && pending_images.is_empty() {
            return (!uncompared).then_some(ReplicationLag { images: 0, single_copies: 0, since: None });
        }
        self.lag(&waiting, &pending_images, queued).await.ok()
    }

    /// The lag while these commits and images wait, the oldest of the commits since `queued`.
    async fn lag(
        &self,
        waiting: &BTreeSet<Uuid>,
        pending_images: &BTreeSet<ImageId>,
        queued: Option<Timestamp>,
    ) -> Result<ReplicationLag> {
        let mut lag = ReplicationLag { images: 0, single_copies: 0, since: queued };
        let view = self.core.catalog.view();
        let mut images = self.core.catalog.images_of(waiting);
        images.extend(pending_images.iter().cloned());
        for id in images {
            let pending = pending_images.contains(&id);
            let Some(entry) = view.get(id.as_str()).await? else { continue };
            if !pending && !waiting.contains(&entry.stamp.commit) {
                continue;
            }
            lag.images += 1;
            lag.single_copies += u64::from(entry.live().is_some());
            let stored =
                entry.live().filter(|_| pending).and_then(|record| record.upload_date.as_deref()?.parse().ok());
            lag.since = lag.since.into_iter().chain(stored).min();
        }
        Ok(lag)
    }

    /// Marks the archive's gaps as unknown.
    pub fn note_uncompared(&self) {
        lock(&self.state).uncompared = true;
    }

    /// Records what a comparison found missing in the archive: images, and records of images.
    pub(crate) fn note_missing(&self, pending_images: BTreeSet<ImageId>, unrecorded: BTreeSet<ImageId>) {
        let mut known = lock(&self.state);
        (known.uncompared, known.pending_images, known.unrecorded) = (false, pending_images, unrecorded);
    }

    /// Records that an image's bytes are no longer pending.
    pub(crate) fn note_replicated(&self, id: &ImageId) {
        lock(&self.state).pending_images.remove(id);
    }
}

/// Whether the archive answers and rejects something.
pub(crate) fn is_refusal(error: &Error) -> bool {
    error.store_kind() == Some(ErrorKind::Refused)
}

/// The contents of the live images in a commit.
fn contents(commit: &Commit) -> impl Iterator<Item = (ImageId, Digest)> {
    commit.entries.iter().filter_map(|(id, entry)| Some((id.clone(), entry.live()?.sha256?)))
}

/// When a commit was made, by the clock of its writer.
fn made_at(commit: &Uuid) -> Option<Timestamp> {
    let (seconds, nanoseconds) = commit.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}
