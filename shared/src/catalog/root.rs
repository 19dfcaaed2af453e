//! [`Root`]: a state of the catalog as it is stored: the tops of its trees.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::listed::{Position, listed_at};
use super::note::Note;
use super::piece::PieceError;
use super::record::{Entry, Record};
use crate::base::seal;
use crate::layout::ImageId;
use tree::{Reader, Schema, Tree};

/// The version of the encoding.
const FORMAT: u32 = 1;

/// What the trees of the catalog hold: entries.
#[derive(Debug)]
pub(crate) struct Entries;

/// A tree of entries.
pub(crate) type EntryTree = Tree<Entries>;
/// Reads the pages of [`EntryTree`]s.
pub(crate) type EntryReader = Reader<Entries>;

/// Sums over the entries below a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Sums {
    /// Images that exist.
    pub(crate) live: u64,
    /// Deleted images.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) deleted: u64,
    /// Images that exist and whose record has no digest.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) undigested: u64,
    /// Length in bytes of the images that exist.
    pub(crate) bytes: u64,
    /// When the first of the deleted images was deleted, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_deletion: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Sums {
    pub(super) fn of(entry: &Entry, is_link: bool) -> Self {
        match (entry.live(), entry.tombstone()) {
            (Some(record), _) => Self {
                live: 1,
                // Links that were created here have no file.
                undigested: u64::from(record.sha256.is_none() && !is_link),
                bytes: record.size.unwrap_or(0),
                ..Self::default()
            },
            (None, Some(tombstone)) => {
                Self { deleted: 1, first_deletion: Some(tombstone.deleted_at.as_millisecond()), ..Self::default() }
            }
            (None, None) => Self::default(),
        }
    }
}

impl Schema for Entries {
    type Value = Entry;
    type Summary = Sums;
    type Note = Note;

    fn summary(key: &str, entry: &Entry) -> Sums {
        // Only in the tree by name is the key a name alone, and only there this is asked for.
        Sums::of(entry, ImageId::new(key).is_ok_and(|id| id.is_link()))
    }

    fn merge(all: &mut Sums, other: &Sums) {
        all.live += other.live;
        all.deleted += other.deleted;
        all.undigested += other.undigested;
        all.bytes += other.bytes;
        all.first_deletion = all.first_deletion.into_iter().chain(other.first_deletion).min();
    }

    fn note(entries: &[Entry]) -> Note {
        Note::of(entries)
    }

    fn note_weight(note: &Note) -> u64 {
        note.weight()
    }
}

/// A state of the catalog: trees of all its entries, in the orders in which they are asked for. Equal states have equal
/// roots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Root {
    /// How many tombstones have been dropped.
    pub(crate) dropped_tombstones: u64,
    /// The highest version of a tombstone that was dropped.
    pub(crate) dropped_version: u64,
    /// Every entry under its file name.
    pub(crate) names: EntryTree,
    /// The images without a group and the newest image of each group, under their [`time_key`].
    pub(crate) leading: EntryTree,
    /// The other images of groups, under their [`time_key`].
    pub(crate) following: EntryTree,
    /// The images of groups, under their [`group_key`].
    pub(crate) groups: EntryTree,
}

#[derive(Serialize, Deserialize)]
struct Document<R> {
    format: u32,
    store: Uuid,
    #[serde(flatten)]
    root: R,
}

impl Root {
    /// Encodes the root of a store; sealed JSON.
    pub(crate) fn encode(&self, store: Uuid) -> Vec<u8> {
        seal::seal(&Document { format: FORMAT, store, root: self })
    }

    /// Decodes a root; returns it with the id of its store.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, Uuid), PieceError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        seal::check(bytes)?;
        let Format { format } = serde_json::from_slice(bytes)?;
        if format > FORMAT {
            return Err(PieceError::Newer(format));
        }
        let Document { store, root, .. } = serde_json::from_slice::<Document<Self>>(bytes)?;
        Ok((root, store))
    }

    /// The trees, with a name for each.
    pub(crate) fn trees(&self) -> [&EntryTree; 4] {
        [&self.names, &self.leading, &self.following, &self.groups]
    }
}

/// The key of an image in the trees by time: keys sort as positions do.
pub(super) fn time_key((at, id): &Position) -> String {
    // From the first moment that there is, so that no number is negative.
    let nanoseconds = at.as_nanosecond() - Timestamp::MIN.as_nanosecond();
    format!("{nanoseconds:018x}/{id}")
}

/// The key of an image in the tree by group: the images of a group are adjacent, and sort by time.
pub(super) fn group_key(group: &str, position: &Position) -> String {
    format!("{group}\u{0}{}", time_key(position))
}

/// A key between those of a group and those of the next one.
pub(super) fn group_end(group: &str) -> String {
    format!("{group}\u{1}")
}

/// The position of a live image in lists.
pub(super) fn position_of(id: &ImageId, record: &Record) -> Position {
    (listed_at(record), id.clone())
}
