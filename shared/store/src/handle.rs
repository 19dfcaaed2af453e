//! [`Store`]: a backend below a prefix.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;

use crate::body::{Body, Spool};
use crate::digest::{Digest, Hasher};
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::metered::{Meter, measure, measured};
use crate::object::{ETag, Files, Object, ObjectMeta, ObjectStore, PutMode, ServedAs, SignedPut, StoreStatus, Terms};
use crate::observer::Observer;

/// A backend below a prefix: the primary is a whole folder or bucket, the archive is by default the same one below
/// `backups/`. Keys passed in and returned are relative to the prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<dyn ObjectStore>,
    /// Empty, or ending in `/`.
    prefix: String,
    /// The folder for bodies that are too large for memory.
    spool_folder: PathBuf,
    /// Set once writes are no longer allowed; shared by all related handles.
    fenced: Arc<OnceLock<()>>,
    /// The name of the store in its errors.
    name: Option<&'static str>,
    meter: Option<Arc<dyn Meter>>,
}

impl Store {
    /// The whole of `backend`; bodies too large for memory go to unnamed files in `spool_folder`.
    pub fn new(backend: Arc<dyn ObjectStore>, spool_folder: &Path) -> Self {
        Self {
            backend,
            prefix: String::new(),
            spool_folder: spool_folder.to_owned(),
            fenced: Arc::default(),
            name: None,
            meter: None,
        }
    }

    /// The objects below `folder` of this store, as a store.
    pub fn below(&self, folder: &Key) -> Self {
        Self { prefix: format!("{}{folder}/", self.prefix), ..self.clone() }
    }

    /// The same store, with this name in its errors.
    pub fn named(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The same store, which reports each operation to `meter`.
    pub fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Runs an operation of the backend: reports it to the meter, and names the store in its error.
    async fn run<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        measure(self.meter.as_ref(), operation, work).await.map_err(|e| e.of(self.name))
    }

    /// A spool for bodies to put into this store.
    pub fn spool(&self) -> Spool {
        Spool::new(&self.spool_folder)
    }

    /// From now on refuses every change with [`ErrorKind::Fenced`], through this handle and all that are related to it
    /// by [`below`](Self::below) or by cloning.
    pub fn fence(&self) {
        self.fenced.get_or_init(|| ());
    }

    /// Whether [`fence`](Self::fence) was called.
    pub fn is_fenced(&self) -> bool {
        self.fenced.get().is_some()
    }

    fn may_change(&self, operation: &'static str, key: impl fmt::Display) -> Result<()> {
        match self.fenced.get() {
            Some(()) => Err(StoreError::new(operation, key, ErrorKind::Fenced).of(self.name)),
            None => Ok(()),
        }
    }

    fn full(&self, key: &Key) -> Result<Key> {
        if self.prefix.is_empty() {
            return Ok(key.clone());
        }
        Key::new(format!("{}{key}", self.prefix)).map_err(|e| StoreError::caused("name", key, ErrorKind::Refused, e))
    }

    fn relative(prefix: &str, mut meta: ObjectMeta) -> Result<ObjectMeta> {
        let name = meta.key.as_str().strip_prefix(prefix).unwrap_or(meta.key.as_str());
        meta.key = Key::new(name).map_err(|e| StoreError::caused("name", name, ErrorKind::Corrupt, e))?;
        Ok(meta)
    }

