//! [`Keepsake`]: one store with everything that serves it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::base::clock::Clock;
use crate::catalog::Catalog;
use crate::config::Keep;
use crate::core::archive::Archive;
use crate::core::counts::Counts;
use crate::core::error::{Error, Result};
use crate::digest::Digest;
use crate::layout::{self, ImageId};
use crate::media::location::Patches;
use crate::services::backup::Backups;
use crate::services::persistence::Persistence;
use crate::services::replication::SecondCopies;
use crate::services::tokens::Known;
use crate::services::unfinished::Claim;
use crate::store::{ETag, ErrorKind, Files, Key, Optional, Store, StoreError};
use crate::sync::{self, AtomicBool, Mutex, lock};

/// Limits and habits, as configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest image in bytes, and longest request body but for the form around it; a function that cannot take in so
    /// much still gives out tickets for it.
    pub max_upload_bytes: u64,
    /// Most pixels and frames an image may have.
    pub media: crate::media::Limits,
    /// Bytes that uploads leave free, so that deleting works on a full disk.
    pub reserve_bytes: u64,
    /// Uploads for each automatic backup.
    pub backup_every: u64,
    /// Which automatic backups a prune keeps.
    pub keep: Keep,
    /// Whether second copies stand before an upload is acknowledged.
    pub archive_sync: bool,
    /// Where they do not: how many changes may wait for theirs before no more is taken in.
    pub behind_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_upload_bytes: 100 * 1024 * 1024,
            media: crate::media::Limits::default(),
            reserve_bytes: 64 * 1024 * 1024,
            backup_every: 10,
            keep: Keep::default(),
            archive_sync: true,
            behind_max: usize::MAX,
        }
    }
}

/// One store and everything that serves it; shared by all requests of a process.
#[derive(Debug)]
pub struct Keepsake {
    /// Images and their metadata.
    pub primary: Store,
    /// Second copies, backups, quarantine.
    pub archive: Archive,
    /// What images there are.
    pub catalog: Catalog,
    /// The backups that are known.
    pub backups: Backups,
    /// Time and identifiers.
    pub clock: Clock,
    /// Limits and habits.
    pub settings: Settings,
    /// When this process began to serve.
    pub started_at: Timestamp,
    /// Changes of existing records wait for each other, so that none is made from a state that another just replaced.
    pub(crate) editing: tokio::sync::Mutex<()>,
    /// Uploads in parts and by ticket begin one after the other, so that each counts those before it.
    pub(crate) beginning: tokio::sync::Mutex<()>,
    /// What the descriptions of unfinished uploads say, each with the version that said it.
    pub(crate) claims: Mutex<HashMap<Key, (ETag, Option<Claim>)>>,
    /// Digests of the idempotency keys of uploads under way.
    pub(crate) uploading: Mutex<HashSet<Digest>>,
    /// How many requests bring bytes of an unfinished upload, or make images of them, by its name.
    pub(crate) arriving: Mutex<HashMap<Uuid, usize>>,
    /// How far the long operation is that this process runs.
    pub progress: crate::base::progress::Progress,
    /// What this process has done.
    pub counts: Counts,
    /// Wakes whoever folds, after each change.
    pub changed: tokio::sync::Notify,
    /// How a recovery that runs goes on.
    pub(crate) recovering: tokio::sync::watch::Sender<crate::services::recovery::Progress>,
    /// What the last recovery found.
    pub(crate) recovered: Mutex<Option<Arc<crate::services::recovery::Report>>>,
    /// What is known of second copies.
    pub(crate) second_copies: Mutex<SecondCopies>,
    /// One import or plan of one at a time: each holds all records of its source in memory.
    pub(crate) importing: tokio::sync::Mutex<()>,
    /// One verification at a time.
    pub(crate) verifying: tokio::sync::Mutex<()>,
    /// Images whose bytes were found wrong when they were to be served, to be repaired soon.
    pub(crate) suspects: Mutex<BTreeSet<ImageId>>,
    /// Digests of images whose bytes a download found wrong in both places.
    pub(crate) unsound: Mutex<BTreeSet<Digest>>,
    /// What images say of where they were taken, by their digests, as far as it was looked at.
    pub(crate) places: Mutex<HashMap<Digest, Patches>>,
    /// Whether this process keeps derivatives, so that those of a deleted image have to go.
    pub(crate) keeps_derivatives: AtomicBool,
    /// Why the last write failed, until one succeeds.
    last_write_failure: Mutex<Option<WriteFailure>>,
    /// Why the last work failed that followed a change, until it succeeds.
    last_upkeep_failure: Mutex<Option<WriteFailure>>,
    /// What is known of where the store is served.
    pub(crate) persistence: Persistence,
    /// What is known of who may do what.
    pub(crate) tokens: Known,
}

