//! The handler of `GET /api/backups/{name}/download`: a backup as a zip.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use headers::{AcceptRanges, ContentLength, ContentRange, ETag, HeaderMapExt, IfNoneMatch};
use shared::http::range::{self, Wanted};
use shared::http::{App, Binary, Problem, ZipBody};
use shared::layout::BackupName;

/// Download a backup as a zip.
///
/// Its length is known before its first byte, so that a client can detect an incomplete download and resume it with
/// `Range`. An error during the transfer aborts the response, and the bytes received until then are no valid zip.
#[utoipa::path(
    get,
    path = "/api/backups/{name}/download",
    operation_id = "downloadBackup",
    tag = "backups",
    params(
        ("name" = BackupName, Path, description = "The backup's name"),
        ("Range" = Option<String>, Header, description = "Only these bytes, such as `bytes=1000-`. The server reads everything up to the end of the range"),
    ),
    responses(
        (status = 200, description = "All its images and their records", body = inline(Binary), content_type = "application/zip", headers(
            ("Content-Length" = u64, description = "The length of the zip"),
            ("ETag" = String, description = "Changes with the bytes, such as when an image has gone missing"),
        )),
        (status = 206, description = "A part of it", body = inline(Binary), content_type = "application/zip"),
        (status = 304, description = "Not modified"),
        (status = 404, description = "`no-such-backup`"),
        (status = 416, description = "`range-not-satisfiable`"),
        (status = 500, description = "`damaged-backup`, `internal`"),
        (status = 501, description = "On AWS, `needs-command-line`: it is too large for a function"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn download(
    State(app): State<App>,
    name: BackupName,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let plan = app.keepsake.exports.plan_zip(name).await?;
    let etag: ETag = format!("\"{}\"", plan.digest).parse().map_err(Problem::internal)?;
    if headers.typed_get::<IfNoneMatch>().is_some_and(|known| !known.precondition_passes(&etag)) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        response.headers_mut().typed_insert(etag);
        return Ok(response);
    }
    if method == Method::HEAD {
        return Ok(answer(name, etag, plan.length, Body::empty()));
    }
    let whole = 0..plan.length;
    let part = match range::asked_for(&headers, &etag, None, plan.length) {
        Wanted::Whole => whole.clone(),
        Wanted::Part(part) => part,
        Wanted::Nothing => return Err(range::unsatisfiable(plan.length)),
    };
    let (length, start, to_the_end) = (part.end - part.start, part.start, part.end == plan.length);
    let export = |out| async move { app.keepsake.exports.export_planned(&plan, start, out).await };
    let body = ZipBody::new(length, to_the_end, export).into_body("a download of a backup").await?;
    let mut response = answer(name, etag, length, body);
    if part != whole {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response.headers_mut().typed_insert(ContentRange::bytes(part, whole.end).map_err(Problem::internal)?);
    }
    Ok(response)
}

fn answer(name: BackupName, etag: ETag, length: u64, body: Body) -> Response {
    let mut response = ([(CONTENT_TYPE, "application/zip")], body).into_response();
    let headers = response.headers_mut();
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}.zip\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    headers.typed_insert(ContentLength(length));
    headers.typed_insert(AcceptRanges::bytes());
    headers.typed_insert(etag);
    response
}
