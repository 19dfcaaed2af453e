//! The check of one store: the primary or the archive.

use super::{ARCHIVE, Check, HealthReport, PRIMARY, Status};
use crate::core::WriteFailure;
use store::{ErrorKind, Files, Store, StoreStatus};

impl HealthReport {
    /// Adds the check of a store; returns its status, if it answers.
    pub(super) async fn check_store(
        &self,
        name: &'static str,
        store: &Store,
        checks: &mut Vec<Check>,
    ) -> Option<StoreStatus> {
        let status = store.status().await;
        // With asynchronous replication, no request waits for the archive.
        let follows = name == ARCHIVE && !self.core.settings.archive_sync;
        let serious = if follows { Status::Warn } else { Status::Error };
        let here = |failure: &WriteFailure| failure.store.unwrap_or(PRIMARY) == name;
        let failure = self.core.last_write_failure().filter(here);
        let upkeep = self.core.last_upkeep_failure().filter(here);
        let (level, message) = match &status {
            Err(error) if error.kind == ErrorKind::Refused => {
                let message = "It refuses access: its credentials or rights need a look, or its bucket is gone.";
                (serious, if follows { format!("{message} Replicas wait.") } else { message.to_owned() })
            }
            Err(_) if follows => {
                (Status::Warn, "It cannot be reached; replicas will follow when it is back.".to_owned())
            }
            Ok(StoreStatus { read_only: Some(why), .. }) if follows => {
                (Status::Warn, format!("{why} Replicas wait until it takes writes."))
            }
            Ok(StoreStatus { free_bytes: Some(free), .. }) if follows && *free < self.core.settings.reserve_bytes => (
                Status::Warn,
                format!("{free} bytes are free, which is less than the reserve; replicas wait for room."),
            ),
            Ok(StoreStatus { read_only: None, files: Some(files), .. })
                if files.free < self.core.reserve_files(*files).max(1) =>
            {
                let Files { free, total } = files;
                let effect = if follows { "replicas wait" } else { "uploads are refused" };
                let message = format!(
                    "{free} of the file system's {total} inodes are free, which is less than the reserve; {effect}. Remove \
                     files that are not needed, or move the store to a file system with more inodes."
                );
                (serious, message)
            }
            Err(_) => (Status::Error, "The store cannot be reached.".to_owned()),
            Ok(StoreStatus { read_only: Some(why), .. }) => (Status::Error, why.clone()),
            Ok(StoreStatus { free_bytes: Some(free), .. }) if *free < self.core.settings.reserve_bytes => {
                (Status::Error, format!("{free} bytes are free, which is less than the reserve; uploads are refused."))
            }
            Ok(status) => match (failure.map(|failure| failure.kind), status.clock_ahead_seconds) {
                (Some(_), _) if follows => {
                    (Status::Warn, "The last write to it failed; replicas wait. The log says why.".to_owned())
                }
                (Some(ErrorKind::Full), _) => (Status::Error, "The last write found no room.".to_owned()),
                (Some(_), _) => (Status::Error, "The last write failed.".to_owned()),
                (None, _) if upkeep.is_some() => {
                    let message = "What follows a change (replicas, automatic backups, compaction) failed last \
                                   time. It is tried again; the log says why.";
                    (Status::Warn, message.to_owned())
                }
                (None, Some(ahead)) => (Status::Warn, format!("{} Set it.", clocks_differ(ahead))),
                (None, None) => (Status::Ok, "It can be read and written.".to_owned()),
            },
        };
        checks.push(Check { name, status: level, message });
        status.ok()
    }
}

/// By how much this machine's clock differs from that of a service.
fn clocks_differ(ahead_seconds: i64) -> String {
    let minutes = ahead_seconds.unsigned_abs().div_ceil(60);
    let side = if ahead_seconds > 0 { "behind" } else { "ahead of" };
    format!("This machine's clock is {minutes} minutes {side} that of the service.")
}
