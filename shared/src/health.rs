//! What is known of the store's own state, in one report.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::backup::Listed;
use crate::catalog::Totals;
use crate::clock::format_millis;
use crate::keepsake::Keepsake;
use crate::layout::BackupName;
use crate::recovery;
use crate::store::{ErrorKind, StoreStatus};
use crate::sync::lock;
use crate::verify;

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
    /// Why the images may not outlive a redeploy, as a sentence; `None` where nothing speaks against it.
    pub ephemeral: Option<String>,
    /// The primary, where it can be asked.
    pub primary: Option<StoreStatus>,
    /// Likewise the archive.
    pub archive: Option<StoreStatus>,
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
    /// How many images this process has stored that have one copy only.
    pub single_copies: u64,
    /// What verifications found, where that can be read.
    pub verifications: Option<verify::Record>,
    /// Every check.
    pub checks: Vec<Check>,
}

impl Keepsake {
    /// Looks at the store and its archive; writes nothing.
    pub async fn health(&self) -> Health {
        let now = self.clock.now();
        let mut checks = Vec::new();
        let primary = self.check_place("primary", &self.primary, &mut checks).await;
        let archive = self.check_place("archive", self.archive.store(), &mut checks).await;
        let ephemeral = primary.as_ref().and_then(|status| check_persistence(status, &mut checks));
        self.check_catalog(&mut checks).await;
        self.check_recovery(&mut checks);
        let verifications = self.check_verifications(&mut checks).await;
        let backups = self.check_backups(&mut checks).await;
        let totals = self.catalog.read(|state| state.totals());
        let newest = backups.first().cloned();
        let damaged =
            |backup: &&Listed| verifications.as_ref().is_some_and(|r| r.damaged_backups.contains(&backup.name));
        let newest_verified = backups.iter().find(|backup| !damaged(backup)).cloned();
        let writable = !checks.iter().any(|c| matches!(c.name, "primary" | "archive") && c.status == Status::Error);
        Health {
            status: checks.iter().map(|c| c.status).max().unwrap_or(Status::Ok),
            now,
            uptime: now.duration_since(self.started_at),
            writable,
            ephemeral,
            primary,
            archive,
            totals,
            backups: backups.len(),
            not_backed_up: self.uploaded_after(newest.as_ref().map(|b| b.name)),
            newest,
            newest_verified,
            verifications,
            single_copies: self.unarchived(),
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

    async fn check_catalog(&self, checks: &mut Vec<Check>) {
        let refreshed = self.catalog.refresh().await;
        let unreadable = self.catalog.unreadable().len();
        let (status, message) = match refreshed {
            Err(_) => (Status::Error, "The catalog cannot be read.".to_owned()),
            Ok(()) if unreadable > 0 => (Status::Warn, format!("{unreadable} commits can be read in no place.")),
            Ok(()) => (Status::Ok, "It is readable in full.".to_owned()),
        };
        checks.push(Check { name: "catalog", status, message });
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

    async fn check_backups(&self, checks: &mut Vec<Check>) -> Vec<Listed> {
        let listed = self.list_backups().await;
        let (status, message) = match &listed {
            Err(_) => (Status::Error, "The backups cannot be listed.".to_owned()),
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

impl Health {
    /// Whether the images outlive a redeploy, in a word: `unproven` or `ephemeral`.
    pub fn verdict(&self) -> &'static str {
        if self.ephemeral.is_some() { "ephemeral" } else { "unproven" }
    }
}

/// Looks for signs that the medium goes with the instance; returns the warning, if there is one.
fn check_persistence(primary: &StoreStatus, checks: &mut Vec<Check>) -> Option<String> {
    let passing = |name: &&str| ["overlay", "ramfs", "tmpfs"].contains(name);
    let warning = primary.file_system.as_deref().filter(passing).map(|name| {
        format!(
            "Storage may be ephemeral: the images lie on {name}, which a redeploy or a restart may wipe. Mount a volume, \
             and set DATA_DIR to its path."
        )
    });
    let (status, message) = match &warning {
        Some(warning) => (Status::Warn, warning.clone()),
        None => (Status::Ok, "Nothing shows that the images would not outlive a redeploy.".to_owned()),
    };
    checks.push(Check { name: "persistence", status, message });
    warning
}
