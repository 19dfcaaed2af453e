//! [`RecoveryState`]: how far a recovery is, and what the last one found.

use std::sync::Arc;

use tokio::sync::watch;

use crate::layout::ImageId;
use store::sync::{Mutex, lock};

/// A start waits until so much has been set right, and serves before the rest of what is more.
const FEW_IMAGES: u64 = 100;
const FEW_BYTES: u64 = 256 * 1024 * 1024;
/// The log tells of so many images that were brought back.
const TOLD_EVERY: u64 = 1_000;

/// What a recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether the store was new.
    pub is_new: bool,
    /// Images there are now.
    pub images: u64,
    /// Whether metadata came back from a replica.
    pub metadata_restored: bool,
    /// Damaged commits that were set aside.
    pub damaged_commits: usize,
    /// Images whose bytes came back from the archive.
    pub brought_back: u64,
    /// Images that got their replica.
    pub archived: u64,
    /// Records of the older format that were completed from their files.
    pub imported: u64,
    /// Files that had no record and have one now.
    pub adopted: u64,
    /// Files that were moved to quarantine.
    pub set_aside: u64,
    /// Deleted images whose bytes were still there and are gone now.
    pub deletes_finished: u64,
    /// Images whose bytes are in neither place. Their records are kept.
    pub missing: Vec<ImageId>,
    /// Names in an older `image-metadata.json` that cannot name a file here; the original was set aside.
    pub unusable_names: Vec<String>,
}

impl Report {
    /// Whether anything had to be done.
    pub fn found_nothing(&self) -> bool {
        let done = [
            self.brought_back,
            self.archived,
            self.imported,
            self.adopted,
            self.set_aside,
            self.deletes_finished,
            self.damaged_commits as u64,
            u64::from(self.metadata_restored),
        ];
        done.iter().sum::<u64>() == 0
    }
}

/// How far images have been brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restoring {
    /// How many images are dealt with.
    pub done: u64,
    /// How many there are to be dealt with.
    pub total: u64,
}

/// How a recovery that runs goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Whether so much is to be done that nobody should wait for it.
    long: bool,
    /// Images whose bytes come back from the archive, where there are any.
    restoring: Option<Restoring>,
}

/// How a recovery that runs goes on, and what the last one found.
#[derive(Debug, Default)]
pub struct RecoveryState {
    running: watch::Sender<Progress>,
    last: Mutex<Option<Arc<Report>>>,
}

impl RecoveryState {
    /// Waits until a recovery that runs has found so much to do that nobody should wait for it.
    pub async fn is_long(&self) {
        // The sender lives as long as this does.
        let _ = self.running.subscribe().wait_for(|progress| progress.long).await;
    }

    /// How far a recovery has brought images back, where one does.
    pub fn restoring(&self) -> Option<Restoring> {
        self.running.borrow().restoring
    }

    pub(super) fn note_work(&self, images: u64, bytes: u64) {
        if images > FEW_IMAGES || bytes > FEW_BYTES {
            self.running.send_modify(|progress| progress.long = true);
        }
    }

    /// Counts an image that was brought back, and says so in the log now and then.
    pub(super) fn note_restored(&self) {
        self.running.send_modify(|progress| {
            let Some(Restoring { done, total }) = &mut progress.restoring else { return };
            *done += 1;
            if progress.long && (done.is_multiple_of(TOLD_EVERY) || done == total) {
                tracing::info!(done, total, "images are brought back from the archive");
            }
        });
    }

    /// Takes note that images are being brought back.
    pub(super) fn note_restoring(&self, restoring: Option<Restoring>) {
        self.running.send_modify(|progress| progress.restoring = restoring);
    }

    /// Takes note that a recovery has ended.
    pub(super) fn note_end(&self, report: Report) {
        self.running.send_replace(Progress::default());
        *lock(&self.last) = Some(Arc::new(report));
    }

    /// What the last recovery found.
    pub fn last(&self) -> Option<Arc<Report>> {
        lock(&self.last).clone()
    }
}
