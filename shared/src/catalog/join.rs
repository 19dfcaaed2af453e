//! Joining and comparing [`View`]s, and making a root of one.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::CatalogError;
use super::listed::Position;
use super::merge::merge;
use super::piece::Commit;
use super::record::{Entry, Record};
use super::root::{Entries, EntryTree, Root, group_key, position_of, time_key};
use super::view::{View, id_of};
use crate::layout::ImageId;
use tree::Changes;

/// Entries in which two states differ, in the order of their names.
pub type DifferenceStream = BoxStream<'static, Result<Difference, CatalogError>>;

/// An image whose entries in two states differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The image.
    pub id: ImageId,
    /// Its entry in the first state.
    pub before: Option<Arc<Entry>>,
    /// Its entry in the second state.
    pub after: Option<Arc<Entry>>,
}

type Pair = (Option<Arc<Entry>>, Option<Arc<Entry>>);

impl View {
    /// The images whose entries differ between this state and `later`, in the order of their names. Reads only pages
    /// that the two do not share.
    pub fn differences(&self, later: &Self) -> DifferenceStream {
        let differences = self.reader.differences(&self.root.names, &later.reader, &later.root.names);
        let next = async |mut differences: tree::Differences<Entries>| {
            let Some(found) = differences.next().await? else { return Ok(None) };
            let pair: Pair = (found.before.map(Arc::new), found.after.map(Arc::new));
            Ok::<_, CatalogError>(Some(((id_of(&found.key)?, pair), differences)))
        };
        let overlays = [Arc::clone(&self.overlay), Arc::clone(&later.overlay)];
        let overlaid: BTreeSet<ImageId> =
            overlays.iter().flat_map(|overlay| overlay.iter()).map(|(id, _)| id.clone()).collect();
        let is_stored = move |(id, _): &(ImageId, Pair)| {
            std::future::ready(overlays.iter().all(|overlay| overlay.get(id.as_str()).is_none()))
        };
        let stored = stream::try_unfold(differences, next).try_filter(is_stored).boxed();
        let (before, after) = (self.clone(), later.clone());
        let get_both = move |id: ImageId| {
            let (before, after) = (before.clone(), after.clone());
            async move {
                let pair: Pair = (before.get(id.as_str()).await?, after.get(id.as_str()).await?);
                Ok((id, pair))
            }
        };
        let overlaid = stream::iter(overlaid).then(get_both).boxed();
        let differs = |(_, (before, after)): &(ImageId, Pair)| std::future::ready(before != after);
        merge(stored, overlaid, Ord::cmp)
            .try_filter(differs)
            .map_ok(|(id, (before, after))| Difference { id, before, after })
            .boxed()
    }

    /// Joins one entry in; returns whether it changed the state.
    pub(super) async fn join(&mut self, id: &ImageId, entry: &Arc<Entry>) -> Result<bool, CatalogError> {
        let stored = match self.overlay.get(id.as_str()) {
            Some(overlaid) => overlaid.replaces.clone(),
            None => self.in_root(id.as_str()).await?,
        };
        if stored.as_ref().is_some_and(|stored| !entry.supersedes(stored)) {
            return Ok(false);
        }
        Ok(Arc::make_mut(&mut self.overlay).join(id, entry, stored))
    }

    /// Joins the entries of a commit in.
    pub(super) async fn join_commit(&mut self, commit: &Commit) -> Result<(), CatalogError> {
        for (id, entry) in &commit.entries {
            self.join(id, entry).await?;
        }
        Ok(())
    }

