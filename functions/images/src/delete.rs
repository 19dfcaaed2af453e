//! The handler of `DELETE /api/images/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use shared::catalog::Entry;
use shared::http::{App, Problem, etag, to_the_end};

use crate::conditions;

/// Deletes an image; a restore brings it back.
pub(crate) async fn delete(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let Path(id) = id?;
    let if_match = conditions::if_match(&headers)?;
    let keepsake = Arc::clone(&app.keepsake);
    let change = async move {
        let holds = |entry: &Entry| if_match.as_ref().is_none_or(|tags| tags.precondition_passes(&etag(entry)));
        keepsake.delete_image(&id, holds).await
    };
    let id = to_the_end(change).await?;
    Ok(Json(json!({ "message": "The image was deleted. Restoring a backup that holds it brings it back.", "id": id })))
}
