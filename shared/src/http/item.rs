//! [`Item`] and [`GroupItem`]: the JSON of an image and of a group.

use std::sync::Arc;

use headers::ETag;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::catalog::{DOCUMENTED, Entry, Record};
use crate::layout::ImageId;
use crate::services::groups::Group;
use crate::services::upload::links;
use store::digest::Hasher;

/// The characters that need no encoding in a path segment.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An image as JSON: every documented field, `null` if unset, followed by all other fields of an imported record.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    id: &'a ImageId,
    record: &'a Record,
    /// The prefix of its URL: a scheme and an authority, or empty.
    base: &'a str,
}

impl<'a> Item<'a> {
    /// The item of a live image.
    pub fn new((id, entry): &'a (ImageId, Arc<Entry>)) -> Option<Self> {
        Some(Self { id, record: entry.live()?, base: "" })
    }

    /// The same item with an absolute URL, which begins with `base`; a relative one if that is empty.
    #[must_use]
    pub fn at(self, base: &'a str) -> Self {
        Self { base, ..self }
    }

    /// Writes a documented field. A value of another type than its own is stored and returned unchanged.
    fn field<M: SerializeMap>(&self, map: &mut M, name: &str, value: Option<impl Serialize>) -> Result<(), M::Error> {
        match value {
            Some(value) => map.serialize_entry(name, &value),
            None => map.serialize_entry(name, &self.record.extra.get(name)),
        }
    }

    /// The URL of the image's bytes. An imported record without bytes contains its own.
    pub fn url(&self) -> String {
        match self.record.extra.get("url") {
            Some(Value::String(elsewhere)) if self.record.sha256.is_none() => elsewhere.clone(),
            _ => format!("{}/uploads/{}", self.base, utf8_percent_encode(self.id.as_str(), UNRESERVED)),
        }
    }
}

/// What an item never has from other fields of an imported record: its own fields beside those of each record, and an
/// internal one.
const RESERVED: [&str; 5] = ["id", "url", "filename", "orientation", "requestDigest"];

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, record, .. } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", id)?;
        map.serialize_entry("url", &self.url())?;
        map.serialize_entry("filename", id)?;
        self.field(&mut map, "category", record.category.as_ref())?;
        self.field(&mut map, "description", record.description.as_ref())?;
        self.field(&mut map, "uploadDate", record.upload_date.as_ref())?;
        self.field(&mut map, "type", record.kind.as_ref())?;
        self.field(&mut map, "groupId", record.group_id.as_ref())?;
        self.field(&mut map, "order", record.order)?;
        self.field(&mut map, "originalName", record.original_name.as_ref())?;
        self.field(&mut map, "contentType", record.content_type.as_ref())?;
        self.field(&mut map, "size", record.size)?;
        self.field(&mut map, "width", record.width)?;
        self.field(&mut map, "height", record.height)?;
        self.field(&mut map, "orientation", record.orientation)?;
        self.field(&mut map, "sha256", record.sha256)?;
        let mut shown = Vec::new();
        if record.kind.as_deref() == Some("link") && record.sha256.is_none() {
            let embed = links::parse(&self.url()).ok().and_then(|url| links::embed(&url));
            shown.extend(["provider", "embedUrl"]);
            map.serialize_entry("provider", &embed.as_ref().map(|embed| embed.provider.name()))?;
            map.serialize_entry("embedUrl", &embed.map(|embed| embed.url))?;
        }
        if let Some(queued_at) = &record.queued_at {
            shown.push("queuedAt");
            map.serialize_entry("queuedAt", queued_at)?;
        }
        if let Some(truncated) = record.truncated {
            shown.push("truncated");
            map.serialize_entry("truncated", &truncated)?;
        }
        if let Some(title) = &record.group_title {
            shown.push("groupTitle");
            map.serialize_entry("groupTitle", title)?;
        }
        for (name, value) in &record.extra {
            if ![&RESERVED[..], &DOCUMENTED, &shown].iter().any(|names| names.contains(&name.as_str())) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// A group as JSON: the fields of an item, for the whole group, and the items of its images in order.
#[derive(Debug, Clone, Copy)]
pub struct GroupItem<'a> {
    group: &'a Group,
    most_files: usize,
    base: &'a str,
}

impl<'a> GroupItem<'a> {
    /// The item of a group, with at most `most_files` of its images: a response may have to be truncated.
    pub fn new(group: &'a Group, most_files: usize) -> Self {
        Self { group, most_files, base: "" }
    }

    /// The same item with URLs that begin with `base`; see [`Item::at`].
    #[must_use]
    pub fn at(self, base: &'a str) -> Self {
        Self { base, ..self }
    }
}

