//! [`ObjectStore`]: the contract of a backend, and the types it uses.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;

use crate::body::Body;
use crate::digest::Digest;
#[expect(unused_imports, reason = "the contract links to it")]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::key::Key;

/// The version of one object, as its backend names it. Equal tags of one key mean equal bytes; a tag is otherwise
/// opaque.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

/// The condition on which a put succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Replaces the object, if any.
    Overwrite,
    /// Only if there is no object under this key.
    Create,
    /// Only if this is still the current version of the object.
    Update(ETag),
}

/// The metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The object's key, relative to the store or handle that returned it.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// The object's current version.
    pub etag: ETag,
    /// When the object was last put, by the backend's clock.
    pub modified: Timestamp,
}

/// An object open for reading.
pub struct Object {
    /// The metadata when the read began. `size` is that of the whole object, also for a range.
    pub meta: ObjectMeta,
    /// The requested bytes, in order. A stream that ends early ends with an error, never silently.
    pub body: BoxStream<'static, Result<Bytes>>,
}

impl Object {
    /// Reads the rest of the body into memory. Meant for metadata, not for images.
    pub async fn bytes(mut self) -> Result<Bytes> {
        let Some(first) = self.body.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.body.next().await.transpose()? else {
            return Ok(first);
        };
        let mut all = BytesMut::with_capacity(self.meta.size as usize);
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(chunk) = self.body.next().await.transpose()? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// Where a service holds an object, so that another store of the same service can copy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The service: stores with equal values can copy from each other.
    pub service: String,
    /// The object's bucket.
    pub bucket: String,
    /// Its key in that bucket.
    pub key: Key,
}

/// The bytes that a signed put accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The media type that the sender has to declare.
    pub content_type: String,
}

/// A put that a client without credentials can make until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPut {
    /// The URL to which the client sends the bytes by PUT.
    pub url: String,
    /// The headers to send, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// How many files (inodes) a file system can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// Files and folders that can still be created.
    pub free: u64,
    /// Total number of files and folders.
    pub total: u64,
}

/// The state of a store, as it can be read without writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Why the store is not writable, in one plain sentence without a path; `None` if no reason is known.
    pub read_only: Option<String>,
    /// Bytes that can still be written, if the backend reports it.
    pub free_bytes: Option<u64>,
    /// Total bytes of the medium, if the backend reports it.
    pub total_bytes: Option<u64>,
    /// How the bytes of a put are checked on their way to a service, in a few words; `None` for a local backend.
    pub integrity: Option<&'static str>,
    /// How many seconds the service's clock is ahead of this machine's (negative: behind); `None` if they are about
    /// equal or the difference is unknown.
    pub clock_ahead_seconds: Option<i64>,
    /// How many files the medium can hold, if that is limited and the backend reports it.
    pub files: Option<Files>,
    /// `disk`, `s3`, `cloudinary` or `memory`.
    pub kind: &'static str,
    /// The name of the file system (`ext4`, `overlay`, `tmpfs`, …), if there is one and it is known.
    pub file_system: Option<String>,
}

/// The response headers that a service sends with the bytes behind a signed URL.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServedAs<'a> {
    /// The media type.
    pub content_type: &'a str,
    /// The `Content-Disposition`: whether to save or to show the bytes, and the file name.
    pub disposition: Option<&'a str>,
}

