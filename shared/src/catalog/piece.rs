//! The pieces of a stored state, checkpoints and commits, and their encoding.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::record::{Content, Entry, InFull, Record, Stamp};
use super::state::{Snapshot, State};
use crate::base::seal::{self, UNSEALED};
use crate::layout::{ImageId, RESERVED_NAME};
use store::StoreError;

/// The version of the encoding of checkpoints and commits.
const FORMAT: u32 = 1;

/// Why a piece cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// Torn, damaged or changed by hand.
    #[error(transparent)]
    Seal(#[from] seal::SealError),
    /// It cannot be read at all.
    #[error("the document cannot be read from where it lies")]
    Unreadable(#[source] StoreError),
    /// Not the expected JSON.
    #[error("the document cannot be read")]
    Json(#[from] serde_json::Error),
    /// Written by a newer Keepsake. Never treated as damage: a piece that cannot be interpreted must not be replaced.
    #[error("the document has format {0}, which this version does not know; use the version of Keepsake that wrote it")]
    Newer(u32),
}

/// A decoded checkpoint.
#[derive(Debug)]
pub enum Checkpoint {
    /// Our format: the state, and the id of the store it belongs to.
    Ours(State, Uuid),
    /// The older format: records by file name, without Keepsake's own fields.
    Older(Older),
}

/// An `image-metadata.json` of the older format.
#[derive(Debug, Default)]
pub struct Older {
    /// Its records, at version 0, so that any change made here wins.
    pub records: Vec<(ImageId, Arc<Entry>)>,
    /// Entries whose name is not a valid file name here, or whose value is not a record.
    pub unusable: Vec<(String, Value)>,
}

/// A commit: the new state of one or more images.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its id.
    pub id: Uuid,
    /// The new states.
    pub entries: Vec<(ImageId, Arc<Entry>)>,
}

/// Encodes a checkpoint: one JSON object keyed by file name, with [`RESERVED_NAME`] first.
pub fn encode_checkpoint(state: &Snapshot, store: Uuid) -> Vec<u8> {
    seal::seal_document(&CheckpointJson { state, store })
}

struct CheckpointJson<'a> {
    state: &'a Snapshot,
    store: Uuid,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Own<'a> {
    digest: &'static str,
    format: u32,
    store: Uuid,
    dropped_tombstones: u64,
    dropped_version: u64,
    tombstones: Tombstones<'a>,
}

struct Tombstones<'a>(&'a Snapshot);

impl Serialize for Tombstones<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter(|(_, entry)| entry.tombstone().is_some()))
    }
}

impl Serialize for CheckpointJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = Own {
            digest: UNSEALED,
            format: FORMAT,
            store: self.store,
            dropped_tombstones: self.state.totals().dropped,
            dropped_version: self.state.floor(),
            tombstones: Tombstones(self.state),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(RESERVED_NAME, &own)?;
        for (id, entry) in self.state.iter().filter(|(_, entry)| entry.live().is_some()) {
            map.serialize_entry(id, &InFull(entry))?;
        }
        map.end()
    }
}

/// Decodes a checkpoint, of our format or of the older one.
pub fn decode_checkpoint(bytes: &[u8]) -> Result<Checkpoint, PieceError> {
    match seal::check(bytes) {
        Ok(()) => decode_ours(bytes),
        Err(missing @ seal::SealError::Missing) => match serde_json::from_slice::<Map<String, Value>>(bytes) {
            Ok(map) if !map.contains_key(RESERVED_NAME) => Ok(Checkpoint::Older(older(map))),
            _ => Err(missing.into()),
        },
        // Sealed bytes are ours, even if the damaged part is the reserved name.
        Err(broken @ seal::SealError::Broken) => Err(broken.into()),
    }
}

