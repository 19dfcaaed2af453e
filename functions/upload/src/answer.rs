//! The answers to an upload.

use axum::Json;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use serde::Serialize;
use shared::http::{App, Item};
use shared::layout::BackupName;
use shared::upload::Uploaded;
use utoipa::ToSchema;

/// A stored image.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stored<'a> {
    #[serde(flatten)]
    item: Item<'a>,
    /// How many copies of it existed at the time of this answer.
    copies: u8,
    /// The automatic backup that this upload triggered.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<BackupName>,
}

/// Images that were stored together.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoredTogether<'a> {
    images: Vec<Stored<'a>>,
    /// The automatic backup that this upload triggered.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<BackupName>,
}

/// An upload with more parts to come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UploadBegun {
    /// Where to send the rest; the same as `Location`.
    pub(crate) upload_url: String,
    /// How many bytes are stored.
    pub(crate) offset: u64,
}

/// The URL that issues tickets.
pub(crate) fn tickets_url(app: &App) -> String {
    format!("{}/api/upload/tickets", app.public_url)
}

/// One image as an object with all its fields and its location; with `several` as a list, even if only one is left.
pub(crate) fn answer(app: &App, uploaded: &Uploaded, several: bool) -> Response {
    let Uploaded { images, copies, backup } = uploaded;
    let items = images.iter().filter_map(Item::new).map(|item| item.at(&app.public_url));
    if several {
        let images = items.map(|item| Stored { item, copies: *copies, backup: None }).collect();
        return (StatusCode::CREATED, Json(StoredTogether { images, backup: *backup })).into_response();
    }
    // A link's URL may contain characters that are not allowed in a header.
    let ascii = |item: Item<'_>| utf8_percent_encode(&item.url(), CONTROLS).to_string();
    let location = |item: Item<'_>| HeaderValue::try_from(ascii(item)).ok();
    let headers = items.clone().next().and_then(location).map(|url| [(LOCATION, url)]);
    let one = items.map(|item| Stored { item, copies: *copies, backup: *backup }).next();
    (StatusCode::CREATED, headers.map(AppendHeaders), Json(one)).into_response()
}

/// One image as an object, several as a list; for an unfinished upload, where to send the rest.
#[derive(ToSchema)]
#[schema(as = Uploaded)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum Either<'a> {
    One(Stored<'a>),
    StoredTogether(StoredTogether<'a>),
    Begun(UploadBegun),
}
