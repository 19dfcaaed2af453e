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
pub(super) struct Verdict {
    /// The version of the object.
    pub(super) etag: ETag,
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

    /// What was found about the object of an image, if it was read lately and has this digest.
    pub(super) fn right(&self, id: &ImageId, digest: Digest, now: Timestamp) -> Option<Arc<Verdict>> {
        self.verdict(id, digest, now).filter(|verdict| verdict.is_right)
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

impl Verdict {
    /// Whether this version was seen in the store within [`UNCHANGED`].
    pub(super) fn was_seen(&self, now: Timestamp) -> bool {
        (SignedDuration::ZERO..UNCHANGED).contains(&now.duration_since(*lock(&self.seen)))
    }

    /// Remembers that this version was seen in the store.
    pub(super) fn see(&self, now: Timestamp) {
        *lock(&self.seen) = now;
    }
}
