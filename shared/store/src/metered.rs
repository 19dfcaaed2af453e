//! [`Metered`]: a store that reports each of its operations to a [`Meter`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;

use crate::body::Body;
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::object::{
    Address, ETag, Files, Object, ObjectMeta, ObjectStore, PutMode, ServedAs, SignedPut, StoreStatus, Terms,
};

/// Counts the operations of a store and measures how long they take.
pub trait Meter: Send + Sync + fmt::Debug {
    /// Records an operation that has ended; must be quick. `operation` is `put`, `get` (until the first byte is due),
    /// `read` (the bytes after that), `head`, `list`, `delete`, `copy`, `sign`, `probe`, `status` or `sweep`. For a
    /// `read` and a `list`, `took` counts only the time spent waiting for the store, not that of the consumer.
    fn note(&self, operation: &'static str, failure: Option<ErrorKind>, took: Duration);
}

/// A wrapper that reports each operation of another store to a meter, and changes nothing else.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
    meter: Arc<dyn Meter>,
}

impl Metered {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, meter: Arc<dyn Meter>) -> Self {
        Self { inner, meter }
    }

    async fn measure<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = now();
        let outcome = work.await;
        self.meter.note(operation, outcome.as_ref().err().map(|error| error.kind), begun.elapsed());
        outcome
    }
}

#[expect(clippy::disallowed_methods, reason = "how long the store takes is not a matter of the time of day")]
fn now() -> Instant {
    Instant::now()
}

/// The time that a stream from the store has taken so far; recorded when the stream is dropped.
struct Reading {
    meter: Arc<dyn Meter>,
    operation: &'static str,
    waited: Duration,
    failure: Option<ErrorKind>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.meter.note(self.operation, self.failure, self.waited);
    }
}

/// Passes the items through and records them as one operation.
fn measured<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    operation: &'static str,
    meter: &Arc<dyn Meter>,
) -> BoxStream<'static, Result<T>> {
    let reading = Reading { meter: Arc::clone(meter), operation, waited: Duration::ZERO, failure: None };
    let next = async |(mut items, mut reading): (BoxStream<'static, Result<T>>, Reading)| {
        let begun = now();
        let item = items.next().await;
        reading.waited += begun.elapsed();
        if let Some(Err(error)) = &item {
            reading.failure = Some(error.kind);
        }
        item.map(|item| (item, (items, reading)))
    };
    stream::unfold((items, reading), next).boxed()
}

#[async_trait]
impl ObjectStore for Metered {
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        self.measure("put", self.inner.put(key, body, mode)).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        let object = self.measure("get", self.inner.get(key, range)).await?;
        Ok(Object { meta: object.meta, body: measured(object.body, "read", &self.meter) })
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        self.measure("head", self.inner.head(key)).await
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        measured(self.inner.list(prefix, start_after), "list", &self.meter)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.measure("delete", self.inner.delete(key)).await
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        self.measure("delete", self.inner.delete_version(version)).await
    }

    async fn stored_digest(&self, key: &Key) -> Result<Option<(ObjectMeta, Digest)>> {
        self.measure("head", self.inner.stored_digest(key)).await
    }

    fn address(&self, key: &Key) -> Option<Address> {
        self.inner.address(key)
    }

    fn is_disk(&self) -> bool {
        self.inner.is_disk()
    }

    async fn copy_from(
        &self,
        from: &Address,
        to: &Key,
        digest: Digest,
        content_type: Option<&str>,
    ) -> Result<Option<ETag>> {
        self.measure("copy", self.inner.copy_from(from, to, digest, content_type)).await
    }

    async fn signed_url(&self, key: &Key, served: ServedAs<'_>, valid_for: Duration) -> Result<Option<String>> {
        self.measure("sign", self.inner.signed_url(key, served, valid_for)).await
    }

    async fn signed_put(&self, key: &Key, terms: &Terms, valid_for: Duration) -> Result<Option<SignedPut>> {
        self.measure("sign", self.inner.signed_put(key, terms, valid_for)).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>> {
        self.measure("status", self.inner.free_bytes()).await
    }

    async fn files(&self) -> Result<Option<Files>> {
        self.measure("status", self.inner.files()).await
    }

    async fn check_conditional_writes(&self, scratch: &Key) -> Result<()> {
        self.measure("probe", self.inner.check_conditional_writes(scratch)).await
    }

    async fn check_conditional_deletes(&self, scratch: &Key) -> Result<bool> {
        self.measure("probe", self.inner.check_conditional_deletes(scratch)).await
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.measure("status", self.inner.status()).await
    }

    async fn sweep_unfinished(&self, before: Timestamp) -> Result<u64> {
        self.measure("sweep", self.inner.sweep_unfinished(before)).await
    }
}
