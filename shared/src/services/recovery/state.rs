//! [`RecoveryState`]: the progress of a recovery, and the report of the last one.

use std::sync::Arc;

use tokio::sync::watch;

use crate::layout::ImageId;
use store::sync::{Mutex, lock};

/// A start waits until this many images are recovered, and serves before the rest if there are more.
const FEW_IMAGES: u64 = 100;
const FEW_BYTES: u64 = 256 * 1024 * 1024;
/// The log reports progress once per this many restored images.
const LOGGED_EVERY: u64 = 1_000;

/// What a recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether the store was new.
    pub is_new: bool,
    /// Images there are now.
    pub images: u64,
    /// Whether metadata was restored from a replica.
    pub metadata_restored: bool,
    /// Damaged commits that were set aside.
    pub damaged_commits: usize,
    /// Images whose bytes were restored from the archive.
    pub brought_back: u64,
    /// Images that got their replica.
    pub archived: u64,
    /// Records of the older format that were completed from their files.
    pub imported: u64,
    /// Files without a record that were adopted.
    pub adopted: u64,
    /// Files that were moved to quarantine.
    pub set_aside: u64,
    /// Deleted images whose remaining bytes were deleted now.
    pub deletes_finished: u64,
    /// Images whose bytes are in neither the primary nor the archive. Their records are kept.
    pub missing: Vec<ImageId>,
    /// Names in an older `image-metadata.json` that cannot be file names here; the original was set aside.
    pub unusable_names: Vec<String>,
}

/// The progress of restoring images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restoring {
    /// How many images have been processed.
    pub done: u64,
    /// How many images are to be processed in total.
    pub total: u64,
}

/// The progress of a running recovery.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Whether there is so much to do that a start should not wait for it.
    long: bool,
    /// Images whose bytes are being restored from the archive, if any.
    restoring: Option<Restoring>,
}

/// The progress of a running recovery, and the report of the last one.
#[derive(Debug, Default)]
pub struct RecoveryState {
    running: watch::Sender<Progress>,
    last: Mutex<Option<Arc<Report>>>,
}

impl RecoveryState {
    /// Waits until a running recovery has found so much to do that a start should not wait for it.
    pub async fn is_long(&self) {
        // The sender lives as long as `self`.
        let _ = self.running.subscribe().wait_for(|progress| progress.long).await;
    }

    /// The progress of a running recovery in restoring images, if there is one.
    pub fn restoring(&self) -> Option<Restoring> {
        self.running.borrow().restoring
    }

    pub(super) fn note_work(&self, images: u64, bytes: u64) {
        if images > FEW_IMAGES || bytes > FEW_BYTES {
            self.running.send_modify(|progress| progress.long = true);
        }
    }

    /// Counts a restored image, and logs progress from time to time.
    pub(super) fn note_restored(&self) {
        self.running.send_modify(|progress| {
            let Some(Restoring { done, total }) = &mut progress.restoring else { return };
            *done += 1;
            if progress.long && (done.is_multiple_of(LOGGED_EVERY) || done == total) {
                tracing::info!(done, total, "images are being restored from the archive");
            }
        });
    }

    /// Records that so many images are being restored.
    pub(super) fn note_restoring(&self, total: u64) {
        self.running.send_modify(|progress| progress.restoring = Some(Restoring { done: 0, total }));
    }

    /// Records that a recovery has ended.
    pub(super) fn note_end(&self, report: Report) {
        self.running.send_replace(Progress::default());
        *lock(&self.last) = Some(Arc::new(report));
    }

    /// The report of the last recovery.
    pub fn last(&self) -> Option<Arc<Report>> {
        lock(&self.last).clone()
    }
}
