//! Loading at startup: the join of every piece in every location.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::replicas::Mirrored;
use super::{Base, Catalog, CatalogError, PieceError, Readable, View, list_commits, read_commit};
use crate::layout::{self, ImageId};
use store::digest::Digest;
use store::sync::lock;

/// The findings of a load, for the startup messages and for recovery.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// No location held any metadata: the store is new.
    pub is_new: bool,
    /// No location held a root or a metadata file written by Keepsake.
    pub no_root: bool,
    /// Whether a replica held something that the primary lacked.
    pub from_mirrors: bool,
    /// Damaged commits, now in quarantine; their content was joined if any copy of it could be read.
    pub damaged_commits: Vec<Uuid>,
    /// Whether a commit was kept because it cannot be read now; it may contain records that are missing here.
    pub some_unreadable: bool,
    /// Names in a metadata file of the older format that are not valid file names here; the original is in quarantine.
    pub unusable_names: Vec<String>,
    /// Images whose current records the archive lacks, except those in commits of the primary.
    pub unarchived: BTreeSet<ImageId>,
}

impl Catalog {
    /// Joins every piece of every location into the cache, so that the next [`compact`](Self::compact) writes all of it
    /// back to each location. Moves damaged commits to the archive's quarantine. Changes nothing else.
    pub async fn load(&self) -> Result<Loaded, CatalogError> {
        self.refresh().await?;
        let from_mirrors = matches!(self.cache().base, Base::Damaged(_) | Base::Absent);
        let mut loaded = Loaded { from_mirrors, ..Loaded::default() };
        for place in 0..self.pages.len() {
            self.look_at_file(place).await?;
        }
        let mut archived = None;
        for mirror in 0..self.mirrors.len() {
            let mirrored = self.load_mirror(mirror, &mut loaded).await?;
            if mirror == 0 {
                archived = mirrored;
            }
        }
        let damaged: Vec<_> = lock(&self.damaged).clone().into_iter().collect();
        for (id, readable) in damaged {
            if readable == Readable::NotNow {
                loaded.some_unreadable = true;
                continue;
            }
            let kept = self.set_aside(&self.primary, &layout::commit(id)).await?;
            if kept && readable == Readable::Nowhere {
                self.primary.delete(&layout::commit(id)).await?;
            }
            loaded.damaged_commits.push(id);
        }
        if let Some(archived) = archived {
            loaded.unarchived = self.unarchived(&archived).await?;
        }
        let mut cache = self.cache_mut();
        loaded.no_root = cache.store_id.is_none();
        loaded.is_new = cache.base == Base::Absent && loaded.no_root && cache.view.totals().uploads() == 0;
        loaded.unusable_names = std::mem::take(&mut cache.unusable_names);
        Ok(loaded)
    }

    /// The images whose current records the archive lacks, except those in commits of the primary.
    async fn unarchived(&self, archived: &View) -> Result<BTreeSet<ImageId>, CatalogError> {
        let (view, listed) = (self.view(), self.listed());
        let mut lacking = BTreeSet::new();
        for id in view.beyond(archived).await? {
            if view.get(id.as_str()).await?.is_some_and(|entry| !listed.contains(&entry.stamp.commit)) {
                lacking.insert(id);
            }
        }
        Ok(lacking)
    }

    /// The join of the states of all locations, and the contents referenced only by commits in a mirror; `None` if a
    /// piece cannot be read, so that its references are unknown. Writes nothing.
    pub(crate) async fn everywhere(&self) -> Result<Option<(View, Vec<Digest>)>, CatalogError> {
        self.refresh().await?;
        let mut all_read = self.unreadable().is_empty() && matches!(self.cache().base, Base::Known(_));
        let mut in_mirrors = Vec::new();
        for mirror in 0..self.mirrors.len() {
            if !self.holds_mirror(mirror).await? {
                all_read &= self.join_mirror(mirror).await?.is_none_or(|mirrored| mirrored.root.is_some());
            }
            // Not joined: its writer may still roll it back.
            let location = &self.mirrors[mirror];
            for id in list_commits(location).await? {
                match read_commit(location, id).await? {
                    Some(Ok(commit)) => {
                        in_mirrors.extend(commit.entries.iter().filter_map(|(_, entry)| entry.content_digest()))
                    }
                    Some(Err(_)) => all_read = false,
                    None => {}
                }
            }
        }
        // Once more, for commits that were compacted while the mirrors were read.
        self.refresh().await?;
        Ok(all_read.then(|| (self.view(), in_mirrors)))
    }

    /// Returns the mirror's state; `None` if it has the primary's root.
    async fn load_mirror(&self, mirror: usize, loaded: &mut Loaded) -> Result<Option<View>, CatalogError> {
        let before = self.view();
        let mirrored = self.join_mirror(mirror).await?;
        let mut held = None;
        match mirrored {
            Some(Mirrored { etag, root: Some(root) }) => {
                let theirs = self.mirror_view(mirror, &root);
                let is_same = *root == *before.root && matches!(self.cache().base, Base::Known(_));
                loaded.from_mirrors |= !is_same && !theirs.beyond(&before).await?.is_empty();
                let mut cache = self.cache_mut();
                cache.mirrored[mirror] = Some((etag, root));
                if !is_same {
                    // Any difference is written again, so that the next start finds equal roots.
                    cache.unsaved = true;
                    held = Some(theirs);
                }
            }
            damaged => {
                if damaged.is_some() {
                    self.set_aside(&self.mirrors[mirror], &layout::root()).await?;
                }
                self.join_replica(mirror + 1).await?;
                self.cache_mut().unsaved = true;
                held = Some(View::of([]));
            }
        }
        for id in list_commits(&self.mirrors[mirror]).await? {
            // Its writer may still roll it back. Once its writer has ended, the commit no longer changes.
            if !lock(&self.in_flight).contains(&id) && !self.is_undecided(id) {
                self.load_mirrored_commit(mirror, id, loaded, &mut held).await?;
            }
        }
        Ok(held)
    }

    async fn load_mirrored_commit(
        &self,
        mirror: usize,
        id: Uuid,
        loaded: &mut Loaded,
        held: &mut Option<View>,
    ) -> Result<(), CatalogError> {
        let location = &self.mirrors[mirror];
        match read_commit(location, id).await? {
            Some(Ok(commit)) => {
                let changed = self
                    .change_view(async |view| {
                        let changed = !view.holds(&commit).await?;
                        view.join_commit(&commit).await.map(|()| changed)
                    })
                    .await?;
                self.cache_mut().unsaved |= changed;
                loaded.from_mirrors |= changed;
                if let Some(held) = held {
                    held.join_commit(&commit).await?;
                }
            }
            Some(Err(PieceError::Unreadable(reason))) => {
                tracing::error!(commit = %id, %reason, "a replica of a commit cannot be read");
                loaded.some_unreadable = true;
            }
            Some(Err(_)) => {
                if self.set_aside(location, &layout::commit(id)).await? {
                    location.delete(&layout::commit(id)).await?;
                }
                loaded.damaged_commits.push(id);
            }
            None => {}
        }
        Ok(())
    }
}
