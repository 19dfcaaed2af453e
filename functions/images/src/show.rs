//! The handler of `GET /api/images/{id}`, and how one item is answered.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use headers::{ETag, HeaderMapExt};
use shared::Error;
use shared::catalog::Entry;
use shared::http::{App, Item, Problem, etag};
use shared::layout::ImageId;

use crate::conditions::{Validators, Verdict};

/// Show what is known of an image.
#[utoipa::path(
    get,
    path = "/api/images/{id}",
    operation_id = "getImage",
    tag = "images",
    params(
        ("id" = ImageId, Path, description = "The image's id"),
        ("If-None-Match" = Option<String>, Header, description = "Only if the image has none of these entity tags"),
    ),
    responses(
        (status = 200, description = "The image", body = Item, headers(("ETag" = String, description = "Its version"))),
        (status = 304, description = "It is as the client knows it"),
        (status = 404, description = "`no-such-image`"),
        (status = 412, description = "`changed`: `If-Match` does not hold"),
    ),
)]
pub(crate) async fn show(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let image = app.keepsake.images.get(&id?.0).await?;
    let etag = etag(&image.1);
    match (Validators { etag: etag.clone(), last_modified: None }).judge(&headers) {
        Verdict::Proceed => item(&app, &image),
        Verdict::NotModified => Ok(revalidated(etag, StatusCode::NOT_MODIFIED)),
        Verdict::Failed => Err(Error::Changed.into()),
    }
}

/// Answers with an image's item and its version.
pub(crate) fn item(app: &App, image: &(ImageId, Arc<Entry>)) -> Result<Response, Problem> {
    let Some(item) = Item::new(image) else { return Err(Error::NoSuchImage(image.0.to_string()).into()) };
    Ok(revalidated(etag(&image.1), Json(item.at(&app.public_url))))
}

/// An answer that may be kept, but must be confirmed before each use.
pub(crate) fn revalidated(etag: ETag, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().typed_insert(etag);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
