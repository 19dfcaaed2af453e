//! Counters of a process's own work, for monitoring.

use jiff::Timestamp;

use store::sync::{AtomicU64, Mutex, Ordering, lock};

/// Counters since the process began.
#[derive(Debug, Default)]
pub struct Counts {
    uploads: AtomicU64,
    uploaded_bytes: AtomicU64,
    last_prune: Mutex<Option<LastPrune>>,
    thumbnails: [AtomicU64; Outcome::ALL.len()],
}

/// The outcome of a request for a thumbnail. Requests that waited for another request's thumbnail are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was in the cache.
    Found,
    /// It was made.
    Made,
    /// The image cannot have one.
    Refused,
    /// It failed, perhaps temporarily.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Found, Self::Made, Self::Refused, Self::Failed];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Made => "made",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The outcome of the last prune, dry runs excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastPrune {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it removed everything that it should have: it neither failed nor was held back.
    pub complete: bool,
    /// Total size in bytes of the removed chunks and replicas.
    pub removed_bytes: u64,
}

impl Counts {
    /// Images that were uploaded and stored.
    pub fn uploads(&self) -> u64 {
        self.uploads.load(Ordering::Relaxed)
    }

    /// Total size of those images in bytes.
    pub fn uploaded_bytes(&self) -> u64 {
        self.uploaded_bytes.load(Ordering::Relaxed)
    }

    /// The last prune of this process, if there was one.
    pub fn last_prune(&self) -> Option<LastPrune> {
        *lock(&self.last_prune)
    }

    /// How many requests for thumbnails had this outcome.
    pub fn thumbnails(&self, outcome: Outcome) -> u64 {
        self.thumbnails[outcome as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn add_thumbnail(&self, outcome: Outcome) {
        self.thumbnails[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_upload(&self, bytes: u64) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
        self.uploaded_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn note_prune(&self, prune: LastPrune) {
        *lock(&self.last_prune) = Some(prune);
    }
}
