//! `/api/images`, `/api/groups` and `/uploads`: listing, showing, editing, grouping, deleting and serving images.

mod conditions;
mod cursor;
mod delete;
mod download;
mod edit;
mod group_download;
mod groups;
mod headers;
mod list;
mod scaled;
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
        .get("/api/groups/{id}", groups::show)
        .put("/api/groups/{id}", groups::arrange)
        .put("/api/groups/{id}/title", groups::retitle)
        .put("/api/groups/{id}/order", groups::reorder)
        .delete("/api/groups/{id}", groups::delete)
        .get("/uploads/{file}", serve::serve)
        .head("/uploads/{file}", serve::serve)
}

/// The routes of a server, which can also send a whole group. A function could not send so much.
pub fn server_routes() -> Routes {
    routes().get("/api/groups/{id}/download", group_download::download)
}

/// The routes with all that surrounds them, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// What these routes take and answer.
#[derive(Debug, OpenApi)]
#[openapi(paths(
    list::list,
    show::show,
    edit::edit,
    delete::delete,
    groups::show,
    groups::arrange,
    groups::retitle,
    groups::reorder,
    groups::delete,
    serve::serve
))]
pub struct Api;

/// What the routes of a server take and answer beyond those.
#[derive(Debug, OpenApi)]
#[openapi(paths(group_download::download))]
pub struct ServerApi;
