//! [`Record`]: the metadata of an image, and its JSON.

mod entry;

pub(super) use entry::InFull;
pub use entry::{Change, Content, Entry, Stamp, Tombstone};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use store::digest::Digest;

/// The metadata of one image.
///
/// Its JSON in metadata files and exports has every documented field, `null` if unset; in commits and in the pages of
/// backups, which are addressed by their digests, it has only those that are set. A field of the older format that is
/// unknown, or that has an unexpected type, is kept unchanged in `extra`; `null` is the same as unset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// A freely chosen category, such as `fun`.
    pub category: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// When it was uploaded, RFC 3339; kept as the original text.
    pub upload_date: Option<String>,
    /// When a user chose it for upload, RFC 3339: its position in lists.
    pub queued_at: Option<String>,
    /// What it is: `image` for everything uploaded.
    pub kind: Option<String>,
    /// The group it belongs to.
    pub group_id: Option<String>,
    /// The title of that group, stored with each of its images.
    pub group_title: Option<String>,
    /// Its position in the group.
    pub order: Option<i64>,
    /// The file name from the client.
    pub original_name: Option<String>,
    /// Media type, as detected from the bytes.
    pub content_type: Option<String>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Width in pixels, as browsers show the image. If `orientation` is not set, that of the stored pixels.
    pub width: Option<u64>,
    /// Height in pixels, of the same picture as the width.
    pub height: Option<u64>,
    /// How to rotate the stored pixels for display, as an Exif value from 1 to 8. Not set in records that are older
    /// than this field.
    pub orientation: Option<u64>,
    /// Set if the file ends before its picture does.
    pub truncated: Option<bool>,
    /// Digest of the bytes.
    pub sha256: Option<Digest>,
    /// Digest of the request that created it under an `Idempotency-Key`.
    pub request_digest: Option<Digest>,
    /// Every other field. A field that is declared above is here only if its value does not fit there.
    pub extra: Map<String, Value>,
}

/// The fields that every record in a metadata file has.
pub(crate) const DOCUMENTED: [&str; 12] = [
    "category",
    "description",
    "uploadDate",
    "type",
    "groupId",
    "order",
    "originalName",
    "contentType",
    "size",
    "width",
    "height",
    "sha256",
];

fn put<M: SerializeMap, T: Serialize>(map: &mut M, name: &str, value: &Option<T>) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, value),
        None => Ok(()),
    }
}

/// Whether unset fields are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unset {
    LeftOut,
    Null,
}

impl Record {
    fn serialize_fields<M: SerializeMap>(&self, map: &mut M, unset: Unset) -> Result<(), M::Error> {
        fn documented<M: SerializeMap, T: Serialize>(
            (map, extra, unset): (&mut M, &Map<String, Value>, Unset),
            name: &str,
            value: &Option<T>,
        ) -> Result<(), M::Error> {
            // A value from an import under this name is written below.
            if value.is_none() && unset == Unset::Null && !extra.contains_key(name) {
                return map.serialize_entry(name, &Value::Null);
            }
            put(map, name, value)
        }
        documented((map, &self.extra, unset), "category", &self.category)?;
        documented((map, &self.extra, unset), "description", &self.description)?;
        documented((map, &self.extra, unset), "uploadDate", &self.upload_date)?;
        put(map, "queuedAt", &self.queued_at)?;
        documented((map, &self.extra, unset), "type", &self.kind)?;
        documented((map, &self.extra, unset), "groupId", &self.group_id)?;
        put(map, "groupTitle", &self.group_title)?;
        documented((map, &self.extra, unset), "order", &self.order)?;
        documented((map, &self.extra, unset), "originalName", &self.original_name)?;
        documented((map, &self.extra, unset), "contentType", &self.content_type)?;
        documented((map, &self.extra, unset), "size", &self.size)?;
        documented((map, &self.extra, unset), "width", &self.width)?;
        documented((map, &self.extra, unset), "height", &self.height)?;
        put(map, "orientation", &self.orientation)?;
        put(map, "truncated", &self.truncated)?;
        documented((map, &self.extra, unset), "sha256", &self.sha256)?;
        put(map, "requestDigest", &self.request_digest)?;
        let mut others = self.extra.iter().filter(|(name, _)| !self.has(name));
        others.try_for_each(|(name, value)| map.serialize_entry(name, value))
    }

    /// Whether this field is set, so that a value from an import in `extra` is not written as well.
    fn has(&self, name: &str) -> bool {
        match name {
            "category" => self.category.is_some(),
            "description" => self.description.is_some(),
            "uploadDate" => self.upload_date.is_some(),
            "queuedAt" => self.queued_at.is_some(),
            "type" => self.kind.is_some(),
            "groupId" => self.group_id.is_some(),
            "groupTitle" => self.group_title.is_some(),
            "order" => self.order.is_some(),
            "originalName" => self.original_name.is_some(),
            "contentType" => self.content_type.is_some(),
            "size" => self.size.is_some(),
            "width" => self.width.is_some(),
            "height" => self.height.is_some(),
            "orientation" => self.orientation.is_some(),
            "truncated" => self.truncated.is_some(),
            "sha256" => self.sha256.is_some(),
            "requestDigest" => self.request_digest.is_some(),
            _ => false,
        }
    }

