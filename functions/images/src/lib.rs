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
mod offload;
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

/// The routes of a server, which can also send a whole group. That is too large for a function.
pub fn server_routes() -> Routes {
    routes().get("/api/groups/{id}/download", group_download::download)
}

/// The routes with their middleware, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// The OpenAPI description of these routes.
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

/// The OpenAPI description of a server's additional routes.
#[derive(Debug, OpenApi)]
#[openapi(paths(group_download::download))]
pub struct ServerApi;
