//! Commits whose outcome is unknown to their writer, and how it is decided.
//!
//! Such a commit may exist in a mirror and not in the primary. Readers, which only look at the primary, would miss it,
//! and the next load, which joins the mirrors, would bring it back. So the process that wrote it decides before it
//! reads again: it stores the commit as if for the first time, in the mirrors and then in the primary. If that fails,
//! the reader finds the commit absent, and from then on it must not come back: this process joins no copy of it, and
//! each compaction tries to delete the copies that mirrors may hold.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::Catalog;
use crate::base::single_flight::within;
use crate::layout;
use store::sync::lock;
use store::{Body, ErrorKind, Optional, PutMode, Store, StoreError};

/// How long after its commit a change may be stored again. Later, other processes may have changed the same images, and
/// unreferenced bytes may have been quarantined.
const STORED_AGAIN_FOR: SignedDuration = SignedDuration::from_secs(60);
/// How long a reader waits for a commit to be stored again: a location that hangs must not block access to the others.
const PATIENCE: Duration = Duration::from_secs(3);

/// A commit of this process that may or may not exist.
#[derive(Debug)]
pub(super) enum Undecided {
    /// No read since: it may be stored again.
    Open { body: Body, since: Timestamp },
    /// A reader has found it absent, or the same change is stored again under another id.
    Absent,
}

impl Catalog {
    /// The mirrors that receive a commit before the primary does.
    pub(super) fn mirrors_at_once(&self) -> &[Store] {
        if self.mirror_at_once { &self.mirrors } else { self.mirrors.get(1..).unwrap_or_default() }
    }

    pub(super) fn note_undecided(&self, id: Uuid, body: Body) {
        lock(&self.undecided).insert(id, Undecided::Open { body, since: self.clock.now() });
    }

    /// Takes note that this commit must not be joined, and that its copies are to be deleted.
    pub(super) fn note_absent(&self, id: Uuid) {
        lock(&self.undecided).insert(id, Undecided::Absent);
    }

    /// Whether this commit's outcome is unknown to this process, or was decided as absent.
    pub(super) fn is_undecided(&self, id: Uuid) -> bool {
        lock(&self.undecided).contains_key(&id)
    }

    /// Whether mirrors may still hold copies of a commit that readers found absent.
    pub(super) fn has_absent(&self) -> bool {
        lock(&self.undecided).values().any(|undecided| matches!(undecided, Undecided::Absent))
    }

    /// Stores the undecided commits again; returns those for which that failed, or for which it is too late.
    pub(super) async fn store_undecided(&self) -> Vec<Uuid> {
        let if_open = |(id, undecided): (&Uuid, &Undecided)| match undecided {
            Undecided::Open { body, since } => Some((*id, body.clone(), *since)),
            Undecided::Absent => None,
        };
        let waiting: Vec<(Uuid, Body, Timestamp)> = lock(&self.undecided).iter().filter_map(if_open).collect();
        let (mut failed, count) = (Vec::new(), waiting.len());
        for (id, body, since) in waiting {
            let too_late = self.clock.now().duration_since(since).abs() > STORED_AGAIN_FOR;
            // A location that fails for one of them fails for the others, and a reader waits.
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
                    None => tracing::warn!(commit = %id, "a location did not answer in time to store a commit again"),
                }
            }
            failed.push(id);
        }
        if failed.len() < count
            && let Some(Err(error)) = within(PATIENCE, self.take_back_absent()).await
        {
            // The locations answer again, but not to this. The next compaction tries as well.
            tracing::warn!(error = &error as &dyn std::error::Error, "copies of an absent commit could not be deleted");
        }
        failed
    }

    async fn store_again(&self, id: Uuid, body: &Body) -> Result<(), StoreError> {
        let key = layout::commit(id);
        for location in self.mirrors_at_once().iter().chain([&self.primary]) {
            match location.put(&key, body, &PutMode::Create).await {
                Err(e) if e.kind == ErrorKind::AlreadyExists => {}
                put => drop(put?),
            }
        }
        Ok(())
    }

    /// Records the decision about commits that could not be stored again, before a reader sees it.
    pub(super) fn decide(&self, failed: &[Uuid]) {
        if failed.is_empty() {
            return;
        }
        let (cache, mut undecided) = (self.cache(), lock(&self.undecided));
        for id in failed {
            if cache.listed.contains_key(id) {
                undecided.remove(id);
            } else if let Some(undecided) = undecided.get_mut(id) {
                *undecided = Undecided::Absent;
            }
        }
    }

    /// Deletes the mirrors' copies of commits that readers found absent.
    pub(super) async fn take_back_absent(&self) -> Result<(), StoreError> {
        let if_absent = |(id, undecided): (&Uuid, &Undecided)| matches!(undecided, Undecided::Absent).then_some(*id);
        let absent: Vec<Uuid> = lock(&self.undecided).iter().filter_map(if_absent).collect();
        for id in absent {
            let key = layout::commit(id);
            // A put that reached the primary late has made it visible; a commit that a reader may have seen is not
            // rolled back.
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
