//! What is answered to an upload.

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

/// An image that was stored.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stored<'a> {
    #[serde(flatten)]
    item: Item<'a>,
    /// How many copies of it stood when this was answered.
    copies: u8,
    /// The automatic backup that this upload completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<BackupName>,
}

/// Images that were stored together.
#[derive(Serialize, ToSchema)]
#[schema(as = StoredTogether)]
pub(crate) struct Several<'a> {
    images: Vec<Stored<'a>>,
    /// The automatic backup that this upload completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<BackupName>,
}

/// An upload of which more is to come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UploadBegun {
    /// Where the rest goes; the same as `Location`.
    pub(crate) upload_url: String,
    /// How many bytes are here.
    pub(crate) offset: u64,
}

/// Where tickets are given.
pub(crate) fn tickets_url(app: &App) -> String {
    format!("{}/api/upload/tickets", app.public_url)
}

/// One image as an object with all its fields, and where it is; `several`, also if only one is left of them, as a list.
pub(crate) fn answer(app: &App, uploaded: &Uploaded, several: bool) -> Response {
    let Uploaded { images, copies, backup } = uploaded;
    let items = images.iter().filter_map(Item::new).map(|item| item.at(&app.public_url));
    if several {
        let images = items.map(|item| Stored { item, copies: *copies, backup: None }).collect();
        return (StatusCode::CREATED, Json(Several { images, backup: *backup })).into_response();
    }
    // A link's address may have letters that no header should.
    let ascii = |item: Item<'_>| utf8_percent_encode(&item.url(), CONTROLS).to_string();
    let location = |item: Item<'_>| HeaderValue::try_from(ascii(item)).ok();
    let headers = items.clone().next().and_then(location).map(|url| [(LOCATION, url)]);
    let one = items.map(|item| Stored { item, copies: *copies, backup: *backup }).next();
    (StatusCode::CREATED, headers.map(AppendHeaders), Json(one)).into_response()
}

/// One image as an object, several as a list; where more is to come, where to.
#[derive(ToSchema)]
#[schema(as = Uploaded)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum Either<'a> {
    One(Stored<'a>),
    Several(Several<'a>),
    Begun(UploadBegun),
}
