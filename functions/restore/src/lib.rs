//! `POST /api/restore/{backupName}`: restores a backup, or shows what that would do.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use shared::http::{App, Problem, Query, Routes, finish};
use shared::layout::{BackupName, ImageId};
use shared::restore::{Mode, Plan};
use utoipa::{OpenApi, ToSchema};

/// The routes of this function.
pub fn routes() -> Routes {
    Routes::new().post("/api/restore/{backupName}", restore)
}

/// The routes with their middleware, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// The OpenAPI description of these routes.
#[derive(Debug, OpenApi)]
#[openapi(paths(restore))]
pub struct Api;

/// RestoreQuery to restore. Anything else in the query is refused: a misspelt `dryRun` must not start an actual restore.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RestoreQuery {
    /// `merge` keeps images that were added after the backup, `exact` removes them.
    #[serde(default)]
    #[param(inline)]
    mode: ModeName,
    /// Only report what would happen, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ModeName {
    #[default]
    Merge,
    Exact,
}

/// What a restore did or would do, in numbers of images.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Restored {
    success: bool,
    /// All of this in one sentence.
    message: String,
    /// Images that were restored.
    restored: usize,
    /// Images whose metadata reverted to that of the backup.
    changed: usize,
    /// Images that stayed as they were.
    kept: u64,
    /// Images that were removed.
    removed: usize,
    /// Images of the backup whose bytes are unavailable.
    #[serde(skip_serializing_if = "is_zero")]
    missing: usize,
    /// With `dryRun`, if there is too little free space: how many more bytes must be free. The restore itself would be
    /// refused with 507 `insufficient-storage`.
    #[serde(skip_serializing_if = "is_zero")]
    lacking_bytes: u64,
    /// The backup that was made before; restoring it undoes this restore.
    #[schema(required)]
    safety_backup: Option<BackupName>,
    #[serde(flatten)]
    images: RestoredImages,
}

/// With `dryRun`: the images in question.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RestoredImages {
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_images: Option<BTreeSet<ImageId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_images: Option<BTreeSet<ImageId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed_images: Option<BTreeSet<ImageId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_images: Option<BTreeSet<ImageId>>,
    /// The original upload names of those among them that had one: people do not know images by their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_names: Option<BTreeMap<ImageId, String>>,
}

/// Restore a backup, or show what that would do.
///
/// A safety backup is made before; restoring it undoes this restore.
#[utoipa::path(
    post,
    path = "/api/restore/{backupName}",
    operation_id = "restoreBackup",
    tag = "backups",
    params(("backupName" = BackupName, Path, description = "The backup's name"), RestoreQuery),
    responses(
        (status = 200, description = "It was restored, or with `dryRun` the plan", body = Restored),
        (status = 400, description = "`invalid-request`: an invalid query"),
        (status = 404, description = "`no-such-backup`"),
        (status = 409, description = "`restore-running`: another restore or a prune is running"),
        (status = 500, description = "`damaged-backup`, `internal`"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
async fn restore(
    State(app): State<App>,
    name: BackupName,
    Query(how): Query<RestoreQuery>,
) -> Result<Json<Restored>, Problem> {
    let mode = match how.mode {
        ModeName::Merge => Mode::Merge,
        ModeName::Exact => Mode::Exact,
    };
    if how.dry_run {
        let plan = app.keepsake.restores.plan(name, mode).await?;
        return Ok(Json(Restored::new(name, plan, None, true)));
    }
    let done = app.change(move |keepsake| async move { keepsake.restores.restore(name, mode).await }).await?;
    Ok(Json(Restored::new(name, done.plan, done.safety_backup, false)))
}

impl Restored {
    fn new(name: BackupName, plan: Plan, safety_backup: Option<BackupName>, dry_run: bool) -> Self {
        let plan = plan.with_bytes_restored();
        let (restored, changed, removed) = (plan.restored.len(), plan.changed.len(), plan.removed.len());
        let (kept, missing) = (plan.kept, plan.missing.len());
        let beginning = if dry_run { format!("Restoring {name} would mean") } else { format!("Restored {name}") };
        let counts = format!("{restored} brought back, {changed} changed, {kept} kept, {removed} removed");
        let mut message = format!("{beginning}: {counts}.");
        if missing > 0 {
            message += &format!(" Images whose bytes are missing, and which stay as they are: {missing}.");
        }
        let lacking_bytes = if dry_run { plan.lacking_bytes } else { 0 };
        if lacking_bytes > 0 {
            message += &format!(" There is too little free space: {lacking_bytes} more bytes are needed.");
        }
        let images = if dry_run { RestoredImages::new(plan) } else { RestoredImages::default() };
        Self { success: true, message, restored, changed, kept, removed, missing, lacking_bytes, safety_backup, images }
    }
}

impl RestoredImages {
    fn new(plan: Plan) -> Self {
        let named = [&plan.restored, &plan.changed, &plan.removed, &plan.missing].into_iter().flatten();
        let original_names = named.filter_map(|id| Some((id.clone(), plan.original_name(id)?.to_owned()))).collect();
        Self {
            dry_run: Some(true),
            restored_images: Some(plan.restored),
            changed_images: Some(plan.changed),
            removed_images: Some(plan.removed),
            missing_images: Some(plan.missing),
            original_names: Some(original_names),
        }
    }
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}
