//! `/api/backup` and `/api/backups`: making, listing, showing, downloading, importing and deleting backups;
//! `/api/prune`: pruning; `/api/verify`: verification.

mod answer;
mod download;
mod import;

pub use import::Imported;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode};
use axum::{Json, Router};
use serde::Deserialize;
use shared::Error;
use shared::backup::Kind;
use shared::http::{App, Caller, Problem, Query, Routes, finish};
use shared::layout::BackupName;
use shared::restore::Mode;
use shared::tokens::Scope;
use shared::verify::Slice;
use utoipa::OpenApi;

use crate::answer::{Backup, BackupDeleted, BackupItem, BackupList, BackupMade, PruneAnswer, RestorePlans, Verified};

/// The routes of this function. Requests and answers of a function are too small for a backup, so the two routes for
/// whole backups only describe the alternatives; the code for them is not linked into the function.
pub fn routes() -> Routes {
    common().get("/api/backups/{name}/download", not_in_a_function).post("/api/backups", not_in_a_function)
}

/// The routes of a server, which can send and accept whole backups.
pub fn server_routes() -> Routes {
    common().get("/api/backups/{name}/download", download::download).post("/api/backups", import::import)
}

fn common() -> Routes {
    Routes::new()
        .post("/api/backup", create)
        .get("/api/backups", list)
        .get("/api/backups/{name}", show)
        .delete("/api/backups/{name}", delete)
        .post("/api/prune", prune)
        .post("/api/verify", verify)
}

/// The routes with their middleware, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// The OpenAPI description of these routes.
#[derive(Debug, OpenApi)]
#[openapi(paths(create, list, show, delete, prune, verify, download::download, import::import))]
pub struct Api;

async fn not_in_a_function() -> Problem {
    let detail = "A backup is too large for a function. Use the command line on a machine with STORE_URL and \
                  BACKUP_URL of this store: \"keepsake export\" exports a backup, \"keepsake import\" imports one.";
    Problem::new(StatusCode::NOT_IMPLEMENTED, "needs-command-line", detail)
}

/// Make a backup; its new objects are read back before the answer.
#[utoipa::path(post, path = "/api/backup", operation_id = "createBackup", tag = "backups", responses(
    (status = 201, description = "The backup was made", body = BackupMade, headers(("Location" = String, description = "The URL of the backup"))),
    (status = 507, description = "`insufficient-storage`"),
))]
async fn create(State(app): State<App>) -> Result<(StatusCode, [(HeaderName, String); 1], Json<BackupMade>), Problem> {
    let manifest = app.change(|keepsake| async move { keepsake.backups.create(Kind::Manual).await }).await?;
    let location = format!("/api/backups/{}", manifest.name);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(manifest.into())))
}

/// List the backups, newest first.
#[utoipa::path(get, path = "/api/backups", operation_id = "listBackups", tag = "backups", responses(
    (status = 200, description = "The backups", body = BackupList),
))]
async fn list(State(app): State<App>) -> Result<Json<BackupList>, Problem> {
    let all = app.keepsake.backups.all().await?;
    let backups = all.listed.into_iter().map(BackupItem::from).collect();
    Ok(Json(BackupList { backups, unreadable: all.unreadable }))
}

/// Anything else in the query is refused.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ShowQuery {
    /// Also report what restoring it would do.
    #[serde(default)]
    plan: bool,
}

/// Show a backup; with `plan`, also what restoring it would do.
///
/// A plan compares the backup with the whole store, which is too expensive for every reader: it requires a token.
#[utoipa::path(
    get,
    path = "/api/backups/{name}",
    operation_id = "getBackup",
    tag = "backups",
    params(("name" = BackupName, Path, description = "The backup's name"), ShowQuery),
    responses(
        (status = 200, description = "The backup", body = Backup),
        (status = 400, description = "`invalid-request`: an invalid query"),
        (status = 401, description = "`unauthorized`: a plan without a token"),
        (status = 404, description = "`no-such-backup`"),
        (status = 500, description = "`damaged-backup`, `internal`"),
    ),
)]
async fn show(
    State(app): State<App>,
    name: BackupName,
    Query(query): Query<ShowQuery>,
    caller: Caller,
) -> Result<Json<Backup>, Problem> {
    if query.plan {
        caller.require(Scope::Admin)?;
    }
    let manifest = app.keepsake.backups.manifest(name).await?;
    let mut shown = Backup::from(manifest);
    if query.plan {
        shown.plan = Some(match app.keepsake.restores.plan_each(name, [Mode::Merge, Mode::Exact]).await {
            Ok([merge, exact]) => Some(RestorePlans { merge: merge.into(), exact: exact.into() }),
            // A damaged backup can still be shown.
            Err(Error::DamagedBackup(_)) => None,
            Err(error) => return Err(error.into()),
        });
    }
    Ok(Json(shown))
}

/// Delete a backup. Objects that only it referenced are removed by the next prune.
#[utoipa::path(
    delete,
    path = "/api/backups/{name}",
    operation_id = "deleteBackup",
    tag = "backups",
    params(("name" = BackupName, Path, description = "The backup's name")),
    responses(
        (status = 200, description = "The backup was deleted", body = BackupDeleted),
        (status = 404, description = "`no-such-backup`"),
        (status = 409, description = "`restore-running`"),
    ),
)]
async fn delete(State(app): State<App>, name: BackupName) -> Result<Json<BackupDeleted>, Problem> {
    app.change(move |keepsake| async move { keepsake.backups.delete(name).await }).await?;
    Ok(Json(name.into()))
}

/// Whether to change anything. Anything else in the query is refused: a misspelt `dryRun` must not start an actual prune
/// or import.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DryRun {
    /// Only report what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// Thin out automatic backups, and remove unreferenced objects.
#[utoipa::path(post, path = "/api/prune", operation_id = "prune", tag = "backups", params(DryRun), responses(
    (status = 200, description = "What was removed, or with `dryRun` would be removed", body = PruneAnswer),
    (status = 400, description = "`invalid-request`: an invalid query"),
    (status = 409, description = "`restore-running`: a restore or another prune is running"),
))]
async fn prune(State(app): State<App>, Query(DryRun { dry_run }): Query<DryRun>) -> Result<Json<PruneAnswer>, Problem> {
    let pruned = app.change(move |keepsake| async move { keepsake.pruner.prune(dry_run).await }).await?;
    Ok(Json(PruneAnswer::new(pruned, dry_run)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct VerifyQuery {
    /// The part to read, such as `1/30`: the first of thirty; everything if none is given.
    #[param(pattern = "^[1-9][0-9]*/[1-9][0-9]*$")]
    slice: Option<String>,
    /// Replace what is damaged if another copy is intact.
    #[serde(default)]
    repair: bool,
}

/// Read all stored objects, and compare them with their digests.
#[utoipa::path(post, path = "/api/verify", operation_id = "verify", tag = "backups", params(VerifyQuery), responses(
    (status = 200, description = "The findings", body = Verified),
    (status = 400, description = "`invalid-request`: an invalid query"),
    (status = 409, description = "`verification-running`"),
))]
async fn verify(State(app): State<App>, Query(query): Query<VerifyQuery>) -> Result<Json<Verified>, Problem> {
    let slice = query.slice.map_or(Ok(Slice::WHOLE), |slice| slice.parse())?;
    let findings =
        app.change(move |keepsake| async move { keepsake.verifier.verify(slice, query.repair).await }).await?;
    Ok(Json(Verified { slice: slice.to_string(), ok: !findings.needs_attention(), findings }))
}
