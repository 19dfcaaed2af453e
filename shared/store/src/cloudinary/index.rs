//! What lies at Cloudinary, as this process knows it.
//!
//! A list costs a request of the few that an hour has, and nothing says how soon it shows what was just put. So it is read
//! once, and from then on this process, which is the only one that writes, keeps count itself.

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
    /// Keys of which it is not known what became of the last change.
    unsure: BTreeSet<Key>,
    /// The last objects that went, with their versions.
    gone: VecDeque<(Key, u64)>,
}

/// More than this do not go within a second.
const GONE: usize = 1000;

impl Index {
    /// Takes in what a list told. Of an object that is there as both kinds, which a crash can leave, the later one counts.
    pub(super) fn add(&mut self, key: Key, entry: Entry) {
        match self.entries.get(&key) {
            Some(known) if known.resource.version >= entry.resource.version => {}
            _ => drop(self.entries.insert(key, entry)),
        }
    }

    /// What is there; the outer `None` where that has to be asked.
    pub(super) fn find(&self, key: &Key) -> Option<Option<Entry>> {
        (!self.unsure.contains(key)).then(|| self.entries.get(key).cloned())
    }

    /// Notes what is there now.
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

    /// Whether this version of an object was another's: Cloudinary counts versions by the second.
    pub(super) fn is_used(&self, key: &Key, version: u64) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.resource.version == version)
            || self.gone.iter().any(|(gone, of)| gone == key && *of == version)
    }

    /// Notes that what is there has to be asked.
    pub(super) fn doubt(&mut self, key: &Key) {
        self.unsure.insert(key.clone());
    }

    /// Which keys below `prefix` have to be asked for.
    pub(super) fn doubts(&self, prefix: &str) -> Vec<Key> {
        self.unsure.iter().filter(|key| key.as_str().starts_with(prefix)).cloned().collect()
    }

    /// What is there below `prefix`, in order.
    pub(super) fn list(&self, prefix: &str, start_after: Option<&str>) -> Vec<ObjectMeta> {
        let wanted =
            |key: &Key| key.as_str().starts_with(prefix) && start_after.is_none_or(|after| key.as_str() > after);
        self.entries.iter().filter(|(key, _)| wanted(key)).map(|(key, entry)| entry.meta(key)).collect()
    }
}