    /// Whether joining a commit in would change nothing.
    pub(super) async fn holds(&self, commit: &Commit) -> Result<bool, CatalogError> {
        for (id, entry) in &commit.entries {
            if !self.covers(id, entry).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Joins another state in; returns whether that changed this one.
    ///
    /// The state that has dropped more tombstones becomes the root of the join: what the other has dropped must not
    /// come back. So does one that has a root, if this one has none.
    pub(super) async fn join_all(&mut self, other: &Self) -> Result<bool, CatalogError> {
        let is_first = self.root.names == EntryTree::EMPTY && other.root.names != EntryTree::EMPTY;
        if other.root.dropped_tombstones > self.root.dropped_tombstones
            || (is_first && other.root.dropped_tombstones == self.root.dropped_tombstones)
        {
            let ours = std::mem::replace(self, Self { reader: Arc::clone(&self.reader), ..other.clone() });
            self.join_entries(&ours).await?;
            return Ok(true);
        }
        self.join_entries(other).await
    }

    async fn join_entries(&mut self, other: &Self) -> Result<bool, CatalogError> {
        let mut changed = false;
        let may_be_dropped = other.root.dropped_tombstones < self.root.dropped_tombstones;
        // An empty tree has nothing to join, and every page of ours differs from it.
        let theirs = if other.root.names == EntryTree::EMPTY { &self.root } else { &other.root };
        let theirs = Self::at(Arc::clone(theirs), &other.reader);
        let mut differences = self.without_overlay().differences(&theirs);
        while let Some(Difference { id, before, after }) = differences.try_next().await? {
            let Some(entry) = after else { continue };
            if may_be_dropped && before.is_none() && entry.tombstone().is_some() {
                continue;
            }
            changed |= self.join(&id, &entry).await?;
        }
        for (id, overlaid) in other.overlay.iter() {
            changed |= self.join(id, &overlaid.entry).await?;
        }
        Ok(changed)
    }

    /// The images of which `other` lacks the state that this one has.
    pub(super) async fn beyond(&self, other: &Self) -> Result<BTreeSet<ImageId>, CatalogError> {
        // A tombstone that the other state lacks is one that it has dropped.
        let may_be_dropped = self.root.dropped_tombstones < other.root.dropped_tombstones;
        let lacks = |Difference { id, before, after }: Difference| {
            let ours = after?;
            let lacks = match before {
                Some(theirs) => ours.supersedes(&theirs),
                None => !(may_be_dropped && ours.tombstone().is_some()),
            };
            lacks.then_some(id)
        };
        let differences = other.differences(self);
        differences.try_filter_map(|difference| std::future::ready(Ok(lacks(difference)))).try_collect().await
    }

    /// The root of this state, without the tombstones of `expired` images; stores its pages.
    pub(super) async fn compacted(&self, expired: &[(ImageId, u64)]) -> Result<Root, CatalogError> {
        let mut changes = RootChanges::default();
        for (id, overlaid) in self.overlay.iter() {
            changes.names.insert(id.as_str().into(), Some((*overlaid.entry).clone()));
            if let Some(record) = overlaid.replaces.as_ref().and_then(|replaced| replaced.live()) {
                changes.unlist(id, record);
            }
        }
        for (position, entry) in self.overlay.newest() {
            changes.list(position, entry);
        }
        let before = self.without_overlay();
        for group in self.overlay.groups() {
            let led = before.group_stream(group, None).try_next().await?;
            let leads = self.group_stream(group, None).try_next().await?;
            if led == leads {
                continue;
            }
            if let Some((position, entry)) = led.filter(|((_, id), _)| self.overlay.get(id.as_str()).is_none()) {
                changes.move_to(&position, &entry, TimeTree::Following);
            }
            if let Some((position, entry)) = leads {
                changes.move_to(&position, &entry, TimeTree::Leading);
            }
        }
        for (id, _) in expired {
            changes.names.insert(id.as_str().into(), None);
        }
        let root = &*self.root;
        Ok(Root {
            dropped_tombstones: root.dropped_tombstones + expired.len() as u64,
            dropped_version: expired.iter().map(|(_, version)| *version).fold(root.dropped_version, u64::max),
            names: self.update(&root.names, &changes.names).await?,
            leading: self.update(&root.leading, &changes.leading).await?,
            following: self.update(&root.following, &changes.following).await?,
            groups: self.update(&root.groups, &changes.groups).await?,
        })
    }

    async fn update(&self, tree: &EntryTree, changes: &Changes<Entries>) -> Result<EntryTree, CatalogError> {
        if changes.is_empty() {
            return Ok(tree.clone());
        }
        Ok(self.reader.update(tree, changes).await?.tree)
    }
}

/// The trees by time; an image of a group is in one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TimeTree {
    Leading,
    Following,
}

/// The changes of a root's trees.
#[derive(Default)]
struct RootChanges {
    names: Changes<Entries>,
    leading: Changes<Entries>,
    following: Changes<Entries>,
    groups: Changes<Entries>,
}

impl RootChanges {
    /// Takes an image out of the lists.
    fn unlist(&mut self, id: &ImageId, record: &Record) {
        let position = position_of(id, record);
        let key: Box<str> = time_key(&position).into();
        if let Some(group) = record.group() {
            self.groups.insert(group_key(group, &position).into(), None);
            self.following.insert(key.clone(), None);
        }
        self.leading.insert(key, None);
    }

    /// Puts an image into the lists; an image of a group among those that follow.
    fn list(&mut self, position: &Position, entry: &Entry) {
        match entry.live().and_then(Record::group) {
            Some(group) => {
                self.groups.insert(group_key(group, position).into(), Some(entry.clone()));
                self.move_to(position, entry, TimeTree::Following);
            }
            None => _ = self.leading.insert(time_key(position).into(), Some(entry.clone())),
        }
    }

    fn move_to(&mut self, position: &Position, entry: &Entry, tree: TimeTree) {
        let key: Box<str> = time_key(position).into();
        self.leading.insert(key.clone(), (tree == TimeTree::Leading).then(|| entry.clone()));
        self.following.insert(key, (tree == TimeTree::Following).then(|| entry.clone()));
    }
}
