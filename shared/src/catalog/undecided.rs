//! Commits whose outcome their writer does not know, and how it is decided.
//!
//! Such a commit may stand in a mirror and not in the primary. Readers, who look at the primary alone, would miss it, and
//! the next load, which joins the mirrors in, would bring it back. So the process that wrote it decides before it reads
//! again: the commit is stored as if for the first time, in the mirrors and then in the primary. Where that fails, the
//! reader sees that it is absent, and from then on it must not come back: this process joins no copy of it in, and each
//! fold tries to delete those that may stand in a mirror.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::Catalog;
use crate::base::single_flight::within;
use crate::layout;
use store::sync::lock;
use store::{Body, ErrorKind, Optional, PutMode, Store, StoreError};

/// For so long after its commit a change is stored again. Later, others may have changed the same images, and bytes that no
/// record names may have been set aside.
const STORED_AGAIN_FOR: SignedDuration = SignedDuration::from_secs(60);
/// How long a reader waits for a commit to be stored again: a place that hangs must not keep it from the others.
const PATIENCE: Duration = Duration::from_secs(3);

/// A commit of this process that may or may not stand.
#[derive(Debug)]
pub(super) enum Undecided {
    /// Nothing was read since: it may be stored again.
    Open { body: Body, since: Timestamp },
    /// A reader was shown that it does not stand.
    Absent,
}

impl Catalog {
    /// The mirrors into which a commit is put before the primary.
    pub(super) fn mirrors_at_once(&self) -> &[Store] {
        if self.mirror_at_once { &self.mirrors } else { self.mirrors.get(1..).unwrap_or_default() }
    }

    pub(super) fn note_undecided(&self, id: Uuid, body: Body) {
        lock(&self.undecided).insert(id, Undecided::Open { body, since: self.clock.now() });
    }

    /// Whether this process does not know, or has decided to the contrary, that this commit stands.
    pub(super) fn is_undecided(&self, id: Uuid) -> bool {
        lock(&self.undecided).contains_key(&id)
    }

    /// Whether copies of a commit that readers saw absent may still stand in a mirror.
    pub(super) fn has_absent(&self) -> bool {
        lock(&self.undecided).values().any(|undecided| matches!(undecided, Undecided::Absent))
    }

    /// Stores the undecided commits again; returns those for which that failed, or for which it is too late.
    pub(super) async fn store_undecided(&self) -> Vec<Uuid> {
        let waiting: Vec<(Uuid, Body, Timestamp)> = {
            let undecided = lock(&self.undecided);
            let waiting = undecided.iter().filter_map(|(id, undecided)| match undecided {
                Undecided::Open { body, since } => Some((*id, body.clone(), *since)),
                Undecided::Absent => None,
            });
            waiting.collect()
        };
        let mut failed = Vec::new();
        for (id, body, since) in waiting {
            let too_late = self.clock.now().duration_since(since).abs() > STORED_AGAIN_FOR;
            // A place that fails for one of them fails for the others, and a reader waits.
            if failed.is_empty() && !too_late {
                match within(PATIENCE, self.store_again(id, &body)).await {
                    Some(Ok(())) => {
                        lock(&self.undecided).remove(&id);
                        continue;
                    }
                    Some(Err(error)) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(commit = %id, error, "a commit with an unknown outcome could not be stored again");
                    }
                    None => tracing::warn!(commit = %id, "a place did not answer in time to store a commit again"),
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
                *undecided = Undecided::Absent;
            }
        }
    }

    /// Deletes what mirrors hold of commits that readers saw absent.
    pub(super) async fn take_back_absent(&self) -> Result<(), StoreError> {
        let absent: Vec<Uuid> = {
            let undecided = lock(&self.undecided);
            undecided
                .iter()
                .filter(|(_, undecided)| matches!(undecided, Undecided::Absent))
                .map(|(id, _)| *id)
                .collect()
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
