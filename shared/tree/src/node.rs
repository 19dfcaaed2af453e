//! A page and its encoding: gzip of one JSON object, so that `zcat` shows it.
//!
//! ```json
//! {"format":1,"level":0,"entries":{"<key>":<value>,…}}
//! {"format":1,"level":1,"entries":{"<last key below>":{"page":"<sha256>","entries":128,"summary":{…}},…}}
//! ```

use std::fmt;
use std::io::{Read as _, Write as _};
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use store::digest::Digest;

use crate::{Schema, TreeError};

/// The version of the encoding.
const FORMAT: u32 = 1;
/// The greatest length of a page's JSON in bytes that is read: the limit of a page and the greatest entry, with room.
const JSON_AT_MOST: u64 = 64 * 1024 * 1024;

/// An immutable ordered map: the link to its top page, or nothing if it is empty. As JSON it is `null` or the link.
pub struct Tree<S: Schema> {
    pub(crate) top: Option<Link<S>>,
}

/// A reference to a page.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub struct Link<S: Schema> {
    /// The distance from the leaves: 0 for a leaf.
    pub level: u8,
    /// The digest of the page's bytes, which is its name.
    pub page: Digest,
    /// How many entries are below it.
    pub entries: u64,
    /// The summary of those entries.
    pub summary: S::Summary,
}

impl<S: Schema> Tree<S> {
    /// A map without entries.
    pub const EMPTY: Self = Self { top: None };

    /// The link to the top page; `None` if the map is empty.
    pub fn top(&self) -> Option<&Link<S>> {
        self.top.as_ref()
    }

    /// How many entries it has.
    pub fn entries(&self) -> u64 {
        self.top.as_ref().map_or(0, |top| top.entries)
    }

    /// The summary of all entries.
    pub fn summary(&self) -> S::Summary {
        self.top.as_ref().map(|top| top.summary.clone()).unwrap_or_default()
    }
}

/// A decoded page: its level, and its entries in the order of their keys.
pub(crate) enum Node<S: Schema> {
    Leaf(Vec<(Box<str>, Leaf<S>)>),
    /// Children, each under the last key below it.
    Inner(Vec<(Box<str>, Link<S>)>),
}

/// The value of an entry. It is decoded when it is first asked for: a lookup needs one of a page.
pub(crate) struct Leaf<S: Schema> {
    pub(crate) json: Box<RawValue>,
    value: OnceLock<Arc<S::Value>>,
}

impl<S: Schema> Leaf<S> {
    fn of(json: Box<RawValue>) -> Self {
        Self { json, value: OnceLock::new() }
    }

    /// The value, which stays in memory with the page that the link references.
    pub(crate) fn value(&self, link: &Link<S>) -> Result<Arc<S::Value>, TreeError> {
        if let Some(value) = self.value.get() {
            return Ok(Arc::clone(value));
        }
        let value = self.decode(link)?;
        Ok(Arc::clone(self.value.get_or_init(|| Arc::new(value))))
    }

    /// The value, decoded for the caller alone.
    pub(crate) fn decode(&self, link: &Link<S>) -> Result<S::Value, TreeError> {
        decode::<S>(link, &self.json)
    }
}

/// Decodes a value of the page that a link references.
pub(crate) fn decode<S: Schema>(link: &Link<S>, json: &RawValue) -> Result<S::Value, TreeError> {
    serde_json::from_str(json.get()).map_err(|e| TreeError::Damaged { page: link.page, reason: e.to_string() })
}

impl<S: Schema> Node<S> {
    /// Decodes a page that a link references.
    pub(crate) fn decode(link: &Link<S>, bytes: &Bytes) -> Result<Self, TreeError> {
        let damaged = |reason: String| TreeError::Damaged { page: link.page, reason };
        if Digest::of(bytes) != link.page {
            return Err(damaged("its digest is another".into()));
        }
        let mut json = Vec::new();
        GzDecoder::new(&bytes[..]).take(JSON_AT_MOST).read_to_end(&mut json).map_err(|e| damaged(e.to_string()))?;
        if link.level == 0 {
            let values: Vec<(Box<str>, Box<RawValue>)> = entries(link, &json)?;
            return Ok(Self::Leaf(values.into_iter().map(|(key, json)| (key, Leaf::of(json))).collect()));
        }
        let children: Vec<(Box<str>, Child<S>)> = entries(link, &json)?;
        let below = |child: Child<S>| Link {
            level: link.level - 1,
            page: child.page,
            entries: child.entries,
            summary: child.summary,
        };
        Ok(Self::Inner(children.into_iter().map(|(last, child)| (last, below(child))).collect()))
    }

