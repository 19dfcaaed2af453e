//! [`CloudinaryStore`]: objects at Cloudinary, through its HTTP API. It can serve only as the archive of a single
//! server.
//!
//! Cloudinary has no compare-and-set, so sentences 3, 4 and 14 of the contract hold only among the callers of one
//! process: a lock per key covers each comparison and the change that follows. An update also queries Cloudinary once
//! more, so that it detects a second server, as runs briefly during a deploy. See docs/adr/0027.
//!
//! Architecture invariant: no object counts as stored before its bytes were read back and verified. Cloudinary may
//! reject bytes that it cannot read as an image, or deliver other bytes than it received; such an object is stored as
//! raw bytes.

mod api;
mod http;
mod index;
mod names;
mod options;

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::{Mutex as KeyLock, MutexGuard, OnceCell};

pub use options::CloudinaryOptions;

use self::api::{Api, Kind};
use self::http::Failed;
use self::index::{Entry, Index};
use crate::body::Body;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, Files, Object, ObjectMeta, ObjectStore, PutMode, StoreStatus};
use crate::sync::{Mutex, lock};

/// How many times bytes are sent if the upload gets a version that another object of that name had.
const UPLOADS: u32 = 3;

/// A store in one folder of a product environment. Clones share their state.
#[derive(Clone, Debug)]
pub struct CloudinaryStore {
    api: Api,
    folder: String,
    images: &'static str,
    index: Arc<OnceCell<Mutex<Index>>>,
    /// Locks for changes, selected by key.
    locks: Arc<[KeyLock<()>]>,
    /// Whether the last request got a response.
    answers: Arc<AtomicBool>,
}

impl CloudinaryStore {
    /// Creates a client; sends no request yet.
    pub fn connect(options: CloudinaryOptions) -> Result<Self> {
        let (folder, images) = (options.folder.clone(), options.images);
        let refused = |e: io::Error| StoreError::caused("open", &options.cloud, ErrorKind::Refused, e);
        let api = Api::new(options.clone()).map_err(refused)?;
        let locks = (0..64).map(|_| KeyLock::default()).collect();
        Ok(Self { api, folder, images, index: Arc::default(), locks, answers: Arc::new(AtomicBool::new(true)) })
    }

