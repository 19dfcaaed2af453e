//! [`ObjectStore`]: the contract of a backend, and what passes through it.

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

/// The version of one object, as its backend names it. Equal tags of one key mean equal bytes; nothing else may be
/// read out of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

/// On what condition a put may take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Whatever is there, replace it.
    Overwrite,
    /// Only if there is no object under this key.
    Create,
    /// Only if the object under this key is still this version of it.
    Update(ETag),
}

/// What a store knows of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The object's key, relative to the store or handle that was asked.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// The object's present version.
    pub etag: ETag,
    /// When the object was last put, by the backend's clock.
    pub modified: Timestamp,
}

/// An object that is being read.
pub struct Object {
    /// What was known when the read began; `size` is the whole object's, also for a range.
    pub meta: ObjectMeta,
    /// The bytes asked for, in order. A stream that ends early ends with an error, never silently.
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

/// An object as the service that holds it knows it, so that another store of the same service can copy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Which service: stores can copy from each other where this is equal.
    pub service: String,
    /// The object's bucket.
    pub bucket: String,
    /// Its key there.
    pub key: Key,
}

/// Exactly which bytes a signed put takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The media type that the sender has to state.
    pub content_type: String,
}

/// A put that someone else can make, without rights of their own, until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPut {
    /// Where to send the bytes by PUT.
    pub url: String,
    /// The headers to send, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// How many files (inodes) a file system can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// Files and folders that can still be made.
    pub free: u64,
    /// Files and folders that fit in all.
    pub total: u64,
}

/// What a store can say of itself without writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Why nothing can be written, in one plain sentence without a path; `None` when nothing speaks against it.
    pub read_only: Option<String>,
    /// Bytes that can still be written, where the backend knows.
    pub free_bytes: Option<u64>,
    /// Bytes the medium holds in all, where the backend knows.
    pub total_bytes: Option<u64>,
    /// How the bytes of a put are checked on their way to a service, in a few words; `None` where there is no way.
    pub integrity: Option<&'static str>,
    /// By how many seconds the service's clock is ahead of this machine's, or behind it where negative; `None` where they
    /// are about equal or that is not known.
    pub clock_ahead_seconds: Option<i64>,
    /// Files the medium can hold, where that is limited and the backend knows.
    pub files: Option<Files>,
    /// `disk`, `s3`, `cloudinary` or `memory`.
    pub kind: &'static str,
    /// The file system's name (`ext4`, `overlay`, `tmpfs`, …), where there is one and it is known.
    pub file_system: Option<String>,
}

