//! The health report on the store's state.

mod store_check;

use std::sync::Arc;

use futures::future;
use futures::stream::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use crate::base::clock::format_millis;
use crate::catalog::Totals;
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout::{self, BackupName, ImageId};
use crate::services::backup::{self, Backups, Listed};
use crate::services::images::files::Paired;
use crate::services::images::records::ImageRecords;
use crate::services::persistence::{Persistence, PersistenceReport};
use crate::services::recovery::{self, RecoveryState, Restoring};
use crate::services::replication::{ReplicationLag, Replicator};
use crate::services::unfinished::{Unfinished, UnfinishedUploads};
use crate::services::verify::{self, Verifier};
use store::{ErrorKind, StoreError, StoreStatus};

/// Replication lag from which the archive needs attention.
const LONG_LAG: SignedDuration = SignedDuration::from_hours(1);

/// The most backups or images that a message lists.
const MAX_LISTED: usize = 3;

/// Images looked up for each report; verifications check all.
const SAMPLE_SIZE: usize = 8;

/// The names of the primary and the archive in checks and failures.
pub(crate) const PRIMARY: &str = "primary";
pub(crate) const ARCHIVE: &str = "archive";

/// How healthy the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Everything is in order.
    Ok,
    /// The store serves, and something needs attention.
    Warn,
    /// The store cannot do its work.
    Error,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A stable name, such as `primary`.
    pub name: &'static str,
    /// Its result.
    pub status: Status,
    /// The finding, in a plain sentence.
    pub message: String,
}

/// The store's state.
#[derive(Debug)]
pub struct Health {
    /// The worst result of the checks.
    pub status: Status,
    /// The time of the report.
    pub now: Timestamp,
    /// How long this process has been serving.
    pub uptime: SignedDuration,
    /// Whether uploads can be stored.
    pub writable: bool,
    /// Whether the images outlive the instance that stored them.
    pub persistence: PersistenceReport,
    /// The primary's own report, if it answers.
    pub primary: Option<StoreStatus>,
    /// Sums over the catalog.
    pub totals: Totals,
    /// The number of valid backups.
    pub backups: usize,
    /// Backups whose manifest cannot be read, newest first.
    pub unreadable_backups: Vec<BackupName>,
    /// The newest backup.
    pub newest: Option<Listed>,
    /// The newest backup in which no verification has found damage. All were read back when they were made.
    pub newest_verified: Option<Listed>,
    /// How many images are not in the newest backup, estimated by counts.
    pub not_backed_up: u64,
    /// Unfinished uploads; `None` if they are not counted.
    pub unfinished: Option<Unfinished>,
    /// How many images are missing from a folder, as far as that was checked.
    pub gone: u64,
    /// How many images had no bytes anywhere when this process started, and still have none, as far as that was
    /// checked.
    pub missing: u64,
    /// The findings of verifications, if they can be read.
    pub verifications: Option<verify::Record>,
    /// The state of the archive.
    pub archive: ArchiveHealth,
    /// Every check.
    pub checks: Vec<Check>,
}

/// The state of the archive.
#[derive(Debug)]
pub struct ArchiveHealth {
    /// Whether replicas exist before a change is acknowledged.
    pub sync: bool,
    /// The archive's own report, if it answers.
    pub status: Option<StoreStatus>,
    /// What a loss of the primary would lose now; `None` if that is unknown.
    pub behind: Option<ReplicationLag>,
    /// The recovery in progress in the background, if any.
    pub restoring: Option<Restoring>,
}

impl Health {
    /// How many images have a single copy of their bytes or of their newest record; `None` if that is unknown.
    pub fn single_copies(&self) -> Option<u64> {
        Some(self.archive.behind?.single_copies + self.gone)
    }

    /// Whether the primary accepts writes, whatever the archive does.
    pub fn primary_writable(&self) -> bool {
        !self.checks.iter().any(|check| check.name == "primary" && check.status == Status::Error)
    }

