//! The handlers of uploads in parts: draft-ietf-httpbis-resumable-upload, interop versions 5 to 8 (drafts 03 to 11).
//!
//! No interim answer (104) is sent, so a client that wants to be able to resume begins with `Upload-Complete: ?0`; the
//! answer contains the URL for the rest. Once all parts have arrived, they are processed like the body of one request.

use std::sync::{Arc, mpsc};

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use shared::http::{App, Binary, Caller, Problem};
use shared::media::MediaError;
use shared::resumable::{Begun, Ending, Standing};
use shared::{Error, Keepsake, Result};
use uuid::Uuid;

use crate::answer::{Either, UploadBegun, answer, tickets_url};
use crate::body::{FORM_BYTES, boundary, take};
use crate::form::{self, Form, Target, rejection, spool_failed};
use crate::incoming::{Incoming, Rejection, UploadId};
use crate::part_headers::{
    COMPLETE, IDEMPOTENCY_KEY, KEPT, LENGTH, LIMIT, OFFSET, TYPED_PARTS, boolean, check_version, integer,
};
use crate::{digests, opening};

/// How long an upload is kept, in seconds; as long as a ticket.
const MAX_AGE: u64 = 24 * 60 * 60;

/// Whether a request begins an upload with more parts to come.
pub(crate) fn begins(headers: &HeaderMap) -> Result<bool> {
    Ok(boolean(headers, COMPLETE)? == Some(false))
}

/// Answers a request that [`begins`]: stores its bytes, and returns the URL for the rest.
pub(crate) async fn begin(app: &App, query: form::Query, request: Request) -> Result<Response, Problem> {
    if app.on_lambda {
        let detail =
            "Uploads in parts are not supported here. Get a ticket for the upload with POST /api/upload/tickets.";
        let problem = Problem::from(Error::Invalid(detail.to_owned()));
        return Err(problem.with_limit(app.max_body_bytes()).with_tickets(tickets_url(app)));
    }
    let (head, body) = request.into_parts();
    check_version(&head.headers)?;
    // A request that would be rejected at the end is rejected now.
    Form::of_query(query)?;
    boundary(&head.headers)?;
    digests::announced(&head.headers)?;
    let length = integer(&head.headers, LENGTH)?;
    if length.is_some_and(|length| length > limit(&app.keepsake)) {
        return Err(Error::TooLarge { limit: app.max_body_bytes() }.into());
    }
    let text = |name: &HeaderName| {
        let value = head.headers.get(name)?;
        Some((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    };
    let begun = Begun::new(length, head.uri.query().unwrap_or_default(), KEPT.iter().filter_map(text).collect());
    let begun = begun.of(Caller::name_of(&head.extensions));
    let most = limit(&app.keepsake);
    let begin = move |keepsake: Arc<Keepsake>| async move {
        let (id, nothing) = keepsake.resumable.begin(begun).await?;
        if let Err(error) = receive(&keepsake, id, &nothing, body, most).await {
            // No client has received the URL of this upload.
            keepsake.resumable.cancel(id).await?;
            return Err(error);
        }
        Ok((id, keepsake.resumable.standing(id).await?))
    };
    let (id, standing) = app.change(begin).await?;
    if is_all_here(&standing) {
        return finish(app.clone(), id, standing, &head.headers).await;
    }
    let upload_url = format!("{}/api/upload/{id}", app.public_url);
    let location = HeaderValue::try_from(&upload_url).map_err(Problem::internal)?;
    let begun = UploadBegun { upload_url, offset: standing.offset };
    let headers = AppendHeaders([(LOCATION, location)]);
    Ok((StatusCode::CREATED, headers, state(app, &standing), Json(begun)).into_response())
}

/// Show the progress of a resumable upload.
#[utoipa::path(
    get,
    path = "/api/upload/{id}",
    operation_id = "showUpload",
    tag = "upload",
    params(("id" = Uuid, Path, description = "The id in the `Location` of the first response")),
    responses(
        (status = 200, description = "It has ended, and these images were stored", body = Either, headers(
            ("Upload-Complete" = String, description = "`?1`"),
        )),
        (status = 204, description = "Its progress", headers(
            ("Upload-Offset" = u64, description = "How many bytes are stored"),
            ("Upload-Complete" = String, description = "`?1` if it has ended and nothing was stored, else `?0`"),
            ("Upload-Length" = u64, description = "The total length, if it was announced"),
            ("Upload-Limit" = String, description = "The most bytes that it may have, and for how many seconds it is kept"),
        )),
        (status = 404, description = "`no-such-ticket`"),
    ),
)]
pub(crate) async fn show(State(app): State<App>, UploadId(id): UploadId) -> Result<Response, Problem> {
    let standing = app.keepsake.resumable.standing(id).await?;
    let headers = state(&app, &standing);
    // For a client that lost the answer to the last part.
    let stored = stored_before(&app, id, &standing).await?;
    Ok(stored.unwrap_or_else(|| (StatusCode::NO_CONTENT, headers).into_response()))
}

