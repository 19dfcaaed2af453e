//! The handler of `PATCH /api/images/{id}`: RFC 7396, JSON merge patch.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use shared::http::{App, Item, MAX_JSON_BYTES, Path, Problem, etag, media_type, read_json};
use shared::images::{Edit, Patch};
use shared::layout::ImageId;
use shared::{Error, Keepsake};
use utoipa::ToSchema;

use crate::conditions::{self, Expected};
use crate::show;

/// A change: missing fields stay as they are, and null clears a field.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImagePatch {
    /// Empty or null for no category.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    category: Edit<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 10_000)]
    description: Edit<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    group_id: Edit<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    order: Edit<i64>,
}

/// Change an image's metadata.
#[utoipa::path(
    patch,
    path = "/api/images/{id}",
    operation_id = "editImage",
    tag = "images",
    params(
        ("id" = ImageId, Path, description = "The image's id"),
        ("If-Match" = Option<String>, Header, description = "Only if the image still has this entity tag"),
    ),
    request_body(
        description = "RFC 7396, JSON merge patch",
        content((ImagePatch = "application/merge-patch+json"), (ImagePatch = "application/json")),
    ),
    responses(
        (status = 200, description = "The whole image", body = Item, headers(("ETag" = String, description = "Its version"))),
        (status = 400, description = "`invalid-request`: an unknown field or an invalid value"),
        (status = 404, description = "`no-such-image`"),
        (status = 412, description = "`precondition-failed`: the image has another entity tag"),
        (status = 413, description = "`too-large`"),
        (status = 415, description = "`unsupported-media-type`: no JSON"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn edit(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    check_type(&head.headers)?;
    let expected = Expected::of(&head.headers)?;
    let fields: Map<String, Value> = read_json(body, MAX_JSON_BYTES, "is not a JSON object").await?;
    let invalid = |error| Error::Invalid(format!("The change is invalid: {error}."));
    let ImagePatch { category, description, group_id, order } =
        serde_json::from_value(fields.into()).map_err(invalid)?;
    let patch = Patch { category, description, group_id, order };
    let change = move |keepsake: Arc<Keepsake>| async move { keepsake.images.edit(&id, &patch, expected).await };
    let image = app.change(change).await?;
    Ok(conditions::revalidated(etag(&image.1), show::item(&app, &image)?))
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    if ["application/merge-patch+json", "application/json"].contains(&media_type(headers).as_str()) {
        return Ok(());
    }
    let detail = "A change must be sent as application/merge-patch+json or application/json.";
    let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail);
    let taken = HeaderValue::from_static("application/merge-patch+json, application/json");
    Err(problem.with_header(HeaderName::from_static("accept-patch"), taken))
}

/// Reads a field that is not missing, so that null is an edit.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Edit<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
