//! What is known of the store's own state, in one report.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::backup::Listed;
use crate::catalog::Totals;
use crate::clock::format_millis;
use crate::keepsake::Keepsake;
use crate::layout::BackupName;
use crate::persistence::Judgement;
use crate::recovery::{self, Restoring};
use crate::second_copies::Behind;
use crate::store::{ErrorKind, StoreStatus};
use crate::sync::lock;
use crate::verify;

/// For so long a change may wait for its second copy before somebody should look.
const WAITS_LONG: SignedDuration = SignedDuration::from_hours(1);

/// How well the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// All is as it should be.
    Ok,
    /// It serves, and something needs looking after.
    Warn,
    /// It cannot do what it is for.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A stable name, such as `primary`.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// What was found, in a plain sentence.
    pub message: String,
}

/// The store's state.
#[derive(Debug)]
pub struct Health {
    /// The worst of the checks.
    pub status: Status,
    /// The moment of the report.
    pub now: Timestamp,
    /// How long this process has been serving.
    pub uptime: SignedDuration,
    /// Whether uploads can be stored.
    pub writable: bool,
    /// Whether the images outlive the instance that took them in.
    pub persistence: Judgement,
    /// What the primary says of itself, where it answers.
    pub primary: Option<StoreStatus>,
    /// Sums over the catalog.
    pub totals: Totals,
    /// How many valid backups there are.
    pub backups: usize,
    /// The newest one.
    pub newest: Option<Listed>,
    /// The newest one of which no verification has found a part damaged. All were read back when they were made.
    pub newest_verified: Option<Listed>,
    /// How many images were uploaded since the newest one.
    pub not_backed_up: u64,
    /// What verifications found, where that can be read.
    pub verifications: Option<verify::Record>,
    /// How well the archive follows.
    pub archive: ArchiveHealth,
    /// Every check.
    pub checks: Vec<Check>,
}

/// How well the archive follows.
#[derive(Debug)]
pub struct ArchiveHealth {
    /// Whether second copies stand before a change is acknowledged.
    pub sync: bool,
    /// What it says of itself, where it answers.
    pub status: Option<StoreStatus>,
    /// What the loss of the primary would lose now; `None` where that is not known.
    pub behind: Option<Behind>,
    /// The recovery that goes on in the background, if one does.
    pub restoring: Option<Restoring>,
}

impl Health {
    /// For how long the oldest change has had no second copy; `None` where that is not known.
    pub fn behind_seconds(&self) -> Option<f64> {
        let since = self.archive.behind?.since;
        // Another's clock may be ahead.
        Some(since.map_or(0.0, |since| self.now.duration_since(since).as_secs_f64().max(0.0)))
    }
}

impl Keepsake {
    /// Looks at the store and its archive; writes nothing.
    pub async fn health(&self) -> Health {
        let now = self.clock.now();
        let mut checks = Vec::new();
        let primary = self.check_place("primary", &self.primary, &mut checks).await;
        let status = self.check_place("archive", self.archive.store(), &mut checks).await;
        let reachable = status.is_some();
        let persistence = self.check_persistence(primary.as_ref(), &mut checks);
        let known = self.check_catalog(&mut checks).await;
        self.check_recovery(&mut checks);
        let (mut verifications, mut backups) = (None, Vec::new());
        if reachable {
            verifications = self.check_verifications(&mut checks).await;
            backups = self.check_backups(persistence.archive_passes, &mut checks).await;
        } else {
            let message = "They cannot be listed while the archive is away.".to_owned();
            checks.push(Check { name: "backups", status: Status::Warn, message });
        }
        let sync = self.settings.archive_sync;
        let behind = if known { self.behind(reachable).await } else { None };
        let waits = behind.and_then(|behind| behind.since).map(|since| now.duration_since(since));
        if let Some(waits) = waits.filter(|waits| *waits > WAITS_LONG)
            && let Some(check) = checks.iter_mut().find(|c| c.name == "archive" && c.status == Status::Ok)
        {
            check.status = Status::Warn;
            let minutes = waits.as_secs() / 60;
            check.message = format!("The oldest change that it lacks is {minutes} minutes old; the log says why.");
        }
        let restoring = self.restoring();
        let archive = ArchiveHealth { sync, status, behind, restoring };
        let totals = self.catalog.read(|state| state.totals());
        let newest = backups.first().cloned();
        let damaged =
            |backup: &&Listed| verifications.as_ref().is_some_and(|r| r.damaged_backups.contains(&backup.name));
        let newest_verified = backups.iter().find(|backup| !damaged(backup)).cloned();
        let writable = self.withheld().is_none()
            && !checks.iter().any(|c| matches!(c.name, "primary" | "archive") && c.status == Status::Error);
        Health {
            status: checks.iter().map(|c| c.status).max().unwrap_or(Status::Ok),
            now,
            uptime: now.duration_since(self.started_at),
            writable,
            persistence,
            primary,
            totals,
            backups: backups.len(),
            not_backed_up: self.uploaded_after(newest.as_ref().map(|b| b.name)),
            newest,
            newest_verified,
            verifications,
            archive,
            checks,
        }
    }

