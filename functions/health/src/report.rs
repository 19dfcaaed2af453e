//! What `GET /api/health` answers.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::clock::format_millis;
use shared::health::{self, Health};
use shared::layout::BackupName;
use utoipa::ToSchema;

/// How the store is, with all that was looked at.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct Report<'a> {
    status: Status,
    #[schema(schema_with = shared::http::time)]
    timestamp: String,
    /// For how long this process has been serving, in seconds.
    uptime: f64,
    /// The version of Keepsake.
    version: &'static str,
    persistence: Persistence<'a>,
    storage: Storage,
    backups: Backups,
    archive: Archive,
    /// Each thing that was looked at, by its name.
    checks: BTreeMap<&'a str, Check<'a>>,
}

/// What those are told who may not see what there is.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthInBrief)]
#[serde(deny_unknown_fields)]
pub(crate) struct Brief {
    status: Status,
    persistence: Writable,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HealthWritable)]
#[serde(deny_unknown_fields)]
struct Writable {
    /// Whether uploads can be stored.
    writable: bool,
}

/// Everything, or to those who may not see that, what [`Brief`] says.
#[derive(ToSchema)]
#[schema(as = HealthAnswer, description = "Everything; in brief to those who may not see what there is.")]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "only its description is used")]
pub(crate) enum Either<'a> {
    Whole(Report<'a>),
    InBrief(Brief),
}

impl Brief {
    /// The answer that tells no more of `health`.
    pub(crate) fn new(health: &Health) -> Self {
        Self { status: health.status.into(), persistence: Writable { writable: health.writable } }
    }
}

/// `ok`: all is as it should be. `warn`: it serves, and something needs looking after. `error`: it cannot do what it is
/// for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = HealthStatus)]
enum Status {
    Ok,
    Warn,
    Error,
}

/// Whether the images will still be here after a redeploy, and what speaks for it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HealthPersistence)]
struct Persistence<'a> {
    /// Whether uploads can be stored.
    writable: bool,
    /// `proven`: this data outlived an earlier instance. `unproven`: nothing speaks against it yet. `ephemeral`: it lies
    /// where instances are known to begin anew.
    #[schema(pattern = "^(proven|unproven|ephemeral)$")]
    verdict: &'static str,
    /// What the verdict rests on.
    evidence: &'a str,
    /// The platform this runs on, where one is recognised.
    #[schema(required)]
    platform: Option<&'a str>,
    /// Where what the images lie on is mounted.
    #[schema(required)]
    mount: Option<&'a str>,
    #[schema(required)]
    file_system: Option<&'a str>,
    /// What to do, where something is to be done.
    #[schema(required)]
    warning: Option<&'a str>,
}

/// What is stored.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HealthStorage)]
struct Storage {
    images: u64,
    /// Length of all images.
    bytes: u64,
    /// Images that were deleted not long ago.
    deleted: u64,
    /// Images whose bytes are not where they should lie, as far as that was looked for.
    missing: u64,
    /// Uploads that were begun in parts or by a ticket and are not finished; null where there is no disk to run out of.
    #[schema(required)]
    unfinished_uploads: Option<u64>,
    /// How many bytes of those are here.
    #[schema(required)]
    unfinished_bytes: Option<u64>,
    /// What can still be written, where the store knows.
    #[schema(required)]
    free_bytes: Option<u64>,
    /// What the medium holds in all, where the store knows.
    #[schema(required)]
    total_bytes: Option<u64>,
    /// `disk`, `s3` or `memory`; null where the store does not answer.
    #[schema(required)]
    kind: Option<&'static str>,
}

/// How the backups are.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HealthBackups)]
struct Backups {
    count: usize,
    #[schema(required)]
    newest: Option<BackupName>,
    /// The newest of which no part was found damaged.
    #[schema(required)]
    newest_verified: Option<BackupName>,
    /// Images uploaded since the newest.
    not_backed_up: u64,
    /// Images of which there is one copy only; null where that is not known.
    #[schema(required)]
    single_copies: Option<u64>,
}

/// How well the archive follows.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HealthArchive)]
struct Archive {
    /// `sync` where replicas stand before an upload is acknowledged, else `async`.
    #[schema(pattern = "^(sync|async)$")]
    mode: &'static str,
    reachable: bool,
    /// Images that it lacks, or lacks the present state of; null where that is not known.
    #[schema(required)]
    behind_images: Option<u64>,
    /// For how long the oldest change has waited.
    #[schema(required)]
    behind_seconds: Option<f64>,
    /// The recovery that goes on, if one does.
    #[schema(required)]
    restoring: Option<Restoring>,
}

/// How far a recovery is, in images.
#[derive(Serialize, ToSchema)]
struct Restoring {
    done: u64,
    total: u64,
}

/// One thing that was looked at.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthCheck)]
struct Check<'a> {
    status: Status,
    /// What was found, in a plain sentence.
    message: &'a str,
}

impl From<health::Status> for Status {
    fn from(status: health::Status) -> Self {
        match status {
            health::Status::Ok => Self::Ok,
            health::Status::Warn => Self::Warn,
            health::Status::Error => Self::Error,
        }
    }
}

impl<'a> Report<'a> {
    /// The answer that tells of `health`.
    pub(crate) fn new(health: &'a Health, platform: Option<&'a str>) -> Self {
        let (primary, archive, persistence) = (health.primary.as_ref(), &health.archive, &health.persistence);
        let check =
            |check: &'a health::Check| (check.name, Check { status: check.status.into(), message: &check.message });
        Self {
            status: health.status.into(),
            timestamp: format_millis(health.now),
            uptime: health.uptime.as_millis() as f64 / 1_000.0,
            version: env!("CARGO_PKG_VERSION"),
            persistence: Persistence {
                writable: health.writable,
                verdict: persistence.verdict.name(),
                evidence: &persistence.evidence,
                platform,
                mount: persistence.mount.as_deref(),
                file_system: persistence.file_system.as_deref(),
                warning: persistence.warning.as_deref(),
            },
            storage: Storage {
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
            backups: Backups {
                count: health.backups,
                newest: health.newest.as_ref().map(|backup| backup.name),
                newest_verified: health.newest_verified.as_ref().map(|backup| backup.name),
                not_backed_up: health.not_backed_up,
                single_copies: health.single_copies(),
            },
            archive: Archive {
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
