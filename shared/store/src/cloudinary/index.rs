//! An index of the objects at Cloudinary, in memory.
//!
//! Listing uses up some of the few Admin API requests per hour, and a list may not show recent puts. So this process,
//! which is the only writer, lists once and from then on tracks its own changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;

use super::api::{Kind, Resource};
use crate::key::Key;
use crate::object::{ETag, ObjectMeta};

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) resource: Resource,
}

impl Entry {
    pub(super) fn etag(&self) -> ETag {
        ETag(self.resource.version.to_string())
    }

    pub(super) fn meta(&self, key: &Key) -> ObjectMeta {
        let modified = i64::try_from(self.resource.version).ok().and_then(|second| Timestamp::from_second(second).ok());
        ObjectMeta {
            key: key.clone(),
            size: self.resource.bytes,
            etag: self.etag(),
            modified: modified.unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

/// Every object, by its key.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<Key, Entry>,
    /// Keys whose last change has an unknown outcome.
    unsure: BTreeSet<Key>,
    /// The most recently removed objects, with their versions.
    gone: VecDeque<(Key, u64)>,
}

/// No more objects than this are removed within a second.
const GONE: usize = 1000;

impl Index {
    /// Adds an object from a list. If an object exists as both kinds, as after a crash, the later one counts.
    pub(super) fn add(&mut self, key: Key, entry: Entry) {
        match self.entries.get(&key) {
            Some(known) if known.resource.version >= entry.resource.version => {}
            _ => drop(self.entries.insert(key, entry)),
        }
    }

    /// The object under `key`; the outer `None` means that Cloudinary has to be queried.
    pub(super) fn find(&self, key: &Key) -> Option<Option<Entry>> {
        (!self.unsure.contains(key)).then(|| self.entries.get(key).cloned())
    }

    /// Records the current object.
    pub(super) fn set(&mut self, key: &Key, entry: Option<Entry>) {
        self.unsure.remove(key);
        match entry {
            Some(entry) => drop(self.entries.insert(key.clone(), entry)),
            None => {
                if let Some(entry) = self.entries.remove(key) {
                    self.gone.push_back((key.clone(), entry.resource.version));
                    if self.gone.len() > GONE {
                        self.gone.pop_front();
                    }
                }
            }
        }
    }

    /// Whether the current or a removed object under `key` has this version: Cloudinary counts versions in seconds.
    pub(super) fn is_used(&self, key: &Key, version: u64) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.resource.version == version)
            || self.gone.iter().any(|(gone, of)| gone == key && *of == version)
    }

    /// Records that Cloudinary has to be queried about this key.
    pub(super) fn doubt(&mut self, key: &Key) {
        self.unsure.insert(key.clone());
    }

    /// The keys below `prefix` about which Cloudinary has to be queried.
    pub(super) fn doubts(&self, prefix: &str) -> Vec<Key> {
        self.unsure.iter().filter(|key| key.as_str().starts_with(prefix)).cloned().collect()
    }

    /// The objects below `prefix`, in key order.
    pub(super) fn list(&self, prefix: &str, start_after: Option<&str>) -> Vec<ObjectMeta> {
        let wanted =
            |key: &Key| key.as_str().starts_with(prefix) && start_after.is_none_or(|after| key.as_str() > after);
        self.entries.iter().filter(|(key, _)| wanted(key)).map(|(key, entry)| entry.meta(key)).collect()
    }
}
