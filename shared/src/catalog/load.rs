//! Loading at startup: the join of every piece in every location.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Base, Catalog, CatalogError, PieceError, Readable, Snapshot, State, list_commits, read_commit};
use crate::layout::{self, ImageId};
use store::Optional;
use store::digest::Digest;
use store::sync::lock;

/// The findings of a load, for the startup messages and for recovery.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// No location held any metadata: the store is new.
    pub is_new: bool,
    /// No location held a checkpoint written by Keepsake.
    pub no_checkpoint: bool,
    /// Whether a replica held something that the primary lacked.
    pub from_mirrors: bool,
    /// Damaged commits, now in quarantine; their content was joined if any copy of it could be read.
    pub damaged_commits: Vec<Uuid>,
    /// Whether a commit was kept because it cannot be read now; it may contain records that are missing here.
    pub some_unreadable: bool,
    /// Names in a checkpoint of the older format that are not valid file names here; the original is in quarantine.
    pub unusable_names: Vec<String>,
    /// Images whose current records the archive lacks, except those in commits of the primary.
    pub unarchived: BTreeSet<ImageId>,
}

impl Catalog {
    /// Joins every piece of every location into the cache, so that the next [`compact`](Self::compact) writes all of it
    /// back to each location. Moves damaged commits to the archive's quarantine. Changes nothing else.
    pub async fn load(&self) -> Result<Loaded, CatalogError> {
        self.refresh().await?;
        let from_mirrors = matches!(self.cache().base, Base::Replaceable(_) | Base::Absent);
        let mut loaded = Loaded { from_mirrors, ..Loaded::default() };
        let mut archived = None;
        for place in 0..self.mirrors.len() {
            let mirrored = self.load_mirror(place, &mut loaded).await?;
            archived = if place == 0 { mirrored } else { archived };
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
        let mut cache = self.cache_mut();
        loaded.no_checkpoint = cache.store_id.is_none();
        loaded.is_new = cache.base == Base::Absent && loaded.no_checkpoint && cache.state.totals().uploads() == 0;
        loaded.unusable_names = std::mem::take(&mut cache.unusable_names);
        if let Some(archived) = archived {
            let held = cache.state.iter().filter(|(_, entry)| !cache.listed.contains(&entry.stamp.commit));
            let lacking = held.filter(|(id, entry)| !archived.covers(id, entry));
            loaded.unarchived = lacking.map(|(id, _)| id.clone()).collect();
        }
        Ok(loaded)
    }

    /// The join of the states of all locations, and the contents referenced only by commits in a mirror; `None` if a
    /// piece cannot be read, so that its references are unknown. Writes nothing.
    pub(crate) async fn everywhere(&self) -> Result<Option<(Snapshot, Vec<Digest>)>, CatalogError> {
        self.refresh().await?;
        let mut all_read = self.unreadable().is_empty() && matches!(self.cache().base, Base::Known(..));
        let mut in_mirrors = Vec::new();
        for (place, mirror) in self.mirrors.iter().enumerate() {
            if !self.holds_mirror(place).await? {
                all_read &= self.join_mirror(place).await?.is_none_or(|mirrored| !mirrored.replaceable);
            }
            // Not joined: its writer may still roll it back.
            for id in list_commits(mirror).await? {
                match read_commit(mirror, id).await? {
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
        Ok(all_read.then(|| (self.read(|state| state.snapshot()), in_mirrors)))
    }

    /// Whether the state contains all of a mirror's checkpoint, determined without reading it: it is the version that
    /// was last joined or written, or it has exactly the bytes of the primary's.
    pub(super) async fn holds_mirror(&self, place: usize) -> Result<bool, CatalogError> {
        let held = self.cache().mirror_tags[place].clone();
        if held.is_none() {
            return self.mirror_is_same(place).await;
        }
        let there = self.mirrors[place].head(&layout::checkpoint()).await.optional()?.map(|meta| meta.etag);
        Ok(there == held || self.mirror_is_same(place).await?)
    }

    /// Returns the mirror's contents; `None` if its checkpoint has exactly the bytes of the primary's.
    async fn load_mirror(&self, place: usize, loaded: &mut Loaded) -> Result<Option<State>, CatalogError> {
        let mut held = None;
        if !self.mirror_is_same(place).await? {
            let before = self.read(|state| state.snapshot());
            let mirrored = self.join_mirror(place).await?;
            if mirrored.as_ref().is_some_and(|mirrored| mirrored.replaceable) {
                self.set_aside(&self.mirrors[place], &layout::checkpoint()).await?;
            }
            loaded.from_mirrors |= mirrored
                .as_ref()
                .is_some_and(|mirrored| mirrored.state.iter().any(|(id, entry)| !before.covers(id, entry)));
            let mut cache = self.cache_mut();
            cache.mirror_tags[place] = mirrored.as_ref().map(|mirrored| mirrored.etag.clone());
            held = Some(mirrored.map(|mirrored| mirrored.state).unwrap_or_default());
            // Any difference is written again, so that the next start finds equal bytes.
            cache.unsaved = true;
        }
        let mirror = &self.mirrors[place];
        for id in list_commits(mirror).await? {
            // Its writer may still roll it back. Once its writer has ended, the commit no longer changes.
            if lock(&self.in_flight).contains(&id) || self.is_undecided(id) {
                continue;
            }
            match read_commit(mirror, id).await? {
                Some(Ok(commit)) => {
                    let mut cache = self.cache_mut();
                    for (name, entry) in &commit.entries {
                        let changed = cache.state.join(name, entry);
                        cache.unsaved |= changed;
                        loaded.from_mirrors |= changed;
                        if let Some(held) = &mut held {
                            held.join(name, entry);
                        }
                    }
                }
                Some(Err(PieceError::Unreadable(reason))) => {
                    tracing::error!(commit = %id, %reason, "a replica of a commit cannot be read");
                    loaded.some_unreadable = true;
                }
                Some(Err(_)) => {
                    if self.set_aside(mirror, &layout::commit(id)).await? {
                        mirror.delete(&layout::commit(id)).await?;
                    }
                    loaded.damaged_commits.push(id);
                }
                None => {}
            }
        }
        Ok(held)
    }

    /// Whether a mirror's checkpoint has exactly the bytes of the primary's, so that it need not be decoded.
    async fn mirror_is_same(&self, place: usize) -> Result<bool, CatalogError> {
        let Base::Known(_, digest) = self.cache().base.clone() else { return Ok(false) };
        let (mirror, key) = (&self.mirrors[place], layout::checkpoint());
        let Some(meta) = mirror.head(&key).await.optional()? else { return Ok(false) };
        let same = mirror.hash(&key).await.intact()?.is_some_and(|(_, theirs)| theirs == digest);
        if same {
            self.cache_mut().mirror_tags[place] = Some(meta.etag);
        }
        Ok(same)
    }
}
