//! [`Entry`]: a state of one image, and the join's order between states.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::{Record, Unset, put};
use store::digest::Digest;

/// The order of the states of a record: the higher version wins; of one version a deletion, whose bytes may be gone
/// already; then the greater commit id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Grows by one with each change of the record; 0 for adopted and imported records, so that any change made here
    /// wins.
    pub version: u64,
    /// The commit that made the state; nil if none did.
    pub commit: Uuid,
}

/// One state of one image's record.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its order among the other states.
    pub stamp: Stamp,
    /// The record, or a tombstone.
    pub content: Content,
}

/// The content of an [`Entry`].
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are live, and a box would cost each an allocation")]
pub enum Content {
    /// The image exists.
    Live(Record),
    /// It was deleted.
    Deleted(Tombstone),
}

/// The state of a deleted image.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// The digest of its bytes, if known.
    pub sha256: Option<Digest>,
}

impl Entry {
    /// The record of a live image.
    pub fn live(&self) -> Option<&Record> {
        match &self.content {
            Content::Live(record) => Some(record),
            Content::Deleted(_) => None,
        }
    }

    /// The tombstone of a deleted one.
    pub fn tombstone(&self) -> Option<&Tombstone> {
        match &self.content {
            Content::Live(_) => None,
            Content::Deleted(tombstone) => Some(tombstone),
        }
    }

    /// The digest of the image's bytes, deleted or not, if known.
    pub fn content_digest(&self) -> Option<Digest> {
        match &self.content {
            Content::Live(record) => record.sha256,
            Content::Deleted(tombstone) => tombstone.sha256,
        }
    }

    /// Whether this state replaces `other` in the join, by [`Stamp`]. A total order on states, so that the join is
    /// commutative: if two stamps are equal (only files of the older format and adopted images can cause that) the
    /// content decides.
    pub fn supersedes(&self, other: &Entry) -> bool {
        let rank = |entry: &Entry| (entry.stamp.version, entry.tombstone().is_some(), entry.stamp.commit);
        match rank(self).cmp(&rank(other)) {
            std::cmp::Ordering::Equal => {
                self != other && serde_json::to_string(self).ok() > serde_json::to_string(other).ok()
            }
            order => order.is_gt(),
        }
    }
}

/// A change of one image, before a commit adds its stamp.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version of the new state.
    pub version: u64,
    /// The new state.
    pub content: Content,
}

impl Change {
    /// The entry of this change in a commit.
    pub fn stamped(self, commit: Uuid) -> Arc<Entry> {
        Arc::new(Entry { stamp: Stamp { version: self.version, commit }, content: self.content })
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_with(serializer, Unset::LeftOut)
    }
}

/// An entry as written in a metadata file: with every documented field.
pub(crate) struct InFull<'a>(pub(crate) &'a Entry);

impl Serialize for InFull<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_with(serializer, Unset::Null)
    }
}

impl Entry {
    fn serialize_with<S: Serializer>(&self, serializer: S, unset: Unset) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.content {
            Content::Live(record) => record.serialize_fields(&mut map, unset)?,
            Content::Deleted(tombstone) => {
                map.serialize_entry("deletedAt", &crate::base::clock::format_millis(tombstone.deleted_at))?;
                put(&mut map, "sha256", &tombstone.sha256)?;
            }
        }
        map.serialize_entry("version", &self.stamp.version)?;
        map.serialize_entry("commit", &self.stamp.commit)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an image's record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let (mut record, mut stamp, mut deleted_at) = (Record::default(), Stamp::default(), None);
                while let Some(name) = map.next_key::<String>()? {
                    let value: Value = map.next_value()?;
                    match (name.as_str(), &value) {
                        ("version", Value::Number(n)) if n.is_u64() => stamp.version = n.as_u64().unwrap_or_default(),
                        ("commit", Value::String(s)) if Uuid::parse_str(s).is_ok() => {
                            stamp.commit = Uuid::parse_str(s).unwrap_or_default();
                        }
                        ("deletedAt", Value::String(s)) if s.parse::<Timestamp>().is_ok() => {
                            deleted_at = s.parse().ok();
                        }
                        _ => record.set(name, value),
                    }
                }
                let content = match deleted_at {
                    Some(deleted_at) => Content::Deleted(Tombstone { deleted_at, sha256: record.sha256 }),
                    None => Content::Live(record),
                };
                Ok(Entry { stamp, content })
            }
        }

        deserializer.deserialize_map(EntryVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_version_wins_and_then_the_greater_commit() {
        let entry = |version, commit, text: &str| Entry {
            stamp: Stamp { version, commit: Uuid::from_u128(commit) },
            content: Content::Live(Record { description: Some(text.into()), ..Record::default() }),
        };
        assert!(entry(2, 1, "a").supersedes(&entry(1, 9, "b")));
        assert!(entry(1, 9, "a").supersedes(&entry(1, 1, "b")));
        let tombstone = Tombstone { deleted_at: Timestamp::UNIX_EPOCH, sha256: None };
        let deleted = Entry { content: Content::Deleted(tombstone), ..entry(1, 1, "") };
        assert!(deleted.supersedes(&entry(1, 9, "a")) && entry(2, 1, "a").supersedes(&deleted));
        let (a, b) = (entry(0, 0, "a"), entry(0, 0, "b"));
        assert!(b.supersedes(&a) && !a.supersedes(&b) && !a.supersedes(&a.clone()));
    }
}
