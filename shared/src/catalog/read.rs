//! Reading: the checkpoint, its commits, and the confirmation that nothing was missed between them.

use std::collections::HashMap;

use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::{
    Base, Catalog, CatalogError, Checkpoint, Commit, PieceError, Readable, State, decode_checkpoint, list_commits,
    offload, read_commit,
};
use crate::base::single_flight::Failure;
use crate::layout;
use store::digest::Digest;
use store::sync::lock;
use store::{ErrorKind, Optional};

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

    async fn refresh_alone(&self) -> Result<(), CatalogError> {
        let absent = self.store_undecided().await;
        self.read_all().await?;
        self.decide(&absent);
        Ok(())
    }

    async fn read_all(&self) -> Result<(), CatalogError> {
        if self.cache().base == Base::NotRead {
            self.read_checkpoint().await?;
            let mut cache = self.cache_mut();
            let uploads = cache.state.totals().uploads();
            cache.uploads_at_first.get_or_insert(uploads);
        }
        for _ in 0..ROUNDS {
            let none_vanished = self.read_new_commits().await?;
            let now = self.primary.head(&layout::checkpoint()).await.optional()?.map(|meta| meta.etag);
            if self.cache().base.etag() != now.as_ref() {
                self.read_checkpoint().await?;
            } else if none_vanished {
                return Ok(());
            }
        }
        Err(CatalogError::TooContended)
    }

    /// Joins the primary's checkpoint into the cache.
    async fn read_checkpoint(&self) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS {
            if self.join_checkpoint().await? {
                return Ok(());
            }
        }
        Err(CatalogError::TooContended)
    }

    /// Joins the primary's checkpoint into the cache; returns false, with nothing joined, if a commit has been
    /// compacted into a newer one meanwhile.
    async fn join_checkpoint(&self) -> Result<bool, CatalogError> {
        let key = layout::checkpoint();
        let read = match self.primary.read(&key).await {
            Err(reason) if reason.kind == ErrorKind::Corrupt => {
                tracing::error!(%key, %reason, "the checkpoint cannot be read; its replica is used");
                let etag = self.primary.head(&key).await?.etag;
                // It may become readable again, so without a replica it must not be replaced.
                if !self.join_mirrored_checkpoints().await? {
                    return Err(reason.into());
                }
                self.cache_mut().base = Base::Replaceable(etag);
                return Ok(true);
            }
            read => read.optional()?,
        };
        let Some((bytes, etag)) = read else {
            self.join_mirrored_checkpoints().await?;
            let mut cache = self.cache_mut();
            cache.unsaved |= cache.state.totals().uploads() > 0;
            cache.base = Base::Absent;
            return Ok(true);
        };
        let (decoded, digest) = offload(bytes.len(), move || (decode_checkpoint(&bytes), Digest::of(&bytes))).await;
        match decoded {
            Ok(Checkpoint::Ours(state, store)) => {
                self.cache_mut().adopt_store(0, store, &state)?;
                let base = Base::Known(etag, digest);
                if state.totals().dropped > self.read(|ours| ours.totals().dropped) {
                    return self.start_again(&state, base).await;
                }
                let mut cache = self.cache_mut();
                cache.state.join_all(&state);
                cache.base = base;
            }
            Ok(Checkpoint::Older(older)) => {
                // It may have replaced ours.
                self.join_mirrored_checkpoints().await?;
                let mut cache = self.cache_mut();
                cache.join_older(older);
                cache.base = Base::Replaceable(etag);
            }
            Err(source @ PieceError::Newer(_)) => return Err(CatalogError::Piece { key, source }),
            Err(reason) => {
                tracing::error!(%key, %reason, "the checkpoint is damaged; its replica is used");
                self.join_mirrored_checkpoints().await?;
                self.cache_mut().base = Base::Replaceable(etag);
            }
        }
        Ok(true)
    }

    /// Replaces the contents of the cache with a checkpoint: tombstones were dropped that the cache may never have
    /// seen, so it may contain deleted images. First reads again the commits that the cache contains, so that the
    /// switch is one step and no reader misses an acknowledged change. Returns false if one of them has been compacted
    /// into a newer checkpoint.
    async fn start_again(&self, state: &State, base: Base) -> Result<bool, CatalogError> {
        let mut anew: HashMap<Uuid, Fetched> = HashMap::new();
        loop {
            let missing: Vec<Uuid> = {
                let mut cache = self.cache_mut();
                let missing: Vec<Uuid> = cache.listed.iter().filter(|id| !anew.contains_key(id)).copied().collect();
                if missing.is_empty() {
                    cache.start_again();
                    cache.state.join_all(state);
                    for fetched in anew.values() {
                        if let Fetched::Commit(commit) = fetched {
                            cache.hold(commit);
                        }
                    }
                    cache.base = base;
                    return Ok(true);
                }
                missing
            };
            for id in missing {
                let fetched = self.fetch_commit(id).await?;
                if matches!(fetched, Fetched::Vanished) {
                    self.cache_mut().listed.remove(&id);
                    return Ok(false);
                }
                anew.insert(id, fetched);
            }
        }
    }

    /// Joins the commits that the cache lacks; returns false if one vanished between listing and reading.
    async fn read_new_commits(&self) -> Result<bool, CatalogError> {
        let present = list_commits(&self.primary).await?;
        let new: Vec<Uuid> = {
            let mut cache = self.cache_mut();
            cache.listed.retain(|id| present.contains(id));
            let mut damaged = lock(&self.damaged);
            damaged.retain(|id, readable| *readable != Readable::NotNow || present.contains(id));
            let unreadable = |id: &Uuid| damaged.get(id) == Some(&Readable::Nowhere);
            present.iter().filter(|id| !cache.listed.contains(id) && !unreadable(id)).copied().collect()
        };
        let mut none_vanished = true;
        let mut fetched = stream::iter(new).map(|id| self.fetch_commit(id)).buffered(FETCHES);
        while let Some(fetch) = fetched.try_next().await? {
            match fetch {
                Fetched::Commit(commit) => self.cache_mut().hold(&commit),
                Fetched::Vanished => none_vanished = false,
                Fetched::Unreadable => {}
            }
        }
        Ok(none_vanished)
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
            tracing::error!(commit = %id, %reason, "a commit can be read in no place");
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
