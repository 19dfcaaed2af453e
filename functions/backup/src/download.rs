//! The handler of `GET /api/backups/{name}/download`: a backup as a zip.

use std::ops::Range;
use std::sync::Arc;

use axum::BoxError;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use headers::{AcceptRanges, ContentLength, ContentRange, ETag, HeaderMapExt, IfNoneMatch};
use shared::http::range::{self, Wanted};
use shared::http::{App, Binary, Problem};
use shared::layout::BackupName;
use shared::portable::{Exported, ZipPlan};
use shared::{Error, Result};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument;

/// How much may lie between who writes the zip and who sends it.
const BUFFER: usize = 256 * 1024;

/// Download a backup as a zip.
///
/// Its length is known before its first byte, so that a download that breaks off can be told from one that is whole, and it
/// can go on with `Range`. What fails once it is on its way breaks the answer off, and what arrived until then is no zip.
#[utoipa::path(
    get,
    path = "/api/backups/{name}/download",
    operation_id = "downloadBackup",
    tag = "backups",
    params(
        ("name" = BackupName, Path, description = "The backup's name"),
        ("Range" = Option<String>, Header, description = "Only these bytes, such as `bytes=1000-`. Up to its end a part is as much work for the server as the whole"),
    ),
    responses(
        (status = 200, description = "All its images and their records", body = inline(Binary), content_type = "application/zip", headers(
            ("Content-Length" = u64, description = "The length of the zip"),
            ("ETag" = String, description = "Changes where the bytes do, such as when an image is missing that was there"),
        )),
        (status = 206, description = "A part of it", body = inline(Binary), content_type = "application/zip"),
        (status = 304, description = "The client has it: `If-None-Match`"),
        (status = 404, description = "`no-such-backup`"),
        (status = 416, description = "`range-not-satisfiable`"),
        (status = 500, description = "`damaged-backup`, `internal`"),
        (status = 501, description = "On AWS, `needs-command-line`: it is more than a function can send"),
        (status = 507, description = "`no-room`"),
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
    let body = send(&app, plan, part.clone()).await?;
    let mut response = answer(name, etag, part.end - part.start, body);
    if part != whole {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response.headers_mut().typed_insert(ContentRange::bytes(part, whole.end).map_err(Problem::internal)?);
    }
    Ok(response)
}

/// The bytes of a part. An error before the first of them is the whole answer.
async fn send(app: &App, plan: ZipPlan, part: Range<u64>) -> Result<Body, Problem> {
    let (out, pipe) = duplex(BUFFER);
    let keepsake = Arc::clone(&app.keepsake);
    let (to_the_end, left) = (part.end == plan.length, part.end - part.start);
    let export = async move { keepsake.exports.export_planned(&plan, part.start, out).await };
    // Whoever hangs up drops the pipe, which ends the export.
    let mut sending = Sending { pipe, left, to_the_end, export: tokio::spawn(export.in_current_span()) };
    let first = sending.next().await.map_err(Problem::internal)??;
    let rest = stream::try_unfold(sending, async |mut sending| {
        let next = sending.next().await.map_err(BoxError::from);
        match next.and_then(|next| next.map_err(BoxError::from)) {
            Ok(chunk) => Ok(chunk.map(|chunk| (chunk, sending))),
            Err(error) => {
                tracing::error!(error = &*error as &dyn std::error::Error, "a download of a backup broke off");
                Err(error)
            }
        }
    });
    Ok(Body::from_stream(futures::StreamExt::chain(stream::iter(first.map(Ok)), rest)))
}

/// A zip on its way, or a part of it.
struct Sending {
    pipe: DuplexStream,
    /// Bytes that are still to be sent.
    left: u64,
    /// Whether the part reaches the end of the zip.
    to_the_end: bool,
    export: JoinHandle<Result<Exported>>,
}

impl Sending {
    /// The next bytes; `None` only once the part is known to be whole. Whether the export itself broke down is the outer
    /// outcome, since no client is to blame for that.
    async fn next(&mut self) -> Result<Result<Option<Bytes>>, JoinError> {
        if self.left == 0 && !self.to_the_end {
            return Ok(Ok(None));
        }
        let mut chunk = BytesMut::with_capacity(BUFFER / 4);
        if self.pipe.read_buf(&mut chunk).await.is_ok_and(|read| read > 0) {
            chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= chunk.len() as u64;
            return Ok(Ok(Some(chunk.freeze())));
        }
        Ok(match (&mut self.export).await? {
            // The announced length does not hold, which the client is not to take for a whole zip.
            Ok(_) if self.left > 0 => Err(Error::MissingBytes),
            outcome => outcome.map(|_| None),
        })
    }
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