/// The answer for an upload whose images were stored; `None` if none were, or they are gone.
async fn stored_before(app: &App, id: Uuid, standing: &Standing) -> Result<Option<Response>, Problem> {
    if !standing.begun.stored {
        return Ok(None);
    }
    let uploaded = app.keepsake.uploads.stored_under(&key(id, &standing.begun)).await?;
    if uploaded.images.is_empty() {
        return Ok(None);
    }
    let answer = answer(app, &uploaded, uploaded.images.len() > 1);
    let mut stored = (state(app, standing), answer).into_response();
    *stored.status_mut() = StatusCode::OK;
    Ok(Some(stored))
}

/// Whether all of an upload has arrived, even if its client did not declare that. When it reads a stream, tus-js-client
/// does not, and treats an offset equal to the length as success.
fn is_all_here(standing: &Standing) -> bool {
    standing.offset > 0 && standing.begun.length == Some(standing.offset)
}

/// The idempotency key under which the images of an upload are stored: the client's, or one of the upload's own. A
/// client that sends the last part twice, because the answer was lost, creates one image; with a key, so does one that
/// sends everything again in another upload.
fn key(id: Uuid, begun: &Begun) -> String {
    let given = begun.headers.iter().find(|(name, _)| name == IDEMPOTENCY_KEY.as_str());
    given.map_or_else(|| format!("resumable-{id}"), |(_, key)| key.trim().to_owned())
}

