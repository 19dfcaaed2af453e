//! [`Overlay`]: the changes that are not in a root yet, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::listed::{Position, PositionStream};
use super::record::{Entry, Record};
use super::root::position_of;
use crate::layout::ImageId;

/// Live entries by position.
type Listed = BTreeMap<Position, Arc<Entry>>;

/// Entries that supersede those of a root.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    entries: BTreeMap<ImageId, Overlaid>,
    listed: Listed,
    groups: BTreeMap<String, Listed>,
    /// The groups of the entries that are replaced.
    left: BTreeSet<String>,
}

/// An entry, and the one that the root has for the same image.
#[derive(Clone, Debug)]
pub(super) struct Overlaid {
    pub(super) entry: Arc<Entry>,
    pub(super) replaces: Option<Arc<Entry>>,
}

impl Overlay {
    /// Joins an entry in, given the root's; returns whether that changed the state.
    pub(super) fn join(&mut self, id: &ImageId, entry: &Arc<Entry>, replaces: Option<Arc<Entry>>) -> bool {
        let present = self.entries.get(id).map(|overlaid| &overlaid.entry).or(replaces.as_ref());
        if present.is_some_and(|present| !entry.supersedes(present)) {
            return false;
        }
        if !self.entries.contains_key(id)
            && let Some(group) = replaces.as_ref().and_then(|replaced| replaced.live()?.group())
        {
            self.left.insert(group.to_owned());
        }
        let overlaid = Overlaid { entry: Arc::clone(entry), replaces };
        if let Some(before) = self.entries.insert(id.clone(), overlaid)
            && let Some(record) = before.entry.live()
        {
            self.unlist(id, record);
        }
        if let Some(record) = entry.live() {
            let position = position_of(id, record);
            if let Some(group) = record.group() {
                let group = self.groups.entry(group.to_owned()).or_default();
                group.insert(position.clone(), Arc::clone(entry));
            }
            self.listed.insert(position, Arc::clone(entry));
        }
        true
    }

    fn unlist(&mut self, id: &ImageId, record: &Record) {
        let position = position_of(id, record);
        self.listed.remove(&position);
        if let Some(name) = record.group()
            && let Some(group) = self.groups.get_mut(name)
        {
            group.remove(&position);
            if group.is_empty() {
                self.groups.remove(name);
            }
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Overlaid> {
        self.entries.get(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ImageId, &Overlaid)> {
        self.entries.iter()
    }

    /// The live entries, newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&Position, &Arc<Entry>)> {
        self.listed.iter().rev()
    }

    /// The groups that an entry is in, or that the one it replaces was in.
    pub(super) fn groups(&self) -> BTreeSet<&str> {
        self.groups.keys().chain(&self.left).map(String::as_str).collect()
    }

    /// Whether a group is among the [`groups`](Self::groups).
    pub(super) fn changes(&self, group: &str) -> bool {
        self.groups.contains_key(group) || self.left.contains(group)
    }

    fn members(&self, group: Option<&str>) -> Option<&Listed> {
        group.map_or(Some(&self.listed), |group| self.groups.get(group))
    }
}

/// The live entries of an overlay, or of a group in it, newest first, starting after `after` if given.
pub(super) fn newest_of(overlay: &Arc<Overlay>, group: Option<&str>, after: Option<&Position>) -> PositionStream {
    if overlay.members(group).is_none() {
        return stream::empty().boxed();
    }
    let (overlay, group, mut after) = (Arc::clone(overlay), group.map(str::to_owned), after.cloned());
    let next = std::iter::from_fn(move || {
        let members = overlay.members(group.as_deref())?;
        let found = match &after {
            Some(after) => members.range(..after).next_back(),
            None => members.last_key_value(),
        };
        let (position, entry) = found.map(|(position, entry)| (position.clone(), Arc::clone(entry)))?;
        after = Some(position.clone());
        Some(Ok((position, entry)))
    });
    stream::iter(next).boxed()
}
