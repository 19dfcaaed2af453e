//! Adopting the state of another location of the same store, as a migration does.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::TryStreamExt;
use uuid::Uuid;

use super::{Catalog, CatalogError, Commit, Compacted, Difference, View, list_commits, read_commit};

impl Catalog {
    /// The id of the store, once a root has been read.
    pub(crate) fn store_id(&self) -> Option<Uuid> {
        self.cache().store_id
    }

    /// Whether this catalog has information that `theirs` lacks, according to the cache.
    ///
    /// A tombstone that `theirs` lacks is one that they have dropped, and nothing is lost with it. An image that
    /// `theirs` lacks may have been deleted there and forgotten as well; but it may just as well have been uploaded
    /// here.
    pub(crate) async fn is_ahead_of(&self, theirs: &View) -> Result<bool, CatalogError> {
        let is_lacking = |difference: Difference| match (difference.before, difference.after) {
            (Some(ours), None) => ours.live().is_some(),
            (Some(ours), Some(theirs)) => ours.supersedes(&theirs),
            (None, _) => false,
        };
        self.view().differences(theirs).try_any(async |difference| is_lacking(difference)).await
    }

    /// Replaces this catalog's state with `theirs`, a state of the store `store`, in every location and in one step for
    /// each. Returns false, with nothing replaced, if this catalog has information that `theirs` lacks
    /// ([`is_ahead_of`](Self::is_ahead_of)), or if another process writes here.
    ///
    /// The state is replaced, not joined: a join would bring back what they have dropped.
    pub(crate) async fn adopt(&self, theirs: &View, store: Uuid) -> Result<bool, CatalogError> {
        self.load().await?;
        if self.is_ahead_of(theirs).await? {
            return Ok(false);
        }
        let ours = self.view();
        if ours.differences(theirs).try_next().await?.is_some() || self.store_id() != Some(store) {
            self.copy_pages(theirs, &ours.root, 0).await?;
            let _joining = self.joining.lock().await;
            let mut cache = self.cache_mut();
            if !Arc::ptr_eq(&cache.view.root, &ours.root) || !Arc::ptr_eq(&cache.view.overlay, &ours.overlay) {
                return Ok(false);
            }
            cache.view = View { reader: ours.reader, ..theirs.clone() };
            cache.store_id = Some(store);
            cache.unsaved = true;
            cache.note_new_root(ours.root, &theirs.root);
        }
        Ok(self.compact().await? != Compacted::Superseded)
    }

    /// Commits that exist only in a mirror and contain something that the state lacks: either their writer is between
    /// its two puts, or the primary has lost them and the next recovery restores them. Writes nothing.
    pub(crate) async fn only_in_mirrors(&self) -> Result<Vec<Uuid>, CatalogError> {
        let mut alone: BTreeMap<Uuid, Commit> = BTreeMap::new();
        for mirror in &self.mirrors {
            for id in list_commits(mirror).await? {
                let held = self.cache().listed.contains_key(&id);
                if !held && let Some(Ok(commit)) = read_commit(mirror, id).await? {
                    alone.insert(id, commit);
                }
            }
        }
        self.refresh().await?;
        let (view, mut beyond) = (self.view(), Vec::new());
        for commit in alone.into_values() {
            if !view.holds(&commit).await? {
                beyond.push(commit.id);
            }
        }
        Ok(beyond)
    }
}
