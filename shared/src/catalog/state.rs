//! [`State`]: every record at one moment, and the join that makes one out of many pieces.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::Serialize;

use super::listed::{Listed, Position};
use super::record::{Entry, Record, Tombstone};
use crate::layout::ImageId;
use store::digest::Digest;

/// The most records in a chunk: a backup after a change writes at least one anew.
const CHUNK_RECORDS: usize = 256;
/// On average so many records lie between two names that end a chunk whatever its length. A power of two.
const RUN_RECORDS: u64 = 1024;

/// The newest state of every image that is known, deleted ones included, at one moment.
///
/// Entries lie in chunks that are shared, copy on write, between snapshots: one costs a pointer a chunk, so a compaction or a
/// backup works on one while uploads go on. Where one chunk ends and the next begins follows from the names alone, so
/// equal states have equal chunks: some names end a chunk, and between two of those each has [`CHUNK_RECORDS`] but the
/// last. So a change of a record touches one chunk, and a record that comes or goes touches those up to the next such
/// name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    chunks: Vec<Arc<Chunk>>,
    totals: Totals,
    /// The highest version of a tombstone that was dropped.
    floor: u64,
}

/// A [`Snapshot`] that grows, with the indexes that reading needs.
#[derive(Debug, Default)]
pub struct State {
    all: Snapshot,
    listed: Listed,
}

/// Sums over a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Images that exist.
    pub live: u64,
    /// Images that were deleted and whose tombstone is kept.
    pub deleted: u64,
    /// Tombstones that have been dropped.
    pub dropped: u64,
    /// Images that exist and whose record has no digest: imported ones that were not looked at yet, and imported links.
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

/// A run of entries next to each other in the order of names.
#[derive(Debug, Default)]
pub struct Chunk {
    entries: BTreeMap<ImageId, Arc<Entry>>,
    summary: OnceLock<ChunkSummary>,
}

/// A chunk as a backup names it: the digest of its live records as JSON, and their sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSummary {
    /// Digest of [`Chunk::encode`].
    pub digest: Digest,
    /// Live records in it.
    pub records: u64,
    /// Length in bytes of their images.
    pub bytes: u64,
}

impl Clone for Chunk {
    /// The clone is about to change, so it forgets the summary.
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), summary: OnceLock::new() }
    }
}

impl Chunk {
    /// Whether it ends with a name that ends chunks.
    fn is_ended(&self) -> bool {
        self.entries.last_key_value().is_some_and(|(last, _)| ends_run(last))
    }

    /// The contents of the images in it, deleted ones included.
    pub(crate) fn contents(&self) -> impl Iterator<Item = Digest> {
        self.entries.values().filter_map(|entry| entry.content_digest())
    }

    /// The live records in the order of their names.
    pub fn live(&self) -> impl Iterator<Item = (&ImageId, &Arc<Entry>)> {
        self.entries.iter().filter(|(_, entry)| entry.live().is_some())
    }

    /// The live records that name no bytes although they are no links: a backup cannot bring their images back.
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

    /// What a backup writes down of this chunk; encodes it at the first call only.
    pub fn summary(&self) -> ChunkSummary {
        *self.summary.get_or_init(|| ChunkSummary {
            digest: Digest::of(&self.encode()),
            records: self.live().count() as u64,
            bytes: self.live().map(|(_, entry)| size_of(entry)).sum(),
        })
    }
}

/// Whether a record waits for a look at its file. Links that were made here have none.
fn lacks_digest(id: &ImageId, record: &Record) -> bool {
    record.sha256.is_none() && !id.is_link()
}

fn size_of(entry: &Entry) -> u64 {
    entry.live().and_then(|r| r.size).unwrap_or(0)
}

/// Whether a chunk ends with this name: FNV-1a, so that it is the same everywhere and for ever.
fn ends_run(id: &ImageId) -> bool {
    let hash =
        id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (hash >> 20).is_multiple_of(RUN_RECORDS)
}

