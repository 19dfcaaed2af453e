//! Compaction: moving commits into a new root.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::TryStreamExt;
use jiff::Timestamp;
use uuid::Uuid;

use super::root::Root;
use super::{Base, Catalog, CatalogError, Commit, TOMBSTONE_AGE, View, list_commits, offload, read_commit};
use crate::layout::{self, ImageId};
use store::{Body, ETag, ErrorKind, Optional, PutMode, Store};

/// The outcome of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// There was nothing to compact.
    Nothing,
    /// This many commits are now in every root and deleted.
    Commits(usize),
    /// Another process compacted at the same time, or a mirror or a metadata file had more: the next compaction has the
    /// rest.
    Superseded,
}

/// A compaction in progress: the primary's root contains its commits, and those of the mirrors are next. If it is
/// dropped before [`finish`](Self::finish), nothing else has changed, and the next compaction does all of it.
#[derive(Debug)]
pub(crate) struct Compaction<'a> {
    catalog: &'a Catalog,
    _turn: tokio::sync::MutexGuard<'a, ()>,
    store: Uuid,
    /// The primary's root, and its document.
    written: View,
    body: Body,
    /// The metadata file, if it was needed already.
    file: Option<Body>,
    held: BTreeSet<Uuid>,
    /// The versions of the mirrors' roots that `written` contains.
    mirrored: Vec<Option<(ETag, Arc<Root>)>>,
    done: bool,
}

impl Compaction<'_> {
    /// The commits being compacted.
    pub(crate) fn commits(&self) -> &BTreeSet<Uuid> {
        &self.held
    }

    /// Brings each mirror's root up to date, and deletes the commits.
    pub(crate) async fn finish(mut self) -> Result<Compacted, CatalogError> {
        let catalog = self.catalog;
        for mirror in 0..catalog.mirrors.len() {
            let known = self.mirrored[mirror].take();
            if !catalog.replicate_root(mirror, &self.written, &self.body, known).await? {
                return Ok(Compacted::Superseded);
            }
        }
        if !catalog.write_files_if_due(1..catalog.pages.len(), &self.written, self.store, &mut self.file).await {
            return Ok(Compacted::Superseded);
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
}

impl Drop for Compaction<'_> {
    fn drop(&mut self) {
        if !self.done {
            // The mirrors still lack the contents of the primary's root.
            self.catalog.cache_mut().unsaved = true;
        }
    }
}

impl Catalog {
    /// Joins the commits into the primary's root and that into each mirror's, then deletes the commits.
    pub async fn compact(&self) -> Result<Compacted, CatalogError> {
        match self.begin_compaction().await? {
            Ok(compaction) => compaction.finish().await,
            Err(ended) => Ok(ended),
        }
    }