    /// Locks `key` for a change, or against one.
    async fn lock_key(&self, key: &Key) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.locks[hasher.finish() as usize % self.locks.len()].lock().await
    }

    /// Records whether Cloudinary answers, and adds the operation and its key to an error.
    fn note_outcome<T>(&self, operation: &'static str, key: impl Display, result: Result<T, Failed>) -> Result<T> {
        let away = |failed: &Failed| matches!(failed.kind, ErrorKind::Unavailable | ErrorKind::Refused);
        self.answers.store(!result.as_ref().is_err_and(away), Ordering::Relaxed);
        let kind = |failed: &Failed| match failed.kind {
            // Only `describe` reports an absent object; from any other call, a 404 means that the product environment
            // is missing.
            ErrorKind::NotFound => ErrorKind::Refused,
            kind => kind,
        };
        result.map_err(|failed| StoreError::caused(operation, key, kind(&failed), failed))
    }

    fn public_id(&self, operation: &'static str, key: &Key) -> Result<String> {
        names::public_id(&self.folder, key).ok_or_else(|| {
            StoreError::caused(
                operation,
                key,
                ErrorKind::Refused,
                "its name is too long for Cloudinary, which takes 255 bytes",
            )
        })
    }

    /// The kinds as which an object may be stored, in the order of trial.
    fn kinds(&self, key: &Key) -> &'static [Kind] {
        if key.as_str().starts_with(self.images) { &[Kind::Image, Kind::Raw] } else { &[Kind::Raw] }
    }

    /// The index, loaded at first use.
    async fn index(&self, operation: &'static str) -> Result<&Mutex<Index>> {
        // Answers from memory never wait, so without this a caller in a loop would starve all others.
        tokio::task::coop::consume_budget().await;
        let load = async || {
            let mut index = Index::default();
            for kind in [Kind::Image, Kind::Raw] {
                let below = if kind == Kind::Image { self.images } else { "" };
                let all = self.api.list(kind, &format!("{}/{below}", self.folder)).await;
                for resource in self.note_outcome(operation, "", all)? {
                    match names::key(&self.folder, &resource.public_id) {
                        Some(key) => index.add(key, Entry { kind, resource }),
                        None => tracing::warn!(id = resource.public_id, "left out what cannot be an object"),
                    }
                }
            }
            Ok(Mutex::new(index))
        };
        self.index.get_or_try_init(load).await
    }

    /// The object under `key`, from the index or, if the index is unsure, from Cloudinary.
    async fn find(&self, operation: &'static str, key: &Key) -> Result<Option<Entry>> {
        let index = self.index(operation).await?;
        let known = lock(index).find(key);
        match known {
            Some(entry) => Ok(entry),
            None => self.ask(operation, key).await,
        }
    }

    /// Queries Cloudinary about `key`. The caller must hold the key's lock.
    async fn ask(&self, operation: &'static str, key: &Key) -> Result<Option<Entry>> {
        let index = self.index(operation).await?;
        let id = self.public_id(operation, key)?;
        let mut found: Option<Entry> = None;
        for kind in self.kinds(key) {
            let described = self.note_outcome(operation, key, self.api.describe(*kind, &id).await)?;
            let entry = described.map(|resource| Entry { kind: *kind, resource });
            let newer =
                |entry: &Entry| found.as_ref().is_none_or(|other| other.resource.version < entry.resource.version);
            found = entry.filter(newer).or(found);
        }
        lock(index).set(key, found.clone());
        Ok(found)
    }

    /// Stores the bytes as the first kind that returns them unchanged, and removes the object of the other kind.
    async fn store(&self, key: &Key, id: &str, body: &Body, overwrite: bool, present: Option<&Entry>) -> Result<Entry> {
        for kind in self.kinds(key) {
            let Some(entry) = self.store_as(*kind, key, id, body, overwrite).await? else { continue };
            if let Some(other) = present.filter(|entry| entry.kind != *kind) {
                self.note_outcome("put", key, self.api.destroy(other.kind, id).await)?;
            }
            return Ok(entry);
        }
        let reason = "Cloudinary delivers other bytes than it was sent, or gives them no version of their own";
        Err(StoreError::caused("put", key, ErrorKind::Unavailable, reason))
    }

    /// Uploads the bytes and reads them back; `None` if this kind cannot hold them.
    async fn store_as(
        &self,
        kind: Kind,
        key: &Key,
        id: &str,
        body: &Body,
        mut overwrite: bool,
    ) -> Result<Option<Entry>> {
        for round in 1..=UPLOADS {
            let uploaded = match self.api.upload(kind, id, body, overwrite).await {
                // Cloudinary accepts as raw bytes what it cannot read as an image.
                Err(e) if kind == Kind::Image && e.kind == ErrorKind::Refused => return Ok(None),
                uploaded => self.note_outcome("put", key, uploaded)?,
            };
            let (resource, lost) = (uploaded.value, uploaded.lost);
            if resource.existing && !lost {
                return Err(StoreError::new("put", key, ErrorKind::AlreadyExists));
            }
            let read = self.note_outcome("put", key, self.api.hash(kind, &resource).await.map_err(Failed::unknown))?;
            let is_right = read == (body.size(), body.digest());
            // After a lost reply, an existing object may be from this put; its bytes show that.
            if resource.existing && !is_right {
                return Err(StoreError::new("put", key, ErrorKind::Unavailable));
            }
            if !is_right && kind == Kind::Image {
                self.note_outcome("put", key, self.api.destroy(kind, id).await)?;
                return Ok(None);
            }
            if is_right && !lock(self.index("put").await?).is_used(key, resource.version) {
                return Ok(Some(Entry { kind, resource }));
            }
            // In the next second the upload gets another version.
            self.api.http.wait(round + 1).await;
            overwrite = true;
        }
        Ok(None)
    }

    async fn remove(&self, key: &Key, is_meant: impl Fn(Option<&Entry>) -> bool) -> Result<()> {
        let _lock = self.lock_key(key).await;
        let index = self.index("delete").await?;
        let present = self.find("delete", key).await?;
        if !is_meant(present.as_ref()) {
            return Err(StoreError::new("delete", key, ErrorKind::Changed));
        }
        // A key without a public id cannot exist there.
        let Some(id) = names::public_id(&self.folder, key) else { return Ok(()) };
        lock(index).doubt(key);
        for kind in self.kinds(key) {
            self.note_outcome("delete", key, self.api.destroy(*kind, &id).await)?;
        }
        lock(index).set(key, None);
        Ok(())
    }

    async fn list_all(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectMeta>> {
        let index = self.index("list").await?;
        let doubts = lock(index).doubts(prefix);
        for key in doubts {
            let _lock = self.lock_key(&key).await;
            self.find("list", &key).await?;
        }
        let listed = lock(index).list(prefix, start_after);
        Ok(listed)
    }
}

/// The bytes, with an error at the end unless there are exactly `size`.
fn exactly(bytes: BoxStream<'static, io::Result<Bytes>>, size: u64, key: Key) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((bytes, 0), move |(mut bytes, received)| {
        let key = key.clone();
        async move {
            let broken = |source| StoreError::caused("get", key, ErrorKind::Unavailable, source);
            match bytes.next().await {
                Some(Ok(chunk)) => {
                    let received = received + chunk.len() as u64;
                    Ok(Some((chunk, (bytes, received))))
                }
                Some(Err(e)) => Err(broken(e)),
                None if received == size => Ok(None),
                None => Err(broken(io::Error::other("the answer has another length than it said"))),
            }
        }
    })
    .boxed()
}

