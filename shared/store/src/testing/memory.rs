//! [`MemoryStore`]: objects in a map, for tests.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;

use crate::body::Body;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, Object, ObjectMeta, ObjectStore, PutMode, StoreStatus};
use crate::sync::{Mutex, MutexGuard, lock};

/// A store in memory that implements the contract, and nothing else.
///
/// No method ever waits, so that a test can poll its futures by hand, and it reads no clock: `modified` is the time
/// last passed to [`MemoryStore::set_now`].
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    /// Whether the delete of a version ignores the version, as on some services.
    forgets_versions: bool,
}

#[derive(Clone, Debug, Default)]
struct State {
    objects: BTreeMap<String, Entry>,
    /// How many puts succeeded; etags are derived from it.
    puts: u64,
    now: Timestamp,
}

#[derive(Clone, Debug)]
struct Entry {
    bytes: Bytes,
    etag: ETag,
    modified: Timestamp,
}

impl Entry {
    fn meta(&self, key: &Key) -> ObjectMeta {
        let (etag, modified) = (self.etag.clone(), self.modified);
        ObjectMeta { key: key.clone(), size: self.bytes.len() as u64, etag, modified }
    }
}

impl State {
    fn insert(&mut self, key: &Key, bytes: Bytes) -> ETag {
        self.puts += 1;
        let etag = ETag(self.puts.to_string());
        let entry = Entry { bytes, etag: etag.clone(), modified: self.now };
        self.objects.insert(key.as_str().to_owned(), entry);
        etag
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose deletes ignore the version.
    pub fn without_conditional_deletes() -> Self {
        Self { forgets_versions: true, ..Self::default() }
    }

    /// Sets the modification time of later puts; until then it is 1970.
    pub fn set_now(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// An independent copy of this store.
    pub fn snapshot(&self) -> Self {
        Self { state: Mutex::new(self.state().clone()), forgets_versions: self.forgets_versions }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn find(&self, operation: &'static str, key: &Key) -> Result<Entry> {
        let found = self.state().objects.get(key.as_str()).cloned();
        found.ok_or_else(|| StoreError::new(operation, key, ErrorKind::NotFound))
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        let mut bytes = Vec::new();
        let length = body.write_to(&mut bytes).map_err(|e| StoreError::io("put", key, e))?;
        if length != body.size() {
            return Err(StoreError::new("put", key, ErrorKind::Corrupt));
        }
        let mut state = self.state();
        let present = state.objects.get(key.as_str()).map(|entry| &entry.etag);
        match mode {
            PutMode::Create if present.is_some() => Err(StoreError::new("put", key, ErrorKind::AlreadyExists)),
            PutMode::Update(expected) if present != Some(expected) => {
                Err(StoreError::new("put", key, ErrorKind::Changed))
            }
            _ => Ok(state.insert(key, bytes.into())),
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        let entry = self.find("get", key)?;
        let bytes = match range {
            None => entry.bytes.clone(),
            Some(range) => {
                let end = range.end.min(entry.bytes.len() as u64) as usize;
                let start = range.start.min(end as u64) as usize;
                entry.bytes.slice(start..end)
            }
        };
        Ok(Object { meta: entry.meta(key), body: stream::iter([Ok(bytes)]).boxed() })
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        Ok(self.find("head", key)?.meta(key))
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        let from = match start_after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.state();
        let range = state.objects.range::<str, _>((from, Bound::Unbounded));
        let listing: Vec<_> = range
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| {
                let key = Key::new(key).map_err(|e| StoreError::caused("list", key, ErrorKind::Corrupt, e))?;
                Ok(entry.meta(&key))
            })
            .collect();
        stream::iter(listing).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.state().objects.remove(key.as_str());
        Ok(())
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        let (mut state, key) = (self.state(), version.key.as_str());
        if !self.forgets_versions && state.objects.get(key).is_none_or(|entry| entry.etag != version.etag) {
            return Err(StoreError::new("delete", key, ErrorKind::Changed));
        }
        state.objects.remove(key);
        Ok(())
    }

    async fn check_conditional_deletes(&self, _scratch: &Key) -> Result<bool> {
        Ok(!self.forgets_versions)
    }

    async fn status(&self) -> Result<StoreStatus> {
        Ok(StoreStatus { kind: "memory", ..StoreStatus::default() })
    }
}
