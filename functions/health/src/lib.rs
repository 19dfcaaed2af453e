//! `GET /api/health`, `/livez` and `/readyz`: how the store is.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use shared::clock::format_millis;
use shared::health::{Health, Status};
use shared::http::{App, Routes, finish};

/// The routes of this function.
pub fn routes() -> Routes {
    Routes::new().get("/api/health", health).get("/livez", livez).get("/readyz", readyz)
}

/// The routes with all that surrounds them, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// For people and for whoever watches: everything that is known.
async fn health(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let health = app.keepsake.health().await;
    let status = match health.status {
        Status::Ok | Status::Warn => StatusCode::OK,
        Status::Error => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report(&health, app.platform)))
}

/// For machines: the process answers.
async fn livez() -> &'static str {
    "ok"
}

/// For machines: requests can be served.
async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.keepsake.is_ready().await {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "The catalog cannot be read.")
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Error => "error",
    }
}

fn report(health: &Health, platform: Option<&str>) -> Value {
    let (primary, archive) = (health.primary.as_ref(), &health.archive);
    let newest = health.newest.as_ref().map(|backup| backup.name);
    let verified = health.newest_verified.as_ref().map(|backup| backup.name);
    let check = |check: &shared::health::Check| {
        (check.name.to_owned(), json!({ "status": word(check.status), "message": check.message }))
    };
    let persistence = &health.persistence;
    json!({
        "status": word(health.status),
        "timestamp": format_millis(health.now),
        "uptime": health.uptime.as_millis() as f64 / 1_000.0,
        "version": env!("CARGO_PKG_VERSION"),
        "persistence": {
            "writable": health.writable,
            "verdict": persistence.verdict.name(),
            "evidence": persistence.evidence,
            "platform": platform,
            "mount": persistence.mount,
            "fileSystem": persistence.file_system,
            "warning": persistence.warning,
        },
        "storage": {
            "images": health.totals.live,
            "bytes": health.totals.bytes,
            "deleted": health.totals.deleted,
            "freeBytes": primary.and_then(|status| status.free_bytes),
            "totalBytes": primary.and_then(|status| status.total_bytes),
            "kind": primary.map(|status| status.kind),
        },
        "backups": {
            "count": health.backups,
            "newest": newest,
            "newestVerified": verified,
            "notBackedUp": health.not_backed_up,
            "singleCopies": archive.behind.map(|behind| behind.single_copies),
        },
        "archive": {
            "mode": if archive.sync { "sync" } else { "async" },
            "reachable": archive.status.is_some(),
            "behindImages": archive.behind.map(|behind| behind.images),
            "behindSeconds": health.behind_seconds(),
            "restoring": archive.restoring.map(|r| json!({ "done": r.done, "total": r.total })),
        },
        "checks": health.checks.iter().map(check).collect::<Map<String, Value>>(),
    })
}