    /// Joins the commits into the primary's root, and does not delete them. Later commits are not part of this
    /// compaction. If there is nothing to do, or another process was faster, the compaction has ended.
    pub(crate) async fn begin_compaction(&self) -> Result<Result<Compaction<'_>, Compacted>, CatalogError> {
        let turn = self.compacting.lock().await;
        self.refresh().await?;
        let (view, store, base, held, mirrored): (_, _, _, BTreeSet<Uuid>, _) = {
            let cache = self.cache();
            let store = cache.store_id.unwrap_or_else(|| self.clock.new_id());
            (
                cache.view.clone(),
                store,
                cache.base.clone(),
                cache.listed.keys().copied().collect(),
                cache.mirrored.clone(),
            )
        };
        let is_settled = view.overlay.is_empty() && held.is_empty() && mirrored.iter().all(Option::is_some);
        let expired = if is_settled { self.expired_tombstones(&view).await } else { Ok(Vec::new()) };
        let expired = expired.unwrap_or_else(|error| {
            // Tombstones can wait, even while the archive is unavailable; the file that users open cannot.
            tracing::warn!(error = &error as &dyn std::error::Error, "old tombstones stay for now");
            Vec::new()
        });
        let is_file_due = (0..self.pages.len()).any(|place| self.is_file_due(place));
        if expired.is_empty() && !self.needs_compaction() && !is_file_due {
            return Ok(Err(Compacted::Nothing));
        }
        if let Base::Damaged(_) = base {
            self.set_aside(&self.primary, &layout::root()).await?;
        }
        let root = Arc::new(view.compacted(&expired).await?);
        let written = View::at(Arc::clone(&root), &self.readers[0]);
        let present = match &base {
            Base::Known(_) => None,
            Base::Joined(_, present) => Some(Arc::clone(present)),
            Base::NotRead | Base::Absent | Base::Damaged(_) => Some(Arc::default()),
        };
        if let Some(present) = present
            && view.root.names.top().is_some()
        {
            // The view is based on a mirror's root, whose pages the primary may lack.
            self.copy_pages(&written, &present, 0).await?;
        }
        let body = Body::from(root.encode(store));
        let put = match &base {
            // Only the mirrors or the metadata files lack it, perhaps for long.
            Base::Known(etag) if *root == *view.root => Ok(etag.clone()),
            base => self.primary.put(&layout::root(), &body, &base.put_mode()).await,
        };
        let etag = match put {
            Ok(etag) => etag,
            Err(e) if e.is_lost_race() => return Ok(Err(Compacted::Superseded)),
            Err(e) => return Err(e.into()),
        };
        self.note_written((&base, &view.root), etag, &written, store).await?;
        let mut file = None;
        if !self.write_files_if_due(0..1, &written, store, &mut file).await {
            return Ok(Err(Compacted::Superseded));
        }
        Ok(Ok(Compaction { catalog: self, _turn: turn, store, written, body, file, held, mirrored, done: false }))
    }

    /// Makes the root that was just written that of the view, unless a newer one has been read since.
    async fn note_written(
        &self,
        (base, root): (&Base, &Arc<Root>),
        etag: ETag,
        written: &View,
        store: Uuid,
    ) -> Result<(), CatalogError> {
        self.change_view(async |view| {
            if self.cache().base != *base || !Arc::ptr_eq(&view.root, root) {
                return Ok(());
            }
            let mut next = written.clone();
            for (id, overlaid) in view.overlay.iter() {
                next.join(id, &overlaid.entry).await?;
            }
            *view = next;
            let mut cache = self.cache_mut();
            cache.base = Base::Known(etag);
            cache.store_id = Some(store);
            cache.unsaved = false;
            Ok(())
        })
        .await
    }

    /// Writes the metadata files of these locations that are due; returns false if one of them has something that the
    /// root lacks. A failure delays nothing else: the file stays due.
    async fn write_files_if_due(
        &self,
        places: std::ops::Range<usize>,
        written: &View,
        store: Uuid,
        file: &mut Option<Body>,
    ) -> bool {
        for place in places {
            if !self.is_file_due(place) {
                continue;
            }
            match self.write_file(place, written, store, file).await {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(place, error, "image-metadata.json could not be written; it will be retried");
                }
            }
        }
        true
    }

    /// The commits of the primary that wait for compaction, according to the cache.
    pub(crate) fn listed(&self) -> BTreeSet<Uuid> {
        self.cache().listed.keys().copied().collect()
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

    /// Whether enough commits wait that a compaction is worth its requests, if each request costs money: it takes about
    /// as many as these commits took.
    pub fn compaction_is_worthwhile(&self) -> bool {
        const COMMITS: usize = 32;
        self.uncompacted() >= COMMITS
    }

    /// Deletes replicas of commits that every root contains, if there are no commits that would cause a
    /// compaction. A replica that was written while its commit was being compacted came too late for that compaction.
    pub(crate) async fn sweep_strays(&self) -> Result<(), CatalogError> {
        let _turn = self.compacting.lock().await;
        self.refresh().await?;
        if self.cache().unsaved {
            return Ok(());
        }
        let held = self.view();
        for mirror in &self.mirrors {
            self.sweep_mirror(mirror, &BTreeSet::new(), &held).await?;
        }
        Ok(())
    }

    /// Deletes a mirror's commits that the roots contain: the compacted ones, and strays that a crash or a
    /// failure of this mirror left behind earlier.
    async fn sweep_mirror(&self, mirror: &Store, compacted: &BTreeSet<Uuid>, held: &View) -> Result<(), CatalogError> {
        for id in list_commits(mirror).await? {
            if compacted.contains(&id) || self.is_stray(mirror, id, held).await? {
                mirror.delete(&layout::commit(id)).await?;
            }
        }
        Ok(())
    }

    /// Whether the written root contains a mirror's commit, and the commit is not in the primary any more: it was
    /// deleted there after every root contained it. A commit that is not contained yet belongs to a writer
    /// between its two puts, or to a recovery that has read it and not written it yet, so the cache cannot serve for
    /// this check.
    async fn is_stray(&self, mirror: &Store, id: Uuid, held: &View) -> Result<bool, CatalogError> {
        let Some(Ok(commit)) = read_commit(mirror, id).await? else { return Ok(false) };
        Ok(held.holds(&commit).await? && self.primary.head(&layout::commit(id)).await.optional()?.is_none())
    }

    /// The tombstones of a state that are old enough to be dropped, each with its version; none if any location holds a
    /// commit, which might be an older state of a deleted image.
    async fn expired_tombstones(&self, view: &View) -> Result<Vec<(ImageId, u64)>, CatalogError> {
        let before = self.clock.now() - TOMBSTONE_AGE;
        let mut expired = Vec::new();
        let mut deleted = view.by_name(move |sums| sums.first_deletion.is_some_and(|first| is_before(first, before)));
        while let Some((id, entry)) = deleted.try_next().await? {
            if entry.tombstone().is_some_and(|tombstone| tombstone.deleted_at < before) {
                expired.push((id, entry.stamp.version));
            }
        }
        if expired.is_empty() {
            return Ok(expired);
        }
        for location in self.locations() {
            if !list_commits(location).await?.is_empty() {
                return Ok(Vec::new());
            }
        }
        // Nor may they come back from another process's root, to be counted twice.
        for mirror in 0..self.mirrors.len() {
            if !self.holds_mirror(mirror).await? {
                return Ok(Vec::new());
            }
        }
        Ok(expired)
    }
}

fn is_before(first: i64, before: Timestamp) -> bool {
    first < before.as_millisecond()
}
