//! `GET /api/health`, `/api/storage`, `/livez` and `/readyz`: the state of the store. `/api/session`: what the caller
//! may do.

mod report;
mod session;
mod storage;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use shared::health::Status;
use shared::http::{App, Caller, Problem, Routes, finish};
use shared::tokens::Scope;
use utoipa::OpenApi;

use crate::report::{HealthAnswer, HealthInBrief, Report};

/// The routes of this function.
pub fn routes() -> Routes {
    Routes::new()
        .get("/api/health", health)
        .get("/api/storage", storage::storage)
        .get("/livez", livez)
        .get("/readyz", readyz)
        .get("/api/session", session::show)
        .post("/api/session", session::sign_in)
        .delete("/api/session", session::sign_out)
}

/// The routes with their middleware, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// The OpenAPI description of these routes.
#[derive(Debug, OpenApi)]
#[openapi(paths(health, storage::storage, livez, readyz, session::show, session::sign_in, session::sign_out))]
pub struct Api;

/// Report the state of the store, for people and for monitoring. If reading requires a token and the request has no
/// valid one, the answer contains only `status` and `persistence.writable`.
#[utoipa::path(get, path = "/api/health", tag = "health", responses(
    (status = 200, description = "`status` is `ok` or `warn`", body = HealthAnswer),
    (status = 503, description = "`status` is `error`", body = HealthAnswer, content_type = "application/json"),
))]
async fn health(State(app): State<App>, caller: Result<Caller, Problem>) -> Response {
    let health = app.keepsake.health.report().await;
    let status = match health.status {
        Status::Ok | Status::Warn => StatusCode::OK,
        Status::Error => StatusCode::SERVICE_UNAVAILABLE,
    };
    // If the caller cannot be authenticated, the store is unavailable, and that is what the answer reports.
    if !caller.map_or(!app.access.is_private(), |caller| caller.may(Scope::Read)) {
        return (status, Json(HealthInBrief::new(&health))).into_response();
    }
    (status, Json(Report::new(&health, app.platform))).into_response()
}

/// Report that the process answers; for machines.
#[utoipa::path(get, path = "/livez", tag = "health", responses(
    (status = 200, description = "It answers", body = String, content_type = "text/plain"),
))]
async fn livez() -> &'static str {
    "ok"
}

/// Report whether requests can be served; for machines.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "Requests can be served", body = String, content_type = "text/plain"),
    (status = 503, description = "The catalog cannot be read", body = String, content_type = "text/plain"),
))]
async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.keepsake.health.is_ready().await {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "The catalog cannot be read.")
    }
}
