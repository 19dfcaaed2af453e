//! [`Core`]: what every service has.

pub mod ages;
pub mod archive;
pub mod counts;
pub mod error;
pub mod lease;
pub mod settings;

use jiff::Timestamp;

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

/// One store: where it lies, what is in it, and what holds for all that is done with it.
#[derive(Debug)]
pub struct Core {
    /// Images and their metadata.
    pub primary: Store,
    /// Replicas of images, backups, quarantine.
    pub archive: Archive,
    /// What images there are.
    pub catalog: Catalog,
    /// Time and identifiers.
    pub clock: Clock,
    /// Limits and habits.
    pub settings: Settings,
    /// When this process began to serve.
    pub started_at: Timestamp,
    /// Changes of existing records wait for each other, so that none is made from a state that another just replaced.
    pub(crate) editing: tokio::sync::Mutex<()>,
    /// How far the long operation is that this process runs.
    pub progress: Progress,
    /// What this process has done.
    pub counts: Counts,
    /// Wakes the background task after each change.
    pub changed: tokio::sync::Notify,
    /// Why the last write failed, until one succeeds.
    last_write_failure: Mutex<Option<WriteFailure>>,
    /// Why the last work failed that followed a change, until it succeeds.
    last_upkeep_failure: Mutex<Option<WriteFailure>>,
}

/// How the last write failed, and in which place, where that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteFailure {
    pub(crate) kind: ErrorKind,
    pub(crate) place: Option<&'static str>,
}

impl Core {
    /// A store whose images lie in `primary` and whose replicas and backups lie in `archive`; `mirrors` are further places
    /// for replicas of the metadata.
    pub fn new(primary: Store, archive: Store, mirrors: Vec<Store>, clock: Clock, settings: Settings) -> Self {
        let places = std::iter::once(archive.clone()).chain(mirrors).collect();
        Self {
            catalog: Catalog::new(primary.clone(), places, settings.archive_sync, clock.clone()),
            archive: Archive::new(archive, clock.clone()),
            started_at: clock.now(),
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

    /// Whether nothing may be written, because a place is not what it was.
    pub fn is_fenced(&self) -> bool {
        self.primary.is_fenced()
    }

    /// Finds out, by trying, whether the primary can do what everything here relies on. For a start; costs a few requests.
    pub async fn check_primary(&self) -> Result<()> {
        self.check_store(&self.primary).await?;
        // The first mirror is the archive. Others lie on file systems of their own.
        for mirror in self.catalog.mirrors().iter().skip(1) {
            self.check_store(mirror).await?;
        }
        Ok(())
    }

    /// Likewise for the archive, which may be away for a while.
    pub async fn check_archive(&self) -> Result<()> {
        self.check_store(self.archive.store()).await
    }

    async fn check_store(&self, store: &Store) -> Result<()> {
        if self.is_fenced() {
            return Ok(());
        }
        store.check_conditional_writes(&layout::scratch()).await?;
        // A folder that is no folder (a link, say) would only show at the first upload.
        store.head(&layout::probe()).await.optional()?;
        Ok(())
    }

    /// How many files have to stay free for deletes, restores and backups, which write before they remove anything: a
    /// twentieth of all, 1,000 at most, and none where no bytes are reserved either.
    pub(crate) fn reserve_files(&self, files: Files) -> u64 {
        if self.settings.reserve_bytes == 0 { 0 } else { (files.total / 20).min(1_000) }
    }

    /// Takes note of how a write ended, for health.
    pub(crate) fn note_write<T>(&self, outcome: Result<T>) -> Result<T> {
        if matches!(outcome, Err(Error::NoRoom | Error::NoFiles)) {
            // Too little room for one upload is no failure of the store; less than the reserve shows in its status.
            return outcome;
        }
        let error = outcome.as_ref().err();
        let failure = error.and_then(|error| Some(WriteFailure { kind: error.store_kind()?, place: error.place() }));
        if outcome.is_ok() || failure.is_some() {
            *lock(&self.last_write_failure) = failure;
        }
        outcome
    }

    /// Takes note of how work ended that follows a change (replicas, automatic backups, compacts), for health.
    pub(crate) fn note_upkeep<T>(&self, outcome: Result<T>) -> Result<T> {
        let failed = |error: &Error| WriteFailure {
            kind: error.store_kind().unwrap_or(ErrorKind::Unavailable),
            place: error.place(),
        };
        *lock(&self.last_upkeep_failure) = outcome.as_ref().err().map(failed);
        outcome
    }

    /// Why the last such work failed, if it did.
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
