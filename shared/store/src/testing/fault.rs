//! [`FaultStore`]: a store that counts its operations, can be stopped before each of them, and fails on demand.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;

use crate::body::Body;
use crate::digest::Digest;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{Address, ETag, Object, ObjectMeta, ObjectStore, PutMode, ServedAs, SignedPut, StoreStatus, Terms};

/// An operation about to take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// How many operations this store had before this one.
    pub sequence: u64,
    /// `put`, `get`, `head`, `list`, `delete`, `copy`, `status` or `sweep`.
    pub name: &'static str,
    /// The key; of a list the prefix, of a copy the destination; empty if there is none.
    pub key: String,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails without taking place.
    Before(ErrorKind),
    /// Takes place, but the caller gets this error instead of the reply.
    After(ErrorKind),
    /// For a put or a delete: the caller gets [`ErrorKind::Unavailable`], and the operation takes place when
    /// [`FaultStore::deliver`] is called. Any other operation fails and never takes place.
    Late,
    /// For a get: the body ends with [`ErrorKind::Unavailable`] after this many bytes. Other operations ignore it.
    Truncate(u64),
}

type Plan = dyn Fn(&Operation) -> Option<Fault> + Send + Sync;
type Gate = dyn Fn() -> bool + Send + Sync;

/// A change that its caller has given up but that is still in flight.
#[derive(Clone)]
enum Late {
    Put(Key, Body, PutMode),
    Delete(Key),
    DeleteVersion(ObjectMeta),
}

/// A wrapper around a store that can stop, count and fail every operation.
///
/// Before each operation it yields exactly once: the first poll of the future wakes its task and returns `Pending`, the
/// second one does all the work. Over a [`MemoryStore`](crate::testing::MemoryStore) a test can thus poll futures by
/// hand in any order, without a runtime, and drop one to simulate a crash between any two operations. A listing also
/// yields once, before its first item, and then runs as a whole. Operations are numbered in the order in which they
/// take place; one that was dropped at its yield has no number.
///
/// With a gate, an operation yields until the gate lets it pass, so that a test decides which of several concurrent
/// operations of one future comes next.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    control: Arc<Control>,
}

