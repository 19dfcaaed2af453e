//! `/api/backup` and `/api/backups`: making, listing, showing, downloading, taking in and deleting backups; `/api/prune`:
//! thinning them out; `/api/verify`: reading everything through.

mod download;
mod import;

pub use import::ImportAnswer;

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::Error;
use shared::backup::{Kind, Listed};
use shared::clock::format_millis;
use shared::http::{App, Caller, Problem, Routes, finish, to_the_end};
use shared::layout::BackupName;
use shared::restore::{Mode, Plan};
use shared::tokens::Scope;
use shared::verify::{Findings, Slice};

/// The routes of this function. Neither a request nor an answer of a function can hold a backup, so that the two routes
/// for whole backups only say how else it goes; what they need is no part of the function.
pub fn routes() -> Routes {
    common().get("/api/backups/{name}/download", not_in_a_function).post("/api/backups", not_in_a_function)
}

/// The routes of a server, which can send and take whole backups.
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

/// The routes with all that surrounds them, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// A backup as a list shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: BackupName,
    created: String,
    modified: String,
    /// Always true: a backup without its metadata is not listed. Older clients look at it.
    has_metadata: bool,
    file_count: u64,
    bytes: u64,
    kind: Kind,
    verified_at: String,
}

impl From<Listed> for Item {
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

async fn not_in_a_function() -> Problem {
    let detail = "A backup is larger than what a function can send or take. Use the command line on a machine with \
                  STORE_URL and BACKUP_URL of this store: \"keepsake export\" takes a backup out, \"keepsake import\" takes one in.";
    Problem::new(StatusCode::NOT_IMPLEMENTED, "needs-command-line", detail)
}

async fn create(State(app): State<App>) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Value>), Problem> {
    let keepsake = Arc::clone(&app.keepsake);
    let manifest = to_the_end(async move { keepsake.create_backup(Kind::Manual).await }).await?;
    let mut message = format!("{} was made and checked. Images in it: {}.", manifest.name, manifest.images);
    if !manifest.missing.is_empty() {
        message += &format!(" Images whose bytes are missing: {}.", manifest.missing.len());
    }
    let answer = json!({
        "success": true,
        "backupName": manifest.name,
        "message": message,
        "fileCount": manifest.images,
        "bytes": manifest.bytes,
        "verifiedAt": format_millis(manifest.verified_at),
        "missing": manifest.missing,
    });
    Ok((StatusCode::CREATED, [(LOCATION, format!("/api/backups/{}", manifest.name))], Json(answer)))
}

async fn list(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let backups: Vec<Item> = app.keepsake.list_backups().await?.into_iter().map(Item::from).collect();
    Ok(Json(json!({ "backups": backups })))
}

/// Anything else in the query is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    #[serde(default)]
    plan: bool,
}

/// Shows a backup; with `plan`, also what restoring it would do. That compares it with the whole store, which is not done
/// for everyone who may read.
async fn show(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<ShowQuery>, QueryRejection>,
    caller: Caller,
) -> Result<Json<Value>, Problem> {
    let (name, Query(query)) = (parse(name)?, query?);
    if query.plan {
        caller.require(Scope::Admin)?;
    }
    let manifest = app.keepsake.manifest(name).await?;
    let mut shown = json!({
        "name": manifest.name,
        "created": format_millis(manifest.created),
        "kind": manifest.kind,
        "sequence": manifest.sequence,
        "fileCount": manifest.images,
        "bytes": manifest.bytes,
        "verifiedAt": format_millis(manifest.verified_at),
        "missing": manifest.missing,
        "chunks": manifest.chunks,
    });
    if query.plan {
        shown["plan"] = match app.keepsake.plan_restores(name, [Mode::Merge, Mode::Exact]).await {
            Ok([merge, exact]) => json!({ "merge": counts(merge), "exact": counts(exact) }),
            // It can still be shown.
            Err(Error::DamagedBackup(_)) => Value::Null,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(Json(shown))
}

/// What a restore would do now, in numbers.
fn counts(plan: Plan) -> Value {
    let plan = plan.with_bytes_restored();
    json!({
        "restored": plan.restored.len(),
        "changed": plan.changed.len(),
        "kept": plan.kept,
        "removed": plan.removed.len(),
        "missing": plan.missing.len(),
    })
}

fn parse(name: Result<Path<String>, PathRejection>) -> Result<BackupName, Problem> {
    let Path(name) = name?;
    Ok(name.parse().map_err(|_| Error::NoSuchBackup(name))?)
}

async fn delete(State(app): State<App>, name: Result<Path<String>, PathRejection>) -> Result<Json<Value>, Problem> {
    let name = parse(name)?;
    let keepsake = Arc::clone(&app.keepsake);
    to_the_end(async move { keepsake.delete_backup(name).await }).await?;
    let message = format!("{name} was deleted. What only it needed is removed by the next prune.");
    Ok(Json(json!({ "success": true, "message": message, "name": name })))
}

/// Anything else in the query is refused: a misspelt `dryRun` must not prune in earnest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PruneQuery {
    #[serde(default)]
    dry_run: bool,
}

async fn prune(
    State(app): State<App>,
    query: Result<Query<PruneQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(PruneQuery { dry_run }) = query?;
    let keepsake = Arc::clone(&app.keepsake);
    let pruned = to_the_end(async move { keepsake.prune(dry_run).await }).await?;
    Ok(Json(json!({
        "success": true,
        "dryRun": dry_run,
        "removed": pruned.removed,
        "kept": pruned.kept,
        "objects": pruned.objects(),
        "bytes": pruned.bytes,
        "heldBack": pruned.held_back,
    })))
}

#[derive(Deserialize)]
struct VerifyQuery {
    slice: Option<String>,
    #[serde(default)]
    repair: bool,
}

/// What a verification found; `ok` where nothing is left to be done.
#[derive(Serialize)]
struct VerifyAnswer {
    slice: String,
    ok: bool,
    #[serde(flatten)]
    findings: Findings,
}

async fn verify(
    State(app): State<App>,
    query: Result<Query<VerifyQuery>, QueryRejection>,
) -> Result<Json<VerifyAnswer>, Problem> {
    let Query(query) = query?;
    let slice = query.slice.map_or(Ok(Slice::WHOLE), |slice| slice.parse())?;
    let keepsake = Arc::clone(&app.keepsake);
    let findings = to_the_end(async move { keepsake.verify(slice, query.repair).await }).await?;
    Ok(Json(VerifyAnswer { slice: slice.to_string(), ok: !findings.needs_attention(), findings }))
}