    /// The page with these entries.
    pub(crate) fn of_items(level: u8, items: Vec<Item<S>>) -> Self {
        let link = |item: Item<S>| item.link.map(|link| (item.key, link));
        match level {
            0 => Self::Leaf(items.into_iter().map(|item| (item.key, Leaf::of(item.json))).collect()),
            _ => Self::Inner(items.into_iter().filter_map(link).collect()),
        }
    }

    /// How many entries or children it has; at least one.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(children) => children.len(),
        }
    }

    fn key(&self, at: usize) -> &str {
        match self {
            Self::Leaf(entries) => &entries[at].0,
            Self::Inner(children) => &children[at].0,
        }
    }

    pub(crate) fn last_key(&self) -> &str {
        self.key(self.len() - 1)
    }

    /// How many of its keys are below `key`.
    pub(crate) fn count_before(&self, key: &str) -> usize {
        match self {
            Self::Leaf(entries) => entries.partition_point(|(own, _)| **own < *key),
            Self::Inner(children) => children.partition_point(|(own, _)| **own < *key),
        }
    }

    /// How many of its keys are not above `key`.
    pub(crate) fn count_up_to(&self, key: &str) -> usize {
        let before = self.count_before(key);
        before + usize::from(before < self.len() && self.key(before) == key)
    }

    /// Memory that it occupies, approximately, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        let weight = match self {
            // A decoded value has about as much text as its JSON.
            Self::Leaf(entries) => {
                let value = size_of::<Leaf<S>>() + size_of::<S::Value>();
                entries.iter().map(|(key, leaf)| key.len() + 2 * leaf.json.get().len() + value + 32).sum::<usize>()
            }
            Self::Inner(children) => {
                children.iter().map(|(key, _)| key.len() + 32 + size_of::<Link<S>>()).sum::<usize>()
            }
        };
        weight as u64
    }
}

/// A link as an inner page has it, where the level follows from the page's.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
struct Child<S: Schema> {
    page: Digest,
    entries: u64,
    summary: S::Summary,
}

/// An entry of a page that is being written.
pub(crate) struct Item<S: Schema> {
    pub(crate) key: Box<str>,
    /// Its value as JSON.
    pub(crate) json: Box<RawValue>,
    /// How many entries are below it; 1 in a leaf.
    pub(crate) entries: u64,
    pub(crate) summary: S::Summary,
    /// The link that it is, above the leaves.
    pub(crate) link: Option<Link<S>>,
}

impl<S: Schema> Item<S> {
    pub(crate) fn of_value(key: Box<str>, value: &S::Value) -> Self {
        Self { json: raw(value), entries: 1, summary: S::summary(&key, value), link: None, key }
    }

    pub(crate) fn of_link(key: Box<str>, link: &Link<S>) -> Self {
        let child = Child::<S> { page: link.page, entries: link.entries, summary: link.summary.clone() };
        Self { json: raw(&child), entries: link.entries, summary: link.summary.clone(), link: Some(link.clone()), key }
    }

    /// Its length in a page in bytes of JSON, but for escapes.
    pub(crate) fn length(&self) -> usize {
        self.key.len() + self.json.get().len()
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|e| unreachable!("values serialise: {e}"))
}