    /// See [`ObjectStore::put`].
    pub async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        self.may_change("put", key)?;
        self.run("put", self.backend.put(&self.full(key)?, body, mode)).await
    }

    /// See [`ObjectStore::get`].
    pub async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        let object = self.run("get", self.backend.get(&self.full(key)?, range)).await?;
        let body = measured(object.body, "read", self.meter.as_ref());
        Ok(Object { meta: Self::relative(&self.prefix, object.meta)?, body })
    }

    /// A whole object in memory, with its etag. Meant for metadata, not for images.
    pub async fn read(&self, key: &Key) -> Result<(Bytes, ETag)> {
        let object = self.get(key, None).await?;
        let etag = object.meta.etag.clone();
        Ok((object.bytes().await?, etag))
    }

    /// See [`ObjectStore::head`].
    pub async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        Self::relative(&self.prefix, self.run("head", self.backend.head(&self.full(key)?)).await?)
    }

    /// See [`ObjectStore::list`].
    pub fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        let start_after = start_after.map(|s| format!("{}{s}", self.prefix));
        let own = self.prefix.clone();
        let listing = self.backend.list(&format!("{own}{prefix}"), start_after.as_deref());
        let listing = measured(listing, "list", self.meter.as_ref());
        let name = self.name;
        listing.map(move |meta| Self::relative(&own, meta.map_err(|e| e.of(name))?)).boxed()
    }

    /// See [`ObjectStore::delete`].
    pub async fn delete(&self, key: &Key) -> Result<()> {
        self.may_change("delete", key)?;
        self.run("delete", self.backend.delete(&self.full(key)?)).await
    }

    /// See [`ObjectStore::delete_version`].
    pub async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        self.may_change("delete", &version.key)?;
        let full = ObjectMeta { key: self.full(&version.key)?, ..version.clone() };
        self.run("delete", self.backend.delete_version(&full)).await
    }

    /// See [`ObjectStore::signed_url`].
    pub async fn signed_url(&self, key: &Key, served: ServedAs<'_>, valid_for: Duration) -> Result<Option<String>> {
        self.run("sign", self.backend.signed_url(&self.full(key)?, served, valid_for)).await
    }

    /// See [`ObjectStore::signed_put`].
    pub async fn signed_put(&self, key: &Key, terms: &Terms, valid_for: Duration) -> Result<Option<SignedPut>> {
        self.may_change("put", key)?;
        self.run("sign", self.backend.signed_put(&self.full(key)?, terms, valid_for)).await
    }

    /// See [`ObjectStore::is_disk`].
    pub fn is_disk(&self) -> bool {
        self.backend.is_disk()
    }

    /// See [`ObjectStore::free_bytes`].
    pub async fn free_bytes(&self) -> Result<Option<u64>> {
        self.run("status", self.backend.free_bytes()).await
    }

    /// See [`ObjectStore::files`].
    pub async fn files(&self) -> Result<Option<Files>> {
        self.run("status", self.backend.files()).await
    }

    /// See [`ObjectStore::check_conditional_writes`].
    pub async fn check_conditional_writes(&self, scratch: &Key) -> Result<()> {
        self.may_change("put", scratch)?;
        self.run("probe", self.backend.check_conditional_writes(&self.full(scratch)?)).await
    }

    /// See [`ObjectStore::check_conditional_deletes`].
    pub async fn check_conditional_deletes(&self, scratch: &Key) -> Result<bool> {
        self.may_change("delete", scratch)?;
        self.run("probe", self.backend.check_conditional_deletes(&self.full(scratch)?)).await
    }

    /// See [`ObjectStore::status`].
    pub async fn status(&self) -> Result<StoreStatus> {
        self.run("status", self.backend.status()).await
    }

    /// See [`ObjectStore::sweep_unfinished`].
    pub async fn sweep_unfinished(&self, before: Timestamp) -> Result<u64> {
        self.may_change("sweep", "")?;
        self.run("sweep", self.backend.sweep_unfinished(before)).await
    }

    /// Reads a whole object and hashes it; returns its length in bytes and its digest.
    pub async fn hash(&self, key: &Key) -> Result<(u64, Digest)> {
        let (meta, digest) = self.inspect(key).await?;
        Ok((meta.size, digest))
    }

    /// Reads a whole object and hashes it; returns the metadata of the version read, and the digest.
    pub async fn inspect(&self, key: &Key) -> Result<(ObjectMeta, Digest)> {
        self.inspect_seen_by(&mut (), key).await
    }

    /// Like [`inspect`](Self::inspect); the observer sees the bytes.
    pub async fn inspect_seen_by(&self, observer: &mut impl Observer, key: &Key) -> Result<(ObjectMeta, Digest)> {
        let mut object = self.get(key, None).await?;
        observer.begin(object.meta.size);
        let mut hasher = Hasher::default();
        while let Some(chunk) = object.body.next().await.transpose()? {
            hasher.update(&chunk);
            observer.see(&chunk);
        }
        Ok((object.meta, hasher.finish()))
    }

    /// The metadata and digest of an object. The digest is the one the backend stores, otherwise computed by reading
    /// the object.
    pub async fn digest(&self, key: &Key) -> Result<(ObjectMeta, Digest)> {
        match self.run("head", self.backend.stored_digest(&self.full(key)?)).await? {
            Some((meta, digest)) => Ok((Self::relative(&self.prefix, meta)?, digest)),
            None => self.inspect(key).await,
        }
    }

    /// Reads an object into a [`Body`] and hashes it.
    pub async fn fetch(&self, key: &Key) -> Result<Body> {
        let mut object = self.get(key, None).await?;
        let mut spool = self.spool();
        while let Some(chunk) = object.body.next().await.transpose()? {
            spool.write(&chunk).await.map_err(|e| StoreError::io("spool", key, e))?;
        }
        spool.finish().await.map_err(|e| StoreError::io("spool", key, e))
    }

    /// Copies an object to `to_key` of `to`, replacing the object there, but only if its bytes have this digest:
    /// otherwise it writes nothing and fails with [`ErrorKind::Corrupt`], so that damaged bytes never replace good
    /// ones. A service that can copy compares the digests itself, without sending the bytes; else they are read, hashed
    /// and sent. The copy has `content_type`, or the source's if the backend stores one.
    pub async fn copy_to(
        &self,
        key: &Key,
        to: &Self,
        to_key: &Key,
        digest: Digest,
        content_type: Option<&'static str>,
    ) -> Result<()> {
        to.may_change("copy", to_key)?;
        if let Some(address) = self.backend.address(&self.full(key)?)
            && let copy = to.backend.copy_from(&address, &to.full(to_key)?, digest, content_type)
            && to.run("copy", copy).await?.is_some()
        {
            return Ok(());
        }
        let mut body = self.fetch(key).await?;
        if body.digest() != digest {
            return Err(StoreError::new("copy", key, ErrorKind::Corrupt));
        }
        if let Some(content_type) = content_type {
            body = body.of_type(content_type);
        }
        to.put(to_key, &body, &PutMode::Overwrite).await?;
        Ok(())
    }

    /// Copies an object that has this digest, as [`copy_to`](Self::copy_to) does; false if it does not exist or has
    /// another.
    pub async fn copy_if_right(&self, key: &Key, to: &Self, to_key: &Key, digest: Digest) -> Result<bool> {
        match self.copy_to(key, to, to_key, digest, None).await {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(false),
            Err(e) => Err(e),
        }
    }
}
