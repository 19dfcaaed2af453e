//! [`ZipBody`]: a zip that is sent while it is being written.

use axum::BoxError;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument;

use super::Problem;
use crate::core::error::{Error, Result};

/// The size of the buffer between the writer and the sender of the zip, in bytes.
const BUFFER: usize = 256 * 1024;

/// A zip being sent, or a part of it.
#[derive(Debug)]
pub struct ZipBody {
    pipe: DuplexStream,
    /// Bytes still to send.
    left: u64,
    /// Whether the part reaches the end of the zip.
    to_the_end: bool,
    writing: JoinHandle<Result<()>>,
}

impl ZipBody {
    /// The first `length` bytes that `write` writes into the pipe; `to_the_end` if that is all of the zip.
    pub fn new<T, F>(length: u64, to_the_end: bool, write: impl FnOnce(DuplexStream) -> F) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (out, pipe) = duplex(BUFFER);
        let write = write(out);
        // A client that disconnects drops the pipe, which ends the writer.
        let writing = tokio::spawn(async move { write.await.map(drop) }.in_current_span());
        Self { pipe, left: length, to_the_end, writing }
    }

    /// The body of a response. An error before its first byte becomes the whole response; a later one aborts it, and
    /// the log reports it for `what`.
    pub async fn into_body(mut self, what: &'static str) -> Result<Body, Problem> {
        let first = self.next().await.map_err(Problem::internal)??;
        let rest = stream::try_unfold(self, move |mut body: Self| async move {
            let next = body.next().await.map_err(BoxError::from);
            match next.and_then(|next| next.map_err(BoxError::from)) {
                Ok(chunk) => Ok(chunk.map(|chunk| (chunk, body))),
                Err(error) => {
                    tracing::error!(error = &*error as &dyn std::error::Error, "{what} broke off");
                    Err(error)
                }
            }
        });
        Ok(Body::from_stream(stream::iter(first.map(Ok)).chain(rest)))
    }

    /// The next bytes; `None` only once the part is known to be complete. The outer result reports whether the writer
    /// itself crashed, which no client has caused.
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
        Ok(match (&mut self.writing).await? {
            // The zip is shorter than announced, so the client must not take it for complete.
            Ok(()) if self.left > 0 => Err(Error::MissingBytes),
            outcome => outcome.map(|()| None),
        })
    }
}
