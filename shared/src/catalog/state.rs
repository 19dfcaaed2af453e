//! [`State`]: every record at one moment, and the join that combines pieces.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::Serialize;

use super::listed::{Listed, Position};
use super::record::{Entry, Record, Tombstone};
use crate::layout::ImageId;
use store::digest::Digest;

/// The most records in a chunk: a backup after a change rewrites at least one chunk.
const CHUNK_RECORDS: usize = 256;
/// The average number of records between two names that always end a chunk. A power of two.
const RUN_RECORDS: u64 = 1024;

/// The newest state of every known image, deleted ones included, at one moment.
///
/// Entries are in copy-on-write chunks that snapshots share: a snapshot costs a pointer per chunk, so a compaction or a
/// backup works on one while uploads go on. The chunk boundaries depend on the names alone, so equal states have equal
/// chunks: some names always end a chunk, and between two of those each chunk but the last has [`CHUNK_RECORDS`]. So a
/// change of a record affects one chunk, and adding or removing a record affects those up to the next such name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    chunks: Vec<Arc<Chunk>>,
    totals: Totals,
    /// The highest version of a tombstone that was dropped.
    floor: u64,
}

/// A [`Snapshot`] that grows, with the indexes that reads need.
#[derive(Debug, Default)]
pub struct State {
    all: Snapshot,
    listed: Listed,
}

/// Totals of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Images that exist.
    pub live: u64,
    /// Deleted images that still have a tombstone.
    pub deleted: u64,
    /// Tombstones that have been dropped.
    pub dropped: u64,
    /// Images that exist and whose record has no digest: imported ones that were not examined yet, and imported links.
    pub undigested: u64,
    /// Length in bytes of all images that exist.
    pub bytes: u64,
}

impl Totals {
    /// How many images were ever uploaded, imported or adopted.
    pub fn uploads(&self) -> u64 {
        self.live + self.deleted + self.dropped
    }
}

/// A run of entries that are adjacent in the order of names.
#[derive(Debug, Default)]
pub struct Chunk {
    entries: BTreeMap<ImageId, Arc<Entry>>,
    summary: OnceLock<ChunkSummary>,
}

/// A chunk as a backup references it: the digest of its live records as JSON, and their totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSummary {
    /// Digest of [`Chunk::encode`].
    pub digest: Digest,
    /// The number of live records in it.
    pub records: u64,
    /// Total size of their images in bytes.
    pub bytes: u64,
}

impl Clone for Chunk {
    /// The clone is about to change, so it drops the summary.
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), summary: OnceLock::new() }
    }
}

impl Chunk {
    /// Whether its last name always ends a chunk.
    fn is_ended(&self) -> bool {
        self.entries.last_key_value().is_some_and(|(last, _)| ends_run(last))
    }

    /// The digests of the images in it, deleted ones included.
    pub(crate) fn contents(&self) -> impl Iterator<Item = Digest> {
        self.entries.values().filter_map(|entry| entry.content_digest())
    }

    /// The live records in the order of their names.
    pub fn live(&self) -> impl Iterator<Item = (&ImageId, &Arc<Entry>)> {
        self.entries.iter().filter(|(_, entry)| entry.live().is_some())
    }

    /// The live records without a digest that are not links: a backup cannot restore their images.
    pub fn without_bytes(&self) -> impl Iterator<Item = ImageId> {
        let lacks = |record: &Record| record.sha256.is_none() && !record.is_link();
        self.live().filter(move |(_, entry)| entry.live().is_some_and(lacks)).map(|(id, _)| id.clone())
    }

    /// The live records as one JSON object keyed by file name: what a backup stores of this chunk.
    pub fn encode(&self) -> Vec<u8> {
        struct Live<'a>(&'a Chunk);
        impl Serialize for Live<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.live())
            }
        }
        serde_json::to_vec(&Live(self)).unwrap_or_else(|e| unreachable!("records serialise: {e}"))
    }

    /// The chunk's entry in a backup; encoded at the first call only.
    pub fn summary(&self) -> ChunkSummary {
        *self.summary.get_or_init(|| ChunkSummary {
            digest: Digest::of(&self.encode()),
            records: self.live().count() as u64,
            bytes: self.live().map(|(_, entry)| size_of(entry)).sum(),
        })
    }
}

/// Whether a record's file has not been examined yet. Links that were created here have no file.
fn lacks_digest(id: &ImageId, record: &Record) -> bool {
    record.sha256.is_none() && !id.is_link()
}

fn size_of(entry: &Entry) -> u64 {
    entry.live().and_then(|r| r.size).unwrap_or(0)
}

/// Whether a chunk always ends with this name. FNV-1a, because the result must never change.
fn ends_run(id: &ImageId) -> bool {
    let hash =
        id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (hash >> 20).is_multiple_of(RUN_RECORDS)
}

