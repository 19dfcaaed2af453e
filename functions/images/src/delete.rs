//! The handler of `DELETE /api/images/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use shared::Keepsake;
use shared::http::{App, Path, Problem};
use shared::layout::ImageId;
use utoipa::ToSchema;

use crate::conditions::Expected;

/// A deleted image.
#[derive(Serialize, ToSchema)]
pub(crate) struct ImageDeleted {
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
        (status = 200, description = "The image was deleted", body = ImageDeleted),
        (status = 400, description = "`invalid-request`: `If-Match` cannot be read"),
        (status = 404, description = "`no-such-image`"),
        (status = 412, description = "`precondition-failed`: the image has another entity tag"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ImageDeleted>, Problem> {
    let expected = Expected::of(&headers)?;
    let change = move |keepsake: Arc<Keepsake>| async move { keepsake.images.delete(&id, expected).await };
    let id = app.change(change).await?;
    let message = "The image was deleted. Restoring a backup that holds it brings it back.";
    Ok(Json(ImageDeleted { message, id }))
}
