//! Reading: the root, the commits, and the confirmation that nothing was missed between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::SignedDuration;
use uuid::Uuid;

use super::{Base, Catalog, CatalogError, Commit, PieceError, Readable, View, list_commits, read_commit};
use crate::base::single_flight::Failure;
use crate::layout;
use store::sync::lock;
use store::{ETag, ErrorKind, Optional};

/// Commits fetched concurrently.
const FETCHES: usize = 16;
/// How many times a reader starts again because compactions were faster; in each round another process made progress.
const ROUNDS: usize = 64;

impl Catalog {
    /// Updates the cache with every change that was acknowledged before the call, by any process. Two small requests if
    /// nothing changed. Callers that arrive while a refresh runs share the next one, and its failure as well.
    ///
    /// It also decides the outcome of this process's commits whose outcome is unknown.
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        let refreshed = self.refreshing.run(self.refresh_alone()).await;
        refreshed.map_err(|failure| match failure {
            Failure::Failed(reason) => CatalogError::Shared(reason),
            Failure::TimedOut => CatalogError::TimedOut,
        })
    }

    /// Whether the cache has every change that was acknowledged more than `age` ago, by any process.
    pub fn is_fresh(&self, age: SignedDuration) -> bool {
        let refreshed_at = *lock(&self.refreshed_at);
        refreshed_at.is_some_and(|at| (SignedDuration::ZERO..age).contains(&self.clock.now().duration_since(at)))
    }

    async fn refresh_alone(&self) -> Result<(), CatalogError> {
        let began = self.clock.now();
        let absent = self.store_undecided().await;
        self.read_all().await?;
        self.decide(&absent);
        *lock(&self.refreshed_at) = Some(began);
        Ok(())
    }

    async fn read_all(&self) -> Result<(), CatalogError> {
        if self.cache().base == Base::NotRead {
            self.read_root().await?;
            let mut cache = self.cache_mut();
            let uploads = cache.view.totals().uploads();
            cache.uploads_at_first.get_or_insert(uploads);
        }
        for _ in 0..ROUNDS {
            let none_vanished = match self.read_new_commits().await {
                // The pages of a root that was replaced long ago may be gone.
                Err(error) if error.is_damage() => Err(error),
                read => Ok(read?),
            };
            let now = self.primary.head(&layout::root()).await.optional()?.map(|meta| meta.etag);
            if self.cache().base.etag() != now.as_ref() {
                self.read_root().await?;
            } else if none_vanished? {
                return Ok(());
            }
        }
        Err(CatalogError::TooContended)
    }

    /// Makes the primary's root that of the view, with everything joined in that the view had.
    async fn read_root(&self) -> Result<(), CatalogError> {
        let key = layout::root();
        let read = match self.root_of(0).await {
            Err(reason) if reason.kind == ErrorKind::Corrupt => {
                tracing::error!(%key, %reason, "the root of the catalog cannot be read; its replica is used");
                let etag = self.primary.head(&key).await?.etag;
                // It may become readable again, so without a replica it must not be replaced.
                if !self.join_mirrored_roots().await? {
                    return Err(reason.into());
                }
                self.cache_mut().base = Base::Damaged(etag);
                return Ok(());
            }
            read => read.optional()?,
        };
        let Some((etag, decoded)) = read else {
            self.join_replicas().await?;
            let mut cache = self.cache_mut();
            cache.unsaved |= cache.view.totals().uploads() > 0;
            cache.base = Base::Absent;
            return Ok(());
        };
        match decoded {
            Ok((root, store)) => {
                let theirs = View::at(Arc::new(root), &self.readers[0]);
                self.cache_mut().adopt_store(0, store, &theirs)?;
                self.switch_to(theirs, etag).await
            }
            Err(source @ PieceError::Newer(_)) => Err(CatalogError::Piece { key, source }),
            Err(reason) => {
                tracing::error!(%key, %reason, "the root of the catalog is damaged; its replica is used");
                self.join_replicas().await?;
                self.cache_mut().base = Base::Damaged(etag);
                Ok(())
            }
        }
    }

    /// Joins what may replace the primary's root: the roots of the mirrors, which may lag, and the metadata files.
    async fn join_replicas(&self) -> Result<(), CatalogError> {
        let has_root = self.join_mirrored_roots().await?;
        for place in 0..self.pages.len() {
            match self.join_replica(place).await {
                Err(error) if has_root => tracing::error!(place, %error, "a metadata file cannot be read"),
                joined => joined?,
            }
        }
        Ok(())
    }

    /// Replaces the view by the primary's root, which has this version, and joins in what the view had.
    ///
    /// If tombstones were dropped that the view may never have had, it may have deleted images. Then only the commits
    /// that still exist are joined in.
    async fn switch_to(&self, mut root: View, etag: ETag) -> Result<(), CatalogError> {
        let _joining = self.joining.lock().await;
        let before = self.view();
        if root.root.dropped_tombstones > before.root.dropped_tombstones && before.totals().uploads() > 0 {
            return self.start_again(root, etag).await;
        }
        let own = Arc::clone(&root.root);
        match root.join_all(&before).await {
            // The pages of a root that was replaced long ago may be gone; the primary's root has all that it had.
            Err(error) if error.is_damage() && matches!(self.cache().base, Base::Known(_)) => {
                tracing::info!(%error, "the root that this process read last has been pruned");
                for (id, overlaid) in before.overlay.iter() {
                    root.join(id, &overlaid.entry).await?;
                }
            }
            joined => _ = joined?,
        }
        let mut cache = self.cache_mut();
        cache.base = Base::Known(etag);
        cache.note_new_root(own, &root.root);
        cache.view = root;
        Ok(())
    }

    /// Replaces the view by the primary's root and the commits that exist, in one step, so that no reader misses an
    /// acknowledged change. Changes nothing if the root has changed meanwhile; the caller reads it again.
    async fn start_again(&self, mut root: View, etag: ETag) -> Result<(), CatalogError> {
        let mut listed = BTreeMap::new();
        for id in list_commits(&self.primary).await? {
            match self.fetch_commit(id).await? {
                Fetched::Commit(commit) => {
                    root.join_commit(&commit).await?;
                    listed.insert(id, commit.images());
                }
                Fetched::Vanished => return Ok(()),
                Fetched::Unreadable => {}
            }
        }
        let now = self.primary.head(&layout::root()).await.optional()?.map(|meta| meta.etag);
        if now.as_ref() == Some(&etag) {
            let mut cache = self.cache_mut();
            cache.view = root;
            cache.base = Base::Known(etag);
            cache.listed = listed;
            cache.mirrored.fill(None);
            cache.unsaved = false;
        }
        Ok(())
    }

    /// Joins the commits that the cache lacks; returns false if one vanished between listing and reading.
    async fn read_new_commits(&self) -> Result<bool, CatalogError> {
        let present = list_commits(&self.primary).await?;
        let new: Vec<Uuid> = {
            let mut cache = self.cache_mut();
            cache.listed.retain(|id, _| present.contains(id));
            let mut damaged = lock(&self.damaged);
            damaged.retain(|id, readable| *readable != Readable::NotNow || present.contains(id));
            let unreadable = |id: &Uuid| damaged.get(id) == Some(&Readable::Nowhere);
            present.iter().filter(|id| !cache.listed.contains_key(id) && !unreadable(id)).copied().collect()
        };
        let mut none_vanished = true;
        let mut fetched = stream::iter(new).map(|id| self.fetch_commit(id)).buffered(FETCHES);
        while let Some(fetch) = fetched.try_next().await? {
            match fetch {
                Fetched::Commit(commit) => self.hold(&commit).await?,
                Fetched::Vanished => none_vanished = false,
                Fetched::Unreadable => {}
            }
        }
        Ok(none_vanished)
    }

    /// Joins a commit of the primary into the view.
    pub(super) async fn hold(&self, commit: &Commit) -> Result<(), CatalogError> {
        self.change_view(async |view| view.join_commit(commit).await).await?;
        self.cache_mut().listed.insert(commit.id, commit.images());
        Ok(())
    }

    /// Reads a commit from the primary, or from a mirror if the primary's copy is damaged.
    async fn fetch_commit(&self, id: Uuid) -> Result<Fetched, CatalogError> {
        let Some(decoded) = read_commit(&self.primary, id).await? else { return Ok(Fetched::Vanished) };
        let reason = match decoded {
            Ok(commit) => {
                lock(&self.damaged).remove(&id);
                return Ok(Fetched::Commit(commit));
            }
            Err(reason) => reason,
        };
        let mut readable = Readable::after(&reason);
        for mirror in &self.mirrors {
            match read_commit(mirror, id).await? {
                Some(Ok(commit)) => {
                    lock(&self.damaged).insert(id, Readable::InMirror);
                    return Ok(Fetched::Commit(commit));
                }
                Some(Err(reason)) if Readable::after(&reason) == Readable::NotNow => readable = Readable::NotNow,
                _ => {}
            }
        }
        if lock(&self.damaged).insert(id, readable) != Some(readable) {
            tracing::error!(commit = %id, %reason, "a commit can be read in no location");
        }
        Ok(Fetched::Unreadable)
    }
}

impl Readable {
    /// The state of a commit of which one copy failed with this reason.
    fn after(reason: &PieceError) -> Self {
        if matches!(reason, PieceError::Unreadable(_)) { Self::NotNow } else { Self::Nowhere }
    }
}

enum Fetched {
    Commit(Commit),
    Vanished,
    Unreadable,
}
