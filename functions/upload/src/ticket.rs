//! The handlers of tickets: the client sends an image's bytes straight to the store, and then completes them to an
//! image.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::{Deserialize, Serialize};
use shared::clock::format_millis;
use shared::digest::Digest;
use shared::http::{App, Binary, Caller, MAX_JSON_BYTES, Problem, Query, read_json};
use shared::images::Fields;
use shared::ticket::{Announcement, Destination};
use shared::{Error, Keepsake, Result};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Stored, answer};
use crate::form::{Target, last_segment, read_whole};
use crate::incoming::{Incoming, UploadId};

/// The media type of bytes for which the client states none.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// The announced image.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TicketRequest {
    filename: Option<String>,
    /// The media type that its bytes will be sent with; `application/octet-stream` if none is given.
    content_type: Option<String>,
    /// Its length in bytes.
    #[schema(minimum = 1)]
    size: u64,
    sha256: Digest,
    #[serde(flatten)]
    fields: Fields,
}

/// Where to send the bytes of an image.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Ticket {
    id: Uuid,
    /// Relative to this API, or on another server.
    upload_url: String,
    method: &'static str,
    /// All of these headers must be sent along.
    headers: BTreeMap<String, String>,
    /// The deadline for all of it.
    #[schema(schema_with = shared::http::time)]
    expires: String,
    /// The URL to POST to once the bytes have been sent.
    complete_url: String,
}

/// Get a ticket: permission to send the bytes of one image straight to the store.
///
/// Send them to `uploadUrl`, then POST to `completeUrl`. This is the way for an image too large for a request.
#[utoipa::path(
    post,
    path = "/api/upload/tickets",
    operation_id = "issueTicket",
    tag = "upload",
    request_body = TicketRequest,
    responses(
        (status = 201, description = "The ticket", body = Ticket, headers(("Location" = String, description = "Its `completeUrl`"))),
        (status = 400, description = "`invalid-request`"),
        (status = 413, description = "`too-large`"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn issue(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let client = Caller::name_of(request.extensions());
    let asked: TicketRequest =
        read_json(request.into_body(), MAX_JSON_BYTES, "does not describe an image to upload").await?;
    let announced = Announcement {
        original_name: asked.filename.as_deref().and_then(last_segment),
        content_type: asked.content_type.filter(|t| !t.is_empty()).unwrap_or_else(|| UNKNOWN_TYPE.to_owned()),
        size: asked.size,
        sha256: asked.sha256,
        fields: asked.fields.without_empty(),
        client,
    };
    let content_type = announced.content_type.clone();
    let issued = app.change(|keepsake| async move { keepsake.tickets.issue(announced).await }).await?;
    let here = format!("{}/api/upload/{}", app.public_url, issued.id);
    let complete_url = format!("{here}/complete");
    let (upload_url, headers) = match issued.destination {
        Destination::Signed(put) => (put.url, put.headers.into_iter().collect()),
        Destination::Here { secret } => {
            (format!("{here}?secret={secret}"), BTreeMap::from([("content-type".to_owned(), content_type)]))
        }
    };
    let location = HeaderValue::try_from(&complete_url).map_err(Problem::internal)?;
    let expires = format_millis(issued.expires);
    let ticket = Ticket { id: issued.id, upload_url, method: "PUT", headers, expires, complete_url };
    Ok((StatusCode::CREATED, AppendHeaders([(LOCATION, location)]), Json(ticket)).into_response())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Secret {
    /// The secret in the ticket's `uploadUrl`.
    secret: Option<String>,
}

/// Send the bytes of a ticket, if its `uploadUrl` leads here.
///
/// It answers as a bucket does to a signed URL. The secret in the URL replaces a token.
#[utoipa::path(
    put,
    path = "/api/upload/{id}",
    operation_id = "sendTicketBytes",
    tag = "upload",
    params(("id" = Uuid, Path, description = "The ticket's id"), Secret),
    request_body(content((inline(Binary) = "image/*"), (inline(Binary) = "application/octet-stream"))),
    responses(
        (status = 200, description = "The bytes were received"),
        (status = 400, description = "`invalid-request`: another Content-Type than announced, or the body ended early"),
        (status = 404, description = "`no-such-ticket`: no ticket has this id and secret"),
        (status = 409, description = "`upload-in-progress`: another request is sending them"),
        (status = 412, description = "`upload-already-received`"),
        (status = 413, description = "`too-large`: more than announced"),
        (status = 422, description = "`digest-mismatch`: other bytes than announced"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn receive(
    State(app): State<App>,
    UploadId(id): UploadId,
    Query(Secret { secret }): Query<Secret>,
    request: Request,
) -> Result<StatusCode, Problem> {
    // A holder of the URL has one attempt at a time, so that concurrent ones cannot fill the disk.
    let _attempt = app.keepsake.tickets.enter(id)?;
    let _arriving = app.keepsake.unfinished.arriving(id);
    let terms = app.keepsake.tickets.expected(id, &secret.unwrap_or_default()).await?;
    let (head, body) = request.into_parts();
    if head.headers.get(CONTENT_TYPE).is_none_or(|stated| stated.as_bytes() != terms.content_type.as_bytes()) {
        let detail = format!("The ticket is for bytes with the header \"Content-Type: {}\".", terms.content_type);
        return Err(Error::Invalid(detail).into());
    }
    if app.on_lambda && terms.size > app.max_body_bytes() || body.size_hint().lower() > terms.size {
        return Err(Error::TooLarge { limit: terms.size.min(app.max_body_bytes()) }.into());
    }
    let target = Target { store: &app.keepsake.core.primary, limit: terms.size };
    let body = read_whole(&mut Incoming::new(body, terms.size, false), &target).await?;
    app.change(move |keepsake| async move { keepsake.tickets.receive(id, &terms, &body).await }).await?;
    Ok(StatusCode::OK)
}

/// Complete a ticket: its bytes become an image.
#[utoipa::path(
    post,
    path = "/api/upload/{id}/complete",
    operation_id = "completeTicket",
    tag = "upload",
    params(("id" = Uuid, Path, description = "The ticket's id")),
    responses(
        (status = 201, description = "The image, as after an upload", body = Stored, headers(
            ("Location" = String, description = "The URL of the image"),
        )),
        (status = 404, description = "`no-such-ticket`"),
        (status = 409, description = "`upload-missing`: send the bytes first"),
        (status = 413, description = "`too-large`"),
        (status = 415, description = "`not-an-image`"),
        (status = 422, description = "`undecodable`, `too-many-pixels`, `too-many-frames`, `digest-mismatch`"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn complete(State(app): State<App>, UploadId(id): UploadId) -> Result<Response, Problem> {
    let complete = move |keepsake: Arc<Keepsake>| async move {
        let _arriving = keepsake.unfinished.arriving(id);
        keepsake.tickets.complete(id).await
    };
    Ok(answer(&app, &app.change(complete).await?, false))
}
