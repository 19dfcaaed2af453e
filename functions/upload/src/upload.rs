//! The handler of `POST /api/upload`: an upload in one body, or the first part of one.

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::response::Response;
use headers::{ContentLength, HeaderMapExt};
use shared::http::{App, Binary, Problem, Query};

use crate::{answer, body, dialect, form, resume};

/// Store the images of a request: all of them, or none.
///
/// They are sent as a form, or one image is the whole body. The type of an image is determined by its bytes, not by its
/// name or media type. With `Accept: text/plain` the response is the full URL of each image, one per line.
#[utoipa::path(
    post,
    path = "/api/upload",
    operation_id = "uploadImages",
    tag = "upload",
    params(
        form::Query,
        ("X-Filename" = Option<String>, Header, description = "The original name of an image that is the body"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry the same upload as the first attempt"),
        ("Content-Digest" = Option<String>, Header, description = "`sha-256=:…:` of the body, RFC 9530; compared with the received bytes"),
        ("Upload-Complete" = Option<String>, Header, pattern = r"^\?[01]$", description = "`?0` if more parts follow; they go to the `Location` of the response"),
        ("Accept" = Option<String>, Header, description = "`text/plain` for URLs only"),
        ("Upload-Length" = Option<u64>, Header, description = "The total length of all parts"),
        ("Upload-Metadata" = Option<String>, Header, description = "As in tus; `filename` is the original name if there is no `X-Filename`"),
    ),
    request_body(content((form::UploadForm = "multipart/form-data"), (inline(Binary) = "image/*"), (inline(Binary) = "video/*"), (inline(Binary) = "application/octet-stream"))),
    responses(
        (status = 201, description = "Stored, one image as an object and several as a list; or begun, with `Upload-Complete: ?0`", body = answer::Either, headers(
            ("Location" = String, description = "The URL of the image, if it is one; or the URL for the other parts"),
        )),
        (status = 400, description = "`no-file`, `empty-file`, `invalid-request`"),
        (status = 409, description = "`idempotency-in-progress`: the first attempt is running"),
        (status = 413, description = "`too-large`; the response says whether a ticket can be used"),
        (status = 415, description = "`not-an-image`"),
        (status = 422, description = "`undecodable`, `too-many-pixels`, `too-many-frames`, `digest-mismatch`, `idempotency-mismatch`, `deleted-since`"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn upload(
    State(app): State<App>,
    Query(query): Query<form::Query>,
    mut request: Request,
) -> Result<Response, Problem> {
    dialect::adapt(request.headers_mut())?;
    if resume::begins(request.headers())? {
        return resume::begin(&app, query, request).await;
    }
    let headers = request.headers().clone();
    let length = headers.typed_get::<ContentLength>().map(|length| length.0).or(request.body().size_hint().exact());
    let length = length.or(dialect::announced_length(&headers));
    let answer = body::take(app, query, request).await?;
    Ok(match length {
        Some(length) => dialect::whole(&headers, length, answer),
        None => answer,
    })
}
