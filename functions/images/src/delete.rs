//! The handler of `DELETE /api/images/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Serialize;
use shared::catalog::Entry;
use shared::http::{App, Problem, etag, to_the_end};
use shared::layout::ImageId;
use utoipa::ToSchema;

use crate::conditions;

/// An image that was deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = ImageDeleted)]
pub(crate) struct Deleted {
    message: &'static str,
    id: ImageId,
}

/// Delete an image; a restore brings it back.
#[utoipa::path(
    delete,
    path = "/api/images/{id}",
    operation_id = "deleteImage",
    tag = "images",
    params(
        ("id" = ImageId, Path, description = "The image's id"),
        ("If-Match" = Option<String>, Header, description = "Only if the image still has this entity tag"),
    ),
    responses(
        (status = 200, description = "It is deleted", body = Deleted),
        (status = 400, description = "`invalid-request`: `If-Match` cannot be read"),
        (status = 404, description = "`no-such-image`"),
        (status = 412, description = "`changed`: the image has another entity tag by now"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Deleted>, Problem> {
    let Path(id) = id?;
    let if_match = conditions::if_match(&headers)?;
    let keepsake = Arc::clone(&app.keepsake);
    let change = async move {
        let holds = |entry: &Entry| if_match.as_ref().is_none_or(|tags| tags.precondition_passes(&etag(entry)));
        keepsake.images.delete(&id, holds).await
    };
    let id = to_the_end(change).await?;
    let message = "The image was deleted. Restoring a backup that holds it brings it back.";
    Ok(Json(Deleted { message, id }))
}
