//! The lists of a [`View`]: by time, each image or each group once, and by group.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use tokio::task::coop::consume_budget;

use super::CatalogError;
use super::group_order::rank;
use super::listed::{Position, PositionStream};
use super::merge::merge;
use super::note::Note;
use super::overlay::newest_of;
use super::record::{Entry, Record};
use super::root::{Entries, EntryTree, group_end, group_key, position_of, time_key};
use super::search::Tokens;
use super::usage::Usage;
use super::view::{View, id_of, unusable};
use tree::{Cursor, Direction, Link};

impl View {
    /// Live images, newest first, starting after `after` if given.
    pub fn newest(&self, after: Option<&Position>) -> PositionStream {
        self.newest_with(after, &Tokens::default())
    }

    /// Like [`newest`](Self::newest), but may leave out images whose records do not have these tokens.
    pub fn newest_with(&self, after: Option<&Position>, tokens: &Tokens) -> PositionStream {
        let by_time = |tree| self.by_time(tree, Unit::Image, after, tokens);
        let stored = newest_first(by_time(&self.root.leading), by_time(&self.root.following));
        newest_first(stored, newest_of(&self.overlay, None, after))
    }

    /// Live images, newest first, but only the newest of each group.
    ///
    /// Groups that got an image after `started` keep their earlier position, so that a client that reads page by page
    /// does not miss a group because it grew meanwhile.
    pub fn leaders(&self, after: Option<&Position>, started: Option<Timestamp>) -> PositionStream {
        self.leaders_with(after, started, &Tokens::default())
    }

    /// Like [`leaders`](Self::leaders), but may leave out images whose records do not have these tokens, and groups
    /// without an image whose record has them.
    pub fn leaders_with(
        &self,
        after: Option<&Position>,
        started: Option<Timestamp>,
        tokens: &Tokens,
    ) -> PositionStream {
        let (view, after, tokens) = (self.clone(), after.cloned(), tokens.clone());
        let leaders = async move {
            let mut fresh = view.changed_leaders().await?;
            if let Some(started) = started {
                let grown = view.grown_groups(&fresh, started).await?;
                fresh.extend(grown);
            }
            fresh.retain(|(position, _)| after.as_ref().is_none_or(|after| position < after));
            fresh.sort_by(|(a, _), (b, _)| b.cmp(a));
            let stored = view.stored_leaders(after.as_ref(), &tokens);
            Ok::<_, CatalogError>(newest_first(stored, stream::iter(fresh).map(Ok).boxed()))
        };
        stream::once(leaders).try_flatten().boxed()
    }

    /// The root's leaders, except those of groups that the overlay changes.
    fn stored_leaders(&self, after: Option<&Position>, tokens: &Tokens) -> PositionStream {
        let overlay = Arc::clone(&self.overlay);
        let is_same = move |(_, entry): &(Position, Arc<Entry>)| {
            let group = entry.live().and_then(Record::group);
            std::future::ready(group.is_none_or(|group| !overlay.changes(group)))
        };
        let stored = self.by_time(&self.root.leading, Unit::Group, after, tokens);
        if self.overlay.is_empty() { stored } else { stored.try_filter(is_same).boxed() }
    }

    /// The leaders that come from the overlay, or of groups that it changes.
    async fn changed_leaders(&self) -> Result<Vec<(Position, Arc<Entry>)>, CatalogError> {
        let has_none = |entry: &Entry| entry.live().is_some_and(|record| record.group().is_none());
        let single = self.overlay.newest().filter(|(_, entry)| has_none(entry));
        let mut leaders: Vec<_> = single.map(|(position, entry)| (position.clone(), Arc::clone(entry))).collect();
        for group in self.overlay.groups() {
            leaders.extend(self.group_stream(group, None).try_next().await?);
        }
        Ok(leaders)
    }

    /// For each group that got its newest image after `started`, the newest of its images from before.
    async fn grown_groups(
        &self,
        changed: &[(Position, Arc<Entry>)],
        started: Timestamp,
    ) -> Result<Vec<(Position, Arc<Entry>)>, CatalogError> {
        let mut grown = Vec::new();
        let is_after = |(at, _): &Position| *at > started;
        let mut newest: Vec<_> = changed.iter().filter(|(position, _)| is_after(position)).cloned().collect();
        let mut stored = self.stored_leaders(None, &Tokens::default());
        while let Some(leader) = stored.try_next().await?.filter(|(position, _)| is_after(position)) {
            newest.push(leader);
        }
        for (_, entry) in newest {
            if let Some(group) = entry.live().and_then(Record::group) {
                let mut members = self.group_stream(group, None);
                while let Some(member) = members.try_next().await? {
                    if !is_after(&member.0) {
                        grown.push(member);
                        break;
                    }
                }
            }
        }
        Ok(grown)
    }

