//! `POST /api/upload`: taking in new images.

mod answer;
mod digests;
mod form;
mod incoming;
mod upload;

use axum::Router;
use shared::http::{App, Routes, finish};

/// The routes of this function.
pub fn routes() -> Routes {
    Routes::new().post("/api/upload", upload::upload)
}

/// The routes with all that surrounds them, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}