/// Cancel a resumable upload.
#[utoipa::path(
    delete,
    path = "/api/upload/{id}",
    operation_id = "cancelUpload",
    tag = "upload",
    params(("id" = Uuid, Path, description = "The id in the `Location` of the first response")),
    responses((status = 204, description = "It was cancelled"), (status = 404, description = "`no-such-ticket`")),
)]
pub(crate) async fn cancel(State(app): State<App>, UploadId(id): UploadId) -> Result<StatusCode, Problem> {
    app.change(move |keepsake| async move { keepsake.resumable.cancel(id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send the next part of a resumable upload.
///
/// It is stored as far as it arrives, even if the connection breaks. The last part completes the upload.
#[utoipa::path(
    patch,
    path = "/api/upload/{id}",
    operation_id = "appendToUpload",
    tag = "upload",
    params(
        ("id" = Uuid, Path, description = "The id in the `Location` of the first response"),
        ("Upload-Offset" = u64, Header, description = "How many bytes were sent before"),
        ("Upload-Complete" = String, Header, pattern = r"^\?[01]$", description = "`?1` with the last part, else `?0`"),
        ("Upload-Length" = Option<u64>, Header, description = "The total length in bytes"),
        ("Upload-Draft-Interop-Version" = Option<u64>, Header, minimum = 5, maximum = 8, description = "5 to 8; in version 5 a part needs no media type"),
    ),
    request_body(
        description = "The next bytes",
        content((inline(Binary) = "application/partial-upload"), (inline(Binary) = "application/octet-stream")),
    ),
    responses(
        (status = 200, description = "The upload had ended, and these images were stored", body = Either),
        (status = 204, description = "They are stored; more parts are expected", headers(("Upload-Offset" = u64, description = "How many bytes are stored"))),
        (status = 201, description = "The upload is complete; the response is that of `POST /api/upload`", body = Either),
        (status = 400, description = "`invalid-request`, `completed-upload`, `inconsistent-upload-length`"),
        (status = 404, description = "`no-such-ticket`"),
        (status = 409, description = "`mismatching-upload-offset`: `Upload-Offset` has the right offset"),
        (status = 413, description = "`too-large`"),
        (status = 415, description = "`unsupported-media-type`, `not-an-image`"),
        (status = 422, description = "As `POST /api/upload`"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn append(
    State(app): State<App>,
    UploadId(id): UploadId,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let version = check_version(&head.headers)?;
    let stated = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    // Not every generated client can send its own media type.
    let is_typed = matches!(stated, Some(b"application/partial-upload" | b"application/octet-stream"));
    if !is_typed && version.is_none_or(|version| version >= TYPED_PARTS) {
        let detail = "A part must be sent as application/partial-upload.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail));
    }
    let needed = |name: HeaderName| Error::Invalid(format!("A part needs the header {name}."));
    let offset = integer(&head.headers, OFFSET)?.ok_or_else(|| needed(OFFSET))?;
    let complete = boolean(&head.headers, COMPLETE)?.ok_or_else(|| needed(COMPLETE))?;
    let _arriving = app.keepsake.unfinished.arriving(id);
    let standing = app.keepsake.resumable.standing(id).await?;
    if standing.begun.not_an_image {
        // The client, or its HTTP library, lost the refusal and sends the part again.
        return Err(refused(Error::from(MediaError::NotAnImage).into()));
    }
    if standing.begun.ended.is_some() {
        // If all bytes arrived before the client declared the end, an empty last part may follow.
        if complete
            && offset == standing.offset
            && body.size_hint().exact() == Some(0)
            && let Some(stored) = stored_before(&app, id, &standing).await?
        {
            return Ok(stored);
        }
        let detail = "This upload has ended already.";
        let problem = Problem::new(StatusCode::BAD_REQUEST, "completed-upload", detail);
        return Err(problem.with_header(OFFSET, standing.offset.into()));
    }
    if offset != standing.offset {
        return Err(mismatch(&standing));
    }
    let announced = integer(&head.headers, LENGTH)?;
    if announced.is_some() && standing.begun.length.is_some() && announced != standing.begun.length {
        return Err(inconsistent());
    }
    let limit = limit(&app.keepsake);
    let most = standing.begun.length.or(announced).unwrap_or(limit).min(limit);
    let append = move |keepsake: Arc<Keepsake>| async move {
        let received = receive(&keepsake, id, &standing, body, most).await;
        if let Err(Error::Media(_)) = received {
            // No further bytes would make it an image.
            keepsake.resumable.end(id, &standing, Ending::NotAnImage).await?;
        }
        Ok((received?, keepsake.resumable.standing(id).await?))
    };
    let (first, standing) = match app.change(append).await {
        Err(problem) if problem.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE => return Err(refused(problem)),
        done => done?,
    };
    if !first {
        return Err(mismatch(&standing));
    }
    if !complete && !is_all_here(&standing) {
        return Ok((StatusCode::NO_CONTENT, state(&app, &standing)).into_response());
    }
    if standing.begun.length.or(announced).is_some_and(|length| length != standing.offset) {
        return Err(inconsistent());
    }
    finish(app, id, standing, &head.headers).await
}

/// Processes all received parts as one body.
async fn finish(app: App, id: Uuid, standing: Standing, last: &HeaderMap) -> Result<Response, Problem> {
    let _arriving = app.keepsake.unfinished.arriving(id);
    let (note, unread) = mpsc::channel();
    let bytes = app.keepsake.resumable.bytes(&standing).map_err(move |error| {
        let shown = std::io::Error::other(error.to_string());
        drop(note.send(error));
        shown
    });
    let mut request = Request::new(Body::from_stream(bytes));
    *request.uri_mut() = format!("/api/upload?{}", standing.begun.query).parse::<Uri>().map_err(Problem::internal)?;
    let headers = request.headers_mut();
    for name in last.keys().filter(|name| !KEPT.contains(name) && **name != CONTENT_LENGTH) {
        headers.extend(last.get_all(name).iter().map(|value| (name.clone(), value.clone())));
    }
    for (name, value) in &standing.begun.headers {
        let name = HeaderName::try_from(name).map_err(Problem::internal)?;
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).map_err(Problem::internal)?);
    }
    let key = HeaderValue::from_bytes(key(id, &standing.begun).as_bytes()).map_err(Problem::internal)?;
    headers.insert(IDEMPOTENCY_KEY, key);
    headers.insert(CONTENT_LENGTH, standing.offset.into());
    let query = Query::<form::Query>::try_from_uri(request.uri())?.0;
    let answer = take(app.clone(), query, request).await;
    match unread.try_recv() {
        // A concurrent attempt has ended meanwhile.
        Ok(error) if error.is_not_found() => return Err(Error::IdempotencyInProgress.into()),
        // The store failed, not the client, and the next attempt may succeed.
        Ok(error) => return Err(Error::from(error).into()),
        Err(_) => {}
    }
    let status = answer.as_ref().map_or_else(Problem::status, Response::status);
    // Bytes that were rejected stay rejected; after any other error the client may try again.
    let stored = status.is_success();
    if !stored && !matches!(status.as_u16(), 400 | 413 | 415 | 422) {
        return answer;
    }
    let offset = HeaderValue::from(standing.offset);
    let ending = if stored { Ending::Stored } else { Ending::Refused };
    app.change(move |keepsake| async move { keepsake.resumable.end(id, &standing, ending).await }).await?;
    let ended = HeaderValue::from_static("?1");
    match answer {
        Ok(answer) => Ok((AppendHeaders([(COMPLETE, ended), (OFFSET, offset)]), answer).into_response()),
        Err(problem) => Err(refused(problem).with_header(OFFSET, offset)),
    }
}

/// Stores the received body, all of it or up to where the connection broke; false if another request was faster.
async fn receive(keepsake: &Arc<Keepsake>, id: Uuid, standing: &Standing, body: Body, most: u64) -> Result<bool> {
    let _arriving = keepsake.unfinished.arriving(id);
    let target = Target { store: &keepsake.core.primary, limit: most };
    let mut incoming = Incoming::new(body, most.saturating_sub(standing.offset), false);
    let (used, mut spool, mut broken) = (incoming.used(), keepsake.core.primary.spool(), None);
    let mut start = (standing.offset == 0).then(Vec::new);
    while let Some(piece) = incoming.next().await {
        match piece {
            Ok(piece) => {
                used.add(piece.len());
                if let Some(begins) = &mut start {
                    begins.extend_from_slice(&piece);
                    if begins.len() >= opening::ENOUGH {
                        opening::check(keepsake, &standing.begun, begins)?;
                        start = None;
                    }
                }
                spool.write(&piece).await.map_err(spool_failed)?;
            }
            Err(Rejection::TooLong) => return Err(rejection(&Rejection::TooLong, &target)),
            Err(reason) => {
                broken = Some(reason);
                break;
            }
        }
    }
    if let Some(start) = start {
        opening::check(keepsake, &standing.begun, &start)?;
    }
    let part = spool.finish().await.map_err(spool_failed)?;
    let first = keepsake.resumable.append(id, standing, &part).await?;
    broken.map_or(Ok(first), |reason| Err(rejection(&reason, &target)))
}

/// The most bytes in parts: the longest image, and the rest of a form.
fn limit(keepsake: &Keepsake) -> u64 {
    keepsake.core.settings.max_upload_bytes.saturating_add(FORM_BYTES)
}

fn state(app: &App, standing: &Standing) -> HeaderMap {
    let complete = if standing.begun.ended.is_some() { "?1" } else { "?0" };
    let mut headers =
        HeaderMap::from_iter([(COMPLETE, HeaderValue::from_static(complete)), (OFFSET, standing.offset.into())]);
    headers.extend(standing.begun.length.or(standing.begun.ended).map(|length| (LENGTH, length.into())));
    let limits = HeaderValue::try_from(format!("max-size={}, max-age={MAX_AGE}", limit(&app.keepsake)));
    headers.extend(limits.ok().map(|limits| (LIMIT, limits)));
    headers
}

/// A problem that ends an upload.
fn refused(problem: Problem) -> Problem {
    problem.with_header(COMPLETE, HeaderValue::from_static("?1"))
}

fn mismatch(standing: &Standing) -> Problem {
    let detail = format!("The next part begins at byte {}.", standing.offset);
    let problem = Problem::new(StatusCode::CONFLICT, "mismatching-upload-offset", detail);
    problem.with_header(OFFSET, standing.offset.into()).with_header(COMPLETE, HeaderValue::from_static("?0"))
}

fn inconsistent() -> Problem {
    let detail = "The parts together do not have the announced length.";
    Problem::new(StatusCode::BAD_REQUEST, "inconsistent-upload-length", detail)
}
