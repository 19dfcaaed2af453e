//! Compaction: moving commits into the checkpoints.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::piece::{self, Checkpoint, PieceError, decode_checkpoint};
use super::{
    Base, Cache, Catalog, CatalogError, Commit, Snapshot, State, TOMBSTONE_AGE, Tombstone, list_commits, offload,
    read_commit,
};
use crate::catalog::gc_hints::GcHints;
use crate::catalog::quarantine;
use crate::layout;
use store::{Body, Contention, ETag, ErrorKind, Key, Optional, PutMode, Store, StoreError};

/// The approximate length of a record in a checkpoint, in bytes; only decides whether encoding is worth a thread.
const RECORD_BYTES: usize = 500;

/// The outcome of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// There was nothing to compact.
    Nothing,
    /// This many commits are now in every checkpoint and deleted.
    Commits(usize),
    /// Another process compacted at the same time, to the same effect.
    Superseded,
}

/// A mirror's checkpoint.
pub(super) struct Mirrored {
    pub(super) etag: ETag,
    /// Its contents; empty if it is damaged.
    pub(super) state: State,
    /// Damaged or of the older format: quarantined before it is replaced.
    pub(super) replaceable: bool,
}

/// A compaction in progress: the primary's checkpoint contains its commits, and those of the mirrors are next. If it is
/// dropped before [`finish`](Self::finish), nothing else has changed, and the next compaction does all of it.
#[derive(Debug)]
pub(crate) struct Compaction<'a> {
    catalog: &'a Catalog,
    _turn: tokio::sync::MutexGuard<'a, ()>,
    body: Body,
    written: Snapshot,
    held: BTreeSet<Uuid>,
    /// The versions of the mirrors' checkpoints that `written` contains.
    mirror_tags: Vec<Option<ETag>>,
    done: bool,
}

