//! Making a change durable, and rolling back a failed one.

use uuid::Uuid;

use super::{Catalog, Change, Commit, CommitError};
use crate::layout::{self, ImageId};
use store::sync::lock;
use store::{Body, ErrorKind, Key, PutMode, Store, StoreError};

impl Catalog {
    /// Makes a change durable and visible, in one step for all its images; returns the commit's id.
    ///
    /// The caller chooses the versions of the changes: one more than the version each was made from.
    ///
    /// A failed commit is rolled back, unless the primary did not answer: then a reader may have seen the commit there,
    /// and have acted on it, so it is left wherever it exists. An unknown outcome is decided at the next
    /// [`refresh`](Self::refresh), before this process reads any state.
    pub async fn commit(&self, changes: Vec<(ImageId, Change)>) -> Result<Uuid, CommitError> {
        let id = self.clock.new_id();
        let entries = changes.into_iter().map(|(name, change)| (name, change.stamped(id))).collect();
        let commit = Commit { id, entries };
        let body = Body::from(commit.encode(self.clock.now()));
        let in_flight = InFlight::new(self, id, &body);
        let stored = self.put_commit(&commit, &body).await;
        if !matches!(stored, Err(CommitError::Unknown(_))) {
            in_flight.end();
        }
        stored.map(|()| id)
    }

    async fn put_commit(&self, commit: &Commit, body: &Body) -> Result<(), CommitError> {
        let (key, mirrors) = (layout::commit(commit.id), self.mirrors_at_once());
        for (written, mirror) in mirrors.iter().enumerate() {
            if let Err(error) = mirror.put(&key, body, &PutMode::Create).await {
                return Err(take_back(mirror, mirrors[..written].iter(), &key, error).await);
            }
        }
        if let Err(error) = self.primary.put(&key, body, &PutMode::Create).await {
            if error.kind == ErrorKind::Unavailable {
                return Err(CommitError::Unknown(error));
            }
            return Err(take_back(&self.primary, mirrors.iter(), &key, error).await);
        }
        self.cache_mut().hold(commit);
        Ok(())
    }
}

/// Deletes the remains of a commit that did not reach the primary, and returns whether that is certain.
async fn take_back<'a>(
    failed: &'a Store,
    written: impl Iterator<Item = &'a Store>,
    key: &Key,
    error: StoreError,
) -> CommitError {
    let may_stand = error.kind == ErrorKind::Unavailable;
    for place in Some(failed).filter(|_| may_stand).into_iter().chain(written) {
        if let Err(deletion) = place.delete(key).await {
            tracing::error!(%key, error = &deletion as &dyn std::error::Error, "a failed commit could not be taken back");
            return CommitError::Unknown(error);
        }
    }
    // It may still arrive, and a recovery would find it then.
    if may_stand { CommitError::Unknown(error) } else { CommitError::NotStored(error) }
}

/// A commit that is being written. If it is dropped before [`end`](Self::end), its outcome is unknown.
struct InFlight<'a> {
    catalog: &'a Catalog,
    id: Uuid,
    body: Option<Body>,
}

impl<'a> InFlight<'a> {
    fn new(catalog: &'a Catalog, id: Uuid, body: &Body) -> Self {
        lock(&catalog.in_flight).insert(id);
        Self { catalog, id, body: Some(body.clone()) }
    }

    /// The commit was stored or rolled back.
    fn end(mut self) {
        self.body = None;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        // At every moment the commit is in at least one of the two.
        if let Some(body) = self.body.take() {
            self.catalog.note_undecided(self.id, body);
        }
        lock(&self.catalog.in_flight).remove(&self.id);
    }
}
