//! The handler of `PATCH /api/images/{id}`: RFC 7396, JSON merge patch.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};
use shared::http::{App, Item, MAX_JSON_BYTES, Path, Problem, etag, media_type, read_json};
use shared::images::{Edit, Patch};
use shared::layout::ImageId;
use shared::{Error, Keepsake, Result};
use utoipa::ToSchema;

use crate::conditions::{self, Meant};
use crate::show;

/// A change: missing fields stay as they are, and null clears a field.
#[derive(ToSchema)]
#[schema(as = ImagePatch, rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is read field by field, since null says something else than nothing")]
struct Fields {
    /// Empty or null for no category.
    category: Option<String>,
    #[schema(max_length = 10_000)]
    description: Option<String>,
    group_id: Option<String>,
    order: Option<i64>,
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
        content((Fields = "application/merge-patch+json"), (Fields = "application/json")),
    ),
    responses(
        (status = 200, description = "The whole image", body = Item, headers(("ETag" = String, description = "Its version"))),
        (status = 400, description = "`invalid-request`: a field that cannot be changed, or not to this"),
        (status = 404, description = "`no-such-image`"),
        (status = 412, description = "`precondition-failed`: the image has another entity tag by now"),
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
    let meant = Meant::of(&head.headers)?;
    let patch = patch(read_json(body, MAX_JSON_BYTES, "is not a JSON object").await?)?;
    let change = move |keepsake: Arc<Keepsake>| async move {
        keepsake.images.edit(&id, &patch, |entry| meant.image(entry)).await
    };
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

fn patch(fields: Map<String, Value>) -> Result<Patch> {
    let mut patch = Patch::default();
    for (name, value) in fields {
        match name.as_str() {
            "category" => patch.category = text(&name, value)?,
            "description" => patch.description = text(&name, value)?,
            "groupId" => patch.group_id = text(&name, value)?,
            "order" => patch.order = Some(order(&value)?),
            _ => {
                let detail = format!("{name:?} cannot be changed; category, description, groupId and order can.");
                return Err(Error::Invalid(detail));
            }
        }
    }
    Ok(patch)
}

fn text(name: &str, value: Value) -> Result<Edit<String>> {
    match value {
        Value::Null => Ok(Some(None)),
        Value::String(text) => Ok(Some(Some(text))),
        _ => Err(Error::Invalid(format!("{name:?} must be a string or null."))),
    }
}

fn order(value: &Value) -> Result<Option<i64>> {
    match value {
        Value::Null => Ok(None),
        value => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| Error::Invalid("\"order\" must be a whole number or null.".to_owned())),
    }
}
