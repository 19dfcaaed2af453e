//! `POST /api/upload` and the tickets below it: storing new images.

mod answer;
mod body;
mod dialect;
mod digests;
mod form;
mod incoming;
mod link;
mod opening;
mod part_headers;
mod plain;
mod resume;
mod ticket;
mod unfinished;
mod upload;

use axum::Router;
use shared::http::{App, Routes, finish};
use utoipa::OpenApi;

/// The routes of this function.
pub fn routes() -> Routes {
    Routes::new()
        .post("/api/upload", upload::upload)
        .post("/api/upload-link", link::upload)
        .post("/api/upload/tickets", ticket::issue)
        .put("/api/upload/{id}", ticket::receive)
        .post("/api/upload/{id}/complete", ticket::complete)
}

/// The routes of a server, which also accepts uploads in parts. A function accepts only short requests, and issues
/// tickets.
pub fn server_routes() -> Routes {
    routes()
        .delete("/api/upload", unfinished::clear)
        .get("/api/upload/{id}", resume::show)
        .patch("/api/upload/{id}", resume::append)
        .delete("/api/upload/{id}", resume::cancel)
}

/// The routes with their middleware, ready to be served.
pub fn router(app: App) -> Router {
    finish(routes().into_router(app.clone()), &app)
}

/// The OpenAPI description of these routes.
#[derive(Debug, OpenApi)]
#[openapi(paths(upload::upload, link::upload, ticket::issue, ticket::receive, ticket::complete))]
pub struct Api;

/// The OpenAPI description of a server's additional routes.
#[derive(Debug, OpenApi)]
#[openapi(paths(resume::show, resume::append, resume::cancel, unfinished::clear))]
pub struct ServerApi;
