//! The handler of `POST /api/upload`.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use headers::{ContentLength, HeaderMapExt};
use shared::http::{App, Binary, Problem, to_the_end};
use shared::{Error, Result};

use crate::answer::{self, answer};
use crate::form::{self, Form, Target};
use crate::incoming::Incoming;
use crate::{dialect, digests, plain, resume};

/// How much longer than its longest image a form may be in all.
pub(crate) const FORM_BYTES: u64 = 64 * 1024;

/// Store images: all that one request brings, or none of them.
///
/// They come as a form, or one image is the whole body. What an image is, its own bytes decide, whatever it calls itself.
/// With `Accept: text/plain` the answer is nothing but the whole URL of each image, one a line.
#[utoipa::path(
    post,
    path = "/api/upload",
    operation_id = "uploadImages",
    tag = "upload",
    params(
        form::Query,
        ("X-Filename" = Option<String>, Header, description = "The original name of an image that is the body"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a second try the same upload as the first"),
        ("Content-Digest" = Option<String>, Header, description = "`sha-256=:…:` of the body, RFC 9530; compared with what arrives"),
        ("Upload-Complete" = Option<String>, Header, pattern = r"^\?[01]$", description = "`?0` where more is to come in parts; the rest goes to the answer's `Location`"),
        ("Accept" = Option<String>, Header, description = "`text/plain` for nothing but URLs"),
        ("Upload-Length" = Option<u64>, Header, description = "How many bytes will come in parts"),
        ("Upload-Metadata" = Option<String>, Header, description = "As tus has it; `filename` is the original name where no `X-Filename` gives one"),
    ),
    request_body(content((form::Described = "multipart/form-data"), (inline(Binary) = "image/*"), (inline(Binary) = "video/*"), (inline(Binary) = "application/octet-stream"))),
    responses(
        (status = 201, description = "Stored, one image as an object and several as a list; or begun, with `Upload-Complete: ?0`", body = answer::Either, headers(
            ("Location" = String, description = "Where the image is served, if it is one; or where the rest goes"),
        )),
        (status = 400, description = "`no-file`, `empty-file`, `invalid-request`"),
        (status = 409, description = "`idempotency-in-progress`: the first try is running"),
        (status = 413, description = "`too-large`; where a ticket can take it, the answer says so"),
        (status = 415, description = "`not-an-image`"),
        (status = 422, description = "`undecodable`, `too-many-pixels`, `too-many-frames`, `digest-mismatch`, `idempotency-mismatch`, `deleted-since`"),
        (status = 507, description = "`no-room`"),
    ),
)]
pub(crate) async fn upload(
    State(app): State<App>,
    query: Result<Query<form::Query>, QueryRejection>,
    mut request: Request,
) -> Result<Response, Problem> {
    let query = query?.0;
    dialect::adapt(request.headers_mut())?;
    if resume::begins(request.headers())? {
        return resume::begin(&app, query, request).await;
    }
    let headers = request.headers().clone();
    let length = headers.typed_get::<ContentLength>().map(|length| length.0).or(request.body().size_hint().exact());
    let length = length.or(dialect::announced_length(&headers));
    let answer = take(app, query, request).await?;
    Ok(match length {
        Some(length) => dialect::whole(&headers, length, answer),
        None => answer,
    })
}

/// Takes in what a whole body holds.
pub(crate) async fn take(app: App, query: form::Query, request: Request) -> Result<Response, Problem> {
    let mut form = Form::of_query(query)?;
    let key = idempotency_key(request.headers())?;
    let plain = plain::wanted(request.headers());
    // Where the server knows how it is reached, it need not guess from the request.
    let plain = plain.map(|here| if app.public_url.is_empty() { here } else { app.public_url.to_string() });
    receive(&app, request, &mut form).await.map_err(|error| refusal(error, &app))?;
    let several = form.images.len() > 1;
    // All bytes are here; from now on it does not matter whether the client still is.
    let keepsake = Arc::clone(&app.keepsake);
    let upload = async move { keepsake.uploads.upload(form.images, form.fields, key.as_deref()).await };
    let uploaded = to_the_end(upload).await?;
    Ok(plain.map_or_else(|| answer(&app, &uploaded, several), |here| plain::answer(&uploaded, &here)))
}

/// Reads the whole body. What cannot be taken in the end is refused as early as can be, at best before any of it is read.
async fn receive(app: &App, request: Request, form: &mut Form) -> Result<()> {
    let (head, body) = request.into_parts();
    let announced = digests::announced(&head.headers)?;
    let boundary = boundary(&head.headers)?;
    let target = Target { store: &app.keepsake.core.primary, limit: app.max_body_bytes() };
    let limit = if boundary.is_some() { target.limit.saturating_add(FORM_BYTES) } else { target.limit };
    let length = head.headers.typed_get::<ContentLength>().map(|length| length.0).or(body.size_hint().exact());
    if length.is_some_and(|length| length > limit) {
        return Err(Error::TooLarge { limit: target.limit });
    }
    if !app.on_lambda {
        // There all of the body is here already, and asking the store now would only cost time.
        app.keepsake.room.check(length.unwrap_or_default()).await?;
    }

    let mut incoming = Incoming::new(body, limit, !announced.is_empty());
    match boundary {
        Some(boundary) => form.read_parts(&mut incoming, boundary, &target).await?,
        None => form.read_raw(&mut incoming, &head.headers, &target).await?,
    }
    let digest = incoming.finish().await.map_err(|reason| form::given_up(&reason, &target))?;
    match digest {
        Some(digest) if announced.iter().any(|announced| *announced != digest) => Err(Error::DigestMismatch),
        _ => Ok(()),
    }
}

/// What separates the parts of a form. Any other body is one image, whatever it calls itself: its own bytes decide.
pub(crate) fn boundary(headers: &HeaderMap) -> Result<Option<String>> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_form = content_type.get(.."multipart/".len()).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    if !is_form {
        return Ok(None);
    }
    let malformed = |error| Error::Invalid(format!("The Content-Type is not that of a form: {error}."));
    multer::parse_boundary(content_type).map(Some).map_err(malformed)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.trim().is_empty() => Ok(Some(key.trim().to_owned())),
        _ => Err(Error::Invalid("An Idempotency-Key must be some visible ASCII characters.".to_owned())),
    }
}

/// Where a request can be too long for an image that may be kept, the answer says which way it can come.
fn refusal(error: Error, app: &App) -> Problem {
    match error {
        Error::OfFile { file, among_others, error } => refusal(*error, app).of_file(file, among_others),
        Error::TooLarge { limit } if limit < app.keepsake.core.settings.max_upload_bytes => {
            let detail = format!(
                "The upload is larger than {limit} bytes, which is what a request can bring here. Get a ticket for it with \
                 POST /api/upload/tickets, which takes images of up to {} bytes.",
                app.keepsake.core.settings.max_upload_bytes
            );
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
        }
        error => error.into(),
    }
}
