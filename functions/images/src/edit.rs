//! The handler of `PATCH /api/images/{id}`: RFC 7396, JSON merge patch.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};
use shared::catalog::Entry;
use shared::http::{App, Item, Problem, etag, read_body, to_the_end};
use shared::images::{Edit, Patch};
use shared::layout::ImageId;
use shared::{Error, Result};
use utoipa::ToSchema;

use crate::{conditions, show};

/// The longest patch in bytes; the longest description takes 120,000 as JSON, if all of it is escaped.
const MAX_BYTES: usize = 256 * 1024;

/// What a change says; what it does not name stays, and null takes away.
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

/// Change what people say of an image.
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
        (status = 412, description = "`changed`: the image has another entity tag by now"),
        (status = 413, description = "`too-large`"),
        (status = 415, description = "`unsupported-media-type`: no JSON"),
        (status = 507, description = "`no-room`"),
    ),
)]
pub(crate) async fn edit(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(id) = id?;
    let (head, body) = request.into_parts();
    check_type(&head.headers)?;
    let if_match = conditions::if_match(&head.headers)?;
    let patch = read(&read_body(body, MAX_BYTES).await?)?;
    let keepsake = Arc::clone(&app.keepsake);
    let change = async move {
        let holds = |entry: &Entry| if_match.as_ref().is_none_or(|tags| tags.precondition_passes(&etag(entry)));
        keepsake.images.edit(&id, &patch, holds).await
    };
    show::item(&app, &to_the_end(change).await?)
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if ["application/merge-patch+json", "application/json"].contains(&media_type.as_str()) {
        return Ok(());
    }
    let detail = "A change must be sent as application/merge-patch+json or application/json.";
    let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail);
    let taken = HeaderValue::from_static("application/merge-patch+json, application/json");
    Err(problem.with_header(axum::http::HeaderName::from_static("accept-patch"), taken))
}

fn read(body: &[u8]) -> Result<Patch> {
    let object = serde_json::from_slice::<Map<String, Value>>(body);
    let fields = object.map_err(|error| Error::Invalid(format!("The body is not a JSON object: {error}.")))?;
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
