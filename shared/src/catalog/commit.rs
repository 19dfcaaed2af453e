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
        match &stored {
            Err(Failure::Unknown(_)) => {}
            Err(Failure::NotDeleted(_)) => {
                // A delete that still arrives must not remove what is stored again, so that gets another id.
                let again = commit.under(self.clock.new_id());
                self.note_undecided(again.id, Body::from(again.encode(self.clock.now())));
                self.note_absent(id);
                in_flight.end();
            }
            Ok(()) | Err(Failure::NotStored(_)) => in_flight.end(),
        }
        Ok(stored.map(|()| id)?)
    }

    async fn put_commit(&self, commit: &Commit, body: &Body) -> Result<(), Failure> {
        let (key, mirrors) = (layout::commit(commit.id), self.mirrors_at_once());
        for (written, location) in mirrors.iter().chain([&self.primary]).enumerate() {
            match location.put(&key, body, &PutMode::Create).await {
                Ok(_) => {}
                // It may exist there, or still arrive. It is stored again rather than deleted.
                Err(error) if error.kind == ErrorKind::Unavailable => return Err(Failure::Unknown(error)),
                Err(error) => return Err(roll_back(&mirrors[..written], &key, error).await),
            }
        }
        if let Err(error) = self.hold(commit).await {
            // It is stored, and the next refresh reads it.
            tracing::warn!(commit = %commit.id, error = &error as &dyn std::error::Error, "a commit could not be joined into the cache");
        }
        Ok(())
    }
}

/// Why a commit was not stored.
enum Failure {
    /// It was rolled back.
    NotStored(StoreError),
    /// A store did not answer, so that it may exist.
    Unknown(StoreError),
    /// It never reached the primary, but a delete of its copies elsewhere failed, and may still be carried out.
    NotDeleted(StoreError),
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotStored(error) => Self::NotStored(error),
            Failure::Unknown(error) | Failure::NotDeleted(error) => Self::Unknown(error),
        }
    }
}

/// Deletes the copies of a commit that a store refused with `error`.
async fn roll_back(written: &[Store], key: &Key, error: StoreError) -> Failure {
    for location in written {
        if let Err(deletion) = location.delete(key).await {
            tracing::error!(%key, error = &deletion as &dyn std::error::Error, "a failed commit could not be rolled back");
            return Failure::NotDeleted(error);
        }
    }
    Failure::NotStored(error)
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
