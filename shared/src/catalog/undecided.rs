//! Commits whose outcome their writer does not know, and how it is decided.
//!
//! Such a commit may stand in a mirror and not in the primary. Readers, who look at the primary alone, would miss it, and
//! the next load, which joins the mirrors in, would bring it back. So the process that wrote it decides before it reads
//! again: the commit is stored as if for the first time, in the mirrors and then in the primary. Where that fails, the
//! reader sees that it is absent, and from then on it must not come back: this process joins no copy of it in, and each
//! fold tries to delete those that may stand in a mirror.

use uuid::Uuid;

use super::Catalog;
use crate::layout;
use crate::store::{Body, ErrorKind, Optional, PutMode, Store, StoreError};
use crate::sync::lock;

/// A commit of this process that may or may not stand.
#[derive(Debug)]
pub(super) struct Undecided {
    body: Body,
    /// Whether a reader was shown that it does not stand.
    absent: bool,
}

impl Catalog {
    /// The mirrors into which a commit is put before the primary.
    pub(super) fn mirrors_at_once(&self) -> &[Store] {
        if self.mirror_at_once { &self.mirrors } else { self.mirrors.get(1..).unwrap_or_default() }
    }

    pub(super) fn note_undecided(&self, id: Uuid, body: Body) {
        lock(&self.undecided).insert(id, Undecided { body, absent: false });
    }

    /// Whether this process does not know, or has decided to the contrary, that this commit stands.
    pub(super) fn is_undecided(&self, id: Uuid) -> bool {
        lock(&self.undecided).contains_key(&id)
    }

    /// Whether copies of a commit that readers saw absent may still stand in a mirror.
    pub(super) fn has_absent(&self) -> bool {
        lock(&self.undecided).values().any(|undecided| undecided.absent)
    }

    /// Stores the undecided commits again; returns those for which that failed.
    pub(super) async fn store_undecided(&self) -> Vec<Uuid> {
        let waiting: Vec<(Uuid, Body)> = {
            let undecided = lock(&self.undecided);
            let waiting = undecided.iter().filter(|(_, undecided)| !undecided.absent);
            waiting.map(|(id, undecided)| (*id, undecided.body.clone())).collect()
        };
        let mut failed = Vec::new();
        for (id, body) in waiting {
            // A place that fails for one of them fails for the others, and a reader waits.
            if failed.is_empty() {
                match self.store_again(id, &body).await {
                    Ok(()) => {
                        lock(&self.undecided).remove(&id);
                        continue;
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(commit = %id, error, "a commit with an unknown outcome could not be stored again");
                    }
                }
            }
            failed.push(id);
        }
        failed
    }

    async fn store_again(&self, id: Uuid, body: &Body) -> Result<(), StoreError> {
        let key = layout::commit(id);
        for place in self.mirrors_at_once().iter().chain([&self.primary]) {
            match place.put(&key, body, &PutMode::Create).await {
                Err(e) if e.kind == ErrorKind::AlreadyExists => {}
                put => drop(put?),
            }
        }
        Ok(())
    }

    /// Records what a reader is about to see of commits that could not be stored again.
    pub(super) fn decide(&self, failed: &[Uuid]) {
        if failed.is_empty() {
            return;
        }
        let (cache, mut undecided) = (self.cache(), lock(&self.undecided));
        for id in failed {
            if cache.listed.contains(id) {
                undecided.remove(id);
            } else if let Some(undecided) = undecided.get_mut(id) {
                undecided.absent = true;
            }
        }
    }

    /// Deletes what mirrors hold of commits that readers saw absent.
    pub(super) async fn take_back_absent(&self) -> Result<(), StoreError> {
        let absent: Vec<Uuid> = {
            let undecided = lock(&self.undecided);
            undecided.iter().filter(|(_, undecided)| undecided.absent).map(|(id, _)| *id).collect()
        };
        for id in absent {
            let key = layout::commit(id);
            // A put that reached the primary late has made it visible; what may have been seen is not taken back.
            if self.primary.head(&key).await.optional()?.is_none() {
                for mirror in &self.mirrors {
                    mirror.delete(&key).await?;
                }
            }
            lock(&self.undecided).remove(&id);
        }
        Ok(())
    }
}