/// How the last write failed, and in which place, where that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteFailure {
    pub(crate) kind: ErrorKind,
    pub(crate) place: Option<&'static str>,
}

impl Keepsake {
    /// A store whose images lie in `primary` and whose second copies and backups lie in `archive`; `mirrors` are
    /// further places for second copies of the metadata.
    pub fn new(primary: Store, archive: Store, mirrors: Vec<Store>, clock: Clock, settings: Settings) -> Self {
        let places = std::iter::once(archive.clone()).chain(mirrors).collect();
        Self {
            catalog: Catalog::new(primary.clone(), places, settings.archive_sync, clock.clone()),
            archive: Archive::new(archive, clock.clone()),
            backups: Backups::default(),
            started_at: clock.now(),
            editing: tokio::sync::Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
            claims: Mutex::default(),
            uploading: Mutex::default(),
            arriving: Mutex::default(),
            progress: crate::base::progress::Progress::default(),
            counts: Counts::default(),
            changed: tokio::sync::Notify::new(),
            recovering: tokio::sync::watch::Sender::default(),
            recovered: Mutex::default(),
            second_copies: Mutex::new(SecondCopies::new(settings.archive_sync)),
            importing: tokio::sync::Mutex::default(),
            verifying: tokio::sync::Mutex::default(),
            suspects: Mutex::default(),
            unsound: Mutex::default(),
            places: Mutex::default(),
            keeps_derivatives: AtomicBool::new(false),
            last_write_failure: Mutex::default(),
            last_upkeep_failure: Mutex::default(),
            persistence: Persistence::default(),
            tokens: Known::default(),
            primary,
            clock,
            settings,
        }
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
        if self.withheld().is_some() {
            return Ok(());
        }
        store.check_conditional_writes(&layout::scratch()).await?;
        // A folder that is no folder (a link, say) would only show at the first upload.
        store.head(&layout::probe()).await.optional()?;
        Ok(())
    }

    /// Refuses what would leave less than the reserve free, in the primary or, where second copies are made at once, in the
    /// archive.
    pub async fn check_room(&self, bytes: u64) -> Result<()> {
        if self.withheld().is_some() {
            return Err(StoreError::new("put", layout::uploads_folder(), ErrorKind::Withheld).into());
        }
        let needed = self.settings.reserve_bytes.saturating_add(bytes);
        let archive = self.settings.archive_sync.then(|| self.archive.store());
        for store in std::iter::once(&self.primary).chain(archive) {
            let lacks = async || Ok::<_, Error>(store.free_bytes().await?.is_some_and(|free| free < needed));
            // Unfinished uploads lie in the primary, which the archive may share a disk with.
            if lacks().await? && (!self.make_room().await || lacks().await?) {
                return Err(Error::NoRoom);
            }
            if store.files().await?.is_some_and(|files| files.free < self.reserve_files(files)) {
                return Err(Error::NoFiles);
            }
        }
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

    /// Takes note of how work ended that follows a change (second copies, automatic backups, folds), for health.
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
