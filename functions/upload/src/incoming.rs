//! Request input: the id in the path, and [`Incoming`], the body as it arrives.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use shared::Error;
use shared::digest::{Digest, Hasher};
use shared::http::{Path, Problem};
use tokio::time::Sleep;
use uuid::Uuid;

/// Bytes emitted at a time.
const PIECE: usize = 64 * 1024;
/// The most bytes that may be emitted but unused: far more than the headers of a part.
const MAX_UNUSED: u64 = 256 * 1024;

/// A client that sends nothing for this long is considered gone.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A request's body: counted, hashed on request, and rejected if it exceeds the limit.
///
/// It emits small pieces and pauses after each, because `multer` reads on until it would have to wait, even if it
/// already holds the next parts: while a piece or more is unused, the parser gets another one only if it has not
/// advanced since its last poll. And the body is rejected if too many bytes stay unused, because `multer` buffers
/// everything it cannot parse yet. Together this bounds the memory of a request.
pub(crate) struct Incoming {
    body: BodyDataStream,
    limit: u64,
    arrived: u64,
    hasher: Option<Hasher>,
    /// The part of the last chunk that has not been emitted yet.
    rest: Bytes,
    emitted: u64,
    used: Used,
    /// The step count at the parser's last poll.
    steps: u64,
    pause: bool,
    /// Runs while nothing arrives.
    idle_timer: Option<Pin<Box<Sleep>>>,
}

/// Counts how many emitted bytes have been used, and how often a parser has advanced.
#[derive(Clone, Default)]
pub(crate) struct Used(Arc<Counts>);

#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    steps: AtomicU64,
}

/// Why a body was rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    /// It exceeds the limit.
    #[error("the body is too long")]
    TooLong,
    /// It is not a valid form.
    #[error("the body is malformed")]
    Malformed,
    /// The client stopped sending.
    #[error("the body stopped arriving")]
    Stalled,
    /// It ended early, or its encoding is broken.
    #[error("the body cannot be read")]
    Broken(#[source] axum::Error),
}

#[expect(clippy::disallowed_methods, reason = "the one timeout of a silent client")]
fn idle_timer() -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(BODY_IDLE_TIMEOUT))
}

impl Used {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.step();
    }

    pub(crate) fn step(&self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Incoming {
    /// The body, of which at most `limit` bytes are accepted.
    pub(crate) fn new(body: Body, limit: u64, hash: bool) -> Self {
        Self {
            body: body.into_data_stream(),
            limit,
            arrived: 0,
            hasher: hash.then(Hasher::default),
            rest: Bytes::new(),
            emitted: 0,
            used: Used::default(),
            steps: 0,
            pause: false,
            idle_timer: None,
        }
    }

    /// The counter to be updated with every used piece.
    pub(crate) fn used(&self) -> Used {
        self.used.clone()
    }

    /// Reads the rest; returns the digest of the whole body if it was requested.
    pub(crate) async fn finish(mut self) -> Result<Option<Digest>, Rejection> {
        while let Some(piece) = self.next().await.transpose()? {
            self.used.add(piece.len());
        }
        Ok(self.hasher.map(Hasher::finish))
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, Rejection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let unused = this.emitted.saturating_sub(this.used.0.bytes.load(Ordering::Relaxed));
        let steps = this.used.0.steps.load(Ordering::Relaxed);
        if std::mem::replace(&mut this.steps, steps) != steps && unused >= PIECE as u64 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if unused > MAX_UNUSED {
            return Poll::Ready(Some(Err(Rejection::Malformed)));
        }
        while this.rest.is_empty() {
            let Poll::Ready(chunk) = this.body.poll_next_unpin(context) else {
                ready!(this.idle_timer.get_or_insert_with(idle_timer).as_mut().poll(context));
                return Poll::Ready(Some(Err(Rejection::Stalled)));
            };
            this.idle_timer = None;
            match chunk {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(Rejection::Broken(error)))),
                Some(Ok(chunk)) => this.rest = chunk,
            }
            this.arrived += this.rest.len() as u64;
            if this.arrived > this.limit {
                return Poll::Ready(Some(Err(Rejection::TooLong)));
            }
            if let Some(hasher) = &mut this.hasher {
                hasher.update(&this.rest);
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        this.emitted += piece.len() as u64;
        this.pause = true;
        Poll::Ready(Some(Ok(piece)))
    }
}

/// The id of an upload in a route's path. An invalid id is an unknown upload: 404 `no-such-ticket`.
pub(crate) struct UploadId(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for UploadId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, state).await?;
        let parsed = Uuid::parse_str(&id).ok().filter(|parsed| parsed.to_string() == id);
        parsed.map(Self).ok_or_else(|| Error::NoSuchTicket.into())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silent_client_is_rejected() {
        let silent = futures::stream::iter([Ok::<_, std::io::Error>("half")]).chain(futures::stream::pending());
        let mut incoming = Incoming::new(Body::from_stream(silent), u64::MAX, false);
        assert_eq!(incoming.next().await.unwrap().unwrap(), "half");
        assert!(matches!(incoming.next().await, Some(Err(Rejection::Stalled))));
    }

    #[test]
    fn pieces_are_small_and_there_is_a_pause_after_each() {
        let mut incoming = Incoming::new(Body::from(vec![7; 3 * PIECE]), u64::MAX, false);
        let used = incoming.used();
        for _ in 0..3 {
            let piece = incoming.next().now_or_never().unwrap().unwrap().unwrap();
            assert_eq!(piece.len(), PIECE);
            used.add(piece.len());
            assert!(incoming.next().now_or_never().is_none());
        }
        assert!(incoming.next().now_or_never().unwrap().is_none());
    }

    #[tokio::test]
    async fn body_that_the_parser_does_not_use_is_rejected() {
        let mut incoming = Incoming::new(Body::from(vec![7; 1 << 20]), u64::MAX, false);
        let mut read = 0;
        let error = loop {
            match incoming.next().await.unwrap() {
                Ok(piece) => read += piece.len() as u64,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Rejection::Malformed) && read <= MAX_UNUSED + PIECE as u64);
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_taken_and_hashed_and_one_byte_more_is_not() {
        let finish = |length| Incoming::new(Body::from(vec![7; length]), 100_000, true).finish();
        assert_eq!(finish(100_000).await.unwrap(), Some(Digest::of(&[7; 100_000])));
        assert!(matches!(finish(100_001).await, Err(Rejection::TooLong)));
    }
}