struct Control {
    plan: Box<Plan>,
    gate: Box<Gate>,
    late: Mutex<Vec<Late>>,
    /// How many operations of each name there were.
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Control {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn late(&self) -> MutexGuard<'_, Vec<Late>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Yields once and until the gate opens, counts the operation and consults the plan; an `Err` is a fault before the
    /// operation.
    async fn begin(&self, name: &'static str, key: &str) -> Result<Option<Fault>> {
        let mut yielded = false;
        poll_fn(|context| {
            if yielded && (self.gate)() {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        let operation = {
            let mut counts = self.counts();
            let sequence = counts.values().sum();
            *counts.entry(name).or_default() += 1;
            Operation { sequence, name, key: key.to_owned() }
        };
        match (self.plan)(&operation) {
            Some(Fault::Before(kind)) => Err(StoreError::new(name, key, kind)),
            Some(Fault::Late) if !matches!(name, "put" | "delete") => {
                Err(StoreError::new(name, key, ErrorKind::Unavailable))
            }
            fault => Ok(fault),
        }
    }
}

/// Replaces the reply if the fault requires it.
fn reply<T>(fault: Option<Fault>, name: &'static str, key: &str, result: Result<T>) -> Result<T> {
    match fault {
        Some(Fault::After(kind)) => Err(StoreError::new(name, key, kind)),
        _ => result,
    }
}

impl FaultStore {
    /// A store that only yields and counts.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self::with_plan(inner, |_| None)
    }

    /// A store that fails according to `plan`.
    pub fn with_plan(
        inner: Arc<dyn ObjectStore>,
        plan: impl Fn(&Operation) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        Self::with_gate(inner, plan, || true)
    }

    /// A store that fails according to `plan`, and whose operations wait until `gate` lets them pass, one for each
    /// `true`.
    pub fn with_gate(
        inner: Arc<dyn ObjectStore>,
        plan: impl Fn(&Operation) -> Option<Fault> + Send + Sync + 'static,
        gate: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let (plan, gate) = (Box::new(plan), Box::new(gate));
        Self { inner, control: Arc::new(Control { plan, gate, late: Mutex::default(), counts: Mutex::default() }) }
    }

    /// Carries out the oldest [late](Fault::Late) change, if it still can; returns its operation and key.
    pub async fn deliver(&self) -> Option<(&'static str, Key)> {
        let oldest = |late: &mut Vec<Late>| if late.is_empty() { None } else { Some(late.remove(0)) };
        let late = oldest(&mut self.control.late())?;
        // No caller waits for its outcome.
        Some(match late {
            Late::Put(key, body, mode) => {
                let _ = self.inner.put(&key, &body, &mode).await;
                ("put", key)
            }
            Late::Delete(key) => {
                let _ = self.inner.delete(&key).await;
                ("delete", key)
            }
            Late::DeleteVersion(version) => {
                let _ = self.inner.delete_version(&version).await;
                ("delete", version.key)
            }
        })
    }

    /// An operation that is never late.
    async fn run<T>(&self, name: &'static str, key: &str, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.control.begin(name, key).await?;
        reply(fault, name, key, operation.await)
    }

    /// A put or a delete, which can be late.
    async fn change<T>(
        &self,
        name: &'static str,
        key: &Key,
        late: Late,
        operation: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let fault = self.control.begin(name, key.as_str()).await?;
        if fault == Some(Fault::Late) {
            self.control.late().push(late);
            return Err(StoreError::new(name, key, ErrorKind::Unavailable));
        }
        reply(fault, name, key.as_str(), operation.await)
    }

    /// How many operations of each name have taken place, including failed ones.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.control.counts().clone()
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("inner", &self.inner).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        let late = Late::Put(key.clone(), body.clone(), mode.clone());
        self.change("put", key, late, self.inner.put(key, body, mode)).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        let fault = self.control.begin("get", key.as_str()).await?;
        let mut object = reply(fault, "get", key.as_str(), self.inner.get(key, range).await)?;
        if let Some(Fault::Truncate(length)) = fault {
            object.body = truncate(object.body, length, key.to_string());
        }
        Ok(object)
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        self.run("head", key.as_str(), self.inner.head(key)).await
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, control) = (self.inner.clone(), self.control.clone());
        let (prefix, start_after) = (prefix.to_owned(), start_after.map(str::to_owned));
        let listing = async move {
            let fault = match control.begin("list", &prefix).await {
                Ok(fault) => fault,
                Err(e) => return vec![Err(e)],
            };
            let items = inner.list(&prefix, start_after.as_deref()).collect().await;
            reply(fault, "list", &prefix, Ok(items)).unwrap_or_else(|e| vec![Err(e)])
        };
        stream::once(listing).flat_map(stream::iter).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let late = Late::Delete(key.clone());
        self.change("delete", key, late, self.inner.delete(key)).await
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        let late = Late::DeleteVersion(version.clone());
        self.change("delete", &version.key, late, self.inner.delete_version(version)).await
    }

    async fn stored_digest(&self, key: &Key) -> Result<Option<(ObjectMeta, Digest)>> {
        self.run("head", key.as_str(), self.inner.stored_digest(key)).await
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
        self.run("copy", to.as_str(), self.inner.copy_from(from, to, digest, content_type)).await
    }

    async fn signed_url(&self, key: &Key, served: ServedAs<'_>, valid_for: Duration) -> Result<Option<String>> {
        self.inner.signed_url(key, served, valid_for).await
    }

    async fn signed_put(&self, key: &Key, terms: &Terms, valid_for: Duration) -> Result<Option<SignedPut>> {
        self.inner.signed_put(key, terms, valid_for).await
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.run("status", "", self.inner.status()).await
    }

    async fn sweep_unfinished(&self, before: Timestamp) -> Result<u64> {
        self.run("sweep", "", self.inner.sweep_unfinished(before)).await
    }
}

/// The first `length` bytes of `body`, then an error.
fn truncate(body: BoxStream<'static, Result<Bytes>>, length: u64, key: String) -> BoxStream<'static, Result<Bytes>> {
    stream::unfold(Some((body, length)), move |state| {
        let torn = StoreError::new("get", &key, ErrorKind::Unavailable);
        async move {
            let (mut body, left) = state?;
            if left == 0 {
                return Some((Err(torn), None));
            }
            match body.next().await {
                Some(Ok(chunk)) => {
                    let n = left.min(chunk.len() as u64);
                    Some((Ok(chunk.slice(..n as usize)), Some((body, left - n))))
                }
                Some(Err(e)) => Some((Err(e), None)),
                // The whole body was shorter; that it is torn must still be seen.
                None => Some((Err(torn), None)),
            }
        }
    })
    .boxed()
}
