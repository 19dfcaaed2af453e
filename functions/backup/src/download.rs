//! The handler of `GET /api/backups/{name}/download`: a backup as a zip.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use shared::http::{App, Problem};
use shared::layout::BackupName;
use shared::portable::{Exported, What};
use shared::{Error, Result};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tracing::Instrument;

/// How much may lie between who writes the zip and who sends it.
const BUFFER: usize = 256 * 1024;

/// Sends a backup as a zip. What cannot be sent at all is a problem; what fails later breaks the answer off, and what
/// arrived until then is no zip.
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
    match sending.next().await? {
        Some(first) => {
            let rest = stream::try_unfold(sending, async |mut sending| match sending.next().await {
                Ok(chunk) => Ok(chunk.map(|chunk| (chunk, sending))),
                Err(error) => {
                    let cause = &error as &dyn std::error::Error;
                    tracing::error!(backup = %sending.name, error = cause, "a download broke off");
                    Err(error)
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
    /// The next bytes; `None` only once the zip is known to be whole.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut chunk = BytesMut::with_capacity(BUFFER / 4);
        if self.pipe.read_buf(&mut chunk).await.is_ok_and(|read| read > 0) {
            return Ok(Some(chunk.freeze()));
        }
        match (&mut self.export).await {
            Ok(exported) => exported.map(|_| None),
            Err(_) => Err(Error::Invalid("The export ended before it was complete.".to_owned())),
        }
    }
}

fn answer(name: BackupName, body: Body) -> Response {
    let disposition = format!("attachment; filename=\"{name}.zip\"");
    ([(CONTENT_TYPE, "application/zip".to_owned()), (CONTENT_DISPOSITION, disposition)], body).into_response()
}
