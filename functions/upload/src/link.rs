//! The handler of `POST /api/upload-link`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use shared::Keepsake;
use shared::http::{App, MAX_JSON_BYTES, Problem, read_json};
use shared::images::Fields;
use utoipa::ToSchema;

use crate::answer::{Stored, answer};

/// A link to content elsewhere.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LinkRequest {
    /// The target: `http` or `https`, without credentials.
    #[schema(max_length = 2_000)]
    url: String,
    #[serde(flatten)]
    fields: Fields,
}

/// Store a link to content elsewhere, such as a video on YouTube or a file on Google Drive.
#[utoipa::path(
    post,
    path = "/api/upload-link",
    operation_id = "uploadLink",
    tag = "upload",
    request_body = LinkRequest,
    responses(
        (status = 201, description = "The link, an item of type `link`", body = Stored, headers(("Location" = String, description = "The target of the link"))),
        (status = 400, description = "`invalid-request`: among others an invalid URL, or one that is not http or https"),
        (status = 413, description = "`too-large`"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn upload(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let asked: LinkRequest = read_json(request.into_body(), MAX_JSON_BYTES, "does not describe a link").await?;
    let upload = |keepsake: Arc<Keepsake>| async move {
        keepsake.uploads.add_link(&asked.url, asked.fields.without_empty()).await
    };
    Ok(answer(&app, &app.change(upload).await?, false))
}
