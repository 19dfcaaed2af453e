//! The handlers of `/api/groups/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use shared::groups::{self, Group, GroupEdit};
use shared::http::{App, GroupItem, LAMBDA_MAX_BODY_BYTES, Path, Problem, Query, group_etag, media_type, read_json};
use shared::images::Edit;
use shared::{Error, Keepsake, Result};
use utoipa::{IntoResponses, ToSchema};

use crate::conditions::{self, Expected};

/// The longest body in bytes: enough for the names of 20,000 images.
const MAX_BYTES: usize = 1024 * 1024;

/// A group's new contents.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GroupContents {
    /// The ids of its images in their order.
    #[schema(min_items = 1)]
    files: Vec<String>,
    /// Its title, null for none; if it is missing, the title stays.
    #[serde(default, deserialize_with = "edit")]
    #[schema(value_type = Option<String>, max_length = 1_000)]
    title: Edit<String>,
}

/// A group's metadata; at least one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GroupTitle {
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
pub(crate) struct GroupOrder {
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
pub(crate) struct DeletedGroup {
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
        (status = 304, description = "Not modified"),
        (status = 404, description = "`no-such-group`"),
        (status = 412, description = "`precondition-failed`: the condition in `If-Match` is false"),
    ),
)]
pub(crate) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let group = app.keepsake.groups.get(&id).await?;
    conditions::answer(group_etag(&group), &headers, async || json(&app, &group)).await
}

/// Make a group consist of exactly these images, in this order; its other images leave it.
#[utoipa::path(
    put,
    path = "/api/groups/{id}",
    operation_id = "arrangeGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), ("If-Match" = Option<String>, Header, description = "Only if the group still has this entity tag")),
    request_body = GroupContents,
    responses(
        (status = 200, description = "The whole group", body = GroupItem, headers(("ETag" = String, description = "Its version"))),
        (status = 404, description = "`no-such-image`: one of them does not exist"),
        ChangeRefused,
    ),
)]
pub(crate) async fn arrange(State(app): State<App>, change: Change<GroupContents>) -> Result<Response, Problem> {
    let Change { id, expected, to: GroupContents { files: images, title } } = change;
    let wanted = groups::GroupContents { images, title };
    let arrange = move |keepsake: Arc<Keepsake>| async move { keepsake.groups.arrange(&id, &wanted, expected).await };
    item(&app, &app.change(arrange).await?)
}

/// Change a group's title or its title image, which is the first in its order.
#[utoipa::path(
    put,
    path = "/api/groups/{id}/title",
    operation_id = "retitleGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), ("If-Match" = Option<String>, Header, description = "Only if the group still has this entity tag")),
    request_body = GroupTitle,
    responses(
        (status = 200, description = "The whole group", body = GroupItem, headers(("ETag" = String, description = "Its version"))),
        (status = 404, description = "`no-such-group`"),
        ChangeRefused,
    ),
)]
pub(crate) async fn retitle(State(app): State<App>, change: Change<GroupTitle>) -> Result<Response, Problem> {
    let Change { id, expected, to: GroupTitle { title, title_image } } = change;
    if title.is_none() && title_image.is_none() {
        return Err(Error::Invalid("The body contains neither a title nor a titleImage.".to_owned()).into());
    }
    let wanted = GroupEdit { title, title_image };
    let rename = move |keepsake: Arc<Keepsake>| async move { keepsake.groups.rename(&id, &wanted, expected).await };
    item(&app, &app.change(rename).await?)
}

/// Put the images of a group into another order.
#[utoipa::path(
    put,
    path = "/api/groups/{id}/order",
    operation_id = "orderGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), ("If-Match" = Option<String>, Header, description = "Only if the group still has this entity tag")),
    request_body = GroupOrder,
    responses(
        (status = 200, description = "The whole group", body = GroupItem, headers(("ETag" = String, description = "Its version"))),
        (status = 404, description = "`no-such-group`"),
        ChangeRefused,
    ),
)]
pub(crate) async fn reorder(State(app): State<App>, change: Change<GroupOrder>) -> Result<Response, Problem> {
    let Change { id, expected, to: GroupOrder { files } } = change;
    let reorder = move |keepsake: Arc<Keepsake>| async move { keepsake.groups.reorder(&id, &files, expected).await };
    item(&app, &app.change(reorder).await?)
}

/// Delete a group with its images, which a restore brings back, or dissolve it.
#[utoipa::path(
    delete,
    path = "/api/groups/{id}",
    operation_id = "deleteGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id"), How, ("If-Match" = Option<String>, Header, description = "Only if the group still has this entity tag")),
    responses(
        (status = 200, description = "It was deleted or dissolved", body = DeletedGroup),
        (status = 400, description = "`invalid-request`: an invalid query or header"),
        (status = 404, description = "`no-such-group`"),
        (status = 412, description = "`precondition-failed`: the group has another entity tag"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(How { keep_images }): Query<How>,
    headers: HeaderMap,
) -> Result<Json<DeletedGroup>, Problem> {
    let (expected, group) = (Expected::of(&headers)?, id.clone());
    let change = move |keepsake: Arc<Keepsake>| async move {
        match keep_images {
            true => keepsake.groups.dissolve(&group, expected).await,
            false => keepsake.groups.delete(&group, expected).await,
        }
    };
    let images = app.change(change).await?;
    let message = match keep_images {
        true => "The group was dissolved. Its images stay.",
        false => "The images of the group were deleted. Restoring a backup that holds them brings them back.",
    };
    Ok(Json(DeletedGroup { message, id, images }))
}

pub(crate) struct Change<T> {
    id: String,
    expected: Expected,
    to: T,
}

impl<T: DeserializeOwned> FromRequest<App> for Change<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut head, body) = request.into_parts();
        let Path(id) = Path::from_request_parts(&mut head, app).await?;
        if media_type(&head.headers) != "application/json" {
            let detail = "A change of a group must be sent as application/json.";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail));
        }
        let expected = Expected::of(&head.headers)?;
        let to = read_json(body, MAX_BYTES, "is not a change of this kind").await?;
        Ok(Self { id, expected, to })
    }
}

/// Answers a change with the group's present state.
fn item(app: &App, group: &Group) -> Result<Response, Problem> {
    Ok(conditions::revalidated(group_etag(group), json(app, group)?))
}

/// A group's item. A group that is too large for an answer shows its first images.
fn json(app: &App, group: &Group) -> Result<impl IntoResponse + use<>, Problem> {
    let mut most_files = group.images.len();
    loop {
        let item = GroupItem::new(group, most_files).at(&app.public_url);
        let body = serde_json::to_vec(&item).map_err(Problem::internal)?;
        if !app.on_lambda || body.len() as u64 <= LAMBDA_MAX_BODY_BYTES || most_files <= 1 {
            return Ok(([(CONTENT_TYPE, "application/json")], body));
        }
        most_files /= 2;
    }
}

/// Distinguishes `null`, which like an empty title means none, from a missing field.
fn edit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Edit<String>, D::Error> {
    let title: Option<String> = Option::deserialize(deserializer)?;
    Ok(Some(title.filter(|title| !title.is_empty())))
}

/// The errors of any change of a group.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
enum ChangeRefused {
    /// `invalid-request`: an invalid body or header
    #[response(status = 400)]
    Invalid,
    /// `precondition-failed`: the group has another entity tag
    #[response(status = 412)]
    Changed,
    /// `too-large`
    #[response(status = 413)]
    TooLarge,
    /// `unsupported-media-type`: no JSON
    #[response(status = 415)]
    NoJson,
    /// `insufficient-storage`
    #[response(status = 507)]
    NoRoom,
}
