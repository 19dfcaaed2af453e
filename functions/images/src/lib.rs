//! `/api/images` and `/uploads`: listing, showing, editing, deleting and serving images.

mod conditions;
mod cursor;
mod delete;
mod edit;
mod list;
mod range;
mod serve;
mod show;

use axum::Router;
use shared::http::{App, Routes, finish};
use utoipa::OpenApi;

/// The routes of this function.
pub fn routes() -> Routes {
    Routes::new()
        .get("/api/images", list::list)
        .get("/api/images/{id}", show::show)
        .patch("/api/images/{id}", edit::edit)
        .delete("/api/images/{id}", delete::delete)
        .get("/uploads/{file}", serve::serve)
        .head("/uploads/{file}", serve::serve)
}

/// The routes with all that surrounds them, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// What these routes take and answer.
#[derive(Debug, OpenApi)]
#[openapi(paths(list::list, show::show, edit::edit, delete::delete, serve::serve))]
pub struct Api;
