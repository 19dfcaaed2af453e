//! The handlers of `/api/groups/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use headers::IfMatch;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use shared::groups::{Arrangement, Group, Retitle};
use shared::http::{App, GroupItem, LAMBDA_MAX_BODY_BYTES, Problem, group_etag, read_body, to_the_end};
use shared::images::Edit;
use shared::{Error, Result};
use utoipa::ToSchema;

use crate::conditions::{self, Validators, Verdict};
use crate::show;

/// The longest body in bytes; it has room for the names of 20,000 images.
const MAX_BYTES: usize = 1024 * 1024;

/// A group's new contents.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = GroupContents)]
struct Contents {
    /// The ids of its images in their order.
    #[schema(min_items = 1)]
    files: Vec<String>,
    /// Its title, null for none; where it is not given, the title stays.
    #[serde(default, deserialize_with = "edit")]
    #[schema(value_type = Option<String>, max_length = 1_000)]
    title: Edit<String>,
}

/// What is said of a group; at least one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = GroupTitle)]
struct Title {
    /// Its title, null for none.
    #[serde(default, deserialize_with = "edit")]
    #[schema(value_type = Option<String>, max_length = 1_000)]
    title: Edit<String>,
    /// The id of one of its images, which becomes the first.
    title_image: Option<String>,
}

/// A group's new order.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = GroupOrder)]
struct Order {
    /// The ids of all its images, each once.
    files: Vec<String>,
}

/// How to delete. Anything else in the query is refused: a misspelt `keepImages` must not delete them.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct How {
    /// Whether the images stay.
    #[serde(default)]
    keep_images: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeletedGroup)]
pub(crate) struct Deleted {
    message: &'static str,
    id: String,
    /// How many images it had.
    images: usize,
}

/// Show a group.
#[utoipa::path(
    get,
    path = "/api/groups/{id}",
    operation_id = "getGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), ("If-None-Match" = Option<String>, Header, description = "Only if the group has none of these entity tags")),
    responses(
        (status = 200, description = "The whole group", body = GroupItem, headers(("ETag" = String, description = "Its version"))),
        (status = 304, description = "It is as the client knows it"),
        (status = 404, description = "`no-such-group`"),
        (status = 412, description = "`changed`: `If-Match` does not hold"),
    ),
)]
pub(crate) async fn show(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let group = app.keepsake.groups.get(&id?.0).await?;
    let etag = group_etag(&group);
    match (Validators { etag: etag.clone(), last_modified: None }).judge(&headers) {
        Verdict::Proceed => item(&app, &group),
        Verdict::NotModified => Ok(show::revalidated(etag, StatusCode::NOT_MODIFIED)),
        Verdict::Failed => Err(Error::Changed.into()),
    }
}

/// Make a group be exactly these images, in this order; what it had besides leaves it.
#[utoipa::path(
    put,
    path = "/api/groups/{id}",
    operation_id = "arrangeGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), ("If-Match" = Option<String>, Header, description = "Only if the group still has this entity tag")),
    request_body = Contents,
    responses(
        (status = 200, description = "The whole group", body = GroupItem, headers(("ETag" = String, description = "Its version"))),
        (status = 400, description = "`invalid-request`: a body or a header that makes no sense"),
        (status = 404, description = "`no-such-image`: one of them is not there"),
        (status = 412, description = "`changed`: the group has another entity tag by now"),
        (status = 413, description = "`too-large`"),
        (status = 415, description = "`unsupported-media-type`: no JSON"),
        (status = 507, description = "`no-room`"),
    ),
)]
pub(crate) async fn arrange(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (id, meant, Contents { files, title }) = read(id, request).await?;
    let wanted = Arrangement { images: files, title: title.map(without_empty) };
    let keepsake = Arc::clone(&app.keepsake);
    let change = async move { keepsake.groups.arrange(&id, &wanted, |group| meant.holds(group)).await };
    item(&app, &to_the_end(change).await?)
}

/// Change a group's title or its title image, which is the first in its order.
#[utoipa::path(
    put,
    path = "/api/groups/{id}/title",
    operation_id = "retitleGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), ("If-Match" = Option<String>, Header, description = "Only if the group still has this entity tag")),
    request_body = Title,
    responses(
        (status = 200, description = "The whole group", body = GroupItem, headers(("ETag" = String, description = "Its version"))),
        (status = 400, description = "`invalid-request`: a body or a header that makes no sense"),
        (status = 404, description = "`no-such-group`"),
        (status = 412, description = "`changed`: the group has another entity tag by now"),
        (status = 413, description = "`too-large`"),
        (status = 415, description = "`unsupported-media-type`: no JSON"),
        (status = 507, description = "`no-room`"),
    ),
)]
pub(crate) async fn retitle(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (id, meant, Title { title, title_image }) = read(id, request).await?;
    if title.is_none() && title_image.is_none() {
        return Err(Error::Invalid("The body says neither a title nor a titleImage.".to_owned()).into());
    }
    let wanted = Retitle { title: title.map(without_empty), title_image };
    let keepsake = Arc::clone(&app.keepsake);
    let change = async move { keepsake.groups.rename(&id, &wanted, |group| meant.holds(group)).await };
    item(&app, &to_the_end(change).await?)
}

