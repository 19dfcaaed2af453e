//! What `/api/images` and `/uploads` do, row by row of the contract.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod change;
mod group_list;
mod groups;
mod lambda;
mod list;
mod places;
mod private;
mod read_through;
mod scaled;
mod serve;
mod serve_stored;

use axum::Router;
use axum::body::Body;
use shared::http::App;
use shared::testing::{Answer, request, send};

fn router(app: &App) -> Router {
    images::router(app.clone())
}

/// Sends a request without a body.
async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(&router(app), request(method, path, headers, Body::empty())).await
}

/// Sends a GET without headers.
async fn get(app: &App, path: &str) -> Answer {
    ask(app, "GET", path, &[]).await
}