/// A flat map from [`Key`] to bytes.
///
/// The contract, one sentence per test:
///
/// 1. **Durable.** When `put` returns `Ok`, the bytes survive the loss of the process and of power.
/// 2. **Atomic.** A reader sees an object whole or not at all, and the old bytes or the new ones, never a mixture.
/// 3. **Create.** Of any number of concurrent `Create` puts to one key exactly one succeeds; the others get
///    [`ErrorKind::AlreadyExists`] and change nothing.
/// 4. **Update.** An `Update` put succeeds only if the given version is current, else it fails with
///    [`ErrorKind::Changed`], also if the object is gone; of concurrent updates of one version exactly one succeeds.
/// 5. **Overwrite.** An `Overwrite` put succeeds whether or not the object exists, and gives it a new etag.
/// 6. **Exact.** `get` returns the bytes as they were put, including empty objects; `put` checks the size of the body.
/// 7. **Ranges.** `get` of `a..b` returns those bytes, cut off at the object's end; a range that starts at or beyond
///    the end of the object returns no bytes.
/// 8. **Absent.** `get` and `head` return [`ErrorKind::NotFound`] if and only if the key holds no object: a missing
///    bucket and a store that refuses or cannot be reached are failures, never an empty store.
/// 9. **Head.** `head` returns the size and the etag that `put`, `get` and `list` return for the same version.
/// 10. **List.** `list` returns every object whose key starts with the prefix (a plain string prefix) and is greater
///     than `start_after`, each once, sorted by the bytes of the key, without a limit. It contains every object that
///     was put before the call, and no unfinished put.
/// 11. **Delete.** `delete` removes the object; deleting an absent object succeeds.
/// 12. **Contained.** Every [`Key`] addresses an object inside the store, whatever links or names exist there.
/// 13. **Failed puts leave nothing.** After `put` returns an error other than [`ErrorKind::Unavailable`], the key holds
///     what it held before. `Unavailable` means that the outcome is unknown.
/// 14. **Delete a version.** `delete_version` removes the object only if it still is the version that `head` or `list`
///     described, else it fails with [`ErrorKind::Changed`], also if the object is gone. The same bytes put again are
///     another version, at the latest when they are put a second later.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Stores `body` under `key` if `mode` allows it; returns the new etag.
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag>;

    /// Opens an object, or a range of its bytes, for reading.
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object>;

    /// Returns the metadata of an object.
    async fn head(&self, key: &Key) -> Result<ObjectMeta>;

    /// Lists objects; the stream fetches pages as it is read. A folder on a disk that cannot be read for lack of
    /// permission is an item with [`ErrorKind::Refused`] and the folder's path; the listing continues after it.
    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>>;

    /// Removes an object.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Removes an object if this is still its current version.
    async fn delete_version(&self, version: &ObjectMeta) -> Result<()>;

    /// The current version of an object and the digest of its bytes as the backend recorded it when it received or
    /// copied them; `None` if the backend keeps no digests (use [`Store::digest`](crate::Store::digest), which falls
    /// back to reading).
    async fn stored_digest(&self, _key: &Key) -> Result<Option<(ObjectMeta, Digest)>> {
        Ok(None)
    }

    /// Where other stores of the same service find an object; `None` if the backend cannot copy.
    fn address(&self, _key: &Key) -> Option<Address> {
        None
    }

    /// Copies an object inside the service, replacing `to`, so that the bytes do not pass through the caller; returns
    /// `None` and writes nothing if the backend cannot (use [`Store::copy_to`](crate::Store::copy_to), which falls back
    /// to reading and writing). An object whose bytes do not have `digest` is [`ErrorKind::Corrupt`] and is not copied.
    /// The copy has `content_type`, or the source's.
    async fn copy_from(
        &self,
        _from: &Address,
        _to: &Key,
        _digest: Digest,
        _content_type: Option<&str>,
    ) -> Result<Option<ETag>> {
        Ok(None)
    }

    /// A URL from which any client can read the object, with these response headers, until `valid_for` has passed;
    /// `None` if the backend has no signed URLs.
    async fn signed_url(&self, _key: &Key, _served: ServedAs<'_>, _valid_for: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    /// A create-only put of exactly these bytes that any client can make until `valid_for` has passed; `None` if the
    /// backend has no signed puts.
    async fn signed_put(&self, _key: &Key, _terms: &Terms, _valid_for: Duration) -> Result<Option<SignedPut>> {
        Ok(None)
    }

    /// Whether the objects are files in a folder that is mounted on this machine.
    fn is_disk(&self) -> bool {
        false
    }

    /// Bytes that can still be written, if the backend reports it. Cheap: makes no request to a service.
    async fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(self.status().await?.free_bytes)
    }

    /// Files that can still be created, if that is limited and the backend reports it. Cheap: makes no request to a
    /// service.
    async fn files(&self) -> Result<Option<Files>> {
        Ok(self.status().await?.files)
    }

    /// Tests below `scratch` whether the service behind this store keeps sentences 3 and 4; fails with
    /// [`ErrorKind::Refused`] if it does not. Leaves no object behind. A disk tests what it needs from the file system.
    /// A backend that keeps these sentences in its own code tests nothing.
    async fn check_conditional_writes(&self, _scratch: &Key) -> Result<()> {
        Ok(())
    }

    /// Tests whether the service keeps sentence 14, which only pruning needs.
    async fn check_conditional_deletes(&self, _scratch: &Key) -> Result<bool> {
        Ok(true)
    }

    /// Returns the state of the store, without writing to it.
    async fn status(&self) -> Result<StoreStatus>;

    /// Removes the remains of puts that never finished and were last written before `before`; returns how many it
    /// removed.
    async fn sweep_unfinished(&self, _before: Timestamp) -> Result<u64> {
        Ok(0)
    }
}