    /// How long the oldest change without a replica has waited; `None` if that is unknown.
    pub fn behind_seconds(&self) -> Option<f64> {
        let since = self.archive.behind?.since;
        // The clock of another process may be ahead.
        Some(since.map_or(0.0, |since| self.now.duration_since(since).as_secs_f64().max(0.0)))
    }
}

/// Reports the state of the store.
#[derive(Debug)]
pub struct HealthReport {
    pub(crate) core: Arc<Core>,
    pub(crate) records: Arc<ImageRecords>,
    pub(crate) backups: Arc<Backups>,
    pub(crate) replication: Arc<Replicator>,
    pub(crate) unfinished: Arc<UnfinishedUploads>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) persistence: Arc<Persistence>,
    pub(crate) recovering: Arc<RecoveryState>,
}

impl HealthReport {
    /// Checks the store and its archive; writes nothing.
    pub async fn report(&self) -> Health {
        let now = self.core.clock.now();
        let mut checks = Vec::new();
        let primary = self.check_store(PRIMARY, &self.core.primary, &mut checks).await;
        let status = self.check_store(ARCHIVE, self.core.archive.store(), &mut checks).await;
        let reachable = status.is_some();
        let persistence = self.check_persistence(primary.as_ref(), &mut checks);
        let known = self.check_catalog(&mut checks).await;
        let missing = self.check_recovery(&mut checks).await;
        let on_disk = primary.as_ref().is_some_and(|status| status.kind == "disk");
        let gone = if known && on_disk { self.check_images(&mut checks).await } else { 0 };
        let (mut verifications, mut backups) = (None, backup::All::default());
        if reachable {
            verifications = self.check_verifications(&mut checks).await;
            backups = self.check_backups(persistence.archive_passes, &mut checks).await;
        } else {
            let message = "They cannot be listed while the archive is unavailable.".to_owned();
            checks.push(Check { name: "backups", status: Status::Warn, message });
        }
        let sync = self.core.settings.archive_sync;
        let behind = if known { self.replication.behind(reachable).await } else { None };
        let waits = behind.and_then(|behind| behind.since).map(|since| now.duration_since(since));
        if let Some(waits) = waits.filter(|waits| *waits > LONG_LAG)
            && let Some(check) = checks.iter_mut().find(|c| c.name == "archive" && c.status == Status::Ok)
        {
            check.status = Status::Warn;
            let minutes = waits.as_secs() / 60;
            check.message = format!("The oldest change that it lacks is {minutes} minutes old; the log says why.");
        }
        let restoring = self.recovering.restoring();
        let archive = ArchiveHealth { sync, status, behind, restoring };
        let totals = self.core.catalog.view().totals();
        let backup::All { listed: backups, unreadable: unreadable_backups } = backups;
        let newest = backups.first().cloned();
        let damaged =
            |backup: &&Listed| verifications.as_ref().is_some_and(|r| r.damaged_backups.contains(&backup.name));
        let newest_verified = backups.iter().find(|backup| !damaged(backup)).cloned();
        let writable = !self.core.is_fenced()
            && !checks.iter().any(|c| matches!(c.name, "primary" | "archive") && c.status == Status::Error);
        Health {
            status: checks.iter().map(|c| c.status).max().unwrap_or(Status::Ok),
            now,
            uptime: now.duration_since(self.core.started_at),
            writable,
            persistence,
            primary,
            totals,
            backups: backups.len(),
            unreadable_backups,
            not_backed_up: self.not_backed_up(newest.as_ref(), totals.live).await,
            newest,
            newest_verified,
            unfinished: self.unfinished.sums().await.unwrap_or_default(),
            gone,
            missing,
            verifications,
            archive,
            checks,
        }
    }

    /// Whether requests can be answered: the catalog can be read.
    pub async fn is_ready(&self) -> bool {
        self.core.catalog.refresh().await.is_ok()
    }

    async fn check_catalog(&self, checks: &mut Vec<Check>) -> bool {
        let refreshed = self.core.catalog.refresh().await;
        let known = refreshed.is_ok();
        let unreadable = self.core.catalog.unreadable().len();
        let (status, message) = match refreshed {
            Err(_) => (Status::Error, "The catalog cannot be read.".to_owned()),
            Ok(()) if unreadable > 0 => (Status::Warn, format!("{unreadable} commits cannot be read in any store.")),
            Ok(()) => (Status::Ok, "It is readable in full.".to_owned()),
        };
        checks.push(Check { name: "catalog", status, message });
        known
    }

