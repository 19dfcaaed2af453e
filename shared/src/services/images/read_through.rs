//! [`ReadThrough`]: which objects were read through lately, and whether they were right.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quick_cache::sync::Cache;

use crate::layout::ImageId;
use store::ETag;
use store::digest::Digest;
use store::sync::{Mutex, lock};

/// How long an object counts as right without being read through again. Within this time, damage that leaves length and
/// time of modification as they were is noticed by a verification alone.
pub const TRUSTED: SignedDuration = SignedDuration::from_hours(1);
/// How long a file that a proxy sends counts as unchanged without being looked at.
pub const UNCHANGED: SignedDuration = SignedDuration::from_secs(1);
/// The most images that are remembered: about ten megabytes.
const CAPACITY: usize = 50_000;

/// Objects of the primary that were read through lately.
#[derive(Debug)]
pub(super) struct ReadThrough(Cache<ImageId, Arc<Verdict>>);

/// What a read of a whole object found.
#[derive(Debug)]
struct Verdict {
    etag: ETag,
    digest: Digest,
    is_right: bool,
    at: Timestamp,
    /// When this version was last seen in the store.
    seen: Mutex<Timestamp>,
}

impl Default for ReadThrough {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl ReadThrough {
    /// Remembers whether a version of an image's object has this digest.
    pub(super) fn remember(&self, id: &ImageId, etag: ETag, digest: Digest, is_right: bool, at: Timestamp) {
        self.0.insert(id.clone(), Arc::new(Verdict { etag, digest, is_right, at, seen: Mutex::new(at) }));
    }

    /// The version of an image's object that has this digest, if it was read lately.
    pub(super) fn right(&self, id: &ImageId, digest: Digest, now: Timestamp) -> Option<ETag> {
        self.verdict(id, digest, now).filter(|verdict| verdict.is_right).map(|verdict| verdict.etag.clone())
    }

    /// Whether the right version of an image's object was seen within [`UNCHANGED`].
    pub(super) fn was_seen(&self, id: &ImageId, digest: Digest, now: Timestamp) -> bool {
        let is_recent = |at: Timestamp| (SignedDuration::ZERO..UNCHANGED).contains(&now.duration_since(at));
        self.verdict(id, digest, now).is_some_and(|verdict| verdict.is_right && is_recent(*lock(&verdict.seen)))
    }

    /// Remembers that this version of an image's object was seen.
    pub(super) fn see(&self, id: &ImageId, digest: Digest, etag: &ETag, now: Timestamp) {
        if let Some(verdict) = self.verdict(id, digest, now).filter(|verdict| verdict.etag == *etag) {
            *lock(&verdict.seen) = now;
        }
    }

    /// Whether this version of an image's object was read lately and has another digest.
    pub(super) fn is_wrong(&self, id: &ImageId, digest: Digest, etag: &ETag, now: Timestamp) -> bool {
        self.verdict(id, digest, now).is_some_and(|verdict| !verdict.is_right && verdict.etag == *etag)
    }

    fn verdict(&self, id: &ImageId, digest: Digest, now: Timestamp) -> Option<Arc<Verdict>> {
        let is_recent = |verdict: &Arc<Verdict>| {
            verdict.digest == digest && (SignedDuration::ZERO..TRUSTED).contains(&now.duration_since(verdict.at))
        };
        self.0.get(id).filter(is_recent)
    }
}
