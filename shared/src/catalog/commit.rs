//! Making a change durable, and taking back what failed.

use uuid::Uuid;

use super::{Catalog, Change, Commit, CommitError};
use crate::layout::{self, ImageId};
use crate::store::{Body, ErrorKind, Key, PutMode, Store, StoreError};

impl Catalog {
    /// Makes a change durable and visible, in one step for all its images; returns the commit's id.
    ///
    /// The changes' versions are the caller's to choose: one more than the version each was made from.
    pub async fn commit(&self, changes: Vec<(ImageId, Change)>) -> Result<Uuid, CommitError> {
        self.commit_or(changes, IfUnknown::TakeBack).await
    }

    /// Likewise, and says what becomes of a commit of which it is not known whether it stands.
    pub(crate) async fn commit_or(
        &self,
        changes: Vec<(ImageId, Change)>,
        if_unknown: IfUnknown,
    ) -> Result<Uuid, CommitError> {
        let id = self.clock.new_id();
        let entries = changes.into_iter().map(|(name, change)| (name, change.stamped(id))).collect();
        let commit = Commit { id, entries };
        let body = Body::from(commit.encode(self.clock.now()));
        let key = layout::commit(id);
        let mirrors = if self.mirror_at_once { &self.mirrors[..] } else { &[] };
        for (written, mirror) in mirrors.iter().enumerate() {
            if let Err(error) = mirror.put(&key, &body, &PutMode::Create).await {
                return Err(take_back(mirror, mirrors[..written].iter(), &key, error).await);
            }
        }
        if let Err(error) = self.primary.put(&key, &body, &PutMode::Create).await {
            if error.kind == ErrorKind::Unavailable && if_unknown == IfUnknown::Leave {
                return Err(CommitError::Unknown(error));
            }
            // Someone may have mirrored it already.
            return Err(take_back(&self.primary, self.mirrors.iter(), &key, error).await);
        }
        self.cache_mut().hold(&commit);
        Ok(id)
    }
}

/// What becomes of a commit of which it is not known whether it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfUnknown {
    /// It is deleted wherever it may stand.
    TakeBack,
    /// It is left: another may have seen it, and have acknowledged the same upload because of it.
    Leave,
}

/// Deletes what a failed commit may have left and says whether that is certain. The place that failed goes first:
/// while a copy may stand in the primary, those in the mirrors must.
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
    // A reader or a folder may have come by before the deletion.
    if may_stand { CommitError::Unknown(error) } else { CommitError::NotStored(error) }
}
