//! The answer of `GET /api/health`.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::clock::format_millis;
use shared::health::{self, Health};
use shared::layout::BackupName;
use utoipa::ToSchema;

/// The state of the store, with all checks.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct Report<'a> {
    status: HealthStatus,
    #[schema(schema_with = shared::http::time)]
    timestamp: String,
    /// How long this process has been serving, in seconds.
    uptime: f64,
    /// The version of Keepsake.
    version: &'static str,
    persistence: HealthPersistence<'a>,
    storage: HealthStorage,
    backups: HealthBackups,
    archive: HealthArchive,
    /// Each check, by its name.
    checks: BTreeMap<&'a str, HealthCheck<'a>>,
}

/// The answer for callers without read access.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthInBrief {
    status: HealthStatus,
    persistence: HealthWritable,
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HealthWritable {
    /// Whether uploads can be stored.
    writable: bool,
}

/// The full report, or [`HealthInBrief`] for callers without read access.
#[derive(ToSchema)]
#[schema(description = "The full report, or a brief one for callers without read access.")]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "only its description is used")]
pub(crate) enum HealthAnswer<'a> {
    Whole(Report<'a>),
    InBrief(HealthInBrief),
}

impl HealthInBrief {
    pub(crate) fn new(health: &Health) -> Self {
        Self { status: health.status.into(), persistence: HealthWritable { writable: health.writable } }
    }
}

/// `ok`: everything is in order. `warn`: the store serves, and something needs attention. `error`: it cannot do its
/// work.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum HealthStatus {
    Ok,
    Warn,
    Error,
}

/// Whether the images will still be here after a redeploy, and the evidence.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HealthPersistence<'a> {
    /// Whether uploads can be stored.
    writable: bool,
    /// `proven`: this data outlived an earlier instance. `unproven`: there is no evidence against it yet. `ephemeral`:
    /// it is stored where instances are known to start with a new disk.
    #[schema(pattern = "^(proven|unproven|ephemeral)$")]
    verdict: &'static str,
    /// The evidence for the verdict.
    evidence: &'a str,
    /// The platform this runs on, if it is recognised.
    #[schema(required)]
    platform: Option<&'a str>,
    /// The mount point of the file system that holds the images.
    #[schema(required)]
    mount: Option<&'a str>,
    #[schema(required)]
    file_system: Option<&'a str>,
    /// What to do, if action is needed.
    #[schema(required)]
    warning: Option<&'a str>,
}

/// What is stored.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HealthStorage {
    images: u64,
    /// Length of all images.
    bytes: u64,
    /// Images that were deleted recently.
    deleted: u64,
    /// Images whose bytes are missing from their location, as far as that was checked.
    missing: u64,
    /// Uploads that were begun in parts or by a ticket and are not finished; null if there is no disk to run out of.
    #[schema(required)]
    unfinished_uploads: Option<u64>,
    /// How many of their bytes are stored.
    #[schema(required)]
    unfinished_bytes: Option<u64>,
    /// The bytes that can still be written, if the store reports it.
    #[schema(required)]
    free_bytes: Option<u64>,
    /// The total size of the medium in bytes, if the store reports it.
    #[schema(required)]
    total_bytes: Option<u64>,
    /// `disk`, `s3` or `memory`; null if the store does not answer.
    #[schema(required)]
    kind: Option<&'static str>,
}

/// The state of the backups.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HealthBackups {
    count: usize,
    #[schema(required)]
    newest: Option<BackupName>,
    /// The newest backup in which no part was found damaged.
    #[schema(required)]
    newest_verified: Option<BackupName>,
    /// Images uploaded since the newest backup.
    not_backed_up: u64,
    /// Images with a single copy; null if that is unknown.
    #[schema(required)]
    single_copies: Option<u64>,
}

/// The state of the archive.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HealthArchive {
    /// `sync` if replicas exist before an upload is acknowledged, else `async`.
    #[schema(pattern = "^(sync|async)$")]
    mode: &'static str,
    reachable: bool,
    /// Images that the archive lacks, or whose present state it lacks; null if that is unknown.
    #[schema(required)]
    behind_images: Option<u64>,
    /// How long the oldest change has been pending.
    #[schema(required)]
    behind_seconds: Option<f64>,
    /// The recovery in progress, if any.
    #[schema(required)]
    restoring: Option<Restoring>,
}

/// The progress of a recovery, in images.
#[derive(Serialize, ToSchema)]
struct Restoring {
    done: u64,
    total: u64,
}

/// One check.
#[derive(Serialize, ToSchema)]
struct HealthCheck<'a> {
    status: HealthStatus,
    /// The finding, in a plain sentence.
    message: &'a str,
}

impl From<health::Status> for HealthStatus {
    fn from(status: health::Status) -> Self {
        match status {
            health::Status::Ok => Self::Ok,
            health::Status::Warn => Self::Warn,
            health::Status::Error => Self::Error,
        }
    }
}

impl<'a> Report<'a> {
    pub(crate) fn new(health: &'a Health, platform: Option<&'a str>) -> Self {
        let (primary, archive, persistence) = (health.primary.as_ref(), &health.archive, &health.persistence);
        let check = |check: &'a health::Check| {
            (check.name, HealthCheck { status: check.status.into(), message: &check.message })
        };
        Self {
            status: health.status.into(),
            timestamp: format_millis(health.now),
            uptime: health.uptime.as_millis() as f64 / 1_000.0,
            version: env!("CARGO_PKG_VERSION"),
            persistence: HealthPersistence {
                writable: health.writable,
                verdict: persistence.status.name(),
                evidence: &persistence.evidence,
                platform,
                mount: persistence.mount.as_deref(),
                file_system: persistence.file_system.as_deref(),
                warning: persistence.warning.as_deref(),
            },
            storage: HealthStorage {
                images: health.totals.live,
                bytes: health.totals.bytes,
                deleted: health.totals.deleted,
                missing: health.gone + health.missing,
                unfinished_uploads: health.unfinished.map(|unfinished| unfinished.uploads),
                unfinished_bytes: health.unfinished.map(|unfinished| unfinished.bytes),
                free_bytes: primary.and_then(|status| status.free_bytes),
                total_bytes: primary.and_then(|status| status.total_bytes),
                kind: primary.map(|status| status.kind),
            },
            backups: HealthBackups {
                count: health.backups,
                newest: health.newest.as_ref().map(|backup| backup.name),
                newest_verified: health.newest_verified.as_ref().map(|backup| backup.name),
                not_backed_up: health.not_backed_up,
                single_copies: health.single_copies(),
            },
            archive: HealthArchive {
                mode: if archive.sync { "sync" } else { "async" },
                reachable: archive.status.is_some(),
                behind_images: archive.behind.map(|behind| behind.images),
                behind_seconds: health.behind_seconds(),
                restoring: archive.restoring.map(|r| Restoring { done: r.done, total: r.total }),
            },
            checks: health.checks.iter().map(check).collect(),
        }
    }
}