impl Snapshot {
    /// Sums over the state.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The version that the next state of an image gets. It is above that of every tombstone ever dropped, so that one
    /// which survived somewhere never wins against an image that came back since.
    pub fn next_version(&self, id: &str) -> u64 {
        self.get(id).map_or(self.floor, |entry| entry.stamp.version) + 1
    }

    /// The version that a new image gets, whatever is known under its name: any edit or deletion of it wins against an
    /// upload that comes late, and two attempts at one upload are one image.
    pub fn first_version(&self) -> u64 {
        self.floor + 1
    }

    /// The highest version of a tombstone that was dropped.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The entry of an image, if any is known.
    pub fn get(&self, id: &str) -> Option<&Arc<Entry>> {
        self.chunks.get(self.chunk_of(id))?.entries.get(id)
    }

    /// Whether there is an image of this name that was not deleted.
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

    /// The chunks of this state that an earlier one has not, by where they lie and not by what is in them.
    pub(crate) fn changed_since(&self, earlier: &Self) -> impl Iterator<Item = &Arc<Chunk>> {
        let held: HashSet<*const Chunk> = earlier.chunks.iter().map(Arc::as_ptr).collect();
        self.chunks.iter().filter(move |chunk| !held.contains(&Arc::as_ptr(chunk)))
    }

    /// Whether joining `entry` in would change nothing.
    pub fn covers(&self, id: &ImageId, entry: &Entry) -> bool {
        self.get(id.as_str()).is_some_and(|present| !entry.supersedes(present))
    }

    /// The chunk that holds this name or would: the first that ends with it or later, else the last.
    fn chunk_of(&self, id: &str) -> usize {
        let ends_before =
            |chunk: &Arc<Chunk>| chunk.entries.last_key_value().is_some_and(|(last, _)| last.as_str() < id);
        let at = self.chunks.partition_point(ends_before);
        // What comes after all others belongs to the last chunk, unless that one has its end.
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

    /// The entries of a chunk, to change them.
    fn change(&mut self, at: usize) -> &mut BTreeMap<ImageId, Arc<Entry>> {
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        chunk.summary = OnceLock::new();
        &mut chunk.entries
    }

    /// Gives a chunk that changed its right length, and those behind it as far as that changes them.
    fn settle(&mut self, mut at: usize) {
        while self.settle_one(at) {
            at += 1;
        }
    }

    /// Moves entries between a chunk and the next one; returns whether the next one has to be looked at.
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
    /// The state at this moment; costs a pointer a chunk.
    pub fn snapshot(&self) -> Snapshot {
        self.all.clone()
    }

    /// Live images, newest first, after `after` where one is given.
    pub fn newest(&self, after: Option<&Position>) -> impl Iterator<Item = (Position, &Arc<Entry>)> {
        self.listed.images(after)
    }

    /// Likewise, but of each group only its newest image. Groups that grew after `started` stand where they stood then.
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

    /// The place after the last image of a group, where the group has any.
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

    /// Joins every entry of `other` in; returns whether that changed the state.
    pub fn join_all(&mut self, other: &Snapshot) -> bool {
        let mut changed = false;
        for (id, entry) in other.iter() {
            changed |= self.join(id, entry);
        }
        if other.totals.dropped > self.totals().dropped {
            // Someone has dropped old tombstones. They must not come back from here, nor be counted twice.
            self.drop_tombstones(|id, _| other.get(id.as_str()).is_none());
            self.set_dropped(other.totals.dropped, other.floor);
            changed = true;
        }
        changed
    }

    /// Drops the tombstones that `old` picks, counting them as dropped; returns how many those were.
    pub fn expire_tombstones(&mut self, old: impl Fn(&Tombstone) -> bool) -> u64 {
        let dropped = self.drop_tombstones(|_, tombstone| old(tombstone));
        self.all.totals.dropped += dropped;
        dropped
    }

    /// Takes over how many tombstones a checkpoint says have been dropped, and the highest version of any.
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