/// The requested range of the bytes. Cloudinary sends all of them: ranges of archived objects are rare.
fn part(bytes: BoxStream<'static, Result<Bytes>>, range: Option<Range<u64>>) -> BoxStream<'static, Result<Bytes>> {
    let Some(range) = range else { return bytes };
    let cut = bytes.scan(0, move |passed, chunk| {
        let chunk = chunk.map(|chunk| {
            let (from, length) = (*passed, chunk.len() as u64);
            *passed += length;
            let within = |at: u64| at.saturating_sub(from).min(length) as usize;
            let (start, end) = (within(range.start), within(range.end));
            chunk.slice(start..end.max(start))
        });
        futures::future::ready(Some(chunk))
    });
    cut.boxed()
}

#[async_trait]
impl ObjectStore for CloudinaryStore {
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        let _lock = self.lock_key(key).await;
        let (id, index) = (self.public_id("put", key)?, self.index("put").await?);
        let mut present = self.find("put", key).await?;
        match mode {
            PutMode::Create if present.is_some() => return Err(StoreError::new("put", key, ErrorKind::AlreadyExists)),
            PutMode::Update(etag) => {
                let is_meant = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.etag() == *etag);
                if is_meant(&present) {
                    present = self.ask("put", key).await?;
                }
                if !is_meant(&present) {
                    return Err(StoreError::new("put", key, ErrorKind::Changed));
                }
            }
            PutMode::Create | PutMode::Overwrite => {}
        }
        // If this is cancelled, the outcome is unknown.
        lock(index).doubt(key);
        let entry = self.store(key, &id, body, *mode != PutMode::Create, present.as_ref()).await?;
        let etag = entry.etag();
        lock(index).set(key, Some(entry));
        Ok(etag)
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        let absent = || StoreError::new("get", key, ErrorKind::NotFound);
        // Held until the response begins, so that the bytes and the metadata are of the same version.
        let _lock = self.lock_key(key).await;
        let mut entry = self.find("get", key).await?.ok_or_else(absent)?;
        for may_look_again in [true, false] {
            match self.api.open(entry.kind, &entry.resource).await {
                Ok((length, bytes)) if length.is_none_or(|length| length == entry.resource.bytes) => {
                    self.answers.store(true, Ordering::Relaxed);
                    let meta = entry.meta(key);
                    let body = part(exactly(bytes, meta.size, key.clone()), range);
                    return Ok(Object { meta, body });
                }
                Err(e) if e.kind != ErrorKind::NotFound => return self.note_outcome("get", key, Err(e)),
                // Another process has changed or deleted it.
                _ if may_look_again => entry = self.ask("get", key).await?.ok_or_else(absent)?,
                _ => {}
            }
        }
        let reason = "Cloudinary does not deliver what it says that it has";
        Err(StoreError::caused("get", key, ErrorKind::Unavailable, reason))
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        let _lock = self.lock_key(key).await;
        let found = self.find("head", key).await?;
        found.map(|entry| entry.meta(key)).ok_or_else(|| StoreError::new("head", key, ErrorKind::NotFound))
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix, after) = (self.clone(), prefix.to_owned(), start_after.map(str::to_owned));
        let listed =
            async move { store.list_all(&prefix, after.as_deref()).await.map(|all| stream::iter(all).map(Ok)) };
        stream::once(listed).try_flatten().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.remove(key, |_| true).await
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        self.remove(&version.key, |entry| entry.is_some_and(|entry| entry.etag() == version.etag)).await
    }

    /// Tests what the contract depends on: that an upload which must not overwrite does not, and that an overwritten
    /// object is delivered in its new version.
    async fn check_conditional_writes(&self, scratch: &Key) -> Result<()> {
        let refused =
            |e: Box<dyn std::error::Error + Send + Sync>| StoreError::caused("probe", scratch, ErrorKind::Refused, e);
        let probe = Key::new(format!("{scratch}/cloudinary-probe-{}", new_id())).map_err(|e| refused(e.into()))?;
        let body = |text: &'static str| Body::from(Bytes::from_static(text.as_bytes()));
        self.put(&probe, &body("1"), &PutMode::Create).await?;
        let id = self.public_id("probe", &probe)?;
        let second = self.note_outcome("probe", &probe, self.api.upload(Kind::Raw, &id, &body("2"), false).await);
        let third = self.put(&probe, &body("3"), &PutMode::Overwrite).await;
        self.delete(&probe).await?;
        third?;
        if second?.value.existing {
            Ok(())
        } else {
            Err(refused(
                "this product environment overwrites objects that an upload must not overwrite; check its default upload \
                 presets"
                    .into(),
            ))
        }
    }

    async fn status(&self) -> Result<StoreStatus> {
        // The check uses up one of the few requests per hour, so it only runs after a request has failed.
        if !self.answers.load(Ordering::Relaxed) {
            self.note_outcome("status", &self.folder, self.api.ping().await)?;
        }
        Ok(StoreStatus { kind: "cloudinary", ..StoreStatus::default() })
    }

    async fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn files(&self) -> Result<Option<Files>> {
        Ok(None)
    }
}

#[expect(clippy::disallowed_methods, reason = "nobody above ever sees it, and it must be new in every process")]
fn new_id() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}
