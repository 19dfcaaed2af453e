//! The handler of `GET /api/images/{id}`, and the answer for a single image.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use shared::Error;
use shared::catalog::Entry;
use shared::http::{App, Item, Path, Problem, etag};
use shared::layout::ImageId;

use crate::conditions;

/// Show the metadata of an image.
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
        (status = 304, description = "Not modified"),
        (status = 404, description = "`no-such-image`"),
        (status = 412, description = "`precondition-failed`: the condition in `If-Match` is false"),
    ),
)]
pub(crate) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let image = app.keepsake.images.get(&id).await?;
    conditions::answer(etag(&image.1), &headers, async || item(&app, &image)).await
}

pub(crate) fn item<'a>(app: &'a App, image: &'a (ImageId, Arc<Entry>)) -> Result<Json<Item<'a>>, Problem> {
    let item = Item::new(image).ok_or_else(|| Error::NoSuchImage(image.0.to_string()))?;
    Ok(Json(item.at(&app.public_url)))
}
