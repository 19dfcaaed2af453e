//! The handler of `GET /api/groups/{id}/download`: a group as a zip.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use shared::Result;
use shared::file_name;
use shared::http::{App, Binary, Problem};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::download;

/// How much may lie between who writes the zip and who sends it.
const BUFFER: usize = 256 * 1024;

/// Download the images of a group as a zip, under their original names and in their order.
///
/// Its length is known before its first byte. What fails once it is on its way breaks the answer off, and what arrived until then is no zip.
#[utoipa::path(
    get,
    path = "/api/groups/{id}/download",
    operation_id = "downloadGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id")),
    responses(
        (status = 200, description = "All its images", body = inline(Binary), content_type = "application/zip", headers(
            ("Content-Length" = u64, description = "The length of the zip"),
        )),
        (status = 404, description = "`no-such-group`"),
    ),
)]
pub(crate) async fn download(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    method: Method,
) -> Result<Response, Problem> {
    let group = app.keepsake.groups.get(&id?.0).await?;
    let name = file_name::of(group.title().unwrap_or(&group.id)).unwrap_or_else(|| "group".to_owned()) + ".zip";
    let plan = app.keepsake.exports.plan_group_zip(&group).await?;
    let length = plan.length.to_string();
    let answer = |body: Body| {
        let kind = (CONTENT_TYPE, "application/zip".to_owned());
        let disposition = (CONTENT_DISPOSITION, download::disposition(&name));
        ([kind, disposition, (CONTENT_LENGTH, length)], body).into_response()
    };
    if method == Method::HEAD {
        return Ok(answer(Body::empty()));
    }
    let (out, pipe) = duplex(BUFFER);
    let keepsake = Arc::clone(&app.keepsake);
    let zip = async move { keepsake.exports.zip_group(&group, &plan, app.strip_gps, out).await };
    // Whoever hangs up drops the pipe, which ends the writing.
    let sending = Sending { pipe, zip: tokio::spawn(zip.in_current_span()) };
    Ok(answer(Body::from_stream(stream::try_unfold(sending, Sending::next))))
}

/// A zip on its way.
struct Sending {
    pipe: DuplexStream,
    zip: JoinHandle<Result<()>>,
}

impl Sending {
    /// The next bytes; the end only once the zip is known to be whole.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, axum::BoxError> {
        let mut chunk = BytesMut::with_capacity(BUFFER / 4);
        if self.pipe.read_buf(&mut chunk).await.is_ok_and(|read| read > 0) {
            return Ok(Some((chunk.freeze(), self)));
        }
        let outcome = (&mut self.zip).await.map_err(axum::BoxError::from);
        match outcome.and_then(|written| written.map_err(axum::BoxError::from)) {
            Ok(()) => Ok(None),
            Err(error) => {
                // The answer has begun, so all that is left is to break it off, which the server does.
                tracing::error!(error = &*error as &dyn std::error::Error, "a download of a group broke off");
                Err(error)
            }
        }
    }
}