    /// Returns how many of the images without bytes at the start still have none: an import may have brought them.
    async fn check_recovery(&self, checks: &mut Vec<Check>) -> u64 {
        let report: Option<Arc<recovery::Report>> = self.recovering.last();
        let Some(report) = report else { return 0 };
        let (view, mut living) = (self.core.catalog.view(), Vec::new());
        for id in &report.missing {
            // What cannot be looked up is not known to be deleted.
            if view.is_live(id.as_str()).await.unwrap_or(true) {
                living.push(id);
            }
        }
        let look = living.iter().take(SAMPLE_SIZE).map(async |id| self.core.primary.head(&layout::image(id)).await);
        let found = future::join_all(look).await.iter().filter(|found| found.is_ok()).count();
        let missing = (living.len() - found) as u64;
        let (status, message) = if missing > 0 {
            (
                Status::Warn,
                format!(
                    "{missing} images have a record but no bytes in any store; restore an older backup or archive."
                ),
            )
        } else if !report.missing.is_empty() {
            (Status::Ok, "Images without bytes at start have been restored or deleted.".to_owned())
        } else if report.brought_back > 0 {
            let (back, images) = (report.brought_back, report.images);
            (Status::Ok, format!("Images that lacked at start and came back from the archive: {back}, of {images}."))
        } else {
            (Status::Ok, format!("Images found whole at start: {}.", report.images))
        };
        checks.push(Check { name: "recovery", status, message });
        missing
    }

    /// Checks that image files exist. If a folder is emptied under a running server, that must show before the next
    /// start: until then each image has one copy.
    async fn check_images(&self, checks: &mut [Check]) -> u64 {
        // While images are being restored, or their volume is not mounted, other checks report it.
        if self.recovering.restoring().is_some() || self.core.is_fenced() {
            return 0;
        }
        let gone = self.gone_images().await.unwrap_or_default();
        if gone > 0
            && let Some(check) = checks.iter_mut().find(|c| c.name == "primary" && c.status == Status::Ok)
        {
            check.status = Status::Warn;
            check.message = format!(
                "Images that are gone from it: {gone}. Those with a replica are served from that; a verification that \
                 repairs, a restore or the next start brings them back."
            );
        }
        gone
    }

    /// Counts missing image files. Looks up a sample, spread over all images, and lists everything only if one of these
    /// is missing.
    async fn gone_images(&self) -> Result<u64> {
        let view = self.core.catalog.view();
        let sample = view.sample(SAMPLE_SIZE).await?;
        let look = sample.iter().map(async |id| self.core.primary.head(&layout::image(id)).await);
        let is_gone = |found: &Result<_, StoreError>| found.as_ref().is_err_and(|e| e.kind == ErrorKind::NotFound);
        if !future::join_all(look).await.iter().any(is_gone) {
            return Ok(0);
        }
        let known = self.recovering.last();
        let was_missing = |id: &ImageId| known.as_ref().is_some_and(|report| report.missing.binary_search(id).is_ok());
        // An image that has a record both before and after the listing should be in it: its bytes are put before its
        // record.
        let (mut images, mut absent) = (self.records.with_files(view.live().map_err(Error::from)), Vec::new());
        while let Some(Paired { id, entry, file }) = images.try_next().await? {
            let has_bytes = entry.is_some_and(|entry| entry.content_digest().is_some());
            if has_bytes && file.is_none() && !was_missing(&id) {
                absent.push(id);
            }
        }
        self.core.catalog.refresh().await?;
        let (after, mut gone) = (self.core.catalog.view(), 0);
        for id in absent {
            gone += u64::from(after.is_live(id.as_str()).await?);
        }
        Ok(gone)
    }