impl Serialize for GroupItem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Group { id, images, upload_date } = self.group;
        let title_record = self.group.title_record();
        let items = images.iter().filter_map(Item::new).map(|item| item.at(self.base));
        let files: Vec<Item<'_>> = items.clone().take(self.most_files).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "group")?;
        map.serialize_entry("id", id)?;
        map.serialize_entry("etag", &tag_of(self.group))?;
        map.serialize_entry("groupId", id)?;
        map.serialize_entry("title", &self.group.title())?;
        map.serialize_entry("category", &title_record.and_then(|record| record.category.as_ref()))?;
        map.serialize_entry("description", &title_record.and_then(|record| record.description.as_ref()))?;
        map.serialize_entry("uploadDate", upload_date)?;
        map.serialize_entry("url", &items.clone().next().map(|item| item.url()))?;
        map.serialize_entry("order", &Value::Null)?;
        map.serialize_entry("fileCount", &images.len())?;
        map.serialize_entry("files", &files)?;
        map.end()
    }
}

/// The version of a group, for `ETag` and `If-Match`: it changes with each change of one of its images, and is the same
/// in every process.
pub fn group_etag(group: &Group) -> ETag {
    tag_of(group).parse().unwrap_or_else(|_| unreachable!("hexadecimal digits make a valid tag"))
}

fn tag_of(group: &Group) -> String {
    let mut hasher = Hasher::default();
    for (id, entry) in &group.images {
        hasher.update(format!("{id} {} {}\n", entry.stamp.version, entry.stamp.commit).as_bytes());
    }
    format!("\"g-{}\"", hasher.finish())
}

/// The version of an item, for `ETag` and `If-Match`: it changes with each change of the record, and is the same in
/// every process.
pub fn etag(entry: &Entry) -> ETag {
    let tag = format!("\"v{}-{}\"", entry.stamp.version, entry.stamp.commit);
    tag.parse().unwrap_or_else(|_| unreachable!("a number and a UUID make a valid tag"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::{Content, Stamp};

    fn json_of(name: &str, older: Value) -> Value {
        let Value::Object(fields) = older else { panic!("a record is an object") };
        let content = Content::Live(Record::from_older(fields));
        let image = (ImageId::new(name).unwrap(), Arc::new(Entry { stamp: Stamp::default(), content }));
        serde_json::to_value(Item::new(&image).unwrap()).unwrap()
    }

    #[test]
    fn every_documented_field_is_there_and_null_where_it_is_not_set() {
        let item = json_of("a.jpg", json!({ "category": "fun" }));
        let expected = json!({
            "id": "a.jpg", "url": "/uploads/a.jpg", "filename": "a.jpg", "category": "fun", "description": null,
            "uploadDate": null, "type": null, "groupId": null, "order": null, "originalName": null,
            "contentType": null, "size": null, "width": null, "height": null, "orientation": null,
            "sha256": null,
        });
        assert_eq!(item, expected);
    }

    #[test]
    fn every_item_has_the_fields_that_its_description_promises() {
        let described = serde_json::to_value(<Item<'_> as utoipa::PartialSchema>::schema()).unwrap();
        let item = json_of("a.jpg", json!({}));
        for field in described["required"].as_array().unwrap() {
            assert!(item.get(field.as_str().unwrap()).is_some(), "{field}");
        }
    }

    #[test]
    fn fields_of_an_imported_record_are_shown_and_internal_ones_are_not() {
        let older = json!({ "tags": ["x"], "order": "7", "id": 5, "requestDigest": "x", "version": 3 });
        let item = json_of("a.jpg", older);
        assert_eq!((&item["tags"], &item["order"], &item["id"]), (&json!(["x"]), &json!("7"), &json!("a.jpg")));
        assert_eq!(item.get("requestDigest"), None);
    }

    #[test]
    fn any_file_name_makes_a_url_that_leads_to_it() {
        assert_eq!(json_of("Ü 1#?%.jpg", json!({}))["url"], "/uploads/%C3%9C%201%23%3F%25.jpg");
    }

    #[test]
    fn a_record_without_bytes_keeps_the_link_it_came_with() {
        assert_eq!(json_of("a", json!({ "url": "https://example.com/a" }))["url"], "https://example.com/a");
    }

    #[test]
    fn a_field_is_never_written_twice() {
        let Value::Object(fields) = json!({ "order": "7", "url": "x", "width": -1 }) else { panic!() };
        let content = Content::Live(Record::from_older(fields));
        let image = (ImageId::new("a").unwrap(), Arc::new(Entry { stamp: Stamp::default(), content }));
        let text = serde_json::to_string(&Item::new(&image).unwrap()).unwrap();
        for name in ["order", "url", "width"] {
            assert_eq!(text.matches(&format!("\"{name}\":")).count(), 1, "{text}");
        }
    }
}