    /// Whether requests can be answered: the catalog can be read.
    pub async fn is_ready(&self) -> bool {
        self.catalog.refresh().await.is_ok()
    }

    async fn check_place(
        &self,
        name: &'static str,
        store: &crate::store::Store,
        checks: &mut Vec<Check>,
    ) -> Option<StoreStatus> {
        let status = store.status().await;
        let (level, message) = match &status {
            Err(_) if name == "archive" && !self.settings.archive_sync => {
                (Status::Warn, "It cannot be reached; second copies will follow when it is back.".to_owned())
            }
            Err(_) => (Status::Error, "The store cannot be reached.".to_owned()),
            Ok(StoreStatus { read_only: Some(why), .. }) => (Status::Error, why.clone()),
            Ok(StoreStatus { free_bytes: Some(free), .. }) if *free < self.settings.reserve_bytes => {
                (Status::Error, format!("{free} bytes are free, which is less than the reserve; uploads are refused."))
            }
            Ok(_) => match self.last_write_failure().filter(|_| name == "primary") {
                Some(ErrorKind::Full) => (Status::Error, "The last write found no room.".to_owned()),
                Some(_) => (Status::Error, "The last write failed.".to_owned()),
                None => (Status::Ok, "It can be read and written.".to_owned()),
            },
        };
        checks.push(Check { name, status: level, message });
        status.ok()
    }

    async fn check_catalog(&self, checks: &mut Vec<Check>) -> bool {
        let refreshed = self.catalog.refresh().await;
        let known = refreshed.is_ok();
        let unreadable = self.catalog.unreadable().len();
        let (status, message) = match refreshed {
            Err(_) => (Status::Error, "The catalog cannot be read.".to_owned()),
            Ok(()) if unreadable > 0 => (Status::Warn, format!("{unreadable} commits can be read in no place.")),
            Ok(()) => (Status::Ok, "It is readable in full.".to_owned()),
        };
        checks.push(Check { name: "catalog", status, message });
        known
    }

    fn check_recovery(&self, checks: &mut Vec<Check>) {
        let report: Option<Arc<recovery::Report>> = lock(&self.recovered).clone();
        let Some(report) = report else { return };
        let missing = report.missing.len();
        let (status, message) = if missing > 0 {
            (
                Status::Warn,
                format!(
                    "{missing} images have a record but no bytes in any place; restore an older backup or archive."
                ),
            )
        } else {
            (Status::Ok, format!("Images found whole at start: {}.", report.images))
        };
        checks.push(Check { name: "recovery", status, message });
    }

    async fn check_verifications(&self, checks: &mut Vec<Check>) -> Option<verify::Record> {
        let found = self.verifications().await;
        let (status, message) = match &found {
            Err(_) => (Status::Warn, "What verifications found cannot be read.".to_owned()),
            Ok(record) if record.is_empty() => (Status::Ok, "Nothing has been read through yet.".to_owned()),
            Ok(record) => {
                let (lost, damaged) = (record.lost.len(), record.damaged.len());
                let (copies, backups) = (record.lost_copies.len(), record.damaged_backups.len());
                if lost + damaged + copies + backups > 0 {
                    let message = format!(
                        "Images right in no place: {lost}. Images with one wrong copy: {damaged}. Deleted images that no \
                         backup can bring back: {copies}. Damaged backups: {backups}."
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

    fn check_persistence(&self, primary: Option<&StoreStatus>, checks: &mut Vec<Check>) -> Judgement {
        let file_system = primary.and_then(|status| status.file_system.as_deref());
        let judgement = self.judge(primary.map_or("", |status| status.kind), file_system);
        let (status, message) = match (self.withheld(), &judgement.warning) {
            (Some(why), _) => (Status::Error, why.told()),
            (None, Some(warning)) => (Status::Warn, warning.clone()),
            (None, None) => (Status::Ok, format!("It is {}: {}.", judgement.verdict.name(), judgement.evidence)),
        };
        checks.push(Check { name: "persistence", status, message });
        judgement
    }

    async fn check_backups(&self, passing: bool, checks: &mut Vec<Check>) -> Vec<Listed> {
        let listed = self.list_backups().await;
        let (status, message) = match &listed {
            Err(_) => (Status::Error, "The backups cannot be listed.".to_owned()),
            Ok(backups) if passing => {
                let message = format!(
                    "There are {} backups, which lie on the instance's own disk and go with it, though the images stay; set \
                     BACKUP_URL to a place that stays.",
                    backups.len()
                );
                (Status::Warn, message)
            }
            Ok(backups) => (Status::Ok, format!("There are {} backups.", backups.len())),
        };
        checks.push(Check { name: "backups", status, message });
        listed.unwrap_or_default()
    }

    /// How many live images were uploaded after a backup was made, or in all where there is none.
    pub(crate) fn uploaded_after(&self, newest: Option<BackupName>) -> u64 {
        let since = newest.map_or(Timestamp::MIN, BackupName::moment);
        self.catalog.read(|state| state.newest(None).take_while(|((at, _), _)| *at > since).count() as u64)
    }
}