/// What a service says of the bytes behind a signed URL.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServedAs<'a> {
    /// Their media type.
    pub content_type: &'a str,
    /// Whether they are to be saved rather than shown, and under which name: a `Content-Disposition`.
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
/// 4. **Update.** An `Update` put succeeds only on the version it names, else [`ErrorKind::Changed`], also where the
///    object is gone; of concurrent updates of one version exactly one succeeds.
/// 5. **Overwrite.** An `Overwrite` put succeeds whether or not the object exists, and gives it a new etag.
/// 6. **Exact.** `get` returns the bytes as they were put, including none at all; the body's size is checked on the way
///    in.
/// 7. **Ranges.** `get` of `a..b` returns those bytes, cut off at the object's end; a range that starts at or beyond
///    the end of the object returns no bytes.
/// 8. **Absent.** `get` and `head` of a key that holds nothing give [`ErrorKind::NotFound`], and only then: a missing
///    bucket, a refused or an unreachable store is a failure, never an empty store.
/// 9. **Head.** `head` gives the size and the etag that `put`, `get` and `list` give for the same version.
/// 10. **List.** `list` gives every object whose key starts with the prefix (a plain string prefix) and is greater than
///     `start_after`, each once, sorted by the bytes of the key, however many there are; what was put before the call
///     is in it, unfinished puts never are.
/// 11. **Delete.** `delete` removes the object; deleting what is not there succeeds.
/// 12. **Contained.** Every [`Key`] addresses a place inside the store, whatever links or names lie there.
/// 13. **Failed puts leave nothing.** After `put` returns an error other than [`ErrorKind::Unavailable`], the key holds
///     what it held before. `Unavailable` means that the outcome is unknown.
/// 14. **Delete a version.** `delete_version` removes the object only if it still is the version that `head` or `list`
///     described, else [`ErrorKind::Changed`], also where the object is gone. The same bytes put again are another version,
///     at the latest when they are put a second later.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Stores `body` under `key` if `mode` allows; returns the etag of what was stored.
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag>;

    /// Opens an object for reading, whole or a range of its bytes.
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object>;

    /// Describes an object without reading it.
    async fn head(&self, key: &Key) -> Result<ObjectMeta>;

    /// Lists objects; pages are fetched as the stream is read. A folder of a disk that may not be read is an error of
    /// the kind [`ErrorKind::Refused`] with its path, and what lies behind it comes all the same.
    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>>;

    /// Removes an object.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Removes an object if it still is this version of it.
    async fn delete_version(&self, version: &ObjectMeta) -> Result<()>;

    /// An object's present version and the digest of its bytes as the backend itself keeps it, from when it took them in
    /// or copied them; `None` where it keeps none (use [`Store::digest`](crate::Store::digest), which falls back to reading).
    async fn stored_digest(&self, _key: &Key) -> Result<Option<(ObjectMeta, Digest)>> {
        Ok(None)
    }

    /// How other stores of the same service can find an object; `None` where the backend cannot copy.
    fn address(&self, _key: &Key) -> Option<Address> {
        None
    }

    /// Copies an object of the same service, replacing `to`, without the bytes passing through the caller; `None`, with
    /// nothing written, where the backend cannot (use [`Store::copy_to`](crate::Store::copy_to), which falls back to reading and writing).
    /// An object whose bytes do not have `digest` is [`ErrorKind::Corrupt`] and is not copied. The copy has
    /// `content_type`, or the source's.
    async fn copy_from(
        &self,
        _from: &Address,
        _to: &Key,
        _digest: Digest,
        _content_type: Option<&str>,
    ) -> Result<Option<ETag>> {
        Ok(None)
    }

    /// A URL from which anyone can read the object, served like this, until `valid_for` has passed; `None` where the
    /// backend has none.
    async fn signed_url(&self, _key: &Key, _served: ServedAs<'_>, _valid_for: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    /// A create-only put that anyone can make until `valid_for` has passed, of exactly these bytes; `None` where the
    /// backend has no such thing.
    async fn signed_put(&self, _key: &Key, _terms: &Terms, _valid_for: Duration) -> Result<Option<SignedPut>> {
        Ok(None)
    }

    /// Whether the objects are files below a folder that this machine has mounted.
    fn is_disk(&self) -> bool {
        false
    }

    /// Bytes that can still be written, where the backend knows. Cheap: no service is asked for it.
    async fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(self.status().await?.free_bytes)
    }

    /// Files that can still be made, where that is limited and the backend knows. Cheap: no service is asked for it.
    async fn files(&self) -> Result<Option<Files>> {
        Ok(self.status().await?.files)
    }

    /// Finds out, by trying below `scratch`, whether the service behind this store keeps sentences 3 and 4;
    /// [`ErrorKind::Refused`] says that it does not. Nothing is left behind. A disk tries what it relies on of the file
    /// system. A backend whose own code keeps them has nothing to try.
    async fn check_conditional_writes(&self, _scratch: &Key) -> Result<()> {
        Ok(())
    }

    /// Likewise for sentence 14, which only pruning relies on: whether the service keeps it.
    async fn check_conditional_deletes(&self, _scratch: &Key) -> Result<bool> {
        Ok(true)
    }

    /// Says how the store is, without writing to it.
    async fn status(&self) -> Result<StoreStatus>;

    /// Removes what puts that never finished left behind before `before`; returns how many such leftovers went.
    async fn sweep_unfinished(&self, _before: Timestamp) -> Result<u64> {
        Ok(0)
    }
}
