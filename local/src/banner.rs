//! The lines printed when the server starts.

use std::io::Write;
use std::net::SocketAddr;

use shared::Keepsake;
use shared::config::{ArchiveMode, Config};
use shared::health::Status;
use shared::recovery::Report;

use crate::token::Made;

/// The result of the recovery at the start.
pub enum Recovery {
    Done(Report),
    /// There is much to do, in the background.
    GoesOn,
    /// The archive does not answer.
    ArchiveAway,
    /// The store is read-only.
    NoWrites,
}

impl Recovery {
    fn describe(&self, keepsake: &Keepsake) -> String {
        match self {
            Self::Done(report) => summary(report),
            Self::GoesOn => match keepsake.recovering.restoring() {
                Some(restoring) => format!(
                    "{} being copied back from the archive, which serves them until then",
                    count(restoring.total, "image")
                ),
                None => "continues in the background; GET /api/health reports its progress".to_owned(),
            },
            Self::ArchiveAway => "postponed until the archive answers and accepts writes".to_owned(),
            Self::NoWrites => "not possible: the store accepts no writes".to_owned(),
        }
    }
}

/// The start-up lines: address, data location, number of images, result of the recovery.
pub async fn lines(
    keepsake: &Keepsake,
    config: &Config,
    address: SocketAddr,
    recovery: &Recovery,
    made_token: Option<&Made>,
) -> Vec<String> {
    let health = keepsake.health.report().await;
    let mut lines = vec![format!("Keepsake {} serves http://{address}", env!("CARGO_PKG_VERSION"))];
    let medium = health.persistence.file_system.as_deref().map(|fs| format!(" ({fs})"));
    lines.push(format!("  images    {}{}", config.store, medium.unwrap_or_default()));
    let archive = match &config.backup {
        Some(url) => url.to_string(),
        None => "backups/ beside them".to_owned(),
    };
    let when = match config.archive {
        ArchiveMode::Sync => "before an upload is answered",
        ArchiveMode::Async => "soon after an upload was answered",
    };
    lines.push(format!("  archive   {archive}; replicas are made {when}"));
    if let Some(offload) = &config.offload {
        lines.push(format!(
            "  offload   {}: a proxy sends images; a client that reaches past it gets no bytes",
            offload.header
        ));
    }
    for check in health.checks.iter().filter(|check| matches!(check.name, "primary" | "archive")) {
        if check.status != Status::Ok {
            lines.push(format!("  warning   {}: {}", check.name, check.message));
        }
    }
    for (store, status) in [("images", &health.primary), ("archive", &health.archive.status)] {
        if let Some(how) = status.as_ref().and_then(|status| status.integrity) {
            lines.push(format!("  checks    {store}: {how}"));
        }
    }
    let newest = health.newest.as_ref().map_or_else(String::new, |backup| format!(", the newest {}", backup.name));
    lines.push(format!(
        "  holding   {}, {}{newest}",
        count(health.totals.live, "image"),
        count(health.backups as u64, "backup")
    ));
    if !health.unreadable_backups.is_empty() {
        lines.push(format!("  warning   {}", shared::health::cannot_be_read(&health.unreadable_backups)));
    }
    lines.push(format!("  outlives  {}: {}", health.persistence.status.name(), health.persistence.evidence));
    if let Some(warning) = &health.persistence.warning {
        lines.push(format!("  warning   {warning}"));
    }
    lines.push(format!("  recovery  {}", recovery.describe(keepsake)));
    if let Some(Made { token, kept }) = made_token {
        let kept = if *kept { "shown once; kept in .keepsake-token" } else { "for this start only" };
        lines.push(format!("  token     {token} ({kept}; send it as Authorization: Bearer …)"));
    }
    lines
}

/// Prints the lines to standard output, separate from the log. A failed write is no reason not to serve.
pub fn print(lines: &[String]) {
    let mut output = std::io::stdout();
    for line in lines {
        let _ = writeln!(output, "{line}");
    }
}

fn count(number: u64, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

fn summary(report: &Report) -> String {
    let mut did = Vec::new();
    if report.metadata_restored {
        did.push("metadata restored from its replica".to_owned());
    }
    let mut add = |number: u64, noun: &str, what: &str| {
        if number > 0 {
            did.push(format!("{} {what}", count(number, noun)));
        }
    };
    add(report.brought_back, "image", "brought back from the archive");
    add(report.archived, "replica", "made anew");
    add(report.imported, "record", "imported from the older format");
    add(report.adopted, "file", "without a record adopted");
    add(report.set_aside, "file", "set aside in backups/quarantine/");
    add(report.damaged_commits as u64, "damaged commit", "set aside");
    add(report.deletes_finished, "delete", "finished");
    add(report.missing.len() as u64, "image", "missing: their bytes are neither in the store nor in the archive");
    add(report.unusable_names.len() as u64, "record", "left in the older file, which is set aside");
    match (did.is_empty(), report.is_new) {
        (true, true) => "a new store".to_owned(),
        (true, false) => "nothing to repair".to_owned(),
        (false, _) => did.join("; "),
    }
}