    /// The group it belongs to. An imported group without a name does not count.
    pub fn group(&self) -> Option<&str> {
        self.group_id.as_deref().filter(|group| !group.is_empty())
    }

    /// The texts in which a list looks for words, in lower case: description, original name, category, group title and
    /// URL.
    pub fn searched_text(&self) -> impl Iterator<Item = String> {
        let fields = [&self.description, &self.original_name, &self.category, &self.group_title];
        let url = self.extra.get("url").and_then(|url| url.as_str());
        fields.into_iter().flatten().map(String::as_str).chain(url).map(str::to_lowercase)
    }

    /// Whether it is a link to a file elsewhere, which has no bytes here.
    pub fn is_link(&self) -> bool {
        self.extra.contains_key("url") || self.kind.as_deref() == Some("link")
    }

    /// A record of the older format. A field whose name is reserved by Keepsake is kept under another name.
    pub fn from_older(fields: Map<String, Value>) -> Self {
        let mut record = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "version" | "commit" | "deletedAt" => record.set(format!("older:{name}"), value),
                _ => record.set(name, value),
            }
        }
        record
    }

    /// Sets one field; a value that does not fit its name goes to `extra`, so that nothing is lost.
    fn set(&mut self, name: String, value: Value) {
        fn text(slot: &mut Option<String>, value: Value) -> Option<Value> {
            match value {
                Value::String(s) => {
                    *slot = Some(s);
                    None
                }
                other => Some(other),
            }
        }
        fn parsed<T>(slot: &mut Option<T>, value: Value, parse: impl Fn(&Value) -> Option<T>) -> Option<Value> {
            match parse(&value) {
                Some(parsed) => {
                    *slot = Some(parsed);
                    None
                }
                None => Some(value),
            }
        }
        let digest = |v: &Value| v.as_str()?.parse().ok();
        if value.is_null() && DOCUMENTED.contains(&name.as_str()) {
            return;
        }
        let orientation = |v: &Value| v.as_u64().filter(|value| (1..=8).contains(value));
        let left = match name.as_str() {
            "category" => text(&mut self.category, value),
            "description" => text(&mut self.description, value),
            "uploadDate" => text(&mut self.upload_date, value),
            "queuedAt" => text(&mut self.queued_at, value),
            "type" => text(&mut self.kind, value),
            "groupId" => text(&mut self.group_id, value),
            "groupTitle" => text(&mut self.group_title, value),
            "order" => parsed(&mut self.order, value, Value::as_i64),
            "originalName" => text(&mut self.original_name, value),
            "contentType" => text(&mut self.content_type, value),
            "size" => parsed(&mut self.size, value, Value::as_u64),
            "width" => parsed(&mut self.width, value, Value::as_u64),
            "height" => parsed(&mut self.height, value, Value::as_u64),
            "orientation" => parsed(&mut self.orientation, value, orientation),
            "truncated" => parsed(&mut self.truncated, value, Value::as_bool),
            "sha256" => parsed(&mut self.sha256, value, digest),
            "requestDigest" => parsed(&mut self.request_digest, value, digest),
            _ => Some(value),
        };
        if let Some(value) = left {
            self.extra.insert(name, value);
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.serialize_fields(&mut map, Unset::Null)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_older_format_keeps_every_field() {
        let older = r#"{"category":"fun","uploadDate":"2024-01-01","order":"7","size":-1,"x":{"y":[1,null]},"z":null,"groupId":null}"#;
        let entry: Entry = serde_json::from_str(older).unwrap();
        let back = serde_json::to_value(entry.live().unwrap()).unwrap();
        for (name, value) in serde_json::from_str::<Map<String, Value>>(older).unwrap() {
            assert_eq!(back.get(&name), Some(&value), "{name}");
        }
    }

    #[test]
    fn a_metadata_file_has_every_documented_field_and_null_is_not_set() {
        let sparse = r#"{"groupId":null,"size":-1,"version":2,"commit":"00000000-0000-0000-0000-000000000001"}"#;
        let entry: Entry = serde_json::from_str(sparse).unwrap();
        let in_full = serde_json::to_value(InFull(&entry)).unwrap();
        let fields = in_full.as_object().unwrap();
        for name in DOCUMENTED {
            let expected = if name == "size" { Value::from(-1) } else { Value::Null };
            assert_eq!(fields.get(name), Some(&expected), "{name}");
        }
        assert_eq!(fields.len(), DOCUMENTED.len() + 2, "and the two of its stamp");
        let back: Entry = serde_json::from_value(in_full).unwrap();
        assert_eq!(back, entry);
        assert!(!serde_json::to_string(&back).unwrap().contains("null"), "a commit or a chunk leaves them out");
    }

    #[test]
    fn number_in_imported_record_round_trips_unchanged() {
        let mut text =
            r#"{"score":8.88888888888889e+62,"version":0,"commit":"00000000-0000-0000-0000-000000000000"}"#.to_owned();
        for _ in 0..3 {
            let again = serde_json::to_string(&serde_json::from_str::<Entry>(&text).unwrap()).unwrap();
            assert_eq!(again, text);
            text = again;
        }
    }
}
