//! Adopting the state of another location of the same store, as a migration does.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Catalog, CatalogError, Commit, Compacted, Snapshot, State, list_commits, read_commit};
use crate::layout::ImageId;

impl Catalog {
    /// The id of the store, once a checkpoint has been read.
    pub(crate) fn store_id(&self) -> Option<Uuid> {
        self.cache().store_id
    }

    /// The images about which this catalog has information that `theirs` lacks, according to the cache.
    ///
    /// A tombstone that `theirs` lacks is one that they have dropped, and nothing is lost with it. An image that
    /// `theirs` lacks may have been deleted there and forgotten as well; but it may just as well have been uploaded
    /// here.
    pub(crate) fn beyond(&self, theirs: &Snapshot) -> Vec<ImageId> {
        let held = |id: &ImageId, entry: &super::Entry| match theirs.get(id.as_str()) {
            None => entry.live().is_none(),
            Some(_) => theirs.covers(id, entry),
        };
        self.read(|state| state.iter().filter(|(id, entry)| !held(id, entry)).map(|(id, _)| id.clone()).collect())
    }

    /// Replaces this catalog's state with `theirs`, a state of the store `store`, in every location and in one step for
    /// each. Returns false, with nothing written, if this catalog has information that `theirs` lacks
    /// ([`beyond`](Self::beyond)), or if another process writes here.
    ///
    /// The state is replaced, not joined: a join would bring back what they have dropped.
    pub(crate) async fn adopt(&self, theirs: &Snapshot, store: Uuid) -> Result<bool, CatalogError> {
        self.load().await?;
        if !self.beyond(theirs).is_empty() {
            return Ok(false);
        }
        {
            let mut cache = self.cache_mut();
            if *cache.state != *theirs || cache.store_id != Some(store) {
                cache.state = State::default();
                cache.state.join_all(theirs);
                cache.store_id = Some(store);
                cache.unsaved = true;
            }
        }
        Ok(self.compact().await? != Compacted::Superseded)
    }

    /// Commits that exist only in a mirror and contain something that the state lacks: either their writer is between
    /// its two puts, or the primary has lost them and the next recovery restores them. Writes nothing.
    pub(crate) async fn only_in_mirrors(&self) -> Result<Vec<Uuid>, CatalogError> {
        let mut alone: BTreeMap<Uuid, Commit> = BTreeMap::new();
        for mirror in &self.mirrors {
            for id in list_commits(mirror).await? {
                let held = self.cache().listed.contains(&id);
                if !held && let Some(Ok(commit)) = read_commit(mirror, id).await? {
                    alone.insert(id, commit);
                }
            }
        }
        self.refresh().await?;
        let is_held =
            |commit: &Commit| self.read(|state| commit.entries.iter().all(|(name, entry)| state.covers(name, entry)));
        Ok(alone.into_values().filter(|commit| !is_held(commit)).map(|commit| commit.id).collect())
    }
}
