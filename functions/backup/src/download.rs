//! The handler of `GET /api/backups/{name}/download`: a backup as a zip.

use std::sync::Arc;

use axum::BoxError;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use shared::Result;
use shared::http::{App, Binary, Problem};
use shared::layout::BackupName;
use shared::portable::{Exported, What};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument;

/// How much may lie between who writes the zip and who sends it.
const BUFFER: usize = 256 * 1024;

/// Download a backup as a zip.
///
/// What fails once it is on its way breaks the answer off, and what arrived until then is no zip.
#[utoipa::path(
    get,
    path = "/api/backups/{name}/download",
    operation_id = "downloadBackup",
    tag = "backups",
    params(("name" = BackupName, Path, description = "The backup's name")),
    responses(
        (status = 200, description = "All its images and their records", body = inline(Binary), content_type = "application/zip"),
        (status = 404, description = "`no-such-backup`"),
        (status = 500, description = "`damaged-backup`, `internal`"),
        (status = 501, description = "On AWS, `needs-command-line`: it is more than a function can send"),
        (status = 507, description = "`no-room`"),
    ),
)]
pub(crate) async fn download(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    method: Method,
) -> Result<Response, Problem> {
    let name = crate::parse(name)?;
    if method == Method::HEAD {
        app.keepsake.manifest(name).await?;
        return Ok(answer(name, Body::empty()));
    }
    let (out, pipe) = duplex(BUFFER);
    let keepsake = Arc::clone(&app.keepsake);
    let export = async move { keepsake.export_zip(What::Backup(name), out, &|_| {}).await };
    // Whoever hangs up drops the pipe, which ends the export.
    let mut sending = Sending { name, pipe, export: tokio::spawn(export.in_current_span()) };
    match sending.next().await.map_err(Problem::internal)?? {
        Some(first) => {
            let rest = stream::try_unfold(sending, async |mut sending| {
                let next = sending.next().await.map_err(BoxError::from);
                match next.and_then(|next| next.map_err(BoxError::from)) {
                    Ok(chunk) => Ok(chunk.map(|chunk| (chunk, sending))),
                    Err(error) => {
                        let cause = &*error as &dyn std::error::Error;
                        tracing::error!(backup = %sending.name, error = cause, "a download broke off");
                        Err(error)
                    }
                }
            });
            let first = stream::iter([Ok(first)]);
            Ok(answer(name, Body::from_stream(futures::StreamExt::chain(first, rest))))
        }
        None => Err(Problem::internal("an export without a byte")),
    }
}

/// A zip on its way.
struct Sending {
    name: BackupName,
    pipe: DuplexStream,
    export: JoinHandle<Result<Exported>>,
}

impl Sending {
    /// The next bytes; `None` only once the zip is known to be whole. Whether the export itself broke down is the outer
    /// outcome, since no client is to blame for that.
    async fn next(&mut self) -> Result<Result<Option<Bytes>>, JoinError> {
        let mut chunk = BytesMut::with_capacity(BUFFER / 4);
        if self.pipe.read_buf(&mut chunk).await.is_ok_and(|read| read > 0) {
            return Ok(Ok(Some(chunk.freeze())));
        }
        Ok((&mut self.export).await?.map(|_| None))
    }
}

fn answer(name: BackupName, body: Body) -> Response {
    let disposition = format!("attachment; filename=\"{name}.zip\"");
    ([(CONTENT_TYPE, "application/zip".to_owned()), (CONTENT_DISPOSITION, disposition)], body).into_response()
}