fn decode_ours(bytes: &[u8]) -> Result<Checkpoint, PieceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        format: u32,
        store: Uuid,
        dropped_tombstones: u64,
        dropped_version: u64,
        tombstones: Entries,
    }

    /// The format version alone, read before any field that a newer format may have changed.
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "$keepsake")]
        own: FormatOnly,
    }

    struct Whole(Option<Own>, Vec<(ImageId, Arc<Entry>)>);

    impl<'de> Deserialize<'de> for Whole {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct WholeVisitor;
            impl<'de> Visitor<'de> for WholeVisitor {
                type Value = Whole;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a checkpoint")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Whole, A::Error> {
                    let mut whole = Whole(None, Vec::new());
                    while let Some(name) = map.next_key::<String>()? {
                        if name == RESERVED_NAME {
                            whole.0 = Some(map.next_value()?);
                        } else {
                            let id = ImageId::new(&name).map_err(serde::de::Error::custom)?;
                            whole.1.push((id, Arc::new(map.next_value()?)));
                        }
                    }
                    Ok(whole)
                }
            }
            deserializer.deserialize_map(WholeVisitor)
        }
    }

    let Whole(own, records) = match serde_json::from_slice(bytes) {
        Ok(whole) => whole,
        Err(error) => match serde_json::from_slice::<Probe>(bytes) {
            Ok(probe) if probe.own.format > FORMAT => return Err(PieceError::Newer(probe.own.format)),
            _ => return Err(error.into()),
        },
    };
    let own = own.ok_or(seal::SealError::Missing)?;
    if own.format > FORMAT {
        return Err(PieceError::Newer(own.format));
    }
    let mut state: State = records.into_iter().chain(own.tombstones.0).collect();
    state.set_dropped(own.dropped_tombstones, own.dropped_version);
    Ok(Checkpoint::Ours(state, own.store))
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// A JSON object of entries keyed by file name, in their original order.
struct Entries(Vec<(ImageId, Arc<Entry>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("records keyed by file name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some((id, entry)) = map.next_entry()? {
                    entries.push((id, Arc::new(entry)));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Decodes the records of one backup chunk, as encoded by [`super::Chunk::encode`].
pub fn decode_chunk(bytes: &[u8]) -> Result<Vec<(ImageId, Arc<Entry>)>, PieceError> {
    Ok(serde_json::from_slice::<Entries>(bytes)?.0)
}

fn older(map: Map<String, Value>) -> Older {
    let mut older = Older::default();
    for (name, value) in map {
        match (ImageId::new(&name), value) {
            (Ok(id), Value::Object(fields)) => {
                let content = Content::Live(Record::from_older(fields));
                older.records.push((id, Arc::new(Entry { stamp: Stamp::default(), content })));
            }
            (_, value) => older.unusable.push((name, value)),
        }
    }
    older
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitJson<R> {
    format: u32,
    id: Uuid,
    created_at: String,
    records: R,
}

impl Commit {
    /// The same change under another id.
    pub(super) fn under(&self, id: Uuid) -> Self {
        let restamped = |entry: &Entry| Entry { stamp: Stamp { commit: id, ..entry.stamp }, ..entry.clone() };
        let entries = self.entries.iter().map(|(name, entry)| (name.clone(), Arc::new(restamped(entry)))).collect();
        Self { id, entries }
    }

    /// Encodes the commit.
    pub fn encode(&self, created_at: Timestamp) -> Bytes {
        struct Borrowed<'a>(&'a [(ImageId, Arc<Entry>)]);
        impl Serialize for Borrowed<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|(id, entry)| (id, entry)))
            }
        }
        let json = CommitJson {
            format: FORMAT,
            id: self.id,
            created_at: crate::base::clock::format_millis(created_at),
            records: Borrowed(&self.entries),
        };
        seal::seal(&json).into()
    }

    /// Decodes a commit.
    pub fn decode(bytes: &[u8]) -> Result<Self, PieceError> {
        seal::check(bytes)?;
        let format = serde_json::from_slice::<CommitJson<IgnoredAny>>(bytes)?.format;
        if format > FORMAT {
            return Err(PieceError::Newer(format));
        }
        let json: CommitJson<Entries> = serde_json::from_slice(bytes)?;
        Ok(Self { id: json.id, entries: json.records.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_leave_in_the_checkpoint_is_told_from_ours() {
        for damaged in ["", "[]", "null", "garbage", "{\"$keepsake\": {}}", "{\"a.jpg\": {}"] {
            assert!(decode_checkpoint(damaged.as_bytes()).is_err(), "{damaged}");
        }
        let Ok(Checkpoint::Older(older)) =
            decode_checkpoint(br#"{"a.jpg": {"category": "fun", "version": "x"}, "b/c": {}}"#)
        else {
            panic!("the older format is taken");
        };
        assert_eq!(older.records.len(), 1);
        assert_eq!(older.unusable, [("b/c".to_owned(), serde_json::json!({}))]);
    }

    #[test]
    fn checkpoint_with_corrupt_reserved_name_is_not_older_format() {
        let whole = encode_checkpoint(&Snapshot::default(), Uuid::from_u128(1));
        let name_at = whole.windows(RESERVED_NAME.len()).position(|w| w == RESERVED_NAME.as_bytes()).unwrap();
        for at in name_at..name_at + RESERVED_NAME.len() {
            let mut rotten = whole.clone();
            rotten[at] ^= 1;
            assert!(decode_checkpoint(&rotten).is_err(), "{}", String::from_utf8_lossy(&rotten));
        }
    }

    #[test]
    fn a_checkpoint_reads_back_as_the_state_it_was() {
        let entry =
            |version, content| Arc::new(Entry { stamp: Stamp { version, commit: Uuid::from_u128(9) }, content });
        let tombstone = super::super::Tombstone { deleted_at: Timestamp::UNIX_EPOCH, sha256: None };
        let state: State = [
            (ImageId::new("a.jpg").unwrap(), entry(3, Content::Live(Record::default()))),
            (ImageId::new("b.jpg").unwrap(), entry(4, Content::Deleted(tombstone))),
        ]
        .into_iter()
        .collect();
        let Ok(Checkpoint::Ours(back, store)) = decode_checkpoint(&encode_checkpoint(&state, Uuid::from_u128(1)))
        else {
            panic!("it is ours");
        };
        assert_eq!((&*back, store), (&*state, Uuid::from_u128(1)));
    }

    #[test]
    fn a_newer_format_is_not_taken_for_damage() {
        let text = seal::seal_document(&serde_json::json!({ "$keepsake": { "digest": UNSEALED, "format": 2 } }));
        assert!(matches!(decode_checkpoint(&text), Err(PieceError::Newer(2))));
    }
}
