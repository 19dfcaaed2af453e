//! The answers of the backup routes.

use serde::Serialize;
use shared::backup::{ChunkRef, Kind, Listed, Manifest};
use shared::clock::format_millis;
use shared::digest::Digest;
use shared::layout::{BackupName, ImageId};
use shared::prune::Pruned;
use shared::restore::Plan;
use shared::verify::Findings;
use utoipa::ToSchema;

/// A backup as listed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupItem {
    name: BackupName,
    #[schema(schema_with = shared::http::time)]
    created: String,
    #[schema(schema_with = shared::http::time)]
    modified: String,
    /// Always true: a backup without its metadata is not listed. Older clients read it.
    has_metadata: bool,
    /// How many images it references.
    file_count: u64,
    /// Length of those images.
    bytes: u64,
    kind: Kind,
    #[schema(schema_with = shared::http::time)]
    verified_at: String,
}

/// The existing backups, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct BackupList {
    pub(crate) backups: Vec<BackupItem>,
    /// Backups whose manifest cannot be read, newest first; missing if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unreadable: Vec<BackupName>,
}

/// A backup that was made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupMade {
    success: bool,
    backup_name: BackupName,
    message: String,
    /// How many images it references.
    file_count: u64,
    /// Length of those images.
    bytes: u64,
    #[schema(schema_with = shared::http::time)]
    verified_at: String,
    /// Images in it whose bytes are missing.
    missing: Vec<ImageId>,
}

/// A backup, for display.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Backup {
    name: BackupName,
    #[schema(schema_with = shared::http::time)]
    created: String,
    kind: Kind,
    /// The number of the automatic backup, counted from the first.
    #[schema(required)]
    sequence: Option<u64>,
    /// How many images it references.
    file_count: u64,
    /// Length of those images.
    bytes: u64,
    #[schema(schema_with = shared::http::time)]
    verified_at: String,
    /// Images in it whose bytes are missing.
    missing: Vec<ImageId>,
    /// The top page of the catalog that it keeps, by its digest; null if that is empty, missing in backups that older
    /// versions made.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<Option<Digest>>,
    /// In backups that older versions made: the catalog chunks that they consist of.
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<ChunkRef>>,
    /// With `plan`: what restoring it would do; null if the backup is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Option<RestorePlans>>,
}

/// What each kind of restore would do.
#[derive(Serialize, ToSchema)]
pub(crate) struct RestorePlans {
    pub(crate) merge: RestoreCounts,
    pub(crate) exact: RestoreCounts,
}

/// What a restore would do now, in numbers of images.
#[derive(Serialize, ToSchema)]
pub(crate) struct RestoreCounts {
    restored: usize,
    changed: usize,
    kept: u64,
    removed: usize,
    missing: usize,
    /// How many more bytes must be free for it; missing if there is enough space or that is unknown.
    #[serde(rename = "lackingBytes", skip_serializing_if = "is_nothing")]
    lacking_bytes: u64,
}

/// A backup that was deleted.
#[derive(Serialize, ToSchema)]
pub(crate) struct BackupDeleted {
    success: bool,
    message: String,
    name: BackupName,
}

/// What a prune removed, or would remove.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Pruned)]
pub(crate) struct PruneAnswer {
    success: bool,
    dry_run: bool,
    /// Removed backups, newest first.
    removed: Vec<BackupName>,
    /// Remaining backups, newest first.
    kept: Vec<BackupName>,
    /// How many parts of the catalog and images were removed.
    objects: usize,
    /// Total length of those.
    bytes: u64,
    /// Why the prune removed nothing, or stopped early.
    #[schema(required)]
    held_back: Option<&'static str>,
}

/// The findings of a verification; `ok` if nothing is left to do.
#[derive(Serialize, ToSchema)]
pub(crate) struct Verified {
    pub(crate) slice: String,
    pub(crate) ok: bool,
    #[serde(flatten)]
    pub(crate) findings: Findings,
}

impl From<Listed> for BackupItem {
    fn from(listed: Listed) -> Self {
        Self {
            name: listed.name,
            created: format_millis(listed.created),
            modified: format_millis(listed.modified),
            has_metadata: true,
            file_count: listed.images,
            bytes: listed.bytes,
            kind: listed.kind,
            verified_at: format_millis(listed.verified_at),
        }
    }
}

impl From<Manifest> for BackupMade {
    fn from(manifest: Manifest) -> Self {
        let mut message = format!("{} was made and checked. Images in it: {}.", manifest.name, manifest.images);
        if !manifest.missing.is_empty() {
            message += &format!(" Images whose bytes are missing: {}.", manifest.missing.len());
        }
        Self {
            success: true,
            backup_name: manifest.name,
            message,
            file_count: manifest.images,
            bytes: manifest.bytes,
            verified_at: format_millis(manifest.verified_at),
            missing: manifest.missing,
        }
    }
}

impl From<Manifest> for Backup {
    fn from(manifest: Manifest) -> Self {
        let (page, is_of_chunks) = (manifest.page(), manifest.is_of_chunks());
        Self {
            name: manifest.name,
            created: format_millis(manifest.created),
            kind: manifest.kind,
            sequence: manifest.sequence,
            file_count: manifest.images,
            bytes: manifest.bytes,
            verified_at: format_millis(manifest.verified_at),
            missing: manifest.missing,
            page: (!is_of_chunks).then_some(page),
            chunks: is_of_chunks.then_some(manifest.chunks),
            plan: None,
        }
    }
}

impl From<Plan> for RestoreCounts {
    fn from(plan: Plan) -> Self {
        let plan = plan.with_bytes_restored();
        Self {
            restored: plan.restored.len(),
            changed: plan.changed.len(),
            kept: plan.kept,
            removed: plan.removed.len(),
            missing: plan.missing.len(),
            lacking_bytes: plan.lacking_bytes,
        }
    }
}

impl From<BackupName> for BackupDeleted {
    fn from(name: BackupName) -> Self {
        let message = format!("{name} was deleted. The next prune removes the objects that only it referenced.");
        Self { success: true, message, name }
    }
}

impl PruneAnswer {
    pub(crate) fn new(pruned: Pruned, dry_run: bool) -> Self {
        let (objects, bytes) = (pruned.objects(), pruned.bytes);
        let Pruned { removed, kept, held_back, .. } = pruned;
        Self { success: true, dry_run, removed, kept, objects, bytes, held_back }
    }
}

fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}
