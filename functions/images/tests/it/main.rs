//! What `/api/images` and `/uploads` do, row by row of the contract.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod change;
mod group_list;
mod groups;
mod lambda;
mod list;
mod offload;
mod places;
mod private;
mod read_through;
mod scaled;
mod serve;
mod serve_stored;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use shared::http::App;
use shared::store::testing::{FaultStore, MemoryStore, Operation};
use shared::testing::{Answer, app_on, request, send};

fn router(app: &App) -> Router {
    images::router(app.clone())
}

/// A new store in memory, and how often a file in `uploads/` was opened to be read.
fn app_with_reads() -> (App, Arc<AtomicU32>) {
    let reads = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&reads);
    let plan = move |operation: &Operation| {
        let is_read = operation.name == "get" && operation.key.starts_with("uploads/");
        counting.fetch_add(u32::from(is_read), Ordering::Relaxed);
        None
    };
    (app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), plan))), reads)
}

/// Sends a request without a body.
async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(&router(app), request(method, path, headers, Body::empty())).await
}

/// Sends a GET without headers.
async fn get(app: &App, path: &str) -> Answer {
    ask(app, "GET", path, &[]).await
}