/// Encodes a page; returns its link and its bytes.
pub(crate) fn encode<S: Schema>(level: u8, items: &[Item<S>]) -> (Link<S>, Bytes) {
    struct Entries<'a, S: Schema>(&'a [Item<S>]);
    impl<S: Schema> Serialize for Entries<'_, S> {
        fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            self.0.iter().try_for_each(|item| map.serialize_entry(&item.key, &item.json))?;
            map.end()
        }
    }
    #[derive(serde::Serialize)]
    #[serde(bound = "")]
    struct Page<'a, S: Schema> {
        format: u32,
        level: u8,
        entries: Entries<'a, S>,
    }
    let json = serde_json::to_vec(&Page { format: FORMAT, level, entries: Entries(items) })
        .unwrap_or_else(|e| unreachable!("pages serialise: {e}"));
    // Neither a time nor a name of a system: equal pages have equal bytes.
    let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::fast());
    let bytes = gzip.write_all(&json).and_then(|()| gzip.finish());
    let bytes = Bytes::from(bytes.unwrap_or_else(|e| unreachable!("memory takes bytes: {e}")));
    let mut summary = S::Summary::default();
    items.iter().for_each(|item| S::merge(&mut summary, &item.summary));
    let entries = items.iter().map(|item| item.entries).sum();
    (Link { level, page: Digest::of(&bytes), entries, summary }, bytes)
}

/// The entries of a page that a link references, in the order in which they are written.
fn entries<S: Schema, V: serde::de::DeserializeOwned>(
    link: &Link<S>,
    json: &[u8],
) -> Result<Vec<(Box<str>, V)>, TreeError> {
    struct Entries<V>(Vec<(Box<str>, V)>);
    impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Map<V>(PhantomData<V>);
            impl<'de, V: Deserialize<'de>> Visitor<'de> for Map<V> {
                type Value = Entries<V>;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("the entries of a page")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                    let mut entries = Vec::new();
                    while let Some(entry) = map.next_entry()? {
                        entries.push(entry);
                    }
                    Ok(Entries(entries))
                }
            }
            deserializer.deserialize_map(Map(PhantomData))
        }
    }
    #[derive(serde::Deserialize)]
    #[serde(bound = "V: Deserialize<'de>")]
    struct Page<V> {
        format: u32,
        level: u8,
        entries: Entries<V>,
    }
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |reason: String| TreeError::Damaged { page: link.page, reason };
    let read = serde_json::from_slice::<Page<V>>(json).map_err(|error| match serde_json::from_slice(json) {
        // Its entries may have another shape.
        Ok(Format { format }) if format > FORMAT => TreeError::Newer { page: link.page, format },
        _ => damaged(error.to_string()),
    });
    let Page { format, level, entries: Entries(entries) } = read?;
    if format > FORMAT {
        return Err(TreeError::Newer { page: link.page, format });
    }
    if level != link.level {
        return Err(damaged(format!("it has level {level}, not {}", link.level)));
    }
    if entries.is_empty() {
        return Err(damaged("it has no entries".into()));
    }
    match entries.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        true => Err(damaged("its keys are not in order".into())),
        false => Ok(entries),
    }
}

// Derived impls would require them of the schema, which is only a name.
impl<S: Schema> Clone for Link<S> {
    fn clone(&self) -> Self {
        Self { level: self.level, page: self.page, entries: self.entries, summary: self.summary.clone() }
    }
}

impl<S: Schema> PartialEq for Link<S> {
    fn eq(&self, other: &Self) -> bool {
        self.page == other.page && self.level == other.level
    }
}

impl<S: Schema> fmt::Debug for Link<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} at level {} with {} entries", self.page, self.level, self.entries)
    }
}

impl<S: Schema> Clone for Tree<S> {
    fn clone(&self) -> Self {
        Self { top: self.top.clone() }
    }
}

impl<S: Schema> Default for Tree<S> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Equal trees have equal entries, and trees with equal entries are equal.
impl<S: Schema> PartialEq for Tree<S> {
    fn eq(&self, other: &Self) -> bool {
        self.top == other.top
    }
}

impl<S: Schema> fmt::Debug for Tree<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.top.fmt(f)
    }
}

impl<S: Schema> Serialize for Tree<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        self.top.serialize(serializer)
    }
}

impl<'de, S: Schema> Deserialize<'de> for Tree<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { top: Option::deserialize(deserializer)? })
    }
}