impl Compaction<'_> {
    /// The commits being compacted.
    pub(crate) fn commits(&self) -> &BTreeSet<Uuid> {
        &self.held
    }

    /// Joins the primary's checkpoint into each mirror's, and deletes the commits.
    pub(crate) async fn finish(mut self) -> Result<Compacted, CatalogError> {
        let catalog = self.catalog;
        for place in 0..catalog.mirrors.len() {
            self.join_into_mirror(place).await?;
        }
        for mirror in &catalog.mirrors {
            catalog.sweep_mirror(mirror, &self.held, &self.written).await?;
        }
        for id in &self.held {
            catalog.primary.delete(&layout::commit(*id)).await?;
            catalog.cache_mut().listed.remove(id);
        }
        catalog.take_back_absent().await?;
        self.done = true;
        Ok(Compacted::Commits(self.held.len()))
    }

    /// Writes the checkpoint into a mirror by compare-and-set, joined with what only the mirror has.
    async fn join_into_mirror(&mut self, place: usize) -> Result<(), CatalogError> {
        let (mirror, key) = (&self.catalog.mirrors[place], layout::checkpoint());
        let mut known = self.mirror_tags[place].take();
        let mut contention = Contention::new(&key);
        loop {
            let (mode, joined) = match known.take() {
                Some(etag) => (PutMode::Update(etag), None),
                None => self.join_with_mirror(place).await?,
            };
            match mirror.put(&key, joined.as_ref().unwrap_or(&self.body), &mode).await {
                Ok(etag) => {
                    self.catalog.cache_mut().mirror_tags[place] = Some(etag);
                    return Ok(());
                }
                Err(e) if e.is_lost_race() => contention.lost().await?,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Reads a mirror's checkpoint: the condition on which it may be replaced, and the replacement if it contains
    /// anything that was not written. The cache cannot serve for that: it may have grown since by what must not be
    /// there yet.
    async fn join_with_mirror(&self, place: usize) -> Result<(PutMode, Option<Body>), CatalogError> {
        let catalog = self.catalog;
        let Some(Mirrored { etag, state, replaceable }) = catalog.join_mirror(place).await? else {
            return Ok((PutMode::Create, None));
        };
        if replaceable {
            catalog.set_aside(&catalog.mirrors[place], &layout::checkpoint()).await?;
        }
        if state.iter().all(|(id, entry)| self.written.covers(id, entry)) {
            return Ok((PutMode::Update(etag), None));
        }
        let mut joined = State::default();
        joined.join_all(&self.written);
        joined.join_all(&state);
        let store = catalog.cache().store_id;
        Ok((PutMode::Update(etag), store.map(|store| piece::encode_checkpoint(&joined, store).into())))
    }
}

impl Drop for Compaction<'_> {
    fn drop(&mut self) {
        if !self.done {
            // The mirrors still lack the contents of the primary's checkpoint.
            self.catalog.cache_mut().unsaved = true;
        }
    }
}

impl Catalog {
    /// Joins the commits into the primary's checkpoint and that into each mirror's, then deletes the commits.
    pub async fn compact(&self) -> Result<Compacted, CatalogError> {
        match self.begin_compaction().await? {
            Ok(fold) => fold.finish().await,
            Err(ended) => Ok(ended),
        }
    }

    /// Joins the commits into the primary's checkpoint, and does not delete them. Later commits are not part of this
    /// compaction. If there is nothing to do, or another process was faster, the compaction has ended.
    pub(crate) async fn begin_compaction(&self) -> Result<Result<Compaction<'_>, Compacted>, CatalogError> {
        let turn = self.compacting.lock().await;
        self.refresh().await?;
        if let Err(error) = self.expire_tombstones().await {
            // Tombstones can wait, even while the archive is unavailable; the file that users open cannot.
            tracing::warn!(error = &error as &dyn std::error::Error, "old tombstones stay for now");
        }
        if !self.needs_compaction() {
            return Ok(Err(Compacted::Nothing));
        }
        let (snapshot, store, base, held, mirror_tags) = {
            let cache = self.cache();
            let store = cache.store_id.unwrap_or_else(|| self.clock.new_id());
            (cache.state.snapshot(), store, cache.base.clone(), cache.listed.clone(), cache.mirror_tags.clone())
        };
        if let Base::Replaceable(_) = base {
            self.set_aside(&self.primary, &layout::checkpoint()).await?;
        }
        let records = snapshot.totals().uploads() as usize;
        let written = snapshot.clone();
        let encode = move || {
            let body = Body::from(piece::encode_checkpoint(&snapshot, store));
            let digest = body.digest();
            (body, digest)
        };
        let (body, digest) = offload(records.saturating_mul(RECORD_BYTES), encode).await;
        let put = match &base {
            // Only the mirrors lack it, perhaps for long.
            Base::Known(etag, there) if *there == digest => Ok(etag.clone()),
            base => self.primary.put(&layout::checkpoint(), &body, &base.put_mode()).await,
        };
        let etag = match put {
            Ok(etag) => etag,
            Err(e) if e.is_lost_race() => {
                return Ok(Err(Compacted::Superseded));
            }
            Err(e) => return Err(e.into()),
        };
        {
            let mut cache = self.cache_mut();
            cache.base = Base::Known(etag, digest);
            cache.store_id = Some(store);
            cache.unsaved = false;
        }
        Ok(Ok(Compaction { catalog: self, _turn: turn, body, written, held, mirror_tags, done: false }))
    }

    /// The commits of the primary that wait for compaction, according to the cache.
    pub(crate) fn listed(&self) -> BTreeSet<Uuid> {
        self.cache().listed.clone()
    }

    /// The commits that every mirror holds.
    pub(crate) async fn mirrored(&self) -> Result<BTreeSet<Uuid>, CatalogError> {
        let mut mirrored: Option<BTreeSet<Uuid>> = None;
        for mirror in &self.mirrors {
            let there = list_commits(mirror).await?;
            mirrored = Some(match mirrored {
                Some(mirrored) => mirrored.intersection(&there).copied().collect(),
                None => there,
            });
        }
        Ok(mirrored.unwrap_or_default())
    }

    /// A commit of the primary and its bytes; `None` if it is gone or cannot be trusted.
    pub(crate) async fn intact_commit(&self, id: Uuid) -> Result<Option<(Commit, Body)>, CatalogError> {
        let Some((bytes, _)) = self.primary.read(&layout::commit(id)).await.intact()? else { return Ok(None) };
        let body = Body::from(bytes.clone());
        let decoded = offload(bytes.len(), move || Commit::decode(&bytes)).await;
        Ok(decoded.ok().map(|commit| (commit, body)))
    }

    /// Puts a commit's replica into every mirror; into the archive last, which may be unavailable.
    pub(crate) async fn mirror_commit(&self, id: Uuid, body: &Body) -> Result<(), CatalogError> {
        for mirror in self.mirrors.iter().rev() {
            match mirror.put(&layout::commit(id), body, &PutMode::Create).await {
                Err(e) if e.kind != ErrorKind::AlreadyExists => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether enough commits wait that a compaction is worth its requests, if each request costs money: at most a
    /// tenth of the cost of reading them.
    pub fn compaction_is_worthwhile(&self) -> bool {
        let records = self.read(|state| state.totals().uploads()) as usize;
        self.uncompacted() >= (records / 50).clamp(10, 256)
    }

    /// Joins a mirror's checkpoint into the cache and returns its contents; `None` if it does not exist. Writes
    /// nothing.
    pub(super) async fn join_mirror(&self, place: usize) -> Result<Option<Mirrored>, CatalogError> {
        let (mirror, key) = (&self.mirrors[place], layout::checkpoint());
        let read = match mirror.read(&key).await {
            // Then the primary's checkpoint, which is written first, contains all of this one.
            Err(reason) if reason.kind == ErrorKind::Corrupt && matches!(self.cache().base, Base::Known(..)) => {
                tracing::error!(place = place + 1, %reason, "a replica of the checkpoint cannot be read");
                let there = mirror.head(&key).await.optional()?;
                return Ok(there.map(|meta| Mirrored { etag: meta.etag, state: State::default(), replaceable: true }));
            }
            read => read.optional()?,
        };
        let Some((bytes, etag)) = read else { return Ok(None) };
        match offload(bytes.len(), move || decode_checkpoint(&bytes)).await {
            Ok(Checkpoint::Ours(state, store)) => {
                let mut cache = self.cache_mut();
                cache.adopt_store(place + 1, store, &state)?;
                cache.unsaved |= cache.state.join_all(&state);
                Ok(Some(Mirrored { etag, state, replaceable: false }))
            }
            Ok(Checkpoint::Older(older)) => {
                let state = older.records.iter().cloned().collect();
                self.cache_mut().join_older(older);
                Ok(Some(Mirrored { etag, state, replaceable: true }))
            }
            Err(source @ PieceError::Newer(_)) => Err(CatalogError::Piece { key, source }),
            Err(reason) => {
                tracing::error!(place = place + 1, %reason, "a replica of the checkpoint is damaged");
                Ok(Some(Mirrored { etag, state: State::default(), replaceable: true }))
            }
        }
    }

    /// Joins the mirrors' checkpoints into the cache, skipping damaged ones; returns whether one of them is intact.
    pub(super) async fn join_mirrored_checkpoints(&self) -> Result<bool, CatalogError> {
        let mut whole = false;
        for place in 0..self.mirrors.len() {
            whole |= self.join_mirror(place).await?.is_some_and(|mirrored| !mirrored.replaceable);
        }
        Ok(whole)
    }

    /// Deletes replicas of commits that every checkpoint contains, if there are no commits that would cause a
    /// compaction. A replica that was written while its commit was being compacted came too late for that compaction.
    pub(crate) async fn sweep_strays(&self) -> Result<(), CatalogError> {
        let _turn = self.compacting.lock().await;
        self.refresh().await?;
        let held = {
            let cache = self.cache();
            if cache.unsaved {
                return Ok(());
            }
            cache.state.snapshot()
        };
        for mirror in &self.mirrors {
            self.sweep_mirror(mirror, &BTreeSet::new(), &held).await?;
        }
        Ok(())
    }

    /// Deletes a mirror's commits that the checkpoints contain: the compacted ones, and strays that a crash or a
    /// failure of this mirror left behind earlier.
    async fn sweep_mirror(
        &self,
        mirror: &Store,
        compacted: &BTreeSet<Uuid>,
        held: &Snapshot,
    ) -> Result<(), CatalogError> {
        for id in list_commits(mirror).await? {
            if compacted.contains(&id) || self.is_stray(mirror, id, held).await? {
                mirror.delete(&layout::commit(id)).await?;
            }
        }
        Ok(())
    }

    /// Whether the written checkpoint contains a mirror's commit, and the commit is not in the primary any more: it was
    /// deleted there after every checkpoint contained it. A commit that is not contained yet belongs to a writer
    /// between its two puts, or to a recovery that has read it and not written it yet, so the cache cannot serve for
    /// this check.
    async fn is_stray(&self, mirror: &Store, id: Uuid, held: &Snapshot) -> Result<bool, CatalogError> {
        let Some(Ok(commit)) = read_commit(mirror, id).await? else { return Ok(false) };
        let held = commit.entries.iter().all(|(name, entry)| held.covers(name, entry));
        Ok(held && self.primary.head(&layout::commit(id)).await.optional()?.is_none())
    }

    /// Drops tombstones that are old enough, while no location holds a commit: any commit might be an older state of a
    /// deleted image. First writes gc hints about the contents that may become unreferenced.
    async fn expire_tombstones(&self) -> Result<(), CatalogError> {
        let now = self.clock.now();
        let old = |t: &Tombstone| now.duration_since(t.deleted_at) > TOMBSTONE_AGE;
        let contents = |state: &State| {
            let old = state.iter().filter_map(|(_, entry)| entry.tombstone().filter(|tombstone| old(tombstone)));
            old.map(|tombstone| tombstone.sha256).collect::<BTreeSet<_>>()
        };
        let dropped = self.read(contents);
        if dropped.is_empty() {
            return Ok(());
        }
        for place in std::iter::once(&self.primary).chain(&self.mirrors) {
            if !list_commits(place).await?.is_empty() {
                return Ok(());
            }
        }
        // Nor may they come back from another process's checkpoint, to be counted twice.
        for place in 0..self.mirrors.len() {
            if !self.holds_mirror(place).await? {
                return Ok(());
            }
        }
        if !self.may_expire(&self.cache()) {
            return Ok(());
        }
        if let Some(archive) = self.mirrors.first() {
            let images = dropped.iter().flatten().copied().collect();
            GcHints::of_images(images).put(archive, self.clock.new_id()).await?;
        }
        let mut cache = self.cache_mut();
        if self.may_expire(&cache) {
            cache.state.expire_tombstones(|tombstone| old(tombstone) && dropped.contains(&tombstone.sha256));
            cache.unsaved = true;
        }
        Ok(())
    }

    /// Whether the cache contains every piece of every location, and everything in it is in a checkpoint.
    fn may_expire(&self, cache: &Cache) -> bool {
        cache.listed.is_empty() && cache.mirror_tags.iter().all(Option::is_some)
    }

    /// Copies an object that is about to be replaced or deleted into the archive's quarantine; returns whether it is
    /// there now.
    pub(super) async fn set_aside(&self, place: &Store, key: &Key) -> Result<bool, StoreError> {
        match self.mirrors.first() {
            Some(archive) => quarantine::quarantine(archive, place, key).await,
            None => Ok(false),
        }
    }
}