impl Snapshot {
    /// Totals of the state.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The version for the next state of an image. It is above that of every tombstone ever dropped, so that a
    /// surviving copy of one never wins against an image that was restored since.
    pub fn next_version(&self, id: &str) -> u64 {
        self.get(id).map_or(self.floor, |entry| entry.stamp.version) + 1
    }

    /// The version for a new image, whatever is known under its name: any edit or deletion of it wins against a late
    /// upload, and two attempts at one upload are one image.
    pub fn first_version(&self) -> u64 {
        self.floor + 1
    }

    /// The highest version of a tombstone that was dropped.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The entry of an image, if one is known.
    pub fn get(&self, id: &str) -> Option<&Arc<Entry>> {
        self.chunks.get(self.chunk_of(id))?.entries.get(id)
    }

    /// Whether a live image has this name.
    pub fn lives(&self, id: &str) -> bool {
        self.get(id).is_some_and(|entry| entry.live().is_some())
    }

    /// Every entry in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&ImageId, &Arc<Entry>)> {
        self.chunks.iter().flat_map(|chunk| chunk.entries.iter())
    }

    /// Every live record in the order of names.
    pub fn live(&self) -> impl Iterator<Item = (&ImageId, &Record)> {
        self.iter().filter_map(|(id, entry)| Some((id, entry.live()?)))
    }

    /// The chunks in the order of names.
    pub fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// The chunks of this state that `earlier` does not share; compares pointers, not contents.
    pub(crate) fn changed_since(&self, earlier: &Self) -> impl Iterator<Item = &Arc<Chunk>> {
        let held: HashSet<*const Chunk> = earlier.chunks.iter().map(Arc::as_ptr).collect();
        self.chunks.iter().filter(move |chunk| !held.contains(&Arc::as_ptr(chunk)))
    }

    /// Whether joining `entry` in would change nothing.
    pub fn covers(&self, id: &ImageId, entry: &Entry) -> bool {
        self.get(id.as_str()).is_some_and(|present| !entry.supersedes(present))
    }

    /// The chunk that contains or would contain this name: the first whose last name is not smaller, else the last.
    fn chunk_of(&self, id: &str) -> usize {
        let ends_before =
            |chunk: &Arc<Chunk>| chunk.entries.last_key_value().is_some_and(|(last, _)| last.as_str() < id);
        let at = self.chunks.partition_point(ends_before);
        // A name after all others belongs to the last chunk, unless that one is ended.
        if at > 0 && at == self.chunks.len() && !self.chunks[at - 1].is_ended() { at - 1 } else { at }
    }

    fn insert(&mut self, id: &ImageId, entry: &Arc<Entry>) {
        let at = self.chunk_of(id.as_str());
        if at == self.chunks.len() {
            self.chunks.push(Arc::default());
        }
        let entries = self.change(at);
        if entries.insert(id.clone(), Arc::clone(entry)).is_some() {
            return;
        }
        if ends_run(id) {
            let mut rest = entries.split_off(id);
            entries.extend(rest.remove_entry(id));
            if !rest.is_empty() {
                self.chunks.insert(at + 1, Arc::new(Chunk { entries: rest, summary: OnceLock::new() }));
                self.settle(at + 1);
            }
        }
        self.settle(at);
    }

    fn remove(&mut self, id: &ImageId) {
        let at = self.chunk_of(id.as_str());
        if at == self.chunks.len() || self.change(at).remove(id).is_none() {
            return;
        }
        self.settle(at);
        if self.chunks[at].entries.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// The entries of a chunk, for a change.
    fn change(&mut self, at: usize) -> &mut BTreeMap<ImageId, Arc<Entry>> {
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        chunk.summary = OnceLock::new();
        &mut chunk.entries
    }

    /// Restores the chunk boundaries after a change of one chunk, and of the following ones as far as they are
    /// affected.
    fn settle(&mut self, mut at: usize) {
        while self.settle_one(at) {
            at += 1;
        }
    }

    /// Moves entries between a chunk and the next one; returns whether the next one has to be checked.
    fn settle_one(&mut self, at: usize) -> bool {
        let ended = self.chunks[at].is_ended();
        if self.chunks[at].entries.len() > CHUNK_RECORDS {
            let last = self.change(at).pop_last();
            if ended || at + 1 == self.chunks.len() {
                self.chunks.insert(at + 1, Arc::default());
            }
            self.change(at + 1).extend(last);
            return true;
        }
        let mut took = false;
        while self.chunks[at].entries.len() < CHUNK_RECORDS && !self.chunks[at].is_ended() && at + 1 < self.chunks.len()
        {
            let first = self.change(at + 1).pop_first();
            self.change(at).extend(first);
            took = true;
            if self.chunks[at + 1].entries.is_empty() {
                self.chunks.remove(at + 1);
                took = false;
            }
        }
        took
    }
}

impl Deref for State {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.all
    }
}