    /// How many [`leaders`](Self::leaders) there are.
    pub async fn leading(&self) -> Result<u64, CatalogError> {
        let (mut stored, changed) = (self.root.leading.entries(), self.changed_leaders().await?);
        let replaced = self.overlay.iter().filter_map(|(_, overlaid)| overlaid.replaces.as_ref()?.live());
        stored -= replaced.filter(|record| record.group().is_none()).count() as u64;
        let before = self.without_overlay();
        for group in self.overlay.groups() {
            stored -= u64::from(before.group_stream(group, None).try_next().await?.is_some());
        }
        Ok(stored + changed.len() as u64)
    }

    /// The live images of a group, newest first.
    pub async fn group(&self, id: &str) -> Result<Vec<(Position, Arc<Entry>)>, CatalogError> {
        self.group_stream(id, None).try_collect().await
    }

    /// The live images of a group, newest first, starting after `after` if given.
    pub(super) fn group_stream(&self, id: &str, after: Option<&Position>) -> PositionStream {
        let (overlay, group) = (Arc::clone(&self.overlay), id.to_owned());
        let end = after.map_or_else(|| group_end(id), |after| group_key(id, after));
        let prefix = format!("{group}\u{0}");
        let stored = self.cursor(&self.root.groups, Direction::Backward, Some(&end), |_| true);
        let members = stored
            .try_take_while(move |(key, _)| std::future::ready(Ok(key.starts_with(&prefix))))
            .map(|read| read.and_then(|(key, entry)| positioned(&key, entry)));
        let is_current = move |((_, id), entry): &(Position, Arc<Entry>)| {
            let is_member = entry.live().and_then(Record::group) == Some(&group);
            std::future::ready(is_member && overlay.get(id.as_str()).is_none())
        };
        newest_first(members.try_filter(is_current).boxed(), newest_of(&self.overlay, Some(id), after))
    }