/// Put the images of a group into another order.
#[utoipa::path(
    put,
    path = "/api/groups/{id}/order",
    operation_id = "orderGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), ("If-Match" = Option<String>, Header, description = "Only if the group still has this entity tag")),
    request_body = Order,
    responses(
        (status = 200, description = "The whole group", body = GroupItem, headers(("ETag" = String, description = "Its version"))),
        (status = 400, description = "`invalid-request`: a body or a header that makes no sense"),
        (status = 404, description = "`no-such-group`"),
        (status = 412, description = "`changed`: the group has another entity tag by now"),
        (status = 413, description = "`too-large`"),
        (status = 415, description = "`unsupported-media-type`: no JSON"),
        (status = 507, description = "`no-room`"),
    ),
)]
pub(crate) async fn reorder(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (id, meant, Order { files }) = read(id, request).await?;
    let keepsake = Arc::clone(&app.keepsake);
    let change = async move { keepsake.groups.reorder(&id, &files, |group| meant.holds(group)).await };
    item(&app, &to_the_end(change).await?)
}

/// Delete a group with its images, which a restore brings back, or dissolve it.
#[utoipa::path(
    delete,
    path = "/api/groups/{id}",
    operation_id = "deleteGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), How, ("If-Match" = Option<String>, Header, description = "Only if the group still has this entity tag")),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = 400, description = "`invalid-request`: a query or a header that makes no sense"),
        (status = 404, description = "`no-such-group`"),
        (status = 412, description = "`changed`: the group has another entity tag by now"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<Deleted>, Problem> {
    let Path(id) = id?;
    let Query(How { keep_images }) = how?;
    let meant = Meant(conditions::if_match(&headers)?);
    let (keepsake, group) = (Arc::clone(&app.keepsake), id.clone());
    let change = async move {
        let holds = |group: Option<&Group>| meant.holds(group);
        match keep_images {
            true => keepsake.groups.dissolve(&group, holds).await,
            false => keepsake.groups.delete(&group, holds).await,
        }
    };
    let images = to_the_end(change).await?;
    let message = match keep_images {
        true => "The group was dissolved. Its images stay.",
        false => "The images of the group were deleted. Restoring a backup that holds them brings them back.",
    };
    Ok(Json(Deleted { message, id, images }))
}

/// The version of a group that a client means, where it says one.
struct Meant(Option<IfMatch>);

impl Meant {
    /// Whether this is that version. Where there is no group, no version is.
    fn holds(&self, group: Option<&Group>) -> bool {
        let is_meant = |tags: &IfMatch| group.is_some_and(|group| tags.precondition_passes(&group_etag(group)));
        self.0.as_ref().is_none_or(is_meant)
    }
}

/// Reads a request for a change.
async fn read<T: DeserializeOwned>(
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(String, Meant, T), Problem> {
    let Path(id) = id?;
    let (head, body) = request.into_parts();
    check_type(&head.headers)?;
    let meant = Meant(conditions::if_match(&head.headers)?);
    let body = serde_json::from_slice(&read_body(body, MAX_BYTES).await?);
    Ok((id, meant, body.map_err(|error| Error::Invalid(format!("The body is not as it must be: {error}.")))?))
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "A change of a group must be sent as application/json.";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail))
}

/// Answers with a group's item and its version.
fn item(app: &App, group: &Group) -> Result<Response, Problem> {
    let mut most_files = group.images.len();
    let body = loop {
        let body =
            serde_json::to_vec(&GroupItem::new(group, most_files).at(&app.public_url)).map_err(Problem::internal)?;
        // A group that is too large for an answer shows its first images.
        if !app.on_lambda || body.len() as u64 <= LAMBDA_MAX_BODY_BYTES || most_files <= 1 {
            break body;
        }
        most_files /= 2;
    };
    Ok(show::revalidated(group_etag(group), ([(CONTENT_TYPE, "application/json")], body)))
}

/// An empty title is none.
fn without_empty(title: Option<String>) -> Option<String> {
    title.filter(|title| !title.is_empty())
}

/// Tells `null` from what is not there.
fn edit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Edit<String>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
