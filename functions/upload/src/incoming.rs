//! What comes in with a request: the id in its path, and [`Incoming`], its body on the way in.

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

/// Bytes given out at a time.
const PIECE: usize = 64 * 1024;
/// The most bytes that may lie between what was given out and what was made use of: far more than the headers of a part.
const MAX_UNUSED: u64 = 256 * 1024;

/// A client that sends nothing for this long is taken to be gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request's body: counted, hashed where that is wanted, and given up where it is longer than is taken.
///
/// It gives out small pieces and pauses after each, because `multer` reads on until it would have to wait, also where it
/// has the next parts already: where a piece or more has found no use yet, it gets another one only if it has not come a
/// step further since it last asked. And it is given up where too many of them find no use, because `multer` keeps all
/// that it cannot make sense of yet. Together this bounds the memory that a request takes.
pub(crate) struct Incoming {
    body: BodyDataStream,
    limit: u64,
    arrived: u64,
    hasher: Option<Hasher>,
    /// What of the last chunk has not been given out yet.
    rest: Bytes,
    given: u64,
    used: Used,
    /// The steps that had been made when the parser last asked.
    steps: u64,
    pause: bool,
    /// Runs while nothing arrives.
    patience: Option<Pin<Box<Sleep>>>,
}

/// Counts how many of the bytes given out have found a use, and how often a parser came a step further.
#[derive(Clone, Default)]
pub(crate) struct Used(Arc<Counts>);

#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    steps: AtomicU64,
}

/// Why a body was given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenUp {
    /// It is longer than is taken.
    #[error("the body is too long")]
    TooLong,
    /// It is no form that makes sense.
    #[error("the body makes no sense")]
    Senseless,
    /// Nothing more of it came.
    #[error("the body stopped arriving")]
    Stalled,
    /// It ended early, or its encoding is broken.
    #[error("the body cannot be read")]
    Broken(#[source] axum::Error),
}

#[expect(clippy::disallowed_methods, reason = "the one place that gives a silent client up")]
fn patience() -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(PATIENCE))
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
    /// The body, of which at most `limit` bytes are taken.
    pub(crate) fn new(body: Body, limit: u64, hash: bool) -> Self {
        Self {
            body: body.into_data_stream(),
            limit,
            arrived: 0,
            hasher: hash.then(Hasher::default),
            rest: Bytes::new(),
            given: 0,
            used: Used::default(),
            steps: 0,
            pause: false,
            patience: None,
        }
    }

    /// To be told of every piece that found a use.
    pub(crate) fn used(&self) -> Used {
        self.used.clone()
    }

    /// Reads what is left; returns the digest of the whole body where that was wanted.
    pub(crate) async fn finish(mut self) -> Result<Option<Digest>, GivenUp> {
        while let Some(piece) = self.next().await.transpose()? {
            self.used.add(piece.len());
        }
        Ok(self.hasher.map(Hasher::finish))
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, GivenUp>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let unused = this.given.saturating_sub(this.used.0.bytes.load(Ordering::Relaxed));
        let steps = this.used.0.steps.load(Ordering::Relaxed);
        if std::mem::replace(&mut this.steps, steps) != steps && unused >= PIECE as u64 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if unused > MAX_UNUSED {
            return Poll::Ready(Some(Err(GivenUp::Senseless)));
        }
        while this.rest.is_empty() {
            let Poll::Ready(chunk) = this.body.poll_next_unpin(context) else {
                ready!(this.patience.get_or_insert_with(patience).as_mut().poll(context));
                return Poll::Ready(Some(Err(GivenUp::Stalled)));
            };
            this.patience = None;
            match chunk {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(GivenUp::Broken(error)))),
                Some(Ok(chunk)) => this.rest = chunk,
            }
            this.arrived += this.rest.len() as u64;
            if this.arrived > this.limit {
                return Poll::Ready(Some(Err(GivenUp::TooLong)));
            }
            if let Some(hasher) = &mut this.hasher {
                hasher.update(&this.rest);
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        this.given += piece.len() as u64;
        this.pause = true;
        Poll::Ready(Some(Ok(piece)))
    }
}

/// The id of an upload in a route's path. What is no id names no upload: 404 `no-such-ticket`.
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
    async fn a_client_that_falls_silent_is_given_up() {
        let silent = futures::stream::iter([Ok::<_, std::io::Error>("half")]).chain(futures::stream::pending());
        let mut incoming = Incoming::new(Body::from_stream(silent), u64::MAX, false);
        assert_eq!(incoming.next().await.unwrap().unwrap(), "half");
        assert!(matches!(incoming.next().await, Some(Err(GivenUp::Stalled))));
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
    async fn a_body_that_nobody_makes_sense_of_is_given_up() {
        let mut incoming = Incoming::new(Body::from(vec![7; 1 << 20]), u64::MAX, false);
        let mut read = 0;
        let error = loop {
            match incoming.next().await.unwrap() {
                Ok(piece) => read += piece.len() as u64,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, GivenUp::Senseless) && read <= MAX_UNUSED + PIECE as u64);
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_taken_and_hashed_and_one_byte_more_is_not() {
        let finish = |length| Incoming::new(Body::from(vec![7; length]), 100_000, true).finish();
        assert_eq!(finish(100_000).await.unwrap(), Some(Digest::of(&[7; 100_000])));
        assert!(matches!(finish(100_001).await, Err(GivenUp::TooLong)));
    }
}
