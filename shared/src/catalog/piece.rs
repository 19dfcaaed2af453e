//! The pieces of a stored state besides roots: metadata files and commits, and their encoding.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::record::{Content, Entry, Record, Stamp};
use crate::base::seal;
use crate::layout::{ImageId, RESERVED_NAME};
use store::StoreError;

/// The version of the encoding of metadata files and commits.
pub(super) const FORMAT: u32 = 1;

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

/// A decoded metadata file.
#[derive(Debug)]
pub enum MetadataFile {
    /// Written by Keepsake.
    Ours(Ours),
    /// The older format: records by file name, without Keepsake's own fields.
    Older(Older),
}

/// A metadata file that Keepsake wrote.
#[derive(Debug, PartialEq)]
pub struct Ours {
    /// The store it belongs to.
    pub store: Uuid,
    /// The top page of the tree by name that it was written from. Versions without trees leave it out: then the file
    /// may have what no root has.
    pub tree: Option<String>,
    /// How many tombstones had been dropped.
    pub dropped_tombstones: u64,
    /// The highest version of a tombstone that was dropped.
    pub dropped_version: u64,
    /// All entries, deleted ones included.
    pub entries: Vec<(ImageId, Arc<Entry>)>,
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

/// Decodes a metadata file, of our format or of the older one.
pub fn decode_metadata_file(bytes: &[u8]) -> Result<MetadataFile, PieceError> {
    match seal::check(bytes) {
        Ok(()) => decode_ours(bytes),
        Err(missing @ seal::SealError::Missing) => match serde_json::from_slice::<Map<String, Value>>(bytes) {
            Ok(map) if !map.contains_key(RESERVED_NAME) => Ok(MetadataFile::Older(older(map))),
            _ => Err(missing.into()),
        },
        // Sealed bytes are ours, even if the damaged part is the reserved name.
        Err(broken @ seal::SealError::Broken) => Err(broken.into()),
    }
}

fn decode_ours(bytes: &[u8]) -> Result<MetadataFile, PieceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        format: u32,
        store: Uuid,
        #[serde(default)]
        tree: Option<String>,
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
                    f.write_str("a metadata file")
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
    let Own { store, tree, dropped_tombstones, dropped_version, tombstones, .. } = own;
    let entries = records.into_iter().chain(tombstones.0).collect();
    Ok(MetadataFile::Ours(Ours { store, tree, dropped_tombstones, dropped_version, entries }))
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

/// Decodes the records of one backup chunk, of format 1.
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
    /// The images that it changes.
    pub(super) fn images(&self) -> Arc<[ImageId]> {
        self.entries.iter().map(|(id, _)| id.clone()).collect()
    }

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
    use crate::base::seal::UNSEALED;

    #[test]
    fn only_a_sound_map_of_records_is_of_the_older_format() {
        for damaged in ["", "[]", "null", "garbage", "{\"$keepsake\": {}}", "{\"a.jpg\": {}"] {
            assert!(decode_metadata_file(damaged.as_bytes()).is_err(), "{damaged}");
        }
        let Ok(MetadataFile::Older(older)) =
            decode_metadata_file(br#"{"a.jpg": {"category": "fun", "version": "x"}, "b/c": {}}"#)
        else {
            panic!("the older format is taken");
        };
        assert_eq!(older.records.len(), 1);
        assert_eq!(older.unusable, [("b/c".to_owned(), serde_json::json!({}))]);
    }

    #[test]
    fn a_newer_format_is_not_taken_for_damage() {
        let text = seal::seal_document(&serde_json::json!({ "$keepsake": { "digest": UNSEALED, "format": 2 } }));
        assert!(matches!(decode_metadata_file(&text), Err(PieceError::Newer(2))));
    }
}