impl State {
    /// A snapshot of this moment; costs a pointer per chunk.
    pub fn snapshot(&self) -> Snapshot {
        self.all.clone()
    }

    /// Live images, newest first, starting after `after` if given.
    pub fn newest(&self, after: Option<&Position>) -> impl Iterator<Item = (Position, &Arc<Entry>)> {
        self.listed.images(after)
    }

    /// Live images, newest first, but only the newest of each group. Groups that grew after `started` keep their
    /// earlier position.
    pub fn leaders(
        &self,
        after: Option<&Position>,
        started: Option<Timestamp>,
    ) -> impl Iterator<Item = (Position, &Arc<Entry>)> {
        self.listed.leaders(after, started)
    }

    /// How many live images there are, each group counted once.
    pub fn leading(&self) -> usize {
        self.listed.leading()
    }

    /// The live images of a group, newest first.
    pub fn group(&self, id: &str) -> impl Iterator<Item = (Position, &Arc<Entry>)> {
        self.listed.group(id)
    }

    /// When the newest live image was uploaded, and the oldest.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        self.listed.span()
    }

    /// The `order` for a new last image of a group; `None` if the group is empty.
    pub fn next_order(&self, group_id: &str) -> Option<i64> {
        let orders = self.group(group_id).filter_map(|(_, entry)| entry.live()?.order);
        orders.max().map(|last| last.saturating_add(1))
    }

    /// Joins one entry in; returns whether it changed the state.
    pub fn join(&mut self, id: &ImageId, entry: &Arc<Entry>) -> bool {
        if let Some(present) = self.get(id.as_str()).cloned() {
            if !entry.supersedes(&present) {
                return false;
            }
            self.forget(id, &present);
        }
        self.remember(id, entry);
        self.all.insert(id, entry);
        true
    }

    /// Joins every entry of `other`; returns whether that changed the state.
    pub fn join_all(&mut self, other: &Snapshot) -> bool {
        let mut changed = false;
        for (id, entry) in other.iter() {
            changed |= self.join(id, entry);
        }
        if other.totals.dropped > self.totals().dropped {
            // Another process has dropped old tombstones. This state must not bring them back or count them twice.
            self.drop_tombstones(|id, _| other.get(id.as_str()).is_none());
            self.set_dropped(other.totals.dropped, other.floor);
            changed = true;
        }
        changed
    }

    /// Drops the tombstones that `old` selects and counts them as dropped; returns how many there were.
    pub fn expire_tombstones(&mut self, old: impl Fn(&Tombstone) -> bool) -> u64 {
        let dropped = self.drop_tombstones(|_, tombstone| old(tombstone));
        self.all.totals.dropped += dropped;
        dropped
    }

    /// Sets how many tombstones have been dropped and their highest version, as read from a checkpoint.
    pub(super) fn set_dropped(&mut self, dropped: u64, floor: u64) {
        self.all.totals.dropped = dropped;
        self.all.floor = self.all.floor.max(floor);
    }

    fn drop_tombstones(&mut self, pick: impl Fn(&ImageId, &Tombstone) -> bool) -> u64 {
        let picked = |(id, entry): (&ImageId, &Arc<Entry>)| {
            pick(id, entry.tombstone()?).then(|| (id.clone(), entry.stamp.version))
        };
        let picked: Vec<(ImageId, u64)> = self.iter().filter_map(picked).collect();
        for (id, version) in &picked {
            self.all.remove(id);
            self.all.floor = self.all.floor.max(*version);
        }
        self.all.totals.deleted -= picked.len() as u64;
        picked.len() as u64
    }

    fn remember(&mut self, id: &ImageId, entry: &Arc<Entry>) {
        let Some(record) = entry.live() else {
            self.all.totals.deleted += 1;
            return;
        };
        self.all.totals.live += 1;
        self.all.totals.undigested += u64::from(lacks_digest(id, record));
        self.all.totals.bytes += record.size.unwrap_or(0);
        self.listed.insert(id, entry);
    }

    fn forget(&mut self, id: &ImageId, entry: &Entry) {
        let Some(record) = entry.live() else {
            self.all.totals.deleted -= 1;
            return;
        };
        self.all.totals.live -= 1;
        self.all.totals.undigested -= u64::from(lacks_digest(id, record));
        self.all.totals.bytes -= record.size.unwrap_or(0);
        self.listed.remove(id, entry);
    }
}

impl PartialEq for Snapshot {
    /// Equal when they hold the same entries.
    fn eq(&self, other: &Self) -> bool {
        self.totals == other.totals && self.floor == other.floor && self.iter().eq(other.iter())
    }
}

impl FromIterator<(ImageId, Arc<Entry>)> for State {
    fn from_iter<I: IntoIterator<Item = (ImageId, Arc<Entry>)>>(entries: I) -> Self {
        let mut state = Self::default();
        for (id, entry) in entries {
            state.join(&id, &entry);
        }
        state
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
