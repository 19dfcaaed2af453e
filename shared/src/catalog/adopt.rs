//! Taking over the state of another place of the same store, as a migration does.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Catalog, CatalogError, Commit, Compacted, Snapshot, State, list_commits, read_commit};
use crate::layout::ImageId;

impl Catalog {
    /// The id of the store, once a checkpoint has said it.
    pub(crate) fn store_id(&self) -> Option<Uuid> {
        self.cache().store_id
    }

    /// The images of which this catalog knows something that `theirs` does not hold, as far as is cached.
    ///
    /// A tombstone that they do not know is one that they have dropped, and nothing is lost with it. An image that they do not know
    /// they may have deleted and forgotten as well; but it may just as well have been uploaded here.
    pub(crate) fn beyond(&self, theirs: &Snapshot) -> Vec<ImageId> {
        let held = |id: &ImageId, entry: &super::Entry| match theirs.get(id.as_str()) {
            None => entry.live().is_none(),
            Some(_) => theirs.covers(id, entry),
        };
        self.read(|state| state.iter().filter(|(id, entry)| !held(id, entry)).map(|(id, _)| id.clone()).collect())
    }

    /// Puts `theirs`, a state of the store `store`, in the place of this catalog's own, in every place and in one step for
    /// each. Returns false, with nothing written, where this one knows something beyond it ([`beyond`](Self::beyond)), or
    /// where someone else writes here.
    ///
    /// It is put in the place of the own state, and not joined to it: a join would take back what they have dropped.
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

    /// Commits that stand in a mirror alone and say something that the state does not hold: either their writer is between
    /// its two puts, or the primary has lost them and the next recovery brings them back. Writes nothing.
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