    /// The title of a group, if it has one: that of the first of its images that has one.
    pub async fn group_title(&self, id: &str) -> Result<Option<String>, CatalogError> {
        let group = self.group(id).await?;
        let titled = group.iter().filter_map(|(position, entry)| {
            let title = entry.live()?.group_title.as_ref()?;
            Some((rank(position, entry), title))
        });
        Ok(titled.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, title)| title.clone()))
    }

    /// The `order` for a new last image of a group; `None` if the group is empty.
    pub async fn next_order(&self, group: &str) -> Result<Option<i64>, CatalogError> {
        let group = self.group(group).await?;
        let orders = group.iter().filter_map(|(_, entry)| entry.live()?.order);
        Ok(orders.max().map(|last| last.saturating_add(1)))
    }

    /// When the newest live image was uploaded, and the oldest.
    pub async fn span(&self) -> Result<Option<(Timestamp, Timestamp)>, CatalogError> {
        let newest = self.newest(None).try_next().await?;
        let mut oldest = self.overlay.newest().last().map(|((at, _), _)| *at);
        for tree in [&self.root.leading, &self.root.following] {
            let mut stored = self.cursor(tree, Direction::Forward, None, |_| true);
            while let Some((key, entry)) = stored.try_next().await? {
                let ((at, id), _) = positioned(&key, entry)?;
                if self.overlay.get(id.as_str()).is_none() {
                    oldest = oldest.into_iter().chain([at]).min();
                    break;
                }
            }
        }
        Ok(newest.map(|((at, _), _)| at).zip(oldest))
    }

    /// What the live images use.
    pub async fn usage(&self) -> Result<Usage, CatalogError> {
        let mut usage = Usage::default();
        self.each_note([&self.root.leading, &self.root.following], |note| usage.merge(note.usage())).await?;
        for (_, overlaid) in self.overlay.iter() {
            overlaid.replaces.iter().filter_map(|entry| entry.live()).for_each(|record| usage.remove(record));
            overlaid.entry.live().into_iter().for_each(|record| usage.add(record));
        }
        Ok(usage)
    }

    /// Makes the notes of all pages that searches may ask for, as far as there is memory for them. Otherwise the first
    /// search has to read all of these pages.
    pub async fn note_all(&self) -> Result<(), CatalogError> {
        self.each_note([&self.root.leading, &self.root.following, &self.root.groups], |_| ()).await
    }

    async fn each_note<const N: usize>(
        &self,
        trees: [&EntryTree; N],
        mut each: impl FnMut(&Note),
    ) -> Result<(), CatalogError> {
        for tree in trees {
            let mut leaves = Cursor::new(&self.reader, tree, Direction::Backward, None);
            while let Some(leaf) = leaves.next_leaf(|_| true).await? {
                each(&*self.reader.note(&leaf).await?);
                consume_budget().await;
            }
        }
        Ok(())
    }

    /// The root's images of a tree by time, newest first, except those that the overlay changes. May leave out units
    /// without these tokens.
    fn by_time(&self, tree: &EntryTree, unit: Unit, after: Option<&Position>, tokens: &Tokens) -> PositionStream {
        let cursor = Cursor::new(&self.reader, tree, Direction::Backward, after.map(time_key).as_deref());
        let walk = Walk { view: self.without_overlay(), cursor, unit, tokens: tokens.clone() };
        let next = async |mut walk: Walk| Ok(walk.next().await?.map(|found| (found, walk)));
        let (stored, overlay) = (stream::try_unfold(walk, next), Arc::clone(&self.overlay));
        if overlay.is_empty() {
            return stored.boxed();
        }
        stored.try_filter(move |((_, id), _)| std::future::ready(overlay.get(id.as_str()).is_none())).boxed()
    }

    /// Whether an image of a group may have these tokens, by the root alone.
    async fn may_have(&self, group: &str, tokens: &Tokens) -> Result<bool, CatalogError> {
        let (before, end) = (format!("{group}\u{0}"), group_end(group));
        for leaf in self.reader.leaves(&self.root.groups, &before, &end).await? {
            if self.reader.note(&leaf).await?.may_have(tokens) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What has the tokens that a walk looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Each image by itself.
    Image,
    /// A group by any of its images. A tree by time has only one of them.
    Group,
}

/// A walk through a tree by time of a root that skips pages without the tokens that it looks for.
struct Walk {
    view: View,
    cursor: Cursor<Entries>,
    unit: Unit,
    tokens: Tokens,
}

impl Walk {
    async fn next(&mut self) -> Result<Option<(Position, Arc<Entry>)>, CatalogError> {
        loop {
            while let Some((key, entry)) = self.cursor.next_here()? {
                if self.may_take(&entry).await? {
                    return positioned(&key, entry).map(Some);
                }
            }
            let Some(leaf) = self.cursor.next_leaf(|_| true).await? else { return Ok(None) };
            if self.may_be_on(&leaf).await? {
                self.cursor.enter(leaf).await?;
            }
            consume_budget().await;
        }
    }

    async fn may_take(&self, entry: &Entry) -> Result<bool, CatalogError> {
        match entry.live().and_then(Record::group) {
            Some(group) if self.unit == Unit::Group && !self.tokens.is_empty() => {
                self.view.may_have(group, &self.tokens).await
            }
            _ => Ok(true),
        }
    }

    async fn may_be_on(&self, leaf: &Link<Entries>) -> Result<bool, CatalogError> {
        if self.tokens.is_empty() {
            return Ok(true);
        }
        let note = self.view.reader.note(leaf).await?;
        if note.may_have(&self.tokens) {
            return Ok(true);
        }
        let groups = note.groups().filter(|_| self.unit == Unit::Group);
        for group in groups {
            if self.view.may_have(group, &self.tokens).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn newest_first(a: PositionStream, b: PositionStream) -> PositionStream {
    merge(a, b, |a, b| b.cmp(a))
}

/// A live entry of a tree by time or by group, with its position.
fn positioned(key: &str, entry: Arc<Entry>) -> Result<(Position, Arc<Entry>), CatalogError> {
    let id = id_of(key.rsplit('/').next().unwrap_or_default())?;
    let position = position_of(&id, entry.live().ok_or_else(|| unusable(key))?);
    Ok((position, entry))
}
