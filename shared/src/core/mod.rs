//! [`Core`]: what every service needs.

pub mod ages;
pub mod archive;
pub mod counts;
pub mod edit;
pub mod error;
pub mod lease;
pub mod settings;

use jiff::Timestamp;
use uuid::Uuid;

use self::archive::Archive;
use self::counts::Counts;
use self::error::{Error, Result};
use self::settings::Settings;
use crate::base::clock::Clock;
use crate::base::progress::Progress;
use crate::catalog::Catalog;
use crate::layout;
use store::sync::{self, Mutex, lock};
use store::{ErrorKind, Files, Optional, Store, StoreError};

/// Images that an operation copies concurrently.
pub(crate) const COPIES: usize = 8;
/// Small objects, such as manifests and chunks, that an operation reads concurrently.
pub(crate) const FETCHES: usize = 16;

/// One store: its locations, catalog, clock and settings.
#[derive(Debug)]
pub struct Core {
    /// Images and their metadata.
    pub primary: Store,
    /// Replicas of images, backups, quarantine.
    pub archive: Archive,
    /// The records of all images.
    pub catalog: Catalog,
    /// Time and identifiers.
    pub clock: Clock,
    /// Limits and behavior.
    pub settings: Settings,
    /// When this process began to serve.
    pub started_at: Timestamp,
    /// Identifies this process as the holder of a lease.
    process_id: Uuid,
    /// Serializes changes of existing records, so that none is based on a state that another has just replaced.
    pub(crate) editing: tokio::sync::Mutex<()>,
    /// The progress of the long operation that this process runs.
    pub progress: Progress,
    /// Counters of this process's work.
    pub counts: Counts,
    /// Wakes the background task after each change.
    pub changed: tokio::sync::Notify,
    /// Why the last write failed, until one succeeds.
    last_write_failure: Mutex<Option<WriteFailure>>,
    /// Why the last work after a change failed, until it succeeds.
    last_upkeep_failure: Mutex<Option<WriteFailure>>,
}

/// The error of the last write, and the name of the store, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteFailure {
    pub(crate) kind: ErrorKind,
    pub(crate) store: Option<&'static str>,
}

impl Core {
    /// A store with its images in `primary` and its replicas and backups in `archive`; `mirrors` are the locations for
    /// replicas of the metadata.
    pub fn new(primary: Store, archive: Store, mirrors: Vec<Store>, clock: Clock, settings: Settings) -> Self {
        let mirrors = std::iter::once(archive.clone()).chain(mirrors).collect();
        Self {
            catalog: Catalog::new(primary.clone(), mirrors, settings.archive_sync, clock.clone()),
            archive: Archive::new(archive, clock.clone()),
            started_at: clock.now(),
            process_id: clock.new_id(),
            editing: tokio::sync::Mutex::default(),
            progress: Progress::default(),
            counts: Counts::default(),
            changed: tokio::sync::Notify::new(),
            last_write_failure: Mutex::default(),
            last_upkeep_failure: Mutex::default(),
            primary,
            clock,
            settings,
        }
    }

    /// Whether writes are fenced, because a location's storage was exchanged.
    pub fn is_fenced(&self) -> bool {
        self.primary.is_fenced()
    }

    /// Tests whether the primary supports what Keepsake needs. For startup; costs a few requests.
    pub async fn check_primary(&self) -> Result<()> {
        self.check_store(&self.primary).await?;
        // The first mirror is the archive. Others are on separate file systems.
        for mirror in self.catalog.mirrors().iter().skip(1) {
            self.check_store(mirror).await?;
        }
        Ok(())
    }

    /// Tests the archive, which may be unavailable for a while.
    pub async fn check_archive(&self) -> Result<()> {
        self.check_store(self.archive.store()).await
    }

    async fn check_store(&self, store: &Store) -> Result<()> {
        if self.is_fenced() {
            return Ok(());
        }
        store.check_conditional_writes(&layout::scratch()).await?;
        // A folder that is not one (a link, say) would otherwise only show at the first upload.
        store.head(&layout::probe()).await.optional()?;
        Ok(())
    }

    /// How many files have to stay free for deletes, restores and backups, which write before they remove anything: a
    /// twentieth of all, 1,000 at most, and none if no bytes are reserved either.
    pub(crate) fn reserve_files(&self, files: Files) -> u64 {
        if self.settings.reserve_bytes == 0 { 0 } else { (files.total / 20).min(1_000) }
    }

    /// Records the outcome of a write, for health.
    pub(crate) fn note_write<T>(&self, outcome: Result<T>) -> Result<T> {
        if matches!(outcome, Err(Error::NoRoom | Error::NoFiles)) {
            // Too little space for one upload is not a failure of the store; less than the reserve shows in its status.
            return outcome;
        }
        let error = outcome.as_ref().err();
        let failure =
            error.and_then(|error| Some(WriteFailure { kind: error.store_kind()?, store: error.store_name() }));
        if outcome.is_ok() || failure.is_some() {
            *lock(&self.last_write_failure) = failure;
        }
        outcome
    }

    /// Records the outcome of work after a change (replication, automatic backups, compaction), for health.
    pub(crate) fn note_upkeep<T>(&self, outcome: Result<T>) -> Result<T> {
        let failed = |error: &Error| WriteFailure {
            kind: error.store_kind().unwrap_or(ErrorKind::Unavailable),
            store: error.store_name(),
        };
        *lock(&self.last_upkeep_failure) = outcome.as_ref().err().map(failed);
        outcome
    }

    /// Why the last work after a change failed, if it did.
    pub(crate) fn last_upkeep_failure(&self) -> Option<WriteFailure> {
        *lock(&self.last_upkeep_failure)
    }

    /// Why the last write failed, if it did.
    pub(crate) fn last_write_failure(&self) -> Option<WriteFailure> {
        *lock(&self.last_write_failure)
    }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let joined = sync::spawn_blocking(work).await;
    joined.map_err(|e| StoreError::caused("wait", "", ErrorKind::Unavailable, e).into())
}