    async fn check_verifications(&self, checks: &mut Vec<Check>) -> Option<verify::Record> {
        let found = self.verifier.verifications().await;
        let (status, message) = match &found {
            Err(_) => (Status::Warn, "What verifications found cannot be read.".to_owned()),
            Ok(record) if record.is_empty() => (Status::Ok, "Nothing has been read through yet.".to_owned()),
            Ok(record) => {
                let (lost, damaged) = (record.lost.len(), record.damaged.len());
                let (copies, backups) = (record.lost_copies.len(), record.damaged_backups.len());
                if lost + damaged + copies + backups > 0 {
                    let names: Vec<&str> =
                        record.lost.keys().chain(record.damaged.keys()).map(ImageId::as_str).collect();
                    let some = names.iter().take(MAX_LISTED).copied().collect::<Vec<_>>().join(", ");
                    let some = match names.len() {
                        0 => String::new(),
                        all if all > MAX_LISTED => format!(" These images, among others: {some}."),
                        _ => format!(" These images: {some}."),
                    };
                    let message = format!(
                        "Images right in no place: {lost}. Images with one wrong copy: {damaged}. Deleted images that no \
                         backup can bring back: {copies}. Damaged backups: {backups}.{some}"
                    );
                    (Status::Warn, message)
                } else if let Some(since) = record.complete_since() {
                    (Status::Ok, format!("Everything was read through and is right, since {}.", format_millis(since)))
                } else {
                    (Status::Ok, "What has been read through so far is right.".to_owned())
                }
            }
        };
        checks.push(Check { name: "verification", status, message });
        found.ok()
    }

    fn check_persistence(&self, primary: Option<&StoreStatus>, checks: &mut Vec<Check>) -> PersistenceReport {
        let file_system = primary.and_then(|status| status.file_system.as_deref());
        let report = self.persistence.judge(primary.map_or("", |status| status.kind), file_system);
        let (status, message) = match (self.persistence.fenced(), &report.warning) {
            (Some(why), _) => (Status::Error, why.message()),
            (None, Some(warning)) => (Status::Warn, warning.clone()),
            (None, None) => (Status::Ok, format!("It is {}: {}.", report.status.name(), report.evidence)),
        };
        checks.push(Check { name: "persistence", status, message });
        report
    }

    async fn check_backups(&self, passing: bool, checks: &mut Vec<Check>) -> backup::All {
        let all = self.backups.all().await;
        let (status, message) = match &all {
            Err(_) => (Status::Error, "The backups cannot be listed.".to_owned()),
            Ok(all) if !all.unreadable.is_empty() => {
                (Status::Warn, format!("There are {} backups. {}", all.listed.len(), cannot_be_read(&all.unreadable)))
            }
            Ok(all) if passing => {
                let message = format!(
                    "There are {} backups, which are stored on the instance's own disk and lost with it, although the images stay; set \
                     BACKUP_URL to a persistent location.",
                    all.listed.len()
                );
                (Status::Warn, message)
            }
            Ok(all) => (Status::Ok, format!("There are {} backups.", all.listed.len())),
        };
        checks.push(Check { name: "backups", status, message });
        all.unwrap_or_default()
    }

    /// How many images are in no backup. Imported images may have old dates, so the result is at least the difference
    /// between the live images and the images in the newest backup, and just that if the catalog cannot be read.
    async fn not_backed_up(&self, newest: Option<&Listed>, live: u64) -> u64 {
        let fewer = live.saturating_sub(newest.map_or(0, |backup| backup.images));
        let uploaded = self.backups.uploaded_after(newest.map(|backup| backup.name)).await;
        uploaded.unwrap_or_default().max(fewer)
    }
}

/// Lists the backups that cannot be read, and what to do.
pub fn cannot_be_read(backups: &[BackupName]) -> String {
    let some: Vec<String> = backups.iter().take(MAX_LISTED).map(BackupName::to_string).collect();
    let more = backups.len().saturating_sub(MAX_LISTED);
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "Not counted, because their manifest.json cannot be read: {}{and_more}. Give the user that the server runs as the \
         right to read these folders and what is in them.",
        some.join(", ")
    )
}
